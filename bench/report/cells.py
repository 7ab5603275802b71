"""Numbers as a reader sees them: the cells, tables and sections of a report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.columns import LABELS, teacher_label

MANY_ROWS = 24
"""Tables with more rows are folded."""

CLAIMS = "The paper's two claims on this run"
CURVES = "Learning curves"
TESTS = "Critical differences"
WINS = "Wins"
AREAS = "Area under the budget curve"
PARTS = "Ranks by teacher and stage"
GAINS = "Gain of distillation"
SAVED = "Labels saved"
DIAGNOSED = "Diagnostics"
OVERLAP = "Overlap of queried labels"
COST = "Costs"
SEEDS = "Seeds that a difference needs"
RECIPES = "Recipes side by side"
PUBLISHED = "Published numbers"
"""Titles of the sections of a run's page."""

Record = Mapping[Any, Any]

Columns = Mapping[str, Callable[[Record], str]]
"""How records become rows: the cell of each column, by its header."""


@dataclass(frozen=True)
class Table:
    """A table on a page.

    Attributes:
        header: names of the columns.
        rows: one string per column.
        title: above the table; may be empty.
        folded: the HTML page shows it on a click.
    """

    header: list[str]
    rows: list[list[str]]
    title: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        text: paragraphs.
        points: a list.
        figures: stems of files in the folder of figures.
        tables: below the text.
    """

    title: str
    text: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def table(frame: pd.DataFrame, columns: Columns, title: str = "") -> Table:
    """A frame as a table, folded where it has more than MANY_ROWS rows."""
    rows = [[cell(record) for cell in columns.values()] for record in frame.to_dict("records")]
    return Table(list(columns), rows, title, folded=len(rows) > MANY_ROWS)


def text(*names: str) -> Columns:
    """Columns shown as they are, under their labels."""
    return {LABELS.get(name, name): of(name, str) for name in names}


def of(name: str, form: Callable[[Any], str]) -> Callable[[Record], str]:
    """The cell of a column in a format."""
    return lambda record: form(record[name])


def limits(form: Callable[[float, float], str], low: str = "low", high: str = "high") -> Callable[[Record], str]:
    """The cell of an interval in a format."""
    return lambda record: form(record[low], record[high])


def percent(value: float) -> str:
    """A fraction with one decimal; empty where it is unknown."""
    return "" if pd.isna(value) else f"{value:.1%}"


NO_INTERVAL = "-"
"""The cell of an interval that is unknown, by one seed or too few for a bootstrap; the number of seeds is beside it."""


def percents(low: float, high: float) -> str:
    """An interval of fractions."""
    return NO_INTERVAL if pd.isna(low) else f"{low:.1%} to {high:.1%}"


def points(value: float) -> str:
    """A difference of fractions in points; empty where it is unknown."""
    return "" if pd.isna(value) else f"{100 * value:+.1f}"


def interval(low: float, high: float) -> str:
    """An interval of a difference in points."""
    return NO_INTERVAL if pd.isna(low) else f"{100 * low:+.1f} to {100 * high:+.1f}"


def counts(low: float, high: float) -> str:
    """An interval of a count."""
    return NO_INTERVAL if pd.isna(low) else f"{low:.0f} to {high:.0f}"


def p_value(value: float) -> str:
    """A p value; tiny ones as a bound; ``-`` where nothing was tested."""
    if pd.isna(value):
        return NO_INTERVAL
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def decimals(places: int) -> Callable[[float], str]:
    """A format with a number of decimals; empty where the value is unknown."""
    return lambda value: "" if pd.isna(value) else f"{value:.{places}f}"


def milliseconds(value: float) -> str:
    """Seconds in ms."""
    return NO_INTERVAL if pd.isna(value) else f"{1000 * value:.2f}"


def yes_no(value: bool) -> str:
    """A flag."""
    return "yes" if value else "no"


def or_none(value: str) -> str:
    """A list of names; ``none`` where it is empty."""
    return value or "none"


def teacher(record: Record) -> str:
    """The label of a record's teacher; without a column for the distillation mode, that of both kinds of images."""
    return teacher_label(record["teacher"], record.get("distillation", "both"))


CONFIGURATION_COLUMNS: Columns = {**text("group", "student"), LABELS["teacher"]: teacher, **text("recipe")}

N_SEEDS: Columns = {"n (seeds)": of("n_seeds", str)}

GAIN_COLUMNS: Columns = {"gain in points": of("gain", points), "95% interval": limits(interval), **N_SEEDS}

INTERVAL_HEADER = "95% over seeds"

FIRST_SEEDS: dict[str, Callable[[Record], str]] = {
    "n (seeds)": lambda r: (
        str(r["n_seeds"]) if r["n_seeds"] == r["most_seeds"] else f"{r['n_seeds']} to {r['most_seeds']}"
    )
}
"""Seeds of the configurations that a rank table counts."""

PARTIAL_MARK = " (partial)"
"""Behind the name of a selector that did not take part in every setting of a rank table."""

RANK_COLUMNS: Columns = {
    LABELS["selector"]: lambda record: f"{record['selector']}{PARTIAL_MARK if record['partial'] else ''}",
    "first": lambda record: f"{record['first']} ({record['first_share']:.1%})",
    INTERVAL_HEADER: limits(counts, "first_low", "first_high"),
    "clear": of("clear_first", str),
    "of these tied": of("tied_first", str),
    **text("settings"),
    "mean rank": of("mean_rank", decimals(2)),
    "mean accuracy": of("mean_accuracy", percent),
}


def rank_table(ranks: pd.DataFrame, first_places: pd.DataFrame, title: str = "") -> Table:
    """The rank table with the intervals of its first places.

    Args:
        ranks: ``stats.rank_table``.
        first_places: ``stats.first_place_intervals`` of the same settings.
        title: above it.
    """
    intervals = first_places[["selector", "first_low", "first_high", "n_seeds", "most_seeds"]]
    intervals = intervals.astype({"selector": ranks["selector"].dtype})
    columns: dict[str, Callable[[Record], str]] = {}
    for header, cell in RANK_COLUMNS.items():
        columns |= {header: cell} | (FIRST_SEEDS if header == INTERVAL_HEADER else {})
    return table(ranks.merge(intervals, on="selector", how="left"), columns, title)
