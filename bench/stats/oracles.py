"""Oracles as ceilings: how far each is above random, and the share of that gap which each selector closes."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from bench.columns import CONFIGURATION
from bench.stats.areas import BASELINE
from bench.stats.intervals import ALPHA, CONFIDENCE, holm, mean_interval

ORACLE = "oracle"
"""Column with the name of an oracle."""


def oracle_areas(areas: pd.DataFrame, of_oracles: pd.DataFrame) -> pd.DataFrame:
    """Area of each oracle under the budget curve, and its paired difference from BASELINE.

    Intervals are 95% Student t over the seeds that both have. p values are corrected after Holm; a family is the
    oracles of a configuration.

    Args:
        areas: ``areas.seed_areas`` of the selectors that are ranked.
        of_oracles: the same of oracles.

    Returns:
        Columns of CONFIGURATION, oracle, area (mean over these seeds), above, low, high, n_seeds, p_holm, is_ceiling
        (above 0 with p_holm below 5%); without configurations that lack BASELINE.
    """
    keys = [*CONFIGURATION, ORACLE]
    pairs = _paired(areas, of_oracles)
    found = mean_interval(pairs, keys, "gap").rename(columns={"mean": "above"})
    found = found.assign(p_holm=holm(found, CONFIGURATION))
    found = found.merge(pairs.groupby(keys)["oracle_area"].mean().rename("area").reset_index(), on=keys)
    found = found.assign(is_ceiling=(found["above"] > 0) & (found["p_holm"] < ALPHA))
    return found[[*keys, "area", "above", "low", "high", "n_seeds", "p_holm", "is_ceiling"]]


def gap_closed(areas: pd.DataFrame, of_oracles: pd.DataFrame) -> pd.DataFrame:
    """The share of the gap between BASELINE and an oracle that each selector closes: (it - random) / (oracle - random).

    Differences in area are paired by seed and averaged over the seeds that all three have before they are divided,
    since the quotient of a single seed has no bound. The interval is Fieller's (1954) for a quotient of paired means,
    at 95% with Student's t; it is bounded wherever the oracle is above random by a t test at 5%. The share is undefined
    where the oracle is not: p as in ``oracle_areas``, over these seeds, and none below VERDICT_LEAST of them.

    Args:
        areas: ``areas.seed_areas`` of the selectors that are ranked.
        of_oracles: the same of oracles.

    Returns:
        Columns of CONFIGURATION, oracle, selector, closed (1 is the oracle, 0 random), low, high, n_seeds, is_ceiling;
        closed, low and high are NaN where it is undefined; the largest share of a configuration first.
    """
    keys = [*CONFIGURATION, ORACLE, "selector"]
    others = areas[areas["selector"] != BASELINE].merge(_paired(areas, of_oracles), on=[*CONFIGURATION, "seed"])
    others = others.assign(gain=others["area"] - others["random_area"])
    tests = mean_interval(others, keys, "gap")
    tests = tests.assign(p_holm=holm(tests, [*CONFIGURATION, "selector"]))
    parts = dict(iter(others.groupby(keys)))
    out = []
    for test in tests.to_dict("records"):
        part = parts[tuple(test[key] for key in keys)]
        is_ceiling = bool(test["mean"] > 0 and test["p_holm"] < ALPHA)
        share = quotient(part["gain"].to_numpy(), part["gap"].to_numpy()) if is_ceiling else (np.nan,) * 3
        out.append([*(test[key] for key in keys), *share, len(part), is_ceiling])
    columns = [*keys, "closed", "low", "high", "n_seeds", "is_ceiling"]
    order = [*CONFIGURATION, ORACLE, "closed", "selector"]
    table = pd.DataFrame(out, columns=columns)
    return table.sort_values(order, ascending=[name != "closed" for name in order], ignore_index=True)


def _paired(areas: pd.DataFrame, of_oracles: pd.DataFrame) -> pd.DataFrame:
    """Areas of BASELINE and of each oracle in the seeds that both have, and their difference."""
    on = [*CONFIGURATION, "seed"]
    base = areas.loc[areas["selector"] == BASELINE, [*on, "area"]].rename(columns={"area": "random_area"})
    oracles = of_oracles.rename(columns={"selector": ORACLE, "area": "oracle_area"})
    pairs = oracles.merge(base, on=on)
    return pairs.assign(gap=pairs["oracle_area"] - pairs["random_area"])


def quotient(top: Float[np.ndarray, " n"], bottom: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """The quotient of two paired means and its 95% limits (Fieller 1954): those q with mean(top - q bottom) near 0.

    Near is a Student t test of the paired differences at 5%. The limits are the roots of a q^2 - 2 b q + c, with
    a = m_y^2 - t^2 v_yy, b = m_x m_y - t^2 v_xy, c = m_x^2 - t^2 v_xx, where m are means and v the (co)variances of
    means of top x and bottom y.

    Args:
        top: one value per seed.
        bottom: likewise; its mean is not 0.

    Returns:
        The quotient, low and high; NaN limits for one value, and where the mean of ``bottom`` is not significant, so
        that the set of these q has no bound (a <= 0).
    """
    n, (x, y) = len(top), (float(np.mean(top)), float(np.mean(bottom)))
    if n < 2:
        return x / y, np.nan, np.nan
    spread = np.cov(top, bottom) / n * float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) ** 2
    a, b, c = y * y - spread[1, 1], x * y - spread[0, 1], x * x - spread[0, 0]
    if a <= 0:
        return x / y, np.nan, np.nan
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    return x / y, float((b - root) / a), float((b + root) / a)
