"""Students by name: ``[frozen:]BACKBONE[@PIXELS]``. Names resolve without torch; timm is imported when it is asked."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from activekd.errors import InputError
from activekd.networks.backbones import BACKBONES, NAMED, Backbone, backbone, check_backbone_name

FROZEN = "frozen:"


@dataclass(frozen=True)
class StudentNetwork:
    """A student's name, taken apart.

    Attributes:
        name: in specs.
        base: the name of its backbone, as ``backbone`` takes it.
        frozen: whether only the heads are trained, on banked features.
        pixels: side of its input in pixels; None for the backbone's default.
    """

    name: str
    base: str
    frozen: bool
    pixels: int | None

    @property
    def backbone(self) -> Backbone:
        """How its backbone is built and loaded."""
        return backbone(self.base)

    @property
    def size(self) -> int:
        """Side of its input in pixels."""
        return self.pixels or self.backbone.size

    @property
    def encoder_name(self) -> str:
        """What its bank holds: frozen features, or pixels, which students of one size and interpolation share."""
        return self.name if self.frozen else f"pixels/{self.backbone.interpolation}"

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
        find = self.backbone.find
        return None if find is None else find(online)

    def check_name(self) -> None:
        """Check that the backbone exists, takes inputs of this size and has weights if it is to be frozen.

        Raises:
            InputError: it does not.
        """
        chosen = self.backbone
        if self.pixels and chosen.fixed_size and self.pixels != chosen.size:
            raise InputError(f"student '{self.name}': {self.base} takes {chosen.size} px alone; expected: {self.base}")
        if self.frozen and chosen.find is None:
            raise InputError(
                f"student '{self.name}': {self.base} has no pretrained weights to freeze; expected: {self.base}"
            )


@lru_cache(maxsize=8)
def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def student_network(name: str) -> StudentNetwork:
    """The student of that name: ``[frozen:]BACKBONE[@PIXELS]``.

    What needs timm to be known, the default size among it, is left to ``check_name``; weights are not looked for.

    Raises:
        InputError: an unknown backbone, or a size that is no positive number.
    """
    frozen = name.startswith(FROZEN)
    base, at, pixels = name.removeprefix(FROZEN).partition("@")
    check_backbone_name(base)
    if at and not (pixels.isdecimal() and int(pixels) > 0):
        raise InputError(f"student '{name}': size '{pixels}'; expected: a number of pixels, as in {base}@64")
    return StudentNetwork(name, base, frozen, int(pixels) if at else None)


STUDENTS: tuple[str, ...] = (*BACKBONES, *NAMED)
"""The students known by a name of their own; any other timm network is ``timm:NAME``."""
