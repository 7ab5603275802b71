"""The bank: what an encoder makes of each view of each image, computed once, content-addressed on disk."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from activekd.errors import InputError
from activekd.images import Images, render
from activekd.recipes import ViewGeometry

BANK_FORMAT = 1
CHECKSUM = ".sha256"
ENCODE_BATCH = 64
"""Images a forward pass while banking."""


@runtime_checkable
class Encoder(Protocol):
    """What turns rendered views into banked arrays: a teacher's image tower, a frozen backbone, or the pixels."""

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        ...

    @property
    def interpolation(self) -> str:
        """``bilinear`` or ``bicubic``."""
        ...

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        """One array row an image, in the dtype to be banked."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The encoder of students that are trained end to end: the rendered pixels themselves, uint8."""

    size: int
    interpolation: str

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        return images.numpy()


@runtime_checkable
class ViewSource(Protocol):
    """The views of one split, wherever they come from."""

    @property
    def n_rows(self) -> int:
        """Rows of the split."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one view of one row."""
        ...

    def gather(self, rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]) -> Tensor:
        """The array of each (row, view), in one batch."""
        ...


@dataclass(frozen=True)
class Views:
    """Banked arrays of one split: ``arrays[view][row]``; all views have equal shapes."""

    arrays: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.arrays)

    @property
    def n_rows(self) -> int:
        return len(self.arrays[0])

    @property
    def shape(self) -> tuple[int, ...]:
        return self.arrays[0].shape[1:]

    def gather(self, rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]) -> Tensor:
        """The array of each (row, view), copied into one batch."""
        first = self.arrays[0]
        out = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for view in np.unique(views):
            chosen = views == view
            out[chosen] = self.arrays[view][rows[chosen]]
        return torch.from_numpy(out)


@dataclass(frozen=True)
class LiveViews:
    """Pixels of one split, rendered from its decoded images whenever they are read; the very pixels that a bank has.

    For splits whose rendered views would not fit into memory: a step pays for the rendering of its batch.
    """

    images: Images
    geometry: ViewGeometry
    size: int
    interpolation: str

    @property
    def n_rows(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        return 3, self.size, self.size

    def gather(self, rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]) -> Tensor:
        """The pixels of each (row, view), rendered."""
        out = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        for view in np.unique(views):
            chosen = np.flatnonzero(views == view)
            out[torch.from_numpy(chosen)] = render(
                self.images, rows[chosen], int(view), self.geometry, size=self.size, interpolation=self.interpolation
            )
        return out


@dataclass(frozen=True)
class Shard:
    """The unit that is computed and stored: one view of one split through one encoder.

    Attributes:
        dataset: name of the data set.
        split: ``train`` or ``test``.
        view: view number; the test split has view 0 alone.
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

    @property
    def key(self) -> str:
        """Content address: everything that changes the numbers, and nothing else (view 0 ignores the geometry)."""
        geometry = None if self.view == 0 else {k: v for k, v in asdict(self.geometry).items() if k != "count"}
        content = [BANK_FORMAT, self.images, self.view, self.encoder, self.weights, geometry]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

    def path(self, cache: Path) -> Path:
        return cache / "bank" / f"{self.key}.npy"


def compute(images: Images, encoder: Encoder, geometry: ViewGeometry, view: int) -> np.ndarray:
    """One view of all images through the encoder, in row order; each image is rendered once."""
    rows = np.arange(len(images))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), ENCODE_BATCH):
            batch = rows[start : start + ENCODE_BATCH]
            views = render(images, batch, view, geometry, size=encoder.size, interpolation=encoder.interpolation)
            parts.append(encoder.encode(views))
    return np.concatenate(parts)


def check_cache(cache: Path) -> None:
    """Check that the folder of the caches can be written; it is made if absent.

    Raises:
        InputError: it cannot.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=cache):
            pass
    except OSError as fault:
        raise InputError(f"cache {cache}: {fault}; allowed: a writable folder ($ACTIVEKD_CACHE)") from fault


def read(shard: Shard, cache: Path) -> np.ndarray | None:
    """The shard from disk, memory-mapped; None where it is absent, or is not the bytes that were written."""
    path = shard.path(cache)
    try:
        if path.with_suffix(CHECKSUM).read_text(encoding="ascii") != _checksum(path):
            return None
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(shard: Shard, array: np.ndarray, cache: Path) -> None:
    """Put a shard on disk, whole or not at all, with the checksum by which it is known again."""
    path = shard.path(cache)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            np.save(out, array)
            out.flush()
            os.fsync(out.fileno())
        digest = _checksum(temporary)
        temporary.replace(path)
        temporary.write_text(digest, encoding="ascii")
        temporary.replace(path.with_suffix(CHECKSUM))
    except OSError as fault:
        raise InputError(f"cache {cache}: {fault}; allowed: a writable folder with room ($ACTIVEKD_CACHE)") from fault
    finally:
        temporary.unlink(missing_ok=True)
