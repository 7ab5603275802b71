"""Files on disk under a content address, written atomically with a checksum: bank shards, text heads, fits."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np

from activekd.errors import InputError, reason
from activekd.folders import unfinished_beside
from activekd.recipes import ViewGeometry

BANK_FORMAT = 2
"""Version of the bank and of the geometry of views, part of every address."""

CHECKSUM = ".sha256"
"""Suffix of the file with an array's checksum."""


@dataclass(frozen=True)
class Shard:
    """The unit that is computed and stored: one view of one split through one encoder.

    Attributes:
        dataset: name of the data set.
        split: ``train`` or ``test``.
        view: view number; the test split has only view 0.
        images: fingerprint of the split's images.
        encoder: name of the encoder.
        weights: fingerprint of the encoder's weights and input size.
        geometry: the geometry of the views.
    """

    dataset: str
    split: str
    view: int
    images: str
    encoder: str
    weights: str
    geometry: ViewGeometry

    def __str__(self) -> str:
        return f"features of {self.dataset}, {self.split}, view {self.view}, from {self.encoder}"

    @property
    def key(self) -> str:
        """Content address: exactly what changes the numbers; view 0 ignores the geometry."""
        geometry = None if self.view == 0 else {k: v for k, v in asdict(self.geometry).items() if k != "count"}
        content = [BANK_FORMAT, self.images, self.view, self.encoder, self.weights, geometry]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

    def path(self, cache: Path) -> Path:
        """File of the array in a cache folder."""
        return cache / "bank" / f"{self.key}.npy"

    def is_stored(self, cache: Path) -> bool:
        """Whether a cache folder has the array and its checksum, of which only ``read_array`` knows that they fit."""
        path = self.path(cache)
        return path.is_file() and path.with_suffix(CHECKSUM).is_file()


def check_cache(cache: Path) -> None:
    """Check that the cache folder is writable; create it if absent.

    Raises:
        InputError: the folder is not writable.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=cache):
            pass
    except OSError as fault:
        raise InputError(f"cache {cache}: {reason(fault)}; expected: a writable folder ($ACTIVEKD_CACHE)") from fault


def read_array(path: Path) -> np.ndarray | None:
    """An array from disk, memory-mapped; None where it is absent or its checksum fails."""
    if not is_whole(path):
        return None
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array and its checksum to disk, unless another process has; ``read_array`` ignores a torn write.

    Raises:
        InputError: the folder is not writable, or the disk is full.
    """
    write_whole(path, lambda file: np.save(file, array))


def is_whole(path: Path) -> bool:
    """Whether a file is there as ``write_whole`` wrote it."""
    try:
        return path.with_suffix(CHECKSUM).read_text(encoding="ascii") == _checksum(path)
    except (OSError, ValueError):
        return False


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file and its checksum to disk, unless another process has; ``is_whole`` tells a torn write.

    Args:
        path: of the file; its folder is created if absent.
        write: writes the content.

    Raises:
        InputError: the folder is not writable, or the disk is full.
    """
    temporary = unfinished_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        if is_whole(path):
            return
        digest = _checksum(temporary)
        temporary.replace(path)
        temporary.write_text(digest, encoding="ascii")
        temporary.replace(path.with_suffix(CHECKSUM))
    except OSError as fault:
        raise InputError(
            f"cache {path.parent}: {reason(fault)}; expected: a writable folder with free space ($ACTIVEKD_CACHE)"
        ) from fault
    finally:
        with suppress(OSError):
            temporary.unlink()
