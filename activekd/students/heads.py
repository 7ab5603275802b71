"""Students: a backbone or a trunk with two heads, started in each round from pretrained weights and new heads."""

from copy import deepcopy
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from activekd.networks.backbones import Backbone, backbone
from activekd.recipes import BatchNorm
from activekd.streams import torch_seed
from activekd.students.networks import StudentNetwork


class Normalise(nn.Module):
    """uint8 pixels to the normalised float32 inputs of a backbone."""

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self._layout = torch.channels_last if backbone.channels_last else torch.contiguous_format
        mean, std = torch.tensor(backbone.mean), torch.tensor(backbone.std)
        self.register_buffer("scale", (1 / (255 * std))[:, None, None], persistent=False)
        self.register_buffer("shift", (mean / std)[:, None, None], persistent=False)

    def forward(self, images: UInt8[Tensor, "batch 3 size size"]) -> Float32[Tensor, "batch 3 size size"]:
        return images.to(torch.float32, memory_format=self._layout).mul_(self.scale).sub_(self.shift)


class AsFloat(nn.Module):
    """Banked fp16 features to fp32: the frozen backbone of a student that trains its heads alone."""

    def forward(self, features: Tensor) -> Float32[Tensor, "batch dim"]:
        return features.float()


class Trunk(nn.Module):
    """Banked fp16 features through the trained layers of an ``adapter:`` student: LayerNorm, linear, GELU; in float32.

    On heads alone distillation cannot reach the label head, since the two heads share no trained weight.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, width)

    def forward(self, features: Tensor) -> Float32[Tensor, "batch width"]:
        with torch.autocast(features.device.type, enabled=False):
            return F.gelu(self.linear(self.norm(features.float())))


class Outputs(NamedTuple):
    """A student's outputs on a batch: pooled features and the logits of both heads."""

    features: Float32[Tensor, "batch dim"]
    label_logits: Float32[Tensor, "batch classes"]
    distill_logits: Float32[Tensor, "batch classes"]


class Student(nn.Module):
    """A backbone with a label head and a distill head: linear layers on the pooled feature (DHO, Kang et al. 2025).

    The heads run in float32, also inside a block of autocast, which then covers the backbone alone: bfloat16 has 8 bits
    of precision, too few for margins between classes.
    """

    def __init__(self, backbone: nn.Module, dim: int, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.label_head = nn.Linear(dim, n_classes)
        self.distill_head = nn.Linear(dim, n_classes)

    def forward(self, x: Tensor) -> Outputs:
        features = self.backbone(x).float()
        with torch.autocast(features.device.type, enabled=False):
            return Outputs(features, self.label_head(features), self.distill_head(features))


def _network(chosen: Backbone) -> tuple[nn.Module, int]:
    network = chosen.build()
    if chosen.find is not None:
        chosen.load(network, chosen.find(True))
    if chosen.channels_last:
        network = network.to(memory_format=torch.channels_last)
    dim = getattr(network, "head_hidden_size", network.num_features)
    return nn.Sequential(Normalise(chosen), network), dim


@lru_cache(maxsize=4)
def pretrained(name: str) -> tuple[nn.Module, int]:
    """The backbone of that name with its weights, and the width of its features; loaded once per process."""
    with torch.random.fork_rng(devices=[]):
        return _network(backbone(name))


def _with_frozen_norms(network: nn.Module) -> nn.Module:
    from timm.layers.norm_act import freeze_batch_norm_2d

    return freeze_batch_norm_2d(network)


def build_student(
    student: StudentNetwork,
    banked_shape: tuple[int, ...],
    n_classes: int,
    *,
    trunk_width: int,
    batch_norm: BatchNorm = "trained",
    rng: np.random.Generator,
) -> Student:
    """The student at the start of a round: pretrained or random weights, and new random heads.

    Args:
        student: the student's name, parsed.
        banked_shape: shape of one input: ``(dim,)`` on a frozen backbone, ``(3, size, size)`` otherwise.
        n_classes: number of classes.
        trunk_width: of the trunk of an ``adapter:`` student.
        batch_norm: of a student that is trained end to end, as in ``Recipe``.
        rng: draws all random weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(rng))
        if student.trunk:
            return Student(Trunk(banked_shape[0], trunk_width), trunk_width, n_classes)
        if student.frozen:
            return Student(AsFloat(), banked_shape[0], n_classes)
        chosen = student.backbone
        if chosen.find is None:
            network, dim = _network(chosen)
        else:
            template, dim = pretrained(student.base)
            network = deepcopy(template)
        if batch_norm == "frozen":
            network = _with_frozen_norms(network)
        return Student(network, dim, n_classes)
