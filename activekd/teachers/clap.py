"""The CLAP teacher: class prototypes trained on the labeled images, with a penalty on leaving the text embeddings."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
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
    labeled: Sequence[Labeled],
    recipe: ClapRecipe,
    rngs: Sequence[np.random.Generator],
    device: str = "cpu",
) -> Float32[Tensor, "members classes dim"]:
    """The CLAP teacher (Silva-Rodriguez et al. 2024): class prototypes trained on the labeled images, near the text.

    Prototypes start at the un-normalised mean text embedding. SGD minimises CE + mean_c lambda_c ||w_c - t_c||^2
    (Equation 6), where lambda_c is the mean zero-shot probability of class c over its labeled images in view 0,
    computed once. Each epoch shows each labeled image once, in a random training view. Every round fits anew from the
    text. Logits have the network's own scale.

    Departures from PCoreSet's released code: fp32, not fp16. The training views are those of ``geometry``, which the
    student sees too, drawn from a fixed set; on the ten small data sets the released code crops CLAP's images apart,
    with a scale of 0.08 to 1. A head from a user's file has usually unit norm, and so has the start of its fit
    (``given_text_head``).

    The teachers of a cohort are fitted together, as one batched product; each is the same alone and in company.

    Args:
        head: text embeddings of the classes, and the network's logit scale.
        views: image features of the train split.
        geometry: its training views are drawn from.
        labeled: labeled rows and their labels of each member, equally many of each.
        recipe: hyperparameters of the fit.
        rngs: for each member, draws the order and the views of the images.
        device: where to fit.

    Returns:
        The class prototypes of each member, on the CPU.
    """
    members, n = len(labeled), len(labeled[0].rows)
    text = torch.from_numpy(head.text).to(device)
    multipliers = torch.stack([_multipliers(head, views, some) for some in labeled]).to(device)
    labels = torch.from_numpy(np.stack([some.labels for some in labeled])).to(device)
    drawn = [_draw(n, recipe.epochs, geometry, rng) for rng in rngs]
    orders = torch.from_numpy(np.stack([order for order, _ in drawn], axis=1)).to(device)
    rows = np.concatenate([some.rows[order] for some, (order, _) in zip(labeled, drawn, strict=True)], axis=1)
    chosen = np.concatenate([views for _, views in drawn], axis=1)
    prototypes = text.repeat(members, 1, 1).requires_grad_()
    optimiser = torch.optim.SGD([prototypes], lr=recipe.lr, momentum=recipe.momentum)
    batches = -(-n // recipe.batch)
    total = recipe.epochs * batches
    for epoch, features in enumerate(views.batches(rows, chosen)):
        shown = features.to(device).unflatten(0, (members, n))
        classes = labels.gather(1, orders[epoch])
        for batch in range(batches):
            some = slice(batch * recipe.batch, (batch + 1) * recipe.batch)
            factor = linear_schedule(epoch * batches + batch, total, recipe.warmup)
            optimiser.param_groups[0]["lr"] = recipe.lr * factor
            logits = teacher_logits(shown[:, some], prototypes, head.logit_scale)
            loss = clap_loss(logits, classes[:, some], prototypes, text, multipliers)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return prototypes.detach().cpu()


def _multipliers(head: TextHead, views: Views, labeled: Labeled) -> Float32[Tensor, " classes"]:
    """CLAP's lambda of one member, from the labeled images in view 0."""
    centred = views.gather(labeled.rows, np.zeros_like(labeled.rows)).cpu()
    zero_shot = teacher_logits(centred, torch.from_numpy(head.zero_shot), head.logit_scale).softmax(dim=1)
    return clap_multipliers(zero_shot, torch.from_numpy(labeled.labels))


def _draw(
    n: int, epochs: int, geometry: ViewGeometry, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, "epochs n"], Int64[np.ndarray, "epochs n"]]:
    """The order of the images in each epoch, and the view of each."""
    order = rng.permuted(np.tile(np.arange(n), (epochs, 1)), axis=1)
    return order, rng.choice(np.asarray(geometry.training), size=(epochs, n))
