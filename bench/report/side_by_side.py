"""Several runs on one page: their headlines, their ranks side by side, and the cells that they have in common."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from bench import stats
from bench.report.cells import (
    CONFIGURATION_HEADER,
    RANK_HEADER,
    Section,
    Table,
    configuration,
    percent,
    points,
    rank_cells,
)

CELL = [*stats.SETTING, "selector"]
OVERVIEW_HEADER = ["run", "headline", "clearly", "trials", "seeds", "protocol"]


def common_cells(rows: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean accuracies of the (setting, selector)s that every run has.

    Args:
        rows: of each run, by its name.

    Returns:
        Columns of SETTING, selector, and one a run with its accuracy.
    """
    curves = [stats.curves(table).set_index(CELL)["accuracy"].rename(name) for name, table in rows.items()]
    return pd.concat(curves, axis=1, join="inner").reset_index()


@dataclass(frozen=True)
class Standing:
    """The ranks of a run.

    Attributes:
        rows: of the run.
        table: ``stats.rank_table``.
        spread: ``stats.first_place_intervals``.
    """

    rows: pd.DataFrame
    table: pd.DataFrame
    spread: pd.DataFrame


def standing_of(rows: pd.DataFrame) -> Standing:
    """The ranks of a run from its rows."""
    return Standing(rows, stats.rank_table(stats.ranks(rows)), stats.first_place_intervals(rows))


def overview(runs: Mapping[str, Standing]) -> list[list[str]]:
    """A line a run, under OVERVIEW_HEADER."""
    return [
        [
            name,
            stats.headline(run.table),
            stats.headline_confidence(run.table, run.spread),
            f"{run.rows['trial_id'].nunique():,}",
            f"{run.rows['seed'].nunique()}",
            str(run.rows["protocol"].iloc[0]),
        ]
        for name, run in runs.items()
    ]


def beside_sections(runs: Mapping[str, Standing], common: pd.DataFrame) -> list[Section]:
    """Ranks of each run, first places by selector and run, and the cells in common.

    Args:
        common: ``common_cells`` of the same rows; empty where they may not be compared.
    """
    names = list(runs)
    ranks = [Table(RANK_HEADER, rank_cells(run.table, run.spread), name) for name, run in runs.items()]
    by_run = {name: run.table.set_index("selector") for name, run in runs.items()}
    selectors = sorted({selector for table in by_run.values() for selector in table.index})
    beside = [[selector, *(_rank(by_run[name], selector) for name in names)] for selector in selectors]
    out = [
        Section("First places and mean ranks by run", tables=[Table(["selector", *names], beside)]),
        Section("Ranks of each run", tables=ranks),
    ]
    if common.empty:
        return [*out, Section("Cells in common", ["The runs have no cell in common that may be compared."])]
    first, *others = names
    header = [*CONFIGURATION_HEADER, "round", "selector", first, *(f"{name}, points beside" for name in others)]
    cells = [
        [
            *configuration(c),
            *(str(c["round"]), c["selector"], percent(c[first])),
            *(points(c[name] - c[first]) for name in others),
        ]
        for c in common.to_dict("records")
    ]
    said = [
        f"{name}: {100 * (common[name] - common[first]).mean():+.2f} points beside {first} on average over "
        f"{len(common):,} cells, {100 * (common[name] - common[first]).min():+.1f} to "
        f"{100 * (common[name] - common[first]).max():+.1f}"
        for name in others
    ]
    return [*out, Section("Cells in common", points=said, tables=[Table(header, cells, "Cell by cell", folded=True)])]


def _rank(table: pd.DataFrame, selector: str) -> str:
    if selector not in table.index:
        return ""
    found = table.loc[selector]
    return f"{found['first']} of {found['settings']}, mean rank {found['mean_rank']:.2f}"
