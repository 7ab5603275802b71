"""Wrappers around selectors: a query among the top rows of a score, or on random parts of the pool."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int64

from activekd.errors import InputError, unknown
from activekd.pool import UNLABELED, Pool
from activekd.selectors.selector import SCORE_NEEDS, Selector


@dataclass(frozen=True)
class Prefiltered:
    """A query among the unlabeled rows with the largest scores.

    Attributes:
        inner: the wrapped selector.
        score: a key of SCORE_NEEDS.
        most: number of unlabeled rows that it sees, raised to the query size; it sees all labeled rows.
    """

    inner: Selector
    score: str
    most: int

    def __call__(self, view: Any, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        from activekd.selectors.uncertainty import SCORES, largest, scores

        unlabeled = view.pool.unlabeled
        most = min(len(unlabeled), max(self.most, query_size))
        top = largest(scores(view, SCORES[self.score]), unlabeled, most)
        return _among(self.inner, view, np.sort(top), query_size, rng)


@dataclass(frozen=True)
class Partitioned:
    """One query on each of several random parts of the unlabeled rows, for an equal share of the query size.

    Citovsky et al. (2021) and Coleman et al. (2022) partition a pool to bound the cost of a strategy. Each query sees
    all labeled rows.

    Attributes:
        inner: the wrapped selector.
        parts: number of parts, reduced to the query size.
    """

    inner: Selector
    parts: int

    def __call__(self, view: Any, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        n = min(self.parts, query_size)
        shuffled = rng.permutation(view.pool.unlabeled)
        shares = [len(share) for share in np.array_split(np.arange(query_size), n)]
        pieces = np.array_split(shuffled, n)
        picks = [_among(self.inner, view, np.sort(rows), k, rng) for rows, k in zip(pieces, shares, strict=True)]
        return np.concatenate(picks)


def _among(
    inner: Selector, view: Any, rows: Int64[np.ndarray, " rows"], query_size: int, rng: np.random.Generator
) -> np.ndarray:
    """The picks of a selector from a pool of these unlabeled rows and all labeled rows."""
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    seen = np.sort(np.concatenate([labeled, rows]))
    place = np.full(view.pool.n, UNLABELED, dtype=np.int64)
    place[seen] = np.arange(len(seen))
    index = view.at(seen)
    small = replace(
        view,
        pool=Pool(len(seen), tuple(place[labeled].tolist())),
        labels=view.labels[seen],
        arrays={name: array[index] for name, array in view.arrays.items()},
    )
    return seen[inner.function(small, query_size, rng=rng)]


def wrapped(name: str, wrapper: str, inner: Selector) -> Selector:
    """The selector ``WRAPPER|INNER``, where the wrapper is ``top:SCORE:M`` or ``parts:K``.

    Raises:
        InputError: the wrapper is malformed, the score is unknown, or a number is not positive.
    """
    kind, *rest = wrapper.split(":")
    if kind == "top" and len(rest) == 2:
        score, number = rest
        if score not in SCORE_NEEDS:
            raise unknown(f"score in '{wrapper}'", score, SCORE_NEEDS)
        return Selector(name, Prefiltered(inner, score, _positive(wrapper, number)), inner.needs | SCORE_NEEDS[score])
    if kind == "parts" and len(rest) == 1:
        return Selector(name, Partitioned(inner, _positive(wrapper, rest[0])), inner.needs)
    raise InputError(f"wrapper '{wrapper}'; expected: top:SCORE:M or parts:K, as in top:entropy:5000|pcoreset")


def _positive(wrapper: str, number: str) -> int:
    if not (number.isdecimal() and int(number) > 0):
        raise InputError(f"wrapper '{wrapper}': number '{number}'; expected: a whole number, at least 1")
    return int(number)
