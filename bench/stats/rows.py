"""Checks that rows can be averaged and ranked, and their means over the data sets of a group.

A configuration is a (group, teacher, student, distillation, recipe). A setting is a (configuration, round) with
round >= 1, because all selectors share round 0. The data sets of a group are averaged before anything is ranked.
"""

from collections.abc import Sequence

import pandas as pd

from activekd.errors import InputError
from bench.columns import CONFIGURATION, COSTS, IDENTITY, MEASURED, SETTING

REQUIRED = (*IDENTITY, *MEASURED, *COSTS)
"""Columns that a table of rounds must have; diagnostics and provenance may be missing."""

CELLS_NAMED = 5
"""Cells that an error names."""

_CELL = (*CONFIGURATION, "dataset", "selector", "seed", "round")


def check_rows(rows: pd.DataFrame) -> None:
    """Check that a table can be averaged and ranked without comparing unlike things.

    Every configuration must hold the full product of its data sets, selectors, seeds and rounds, once each, with equal
    label budgets for all selectors and seeds.

    Raises:
        InputError: naming the cells at fault and what is expected.
    """
    missing = [column for column in REQUIRED if column not in rows.columns]
    if missing:
        present = ", ".join(map(str, rows.columns))
        raise InputError(f"table of rounds lacks the columns {', '.join(missing)}; it has: {present}")
    if rows.empty:
        raise InputError("table of rounds is empty; expected: at least one (trial, round)")
    protocols = sorted(rows["protocol"].unique())
    if len(protocols) > 1:
        raise InputError(
            f"rows of protocols {', '.join(map(str, protocols))} in one table; expected: rows of one protocol"
        )
    twice = rows[rows.duplicated(["trial_id", "round"], keep=False)]
    if not twice.empty:
        raise InputError(
            f"more than one row of {_names(twice, ('trial_id', 'round'))}; expected: one row per (trial_id, round)"
        )
    outside = rows[~rows["accuracy"].between(0.0, 1.0)]
    if not outside.empty:
        raise InputError(f"accuracy of {_names(outside, (*_CELL, 'accuracy'))}; expected: a fraction in [0, 1]")
    _check_cells(rows)


def _check_cells(rows: pd.DataFrame) -> None:
    doubled = rows[rows.duplicated(list(_CELL), keep=False)]
    if not doubled.empty:
        raise InputError(
            f"two trials of one cell: {_names(doubled, (*_CELL, 'trial_id'))}; expected: one trial per (configuration, "
            f"data set, selector, seed) (give one of them another recipe name or group)"
        )
    axes = ["dataset", "selector", "seed", "round"]
    holes = []
    for _, part in rows.groupby(list(CONFIGURATION)):
        want = pd.MultiIndex.from_product([sorted(part[axis].unique()) for axis in axes], names=axes)
        lacking = want[~want.isin(pd.MultiIndex.from_frame(part[axes]))].to_frame(index=False)
        holes.append(lacking.merge(part[list(CONFIGURATION)].drop_duplicates(), how="cross"))
    lacking = pd.concat(holes, ignore_index=True)
    if not lacking.empty:
        raise InputError(
            f"selectors of one configuration do not share seeds, data sets and rounds; without a row: "
            f"{_names(lacking, _CELL)}; expected: the same ones for every selector of a configuration"
        )
    per_round = rows.groupby([*CONFIGURATION, "dataset", "round"])["n_labeled"]
    unequal = per_round.agg(["min", "max"]).query("min != max").reset_index()
    if not unequal.empty:
        raise InputError(
            f"unequal label budgets: {_names(unequal, (*CONFIGURATION, 'dataset', 'round', 'min', 'max'))}; "
            f"expected: one n_labeled per (configuration, data set, round)"
        )


def _names(cells: pd.DataFrame, columns: Sequence[str]) -> str:
    shown = [" ".join(f"{c}={cell[c]}" for c in columns) for _, cell in cells.head(CELLS_NAMED).iterrows()]
    more = len(cells) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def seed_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each seed, the data sets of a group averaged.

    Returns:
        Columns of SETTING, selector, seed, accuracy, n_labeled (mean over the data sets).
    """
    return rows.groupby([*SETTING, "selector", "seed"])[["accuracy", "n_labeled"]].mean().reset_index()


def seed_arrays(rows: pd.DataFrame, column: str, keys: Sequence[str]) -> pd.DataFrame:
    """One row per (keys, seed), one column per selector; NaN where a selector took no part.

    Args:
        rows: one row per (keys, seed, selector), such as ``seed_means``.
        column: the values.
    """
    return rows.pivot_table(index=[*keys, "seed"], columns="selector", values=column)


def first_rounds(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The part of a frame in the first round of each value of ``by``."""
    return frame[frame["round"] == frame.groupby(list(by))["round"].transform("min")]


def last_rounds(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The part of a frame in the last round of each value of ``by``."""
    return frame[frame["round"] == frame.groupby(list(by))["round"].transform("max")]
