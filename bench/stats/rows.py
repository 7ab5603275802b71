"""Checks that rows can be averaged and ranked, and their means over the data sets of a group.

A configuration is a (group, teacher, student, distillation, recipe). A setting is a (configuration, round) with
round >= 1, because all selectors share round 0. The data sets of a group are averaged before anything is ranked.
"""

from collections.abc import Sequence

import pandas as pd

from activekd.errors import InputError
from bench.columns import CONFIGURATION, COSTS, DIAGNOSTICS, IDENTITY, MEASURED, OUTCOMES, SETTING

REQUIRED = (*IDENTITY, *MEASURED, *COSTS)
"""Columns that a table of rounds must have; outcomes, diagnostics and provenance may be missing."""

NUMBERS = (*MEASURED, *OUTCOMES, *COSTS, *DIAGNOSTICS, "n_labeled", "round")
"""Columns of numbers."""

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
    wrong = [c for c in NUMBERS if c in rows and not pd.api.types.is_numeric_dtype(rows[c]) and rows[c].notna().any()]
    if wrong:
        found = "; ".join(f"{c} has {next(v for v in rows[c] if not _is_number(v))!r}" for c in wrong)
        raise InputError(f"columns that are no numbers: {found}; expected: numbers, empty where there is no value")
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


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _names(cells: pd.DataFrame, columns: Sequence[str]) -> str:
    shown = [" ".join(f"{c}={cell[c]}" for c in columns) for _, cell in cells.head(CELLS_NAMED).iterrows()]
    more = len(cells) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def seed_means(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each seed, the data sets of a group averaged.

    A seed counts where it has every data set of the configuration.

    Returns:
        Columns of SETTING, selector, seed, accuracy, n_labeled (mean over the data sets).
    """
    return data_set_means(rows, [*SETTING, "selector", "seed"], ["accuracy", "n_labeled"])


def data_set_means(
    rows: pd.DataFrame, by: Sequence[str], columns: Sequence[str], of: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Means over the data sets of a configuration, of those values of ``by`` that have all of them.

    Args:
        rows: one row per (``by``, dataset).
        by: keys that include CONFIGURATION.
        columns: averaged.
        of: rows with all data sets of each configuration; None for ``rows``.

    Returns:
        Columns ``by`` and ``columns``.
    """
    groups = rows.groupby(list(by))
    means = groups[list(columns)].mean().assign(present=groups["dataset"].nunique()).reset_index()
    whole = (rows if of is None else of).groupby(list(CONFIGURATION))["dataset"].nunique().rename("whole").reset_index()
    means = means.merge(whole, on=list(CONFIGURATION))
    return means.loc[means["present"] == means["whole"], [*by, *columns]].reset_index(drop=True)


def shared(frame: pd.DataFrame, comparison: Sequence[str], cells: Sequence[str], unit: str) -> pd.DataFrame:
    """The part of a frame in those units that every cell of a comparison has.

    Args:
        frame: the columns ``comparison``, ``cells`` and ``unit``.
        comparison: keys of the comparisons; none for a single one.
        cells: keys that tell the cells of a comparison apart.
        unit: ``seed`` or ``round``.
    """
    keys = list(comparison)
    pairs = frame[[*keys, *cells, unit]].drop_duplicates()
    n_cells = pairs[[*keys, *cells]].drop_duplicates()
    if not keys:
        present = pairs.groupby(unit).size()
        return frame[frame[unit].isin(present.index[present == len(n_cells)])]
    wanted = n_cells.groupby(keys).size().rename("wanted").reset_index()
    present = pairs.groupby([*keys, unit]).size().rename("present").reset_index().merge(wanted, on=keys)
    kept = pd.MultiIndex.from_frame(present.loc[present["present"] == present["wanted"], [*keys, unit]])
    return frame[pd.MultiIndex.from_frame(frame[[*keys, unit]]).isin(kept)]


def alike(frame: pd.DataFrame, comparison: Sequence[str], cells: Sequence[str]) -> pd.DataFrame:
    """The part of a frame in those rounds, and of these those seeds, that every cell of a comparison has.

    Args:
        frame: the columns ``comparison``, ``cells``, round and seed.
        comparison: keys of the comparisons; none for a single one.
        cells: keys that tell the cells of a comparison apart.
    """
    return shared(shared(frame, comparison, cells, "round"), comparison, [*cells, "round"], "seed")


def everywhere(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The part of a frame in those values of ``keys`` that have every selector of the frame; empty where none has."""
    if frame.empty:
        return frame
    present = frame.groupby(list(keys))["selector"].transform("nunique")
    return frame[present == frame["selector"].nunique()]


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
