"""What a worker keeps in the memory of a device from trial to trial, least recently used first out."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache, partial
from math import prod
from mmap import mmap
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from activekd.errors import InputError
from activekd.images.batched import upload

HELD_SHARE = 0.2
"""Largest share of a device's memory, of what is free or held, that a worker holds; the rest is for its networks."""

HOST_BYTES = 2**30
"""Bytes of rendered views that a worker keeps in host memory."""

UNBOUNDED = 2**62
"""Bytes that no machine has."""

T = TypeVar("T")


@dataclass
class _Entry:
    value: Any
    n_bytes: int
    users: WeakSet[Any] = field(default_factory=WeakSet)


class Held:
    """Tensors that a worker keeps on one device, by content, from trial to trial.

    An entry stays while one of its users is alive; the others leave when room is needed, the least recently used first.
    Not for several threads at a time.

    Args:
        device: of the tensors.
        free: bytes of the device's memory that are free.
        limit: bytes to hold at most; and at most HELD_SHARE of what is free or held.
    """

    def __init__(self, device: str, free: Callable[[], int], limit: int = UNBOUNDED) -> None:
        self.device = torch.device(device)
        self._free, self._limit = free, limit
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    @property
    def n_bytes(self) -> int:
        """Bytes held."""
        return sum(entry.n_bytes for entry in self._entries.values())

    def room(self) -> int:
        """Bytes that ``get`` has room for, after all entries without users have left."""
        used = sum(entry.n_bytes for entry in self._entries.values() if entry.users)
        return max(0, self._most() - used)

    def _most(self) -> int:
        return min(self._limit, int(HELD_SHARE * (self._free() + self.n_bytes)))

    def find(self, key: Hashable, user: object) -> Any:
        """The entry of this key, which ``user`` keeps for as long as it lives; None where it is absent."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        entry.users.add(user)
        return entry.value

    def get(self, key: Hashable, user: object, n_bytes: int, make: Callable[[], T]) -> T | None:
        """The entry of this key, made if it is absent; None where there is no room for it.

        Args:
            key: its content.
            user: keeps the entry for as long as it lives.
            n_bytes: of the entry.
            make: the entry.
        """
        if key not in self._entries:
            if n_bytes > self.room():
                return None
            self._make_room(lambda: self.n_bytes + n_bytes > self._most())
            self._entries[key] = _Entry(make(), n_bytes)
        return self.find(key, user)

    def require(self, n_bytes: int, what: str) -> None:
        """Check that this much memory is free; entries without users leave first.

        Raises:
            InputError: it is not.
        """
        self._make_room(lambda: n_bytes > self._free())
        if n_bytes > self._free():
            raise InputError(
                f"{what} takes {n_bytes / 1e9:,.2f} GB on {self.device}, which has {self._free() / 1e9:,.2f} GB free; "
                f"expected: a device with more free memory, fewer trials on it, or smaller batches and images"
            )

    def _make_room(self, needed: Callable[[], bool]) -> None:
        for key in [key for key, entry in self._entries.items() if not entry.users]:
            if not needed():
                return
            del self._entries[key]


@cache
def held_on(device: str) -> Held:
    """What this process holds on a device; on the CPU, rendered views alone, at most HOST_BYTES."""
    if device == "cpu":
        return Held(device, lambda: UNBOUNDED, HOST_BYTES)
    return Held(device, partial(free_bytes, device))


def free_bytes(device: str) -> int:
    """Bytes of a device's memory that this process may still use, with those that torch has reserved and not used."""
    if device == "cuda":
        (free, total), reserved = torch.cuda.mem_get_info(), torch.cuda.memory_reserved()
        share = int(torch.cuda.get_per_process_memory_fraction() * total) - reserved
        return max(0, min(free, share)) + reserved - torch.cuda.memory_allocated()
    return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()


class Slab:
    """Rendered views of one split by (row, view): the first that are asked for, each rendered once, as many as fit.

    Args:
        n_rows: rows of the split.
        n_views: views of each row.
        capacity: views that fit.
        shape: of one view.
        device: of the views.
    """

    def __init__(self, n_rows: int, n_views: int, capacity: int, shape: tuple[int, ...], device: torch.device) -> None:
        self._slots = np.full(n_rows * n_views, -1, dtype=np.int64)
        self._n_rows, self._count = n_rows, 0
        self.capacity = capacity
        whole = (capacity, *shape)
        self._pixels = (
            _untouched(whole) if device.type == "cpu" else torch.empty(whole, dtype=torch.uint8, device=device)
        )

    def gather(
        self,
        rows: Int64[np.ndarray, " batch"],
        views: Int64[np.ndarray, " batch"],
        render: Callable[[np.ndarray, np.ndarray], Tensor],
    ) -> UInt8[Tensor, "batch ..."]:
        """Each (row, view); ``render`` is called with those that are absent, each once."""
        keys = views * self._n_rows + rows
        slots = self._slots[keys]
        absent = slots < 0
        if not absent.any():
            return self._at(slots)
        if self._count == self.capacity:
            return self._beside(slots, absent, render(rows[absent], views[absent]))
        fresh = keys[absent]
        wanted, inverse = np.unique(fresh, return_inverse=True)
        distinct = len(wanted) == len(fresh)
        if distinct:
            wanted, inverse = fresh, np.arange(len(fresh))
        rendered = render(wanted % self._n_rows, wanted // self._n_rows)
        first, self._count = self._count, min(self.capacity, self._count + len(wanted))
        kept = self._count - first
        self._pixels[first : self._count] = rendered[:kept]
        self._slots[wanted[:kept]] = np.arange(first, self._count)
        if distinct and absent.all():
            return rendered
        if kept == len(wanted):
            return self._at(self._slots[keys])
        return self._beside(slots, absent, rendered[upload(inverse, rendered.device)])

    def _beside(self, slots: np.ndarray, absent: np.ndarray, rendered: Tensor) -> Tensor:
        """A batch of rendered views, where they are absent from the slab, and of its own."""
        if absent.all():
            return rendered
        out = torch.empty((len(slots), *rendered.shape[1:]), dtype=torch.uint8, device=rendered.device)
        out[upload(np.flatnonzero(absent), out.device)] = rendered
        out[upload(np.flatnonzero(~absent), out.device)] = self._at(slots[~absent])
        return out

    def _at(self, slots: np.ndarray) -> Tensor:
        return self._pixels.index_select(0, upload(slots, self._pixels.device))


def _untouched(shape: tuple[int, ...]) -> UInt8[Tensor, "..."]:
    """An array in host memory that takes none before it is written.

    Torch fills new arrays where algorithms are deterministic, and numpy asks for huge pages, which some systems have to
    gather first.
    """
    n_bytes = prod(shape)
    pages = mmap(-1, max(1, n_bytes))
    return torch.from_numpy(np.frombuffer(pages, dtype=np.uint8, count=n_bytes).reshape(shape))
