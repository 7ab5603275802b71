"""The Tip-Adapter-F teacher: a cache of the labeled images, whose keys are trained, beside the text embeddings."""

from collections.abc import Sequence
from math import cos, pi

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.aligned import LANES, pad
from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.devices import one_thread
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.teachers.clap import draw_epochs
from activekd.teachers.classifier import Classifier
from activekd.teachers.fixed import (
    TIP_BATCH,
    TIP_EPOCHS,
    TIP_EPS,
    TIP_LR,
    TIP_RESIDUAL_RATIO,
    TIP_SHARPNESS,
    TIP_WEIGHT_DECAY,
    fit_steps,
)
from activekd.teachers.text_heads import TextHead


@one_thread()
def tip_adapter(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Sequence[Labeled],
    recipe: ClapRecipe,
    rngs: Sequence[np.random.Generator],
    device: str = "cpu",
) -> Classifier:
    """The Tip-Adapter-F teacher (Zhang et al. 2022): a key-value cache of the labeled images with trained keys.

    The logits of an image with unit feature f are s f . t_c + alpha sum_j Y_jc exp(-beta (1 - f . k_j)), where t are
    the text embeddings of the zero-shot classifier and Y the one-hot labels. The key k_j starts at the mean feature of
    labeled image j over its training views, at unit norm. AdamW minimises the cross-entropy of the labeled images over
    the keys alone, and the learning rate falls to 0 along a cosine, step by step. Each epoch shows each labeled image
    once, in a random training view. ``activekd.teachers.fixed`` has the hyperparameters; every round fits anew.

    Departures from the released code: the last iterate is used, not the epoch that is best on test images; alpha and
    beta stay as in training and are not searched on validation images; keys start at the mean of all training views,
    not of ten random crops; the factor s is the network's own, not 100; fp32, not fp16.

    The teachers of a cohort are fitted together, as one batched product; each is the same alone and in company. Only
    features of labeled rows are read. Arguments as of ``activekd.teachers.clap.clap``, whose recipe is not read.

    Returns:
        A stack of the teachers of the members, on the CPU: text embeddings, keys, labels of the keys.
    """
    members, n = len(labeled), len(labeled[0].rows)
    text = torch.from_numpy(head.zero_shot)
    labels = torch.from_numpy(np.stack([some.labels for some in labeled]))
    keys = torch.stack([_mean_features(views, geometry, some.rows) for some in labeled])
    drawn = [draw_epochs(n, TIP_EPOCHS, geometry, rng) for rng in rngs]
    orders = torch.from_numpy(np.stack([order for order, _ in drawn], axis=1)).to(device)
    rows = np.concatenate([some.rows[order] for some, (order, _) in zip(labeled, drawn, strict=True)], axis=1)
    chosen = np.concatenate([views for _, views in drawn], axis=1)
    training = KeyTraining(text.to(device), keys.to(device), labels.to(device), head.logit_scale)
    total, step = fit_steps("tip_adapter", n, recipe), 0
    for epoch, features in enumerate(views.batches(rows, chosen)):
        shown = pad(features.to(device).float(), -1, 2 * LANES).unflatten(0, (members, n))
        images, classes = F.normalize(shown, dim=-1), labels.to(device).gather(1, orders[epoch])
        for first in range(0, n, TIP_BATCH):
            some = slice(first, first + TIP_BATCH)
            training.step(images[:, some], classes[:, some], TIP_LR * 0.5 * (1 + cos(pi * step / total)))
            step += 1
    tensors = {"text": text.repeat(members, 1, 1), "keys": training.fitted().cpu(), "values": labels}
    return Classifier("cache", head.logit_scale, tensors)


class KeyTraining:
    """AdamW on the cross-entropy over the keys of a cohort, with the gradient in closed form.

    Let f_i be the images of a batch, z_i their logits, A_ij = exp(-beta (1 - f_i . k_j)) and
    r_ic = (softmax(z_i)_c - [c is the class of i]) / batch. The gradient of the mean cross-entropy is

    g_j = alpha beta sum_i A_ij r_i,y(j) f_i, where y(j) is the class of key j.

    Args:
        text: unit text embeddings.
        keys: where the keys of each member start.
        labels: of the keys of each member.
        logit_scale: factor of the text's logits.
    """

    def __init__(
        self,
        text: Float32[Tensor, "classes dim"],
        keys: Float32[Tensor, "members labeled dim"],
        labels: Int64[Tensor, "members labeled"],
        logit_scale: float,
    ) -> None:
        self._shape, self._classes = keys.shape[1:], torch.arange(len(text), device=text.device)
        self._text = (logit_scale * pad(pad(text, -1, 2 * LANES), -2)).repeat(len(keys), 1, 1)
        self._values = pad(pad(F.one_hot(labels, len(text)).float(), -1), -2)
        self.keys = pad(pad(keys, -1, 2 * LANES), -2).contiguous()
        optimiser = {"lr": TIP_LR, "eps": TIP_EPS, "weight_decay": TIP_WEIGHT_DECAY, "fused": True}
        self._optimiser = torch.optim.AdamW([self.keys], **optimiser)

    def gradient(
        self, images: Float32[Tensor, "members batch padded_dim"], classes: Int64[Tensor, "members batch"]
    ) -> Float32[Tensor, "members padded_labeled padded_dim"]:
        """The gradient of the mean cross-entropy of a batch of unit features, padded as the keys are."""
        affinities = (TIP_SHARPNESS * torch.bmm(images, self.keys.mT) - TIP_SHARPNESS).exp()
        logits = torch.baddbmm(torch.bmm(images, self._text.mT), affinities, self._values, alpha=TIP_RESIDUAL_RATIO)
        probabilities = logits[..., : len(self._classes)].softmax(dim=-1)
        one_hot = (classes[..., None] == self._classes).float()
        residuals = pad(probabilities.sub_(one_hot).div_(classes.shape[1]), -1)
        of_keys = torch.bmm(residuals, self._values.mT) * affinities
        return TIP_RESIDUAL_RATIO * TIP_SHARPNESS * torch.bmm(of_keys.mT, images)

    def step(
        self, images: Float32[Tensor, "members batch padded_dim"], classes: Int64[Tensor, "members batch"], lr: float
    ) -> None:
        """One step on a batch of unit features with these classes."""
        self.keys.grad = self.gradient(images, classes)
        self._optimiser.param_groups[0]["lr"] = lr
        self._optimiser.step()

    def fitted(self) -> Float32[Tensor, "members labeled dim"]:
        """The keys without their padding."""
        n, dim = self._shape
        return self.keys[:, :n, :dim].clone()


def _mean_features(
    views: Views, geometry: ViewGeometry, rows: Int64[np.ndarray, " labeled"]
) -> Float32[Tensor, "labeled dim"]:
    """The mean feature of each row over its training views, at unit norm, on the CPU."""
    total = torch.zeros(len(rows), *views.shape)
    for view in geometry.training:
        total += views.gather(rows, np.full_like(rows, view)).cpu().float()
    return F.normalize(total, dim=1)
