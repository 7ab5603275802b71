"""A user's selectors: resolved from a module or an entry point, and checked."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args

from activekd.errors import InputError
from activekd.selectors.selector import NEEDS, Need, Selector

ENTRY_POINTS = "activekd.selectors"
UNDECLARED: frozenset[Need] = frozenset({"student_probabilities", "features"})
"""Needs of a function that declares none: the arrays that every trial has."""


def installed() -> Mapping[str, EntryPoint]:
    """The entry points of installed packages in the group ENTRY_POINTS, by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def from_entry_point(name: str) -> Selector:
    """The selector of an installed package.

    Raises:
        InputError: the entry point cannot be imported, or its object is not a selector.
    """
    point = installed()[name]
    try:
        loaded = point.load()
    except Exception as fault:
        raise InputError(
            f"selector '{name}': {type(fault).__name__}: {fault}; expected: an entry point of the group {ENTRY_POINTS} "
            f"that Python can import"
        ) from fault
    return as_selector(name, loaded)


def from_module(name: str) -> Selector:
    """The selector ``MODULE:OBJECT``; the module is imported, so its code runs.

    Raises:
        InputError: the object cannot be imported, or is not a selector.
    """
    module, _, attribute = name.partition(":")
    try:
        loaded = getattr(import_module(module), attribute)
    except Exception as fault:
        reason = f"{type(fault).__name__}: {fault}"
        raise InputError(f"selector '{name}': {reason}; expected: MODULE:OBJECT that Python can import") from fault
    return as_selector(name, loaded)


def as_selector(name: str, found: Any) -> Selector:
    """The selector of a ``Selector`` or a function, under the name of the spec.

    A function declares its needs as the attribute ``needs``; UNDECLARED is the default.

    Args:
        name: the name in the spec.
        found: the ``Selector`` or the function.

    Raises:
        InputError: the object is neither, or declares unknown needs.
    """
    if not (isinstance(found, Selector) or callable(found)) or inspect.isclass(found):
        raise InputError(
            f"selector '{name}' is {getattr(found, '__name__', type(found).__name__)}; "
            f"expected: a function (view, query_size, *, rng) or an activekd.selectors.Selector"
        )
    query: Any = found.query if isinstance(found, Selector) else found
    given = getattr(found, "needs", UNDECLARED)
    needs = frozenset([given] if isinstance(given, str) else given)
    strange = sorted(needs - set(NEEDS))
    if strange:
        raise InputError(f"selector '{name}' needs {', '.join(strange)}; expected: {', '.join(NEEDS)}")
    return Selector(name, query, frozenset(need for need in get_args(Need) if need in needs))


def origins(name: str, query: Any) -> list[tuple[str, str]]:
    """The module and the name in it of a user's selector; of its query function too where that is given by name.

    Args:
        name: ``MODULE:OBJECT`` or an entry point.
        query: the query of the resolved selector.
    """
    named = [name if ":" in name else installed()[name].value, *([query] if isinstance(query, str) else [])]
    return [_place(value.partition("[")[0].strip()) for value in named]


def _place(value: str) -> tuple[str, str]:
    """``MODULE:OBJECT`` or ``MODULE.OBJECT`` as a module and a name."""
    module, _, attribute = value.partition(":") if ":" in value else value.rpartition(".")
    return module, attribute
