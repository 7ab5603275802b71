"""Confidence intervals and tests for means of paired differences, Holm's correction, and draws for the bootstrap."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE

VERDICT_LEAST = 3
"""With fewer seeds nothing is called better, worse, clear or significant: two equal differences may be chance."""

BOOTSTRAP_LEAST = 5
"""With fewer values too many draws repeat a single value, whose spread is unknown."""

RESAMPLES = 9_999
BOOTSTRAP_SEED = 250600910
EQUAL = 1e-12
"""Accuracies, and values relative to the largest, that differ by no more than this are equal up to rounding."""


def mean_interval(values: pd.DataFrame, by: Sequence[str], column: str) -> pd.DataFrame:
    """Means of a column and their 95% Student t intervals, one row per value of ``by``.

    Returns:
        Columns ``by``, mean, low, high, n_seeds (values averaged), p (two-sided, of a mean of 0). One value gives NaN
        limits, and fewer than VERDICT_LEAST a NaN p. Equal values have no spread for a t test, since accuracies are
        counts of images and may agree by chance: p is that of the sign test, 2^(1 - n).
    """
    means = values.groupby(list(by))[column].agg(["mean", "std", "count"]).reset_index()
    count, spread = means.pop("count"), means.pop("std")
    error = spread.where(spread > EQUAL, spread * 0.0) / np.sqrt(count)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count.where(count > 1) - 1) * error
    tested, away = count.where(count >= VERDICT_LEAST), means["mean"].abs()
    by_t = 2 * stats.t.sf(away / error.where(error > 0), tested - 1)
    by_sign = np.where(away > EQUAL, 2.0 ** (1 - tested), tested / tested)
    p = np.where(error > 0, by_t, by_sign)
    return means.assign(low=means["mean"] - half, high=means["mean"] + half, n_seeds=count, p=p)


def t_interval(values: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Mean and 95% Student t limits; NaN limits for one value."""
    n, middle = len(values), float(np.mean(values)) if len(values) else np.nan
    if n < 2:
        return middle, np.nan, np.nan
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return middle, middle - half, middle + half


def holm(tests: pd.DataFrame, family: Sequence[str]) -> pd.Series:
    """p values after Holm's correction (1979) within each family, in the order of the frame.

    ``statsmodels.stats.multitest`` does one family at a time and collects garbage each time: of thousands of families,
    a report would take minutes.

    Args:
        tests: the column p; a NaN is no test and does not count in its family.
        family: columns whose values name the family; none for one family.
    """
    made = tests[tests["p"].notna()].sort_values("p", kind="stable")
    families = made[list(family)] if family else pd.DataFrame({"all": 0}, index=made.index)
    groups = families.assign(p=made["p"]).groupby(list(families.columns))["p"]
    adjusted = made["p"] * (groups.transform("size") - groups.cumcount())
    raised = families.assign(p=adjusted).groupby(list(families.columns))["p"].cummax()
    return raised.clip(upper=1.0).reindex(tests.index)


def seeds_label(n_seeds: Sequence[int] | pd.Series) -> str:
    """``n = 5``, or ``n = 2 to 5`` where comparisons have different numbers of seeds."""
    least, most = int(min(n_seeds)), int(max(n_seeds))
    return f"n = {least}" if least == most else f"n = {least} to {most}"


def seed_draws(n_draws: int, seeds: Sequence[int]) -> dict[int, Float[np.ndarray, " draws"]]:
    """One standard normal number per draw and seed: the multipliers of ``drawn_weights``, seeded."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    return {seed: rng.standard_normal(n_draws) for seed in sorted(seeds)}


def drawn_weights(
    draws: Mapping[int, Float[np.ndarray, " draws"]], seeds: Sequence[int], *, widened: bool = False
) -> Float[np.ndarray, "draws n"]:
    """Weights of the seeds of a cell in each draw of a multiplier bootstrap; a weighted sum is a drawn mean.

    The weights of a draw are 1/n plus the seed's multiplier, centred over the cell's seeds, over sqrt(n (n - 1)): drawn
    means spread by the standard error. A seed has one multiplier in all cells, so cells that share seeds move together.

    Args:
        draws: ``seed_draws``.
        seeds: of the cell.
        widened: multiply deviations by the ratio of the 95% quantiles of Student's t and the normal distribution, so
            that percentiles are wide enough for a handful of seeds, as in the expanded percentile interval (Hesterberg
            2015, "What Teachers Should Know about the Bootstrap").
    """
    n, level = len(seeds), (1 + CONFIDENCE) / 2
    multipliers = np.stack([draws[seed] for seed in seeds], axis=1)
    centred = multipliers - multipliers.mean(axis=1, keepdims=True)
    ratio = stats.t.ppf(level, n - 1) / stats.norm.ppf(level) if widened else 1.0
    return 1 / n + ratio / np.sqrt(n * (n - 1)) * centred


def share_interval(
    shares: Float[np.ndarray, " draws"], multipliers: Float[np.ndarray, "draws n"], chance: float, df: int
) -> tuple[float, float]:
    """95% limits of an expected share of wins, by the smoothed bootstrap (Efron 2014, "Estimation and Accuracy After
    Model Selection").

    The mean over the draws is smooth in the data where the share itself jumps. Its standard error is that of the
    infinitesimal jackknife: the square root of the sum over seeds of the squared covariances of share and multiplier.
    Limits are Student t on the probit scale.

    Departure from Efron: a drawn mean differs from the truth by the noise of the sample and that of the draw, of equal
    variance, which pulls shares towards those of equal selectors. Distances from ``chance`` are multiplied by sqrt(2)
    on the probit scale, which is exact for two selectors with one effect in all settings.

    Args:
        shares: of each draw.
        multipliers: of each draw and seed.
        chance: the share where all selectors are equal, in (0, 1).
        df: degrees of freedom.

    Returns:
        Low and high; NaN where all draws have the same share, so that its spread is unknown.
    """
    if np.ptp(shares) <= EQUAL:
        return np.nan, np.nan
    middle, centre = float(stats.norm.ppf(shares.mean())), float(stats.norm.ppf(chance))
    slopes = (shares - shares.mean()) @ multipliers / len(shares)
    error = float(np.sqrt((slopes**2).sum()) / stats.norm.pdf(middle))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * error
    low, high = (centre + np.sqrt(2) * (middle + side - centre) for side in (-half, half))
    return float(stats.norm.cdf(low)), float(stats.norm.cdf(high))


def percentiles(draws: Float[np.ndarray, "draws ..."]) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5% and 97.5% percentiles over the first axis, each one of the drawn values."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0, method="nearest")
    return low, high


def jackknife_share(ahead: Float[np.ndarray, "n n"]) -> tuple[float, float]:
    """95% limits of a mean over all pairs of seeds, by the jackknife over seeds on the probit scale.

    A seed is left out as row and as column. Limits are Student t with n - 1 degrees of freedom. Percentiles of a
    bootstrap cover too little here: 85% at five seeds.

    Args:
        ahead: shares in [0, 1] of each pair of seeds.

    Returns:
        Low and high; NaN for fewer than BOOTSTRAP_LEAST seeds, and where leaving out a seed changes nothing, so that
        the spread over seeds is unknown.
    """
    n, share = len(ahead), float(ahead.mean())
    if n < BOOTSTRAP_LEAST or not 0.0 < share < 1.0:
        return np.nan, np.nan
    without = (ahead.sum() - ahead.sum(axis=0) - ahead.sum(axis=1) + np.diag(ahead)) / (n - 1) ** 2
    error = float(np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum()))
    if error <= EQUAL:
        return np.nan, np.nan
    middle = stats.norm.ppf(share)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * error / stats.norm.pdf(middle)
    return float(stats.norm.cdf(middle - half)), float(stats.norm.cdf(middle + half))


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
