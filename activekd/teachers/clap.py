"""The CLAP teacher: class prototypes trained on the labeled images, with a penalty on leaving the text embeddings."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.aligned import LANES, pad
from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.devices import one_thread
from activekd.losses import clap_multipliers, teacher_logits
from activekd.recipes import ClapRecipe, ViewGeometry, linear_schedule
from activekd.teachers.classifier import Classifier, from_prototypes
from activekd.teachers.text_heads import TextHead

LEAST_NORM = 1e-12
"""Lower clip of a norm that divides; that of the zeros that pad the prototypes."""


@one_thread()
def clap(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Sequence[Labeled],
    recipe: ClapRecipe,
    rngs: Sequence[np.random.Generator],
    device: str = "cpu",
) -> Classifier:
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
        A stack of the teachers of the members, on the CPU: class prototypes.
    """
    members, n = len(labeled), len(labeled[0].rows)
    multipliers = torch.stack([_multipliers(head, views, some) for some in labeled]).to(device)
    labels = torch.from_numpy(np.stack([some.labels for some in labeled])).to(device)
    drawn = [draw_epochs(n, recipe.epochs, geometry, rng) for rng in rngs]
    orders = torch.from_numpy(np.stack([order for order, _ in drawn], axis=1)).to(device)
    rows = np.concatenate([some.rows[order] for some, (order, _) in zip(labeled, drawn, strict=True)], axis=1)
    chosen = np.concatenate([views for _, views in drawn], axis=1)
    descent = _Descent(torch.from_numpy(head.text).to(device), multipliers, head.logit_scale)
    batches = -(-n // recipe.batch)
    total = recipe.epochs * batches
    for epoch, features in enumerate(views.batches(rows, chosen)):
        images = pad(features.to(device).float(), -1, 2 * LANES).unflatten(0, (members, n))
        norms = _norms(images)
        classes = labels.gather(1, orders[epoch])
        for batch in range(batches):
            some = slice(batch * recipe.batch, (batch + 1) * recipe.batch)
            factor = linear_schedule(epoch * batches + batch, total, recipe.warmup)
            descent.step(images[:, some], norms[:, some], classes[:, some], recipe.lr * factor, recipe.momentum)
    prototypes = descent.prototypes[:, : len(head.text), : head.text.shape[1]].cpu()
    return from_prototypes(prototypes, head.logit_scale)


class _Descent:
    """SGD with momentum on CLAP's objective, for the prototypes of a cohort, with the gradient in closed form.

    Let x_i be the images of a batch, divided by their norms, n_c the norm of prototype w_c, s the logit scale,
    z_ic = s x_i . w_c / n_c the logits, and r_ic = (softmax(z_i)_c - [c is the class of i]) / batch. The gradient is

    g_c = sum_i (s r_ic / n_c) x_i - (sum_i r_ic z_ic / n_c^2) w_c + (2 lambda_c / classes) (w_c - t_c).

    The norms are factors on the small matrix of logits, so each step reads the prototypes a few times only.
    Automatic differentiation reads and writes them some twenty times.

    Args:
        text: t, where the prototypes start.
        multipliers: lambda of each member.
        logit_scale: s.
    """

    def __init__(
        self,
        text: Float32[Tensor, "classes dim"],
        multipliers: Float32[Tensor, "members classes"],
        logit_scale: float,
    ) -> None:
        self._classes, self._scale = torch.arange(len(text), device=text.device), logit_scale
        start = pad(pad(text, -1, 2 * LANES), -2)
        self.prototypes = start.repeat(len(multipliers), 1, 1)
        self._velocity = torch.zeros_like(self.prototypes)
        self._pull = pad(multipliers * (2 / len(text)), -1)[..., None]
        self._pulled_start = self._pull * start

    def step(
        self,
        images: Float32[Tensor, "members batch dim"],
        norms: Float32[Tensor, "members batch 1"],
        classes: Int64[Tensor, "members batch"],
        lr: float,
        momentum: float,
    ) -> None:
        """One step on a batch of images with these norms and classes."""
        inverse = 1 / _norms(self.prototypes).mT
        factors = (self._scale / norms) * inverse
        logits = torch.bmm(images, self.prototypes.mT) * factors
        probabilities = logits[..., : len(self._classes)].softmax(dim=-1)
        one_hot = (classes[..., None] == self._classes).float()
        residuals = pad(probabilities.sub_(one_hot).div_(classes.shape[1]), -1)
        along = (residuals * logits).sum(dim=1, keepdim=True) * inverse.square()
        self._velocity.baddbmm_((residuals * factors).mT, images, beta=momentum)
        self._velocity.addcmul_(self._pull - along.mT, self.prototypes).sub_(self._pulled_start)
        self.prototypes.sub_(self._velocity, alpha=lr)


def _norms(rows: Float32[Tensor, "members n dim"]) -> Float32[Tensor, "members n 1"]:
    return torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_(min=LEAST_NORM)


def _multipliers(head: TextHead, views: Views, labeled: Labeled) -> Float32[Tensor, " classes"]:
    """CLAP's lambda of one member, from the labeled images in view 0."""
    centred = views.gather(labeled.rows, np.zeros_like(labeled.rows)).cpu()
    zero_shot = teacher_logits(centred, torch.from_numpy(head.zero_shot), head.logit_scale).softmax(dim=1)
    return clap_multipliers(zero_shot, torch.from_numpy(labeled.labels))


def draw_epochs(
    n: int, epochs: int, geometry: ViewGeometry, rng: np.random.Generator
) -> tuple[Int64[np.ndarray, "epochs n"], Int64[np.ndarray, "epochs n"]]:
    """The order of n images in each epoch, and a training view of each."""
    order = rng.permuted(np.tile(np.arange(n), (epochs, 1)), axis=1)
    return order, rng.choice(np.asarray(geometry.training), size=(epochs, n))
