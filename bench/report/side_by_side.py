"""Several runs on one page: their headlines, their ranks side by side, and the cells that they have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from bench import stats
from bench.display import Display, display_of, names_in
from bench.report.cells import (
    CONFIGURATION_COLUMNS,
    N_SEEDS,
    Cell,
    Columns,
    Record,
    Section,
    Table,
    decimals,
    interval,
    limits,
    of,
    percent,
    points,
    rank_table,
    table,
    text,
)
from bench.report.contents import Page
from bench.report.figures.style import selector_styles
from bench.report.frames import Frames
from bench.stats import Facts


@dataclass(frozen=True)
class RunSummary:
    """A run on a page with others.

    Attributes:
        facts: what it consists of.
        frames: its tables.
    """

    facts: Facts
    frames: Frames


def common_cells(runs: Mapping[str, RunSummary]) -> pd.DataFrame:
    """``stats.common_cells`` of runs of one protocol; empty for several protocols."""
    if len(_protocols(runs)) > 1:
        return pd.DataFrame()
    return stats.common_cells({name: run.frames.seeds for name, run in runs.items()})


def side_by_side_page(runs: Mapping[str, RunSummary], common: pd.DataFrame) -> Page:
    """The page of several runs.

    Args:
        runs: by name.
        common: ``common_cells`` of the same runs.
    """
    protocols = _protocols(runs)
    caveat = f"The runs have protocols {', '.join(map(str, protocols))}; their cells cannot be compared."
    display = _display(runs)
    ranks = [
        rank_table(run.frames["rank_table"], run.frames["first_places"], display, name) for name, run in runs.items()
    ]
    styles = selector_styles(_selectors(runs))
    return Page(
        name=", ".join(runs),
        headline=f"{len(runs)} runs side by side",
        caveats=[caveat] if len(protocols) > 1 else [],
        tables=[_overview(runs)],
        note="Each run is ranked by itself; a setting is a configuration at a query round.",
        sections=[
            Section("First places and mean ranks by run", tables=[_ranks_by_run(runs, display)]),
            Section("Ranks of each run", tables=ranks),
            _common_section(list(runs), common, display),
        ],
        provenance=stats.joint_provenance({name: run.facts for name, run in runs.items()}),
        styles={display.selector(name): style for name, style in styles.items()},
    )


def _protocols(runs: Mapping[str, RunSummary]) -> list[int]:
    return sorted({run.facts.protocol for run in runs.values()})


def _selectors(runs: Mapping[str, RunSummary]) -> list[str]:
    return sorted({selector for run in runs.values() for selector in run.facts.distinct["selector"]})


def _display(runs: Mapping[str, RunSummary]) -> Display:
    """Labels of the names of all runs; of two labels of one name, that of the later run."""
    rows = pd.concat([run.frames.rows for run in runs.values()], ignore_index=True)
    given = {
        name: label
        for run in runs.values()
        for labels in run.frames.display.labels.values()
        for name, label in labels.items()
        if label != name
    }
    return display_of(names_in(rows), given)


def _overview(runs: Mapping[str, RunSummary]) -> Table:
    rows: list[list[Cell]] = [
        [
            name,
            run.frames.headline,
            run.frames.confidence,
            f"{run.facts.n_trials:,}",
            str(len(run.facts.distinct["seed"])),
            str(run.facts.protocol),
        ]
        for name, run in runs.items()
    ]
    return Table(["run", "headline", "clearly", "trials", "seeds", "protocol"], rows)


def _ranks_by_run(runs: Mapping[str, RunSummary], display: Display) -> Table:
    by_run = [run.frames["rank_table"].set_index("selector") for run in runs.values()]
    rows: list[list[Cell]] = [
        [display.selector(selector), *(_rank(table, selector) for table in by_run)] for selector in _selectors(runs)
    ]
    return Table(["selector", *runs], rows)


def _rank(table: pd.DataFrame, selector: str) -> str:
    if selector not in table.index:
        return ""
    line = table.loc[selector]
    return f"{line['first']:.0f} of {line['settings']:.0f}, mean rank {line['mean_rank']:.2f}"


def _common_section(names: list[str], common: pd.DataFrame, display: Display) -> Section:
    title, reference = "Cells in common", names[0]
    if common.empty:
        return Section(title, ["The runs have no cell in common that may be compared."])
    summary: Columns = {
        **text("run"),
        f"points above {reference}": lambda record: decimals(2)(100 * record["mean"]),
        "range over cells": limits(interval, "min", "max"),
        "cells": of("n_cells", "{:,}".format),
        **N_SEEDS,
    }
    cells: Columns = {
        **CONFIGURATION_COLUMNS,
        **text("round", "selector"),
        **N_SEEDS,
        reference: of(reference, percent),
        **{f"{name}, points above {reference}": _difference(name, reference) for name in names[1:]},
    }
    by_cell = table(display.applied(common), cells, "Cell by cell")
    return Section(
        title,
        tables=[
            table(stats.run_differences(common, reference), summary),
            Table(by_cell.header, by_cell.rows, by_cell.title, folded=True),
        ],
    )


def _difference(name: str, reference: str) -> Callable[[Record], str]:
    return lambda record: points(record[name] - record[reference])
