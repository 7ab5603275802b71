"""Confidence intervals for means of paired differences: Student's t and the studentized bootstrap."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95

BOOTSTRAP_LEAST = 5
"""With fewer values too many draws repeat a single value, whose spread is unknown."""

RESAMPLES = 9_999
BOOTSTRAP_SEED = 250600910
EQUAL = 1e-12
"""Relative to the largest value, a spread no larger than this is rounding error."""


def mean_interval(values: pd.DataFrame, by: Sequence[str], column: str) -> pd.DataFrame:
    """Means of a column and their 95% Student t intervals, one row per value of ``by``.

    Returns:
        Columns ``by``, mean, low, high, n_seeds (values averaged); one value gives NaN limits.
    """
    means = values.groupby(list(by))[column].agg(["mean", "std", "count"]).reset_index()
    count = means.pop("count")
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count.where(count > 1) - 1)
    half = quantile * means.pop("std") / np.sqrt(count)
    return means.assign(low=means["mean"] - half, high=means["mean"] + half, n_seeds=count)


def t_interval(values: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Mean and 95% Student t limits; NaN limits for one value."""
    n, middle = len(values), float(np.mean(values)) if len(values) else np.nan
    if n < 2:
        return middle, np.nan, np.nan
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return middle, middle - half, middle + half


def bootstrap_interval(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """95% limits of the mean by the studentized bootstrap (bootstrap-t: Efron and Tibshirani 1993, chapter 12.5).

    Distances from the mean are measured in standard errors of each draw. Unlike percentiles of the draws' means, the
    limits are wide enough for a handful of seeds. The draws are seeded.

    Returns:
        Low and high; NaN for fewer than BOOTSTRAP_LEAST values.
    """
    n = len(values)
    if n < BOOTSTRAP_LEAST:
        return np.nan, np.nan
    middle, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    if error <= EQUAL * np.abs(values).max():
        return middle, middle
    drawn = values[np.random.default_rng(BOOTSTRAP_SEED).integers(n, size=(RESAMPLES, n))]
    away, errors = drawn.mean(axis=1) - middle, drawn.std(axis=1, ddof=1) / np.sqrt(n)
    alone = errors <= EQUAL * np.abs(values).max()
    distances = np.where(alone, np.copysign(np.inf, away), away / np.where(alone, 1.0, errors))
    low, high = np.quantile(distances, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return middle - float(high) * error, middle - float(low) * error
