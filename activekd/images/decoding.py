"""Decoding of an image file to an upright RGB array, its shorter side at most MAX_SHORT_SIDE pixels."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from PIL import Image


MAX_SHORT_SIDE = 256
"""Largest shorter side of a decoded image, in pixels; larger images are scaled down to it."""


def _shrunk(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MAX_SHORT_SIDE / min(width, height))
    return round(width * scale), round(height * scale)


def decode(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of a file: upright by its EXIF rotation, without transparency, any colour mode as RGB.

    Raises:
        OSError, SyntaxError, ValueError: Pillow cannot decode the file.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        size = _shrunk(*_upright_size(image))
        image.draft("RGB", (MAX_SHORT_SIDE, MAX_SHORT_SIDE))
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        rgb = (upright.convert("RGBA") if "transparency" in upright.info else upright).convert("RGB")
    return np.asarray(rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BICUBIC))


def _upright_size(image: "Image.Image") -> tuple[int, int]:
    from PIL import ExifTags

    sideways = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (image.height, image.width) if sideways else image.size


def kept_shape(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of the array that ``decode`` returns, from the file's header alone."""
    from PIL import Image

    with Image.open(path) as image:
        width, height = _shrunk(*_upright_size(image))
    return height, width
