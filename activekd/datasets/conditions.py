"""Conditions in the name of a data set: a long tail, wrong labels, left-out classes, near copies. No file is read."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from activekd.errors import InputError, unknown

DRAW = "draw"


@dataclass(frozen=True)
class Key:
    """A choice in a name.

    Attributes:
        values: pattern of its values.
        expected: its values, in words, for messages.
        meaning: one line, for lists and reports; empty for a choice that is no condition.
    """

    values: str
    expected: str
    meaning: str = ""


_NUMBER = r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{0,8}[1-9])?"
_SHARE = r"0(?:\.[0-9]{0,8}[1-9])?"

DRAW_KEY = Key("0|[1-9][0-9]{0,99}", "the number of a draw, at least 0")

CONDITIONS: dict[str, Key] = {
    "imbalance": Key(
        r"[1-9][0-9]{0,8}(?:\.[0-9]{0,8}[1-9])?",
        "a ratio of at least 1, such as 10",
        "a long tail: class sizes fall exponentially, the last class keeps 1/R of the largest one",
    ),
    "noise": Key(
        _SHARE,
        "a share from 0 to below 1, such as 0.2",
        "this share of the pool's labels comes wrong, uniformly over the other classes",
    ),
    "open": Key(
        _SHARE,
        "a share from 0 to below 1, such as 0.3",
        "this share of the classes is left out; a label spent on one of their images is wasted",
    ),
    "duplicates": Key(
        rf"{_SHARE}|1",
        "a share from 0 to 1, such as 0.3",
        "this share of the pool is added again as near copies, seen through a crop",
    ),
}
"""Conditions by key; a number is written without needless zeros, so that equal data have one name."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of a data set.

    Attributes:
        imbalance: R: the largest class over the smallest, where all classes have the same number of images before.
        noise: share of the pool's labels that come wrong.
        open: share of the classes that is left out.
        duplicates: share of the pool's rows that is added again as near copies.
        draw: number of the draw that seeds them.
    """

    imbalance: float = 1.0
    noise: float = 0.0
    open: float = 0.0
    duplicates: float = 0.0
    draw: int = 0

    def n_left_out(self, n_classes: int) -> int:
        """The number of classes that ``open`` leaves out.

        Raises:
            InputError: fewer than two classes are left, or none is left out.
        """
        n = part(self.open, n_classes)
        if self.open and not n:
            raise InputError(f"open={self.open:g} of {n_classes} classes is none; expected: a share that is at least 1")
        if n and n_classes - n < 2:
            raise InputError(
                f"open={self.open:g} leaves {n_classes - n} of {n_classes} classes; expected: a share that leaves at "
                f"least 2"
            )
        return n

    def tail(self, largest: int, n_classes: int) -> list[int]:
        """The most images that each class of a long tail keeps, in falling order: n R^(-i / (classes - 1)).

        The class sizes of Cui et al. (2019, Section 5.1), each rounded to the nearest number.

        Args:
            largest: n, images of the largest class.
            n_classes: number of classes, at least 2.

        >>> Conditions(imbalance=100).tail(100, 3)
        [100, 10, 1]
        """
        return [round(largest * self.imbalance ** (-place / (n_classes - 1))) for place in range(n_classes)]


def part(share: float, n: int) -> int:
    """A share of n things as a number of them: the nearest one, where a half goes to the even number.

    >>> part(0.3, 10), part(0.25, 10), part(0.2, 3)
    (3, 2, 1)
    """
    return round(share * n)


def chosen(name: str, pairs: tuple[tuple[str, str], ...], keys: Mapping[str, Key]) -> tuple[dict[str, str], list[str]]:
    """The values of the choices in a name by key, and the faults of the others.

    Args:
        name: of the data set, for messages.
        pairs: as from ``split_name``.
        keys: the choices that it may have.
    """
    faults = []
    values: dict[str, str] = {}
    for key, value in pairs:
        if key not in keys:
            faults.append(str(unknown(f"choice in '{name}'", key, keys)))
        elif not value:
            faults.append(f"'{name}': {key} has no value; expected: NAME?KEY=VALUE&KEY=VALUE")
        elif not re.fullmatch(keys[key].values, value, re.ASCII):
            faults.append(f"'{name}': {key} '{value}'; expected: {keys[key].expected}")
        else:
            values[key] = value
    repeated = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1 and key in keys]
    faults += [f"'{name}': {key} stands more than once; expected: each key once" for key in repeated]
    return values, faults


def conditions_in(values: Mapping[str, str]) -> Conditions | None:
    """The conditions among the values of choices; None where there are none."""
    if values.keys().isdisjoint(CONDITIONS):
        return None
    return Conditions(**{k: float(values[k]) for k in CONDITIONS if k in values}, draw=int(values.get(DRAW, 0)))
