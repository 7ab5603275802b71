"""The partition of train rows into labeled rows, wasted labels and unlabeled rows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int64

UNLABELED = -1
"""Label of an unlabeled row in an array of labels."""

NO_CLASS = -1
"""Label of an image of no class: its label is paid for and stays unknown."""


@dataclass(frozen=True)
class Pool:
    """The labeled and unlabeled rows of a train split, and those whose labels were wasted.

    Attributes:
        n: rows of the train split.
        labeled: the labeled rows in order of purchase.
        wasted: rows that were bought and turned out to be of no class, in order of purchase; neither labeled nor
            unlabeled.

    Raises:
        ValueError: a row is bought twice or lies outside the pool.
    """

    n: int
    labeled: tuple[int, ...] = ()
    wasted: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        bought = self.labeled + self.wasted
        if len(set(bought)) != len(bought):
            raise ValueError("a row is labeled twice; expected: distinct rows")
        outside = [row for row in bought if not 0 <= row < self.n]
        if outside:
            raise ValueError(f"rows {outside[:5]} are outside of the pool; expected: 0 to {self.n - 1}")

    @property
    def n_bought(self) -> int:
        """Labels that are paid for, the wasted ones included."""
        return len(self.labeled) + len(self.wasted)

    @cached_property
    def unlabeled(self) -> Int64[np.ndarray, " unlabeled"]:
        """The unlabeled rows, ascending."""
        mask = np.ones(self.n, dtype=bool)
        mask[list(self.labeled)] = False
        mask[list(self.wasted)] = False
        return np.flatnonzero(mask)

    def buy(self, rows: Sequence[SupportsIndex], wasted: Collection[int] = ()) -> "Pool":
        """The pool after the labels of these rows are revealed.

        Args:
            rows: in order of purchase.
            wasted: those of them that turn out to be of no class.

        Raises:
            TypeError: a row is not a whole number.
            ValueError: a row is bought already, occurs twice or lies outside the pool.
        """
        new, none = [index(row) for row in rows], frozenset(wasted)
        return Pool(
            self.n,
            (*self.labeled, *(row for row in new if row not in none)),
            (*self.wasted, *(row for row in new if row in none)),
        )
