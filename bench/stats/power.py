"""Seeds that a difference between selectors needs, by the power of the paired t test."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from bench.columns import CONFIGURATION
from bench.stats.intervals import ALPHA, EQUAL, VERDICT_LEAST
from bench.stats.rows import last_rounds, seed_arrays

POWER = 0.8
DIFFERENCES = (0.005, 0.01, 0.02)
"""Differences in accuracy, as fractions, for which ``seeds_needed`` answers."""

MOST_SEEDS = 1_000
AREA = "area"


def seeds_needed(areas: pd.DataFrame, seeds: pd.DataFrame, differences: Sequence[float] = DIFFERENCES) -> pd.DataFrame:
    """Paired seeds that a two-sided t test needs to detect a difference of a given size, at 5% with power POWER.

    The spread is that of the differences within a seed, root mean square over all pairs of selectors.

    Args:
        areas: ``areas.seed_areas``.
        seeds: ``rows.seed_means``.
        differences: in accuracy, as fractions.

    Returns:
        Columns of CONFIGURATION, measure (AREA, or the last round), spread, n_seeds (in the run), and for each
        difference d seeds_for_d (at least VERDICT_LEAST; NaN above MOST_SEEDS or where the spread is unknown).
    """
    measured = [(AREA, areas, AREA)]
    ends = last_rounds(seeds, CONFIGURATION).groupby("round")
    measured += [(f"round {index}", part, "accuracy") for index, part in ends]
    needs = [f"seeds_for_{d:g}" for d in differences]
    out = []
    for measure, frame, column in measured:
        for key, part in seed_arrays(frame, column, list(CONFIGURATION)).groupby(level=list(CONFIGURATION)):
            values = part.dropna(axis=1, how="all").dropna().to_numpy()
            n, k = values.shape
            pairs = [values[:, i] - values[:, j] for i in range(k) for j in range(i)]
            spread = float(np.sqrt(np.mean([np.var(pair, ddof=1) for pair in pairs]))) if pairs and n > 1 else np.nan
            line = dict(zip(CONFIGURATION, key, strict=True))  # pyright: ignore[reportArgumentType]
            needed = {name: seeds_for(d, spread) for name, d in zip(needs, differences, strict=True)}
            out.append({**line, "measure": measure, "spread": spread, "n_seeds": n, **needed})
    return pd.DataFrame(out, columns=[*CONFIGURATION, "measure", "spread", "n_seeds", *needs])


def seeds_for(difference: float, spread: float) -> float:
    """The smallest number of seeds, at least VERDICT_LEAST, whose paired t test has power POWER.

    Args:
        difference: to detect.
        spread: standard deviation of the differences within a seed.

    Returns:
        NaN above MOST_SEEDS and for an unknown spread.
    """
    if np.isnan(spread):
        return np.nan
    if spread <= EQUAL:
        return float(VERDICT_LEAST)
    effect = difference / spread
    if power(effect, MOST_SEEDS) < POWER:
        return np.nan
    found = bisect_left(range(MOST_SEEDS), True, lo=VERDICT_LEAST, key=lambda n: power(effect, n) >= POWER)
    return float(found)


def power(effect: float, n: int) -> float:
    """Probability that a two-sided paired t test at 5% of n seeds finds an effect, in its direction.

    The chance of a finding in the other direction is left out: it is below 2.5% and nearly 0 wherever the answer
    matters. ``statsmodels`` includes it, and answers NaN where it is too small to evaluate.

    Args:
        effect: mean over standard deviation of the differences.
        n: seeds.
    """
    # Beyond this noncentrality the power is 1, and scipy's series may fail.
    noncentrality = min(effect * np.sqrt(n), 30.0)
    return float(stats.nct.sf(stats.t.ppf(1 - ALPHA / 2, n - 1), n - 1, noncentrality))
