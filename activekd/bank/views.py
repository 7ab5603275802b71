"""The bank: each view of each image through an encoder, computed once and read by all trials."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.recipes import ViewGeometry

ENCODE_BATCH = 64
"""Images per forward pass while banking."""


@runtime_checkable
class Encoder(Protocol):
    """Encodes rendered views to banked arrays: a teacher's image tower, a frozen backbone, or the pixels."""

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        ...

    @property
    def interpolation(self) -> str:
        """``bilinear`` or ``bicubic``."""
        ...

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        """One array row per image, in the dtype to be banked."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The encoder of students that are trained end to end: the rendered pixels, uint8."""

    size: int
    interpolation: str

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        """The pixels, unchanged."""
        return images.numpy()


@runtime_checkable
class ViewSource(Protocol):
    """The views of one split, banked or rendered on every read."""

    @property
    def n_rows(self) -> int:
        """Rows of the split."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one view of one row."""
        ...

    def gather(self, rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]) -> Tensor:
        """The array of each (row, view), in one batch, (batch, *shape)."""
        ...

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Tensor]:
        """The batch of each step of a fit, in order."""
        ...


@dataclass(frozen=True)
class Views:
    """Banked arrays of one split: ``arrays[view][row]``; all views have the same shape."""

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

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Tensor]:
        """The batch of each step of a fit, in order."""
        return map(self.gather, rows, views)


@dataclass(frozen=True)
class LiveViews:
    """Pixels of one split, rendered from its images on every read, equal to the banked pixels.

    For splits whose rendered views exceed memory; every step renders its batch.

    Attributes:
        images: images of the split.
        geometry: geometry of the views.
        size: side of a view in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
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

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Tensor]:
        """The batch of each step of a fit, in order."""
        return map(self.gather, rows, views)


def compute(images: Images, encoder: Encoder, geometry: ViewGeometry, view: int) -> np.ndarray:
    """One view of all images through the encoder, in row order, (n, *shape); each image is rendered once."""
    rows = np.arange(len(images))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), ENCODE_BATCH):
            batch = rows[start : start + ENCODE_BATCH]
            views = render(images, batch, view, geometry, size=encoder.size, interpolation=encoder.interpolation)
            parts.append(encoder.encode(views))
    return np.concatenate(parts)
