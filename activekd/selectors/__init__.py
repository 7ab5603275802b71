"""The query strategies by name: each maps a PoolView and a query size to the rows whose labels to buy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from activekd.errors import InputError, unknown
from activekd.pool import NEEDS, Need, PoolView
from activekd.selectors.badge import badge, badge_released
from activekd.selectors.balanced import classbalanced
from activekd.selectors.compose import parse_wrapper
from activekd.selectors.kcenter import (
    coreset,
    coreset_euclidean,
    pcoreset,
    pcoreset_nearest,
    pcoreset_uncertain,
    teacher_pcoreset,
)
from activekd.selectors.typical import maxherding, typiclust
from activekd.selectors.uncertainty import SCORES, by_score, random

ENTRY_POINTS = "activekd.selectors"
SUM_TOLERANCE = 1e-3
SHOWN = 5
CHUNK = 65536


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
        ValueError: arrays that no selector can use (another shape, values that are not finite, probabilities that do
            not sum to 1), or a selector that broke its contract (wrong count or type, a row twice, a labeled row).
    """
    unlabeled = view.pool.unlabeled
    if not 1 <= query_size <= len(unlabeled):
        raise InputError(
            f"query size {query_size} from {len(unlabeled)} unlabeled images; allowed: 1 to {len(unlabeled)}"
        )
    view = replace(view, arrays={name: array.float() for name, array in view.arrays.items()})
    for fault in _view_faults(view):
        raise ValueError(f"selector '{selector.name}': {fault}")
    found = np.asarray(selector.query(view, query_size, rng=rng))
    wanted = f"selector '{selector.name}' must return {query_size} distinct unlabeled rows"
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"{wanted} as integers, got {found.dtype}")
    if found.shape != (query_size,):
        raise ValueError(f"{wanted}, got an array of shape {found.shape}: {found}")
    rows = found.astype(np.int64)
    once, times = np.unique(rows, return_counts=True)
    for what, bad in (
        ("rows outside of the pool", rows[(rows < 0) | (rows >= view.pool.n)]),
        ("labeled rows", rows[np.isin(rows, np.asarray(view.pool.labeled))]),
        ("rows more than once", once[times > 1]),
    ):
        if len(bad):
            raise ValueError(f"{wanted}, got {len(bad)} {what}: {bad[:SHOWN].tolist()}")
    return rows


def _view_faults(view: PoolView) -> list[str]:
    faults = []
    for name, array in view.arrays.items():
        width = array.shape[1] if array.ndim == 2 else None
        if array.ndim != 2 or len(array) != view.pool.n or (name != "features" and width != view.n_classes):
            columns = "any" if name == "features" else view.n_classes
            faults.append(f"{name} have shape {tuple(array.shape)}; allowed: ({view.pool.n}, {columns})")
            continue
        sums = torch.cat([array[start : start + CHUNK].sum(dim=1) for start in range(0, len(array), CHUNK)])
        bad = torch.nonzero(~sums.isfinite()).squeeze(1)
        if len(bad):
            faults.append(f"{name} are not finite in {len(bad)} rows: {bad[:SHOWN].tolist()}")
        elif name != "features" and len(odd := torch.nonzero((sums - 1).abs() > SUM_TOLERANCE).squeeze(1)):
            faults.append(f"{name} do not sum to 1 in {len(odd)} rows: {odd[:SHOWN].tolist()}")
    return faults


@lru_cache(maxsize=256)
def selector(name: str) -> Selector:
    """The selector of that name.

    A key of SELECTORS; ``top:SCORE:M|NAME`` or ``parts:K|NAME``, a wrapper around another; ``MODULE:OBJECT``, a
    ``Selector`` of the user's own; or the name of an entry point in the group ``activekd.selectors``.

    Raises:
        InputError: no selector has that name, or the object is no Selector.
    """
    wrapper, bar, inner = name.partition("|")
    if bar:
        wrapped, score = parse_wrapper(wrapper)
        base = selector(inner)
        return Selector(name, wrapped(base.query), base.needs | (SCORE_NEEDS[score] if score else frozenset()))
    if name in SELECTORS:
        return SELECTORS[name]
    if ":" in name:
        return _own(name, *name.split(":", 1))
    installed = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in installed:
        return _checked(name, installed[name].load())
    raise unknown("selector", name, [*SELECTORS, *installed, "MODULE:OBJECT", "top:SCORE:M|NAME", "parts:K|NAME"])


def _own(name: str, module: str, attribute: str) -> Selector:
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as fault:
        raise InputError(f"selector '{name}': {fault}; allowed: MODULE:OBJECT that Python can import") from fault
    return _checked(name, found)


def _checked(name: str, found: Any) -> Selector:
    if not isinstance(found, Selector):
        raise InputError(f"selector '{name}' is {type(found).__name__}; allowed: an activekd.selectors.Selector")
    strange = sorted(set(found.needs) - set(NEEDS))
    if strange:
        raise InputError(f"selector '{name}' needs {', '.join(strange)}; allowed: {', '.join(NEEDS)}")
    return Selector(name, found.query, found.needs)


STUDENT: frozenset[Need] = frozenset({"student_probabilities"})
TEACHER: frozenset[Need] = frozenset({"teacher_probabilities"})
FEATURES: frozenset[Need] = frozenset({"features"})

SCORE_NEEDS: dict[str, frozenset[Need]] = {
    "entropy": STUDENT,
    "margin": STUDENT,
    "least_confidence": STUDENT,
    "teacher_entropy": TEACHER,
    "disagreement": STUDENT | TEACHER,
}

SELECTORS: dict[str, Selector] = {
    s.name: s
    for s in (
        Selector("random", random, frozenset()),
        *(Selector(name, by_score(score), SCORE_NEEDS[name]) for name, score in SCORES.items()),
        Selector("coreset", coreset, FEATURES),
        Selector("coreset_euclidean", coreset_euclidean, FEATURES),
        Selector("badge", badge, STUDENT | FEATURES),
        Selector("badge_released", badge_released, STUDENT | FEATURES),
        Selector("classbalanced", classbalanced, STUDENT),
        Selector("typiclust", typiclust, FEATURES),
        Selector("maxherding", maxherding, FEATURES),
        Selector("pcoreset", pcoreset, STUDENT),
        Selector("pcoreset_uncertain", pcoreset_uncertain, STUDENT),
        Selector("pcoreset_nearest", pcoreset_nearest, STUDENT),
        Selector("teacher_pcoreset", teacher_pcoreset, TEACHER),
    )
}
