"""A results folder as frames: its rows, its plan, and the rounds that are missing."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from activekd.errors import InputError
from bench.columns import COLUMNS, PICKED, PROVENANCE, names
from bench.store.checked import LABELS, check_stored
from bench.store.folder import read_failures, read_plan
from bench.store.history import histories
from bench.store.rows import ROUNDS, stored_rows

UNKNOWN = "unknown"
"""Provenance of a row that does not name it."""


@dataclass(frozen=True)
class Run:
    """A results folder as read: the rows that it has and the (trial, round)s that its plan expects.

    Attributes:
        name: of the spec.
        rows: the tidy table, one row per (trial_id, round), in the order of the plan.
        plan: identity columns of each expected (trial_id, round).
        picks: train rows bought in each row of the table, with the same index.
        failures: why trials of the plan were given up, by id.
        part: filter that chose some trials of the plan; empty for all.
        display: labels of names in tables and figures.
        oracles: selectors that read true labels and are not ranked.
    """

    name: str
    rows: pd.DataFrame
    plan: pd.DataFrame
    picks: pd.Series
    failures: Mapping[str, str] = field(default_factory=dict)
    part: str = ""
    display: Mapping[str, str] = field(default_factory=dict[str, str])
    oracles: frozenset[str] = frozenset()

    @cached_property
    def holes(self) -> pd.DataFrame:
        """The rows of the plan without a measurement."""
        have = pd.MultiIndex.from_frame(self.rows[["trial_id", "round"]])
        want = pd.MultiIndex.from_frame(self.plan[["trial_id", "round"]])
        return self.plan[~want.isin(have)].reset_index(drop=True)

    def restricted_to(self, trial_ids: Collection[str], part: str = "") -> "Run":
        """The same run with these trials only, ``part`` being the filter that chose them."""
        kept = self.rows["trial_id"].isin(list(trial_ids))
        plan = self.plan[self.plan["trial_id"].isin(list(trial_ids))].reset_index(drop=True)
        return replace(
            self,
            rows=self.rows[kept].reset_index(drop=True),
            plan=plan,
            picks=self.picks[kept].reset_index(drop=True),
            failures={trial_id: why for trial_id, why in self.failures.items() if trial_id in trial_ids},
            part=part,
        )


def read_run(run: Path) -> Run:
    """A results folder as frames; labels of trials come from the plan, not from the rows.

    Raises:
        InputError: no results folder, or damaged rows.
    """
    plan = read_plan(run)
    planned = {trial["trial_id"]: trial for trial in plan["trials"]}
    cells = [
        {**{k: v for k, v in trial.items() if k != "rounds"}, "round": index}
        for trial in planned.values()
        for index in range(trial["rounds"])
    ]
    try:
        stored = stored_rows(run)
    except OSError as fault:
        raise InputError(f"results folder {run}: {fault}; expected: a readable folder") from fault
    check_stored(run, stored, planned)
    histories(stored, run / ROUNDS)
    order = {trial_id: position for position, trial_id in enumerate(planned)}
    stored.sort(key=lambda row: (order[row["trial_id"]], row["round"]))
    unknown = dict.fromkeys(PROVENANCE, UNKNOWN)
    labeled = [{**unknown, **row, **{c: planned[row["trial_id"]][c] for c in LABELS}} for row in stored]
    rows = pd.DataFrame([{c: row.get(c) for c in COLUMNS} for row in labeled], columns=list(COLUMNS))
    rows = rows.astype(dict.fromkeys(names("measured", "outcome", "seconds", "diagnostic"), "float64"))
    picks = pd.Series([np.array(row[PICKED], dtype=np.int64) for row in stored], dtype=object)
    failures = {trial_id: why for trial_id, why in read_failures(run).items() if trial_id in planned}
    return Run(
        plan["name"],
        rows,
        pd.DataFrame(cells),
        picks,
        failures,
        display=plan.get("display", {}),
        oracles=frozenset(plan.get("oracles", [])),
    )
