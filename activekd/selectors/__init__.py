"""The query strategies by name: each maps a PoolView and a query size to the rows whose labels to buy."""

from functools import lru_cache

from activekd.errors import unknown
from activekd.pool import Need
from activekd.selectors.badge import badge, badge_released
from activekd.selectors.balanced import classbalanced
from activekd.selectors.compose import parse_wrapper
from activekd.selectors.contract import check
from activekd.selectors.kcenter import (
    coreset,
    coreset_euclidean,
    pcoreset,
    pcoreset_nearest,
    pcoreset_uncertain,
    teacher_pcoreset,
)
from activekd.selectors.own import code_fingerprint, from_entry_point, from_module, installed
from activekd.selectors.query import Selector, select
from activekd.selectors.typical import maxherding, typiclust
from activekd.selectors.uncertainty import SCORES, by_score, random

__all__ = ["SELECTORS", "Selector", "check", "own_code", "select", "selector"]


@lru_cache(maxsize=256)
def selector(name: str) -> Selector:
    """The selector of that name.

    A key of SELECTORS; ``top:SCORE:M|NAME`` or ``parts:K|NAME``, a wrapper around another; ``MODULE:OBJECT``, a
    function or ``Selector`` of the user's own; or the name of an entry point in the group ``activekd.selectors``.

    Raises:
        InputError: no selector has that name, or the object is none.
    """
    wrapper, bar, inner = name.partition("|")
    if bar:
        wrapped, score = parse_wrapper(wrapper)
        base = selector(inner)
        return Selector(name, wrapped(base.query), base.needs | (SCORE_NEEDS[score] if score else frozenset()))
    if name in SELECTORS:
        return SELECTORS[name]
    if ":" in name:
        return from_module(name)
    if name in installed():
        return from_entry_point(name)
    raise unknown("selector", name, [*SELECTORS, *installed(), "MODULE:OBJECT", "top:SCORE:M|NAME", "parts:K|NAME"])


def own_code(name: str) -> str | None:
    """Hash of the code of a selector of the user's own, also inside of a wrapper; None for those of SELECTORS."""
    innermost = name.rpartition("|")[2]
    return None if innermost in SELECTORS else code_fingerprint(selector(innermost))


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
