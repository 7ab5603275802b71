"""Gain of distillation: accuracy with a teacher minus accuracy without one, and which images it comes from."""

from collections.abc import Sequence

import pandas as pd

from activekd.recipes import NO_TEACHER
from activekd.students.networks import ADAPTER, FROZEN
from bench.columns import HEADS
from bench.stats.intervals import mean_interval
from bench.stats.rows import alike, first_rounds, last_rounds

GAIN_KEYS = ("group", "student", "recipe", "teacher", "distillation", "selector", "round")
GAIN_BY_TEACHER = ("teacher", "distillation", "round")
GAIN_BY_STUDENT = ("group", "student", "recipe", *GAIN_BY_TEACHER)
GAIN_BY_SELECTOR = ("group", "student", "recipe", "teacher", "distillation", "selector")

FROZEN_NOTE = (
    "On a frozen backbone the label head and the distill head share nothing: with the same labels, the label head is "
    "that of no distillation, and the gain is that of averaging it with a linear copy of the teacher"
)

_LEVELS = ["with_teacher", "without", "teacher_accuracy"]


def is_frozen(student: str) -> bool:
    """Whether a student trains its heads alone, so that distillation cannot reach its label head."""
    return student.startswith(FROZEN)


def backbone_of(student: str) -> str:
    """What of a student's backbone is trained, in words."""
    return "frozen" if is_frozen(student) else "frozen, with a trunk" if student.startswith(ADAPTER) else "trained"


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
    by, configuration = [*GAIN_KEYS, "seed"], ["group", "student", "recipe", "teacher", "distillation"]
    whole = distilled.groupby(configuration)["dataset"].nunique().rename("whole").reset_index()
    means = pairs.groupby(by).agg(
        with_teacher=("with_teacher", "mean"),
        without=("without", "mean"),
        gain=("gain", "mean"),
        teacher_accuracy=("teacher_accuracy", "mean"),
        paired=("dataset", "nunique"),
    )
    means = means.reset_index().merge(whole, on=configuration)
    return means[means["paired"] == means["whole"]].drop(columns=["paired", "whole"]).reset_index(drop=True)


def gain(gains: pd.DataFrame) -> pd.DataFrame:
    """Gain of distillation per configuration, selector and round.

    Args:
        gains: ``seed_gains``.

    Returns:
        Columns of GAIN_KEYS, with_teacher, without, teacher_accuracy, gain, low, high (95% Student t over seeds),
        n_seeds, p (NaN below VERDICT_LEAST seeds); accuracies as fractions.
    """
    return _over_seeds(gains, GAIN_KEYS)


def gain_summary(gains: pd.DataFrame, by: Sequence[str] = GAIN_BY_TEACHER) -> pd.DataFrame:
    """The gain of distillation averaged over every key that ``by`` does not name, within a seed first.

    Only rounds, and of these only seeds, that all averaged cells share are used: the same population in every round.

    Args:
        gains: ``seed_gains``.
        by: some of GAIN_KEYS.

    Returns:
        Columns ``by``, those of ``gain`` from with_teacher on, and n_cells (cells averaged, without their rounds).
    """
    keys, comparison = list(by), [name for name in by if name != "round"]
    cells = [name for name in GAIN_KEYS if name not in by and name != "round"]
    same = alike(gains, comparison, cells)
    n_cells = same[[*comparison, *cells]].drop_duplicates().groupby(comparison).size().rename("n_cells").reset_index()
    averages = same.groupby([*keys, "seed"])[[*_LEVELS, "gain"]].mean().reset_index()
    return _over_seeds(averages, by).merge(n_cells, on=comparison)


def pooled_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """The gain of each teacher averaged over data sets, students and selectors, where all of these ran alike.

    Args:
        gains: ``seed_gains``.

    Returns:
        ``gain_summary`` by GAIN_BY_TEACHER, without teachers whose (group, student, recipe)s differ in their rounds or
        seeds: for these an average would be of few seeds and rounds, or of a population that changes.
    """
    cells = ["group", "student", "recipe", "selector"]
    teacher = list(GAIN_BY_TEACHER[:2])
    unequal = pd.MultiIndex.from_frame(gains.drop(index=alike(gains, teacher, cells).index)[teacher])
    summary = gain_summary(gains)
    return summary[~pd.MultiIndex.from_frame(summary[teacher]).isin(unequal)].reset_index(drop=True)


def _over_seeds(gains: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    keys = list(by)
    interval = mean_interval(gains, by, "gain").rename(columns={"mean": "gain"})
    means = gains.groupby(keys)[_LEVELS].mean().reset_index()
    return means.merge(interval, on=keys)[[*keys, *_LEVELS, "gain", "low", "high", "n_seeds", "p"]]


def gain_split(gains: pd.DataFrame) -> pd.DataFrame:
    """The gain by the images on which the student is distilled: labeled, unlabeled, or both.

    Per selector, averaged over query rounds, for teachers with several distillation modes; only rounds and seeds that
    all modes share.

    Args:
        gains: ``seed_gains``.

    Returns:
        Columns group, student, recipe, teacher, selector, distillation, gain, low, high (95% Student t over seeds),
        n_seeds; empty where every teacher has one mode.
    """
    keys, cells = ["group", "student", "recipe", "teacher", "selector"], ["distillation"]
    queries = query_rounds(gains)
    several = queries[queries.groupby(keys)["distillation"].transform("nunique") > 1]
    summary = gain_summary(alike(several, keys, cells), [*keys, "distillation"])
    return summary[[*keys, "distillation", "gain", "low", "high", "n_seeds"]]


def heads(rows: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """What each part of a distilled student reaches alone, in its first and last round.

    Means over selectors, of the seeds of ``gain_summary``.

    Args:
        rows: one row per (trial_id, round); columns of HEADS may be missing or empty.
        gains: ``seed_gains`` of the same rows.

    Returns:
        Columns of GAIN_BY_STUDENT, without (no distillation), those of HEADS (NaN where they were not measured),
        with_teacher (the mixture that the student predicts with), teacher_accuracy, n_seeds, backbone.
    """
    keys = [name for name in GAIN_BY_STUDENT if name != "round"]
    summary = gain_summary(gains, GAIN_BY_STUDENT)
    ends = summary.loc[first_rounds(summary, keys).index.union(last_rounds(summary, keys).index)]
    ends = ends[[*GAIN_BY_STUDENT, "without", "with_teacher", "teacher_accuracy", "n_seeds"]]
    known = rows.reindex(columns=[*rows.columns, *(name for name in HEADS if name not in rows)])
    same = alike(gains, keys, ["selector"])
    cells = known.merge(same[[*GAIN_KEYS, "seed"]], on=[*GAIN_KEYS, "seed"])
    means = cells.groupby(list(GAIN_BY_STUDENT))[list(HEADS)].agg(lambda values: values.mean(skipna=False))
    table = ends.merge(means.reset_index(), on=list(GAIN_BY_STUDENT), how="left")
    return table.assign(backbone=[backbone_of(name) for name in table["student"]])


def query_rounds(gains: pd.DataFrame) -> pd.DataFrame:
    """The gains after at least one query."""
    return gains[gains["round"] >= 1]
