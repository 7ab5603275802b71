"""Several results folders as one run: the union of their rows, where these are of one protocol and do not disagree."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from activekd.errors import InputError
from bench.columns import CONFIGURATION, MEASURED
from bench.store.folder import CONTENT, read_plan
from bench.store.table import Run, read_run

CELL = (*CONFIGURATION, "dataset", "selector", "seed")
"""The place of a trial in every table."""

KEY = ["trial_id", "round"]

COMPARED = ("n_labeled", *MEASURED)
"""Columns in which rows of one (trial, round) must agree, as they must in their picks."""

NAMED = 3
"""Cells or rows that an error names of each kind."""


def read_merged(folders: Sequence[Path]) -> Run:
    """The union of the rows of results folders; rows that several have alike are taken once.

    Args:
        folders: one or more; labels of names are those of the last that has them.

    Raises:
        InputError: a folder cannot be read or is given twice; or, all at once, folders of different protocols, other
            content behind one name, other definitions of one cell, and rows of one (trial, round) that disagree.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(f"the same RUN twice: {', '.join(map(str, folders))}; expected: different results folders")
    runs = {folder: read_run(folder) for folder in folders}
    if len(runs) == 1:
        return next(iter(runs.values()))
    faults = list(_protocol_faults(runs)) or [*_source_faults(folders), *_cell_faults(runs), *_row_faults(runs)]
    if faults:
        raise InputError(*faults)
    rows = pd.concat([run.rows for run in runs.values()], ignore_index=True)
    picks = pd.concat([run.picks for run in runs.values()], ignore_index=True)
    kept = ~rows.duplicated(KEY)
    plan = pd.concat([run.plan for run in runs.values()], ignore_index=True).drop_duplicates(KEY, ignore_index=True)
    merged = Run(
        " + ".join(dict.fromkeys(run.name for run in runs.values())),
        rows[kept].reset_index(drop=True),
        plan,
        picks[kept].reset_index(drop=True),
        {trial_id: why for run in runs.values() for trial_id, why in run.failures.items()},
        display={name: label for run in runs.values() for name, label in run.display.items()},
        oracles=frozenset().union(*(run.oracles for run in runs.values())),
    )
    return merged.restricted_to(plan["trial_id"].unique().tolist())


def _protocol_faults(runs: Mapping[Path, Run]) -> Iterator[str]:
    found = {folder: sorted(run.plan["protocol"].unique()) for folder, run in runs.items()}
    if len({protocol for protocols in found.values() for protocol in protocols}) > 1:
        named = "; ".join(f"{folder} {', '.join(map(str, protocols))}" for folder, protocols in found.items())
        yield f"RUNs of different protocols: {named}; expected: RUNs of one protocol, whose numbers can be compared"


def _source_faults(folders: Sequence[Path]) -> Iterator[str]:
    """Names behind which two folders have other images, code or weights; a folder that lacks a hash may have any."""
    plans = {folder: read_plan(folder) for folder in folders}
    for (one, before), (other, after) in combinations(plans.items(), 2):
        for kind, what in CONTENT.items():
            then, now = before.get(kind, {}), after.get(kind, {})
            changed = [name for name, content in now.items() if then.get(name, content) != content]
            if changed:
                yield f"{one} and {other}: {what} of {', '.join(changed)} differ; expected: the same in both"


def _cell_faults(runs: Mapping[Path, Run]) -> Iterator[str]:
    """Cells with another trial in another folder, and trials with another cell."""
    trials = {folder: run.plan.drop_duplicates("trial_id")[["trial_id", *CELL]] for folder, run in runs.items()}
    for (one, before), (other, after) in combinations(trials.items(), 2):
        same = before.merge(after, on=list(CELL), suffixes=("", "_other"))
        if cells := _named(same[same["trial_id"] != same["trial_id_other"]], CELL):
            yield (
                f"{one} and {other} define the same cell differently: {cells}; expected: equal rounds, initial labels, "
                f"query size, recipe and views, or another group or compared_as in one spec"
            )
        moved = before.merge(after, on="trial_id", suffixes=("", "_other"))
        moved = moved[(moved["group"] != moved["group_other"]) | (moved["recipe"] != moved["recipe_other"])]
        if cells := _named(moved, ("group", "group_other", "recipe", "recipe_other", "selector", "seed")):
            yield f"{one} and {other} show the same trial in two cells: {cells}; expected: one group and recipe name"


def _row_faults(runs: Mapping[Path, Run]) -> Iterator[str]:
    """Rows of one (trial, round) that disagree in two folders."""
    tables = {folder: run.rows.assign(picked=run.picks.map(tuple)) for folder, run in runs.items()}
    columns = [*COMPARED, "picked"]
    for (one, before), (other, after) in combinations(tables.items(), 2):
        both = before.merge(after[[*KEY, *columns]], on=KEY, suffixes=("", "_other"))
        differs = pd.Series(data=False, index=both.index)
        for name in columns:
            left, right = both[name], both[f"{name}_other"]
            differs |= (left != right) & ~(left.isna() & right.isna())
        if rows := _named(both[differs], (*CELL, "round", "accuracy", "accuracy_other")):
            yield (
                f"{one} and {other} disagree on {int(differs.sum())} of {len(both)} rows that both have: {rows}; "
                f"expected: equal accuracies and picks, or one of the two RUNs"
            )


def _named(cells: pd.DataFrame, columns: Sequence[str]) -> str:
    """Some rows of a frame in words; empty for none."""
    records: Sequence[Mapping[Any, Any]] = cells.head(NAMED).to_dict("records")
    shown = [" ".join(f"{name}={record[name]}" for name in columns) for record in records]
    more = len(cells) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
