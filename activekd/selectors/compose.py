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
        most: number of unlabeled rows that it sees, more than a query picks; it sees all labeled rows.
    """

    inner: Selector
    score: str
    most: int

    def __call__(self, view: Any, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        from activekd.selectors.uncertainty import SCORES, largest, scores

        unlabeled = view.pool.unlabeled
        for fault in self.faults(query_size, len(unlabeled)):
            raise InputError(fault)
        top = largest(scores(view, SCORES[self.score]), unlabeled, min(len(unlabeled), max(self.most, query_size)))
        return _among(self.inner, view, np.sort(top), query_size, rng)

    def faults(self, query_size: int, n_unlabeled: int) -> list[str]:
        """Why a query of this size from this number of rows is impossible: the score alone would decide it."""
        if self.most <= query_size < n_unlabeled:
            return [
                f"'{self.inner.name}' sees {self.most} images for a query of {query_size}, so '{self.score}' alone "
                f"decides; expected: more than {query_size} images in top:{self.score}:{self.most}"
            ]
        return query_faults(self.inner, query_size, min(n_unlabeled, self.most))


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

    def faults(self, query_size: int, n_unlabeled: int) -> list[str]:
        """Why a query of this size from this number of rows is impossible."""
        n = min(self.parts, query_size)
        return query_faults(self.inner, -(-query_size // n), -(-n_unlabeled // n))


def query_faults(selector: Selector, query_size: int, n_unlabeled: int) -> list[str]:
    """Why a selector cannot answer a query of this size from this number of unlabeled rows; empty where it can.

    Wrappers alone have limits; the messages end in what is expected.
    """
    query = selector.query
    return query.faults(query_size, n_unlabeled) if isinstance(query, Prefiltered | Partitioned) else []


def _among(
    inner: Selector, view: Any, rows: Int64[np.ndarray, " rows"], query_size: int, rng: np.random.Generator
) -> np.ndarray:
    """The picks of a selector from a pool of these unlabeled rows and all labeled rows."""
    from activekd.selectors.query import checked_rows

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
        truth=None if view.truth is None else view.truth[seen],
    )
    return seen[checked_rows(inner, inner.function(small, query_size, rng=rng), small, query_size)]


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
