"""How frames become the tables of a page: builders for the entries of ``bench.report.tables``."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bench import stats
from bench.columns import CONFIGURATION, LABELS
from bench.report.cells import (
    CONFIGURATION_COLUMNS,
    INTERVAL_HEADER,
    N_SEEDS,
    NO_INTERVAL,
    RANK_COLUMNS,
    Columns,
    Record,
    Table,
    decimals,
    interval,
    limits,
    of,
    or_none,
    percent,
    percents,
    points,
    table,
    text,
    yes_no,
)
from bench.stats.power import MOST_SEEDS


def shown(
    columns: Columns, title: str = "", select: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame
) -> Callable[[pd.DataFrame], list[Table]]:
    """One table with these columns, of the selected part of a frame."""
    return lambda frame: [table(select(frame), columns, title)]


def against_control(columns: Columns, title: str) -> Callable[[pd.DataFrame], list[Table]]:
    """One table with these columns; ``{control}`` in the title is the selector in the column ``against``."""
    return lambda frame: [
        table(part, columns, title.format(control=control)) for control, part in frame.groupby("against", sort=False)
    ]


def difference_from(reference: str) -> Callable[[Record], str]:
    """The cell of a difference in area from a reference, with its interval."""
    name = f"against_{reference}"
    return lambda record: (
        ""
        if pd.isna(record[name])
        else f"{points(record[name])} ({interval(record[f'{name}_low'], record[f'{name}_high'])}; "
        f"n = {record[f'{name}_n_seeds']:.0f})"
    )


CANNOT_BE_TOLD = "cannot be told"
"""Where random is flat: its last accuracy is no more than chance above its first."""


def labels_needed(record: Record) -> str:
    """The cell of the labels that a selector needs; a bound where it never reaches the accuracy."""
    if record["flat"]:
        return CANNOT_BE_TOLD
    return f"> {record['reference_labels']:g}" if pd.isna(record["labels"]) else f"{record['labels']:.0f}"


def labels_limits(record: Record) -> str:
    """The cell of the interval of the labels that a selector needs."""
    if pd.isna(record["low"]):
        return NO_INTERVAL
    low, high, last = record["low"], record["high"], record["reference_labels"]
    if np.isinf(low):
        return f"> {last:g}"
    return f"{low:.0f} to {f'> {last:g}' if np.isinf(high) else f'{high:.0f}'}"


def labels_saved(record: Record) -> str:
    """The cell of the labels saved; empty where they are unknown."""
    return "" if record["flat"] or pd.isna(record["saved"]) else f"{record['saved']:+.0f}"


def compared(group: str) -> Callable[[Record], str]:
    """The cell of selectors compared with a reference; below VERDICT_LEAST seeds there is no verdict."""
    return lambda record: or_none(record[group]) if record["verdict"] else NO_INTERVAL


def measured(name: str) -> Callable[[Record], str]:
    """The cell of an accuracy that older rows do not have."""
    return lambda record: "not measured" if pd.isna(record[name]) else percent(record[name])


def seeds_for(difference: float) -> Callable[[Record], str]:
    """The cell of the seeds that a difference needs; a bound above MOST_SEEDS."""

    def cell(record: Record) -> str:
        if pd.isna(record["spread"]):
            return ""
        seeds = record[f"seeds_for_{difference:g}"]
        return f"> {MOST_SEEDS:,}" if pd.isna(seeds) else f"{int(seeds):,}"

    return cell


def recipe_tables(frame: pd.DataFrame) -> list[Table]:
    """Areas, one column per recipe."""
    keys = {name: cell for name, cell in CONFIGURATION_COLUMNS.items() if name != LABELS["recipe"]}
    recipes = [name for name in frame.columns if name not in {*CONFIGURATION, "selector", "n_seeds"}]
    return [table(frame, {**keys, **text("selector"), **N_SEEDS, **{name: of(name, percent) for name in recipes}})]


def diagnostic_tables(frame: pd.DataFrame) -> list[Table]:
    """Means of the diagnostics, one column per selector."""
    selectors = [name for name in frame.columns if name != "measure"]
    columns = {"measure": of("measure", LABELS.__getitem__)}
    return [table(frame, {**columns, **{name: of(name, decimals(3)) for name in selectors}})]


def published_tables(frame: pd.DataFrame) -> list[Table]:
    """The cells of each source."""
    columns: Columns = {
        **CONFIGURATION_COLUMNS,
        **text("selector", "round"),
        "this run": of("accuracy", percent),
        "95% interval": limits(percents),
        **N_SEEDS,
        "published": lambda r: (
            percent(r["published"])
            + ("" if pd.isna(r["published_half_width"]) else f" ± {r['published_half_width']:.1%}")
        ),
        "difference": of("difference", points),
        "intervals overlap": lambda r: (
            yes_no(not r["disjoint"]) if r["n_seeds"] >= stats.VERDICT_LEAST else NO_INTERVAL
        ),
    }
    return [table(part, columns, f"{source}, cell by cell") for source, part in frame.groupby("source", sort=False)]


def overlapping(record: Record) -> str:
    """The cell of the number of cells whose intervals overlap; below VERDICT_LEAST seeds there is no verdict."""
    return str(record["n_overlap"]) if record["n_seeds"] >= stats.VERDICT_LEAST else NO_INTERVAL


def rank_parts(by: list[str], name: Callable[[Record], str]) -> Callable[[pd.DataFrame], list[Table]]:
    """Rank tables of parts of the settings, the part and its headline as title.

    Args:
        by: columns that split ``stats.rank_table_by``.
        name: of a part, from one of its records.
    """
    columns = {header: cell for header, cell in RANK_COLUMNS.items() if header != INTERVAL_HEADER}

    def show(frame: pd.DataFrame) -> list[Table]:
        parts = [part for _, part in frame.groupby(by)]
        return [table(part, columns, f"{name(part.iloc[0].to_dict())}: {stats.headline(part)}") for part in parts]

    return show
