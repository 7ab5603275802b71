"""Recipes at their compute: images through the student and seconds of a fit, beside the accuracy that they reach."""

import pandas as pd

from bench.columns import CONFIGURATION
from bench.stats.intervals import ALPHA, EQUAL, holm, mean_interval
from bench.stats.rows import alike, last_rounds, shared

COMPARED = [name for name in CONFIGURATION if name != "recipe"]
"""A comparison of recipes: what they share."""

PASSES = "forward_passes"

_COLUMNS = ["round", PASSES, "train_seconds", "accuracy", "low", "high", "n_seeds", "p_holm", "best", "tied", "equal"]


def compute_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Compute and last accuracy of each recipe of a (group, teacher, student, distillation) that has several.

    Recipes are compared over the selectors, rounds and seeds that all of them have; rows without a count of forward
    passes are left out. The accuracy is that of the last of these rounds, data sets and selectors averaged within a
    seed. A recipe that is not the best is ``tied`` where its paired difference from the best over seeds is not
    significant at 5% after Holm's correction; a family is the recipes of a comparison.

    Args:
        rows: one row per (trial_id, round); the column forward_passes may be missing or empty.

    Returns:
        Columns group, teacher, student, distillation, recipe, round (the last), forward_passes (images through the
        student in a fit, mean over rounds), train_seconds (of a fit, likewise), accuracy, low, high (95% Student t over
        seeds), n_seeds, p_holm (of the difference from the best; NaN for the best and below VERDICT_LEAST seeds), best,
        tied, equal (whether all recipes of the comparison have equal forward passes). Empty without forward passes.
    """
    keys = [*COMPARED, "recipe"]
    counted = rows[rows[PASSES].notna()] if PASSES in rows else rows.iloc[:0]
    several = counted[counted.groupby(COMPARED)["recipe"].transform("nunique") > 1]
    if several.empty:
        return pd.DataFrame(columns=[*keys, *_COLUMNS])
    same = alike(shared(several, COMPARED, ["recipe"], "selector"), COMPARED, ["recipe", "dataset", "selector"])
    spent = same.groupby(keys)[[PASSES, "train_seconds"]].mean().reset_index()
    last = last_rounds(same, COMPARED)
    per_seed = last.groupby([*keys, "round", "seed"])["accuracy"].mean().reset_index()
    found = mean_interval(per_seed, [*keys, "round"], "accuracy").drop(columns="p").rename(columns={"mean": "accuracy"})
    best = found.groupby(COMPARED)["accuracy"].idxmax()
    found = found.assign(best=found.index.isin(best)).merge(spent, on=keys)
    found = found.merge(_differences(per_seed, found), on=keys, how="left")
    passes = found.groupby(COMPARED)[PASSES]
    equal = passes.transform("max") - passes.transform("min") <= EQUAL * passes.transform("max")
    return found.assign(tied=found["p_holm"] >= ALPHA, equal=equal)[[*keys, *_COLUMNS]]


def _differences(per_seed: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """p of the paired difference of each recipe from the best of its comparison, as columns of keys and p_holm."""
    keys = [*COMPARED, "recipe"]
    marked = per_seed.merge(found[[*keys, "best"]], on=keys)
    best = marked[marked["best"]][[*COMPARED, "seed", "accuracy"]].rename(columns={"accuracy": "reached"})
    pairs = marked[~marked["best"]].merge(best, on=[*COMPARED, "seed"])
    tests = mean_interval(pairs.assign(difference=pairs["accuracy"] - pairs["reached"]), keys, "difference")
    return tests.assign(p_holm=holm(tests, COMPARED))[[*keys, "p_holm"]]
