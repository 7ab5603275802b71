"""Query strategies by name. Names resolve without torch; a strategy's module is imported on its first query."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from activekd.errors import Faults, InputError, unknown
from activekd.recipes import NO_TEACHER
from activekd.selectors.compose import FORMS, parted, plain_names, query_faults, wrapped
from activekd.selectors.fingerprint import code_fingerprint
from activekd.selectors.own import from_entry_point, from_module, installed, origins
from activekd.selectors.selector import (
    FEATURES,
    HEAD,
    NEEDS,
    OF_TEACHER,
    SCORE_NEEDS,
    STUDENT,
    TEACHER,
    TEACHER_FEATURES,
    TRUTH,
    Need,
    Selector,
)

__all__ = [
    "NEEDS",
    "SELECTORS",
    "Need",
    "Selector",
    "check",
    "check_untaught",
    "own_code",
    "plain_names",
    "query_faults",
    "selector",
]


@lru_cache(maxsize=256)
def selector(name: str) -> Selector:
    """The selector of that name.

    Names are keys of SELECTORS; wrappers around other selectors, in the forms of ``compose.FORMS``; ``MODULE:OBJECT``,
    a user's function or ``Selector``; or entry points in the group ``activekd.selectors``.

    Raises:
        InputError: no selector has that name, or the object is not a selector; of a wrapper, all such names at once.
    """
    if "|" in name:
        wrapper, names = parted(name)
        faults = Faults()
        inner = faults.resolve(names, selector)
        faults.refuse()
        return wrapped(name, wrapper, *(inner[each] for each in names))
    if name in SELECTORS:
        return SELECTORS[name]
    if ":" in name:
        return from_module(name)
    if name in installed():
        return from_entry_point(name)
    raise unknown("selector", name, [*SELECTORS, *installed(), "MODULE:OBJECT", *FORMS.values()])


def own_code(name: str) -> str | None:
    """Fingerprint of the code of a user's selectors, also inside wrappers; None where all are those of SELECTORS.

    ``activekd.selectors.fingerprint.code_fingerprint`` lists what it covers.
    """
    own = [each for each in dict.fromkeys(plain_names(name)) if each not in SELECTORS]
    roots = [root for each in own for root in origins(each, selector(each).query)]
    return code_fingerprint(*roots) if roots else None


def check_untaught(chosen: Selector) -> None:
    """Check that a selector needs no teacher.

    Raises:
        InputError: it reads what only a teacher has.
    """
    if read := sorted(chosen.needs & OF_TEACHER):
        raise InputError(
            f"selector '{chosen.name}' reads {', '.join(read)}; expected: a teacher other than '{NO_TEACHER}'"
        )


def check(selector: Selector | Callable[..., Any]) -> None:
    """Check a selector against its contract; ``activekd.selectors.contract.check`` lists the promises.

    Raises:
        InputError: the object is not a selector.
        ValueError: the selector broke the contract; the message lists every breach.
    """
    from activekd.selectors import contract

    contract.check(selector)


_MODULES = "activekd.selectors"

SELECTORS: dict[str, Selector] = {
    name: Selector(name, f"{_MODULES}.{function}", needs)
    for name, function, needs in (
        ("random", "uncertainty:random", frozenset()),
        *((name, f"uncertainty:by_{name}", needs) for name, needs in SCORE_NEEDS.items()),
        ("coreset", "kcenter:coreset", FEATURES),
        ("coreset_euclidean", "kcenter:coreset_euclidean", FEATURES),
        ("badge", "badge:badge", STUDENT | FEATURES),
        ("badge_released", "badge:badge_released", STUDENT | FEATURES),
        ("classbalanced", "balanced:classbalanced", STUDENT),
        ("typiclust", "typical:typiclust", FEATURES),
        ("maxherding", "herding:maxherding", FEATURES),
        ("uherding", "herding:uherding", STUDENT | FEATURES),
        ("probcover", "covering:probcover", FEATURES),
        ("dcom", "covering:dcom", STUDENT | FEATURES),
        ("cbs", "gaussians:cbs", FEATURES),
        ("pcoreset", "kcenter:pcoreset", STUDENT),
        ("pcoreset_uncertain", "kcenter:pcoreset_uncertain", STUDENT),
        ("pcoreset_nearest", "kcenter:pcoreset_nearest", STUDENT),
        ("teacher_pcoreset", "kcenter:teacher_pcoreset", TEACHER),
        ("falcun", "falcun:falcun", STUDENT),
        ("tfs", "classwise:tfs", STUDENT),
        ("pcb", "classwise:pcb", STUDENT),
        ("direct", "thresholds:direct", STUDENT),
        ("galaxy", "thresholds:galaxy", STUDENT),
        ("dropquery", "mixing:dropquery", FEATURES | HEAD),
        ("alfamix", "mixing:alfamix", FEATURES | HEAD),
        ("bait", "fisher:bait", STUDENT | FEATURES),
        ("cec", "neighbours:cec", TEACHER | TEACHER_FEATURES),
        ("ccma", "conformal:ccma", STUDENT | TEACHER | FEATURES),
        ("boss", "oracle:boss", STUDENT | FEATURES | TRUTH),
    )
}
"""The query strategies of this package."""
