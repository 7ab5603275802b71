"""Image files decoded once into a memory-mapped cache on disk."""

import hashlib
import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from activekd.errors import InputError
from activekd.folders import unfinished_beside
from activekd.images.decoding import DECODING_RULES, FORMATS, SHORT_SIDE, decode
from activekd.images.pixels import Images
from activekd.images.survey import Survey

CACHE_FORMAT = 5
"""Version of the cache files, part of their address."""

READ_AHEAD = 64
"""Decoded images that wait to be written; bounds the memory of a build."""

SHOWN = 10
"""Faulty files that a message names."""


def _decoded_or_fault(path: Path, short_side: int) -> np.ndarray | str:
    try:
        return decode(path, short_side)
    except InputError as fault:
        return str(fault)


def _decoded(
    files: Sequence[Path], short_side: int, threads: int, progress: Callable[[int], object]
) -> Iterator[np.ndarray | str]:
    """The pixels of each file, in order, or why it cannot be decoded; at most READ_AHEAD of them are in memory."""
    with ThreadPoolExecutor(threads) as pool:
        ahead = deque[Future[np.ndarray | str]]()
        waiting = iter(files)
        for done in range(1, len(files) + 1):
            while len(ahead) < READ_AHEAD and (path := next(waiting, None)) is not None:
                ahead.append(pool.submit(_decoded_or_fault, path, short_side))
            yield ahead.popleft().result()
            progress(done)


def undecodable(files: Sequence[Path], *, threads: int, progress: Callable[[int], object]) -> tuple[str, ...]:
    """The files that cannot be decoded, each with the reason; decoded pixels are discarded.

    Args:
        files: image files.
        threads: number of files decoded at a time.
        progress: called with the number of files done.
    """
    answers = _decoded(files, SHORT_SIDE, threads, progress)
    return tuple(answer for answer in answers if isinstance(answer, str))


def decode_files(
    files: Sequence[Path],
    cache: Path,
    *,
    threads: int,
    short_side: int = SHORT_SIDE,
    keep: bool = True,
    progress: Callable[[int], object] = lambda done: None,
) -> Images:
    """The images of one split; see ``decode_splits``."""
    (images,) = decode_splits(
        [files], cache, threads=threads, short_side=short_side, keep=keep, progress=lambda done, total: progress(done)
    )
    return images


def decode_splits(
    splits: Sequence[Sequence[Path]],
    cache: Path,
    *,
    threads: int,
    short_side: int = SHORT_SIDE,
    keep: bool = True,
    progress: Callable[[int, int], object] = lambda done, total: None,
    survey: Survey | None = None,
) -> tuple[Images, ...]:
    """The images of each split of a data set, each decoded once into the cache by the rules of ``decode``.

    The cache is addressed by each file's path, size and modification time, by the version of the rules and by
    ``short_side``. A file that is rewritten with the same size and the same modification time, to the nanosecond, is
    not noticed. A cache is written under a temporary name first, so an interrupted build leaves no partial cache; a
    cache file of the wrong length is rebuilt.

    Args:
        splits: image files of each split.
        cache: folder of the cache; created if absent.
        threads: number of files decoded at a time.
        short_side: shorter side in pixels that larger images are scaled down to (``decoded_side``).
        keep: whether to cache the pixels; otherwise every file is decoded once here, which checks it, and again on
            every read.
        progress: called with the number of files done and the total, over all splits.
        survey: what is known of the files; None for a new one.

    Raises:
        InputError: files are absent or cannot be decoded: one message for all splits, with their number and the first
            names; or the cache cannot be written.
    """
    build = _Build(cache / "images", threads, short_side, keep, survey or Survey(), [])
    total, before = sum(map(len, splits)), 0
    out = []
    for files in splits:
        out.append(build.images(files, lambda done, before=before: progress(before + done, total)))
        before += len(files)
    if faults := build.faults:
        shown = "; ".join(faults[:SHOWN]) + (f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else "")
        raise InputError(
            f"{len(faults)} of {total} images cannot be decoded: {shown}; expected: whole image files "
            f"({', '.join(FORMATS)})"
        )
    return tuple(images for images in out if images is not None)


@dataclass(frozen=True)
class _Build:
    """The decoding of some splits.

    Attributes:
        folder: of the cache files.
        threads: number of files decoded at a time.
        short_side: of decoded images in pixels.
        keep: whether to cache the pixels.
        survey: what is known of the files.
        faults: files that cannot be decoded so far, each with the reason.
    """

    folder: Path
    threads: int
    short_side: int
    keep: bool
    survey: Survey
    faults: list[str]

    def images(self, files: Sequence[Path], progress: Callable[[int], object]) -> Images | None:
        """The images of a split, from the cache or decoded into it; None after a fault."""
        if not files:
            return Images(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.uint8))
        listing = self._listing(files)
        if listing is None:
            return None
        key = hashlib.sha256(json.dumps([CACHE_FORMAT, DECODING_RULES, self.short_side, listing]).encode())
        pixels = self.folder / f"{key.hexdigest()[:32]}.bin"
        source = pixels if self.keep else tuple(files)
        cached = self._cached(pixels)
        if cached is not None:
            shapes, digest, checksums = cached
            return Images(shapes, source, digest, checksums)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            decoded = self._write(files, pixels, progress)
        except OSError as fault:
            raise InputError(
                f"cache {self.folder.parent}: {fault}; expected: a writable folder with free space ($ACTIVEKD_CACHE)"
            ) from fault
        return None if decoded is None else Images(decoded[0], source, decoded[1], decoded[2])

    def _cached(self, pixels: Path) -> tuple[np.ndarray, str, np.ndarray] | None:
        """What is known of a split that is cached, or has been checked if pixels are not kept; None otherwise."""
        cached = _read_index(pixels.with_suffix(".npz"))
        if cached is None or (self.keep and not _has_size(pixels, 3 * int(cached[0].prod(axis=1).sum()))):
            return None
        return cached

    def _listing(self, files: Sequence[Path]) -> list[tuple[str, int, int]] | None:
        """Path, size and modification time of each file; None where some cannot be read."""
        statuses = self.survey.statuses(files)
        faults = [f"{file}: {status}" for file, status in zip(files, statuses, strict=True) if isinstance(status, str)]
        self.faults.extend(faults)
        if faults:
            return None
        return [
            (str(file), *status) for file, status in zip(files, statuses, strict=True) if not isinstance(status, str)
        ]

    def _write(
        self, files: Sequence[Path], pixels: Path, progress: Callable[[int], object]
    ) -> tuple[np.ndarray, str, np.ndarray] | None:
        """Decode a split into its cache files; sizes, hash of the content and checksums, None after a fault."""
        unfinished = unfinished_beside(pixels)
        content, shapes_read, crcs = hashlib.sha256(), [], []
        before = len(self.faults)
        try:
            with unfinished.open("wb") as out:
                for answer in _decoded(files, self.short_side, self.threads, progress):
                    if isinstance(answer, str):
                        self.faults.append(answer)
                    elif len(self.faults) == before:
                        shapes_read.append(answer.shape[:2])
                        content.update(answer.data)
                        crcs.append(zlib.crc32(answer.data))
                        if self.keep:
                            out.write(answer.data)
                out.flush()
                os.fsync(out.fileno())
            if len(self.faults) > before:
                return None
            # Another process may have made the cache meanwhile, and its workers may read it already.
            if (made := self._cached(pixels)) is not None:
                return made
            if self.keep:
                unfinished.replace(pixels)
            shapes = np.array(shapes_read, dtype=np.int64)
            digest = hashlib.sha256(shapes.astype("<i8").tobytes() + content.digest()).hexdigest()
            checksums = np.array(crcs, dtype=np.uint32)
            _write_index(pixels.with_suffix(".npz"), shapes, digest, checksums)
        finally:
            unfinished.unlink(missing_ok=True)
        return shapes, digest, checksums


def _has_size(file: Path, n_bytes: int) -> bool:
    try:
        return file.stat().st_size == n_bytes
    except OSError:
        return False


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
