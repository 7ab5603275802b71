"""The CLAP teacher: class prototypes trained on the labeled images, with a penalty on leaving the text embeddings."""

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.losses import clap_loss, clap_multipliers, teacher_logits
from activekd.recipes import ClapRecipe, ViewGeometry, linear_schedule
from activekd.teachers.text_heads import TextHead


def clap(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Labeled,
    recipe: ClapRecipe,
    rng: np.random.Generator,
    device: str = "cpu",
) -> Float32[Tensor, "classes dim"]:
    """The CLAP teacher (Silva-Rodriguez et al. 2024): class prototypes trained on the labeled images, near the text.

    Prototypes start at the un-normalised mean text embedding. SGD minimises CE + mean_c lambda_c ||w_c - t_c||^2
    (Equation 6), where lambda_c is the mean zero-shot probability of class c over its labeled images in view 0,
    computed once. Each epoch shows each labeled image once, in a random training view. Every round fits anew from the
    text. Logits have the network's own scale.

    Departures from PCoreSet's released code: fp32, not fp16. The training views are those of ``geometry``, which the
    student sees too, drawn from a fixed set; on the ten small data sets the released code crops CLAP's images apart,
    with a scale of 0.08 to 1. A head from a user's file has usually unit norm, and so has the start of its fit
    (``given_text_head``).

    Args:
        head: text embeddings of the classes, and the network's logit scale.
        views: image features of the train split.
        geometry: its training views are drawn from.
        labeled: labeled rows and their labels.
        recipe: hyperparameters of the fit.
        rng: draws the order and the views of the images.
        device: where to fit.

    Returns:
        The class prototypes, on the CPU.
    """
    labels = torch.from_numpy(labeled.labels)
    text = torch.from_numpy(head.text).to(device)
    centred = views.gather(labeled.rows, np.zeros(len(labeled.rows), dtype=np.int64))
    zero_shot = teacher_logits(centred, torch.from_numpy(head.zero_shot), head.logit_scale).softmax(dim=1)
    multipliers = clap_multipliers(zero_shot, labels).to(device)
    labels = labels.to(device)
    prototypes = text.clone().requires_grad_()
    optimiser = torch.optim.SGD([prototypes], lr=recipe.lr, momentum=recipe.momentum)
    batches = -(-len(labels) // recipe.batch)
    total = recipe.epochs * batches
    training = np.asarray(geometry.training)
    for epoch in range(recipe.epochs):
        order = rng.permutation(len(labels))
        chosen = rng.choice(training, size=len(labels))
        for batch in range(batches):
            step = epoch * batches + batch
            optimiser.param_groups[0]["lr"] = recipe.lr * linear_schedule(step, total, recipe.warmup)
            members = order[batch * recipe.batch : (batch + 1) * recipe.batch]
            features = views.gather(labeled.rows[members], chosen[members]).to(device)
            logits = teacher_logits(features, prototypes, head.logit_scale)
            loss = clap_loss(logits, labels[torch.from_numpy(members)], prototypes, text, multipliers)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return prototypes.detach().cpu()
