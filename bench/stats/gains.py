"""Gain of distillation: accuracy with a teacher minus accuracy without it, and what of it which images bring."""

from collections.abc import Sequence

import pandas as pd

from bench.stats.intervals import mean_interval
from bench.stats.rows import NO_TEACHER

_GAIN = ("group", "student", "recipe", "teacher", "distillation", "selector", "round")
GAIN_SUMMARY = ("teacher", "distillation", "round")


def _gains_by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Per (_GAIN, seed): accuracy with and without teacher, their difference, the teacher's own accuracy."""
    on = ["group", "dataset", "student", "recipe", "selector", "seed", "round"]
    distilled = rows[rows["teacher"] != NO_TEACHER]
    plain = rows[rows["teacher"] == NO_TEACHER][[*on, "accuracy"]].rename(columns={"accuracy": "without"})
    pairs = distilled.merge(plain, on=on, validate="many_to_one").rename(columns={"accuracy": "with_teacher"})
    pairs = pairs.assign(gain=pairs["with_teacher"] - pairs["without"])
    by = [*_GAIN, "seed"]
    whole = distilled.groupby(by).size().rename("whole").reset_index()
    found = pairs.groupby(by).agg(
        with_teacher=("with_teacher", "mean"),
        without=("without", "mean"),
        gain=("gain", "mean"),
        teacher_accuracy=("teacher_accuracy", "mean"),
        paired=("gain", "size"),
    )
    found = found.reset_index().merge(whole, on=by)
    return found[found["paired"] == found["whole"]].drop(columns=["paired", "whole"]).reset_index(drop=True)


def gain(rows: pd.DataFrame) -> pd.DataFrame:
    """Gain of distillation: accuracy with a teacher minus accuracy without it, per configuration, selector and round.

    Paired by (data set, student, recipe, selector, seed, round); a seed counts where all data sets of the group have
    their pair. What has no counterpart without a teacher is left out.

    Returns:
        Columns group, student, recipe, teacher, distillation, selector, round, with_teacher, without, teacher_accuracy
        (of the teacher itself), gain, low, high (95% t interval of the gain over seeds), n_seeds; accuracies as
        fractions.
    """
    return _gain_over_seeds(_gains_by_seed(rows), _GAIN)


def gain_summary(rows: pd.DataFrame, by: Sequence[str] = GAIN_SUMMARY) -> pd.DataFrame:
    """The gain of distillation averaged over all that ``by`` does not name; within a seed first.

    Only the seeds that all averaged cells share are used.

    Args:
        by: some of the key columns of ``gain``.

    Returns:
        Columns ``by``, those of ``gain`` from with_teacher on, and n_cells (how many of its cells were averaged).
    """
    keys = list(by)
    per_cell = _gains_by_seed(rows)
    n_cells = per_cell[list(_GAIN)].drop_duplicates().groupby(keys).size().rename("n_cells").reset_index()
    measured = ["with_teacher", "without", "gain", "teacher_accuracy"]
    averages = per_cell.groupby([*keys, "seed"])[measured].mean()
    averages = averages.assign(found=per_cell.groupby([*keys, "seed"]).size()).reset_index().merge(n_cells, on=keys)
    per_seed = averages[averages["found"] == averages["n_cells"]]
    return _gain_over_seeds(per_seed, by).merge(n_cells, on=keys)


def _gain_over_seeds(per_seed: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    keys, levels = list(by), ["with_teacher", "without", "teacher_accuracy"]
    interval = mean_interval(per_seed, by, "gain").rename(columns={"mean": "gain"})
    means = per_seed.groupby(keys)[levels].mean().reset_index()
    return means.merge(interval, on=keys)[[*keys, *levels, "gain", "low", "high", "n_seeds"]]


def gain_split(rows: pd.DataFrame) -> pd.DataFrame:
    """The gain by the images on which the student is taught: the labeled ones, the unlabeled ones, both.

    Per selector, averaged over query rounds, data sets and seeds; where a run has a teacher with distillation on both
    and on one of the two.

    Returns:
        Columns group, student, recipe, teacher, selector, distillation, gain, low, high (95% Student t over seeds),
        n_seeds; empty for a run that distils on both alone.
    """
    keys = ["group", "student", "recipe", "teacher", "selector"]
    found = gain_summary(rows[rows["round"] >= 1], [*keys, "distillation"])
    several = found.groupby(keys)["distillation"].transform("nunique") > 1
    return found.loc[several, [*keys, "distillation", "gain", "low", "high", "n_seeds"]].reset_index(drop=True)
