"""Bars: measured values with the limits at which they pass; their table, and processes in which they are measured."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from rich.console import Console
from rich.table import Table

TABLE_WIDTH = 140

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Bar:
    """A measured value and the largest, or the least, that passes.

    Attributes:
        what: is measured, with its unit.
        value: as measured.
        limit: the largest value that passes.
        detail: the figures behind the value.
        at_least: whether ``limit`` is the least value that passes instead.
    """

    what: str
    value: float
    limit: float
    detail: str = ""
    at_least: bool = False

    @property
    def passes(self) -> bool:
        """Whether the value is on the right side of the limit, or at it; NaN misses."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def shown_limit(self) -> str:
        """The limit and its side."""
        return f"{'>=' if self.at_least else '<='} {self.limit:.3g}"


def print_bars(bars: Sequence[Bar], out: Console) -> None:
    """One row a bar, pass or MISS."""
    table = Table("measured", "value", "limit", "", "figures")
    for bar in bars:
        table.add_row(bar.what, f"{bar.value:.3g}", bar.shown_limit, "pass" if bar.passes else "MISS", bar.detail)
    print_wide(table, out)


def print_wide(table: Table, out: Console) -> None:
    """A table in its full width, also where the terminal is narrower."""
    Console(file=out.file, width=max(TABLE_WIDTH, out.width), markup=False, emoji=False, highlight=False).print(table)


def apart(measure: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Call a function in a fresh process, which shares neither memory nor imports with this one."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments, **named).result()
