"""Selectors made of selectors: look only at the top of a score, or at one part of the pool after the other."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int64

from activekd.errors import InputError, unknown
from activekd.pool import UNLABELED, Pool, PoolView
from activekd.selectors.uncertainty import SCORES, largest, scores

Query = Callable[..., np.ndarray]


def prefiltered(query: Query, score: str, most: int) -> Query:
    """The selector among the ``most`` unlabeled rows with the largest scores (or as many as are asked for)."""

    def chosen(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        unlabeled = view.pool.unlabeled
        kept = largest(scores(view, SCORES[score]), unlabeled, min(len(unlabeled), max(most, query_size)))
        return _among(query, view, np.sort(kept), query_size, rng)

    return chosen


def partitioned(query: Query, parts: int) -> Query:
    """The selector on each of so many random parts of the unlabeled rows, for an equal share of the query.

    Citovsky et al. (2021) and Coleman et al. (2022) split a pool to bound the cost of a strategy; each part sees all
    labeled rows.
    """

    def chosen(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        n = min(parts, query_size)
        shuffled = rng.permutation(view.pool.unlabeled)
        shares = [len(share) for share in np.array_split(np.arange(query_size), n)]
        pieces = np.array_split(shuffled, n)
        picks = [_among(query, view, np.sort(rows), k, rng) for rows, k in zip(pieces, shares, strict=True)]
        return np.concatenate(picks)

    return chosen


def _among(
    query: Query, view: PoolView, rows: Int64[np.ndarray, " rows"], query_size: int, rng: np.random.Generator
) -> np.ndarray:
    """What a selector picks from a pool of these unlabeled rows and all labeled ones."""
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    kept = np.sort(np.concatenate([labeled, rows]))
    place = np.full(view.pool.n, UNLABELED, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    index = view.at(kept)
    small = PoolView(
        Pool(len(kept), tuple(place[labeled].tolist())),
        view.labels[kept],
        view.n_classes,
        {name: array[index] for name, array in view.arrays.items()},
    )
    return kept[query(small, query_size, rng=rng)]


def parse_wrapper(text: str) -> tuple[Callable[[Query], Query], str | None]:
    """What ``top:SCORE:M`` or ``parts:K`` does to a selector, and the score that it reads.

    Raises:
        InputError: another form, an unknown score, or a number that is not positive.
    """
    kind, *rest = text.split(":")
    if kind == "top" and len(rest) == 2:
        score, number = rest
        if score not in SCORES:
            raise unknown(f"score in '{text}'", score, SCORES)
        most = _positive(text, number)
        return (lambda query: prefiltered(query, score, most)), score
    if kind == "parts" and len(rest) == 1:
        parts = _positive(text, rest[0])
        return (lambda query: partitioned(query, parts)), None
    raise InputError(f"wrapper '{text}'; allowed: top:SCORE:M or parts:K, as in top:entropy:5000|pcoreset")


def _positive(text: str, number: str) -> int:
    if not (number.isdecimal() and int(number) > 0):
        raise InputError(f"wrapper '{text}': number '{number}'; allowed: a whole number, at least 1")
    return int(number)
