"""How frames become the tables of a page: builders for the entries of ``bench.report.tables``."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from bench import stats
from bench.columns import CONFIGURATION, FIRST_DIAGNOSTICS, LABELS
from bench.display import Display, distilled_on
from bench.report.cells import (
    CONFIGURATION_COLUMNS,
    N_SEEDS,
    NO_INTERVAL,
    Cell,
    Columns,
    Record,
    Table,
    decimals,
    interval,
    limits,
    milliseconds,
    of,
    or_none,
    percent,
    percents,
    points,
    table,
    text,
    yes_no,
)
from bench.report.frames import Show
from bench.stats.power import MOST_SEEDS


def shown(
    columns: Columns, title: str = "", select: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame
) -> Show:
    """One table with these columns, of the selected part of a frame."""
    return lambda frame, display: [table(display.applied(select(frame)), columns, title)]


def against_control(columns: Columns, title: str) -> Show:
    """One table with these columns; ``{control}`` in the title is the selector in the column ``against``."""
    return lambda frame, display: [
        table(display.applied(part), columns, title.format(control=display.selector(str(control))))
        for control, part in frame.groupby("against", sort=False)
    ]


def area_tables(frame: pd.DataFrame, display: Display) -> list[Table]:
    """Areas, with the differences from each reference of ``stats.area_table``."""
    references = stats.references_in(frame)
    columns: Columns = {
        **CONFIGURATION_COLUMNS,
        **text("selector"),
        "area": of("area", percent),
        **{f"against {display.selector(name)}, points (95% interval)": difference_from(name) for name in references},
        "ms per pick, pool prediction included": of("seconds_per_pick", milliseconds),
        "of these selection": of("selection_per_pick", milliseconds),
    }
    return [table(display.applied(frame), columns, "Per configuration and selector")]


def comparison_tables(frame: pd.DataFrame, display: Display) -> list[Table]:
    """Selectors compared by area with the selector in the column ``against``."""
    return [
        table(
            display.applied(part),
            {
                **CONFIGURATION_COLUMNS,
                **N_SEEDS,
                f"better than {display.selector(str(reference))}": compared("better", display),
                "not significantly different": compared("not_different", display),
                "worse": compared("worse", display),
            },
            "After Holm's correction over the selectors of a configuration",
        )
        for reference, part in frame.groupby("against", sort=False)
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


def compared(group: str, display: Display) -> Callable[[Record], str]:
    """The cell of selectors compared with a reference; below VERDICT_LEAST seeds there is no verdict."""

    def cell(record: Record) -> str:
        names = ", ".join(display.selector(name) for name in record[group].split(", ") if name)
        return or_none(names) if record["verdict"] else NO_INTERVAL

    return cell


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


def recipe_tables(frame: pd.DataFrame, display: Display) -> list[Table]:
    """Areas, one column per recipe."""
    keys = {name: cell for name, cell in CONFIGURATION_COLUMNS.items() if name != LABELS["recipe"]}
    recipes = [name for name in frame.columns if name not in {*CONFIGURATION, "selector", "n_seeds"}]
    areas = {display.of("recipe", name): of(name, percent) for name in recipes}
    return [table(display.applied(frame), {**keys, **text("selector"), **N_SEEDS, **areas})]


def diagnostic_tables(frame: pd.DataFrame, display: Display) -> list[Table]:
    """Means of the diagnostics, one column per selector: as many as FIRST_DIAGNOSTICS, and the others folded."""
    selectors = [name for name in frame.columns if name != "measure"]
    columns = {
        "measure": of("measure", LABELS.__getitem__),
        **{display.selector(name): of(name, decimals(3)) for name in selectors},
    }
    first, others = frame.iloc[: len(FIRST_DIAGNOSTICS)], frame.iloc[len(FIRST_DIAGNOSTICS) :]
    return [table(first, columns), replace(table(others, columns, "Other diagnostics"), folded=True)]


def published_tables(frame: pd.DataFrame, display: Display) -> list[Table]:
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
    return [
        table(display.applied(part), columns, f"{source}, cell by cell")
        for source, part in frame.groupby("source", sort=False)
    ]


def overlapping(record: Record) -> str:
    """The cell of the number of cells whose intervals overlap; below VERDICT_LEAST seeds there is no verdict."""
    return str(record["n_overlap"]) if record["n_seeds"] >= stats.VERDICT_LEAST else NO_INTERVAL


def part_tables(frame: pd.DataFrame, display: Display) -> list[Table]:
    """First places and mean ranks: one row per selector, one column per teacher and stage."""
    parts = frame.groupby(["teacher", "distillation", "stage"], sort=False)
    cells: dict[str, dict[str, str]] = {}
    for (teacher, distillation, stage), part in parts:
        name = distilled_on(display.of("teacher", str(teacher)), str(distillation))
        cells[f"{name}, {stage}"] = {
            str(record["selector"]): (
                f"{record['first']} of {record['settings']}; {decimals(2)(record['mean_rank']) or NO_INTERVAL}"
            )
            for record in part.to_dict("records")
        }
    selectors = frame["selector"].drop_duplicates().tolist()
    rows: list[list[Cell]] = [
        [display.selector(name), *(column.get(name, "") for column in cells.values())] for name in selectors
    ]
    return [Table([LABELS["selector"], *cells], rows)]
