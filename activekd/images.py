"""Decoded images: the uint8 arrays in memory or memory-mapped on disk, and the geometry of their views."""

import hashlib
import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8, UInt32
from torch import Tensor

from activekd.errors import InputError
from activekd.recipes import ViewGeometry

if TYPE_CHECKING:
    from PIL import Image

MAX_SHORT_SIDE = 256
"""Pixels: an image of a folder whose shorter side is longer is decoded to this size."""

CACHE_FORMAT = 4
READ_AHEAD = 64
"""Images that wait, decoded, to be written: what bounds the memory of a build."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Images:
    """RGB images of any sizes: end to end in one uint8 array, or decoded from their files whenever they are read.

    Attributes:
        shapes: (height, width) of each image in pixels.
        source: the pixels themselves; or the path of the file of pixels, which is memory-mapped when first read and
            travels between processes as its path; or the image files, for a set that does not fit on the disk twice.
        digest: hash of the content, where it was taken when the images were decoded.
        checksums: CRC-32 of each image in the file of pixels, checked whenever one is read.
    """

    shapes: Int64[np.ndarray, "n 2"]
    source: UInt8[np.ndarray, " bytes"] | Path | tuple[Path, ...]
    digest: str | None = None
    checksums: UInt32[np.ndarray, " n"] | None = None

    @cached_property
    def _pixels(self) -> np.ndarray:
        if isinstance(self.source, tuple):
            raise LookupError("these images are not kept in decoded form")
        return np.memmap(self.source, dtype=np.uint8, mode="r") if isinstance(self.source, Path) else self.source

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(3 * self.shapes.prod(axis=1))])

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        if isinstance(self.source, tuple):
            return _decode(self.source[row])
        height, width = self.shapes[row]
        pixels = self._pixels[self._offsets[row] : self._offsets[row + 1]]
        if self.checksums is not None and zlib.crc32(pixels.data) != self.checksums[row]:
            raise InputError(f"image cache {self.source} is damaged at image {row}; remove the file and run again")
        return pixels.reshape(height, width, 3)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all sizes and pixels; of the listing of files where the images are not kept in decoded form."""
        return self.digest or _digest(self.shapes, [self._pixels])


def _digest(shapes: np.ndarray, blocks: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(shapes.astype("<i8").tobytes())
    for block in blocks:
        digest.update(block.data)
    return digest.hexdigest()


def from_grey(images: UInt8[np.ndarray, "n height width"]) -> Images:
    """Grey images of one size as RGB."""
    n, height, width = images.shape
    shapes = np.tile(np.array([[height, width]], dtype=np.int64), (n, 1))
    return Images(shapes, np.repeat(images.reshape(-1), 3))


def _shrunk(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, MAX_SHORT_SIDE / min(width, height))
    return round(width * scale), round(height * scale)


def _decode(path: Path) -> np.ndarray:
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

    lies = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (image.height, image.width) if lies else image.size


def _kept_shape(path: Path) -> tuple[int, int]:
    from PIL import Image

    with Image.open(path) as image:
        width, height = _shrunk(*_upright_size(image))
    return height, width


def _or_fault(read: Callable[[Path], _T], path: Path) -> _T | str:
    try:
        return read(path)
    except (OSError, SyntaxError, ValueError) as fault:
        return f"{path}: {fault}"


def _read_all(
    files: Sequence[Path], read: Callable[[Path], _T], threads: int, progress: Callable[[int], object]
) -> Iterator[_T]:
    """What ``read`` makes of each file, in order; after the last one an InputError if some could not be read."""
    faults = []
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque[Future[_T | str]]()
        waiting = iter(files)
        for done in range(1, len(files) + 1):
            while len(ahead) < READ_AHEAD and (path := next(waiting, None)) is not None:
                ahead.append(pool.submit(_or_fault, read, path))
            answer = ahead.popleft().result()
            progress(done)
            if isinstance(answer, str):
                faults.append(answer)
            elif not faults:
                yield answer
    if faults:
        shown = "; ".join(faults[:10]) + (f"; and {len(faults) - 10} more" if len(faults) > 10 else "")
        raise InputError(f"{len(faults)} of {len(files)} images cannot be decoded: {shown}")


def undecodable(files: Sequence[Path], *, threads: int, progress: Callable[[int], object]) -> tuple[str, ...]:
    """The files that cannot be decoded, each with the reason; nothing is kept of the others.

    Args:
        threads: files that are decoded at a time.
        progress: called with the number of files done.
    """
    faults = []
    with ThreadPoolExecutor(threads) as pool:
        for done, answer in enumerate(pool.map(lambda path: _or_fault(_try, path), files), start=1):
            progress(done)
            if answer is not None:
                faults.append(answer)
    return tuple(faults)


def _try(path: Path) -> None:
    _decode(path)


def decode_files(
    files: Sequence[Path],
    cache: Path,
    *,
    threads: int,
    keep: bool = True,
    progress: Callable[[int], object] = lambda done: None,
) -> Images:
    """The images of these files, each decoded once into the cache.

    The cache is addressed by each file's path, size and time of change, and written under another name first, so an
    interrupted build leaves nothing that is taken for whole; a cache file of the wrong length is made again. EXIF
    rotation is applied, transparency is dropped, and every colour mode becomes RGB.

    Args:
        files: image files that Pillow can read.
        cache: folder of the cache; made if absent.
        threads: files that are decoded at a time.
        keep: whether to keep the pixels; without, only sizes are read here and each image is decoded when it is used.
        progress: called with the number of files done.

    Raises:
        InputError: files that cannot be decoded, each by name.
    """
    if not files:
        return Images(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.uint8))
    listing = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(json.dumps([CACHE_FORMAT, MAX_SHORT_SIDE, keep, listing]).encode()).hexdigest()[:32]
    pixels, index = cache / "images" / f"{key}.bin", cache / "images" / f"{key}.npz"
    found = _read_index(index)
    if found is not None:
        shapes, digest, checksums = found
        if not keep:
            return Images(shapes, tuple(files), digest)
        if pixels.is_file() and pixels.stat().st_size == 3 * int(shapes.prod(axis=1).sum()):
            return Images(shapes, pixels, digest, checksums)
    index.parent.mkdir(parents=True, exist_ok=True)
    if not keep:
        shapes = np.array(list(_read_all(files, _kept_shape, threads, progress)), dtype=np.int64)
        _write_index(index, shapes, key, np.empty(0, dtype=np.uint32))
        return Images(shapes, tuple(files), key)
    unfinished = pixels.with_suffix(f".{os.getpid()}.part")
    content, shapes_read, crcs = hashlib.sha256(), [], []
    try:
        with unfinished.open("wb") as out:
            for image in _read_all(files, _decode, threads, progress):
                shapes_read.append(image.shape[:2])
                content.update(image.data)
                crcs.append(zlib.crc32(image.data))
                out.write(image.data)
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(pixels)
        shapes = np.array(shapes_read, dtype=np.int64)
        digest = hashlib.sha256(shapes.astype("<i8").tobytes() + content.digest()).hexdigest()
        checksums = np.array(crcs, dtype=np.uint32)
        _write_index(index, shapes, digest, checksums)
    except OSError as fault:
        raise InputError(f"cache {cache}: {fault}; allowed: a writable folder with room ($ACTIVEKD_CACHE)") from fault
    finally:
        unfinished.unlink(missing_ok=True)
    return Images(shapes, pixels, digest, checksums)


def _read_index(file: Path) -> tuple[np.ndarray, str, np.ndarray] | None:
    try:
        with np.load(file, allow_pickle=False) as content:
            return content["shapes"], str(content["digest"]), content["checksums"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _write_index(file: Path, shapes: np.ndarray, digest: str, checksums: np.ndarray) -> None:
    temporary = file.with_suffix(f".{os.getpid()}.npz")
    try:
        with temporary.open("wb") as out:
            np.savez(out, shapes=shapes, digest=digest, checksums=checksums)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


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
        crop = torch.from_numpy(images[row][top : top + height, left : left + width].copy())
        crop = TF.resize(crop.permute(2, 0, 1), [size, size], interpolation=mode, antialias=True)
        out[k] = crop.flip(2) if flip else crop
    return out
