"""The query strategies by name: each maps a PoolView and a query size to the rows whose labels to buy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from activekd.errors import InputError, unknown
from activekd.pool import Need, PoolView
from activekd.selectors.badge import badge
from activekd.selectors.balanced import classbalanced
from activekd.selectors.kcenter import coreset, pcoreset
from activekd.selectors.uncertainty import entropy, random


@dataclass(frozen=True)
class Selector:
    """A query strategy with what it reads.

    Attributes:
        name: its name in specs and tables.
        query: ``(view, query_size, *, rng) -> rows``: that many distinct unlabeled rows in order of preference. Equal
            view and generator give equal rows; the view is not changed.
        needs: the arrays of the view that it reads; nothing else is computed for it.
    """

    name: str
    query: Callable[..., np.ndarray]
    needs: frozenset[Need]


def select(selector: Selector, view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """The rows that a selector asks for, checked.

    Raises:
        InputError: the query is larger than the unlabeled pool.
        ValueError: the selector broke its contract (wrong count, a row twice, a labeled row).
    """
    unlabeled = view.pool.unlabeled
    if not 1 <= query_size <= len(unlabeled):
        raise InputError(
            f"query size {query_size} from {len(unlabeled)} unlabeled images; allowed: 1 to {len(unlabeled)}"
        )
    rows = np.asarray(selector.query(view, query_size, rng=rng), dtype=np.int64)
    if rows.shape != (query_size,) or len(np.unique(rows)) != query_size or not np.isin(rows, unlabeled).all():
        raise ValueError(f"selector '{selector.name}' must return {query_size} distinct unlabeled rows, got {rows}")
    return rows


def selector(name: str) -> Selector:
    """The selector of that name.

    Raises:
        InputError: no selector has that name.
    """
    if name not in SELECTORS:
        raise unknown("selector", name, SELECTORS)
    return SELECTORS[name]


SELECTORS: dict[str, Selector] = {
    s.name: s
    for s in (
        Selector("random", random, frozenset()),
        Selector("entropy", entropy, frozenset({"student_probabilities"})),
        Selector("coreset", coreset, frozenset({"features"})),
        Selector("badge", badge, frozenset({"student_probabilities", "features"})),
        Selector("classbalanced", classbalanced, frozenset({"student_probabilities"})),
        Selector("pcoreset", pcoreset, frozenset({"student_probabilities"})),
    )
}
