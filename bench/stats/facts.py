"""What a run consists of, and where its rows come from."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from bench.columns import PROVENANCE, SECONDS


@dataclass(frozen=True)
class Facts:
    """What a run consists of.

    Attributes:
        distinct: values of data set, teacher, student, selector and seed, sorted, by column.
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


def facts_of(rows: pd.DataFrame) -> Facts:
    """What the rows of one protocol consist of."""
    columns = ("dataset", "teacher", "student", "selector", "seed")
    return Facts(
        distinct={column: [str(value) for value in sorted(rows[column].unique())] for column in columns},
        n_trials=rows["trial_id"].nunique(),
        n_rows=len(rows),
        protocol=int(rows["protocol"].iloc[0]),
        seconds=float(rows[list(SECONDS)].to_numpy().sum()),
        provenance={column: sorted(rows[column].unique()) for column in PROVENANCE},
    )


def joint_provenance(facts: Mapping[str, Facts]) -> dict[str, list[str]]:
    """Distinct values of the PROVENANCE columns over several runs."""
    return {
        column: sorted({value for run in facts.values() for value in run.provenance[column]}) for column in PROVENANCE
    }
