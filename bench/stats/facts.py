"""What a run consists of, and where its rows come from."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from bench.columns import PROVENANCE, SECONDS


@dataclass(frozen=True)
class Facts:
    """What a run consists of.

    Attributes:
        distinct: values of data set, teacher, student, selector and seed, sorted, by column; oracles are left out.
        oracles: selectors that are not ranked, sorted.
        n_trials: with at least one row.
        n_rows: (trial, round)s.
        protocol: of all rows.
        seconds: of all parts of all rounds.
        provenance: distinct values of the PROVENANCE columns, sorted, by column.
    """

    distinct: Mapping[str, list[str]]
    n_trials: int
    n_rows: int
    protocol: int
    seconds: float
    provenance: Mapping[str, list[str]]
    oracles: tuple[str, ...] = ()


def facts_of(rows: pd.DataFrame, oracles: pd.DataFrame | None = None) -> Facts:
    """What the rows of one protocol consist of.

    Args:
        rows: of the selectors that are ranked.
        oracles: those of oracles; None without any.
    """
    columns = ("dataset", "teacher", "student", "selector", "seed")
    distinct = {column: [str(value) for value in sorted(rows[column].unique())] for column in columns}
    apart = [] if oracles is None else sorted(oracles["selector"].unique())
    if apart:
        rows = pd.concat([rows, oracles], ignore_index=True)
    return Facts(
        distinct=distinct,
        n_trials=rows["trial_id"].nunique(),
        n_rows=len(rows),
        protocol=int(rows["protocol"].iloc[0]),
        seconds=float(rows[list(SECONDS)].to_numpy().sum()),
        provenance={column: sorted(rows[column].unique()) for column in PROVENANCE},
        oracles=tuple(apart),
    )


def joint_provenance(facts: Mapping[str, Facts]) -> dict[str, list[str]]:
    """Distinct values of the PROVENANCE columns over several runs."""
    return {
        column: sorted({value for run in facts.values() for value in run.provenance[column]}) for column in PROVENANCE
    }
