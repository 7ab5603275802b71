"""The partition of train rows into labeled and unlabeled rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int64

UNLABELED = -1
"""Label of an unlabeled row in an array of labels."""


@dataclass(frozen=True)
class Pool:
    """The labeled and unlabeled rows of a train split.

    Attributes:
        n: rows of the train split.
        labeled: the labeled rows in order of purchase.

    Raises:
        ValueError: a row is labeled twice or lies outside the pool.
    """

    n: int
    labeled: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.labeled)) != len(self.labeled):
            raise ValueError("a row is labeled twice; expected: distinct rows")
        outside = [row for row in self.labeled if not 0 <= row < self.n]
        if outside:
            raise ValueError(f"rows {outside[:5]} are outside of the pool; expected: 0 to {self.n - 1}")

    @cached_property
    def unlabeled(self) -> Int64[np.ndarray, " unlabeled"]:
        """The unlabeled rows, ascending."""
        mask = np.ones(self.n, dtype=bool)
        mask[list(self.labeled)] = False
        return np.flatnonzero(mask)

    def buy(self, rows: Sequence[SupportsIndex]) -> "Pool":
        """The pool after the labels of these rows are revealed.

        Raises:
            TypeError: a row is not a whole number.
            ValueError: a row is labeled already, occurs twice or lies outside the pool.
        """
        return Pool(self.n, (*self.labeled, *(index(row) for row in rows)))
