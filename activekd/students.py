"""Students: backbones with two heads, trained end to end or on frozen features."""

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from activekd.backbones import BACKBONES, NAMED, Backbone, backbone
from activekd.bank import Encoder, Pixels
from activekd.errors import InputError
from activekd.streams import torch_seed

FROZEN = "frozen:"


@dataclass(frozen=True)
class StudentNetwork:
    """A student's name resolved: ``[frozen:]BACKBONE[@PIXELS]``.

    Attributes:
        name: as given.
        backbone: the name of its backbone, as ``backbone`` takes it.
        frozen: whether only the heads are trained, on banked features.
        size: side of its input in pixels.
    """

    name: str
    backbone: str
    frozen: bool
    size: int

    @property
    def encoder_name(self) -> str:
        """What its bank holds: frozen features, or pixels, which students of one size and interpolation share."""
        return self.name if self.frozen else f"pixels/{backbone(self.backbone).interpolation}"

    @property
    def fingerprint(self) -> str:
        """Input size and, for a frozen backbone, hash of the weights: what the banked arrays depend on."""
        return f"{self.size}/{self.weights_hash()}" if self.frozen else str(self.size)

    def weights_hash(self) -> str:
        """Hash of the file of its pretrained weights; empty for a student that starts at random."""
        file = self.weights()
        return "" if file is None else _file_hash(file)

    def weights(self, *, online: bool = True) -> Path | None:
        """The file of its pretrained weights; None for a student that starts at random.

        Raises:
            InputError: the file is not on this machine and cannot be had.
        """
        find = backbone(self.backbone).find
        return None if find is None else find(online)

    def check(self) -> None:
        """Check that its weights are its own and that it takes inputs of its size, by loading it once.

        Raises:
            InputError: weights of another architecture, or a size that the network does not take.
        """
        network, _ = _pretrained(self.backbone)
        try:
            with torch.inference_mode():
                network.eval()(torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8))
        except (RuntimeError, ValueError, AssertionError) as fault:
            raise InputError(f"student '{self.name}': {self.backbone} does not take {self.size} px: {fault}") from fault

    def encoder(self, device: str = "cpu") -> Encoder:
        """What fills its bank."""
        if self.frozen:
            return FrozenFeatures(self, device)
        return Pixels(self.size, backbone(self.backbone).interpolation)


@lru_cache(maxsize=8)
def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Normalise(nn.Module):
    """uint8 pixels to what a backbone was trained on."""

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
    """Banked fp16 features to fp32: all that is left of a frozen backbone inside of a trial."""

    def forward(self, features: Tensor) -> Float32[Tensor, "batch dim"]:
        return features.float()


class FrozenFeatures:
    """A pretrained backbone as the encoder of a bank: pooled features, fp16."""

    def __init__(self, student: StudentNetwork, device: str) -> None:
        self.size = student.size
        self.interpolation = backbone(student.backbone).interpolation
        self._device = device
        self._network = _pretrained(student.backbone)[0].eval().to(device)

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        return self._network(images.to(self._device)).half().cpu().numpy()


class Outputs(NamedTuple):
    """What a student makes of a batch: pooled features and the logits of both heads."""

    features: Float32[Tensor, "batch dim"]
    label_logits: Float32[Tensor, "batch classes"]
    distill_logits: Float32[Tensor, "batch classes"]


class Student(nn.Module):
    """A backbone with a label head and a distill head: linear layers on the pooled feature (DHO, Kang et al. 2025)."""

    def __init__(self, backbone: nn.Module, dim: int, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.label_head = nn.Linear(dim, n_classes)
        self.distill_head = nn.Linear(dim, n_classes)

    def forward(self, x: Tensor) -> Outputs:
        features = self.backbone(x)
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
def _pretrained(name: str) -> tuple[nn.Module, int]:
    with torch.random.fork_rng(devices=[]):
        return _network(backbone(name))


def build_student(
    student: StudentNetwork, banked_shape: tuple[int, ...], n_classes: int, *, rng: np.random.Generator
) -> Student:
    """The student at the start of a round: its pretrained weights or random ones, and new heads, drawn from ``rng``.

    Args:
        banked_shape: shape of one banked input: ``(dim,)`` of a frozen student, ``(3, size, size)`` otherwise.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(rng))
        if student.frozen:
            return Student(AsFloat(), banked_shape[0], n_classes)
        chosen = backbone(student.backbone)
        if chosen.find is None:
            network, dim = _network(chosen)
        else:
            template, dim = _pretrained(student.backbone)
            network = deepcopy(template)
        return Student(network, dim, n_classes)


def student_network(name: str) -> StudentNetwork:
    """The student of that name: ``[frozen:]BACKBONE[@PIXELS]``; its weights are not looked for.

    Raises:
        InputError: unknown backbone, a size that is no positive number or not its own, or no weights to freeze.
    """
    frozen = name.startswith(FROZEN)
    base, at, pixels = name.removeprefix(FROZEN).partition("@")
    chosen = backbone(base)
    if at and not (pixels.isdecimal() and int(pixels) > 0):
        raise InputError(f"student '{name}': size '{pixels}'; allowed: a number of pixels, as in {base}@64")
    if at and chosen.fixed_size and int(pixels) != chosen.size:
        raise InputError(f"student '{name}': {base} takes {chosen.size} px alone; allowed: {base}")
    if frozen and chosen.find is None:
        raise InputError(f"student '{name}': {base} has no pretrained weights to freeze; allowed: {base}")
    return StudentNetwork(name, base, frozen, int(pixels) if at else chosen.size)


STUDENTS: tuple[str, ...] = (*BACKBONES, *NAMED)
"""The students known by a name of their own; any other timm network is ``timm:NAME``."""
