"""The checks of stored rows: their types and ranges, their trials, and what the rows of one trial must share."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from activekd.errors import InputError
from bench.columns import DIAGNOSTICS, PICKED, PROVENANCE, Row
from bench.store.folder import PLAN, explained
from bench.store.rows import ROUNDS

LARGEST = 2**63 - 1
FAULTS_NAMED = 5
"""Faults that an error lists."""

LABELS = ("group", "recipe")
"""Columns that name a trial in tables and are no part of its id: a report takes them from the plan."""

IDENTIFIED = ("protocol", "dataset", "teacher", "student", "distillation", "selector", "seed")
"""Columns of a row that must be those of its trial in the plan."""

Count = Annotated[int, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0)]


class StoredRow(BaseModel):
    """A line of rounds.jsonl. Diagnostics and provenance, which it may lack, are checked by ``Extras``."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    trial_id: str
    round: Count
    protocol: int
    dataset: str
    group: str
    teacher: str
    student: str
    distillation: str
    recipe: str
    selector: str
    seed: Count
    n_labeled: Count
    n_classes: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    query_size: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    accuracy: Fraction
    teacher_accuracy: Fraction | None
    macro_accuracy: Fraction | None = None
    worst_class_accuracy: Fraction | None = None
    wasted_labels: Count | None = None
    transfer_accuracy: Fraction | None = None
    all_labels_accuracy: Fraction | None = None
    probe_accuracy: Fraction | None = None
    clap_accuracy: Fraction | None = None
    forward_passes: Count | None = None
    teacher_seconds: Seconds
    train_seconds: Seconds
    predict_seconds: Seconds
    select_seconds: Seconds
    peak_rss_bytes: Count
    picked: list[Count]


class Extras(BaseModel):
    """The columns of a line that a grid may leave out."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    diagnostics: dict[str, float | None]
    provenance: dict[str, str]


_ROWS = TypeAdapter(list[StoredRow])
_EXTRAS = TypeAdapter(list[Extras])


def check_stored(run: Path, stored: Sequence[Row], planned: Mapping[str, Row]) -> None:
    """Check that the rows of a results folder are those that its grid stores.

    Args:
        run: the results folder, for messages.
        stored: its rows, in the order of the file.
        planned: trials of its plan, by id.

    Raises:
        InputError: names the faulty lines, at most FAULTS_NAMED: they were edited, or belong to another plan.
    """
    faults = list(_type_faults(stored)) or [
        *_plan_faults(stored, planned),
        *_twice(stored),
        *_label_faults(stored, planned),
    ]
    if faults:
        more = f"; and {len(faults) - FAULTS_NAMED} more faults" if len(faults) > FAULTS_NAMED else ""
        raise InputError(f"{run / ROUNDS} {'; '.join(faults[:FAULTS_NAMED])}{more}")


def _type_faults(stored: Sequence[Row]) -> Iterator[str]:
    extras = [
        {
            "diagnostics": {name: row[name] for name in DIAGNOSTICS if name in row},
            "provenance": {name: row[name] for name in PROVENANCE if name in row},
        }
        for row in stored
    ]
    try:
        _ROWS.validate_python(stored)
        _EXTRAS.validate_python(extras)
    except ValidationError as fault:
        for error in fault.errors():
            index, *where = error["loc"]
            column = ".".join(str(part) for part in where if part not in {"diagnostics", "provenance"})
            yield f"line {int(index) + 1}: {column}: {explained(error)}"


def _at(number: int, row: Row) -> str:
    return f"line {number}, trial {row['trial_id']} round {row['round']}"


def _plan_faults(stored: Sequence[Row], planned: Mapping[str, Row]) -> Iterator[str]:
    """Rows of no trial of the plan, or with other columns, rounds or picks than their trial has."""
    for number, row in enumerate(stored, start=1):
        trial, at = planned.get(row["trial_id"]), _at(number, row)
        if trial is None:
            yield f"{at}: not a trial of {PLAN}; expected: a trial of the folder's grid"
            continue
        for column in (*IDENTIFIED, "n_classes", "query_size"):
            wanted = trial.get(column)
            if wanted is not None and row.get(column, wanted) != wanted:
                yield f"{at}: {column} is {row[column]!r}; expected: {wanted!r} ({PLAN})"
        if row["round"] >= trial["rounds"]:
            yield f"{at}: the trial has {trial['rounds']} rounds; expected: a round below {trial['rounds']}"
        elif (query_size := trial.get("query_size")) is not None:
            asked, picked = query_size if row["round"] + 1 < trial["rounds"] else 0, row[PICKED]
            if len(picked) != asked or len(set(picked)) != asked:
                yield f"{at}: {len(picked)} picks, {len(set(picked))} different; expected: {asked}"


def _twice(stored: Sequence[Row]) -> Iterator[str]:
    """Rounds that stand in two lines, and images that a trial picks twice."""
    lines: dict[tuple[str, int], int] = {}
    bought: dict[tuple[str, int], int] = {}
    for number, row in enumerate(stored, start=1):
        first = lines.setdefault((row["trial_id"], row["round"]), number)
        if first != number:
            yield f"{_at(number, row)}: also in line {first}; expected: one line per (trial, round)"
            continue
        again = [pick for pick in row[PICKED] if bought.setdefault((row["trial_id"], pick), number) != number]
        if again:
            before = bought[row["trial_id"], again[0]]
            yield f"{_at(number, row)}: image {again[0]} is also picked in line {before}; expected: unlabeled images"


def _label_faults(stored: Sequence[Row], planned: Mapping[str, Row]) -> Iterator[str]:
    """Rows whose ``n_labeled`` does not fit the query size; the budget of most rows of a trial is right."""
    starts: dict[str, list[tuple[int, int]]] = {}
    for number, row in enumerate(stored, start=1):
        query_size = planned.get(row["trial_id"], {}).get("query_size")
        if query_size is not None:
            starts.setdefault(row["trial_id"], []).append((number, row["n_labeled"] - row["round"] * query_size))
    for trial_id, found in starts.items():
        counted = Counter(start for _, start in found).most_common(2)
        if len(counted) < 2:
            continue
        (right, n_right), (_, n_other) = counted
        for number, start in found:
            row = stored[number - 1]
            if n_right > n_other and start == right:
                continue
            wanted = right + row["round"] * planned[trial_id]["query_size"]
            yield (
                f"{_at(number, row)}: n_labeled is {row['n_labeled']}; expected: {wanted}, by most rows of the trial"
                if n_right > n_other
                else f"{_at(number, row)}: n_labeled is {row['n_labeled']}, which does not fit the trial's other rows; "
                f"expected: {planned[trial_id]['query_size']} more labels in each round"
            )
