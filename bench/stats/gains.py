"""Gain of distillation: accuracy with a teacher minus accuracy without one, and which images it comes from."""

from collections.abc import Sequence

import pandas as pd

from activekd.recipes import NO_TEACHER
from bench.stats.intervals import mean_interval

GAIN_KEYS = ("group", "student", "recipe", "teacher", "distillation", "selector", "round")
GAIN_BY_TEACHER = ("teacher", "distillation", "round")
GAIN_BY_STUDENT = ("group", "student", "recipe", *GAIN_BY_TEACHER)
GAIN_BY_SELECTOR = ("teacher", "distillation", "selector")

_LEVELS = ["with_teacher", "without", "teacher_accuracy"]


def seed_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Gain of each seed, paired by (data set, student, recipe, selector, seed, round); data sets averaged.

    A seed counts where every data set of the group has its pair.

    Returns:
        Columns of GAIN_KEYS, seed, with_teacher, without, gain, teacher_accuracy (of the teacher itself).
    """
    on = ["group", "dataset", "student", "recipe", "selector", "seed", "round"]
    distilled = rows[rows["teacher"] != NO_TEACHER]
    plain = rows[rows["teacher"] == NO_TEACHER][[*on, "accuracy"]].rename(columns={"accuracy": "without"})
    pairs = distilled.merge(plain, on=on, validate="many_to_one").rename(columns={"accuracy": "with_teacher"})
    pairs = pairs.assign(gain=pairs["with_teacher"] - pairs["without"])
    by = [*GAIN_KEYS, "seed"]
    whole = distilled.groupby(by).size().rename("whole").reset_index()
    means = pairs.groupby(by).agg(
        with_teacher=("with_teacher", "mean"),
        without=("without", "mean"),
        gain=("gain", "mean"),
        teacher_accuracy=("teacher_accuracy", "mean"),
        paired=("gain", "size"),
    )
    means = means.reset_index().merge(whole, on=by)
    return means[means["paired"] == means["whole"]].drop(columns=["paired", "whole"]).reset_index(drop=True)


def gain(gains: pd.DataFrame) -> pd.DataFrame:
    """Gain of distillation per configuration, selector and round.

    Args:
        gains: ``seed_gains``.

    Returns:
        Columns of GAIN_KEYS, with_teacher, without, teacher_accuracy, gain, low, high (95% Student t over seeds),
        n_seeds; accuracies as fractions.
    """
    return _over_seeds(gains, GAIN_KEYS)


def gain_summary(gains: pd.DataFrame, by: Sequence[str] = GAIN_BY_TEACHER) -> pd.DataFrame:
    """The gain of distillation averaged over every key that ``by`` does not name, within a seed first.

    Only seeds that all averaged cells share are used.

    Args:
        gains: ``seed_gains``.
        by: some of GAIN_KEYS.

    Returns:
        Columns ``by``, those of ``gain`` from with_teacher on, and n_cells (cells averaged).
    """
    keys = list(by)
    n_cells = gains[list(GAIN_KEYS)].drop_duplicates().groupby(keys).size().rename("n_cells").reset_index()
    seeds = gains.groupby([*keys, "seed"])
    averages = seeds[[*_LEVELS, "gain"]].mean().assign(present=seeds.size()).reset_index().merge(n_cells, on=keys)
    shared = averages[averages["present"] == averages["n_cells"]]
    return _over_seeds(shared, by).merge(n_cells, on=keys)


def _over_seeds(gains: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    keys = list(by)
    interval = mean_interval(gains, by, "gain").rename(columns={"mean": "gain"})
    means = gains.groupby(keys)[_LEVELS].mean().reset_index()
    return means.merge(interval, on=keys)[[*keys, *_LEVELS, "gain", "low", "high", "n_seeds"]]


def gain_split(gains: pd.DataFrame) -> pd.DataFrame:
    """The gain by the images on which the student is distilled: labeled, unlabeled, or both.

    Per selector, averaged over query rounds, data sets and seeds, for teachers with several distillation modes.

    Args:
        gains: ``seed_gains``.

    Returns:
        Columns group, student, recipe, teacher, selector, distillation, gain, low, high (95% Student t over seeds),
        n_seeds; empty where every teacher has one mode.
    """
    keys = ["group", "student", "recipe", "teacher", "selector"]
    summary = gain_summary(query_rounds(gains), [*keys, "distillation"])
    several = summary.groupby(keys)["distillation"].transform("nunique") > 1
    return summary.loc[several, [*keys, "distillation", "gain", "low", "high", "n_seeds"]].reset_index(drop=True)


def query_rounds(gains: pd.DataFrame) -> pd.DataFrame:
    """The gains after at least one query."""
    return gains[gains["round"] >= 1]
