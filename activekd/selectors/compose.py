"""Wrappers around selectors: a query among the top rows of a score, on random parts, in stages, or after filtering."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from activekd.errors import InputError, unknown
from activekd.selectors.selector import SCORE_NEEDS, Need, Selector

FORMS = {
    "top": "top:SCORE:M|NAME",
    "parts": "parts:K|NAME",
    "switch": "switch:R|A|B",
    "refine": "refine:LEVELS:A+B+...|NAME",
}
"""How each wrapper is written, by its kind."""

EXAMPLES = "top:entropy:5000|pcoreset, parts:4|badge, switch:3|typiclust|margin or refine:2:margin+badge|maxherding"

REFINE_BATCHES = 10
"""Batches that each strategy of ``refine`` proposes on a level."""

REFINE_SHARE, REFINE_ROWS = 0.4, 5000
"""The random subset of a batch of ``refine``: this share of the pool of its level, at most this number of rows."""


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


@dataclass(frozen=True)
class Switched:
    """TCM (Doucet et al. 2024): one strategy in the first rounds, another one from a round on.

    Departures: the round is given, and so are the strategies, which are TypiClust and margin sampling in the paper.

    Attributes:
        first: asked in rounds with an index below ``start``.
        then: asked in all later rounds.
        start: number of a round, from 0 on.
    """

    first: Selector
    then: Selector
    start: int

    def __call__(self, view: Any, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        from activekd.selectors.query import checked_rows

        asked = self.first if view.index < self.start else self.then
        return checked_rows(asked, asked.function(view, query_size, rng=rng), view, query_size)

    def faults(self, query_size: int, n_unlabeled: int) -> list[str]:
        """Why a query of this size from this number of rows is impossible."""
        return [fault for each in (self.first, self.then) for fault in query_faults(each, query_size, n_unlabeled)]


@dataclass(frozen=True)
class Refined:
    """Refine (Huseljic et al. 2026): a query inside what several strategies pick from random subsets, levels deep.

    On each level every strategy picks REFINE_BATCHES batches of the query size, each from a random subset of the
    level's pool; the union of all picks is the pool of the next level. A last strategy then picks inside the last
    union. A subset has REFINE_SHARE of the level's pool, at most REFINE_ROWS rows and at least the query size. Every
    strategy sees all labeled rows. Departures from the authors' code: REFINE_BATCHES batches of each strategy, where it
    divides 100 batches among the strategies; REFINE_SHARE of the pool on the first level too, where it takes 5,000
    rows; the union is not cut to 10,000 rows; strategies, levels (5 there) and last strategy (Uncertainty Herding
    there) are given.

    Attributes:
        strategies: they fill the unions.
        inner: it picks inside the last union.
        levels: number of levels.
    """

    strategies: tuple[Selector, ...]
    inner: Selector
    levels: int

    def __call__(self, view: Any, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        rows = view.pool.unlabeled
        for _ in range(self.levels):
            size = min(len(rows), max(query_size, min(REFINE_ROWS, int(REFINE_SHARE * len(rows)))))
            batches = [
                _among(each, view, np.sort(rng.choice(rows, size=size, replace=False)), query_size, rng)
                for each in self.strategies
                for _ in range(REFINE_BATCHES)
            ]
            rows = np.unique(np.concatenate(batches))
        return _among(self.inner, view, rows, query_size, rng)

    def faults(self, query_size: int, n_unlabeled: int) -> list[str]:
        """Why a query of this size from this number of rows is impossible."""
        every = (*self.strategies, self.inner)
        return [fault for each in every for fault in query_faults(each, query_size, n_unlabeled)]


WRAPPERS: dict[str, type[Prefiltered | Partitioned | Switched | Refined]] = {
    "top": Prefiltered,
    "parts": Partitioned,
    "switch": Switched,
    "refine": Refined,
}
"""The wrappers by kind."""


def query_faults(selector: Selector, query_size: int, n_unlabeled: int) -> list[str]:
    """Why a selector cannot answer a query of this size from this number of unlabeled rows; empty where it can.

    Wrappers alone have limits; the messages end in what is expected.
    """
    query = selector.query
    if not isinstance(query, Prefiltered | Partitioned | Switched | Refined):
        return []
    return query.faults(query_size, n_unlabeled)


def _among(
    inner: Selector, view: Any, rows: Int64[np.ndarray, " rows"], query_size: int, rng: np.random.Generator
) -> np.ndarray:
    """The picks of a selector from a pool of these unlabeled rows and all labeled rows."""
    from activekd.selectors.query import checked_rows
    from activekd.selectors.view import narrowed

    seen, small = narrowed(view, rows)
    return seen[checked_rows(inner, inner.function(small, query_size, rng=rng), small, query_size)]


def parted(name: str) -> tuple[str, list[str]]:
    """The wrapper of a name ``WRAPPER|...``, and the names of the selectors that it wraps, the last one last.

    Raises:
        InputError: a name is missing, or one that stands for a strategy alone is a wrapper.
    """
    wrapper, _, rest = name.partition("|")
    kind, _, options = wrapper.partition(":")
    if kind == "switch":
        first, _, then = rest.partition("|")
        names, alone = [first, then], [first]
    elif kind == "refine":
        alone = options.partition(":")[2].split("+")
        names = [*alone, rest]
    else:
        names, alone = [rest], []
    if not all(names):
        raise InputError(f"selector '{name}' lacks a name; expected: {FORMS.get(kind, 'WRAPPER|NAME')}")
    for each in alone:
        if each.partition(":")[0] in FORMS:
            raise InputError(
                f"selector '{name}': '{each}' is a wrapper; expected: the name of a strategy, as in {FORMS[kind]}, of "
                f"which the last name alone may have a wrapper"
            )
    return wrapper, names


def plain_names(name: str) -> list[str]:
    """The names of all strategies inside the wrappers of a name, in order; the name itself without a wrapper.

    >>> plain_names("parts:2|refine:1:margin+mine:own|switch:3|random|pcoreset")
    ['margin', 'mine:own', 'random', 'pcoreset']
    """
    if "|" not in name:
        return [name]
    return [plain for each in parted(name)[1] for plain in plain_names(each)]


def wrapped(name: str, wrapper: str, *inner: Selector) -> Selector:
    """The selector of a wrapper in FORMS around others; it reads what any of them reads.

    Args:
        name: the whole name.
        wrapper: of the name, before the first bar.
        inner: the wrapped selectors, in the order of ``parted``.

    Raises:
        InputError: the wrapper is malformed, the score is unknown, a number is not positive, or an oracle is wrapped.
    """
    if oracles := [each.name for each in inner if each.is_oracle]:
        raise InputError(
            f"selector '{name}' wraps {', '.join(oracles)}, which reads true labels; expected: strategies that do not, "
            f"and an oracle alone"
        )
    kind, *options = wrapper.split(":", 2)
    needs = frozenset[Need]().union(*(each.needs for each in inner))
    if kind == "top" and len(options) == 2:
        score, number = options
        if score not in SCORE_NEEDS:
            raise unknown(f"score in '{wrapper}'", score, SCORE_NEEDS)
        return Selector(name, Prefiltered(inner[0], score, _positive(wrapper, number)), needs | SCORE_NEEDS[score])
    if kind == "parts" and len(options) == 1:
        return Selector(name, Partitioned(inner[0], _positive(wrapper, options[0])), needs)
    if kind == "switch" and len(options) == 1 and len(inner) == 2:
        return Selector(name, Switched(*inner, _positive(wrapper, options[0])), needs)
    if kind == "refine" and len(options) == 2:
        return Selector(name, Refined(inner[:-1], inner[-1], _positive(wrapper, options[0])), needs)
    raise InputError(f"wrapper '{wrapper}'; expected: {', '.join(FORMS.values())}, as in {EXAMPLES}")


def _positive(wrapper: str, number: str) -> int:
    if not (number.isdecimal() and int(number) > 0):
        raise InputError(f"wrapper '{wrapper}': number '{number}'; expected: a whole number, at least 1")
    return int(number)
