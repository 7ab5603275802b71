"""Numbers as a reader sees them: the cells, tables and sections of a report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench import plots, stats

RANK_HEADER = [
    "selector",
    "first",
    "95% over seeds",
    "clear",
    "of these tied",
    "settings",
    "mean rank",
    "mean accuracy",
]
CONFIGURATION_HEADER = ["data", "student", "teacher", "recipe"]
GAIN_HEADER = ["gain in points", "95% interval"]

MEASURES = {
    "picks_coverage": "classes among the picks",
    "labeled_coverage": "classes with a label",
    "labeled_balance": "balance of the labels",
    "picks_feature_diversity": "feature diversity of the picks",
    "picks_probability_diversity": "probability diversity of the picks",
    "picks_entropy": "entropy of the picks",
    "pool_entropy": "entropy of the pool",
    "picks_teacher_accuracy": "teacher accuracy on the picks",
    "pool_teacher_accuracy": "teacher accuracy on the pool",
    "student_ece": "calibration error of the student",
    "student_nll": "log-likelihood loss of the student",
    "teacher_ece": "calibration error of the teacher",
    "teacher_nll": "log-likelihood loss of the teacher",
    "misled": "confident mistakes of the teacher",
    "misled_learned": "of these, unlabeled: learned",
    "misled_labeled": "of these: labeled",
    "misled_mended": "of these, labeled: mended",
}
"""Diagnostics by column, and what a report calls them."""

Record = Mapping[Any, Any]


@dataclass(frozen=True)
class Table:
    """A table to be shown.

    Attributes:
        header: one name a column.
        rows: strings, one a column.
        title: above it; none needed.
        folded: shown on a click only, where there are clicks.
    """

    header: list[str]
    rows: list[list[str]]
    title: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: its heading.
        text: paragraphs.
        points: a list.
        tables: below the text.
        figures: stems of files in the folder of figures, below the tables.
    """

    title: str
    text: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)


def configuration(record: Record) -> list[str]:
    """The cells under CONFIGURATION_HEADER."""
    teacher = plots.teacher_label(record["teacher"], record["distillation"])
    return [record["group"], record["student"], teacher, record["recipe"]]


def percent(value: float) -> str:
    """A fraction with one decimal; empty where there is none."""
    return "" if pd.isna(value) else f"{value:.1%}"


def points(value: float) -> str:
    """A difference of fractions in points; empty where there is none."""
    return "" if pd.isna(value) else f"{100 * value:+.1f}"


def interval(low: float, high: float) -> str:
    """An interval of a difference in points; said so where one seed gives none."""
    return "one seed" if pd.isna(low) else f"{100 * low:+.1f} to {100 * high:+.1f}"


def known_interval(low: float, high: float) -> str:
    """The same, empty where there is none for another reason."""
    return "" if pd.isna(low) else interval(low, high)


def p_value(value: float) -> str:
    """A p value; tiny ones as a bound."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def count(value: float, most: int) -> str:
    """A whole number; a bound where none was found up to ``most``."""
    return f"> {most:,}" if pd.isna(value) else f"{int(value):,}"


def against(area: Record, reference: str) -> str:
    """Difference in area from a reference, with its interval."""
    difference = area[f"against_{reference}"]
    if pd.isna(difference):
        return ""
    return f"{points(difference)} ({interval(area[f'against_{reference}_low'], area[f'against_{reference}_high'])})"


def gain_cells(gain: Record) -> list[str]:
    """The cells under GAIN_HEADER."""
    return [points(gain["gain"]), interval(gain["low"], gain["high"])]


def rank_cells(table: pd.DataFrame, spread: pd.DataFrame) -> list[list[str]]:
    """The rows of a rank table under RANK_HEADER.

    Args:
        spread: ``stats.first_place_intervals`` of the same settings; may be empty.
    """
    limits = {r["selector"]: r for r in spread.to_dict("records")}
    return [
        [
            str(r["selector"]),
            f"{r['first']} ({r['first_share']:.1%})",
            _range(limits.get(r["selector"])),
            str(r["clear_first"]),
            str(r["tied_first"]),
            str(r["settings"]),
            f"{r['mean_rank']:.2f}",
            percent(r["mean_accuracy"]),
        ]
        for r in table.to_dict("records")
    ]


def _range(limits: Record | None) -> str:
    if limits is None:
        return ""
    return "one seed" if pd.isna(limits["first_low"]) else f"{limits['first_low']:.0f} to {limits['first_high']:.0f}"


def rank_parts(table: pd.DataFrame, by: list[str]) -> list[Table]:
    """Rank tables of parts of the settings, the part and its headline as title."""
    out = []
    for key, part in table.groupby(by):
        names = [str(k) for k in key]  # pyright: ignore[reportGeneralTypeIssues]
        title = plots.teacher_label(names[0], names[1]) if len(names) > 1 else f"{names[0]} rounds"
        cells = [[c for i, c in enumerate(row) if i != 2] for row in rank_cells(part, pd.DataFrame())]
        header = [name for i, name in enumerate(RANK_HEADER) if i != 2]
        out.append(Table(header, cells, f"{title}: {stats.headline(part)}"))
    return out


def markdown_row(cells: Iterable[object]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
