"""Decoding of an image file to an upright RGB array; the rules by which every file becomes pixels."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from activekd.errors import InputError
from activekd.folders import PIXELS_VARIABLE, pixel_limit

if TYPE_CHECKING:
    from PIL import Image

DECODING_RULES = 2
"""Version of the rules of ``decode``, part of the address of cached images."""

SHORT_SIDE = 256
"""Shorter side, in pixels, that larger images are scaled down to for networks with inputs of up to 224 px."""

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of image files, as Pillow names them; the content decides, not the file's extension."""

NO_RANGE = {"F": "floating-point samples", "I": "signed or 32-bit samples", "LAB": "LAB colours"}
"""Pillow's modes that are refused, described."""

REMEDY = "save it as RGB with 8 bits per channel, in the range that you mean"

WHITE_IS_ZERO = 0
"""TIFF's photometric interpretation of negatives, which Pillow ignores for more than 8 bits."""

GREY_16 = ("I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of grey images with 9 to 16 bits."""

DECODER_FAULTS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError),
    *(RuntimeError, AssertionError, MemoryError, struct.error, zlib.error, Warning),
)
"""What Pillow's decoders raise on faulty files; warnings where Python turns them into exceptions."""


def decoded_side(pixels: int) -> int:
    """The shorter side that images are decoded to for a network with square inputs of ``pixels``.

    At least SHORT_SIDE, and always 256 / 224 of the network's input, so that random crops of large networks are
    enlarged no more than those of networks with inputs of 224 px: 439 for 384 px.
    """
    return max(SHORT_SIDE, -(-pixels * 8 // 7))


def kept_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """(width, height) of a decoded image; images are scaled down to ``short_side``, never up."""
    scale = min(1.0, short_side / min(width, height))
    return round(width * scale), round(height * scale)


def decode(path: Path, short_side: int = SHORT_SIDE) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of a file as RGB, by these rules.

    - Only the first frame or page of an animated or multi-page file is read.
    - The rotation of the EXIF tag is applied. Departure: torchvision's loaders of image folders ignore it.
    - Transparency is dropped, and the colour below it is kept, as in torchvision's and open_clip's loaders. A file
      whose visible shapes lie in its transparency alone, over a single colour, is refused.
    - Colour profiles are ignored; CMYK, YCbCr, palettes, grey and 1 bit are converted by Pillow's formulas.
    - Of samples with 9 to 16 bits the upper 8 are kept. A file that leaves the top bit of its samples unused, such as
      12-bit values in a 16-bit file, is refused, since it does not state its range. PPM states it, and is scaled by it.
    - Floating-point numbers, integers of 32 bits, signed integers and LAB are refused, and TIFF files of more than 8
      bits in which 0 is white.
    - Images of more pixels than ``PIL.Image.MAX_IMAGE_PIXELS`` are refused. ``$ACTIVEKD_IMAGE_PIXELS``, if set,
      replaces that limit in the whole process.
    - The image is scaled down, antialiased and bicubic, until its shorter side has ``short_side`` pixels.

    Raises:
        InputError: a rule refuses the file, or Pillow cannot decode it; the message names the file. Or the variable is
            not a number of pixels.
    """
    from PIL import ExifTags, Image, ImageOps

    if (allowed := pixel_limit()) is not None:
        Image.MAX_IMAGE_PIXELS = allowed
    with _faults_named(path), Image.open(path, formats=FORMATS) as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise _too_large(path, limit)
        bits = _bits(image)
        width, height = image.size
        # Only JPEG files are drafted; others, such as a TIFF file with a rotation, know their size after loading.
        if image.draft("RGB", (short_side, short_side)) is None:
            image.load()
            width, height = image.size
        upright = ImageOps.exif_transpose(image)
        if image.getexif().get(ExifTags.Base.Orientation) in {5, 6, 7, 8}:
            width, height = height, width
        size = kept_size(width, height, short_side)
        rgb = _as_rgb(upright, bits, str(image.format))
        return np.asarray(rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BICUBIC))


@contextmanager
def _faults_named(path: Path) -> Iterator[None]:
    from PIL import Image

    try:
        yield
    except _RefusedError as fault:
        raise InputError(f"{path}: {fault}") from None
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as fault:
        raise _too_large(path, Image.MAX_IMAGE_PIXELS) from fault
    except DECODER_FAULTS as fault:
        raise InputError(f"{path}: {_reason(fault, path)}") from fault


def _reason(fault: Exception, path: Path) -> str:
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    text = str(fault).removesuffix(f" {str(path)!r}")
    return text if text and isinstance(fault, OSError | SyntaxError | ValueError) else f"{type(fault).__name__} {text}"


class _RefusedError(Exception):
    """A rule of ``decode`` refuses a file."""


def _too_large(path: Path, limit: int | None) -> InputError:
    return InputError(f"{path}: more than {limit or 0:,} pixels (resize it, or allow more by ${PIXELS_VARIABLE})")


def _bits(image: "Image.Image") -> int:
    """Bits per sample in the file; Pillow cuts colours of 16 bits to 8 as it reads them."""
    from PIL import ExifTags
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile

    if isinstance(image, TiffImageFile):
        bits = max(image.tag_v2.get(ExifTags.Base.BitsPerSample, (1,)))
        if bits > 8 and image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == WHITE_IS_ZERO:
            raise _RefusedError(f"samples of {bits} bits in which 0 is white ({REMEDY})")
        return bits
    is_16 = isinstance(image, PngImageFile) and any(";16" in str(tile.args) for tile in image.tile)
    return 16 if is_16 or image.mode == "I" or image.mode in GREY_16 else 8


def _as_rgb(image: "Image.Image", bits: int, file_format: str) -> "Image.Image":
    from PIL import Image

    is_unsigned = file_format in {"PNG", "PPM"}
    if image.mode in {"F", "LAB"} or (image.mode == "I" and not is_unsigned):
        raise _RefusedError(f"{NO_RANGE[image.mode]} ({REMEDY})")
    if bits > 8:
        samples = np.asarray(image)
        colours = samples[..., :-1] if image.mode in {"LA", "RGBA"} else samples
        is_grey = image.mode == "I" or image.mode in GREY_16
        top = 1 << (bits - 1 if is_grey else 7)
        if file_format != "PPM" and 0 < colours.max() < top:
            raise _RefusedError(f"samples of {bits} bits that leave the top bit unused ({REMEDY})")
        if is_grey:
            return Image.fromarray((samples >> (bits - 8)).astype(np.uint8)).convert("RGB")
    if not ("transparency" in image.info or image.mode in {"LA", "La", "PA", "RGBA", "RGBa"}):
        return image.convert("RGB")
    *colours, opacity = image.convert("RGBA").split()
    if _varies(opacity) and not any(map(_varies, colours)):
        raise _RefusedError("its shapes lie in its transparency alone (save it with a background, as RGB)")
    return Image.merge("RGB", colours)


def _varies(band: "Image.Image") -> bool:
    low, high = band.getextrema()
    return low != high
