"""Image files decoded once into a memory-mapped cache on disk."""

import hashlib
import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np

from activekd.errors import InputError
from activekd.folders import unfinished_beside
from activekd.images.decoding import MAX_SHORT_SIDE, decode, kept_shape
from activekd.images.pixels import Images

CACHE_FORMAT = 4
"""Version of the cache files, part of their address."""

READ_AHEAD = 64
"""Decoded images that wait to be written; bounds the memory of a build."""

_T = TypeVar("_T")


def _or_fault(read: Callable[[Path], _T], path: Path) -> _T | str:
    try:
        return read(path)
    except (OSError, SyntaxError, ValueError) as fault:
        return f"{path}: {fault}"


def _read_all(
    files: Sequence[Path], read: Callable[[Path], _T], threads: int, progress: Callable[[int], object]
) -> Iterator[_T]:
    """Results of ``read``, in the order of the files; after the last file, an InputError if any of them failed."""
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
        raise InputError(
            f"{len(faults)} of {len(files)} images cannot be decoded: {shown}; expected: whole image files"
        )


def undecodable(files: Sequence[Path], *, threads: int, progress: Callable[[int], object]) -> tuple[str, ...]:
    """The files that cannot be decoded, each with the reason; decoded pixels are discarded.

    Args:
        files: image files.
        threads: number of files decoded at a time.
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
    decode(path)


def decode_files(
    files: Sequence[Path],
    cache: Path,
    *,
    threads: int,
    keep: bool = True,
    progress: Callable[[int], object] = lambda done: None,
) -> Images:
    """The images of these files, each decoded once into the cache.

    The cache is addressed by each file's path, size and modification time. It is written under a temporary name
    first, so an interrupted build leaves no partial cache; a cache file of the wrong length is rebuilt. EXIF rotation
    is applied, transparency is dropped, and every colour mode becomes RGB.

    Args:
        files: image files that Pillow can read.
        cache: folder of the cache; created if absent.
        threads: number of files decoded at a time.
        keep: whether to cache the pixels; otherwise only sizes are read here, and an image is decoded on every read.
        progress: called with the number of files done.

    Raises:
        InputError: files cannot be decoded (each is named), or the cache cannot be written.
    """
    if not files:
        return Images(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.uint8))
    listing = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    key = hashlib.sha256(json.dumps([CACHE_FORMAT, MAX_SHORT_SIDE, keep, listing]).encode()).hexdigest()[:32]
    pixels, index = cache / "images" / f"{key}.bin", cache / "images" / f"{key}.npz"
    cached = _read_index(index)
    if cached is not None:
        shapes, digest, checksums = cached
        if not keep:
            return Images(shapes, tuple(files), digest)
        if pixels.is_file() and pixels.stat().st_size == 3 * int(shapes.prod(axis=1).sum()):
            return Images(shapes, pixels, digest, checksums)
    index.parent.mkdir(parents=True, exist_ok=True)
    if not keep:
        shapes = np.array(list(_read_all(files, kept_shape, threads, progress)), dtype=np.int64)
        _write_index(index, shapes, key, np.empty(0, dtype=np.uint32))
        return Images(shapes, tuple(files), key)
    unfinished = unfinished_beside(pixels)
    content, shapes_read, crcs = hashlib.sha256(), [], []
    try:
        with unfinished.open("wb") as out:
            for image in _read_all(files, decode, threads, progress):
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
        raise InputError(
            f"cache {cache}: {fault}; expected: a writable folder with free space ($ACTIVEKD_CACHE)"
        ) from fault
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
    temporary = unfinished_beside(file)
    try:
        with temporary.open("wb") as out:
            np.savez(out, shapes=shapes, digest=digest, checksums=checksums)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
