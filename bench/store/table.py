"""A results folder as frames: its rows, its plan, and the rounds that are missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from activekd.errors import InputError
from bench.columns import COLUMNS, PICKED, Row, names
from bench.store.folder import PLAN, read_plan
from bench.store.history import histories
from bench.store.rows import ROUNDS, stored_rows

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0)]


@dataclass(frozen=True)
class Run:
    """A results folder as read: the rows that it has and the (trial, round)s that its plan expects.

    Attributes:
        name: of the spec.
        rows: the tidy table, one row per (trial_id, round), in the order of the plan.
        plan: identity columns of each expected (trial_id, round).
        picks: train rows bought in each row of the table, with the same index.
    """

    name: str
    rows: pd.DataFrame
    plan: pd.DataFrame
    picks: pd.Series

    @cached_property
    def holes(self) -> pd.DataFrame:
        """The rows of the plan without a measurement."""
        have = pd.MultiIndex.from_frame(self.rows[["trial_id", "round"]])
        want = pd.MultiIndex.from_frame(self.plan[["trial_id", "round"]])
        return self.plan[~want.isin(have)].reset_index(drop=True)

    def restricted_to(self, trial_ids: Sequence[str]) -> "Run":
        """The same run with these trials only."""
        kept = self.rows["trial_id"].isin(trial_ids)
        plan = self.plan[self.plan["trial_id"].isin(trial_ids)].reset_index(drop=True)
        return Run(self.name, self.rows[kept].reset_index(drop=True), plan, self.picks[kept].reset_index(drop=True))


def read_run(run: Path) -> Run:
    """A results folder as frames.

    Raises:
        InputError: no results folder, or damaged rows.
    """
    plan = read_plan(run)
    cells = [
        {**{k: v for k, v in trial.items() if k != "rounds"}, "round": index}
        for trial in plan["trials"]
        for index in range(trial["rounds"])
    ]
    order = {trial["trial_id"]: position for position, trial in enumerate(plan["trials"])}
    stored = stored_rows(run)
    _check_stored(run, stored, {trial["trial_id"]: trial for trial in plan["trials"]})
    histories(stored, run / ROUNDS)
    stored.sort(key=lambda row: (order[row["trial_id"]], row["round"]))
    rows = pd.DataFrame([{c: row.get(c) for c in COLUMNS} for row in stored], columns=list(COLUMNS))
    rows = rows.astype(dict.fromkeys(names("measured", "seconds", "diagnostic"), "float64"))
    picks = pd.Series([np.array(row[PICKED], dtype=np.int64) for row in stored], dtype=object)
    return Run(plan["name"], rows, pd.DataFrame(cells), picks)


class StoredRow(BaseModel):
    """The checked columns of a line of rounds.jsonl; diagnostics and provenance are not checked."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    trial_id: str
    round: Annotated[int, Field(ge=0)]
    protocol: int
    dataset: str
    group: str
    teacher: str
    student: str
    distillation: str
    recipe: str
    selector: str
    seed: Annotated[int, Field(ge=0)]
    n_labeled: Annotated[int, Field(ge=0)]
    accuracy: Fraction
    teacher_accuracy: Fraction | None
    teacher_seconds: Seconds
    train_seconds: Seconds
    predict_seconds: Seconds
    select_seconds: Seconds
    peak_rss_bytes: Annotated[int, Field(ge=0)]
    picked: list[Annotated[int, Field(ge=0)]]


IDENTIFIED = ("protocol", "dataset", "group", "teacher", "student", "distillation", "recipe", "selector", "seed")


def _check_stored(run: Path, stored: Sequence[Row], planned: Mapping[str, Row]) -> None:
    """Check that the types, the trial and the labels of every row are those that a grid stores.

    Raises:
        InputError: names the first faulty row: it was edited, or belongs to another plan.
    """
    try:
        rows = _ROWS.validate_python(stored)
    except ValidationError as fault:
        first = fault.errors()[0]
        index, *where = first["loc"]
        at = f"{run / ROUNDS} line {int(index) + 1}: {'.'.join(map(str, where))}"
        raise InputError(f"{at}: found {first['input']!r}; {first['msg']}") from fault
    starts: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        trial = planned.get(row.trial_id)
        at = f"{run / ROUNDS} line {number}, trial {row.trial_id} round {row.round}"
        if trial is None:
            raise InputError(f"{at}: not a trial of {PLAN}; expected: a trial of the folder's grid")
        for column in IDENTIFIED:
            if getattr(row, column) != trial[column]:
                raise InputError(f"{at}: {column} is {getattr(row, column)!r}; expected: {trial[column]!r} ({PLAN})")
        if row.round >= trial["rounds"]:
            raise InputError(f"{at}: the trial has {trial['rounds']} rounds; expected: a round below {trial['rounds']}")
        asked = trial["query_size"] if row.round + 1 < trial["rounds"] else 0
        if trial["query_size"] is not None and (len(row.picked) != asked or len(set(row.picked)) != asked):
            raise InputError(f"{at}: {len(row.picked)} picks, {len(set(row.picked))} different; expected: {asked}")
        if trial["query_size"] is not None:
            start = row.n_labeled - row.round * trial["query_size"]
            if starts.setdefault(row.trial_id, start) != start:
                fitting = starts[row.trial_id] + row.round * trial["query_size"]
                raise InputError(f"{at}: n_labeled is {row.n_labeled}; expected: {fitting}, by the trial's first row")


_ROWS = TypeAdapter(list[StoredRow])
