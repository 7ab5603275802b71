"""Numbers as a reader sees them: the cells, tables and sections of a report."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.columns import LABELS
from bench.display import Display, distilled_on

MANY_ROWS = 24
"""Tables with more rows are folded."""

MAIN = "Accuracy by configuration"
RANKS = "Ranks"
CURVES = "Learning curves"
TESTS = "Critical differences"
WINS = "Wins"
AREAS = "Area under the budget curve"
CEILING = "Gap closed to the oracle"
PARTS = "Ranks by teacher and stage"
GAINS = "Gain of distillation"
SAVED = "Labels saved"
DIAGNOSED = "Diagnostics"
OVERLAP = "Overlap of queried labels"
COST = "Costs"
SEEDS = "Seeds that a difference needs"
RECIPES = "Recipes side by side"
BY_RECIPE = "Gain of distillation by recipe"
CONDITIONS = "What breaks which strategy"
CLAIMS = "The paper's two claims on this run"
REFERENCES = "Reference lines"
PUBLISHED = "Published numbers"
"""Titles of the sections of a run's page."""

Record = Mapping[Any, Any]

Columns = Mapping[str, Callable[[Record], str]]
"""How records become rows: the cell of each column, by its header."""


@dataclass(frozen=True)
class Marked:
    """A number that may be the best of its column, and what follows it.

    Attributes:
        number: shown first.
        rest: after it, without a mark.
        best: the number is shown in bold.
        tied: it is underlined.
    """

    number: str
    rest: str = ""
    best: bool = False
    tied: bool = False

    def __str__(self) -> str:
        return self.number + self.rest


Cell = str | Marked

NUMERIC = re.compile(r"([-+<>±]?\s*[-+]?[\d,.]+(\W.*)?|-|)", re.DOTALL)
"""A cell of a column of numbers: it begins with one, or is empty."""


@dataclass(frozen=True)
class Table:
    """A table on a page.

    Attributes:
        header: names of the columns.
        rows: one cell per column.
        title: above the table; may be empty.
        folded: the HTML page shows it on a click.
        note: below the title; may be empty.
    """

    header: list[str]
    rows: list[list[Cell]]
    title: str = ""
    folded: bool = False
    note: str = ""

    @property
    def is_number(self) -> list[bool]:
        """Whether each column holds numbers, which are aligned to the right; the first column is the row's name."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.header)
        return [i > 0 and all(NUMERIC.fullmatch(str(cell)) for cell in cells) for i, cells in enumerate(columns)]


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        text: paragraphs.
        points: a list.
        figures: stems of files in the folder of figures.
        tables: below the text.
        folded_figures: the same as ``figures``; the HTML page shows them on a click.
    """

    title: str
    text: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    folded_figures: list[str] = field(default_factory=list)


def table(frame: pd.DataFrame, columns: Columns, title: str = "") -> Table:
    """A frame as a table, folded where it has more than MANY_ROWS rows."""
    rows: list[list[Cell]] = [[cell(record) for cell in columns.values()] for record in frame.to_dict("records")]
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


def ranks_between(low: float, high: float) -> str:
    """An interval of a mean rank."""
    return NO_INTERVAL if pd.isna(low) else f"{low:.2f} to {high:.2f}"


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
    """The teacher of a record that has labels, with the distillation mode if the record has one."""
    return distilled_on(record["teacher"], record.get("distillation", "both"))


CONFIGURATION_COLUMNS: Columns = {**text("group", "student"), LABELS["teacher"]: teacher, **text("recipe")}

N_SEEDS: Columns = {"n (seeds)": of("n_seeds", str)}

GAIN_COLUMNS: Columns = {"gain in points": of("gain", points), "95% interval": limits(interval), **N_SEEDS}

INTERVAL_HEADER = "95% over seeds"

PARTIAL_MARK = " (partial)"
"""Behind the name of a selector that did not take part in every setting of a rank table."""

MEAN_ACCURACY = "mean accuracy"

RANK_COLUMNS: Columns = {
    LABELS["selector"]: lambda record: f"{record['selector']}{PARTIAL_MARK if record['partial'] else ''}",
    "first": lambda record: f"{record['first']} ({record['first_share']:.1%})",
    INTERVAL_HEADER: limits(counts, "first_low", "first_high"),
    "n (seeds)": lambda r: (
        str(r["n_seeds"]) if r["n_seeds"] == r["most_seeds"] else f"{r['n_seeds']} to {r['most_seeds']}"
    ),
    "clear": of("clear_first", str),
    "of these tied": of("tied_first", str),
    **text("settings"),
    "mean rank": of("mean_rank", decimals(2)),
    "95% of the mean rank": limits(ranks_between, "rank_low", "rank_high"),
    MEAN_ACCURACY: of("mean_accuracy", percent),
}


def rank_table(
    ranks: pd.DataFrame, first_places: pd.DataFrame, display: Display, title: str = "", measure: str = MEAN_ACCURACY
) -> Table:
    """The rank table with the intervals of its first places.

    Args:
        ranks: ``stats.rank_table``.
        first_places: ``stats.first_place_intervals`` of the same settings.
        display: labels of the names.
        title: above it.
        measure: header of the means of what is ranked.
    """
    columns = {measure if name == MEAN_ACCURACY else name: cell for name, cell in RANK_COLUMNS.items()}
    return table(display.applied(with_intervals(ranks, first_places)), columns, title)


def with_intervals(ranks: pd.DataFrame, first_places: pd.DataFrame) -> pd.DataFrame:
    """A rank table with the columns of the intervals of its first places and mean ranks."""
    intervals = first_places.astype({"selector": ranks["selector"].dtype})
    return ranks.merge(intervals, on="selector", how="left")
