"""Several runs on one page: their headlines, their ranks side by side, and the cells that they have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from bench import stats
from bench.report.cells import (
    CONFIGURATION_COLUMNS,
    N_SEEDS,
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
    ranks = [rank_table(run.frames["rank_table"], run.frames["first_places"], name) for name, run in runs.items()]
    return Page(
        name=", ".join(runs),
        headline=f"{len(runs)} runs side by side",
        caveats=[caveat] if len(protocols) > 1 else [],
        ranking=_overview(runs),
        note="Each run is ranked by itself; a setting is a configuration at a query round.",
        sections=[
            Section("First places and mean ranks by run", tables=[_ranks_by_run(runs)]),
            Section("Ranks of each run", tables=ranks),
            _common_section(list(runs), common),
        ],
        provenance=stats.joint_provenance({name: run.facts for name, run in runs.items()}),
        selectors=_selectors(runs),
    )


def _protocols(runs: Mapping[str, RunSummary]) -> list[int]:
    return sorted({run.facts.protocol for run in runs.values()})


def _selectors(runs: Mapping[str, RunSummary]) -> list[str]:
    return sorted({selector for run in runs.values() for selector in run.facts.distinct["selector"]})


def _overview(runs: Mapping[str, RunSummary]) -> Table:
    rows = [
        [
            name,
            stats.headline(run.frames["rank_table"]),
            stats.headline_confidence(run.frames["rank_table"], run.frames["first_places"]),
            f"{run.facts.n_trials:,}",
            str(len(run.facts.distinct["seed"])),
            str(run.facts.protocol),
        ]
        for name, run in runs.items()
    ]
    return Table(["run", "headline", "clearly", "trials", "seeds", "protocol"], rows)


def _ranks_by_run(runs: Mapping[str, RunSummary]) -> Table:
    by_run = [run.frames["rank_table"].set_index("selector") for run in runs.values()]
    rows = [[selector, *(_rank(table, selector) for table in by_run)] for selector in _selectors(runs)]
    return Table(["selector", *runs], rows)


def _rank(table: pd.DataFrame, selector: str) -> str:
    if selector not in table.index:
        return ""
    line = table.loc[selector]
    return f"{line['first']:.0f} of {line['settings']:.0f}, mean rank {line['mean_rank']:.2f}"


def _common_section(names: list[str], common: pd.DataFrame) -> Section:
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
    by_cell = table(common, cells, "Cell by cell")
    return Section(
        title,
        tables=[
            table(stats.run_differences(common, reference), summary),
            Table(by_cell.header, by_cell.rows, by_cell.title, folded=True),
        ],
    )


def _difference(name: str, reference: str) -> Callable[[Record], str]:
    return lambda record: points(record[name] - record[reference])
