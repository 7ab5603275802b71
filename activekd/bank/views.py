"""The views of one split as fits and predictions read them: banked features, or pixels rendered from the images."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from activekd.bank.gathered import Gathered, gathered
from activekd.bank.held import Held, Slab, held_on
from activekd.datasets.row_map import RowMap
from activekd.images.batched import crops_of, peak_bytes, render_crops, upload, working_type
from activekd.images.crops import view_boxes
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.images.streamed import Packed, stream, upload_images
from activekd.recipes import ViewGeometry

UPLOAD_ROWS = 2**16
"""Rows of features that are copied to a device at a time."""

BOXES = 2**12
"""Crops whose boxes are computed at a time, for several steps of a fit."""

TRAINING_SHARE = 0.5
"""Share of the free room that training views take, so that evaluation views find some."""


@runtime_checkable
class ViewSource(Protocol):
    """The views of one split on a device; the numbers of features do not depend on the device."""

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``mps``."""
        ...

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
        """The batch of each step of a fit, in order; no step waits for the host."""
        ...


@dataclass(frozen=True, eq=False)
class Views:
    """Banked features of one split: ``banked[view][row]``; all views have the same shape and type.

    On the CPU they are read from the arrays. On another device all views are one table there, uploaded once a worker;
    where it does not fit, batches are gathered on the host.

    Attributes:
        banked: of each view, which may be memory-mapped.
        device: of the batches.
        key: content address of the arrays, by which trials of a worker share a table; empty for a table that only this
            object reads.
        held: what the worker holds on the device; by default that of the process.
        row_map: from the rows of the split to those of the arrays; None where they are the same.
    """

    banked: tuple[np.ndarray, ...]
    device: str = "cpu"
    key: str = ""
    held: Held | None = None
    row_map: RowMap | None = None

    def __len__(self) -> int:
        return len(self.banked)

    @property
    def n_rows(self) -> int:
        return len(self.banked[0]) if self.row_map is None else len(self.row_map)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.banked[0].shape[1:]

    @property
    def arrays(self) -> tuple[np.ndarray | Gathered, ...]:
        """The features of all rows in each view, without a copy."""
        if self.row_map is None:
            return self.banked
        return tuple(Gathered(self.banked, self.row_map, view) for view in range(len(self)))

    def _located(self, rows: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows and views of the arrays that these are."""
        return (rows, views) if self.row_map is None else self.row_map.banked(rows, views, len(self))

    @cached_property
    def _key(self) -> Hashable:
        return "features", self.key or object()

    def _table(self) -> Tensor | None:
        """The features of all (view, row)s on the device, view by view; None where they stay on the host."""
        if self.device == "cpu":
            return None
        held = self.held or held_on(self.device)
        return held.get(self._key, self, len(self) * self.banked[0].nbytes, lambda: self._uploaded(held.device))

    def _uploaded(self, device: torch.device) -> Tensor:
        first, n = torch.from_numpy(np.array(self.banked[0][:1])), len(self.banked[0])
        out = torch.empty((len(self) * n, *self.shape), dtype=first.dtype, device=device)
        for view, array in enumerate(self.banked):
            for start in range(0, n, UPLOAD_ROWS):
                rows = np.array(array[start : start + UPLOAD_ROWS])
                begin = view * n + start
                out[begin : begin + len(rows)] = upload(rows, device)
        return out

    def gather(self, rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]) -> Tensor:
        """The array of each (row, view), copied into one batch."""
        table = self._table()
        rows, views = self._located(rows, views)
        if table is None:
            return upload(gathered(self.banked, rows, views), torch.device(self.device))
        return table.index_select(0, upload(views * len(self.banked[0]) + rows, table.device))

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Tensor]:
        """The batch of each step of a fit, in order."""
        table = self._table()
        rows, views = self._located(rows, views)
        if table is None:
            device = torch.device(self.device)
            return (upload(batch, device) for batch in map(partial(gathered, self.banked), rows, views))
        indices = upload(views * len(self.banked[0]) + rows, table.device)
        return (table.index_select(0, step) for step in indices)


@dataclass(frozen=True, eq=False)
class RenderedViews:
    """Pixels of the views of one split, rendered from its images.

    On the CPU torchvision renders them, each (row, view) once a worker while they fit into its memory. Another device
    renders them in batches (``activekd.images.batched``) from decoded images that it holds, or that host threads copy
    there ahead of each step where they do not fit; evaluation views stay there once rendered, as many as fit. Nothing
    of this changes the pixels on one kind of device.

    Attributes:
        images: images of the split.
        geometry: geometry of the views.
        size: side of a view in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
        device: of the batches.
        held: what the worker holds on the device; by default that of the process.
    """

    images: Images
    geometry: ViewGeometry
    size: int
    interpolation: str
    device: str = "cpu"
    held: Held | None = None

    @property
    def n_rows(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        return 3, self.size, self.size

    @cached_property
    def _memory(self) -> Held:
        return self.held or held_on(self.device)

    @cached_property
    def _evaluation(self) -> Slab:
        """The views 0 that are kept."""
        return self._slab(1, self.n_rows, None, self._memory.room())

    @cached_property
    def _training(self) -> Slab:
        """The other views that are kept, on the CPU."""
        count = self.geometry.count
        return self._slab(count, self.n_rows * (count - 1), self.geometry, int(self._memory.room() * TRAINING_SHARE))

    def _slab(self, n_views: int, n: int, geometry: ViewGeometry | None, room: int) -> Slab:
        n_bytes = 3 * self.size**2
        capacity = min(n, room // n_bytes)
        key = ("views", self.images.fingerprint, self.size, self.interpolation, geometry)
        slab = self._memory.get(key, self, capacity * n_bytes, lambda: self._new_slab(n_views, capacity))
        # Another process may have taken the room meanwhile.
        return self._new_slab(n_views, 0) if slab is None else slab

    def _new_slab(self, n_views: int, capacity: int) -> Slab:
        return Slab(self.n_rows, n_views, capacity, self.shape, self._memory.device)

    def gather(
        self, rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]
    ) -> UInt8[Tensor, "batch 3 size size"]:
        """The pixels of each (row, view)."""
        evaluated = views == 0
        if evaluated.all():
            return self._evaluation.gather(rows, views, self._rendered)
        if evaluated.any():
            out = torch.empty((len(rows), *self.shape), dtype=torch.uint8, device=self._memory.device)
            for chosen in (np.flatnonzero(evaluated), np.flatnonzero(~evaluated)):
                out[upload(chosen, out.device)] = self.gather(rows[chosen], views[chosen])
            return out
        if self.device == "cpu":
            return self._training.gather(rows, views, self._rendered)
        return self._rendered(rows, views)

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Tensor]:
        """The batch of each step of a fit, in order."""
        if self.device == "cpu" or not views.all():
            return map(self.gather, rows, views)
        return self._rendered_on_device(rows, views)

    def _rendered(self, rows: np.ndarray, views: np.ndarray) -> Tensor:
        if self.device == "cpu":
            return render(self.images, rows, views, self.geometry, size=self.size, interpolation=self.interpolation)
        (out,) = self._rendered_on_device(rows[None], views[None])
        return out

    def _rendered_on_device(self, rows: np.ndarray, views: np.ndarray) -> Iterator[Tensor]:
        """The batch of each step, rendered from images that the device holds, or that are copied there ahead."""
        memory, dtype = self._memory, working_type(self._memory.device)
        sources = zip(rows, self._boxes(rows, views), self._pixels(rows, views), strict=True)
        for step, (some, (boxes, mirrored), (pixels, starts)) in enumerate(sources):
            crops = crops_of(starts, self.images.shapes[some], boxes, mirrored)
            if step == 0:
                memory.require(peak_bytes(crops, self.size, dtype), f"rendering {len(some)} images at {self.size} px")
            yield render_crops(pixels, crops, size=self.size, interpolation=self.interpolation)

    def _boxes(self, rows: np.ndarray, views: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Crops and flips of each step, computed for several steps at a time."""
        steps, batch = rows.shape
        at_a_time = max(1, BOXES // batch)
        for first in range(0, steps, at_a_time):
            some = rows[first : first + at_a_time].ravel()
            of_some = views[first : first + at_a_time].ravel()
            boxes, mirrored = view_boxes(some, of_some, self.images.shapes[some], self.geometry)
            yield from zip(boxes.reshape(-1, batch, 4), mirrored.reshape(-1, batch), strict=True)

    def _pixels(self, rows: np.ndarray, views: np.ndarray) -> Iterator[Packed]:
        """The decoded images of each step on the device, and where each begins.

        Images that are read once, for evaluation views that are all kept, are not held.
        """
        memory, images, threads = self._memory, self.images, torch.get_num_threads()
        key = ("images", images.fingerprint)
        held = memory.find(key, self)
        if held is None and (views.any() or self._evaluation.capacity < self.n_rows):
            upload_all = partial(upload_images, images, memory.device, threads=threads)
            held = memory.get(key, self, images.n_bytes, upload_all)
        if held is not None:
            return ((held, images.offsets[some] // 3) for some in rows)
        largest = 3 * int(images.shapes[rows].prod(axis=2).sum(axis=1).max())
        memory.require(largest, f"a batch of {rows.shape[1]} decoded images")
        return stream(images, rows, memory.device, threads=threads)


@dataclass(frozen=True, eq=False)
class MappedViews:
    """The views of a split whose rows are rows of another one.

    Attributes:
        source: views of the other split.
        row_map: from the rows to those of the other split.
        n_views: views of a row of the other split.
    """

    source: ViewSource
    row_map: RowMap
    n_views: int

    @property
    def device(self) -> str:
        return self.source.device

    @property
    def n_rows(self) -> int:
        return len(self.row_map)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def gather(self, rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]) -> Tensor:
        """The array of each (row, view)."""
        return self.source.gather(*self.row_map.banked(rows, views, self.n_views))

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Tensor]:
        """The batch of each step of a fit, in order."""
        return self.source.batches(*self.row_map.banked(rows, views, self.n_views))
