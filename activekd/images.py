"""Decoded images: the uint8 arrays in memory or memory-mapped on disk, and the geometry of their views."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from torch import Tensor

from activekd.errors import InputError
from activekd.recipes import ViewGeometry

MAX_SHORT_SIDE = 256
"""Pixels: an image of a folder whose shorter side is longer is decoded to this size."""

CACHE_FORMAT = 1


@dataclass(frozen=True)
class Images:
    """RGB images of any sizes, end to end in one uint8 array.

    Attributes:
        shapes: (height, width) of each image in pixels.
        source: the pixels themselves, or the path of the file of pixels, which is memory-mapped when first read and
            travels between processes as its path.
    """

    shapes: Int64[np.ndarray, "n 2"]
    source: UInt8[np.ndarray, " bytes"] | Path

    @cached_property
    def _pixels(self) -> np.ndarray:
        return np.memmap(self.source, dtype=np.uint8, mode="r") if isinstance(self.source, Path) else self.source

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(3 * self.shapes.prod(axis=1))])

    def __getstate__(self) -> dict[str, Any]:
        return {"shapes": self.shapes, "source": self.source}

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        height, width = self.shapes[row]
        return self._pixels[self._offsets[row] : self._offsets[row + 1]].reshape(height, width, 3)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all sizes and pixels."""
        digest = hashlib.sha256(self.shapes.astype("<i8").tobytes())
        step = 1 << 24
        for start in range(0, len(self._pixels), step):
            digest.update(self._pixels[start : start + step].data)
        return digest.hexdigest()


def from_grey(images: UInt8[np.ndarray, "n height width"]) -> Images:
    """Grey images of one size as RGB."""
    n, height, width = images.shape
    shapes = np.tile(np.array([[height, width]], dtype=np.int64), (n, 1))
    return Images(shapes, np.repeat(images.reshape(-1), 3))


def _decode(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        image.draft("RGB", (MAX_SHORT_SIDE, MAX_SHORT_SIDE))
        rgb = image.convert("RGB")
    scale = MAX_SHORT_SIDE / min(rgb.size)
    if scale < 1:
        rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BICUBIC)
    return np.asarray(rgb)


def _decode_or_fault(path: Path) -> np.ndarray | str:
    try:
        return _decode(path)
    except (OSError, SyntaxError, ValueError) as fault:
        return f"{path}: {fault}"


def decode_files(
    files: Sequence[Path], cache: Path, *, threads: int, progress: Callable[[int], object] = lambda done: None
) -> Images:
    """The images of these files, each decoded once into the cache.

    The cache is addressed by each file's path, size and time of change, and written under another name first, so an
    interrupted build leaves nothing that is taken for whole.

    Args:
        files: image files that Pillow can read.
        cache: folder of the cache; made if absent.
        threads: files that are decoded at a time.
        progress: called with the number of files done.

    Raises:
        InputError: files that cannot be decoded, each by name.
    """
    if not files:
        return Images(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.uint8))
    listing = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(json.dumps([CACHE_FORMAT, MAX_SHORT_SIDE, listing]).encode()).hexdigest()[:32]
    pixels, index = cache / "images" / f"{key}.bin", cache / "images" / f"{key}.npy"
    if index.exists() and pixels.exists():
        shapes = np.load(index)
        if pixels.stat().st_size == 3 * int(shapes.prod(axis=1).sum()):
            return Images(shapes, pixels)
    pixels.parent.mkdir(parents=True, exist_ok=True)
    faults, shapes = [], []
    unfinished = pixels.with_suffix(f".{os.getpid()}.part")
    with ThreadPoolExecutor(threads) as pool, unfinished.open("wb") as out:
        for done, image in enumerate(pool.map(_decode_or_fault, files), start=1):
            if isinstance(image, str):
                faults.append(image)
            else:
                shapes.append(image.shape[:2])
                out.write(image.tobytes())
            progress(done)
    if faults:
        unfinished.unlink()
        shown = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        raise InputError(f"{len(faults)} of {len(files)} images cannot be decoded: {shown}")
    sizes = np.array(shapes, dtype=np.int64)
    unfinished.replace(pixels)
    temporary = index.with_suffix(f".{os.getpid()}.npy")
    np.save(temporary, sizes)
    temporary.replace(index)
    return Images(sizes, pixels)


def _uniforms(rows: np.ndarray, view: int, draws: int) -> Float64[np.ndarray, "draws n"]:
    """Uniform numbers in [0, 1) that depend on (row, view, draw) alone: the finaliser of SplitMix64 (Steele 2014)."""
    with np.errstate(over="ignore"):
        counter = (rows.astype(np.uint64) * np.uint64(1 << 16) + np.uint64(view)) * np.uint64(draws)
        x = (counter + np.arange(draws, dtype=np.uint64)[:, None] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)) * 2.0**-53


def view_boxes(
    rows: Int64[np.ndarray, " n"], view: int, shapes: Int64[np.ndarray, "n 2"], geometry: ViewGeometry
) -> tuple[Int64[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
    """The crop and the flip of one view of each row, a pure function of (row, view).

    View 0 is the largest centred square, never flipped: what resizing the shorter side and cropping the centre gives.
    The others follow RandomResizedCrop (Szegedy et al. 2015): area uniform in ``scale``, logarithm of the aspect ratio
    uniform, position uniform. Departure: a side that is longer than the image is cut to it, where torchvision draws
    again.

    Args:
        rows: train rows, which number the draws.
        view: view number, at least 0.
        shapes: (height, width) of these rows' images in pixels.
        geometry: scale, ratio and flip.

    Returns:
        (top, left, height, width) in pixels, and whether the crop is mirrored.
    """
    heights, widths = shapes[:, 0], shapes[:, 1]
    if view == 0:
        side = np.minimum(heights, widths)
        boxes = np.stack([(heights - side) // 2, (widths - side) // 2, side, side], axis=1)
        return boxes, np.zeros(len(rows), dtype=bool)
    area, aspect, vertical, horizontal, mirror = _uniforms(rows, view, 5)
    low, high = geometry.scale
    narrow, wide = np.log(geometry.ratio)
    target = heights * widths * (low + (high - low) * area)
    ratio = np.exp(narrow + (wide - narrow) * aspect)
    height = np.clip(np.rint(np.sqrt(target / ratio)).astype(np.int64), 1, heights)
    width = np.clip(np.rint(np.sqrt(target * ratio)).astype(np.int64), 1, widths)
    top = np.floor(vertical * (heights - height + 1)).astype(np.int64)
    left = np.floor(horizontal * (widths - width + 1)).astype(np.int64)
    return np.stack([top, left, height, width], axis=1), mirror < geometry.flip


def render(
    images: Images,
    rows: Int64[np.ndarray, " n"],
    view: int,
    geometry: ViewGeometry,
    *,
    size: int,
    interpolation: str,
) -> UInt8[Tensor, "n 3 size size"]:
    """One view of each row as a square of ``size`` pixels, antialiased.

    Args:
        interpolation: ``bilinear`` or ``bicubic``, as the network that reads the view was trained.
    """
    # 150 MB and a second: only the processes that render pay for it.
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as TF

    mode = InterpolationMode(interpolation)
    boxes, mirrored = view_boxes(rows, view, images.shapes[rows], geometry)
    out = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
    for k, (row, (top, left, height, width), flip) in enumerate(
        zip(rows.tolist(), boxes.tolist(), mirrored.tolist(), strict=True)
    ):
        crop = torch.from_numpy(np.ascontiguousarray(images[row][top : top + height, left : left + width]))
        crop = TF.resize(crop.permute(2, 0, 1), [size, size], interpolation=mode, antialias=True)
        out[k] = crop.flip(2) if flip else crop
    return out
