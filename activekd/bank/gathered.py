"""Views of a data set with conditions: rows of the bank of its base, of which only what is read is copied."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from activekd.datasets.row_map import RowMap


def gathered(
    arrays: Sequence[np.ndarray], rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]
) -> Shaped[np.ndarray, "batch ..."]:
    """``arrays[view][row]`` of each (row, view), copied into one batch."""
    first = arrays[0]
    out = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
    for view in np.unique(views):
        chosen = views == view
        out[chosen] = arrays[view][rows[chosen]]
    return out


@dataclass(frozen=True, eq=False)
class Gathered:
    """One view of the rows of a split, where each is a row of a bank; an index copies what it reads.

    Attributes:
        arrays: of each view of the bank.
        row_map: from rows of the split to those of the bank.
        view: of the rows.
    """

    arrays: tuple[np.ndarray, ...]
    row_map: RowMap
    view: int = 0

    def __len__(self) -> int:
        return len(self.row_map)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.arrays[0].shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.arrays[0].dtype

    def __getitem__(self, index: slice | Int64[np.ndarray, " some"]) -> Shaped[np.ndarray, "some ..."]:
        rows = np.arange(len(self))[index]
        views = np.full(len(rows), self.view, dtype=np.int64)
        return gathered(self.arrays, *self.row_map.banked(rows, views, len(self.arrays)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows of a bank as one array; expected: a copy")
        return self[:].astype(dtype or self.dtype, copy=False)
