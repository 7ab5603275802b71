"""What distillation adds to each recipe of a student, and how far the best strategies are below all labels."""

import pandas as pd

from bench.columns import CONFIGURATION, SETTING
from bench.stats.areas import run_areas
from bench.stats.gains import seed_gains
from bench.stats.hypotheses import AREA
from bench.stats.intervals import holm, mean_interval
from bench.stats.rows import alike, last_rounds, seed_means, shared

SKYLINE = "all_labels_accuracy"
"""Column of the accuracy with all labels of the pool."""

LAST = "last round"
"""A measure of ``recipe_gains``, beside AREA."""

TAUGHT = ["group", "student", "teacher", "distillation"]
"""A family of Holm's, with the measure: the recipes of a student and a teacher."""


def recipe_gains(rows: pd.DataFrame) -> pd.DataFrame:
    """Gain of distillation of each recipe of a student that ran under several with and without a teacher.

    It separates what the teacher adds from what a recipe gains from the unlabeled pool without one. Gains are paired by
    (data set, selector, seed, round), the data sets and selectors averaged within a seed, over the selectors, rounds
    and seeds that all recipes have. A family of Holm's is the recipes of a (group, student, teacher, distillation).

    Args:
        rows: one row per (trial_id, round).

    Returns:
        Columns group, student, teacher, distillation, measure (LAST: accuracy in the last round; AREA: mean accuracy
        over the label budget), recipe, with_teacher, without, gain, low, high (95% Student t over seeds), n_seeds, p,
        p_holm (NaN below VERDICT_LEAST seeds). Empty where no student has several such recipes.
    """
    keys, levels = [*TAUGHT, "measure", "recipe"], ["with_teacher", "without", "gain"]
    gains = seed_gains(rows)
    several = gains[gains.groupby(TAUGHT)["recipe"].transform("nunique") > 1]
    if several.empty:
        return pd.DataFrame(columns=[*keys, *levels, "low", "high", "n_seeds", "p", "p_holm"])
    same = alike(shared(several, TAUGHT, ["recipe"], "selector"), TAUGHT, ["recipe", "selector"])
    measures = pd.concat([last_rounds(same, TAUGHT).assign(measure=LAST), _areas(same, rows).assign(measure=AREA)])
    per_seed = measures.groupby([*keys, "seed"], sort=False)[levels].mean().reset_index()
    found = mean_interval(per_seed, keys, "gain").rename(columns={"mean": "gain"})
    means = per_seed.groupby(keys)[["with_teacher", "without"]].mean().reset_index()
    found = found.assign(p_holm=holm(found, [*TAUGHT, "measure"])).merge(means, on=keys)
    return found[[*keys, *levels, "low", "high", "n_seeds", "p", "p_holm"]]


def _areas(gains: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Areas of both curves behind gains, and of the gains: the columns of ``gains`` without their rounds."""
    on = [*SETTING, "selector", "seed"]
    labels = gains.merge(seed_means(rows)[[*on, "n_labeled"]], on=on).assign(dataset="")
    out = None
    for level in ("with_teacher", "without", "gain"):
        areas = run_areas(labels.assign(accuracy=labels[level])).rename(columns={"area": level})
        out = areas if out is None else out.merge(areas, on=[*CONFIGURATION, "dataset", "selector", "seed"])
    assert out is not None
    return out


def skyline_gaps(rows: pd.DataFrame) -> pd.DataFrame:
    """How far the best strategy of the last round is below the accuracy with all labels, in each configuration.

    The best strategy is that of the largest mean accuracy in the last round; differences are paired by seed, over the
    seeds that have the accuracy with all labels on every data set of the configuration.

    Args:
        rows: one row per (trial_id, round), without oracles; the column SKYLINE may be missing or empty.

    Returns:
        Columns of CONFIGURATION, selector (the best), all_labels_accuracy, accuracy, gap (positive where all labels are
        better), low, high (95% Student t over seeds), n_seeds. Empty without the column.
    """
    keys = [*CONFIGURATION, "selector"]
    columns = [*keys, SKYLINE, "accuracy", "gap", "low", "high", "n_seeds"]
    if SKYLINE not in rows or rows[SKYLINE].isna().all():
        return pd.DataFrame(columns=columns)
    measured = rows[rows[SKYLINE].notna()].groupby([*CONFIGURATION, "seed"])
    above = measured.agg(n=("dataset", "nunique"), **{SKYLINE: (SKYLINE, "mean")}).reset_index()
    above = above.merge(rows.groupby(list(CONFIGURATION))["dataset"].nunique().rename("wanted").reset_index())
    above = above[above["n"] == above["wanted"]].drop(columns=["n", "wanted"])
    ends = last_rounds(rows.drop(columns=SKYLINE), CONFIGURATION)
    per_seed = ends.groupby([*keys, "seed"])["accuracy"].mean().reset_index().merge(above, on=[*CONFIGURATION, "seed"])
    means = per_seed.groupby(keys)[["accuracy", SKYLINE]].mean().reset_index()
    best = means.loc[means.groupby(list(CONFIGURATION))["accuracy"].idxmax()]
    pairs = per_seed.merge(best[keys], on=keys)
    found = mean_interval(pairs.assign(gap=pairs[SKYLINE] - pairs["accuracy"]), keys, "gap")
    return found.rename(columns={"mean": "gap"}).merge(best, on=keys)[columns]
