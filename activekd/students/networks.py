"""Students by name: ``[adapter:|frozen:]BACKBONE[@PIXELS]``. Names resolve without torch; timm comes on first use.

``adapter:given`` and ``frozen:given`` read the features that a data set of arrays has in place of images.
"""

from dataclasses import dataclass
from pathlib import Path

from activekd.errors import InputError
from activekd.given import GIVEN
from activekd.networks.backbones import BACKBONES, NAMED, Backbone, backbone, check_backbone_name
from activekd.networks.checkpoints import file_hash

ADAPTER, FROZEN = "adapter:", "frozen:"
"""Prefixes of the students whose backbone is not trained: with a trained trunk before the heads, and heads alone."""


@dataclass(frozen=True)
class StudentNetwork:
    """A student's name, parsed.

    Attributes:
        name: its name in specs.
        base: the name of its backbone, as ``backbone`` takes it.
        frozen: whether the backbone is not trained; the student then reads its banked features.
        trunk: whether a small trunk is trained between the frozen features and the heads.
        pixels: side of its input in pixels; None for the default of the backbone.
    """

    name: str
    base: str
    frozen: bool
    trunk: bool
    pixels: int | None

    @property
    def given(self) -> bool:
        """Whether the data set has its features, so that there is no backbone."""
        return self.base == GIVEN

    @property
    def backbone(self) -> Backbone:
        """Its backbone: architecture, preprocessing and weights."""
        return backbone(self.base)

    @property
    def size(self) -> int:
        """Side of its input in pixels; 0 for given features."""
        return 0 if self.given else self.pixels or self.backbone.size

    @property
    def encoder_name(self) -> str:
        """Name of the encoder of its bank, which students on one frozen backbone share."""
        return self.name.replace(ADAPTER, FROZEN)

    @property
    def fingerprint(self) -> str:
        """What the features of its frozen backbone depend on: input size, weights and preprocessing.

        Empty for given features, which are part of the data set.
        """
        if self.given:
            return ""
        chosen = self.backbone
        return f"{self.size}/{self.weights_hash()}/{chosen.interpolation}/{chosen.mean}/{chosen.std}"

    def weights_hash(self) -> str:
        """Hash of the file of its pretrained weights; empty for random initialisation and given features."""
        file = self.weights()
        return "" if file is None else file_hash(file)

    def weights(self, *, online: bool = True) -> Path | None:
        """The file of its pretrained weights; None for random initialisation and given features.

        Args:
            online: whether to download a file that this machine lacks.

        Raises:
            InputError: the file is absent from this machine and cannot be downloaded.
        """
        find = None if self.given else self.backbone.find
        return None if find is None else find(online)

    def check_name(self) -> None:
        """Check that the backbone exists, accepts inputs of this size and, if frozen, has pretrained weights.

        Raises:
            InputError: one of these checks fails.
        """
        if self.given:
            return
        chosen = self.backbone
        if self.pixels and chosen.fixed_size and self.pixels != chosen.size:
            raise InputError(f"student '{self.name}': {self.base} takes {chosen.size} px alone; expected: {self.base}")
        if self.frozen and chosen.find is None:
            raise InputError(
                f"student '{self.name}': {self.base} has no pretrained weights to freeze; expected: {self.base}"
            )


def student_network(name: str) -> StudentNetwork:
    """The student of that name: ``[adapter:|frozen:]BACKBONE[@PIXELS]``.

    ``check_name`` makes the checks that need timm, such as those of the size. Neither reads the weights.

    Raises:
        InputError: the backbone is unknown, the size is not a positive integer, or given features have a size or no
            prefix.
    """
    prefix = next((prefix for prefix in (ADAPTER, FROZEN) if name.startswith(prefix)), "")
    base, at, pixels = name.removeprefix(prefix).partition("@")
    if base == GIVEN:
        if not prefix or at:
            raise InputError(f"student '{name}'; expected: {ADAPTER}{GIVEN} or {FROZEN}{GIVEN}")
        return StudentNetwork(name, base, True, prefix == ADAPTER, None)
    check_backbone_name(base)
    if at and not (pixels.isdecimal() and int(pixels) > 0):
        raise InputError(f"student '{name}': size '{pixels}'; expected: a positive number of pixels, as in {base}@64")
    return StudentNetwork(name, base, bool(prefix), prefix == ADAPTER, int(pixels) if at else None)


STUDENTS: tuple[str, ...] = (*BACKBONES, *NAMED)
"""Students with a short name; any other timm network is ``timm:NAME``."""
