"""Fitted teachers as functions from image features to logits: of one teacher, or of a stack of those of a cohort."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.aligned import LANES, pad
from activekd.finite import check_rows
from activekd.losses import teacher_logits
from activekd.teachers.fixed import TIP_RESIDUAL_RATIO, TIP_SHARPNESS

Kind = Literal["prototypes", "linear", "cache"]


@dataclass(frozen=True)
class Classifier:
    """A fitted teacher, or a stack of them, whose tensors have one more dimension in front, that of the members.

    A member of a stack has the same logits as in any other stack, on one kind of device; on a CPU with one thread of
    torch (``activekd.devices.one_thread``).

    Attributes:
        kind: key of LOGITS, which have the equations.
        logit_scale: the network's factor from the cosine of image and text to a logit.
        tensors: what the fit found, by name: all of float32 but labels.
    """

    kind: Kind
    logit_scale: float
    tensors: Mapping[str, Tensor]

    def logits(self, features: Tensor) -> Float32[Tensor, "*members batch classes"]:
        """Logits of images before softmax, at T = 1, in float32, also inside a block of autocast.

        Args:
            features: image features of any norm and dtype, (batch, dim), or (members, batch, dim) of a stack.
        """
        with torch.autocast(features.device.type, enabled=False):
            return LOGITS[self.kind](features.float(), self.logit_scale, **self.tensors)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.tensors.values())).device

    @property
    def shape(self) -> tuple[int, ...]:
        """() of one teacher, (members,) of a stack."""
        first = next(iter(self.tensors.values()))
        return tuple(first.shape[:-2])

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return next(iter(self.tensors.values())).shape[-2]

    @property
    def numbers_an_image(self) -> int:
        """Numbers that the logits of an image make on the way: one for each class, or for each key of a cache."""
        return max(tensor.shape[-2] for tensor in self.tensors.values() if tensor.dim() > len(self.shape) + 1)

    def to(self, device: str | torch.device) -> "Classifier":
        """The same on a device."""
        return replace(self, tensors={name: tensor.to(device) for name, tensor in self.tensors.items()})

    def members(self) -> Iterator["Classifier"]:
        """Each teacher of a stack."""
        for k in range(*self.shape):
            yield replace(self, tensors={name: tensor[k] for name, tensor in self.tensors.items()})

    @classmethod
    def stack(cls, members: Sequence["Classifier"]) -> "Classifier":
        """A stack of teachers of one kind and shape."""
        first = members[0]
        return replace(
            first, tensors={name: torch.stack([one.tensors[name] for one in members]) for name in first.tensors}
        )

    def check(self, fit: str, expected: str) -> None:
        """Check that one teacher is finite, and that its class prototypes have a direction.

        Args:
            fit: what was fitted, for the message, such as ``fitted on 10 labeled rows``.
            expected: the remedy in the message.

        Raises:
            InputError: a tensor has a value that is not finite, or a class prototype has norm 0.
        """
        for name, tensor in self.tensors.items():
            if tensor.is_floating_point():
                rows = tensor if tensor.dim() == 2 else tensor[:, None]
                check_rows(rows, f"{NAMES[name]}, {fit},", expected, nonzero=name == "prototypes")


def from_prototypes(prototypes: Float32[Tensor, "*members classes dim"], logit_scale: float) -> Classifier:
    """The classifier of class prototypes, as of a zero-shot or a CLAP teacher."""
    return Classifier("prototypes", logit_scale, {"prototypes": prototypes})


def _of_prototypes(
    features: Float32[Tensor, "*members batch dim"],
    logit_scale: float,
    prototypes: Float32[Tensor, "*members classes dim"],
) -> Float32[Tensor, "*members batch classes"]:
    """``logit_scale`` x cosine of image and class prototype."""
    return teacher_logits(features, prototypes, logit_scale)


def _of_linear(
    features: Float32[Tensor, "*members batch dim"],
    logit_scale: float,
    weights: Float32[Tensor, "*members classes dim"],
    bias: Float32[Tensor, "*members classes"],
) -> Float32[Tensor, "*members batch classes"]:
    """f . w_c + b_c, where f is the image's feature divided by its norm; weights and biases have the scale in them."""
    if weights.dim() == 2:
        return F.normalize(features, dim=-1) @ weights.mT + bias
    images = F.normalize(pad(features, -1, 2 * LANES), dim=-1)
    return (_products(images, weights) + pad(bias, -1)[:, None])[..., : weights.shape[-2]]


def _of_cache(
    features: Float32[Tensor, "*members batch dim"],
    logit_scale: float,
    text: Float32[Tensor, "*members classes dim"],
    keys: Float32[Tensor, "*members labeled dim"],
    values: Int64[Tensor, "*members labeled"],
) -> Float32[Tensor, "*members batch classes"]:
    """s f . t_c + alpha sum_j [c is the label of key j] exp(-beta (1 - f . k_j)) (Zhang et al. 2022)."""
    alpha, beta, n_classes = TIP_RESIDUAL_RATIO, TIP_SHARPNESS, text.shape[-2]
    one_hot = F.one_hot(values, n_classes).float()
    if text.dim() == 2:
        images = F.normalize(features, dim=-1)
        affinities = (beta * (images @ keys.mT) - beta).exp()
        return logit_scale * images @ text.mT + alpha * (affinities @ one_hot)
    images = F.normalize(pad(features, -1, 2 * LANES), dim=-1)
    affinities = (beta * _products(images, keys) - beta).exp()
    cached = torch.bmm(affinities, pad(pad(one_hot, -1), -2))
    return (logit_scale * _products(images, text) + alpha * cached)[..., :n_classes]


def _products(
    images: Float32[Tensor, "members batch padded_dim"], rows: Float32[Tensor, "members rows dim"]
) -> Float32[Tensor, "members batch padded_rows"]:
    """Dot products of the images and the rows of each member, and as many zeros as fill whole LANES."""
    return torch.bmm(images, pad(pad(rows, -1, 2 * LANES), -2).mT)


NAMES: Mapping[str, str] = {
    "prototypes": "class prototypes",
    "weights": "class weights",
    "bias": "class biases",
    "text": "text embeddings",
    "keys": "cache keys",
}
"""The tensors of floats, for messages."""

LOGITS: Mapping[str, Callable[..., Tensor]] = {
    "prototypes": _of_prototypes,
    "linear": _of_linear,
    "cache": _of_cache,
}
"""The logits of each kind of classifier; the first tensor of each has a row for every class."""
