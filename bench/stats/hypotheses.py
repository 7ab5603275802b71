"""Significance tests over blocks (Demsar 2006), probability of improvement, and the seeds that a difference needs.

A block is a (configuration, data set): the accuracy of every selector there, seeds averaged. Blocks that share a data
set or a teacher are not independent, so p values over several configurations are too small. Demsar's case is one
configuration over its data sets.
"""

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from bench.columns import CONFIGURATION
from bench.stats.intervals import BOOTSTRAP_SEED, CONFIDENCE, bootstrap_interval, t_interval
from bench.stats.rows import last_rounds, seed_arrays

ALPHA = 1 - CONFIDENCE
POWER = 0.8
LEAST_SELECTORS = 3
"""Friedman's test needs at least this number."""

LEAST_BLOCKS = 2
DIFFERENCES = (0.005, 0.01, 0.02)
"""Differences in accuracy, as fractions, for which ``seeds_needed`` answers."""

MOST_SEEDS = 1_000
DRAWS = 2_000
BLOCK = (*CONFIGURATION, "dataset")
AREA = "area"


def blocks(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every selector in every block; NaN where a selector took no part.

    Returns:
        Index (round, BLOCK) with round >= 1; one column per selector.
    """
    return rows[rows["round"] >= 1].pivot_table(index=["round", *BLOCK], columns="selector", values="accuracy")


def _complete(blocks: pd.DataFrame) -> pd.DataFrame:
    """The selectors that took part in every block."""
    return blocks.dropna(axis=1)


def friedman(blocks: pd.DataFrame) -> pd.DataFrame:
    """Friedman's test of equal ranks, per query round, with Nemenyi's critical difference.

    Args:
        blocks: ``blocks``.

    Returns:
        Columns round, n_blocks, n_datasets, n_selectors, statistic (chi-squared, corrected for ties), p, f and f_p
        (Iman and Davenport 1980, less conservative), critical_difference (of mean ranks, at 5%), left_out (selectors
        that did not take part everywhere). Empty for fewer than LEAST_SELECTORS selectors or LEAST_BLOCKS blocks.
    """
    cells = _complete(blocks)
    left_out = sorted(set(blocks.columns) - set(cells.columns))
    out = []
    for index, part in cells.groupby(level="round"):
        n, k = part.shape
        if k < LEAST_SELECTORS or n < LEAST_BLOCKS:
            continue
        values = part.to_numpy()
        level = bool((values == values[:, :1]).all())
        statistic, p = (0.0, 1.0) if level else stats.friedmanchisquare(*values.T)
        rest = n * (k - 1) - statistic
        f = np.inf if rest <= 0 else (n - 1) * statistic / rest
        out.append(
            {
                "round": index,
                "n_blocks": n,
                "n_datasets": part.index.get_level_values("dataset").nunique(),
                "n_selectors": k,
                "statistic": float(statistic),
                "p": float(p),
                "f": float(f),
                "f_p": float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))),
                "critical_difference": critical_difference(k, n),
                "left_out": ", ".join(left_out),
            }
        )
    columns = ["round", "n_blocks", "n_datasets", "n_selectors", "statistic", "p", "f", "f_p", "critical_difference"]
    return pd.DataFrame(out, columns=[*columns, "left_out"])


def critical_difference(n_selectors: int, n_blocks: int) -> float:
    """Mean ranks that differ by less are not significantly different at 5% (Nemenyi 1963; Demsar 2006, 3.2.2)."""
    return float(_quantile(n_selectors) * np.sqrt(n_selectors * (n_selectors + 1) / (6 * n_blocks)))


@lru_cache
def _quantile(n_selectors: int) -> float:
    return float(stats.studentized_range.ppf(CONFIDENCE, n_selectors, np.inf) / np.sqrt(2))


def mean_ranks(blocks: pd.DataFrame) -> pd.DataFrame:
    """Mean rank over blocks per query round, 1 for the best, for the critical-difference diagram.

    Args:
        blocks: ``blocks``.

    Returns:
        Columns round, selector, mean_rank, n_blocks.
    """
    cells = _complete(blocks)
    places = cells.rank(axis=1, ascending=False)
    middle = places.groupby(level="round").mean()
    table = middle.melt(var_name="selector", value_name="mean_rank", ignore_index=False).reset_index()
    counts = cells.groupby(level="round").size().rename("n_blocks").reset_index()
    return table.merge(counts, on="round").sort_values(["round", "mean_rank", "selector"], ignore_index=True)


def nemenyi(blocks: pd.DataFrame) -> pd.DataFrame:
    """Nemenyi's test of every pair of selectors per query round, after Friedman's.

    Args:
        blocks: ``blocks``.

    Returns:
        Columns round, selector, against, difference (of mean ranks; negative where the first is better), p,
        significant (at 5%).
    """
    out: list[dict[str, Any]] = []
    for index, part in _complete(blocks).groupby(level="round"):
        if part.shape[1] < LEAST_SELECTORS or len(part) < LEAST_BLOCKS:
            continue
        p = scikit_posthocs.posthoc_nemenyi_friedman(part.to_numpy()).to_numpy()
        middle = part.rank(axis=1, ascending=False).mean().to_numpy()
        for i, j in permutations(range(part.shape[1]), 2):
            names = {"round": index, "selector": part.columns[i], "against": part.columns[j]}
            out.append(
                {
                    **names,
                    "difference": middle[i] - middle[j],
                    "p": float(p[i, j]),
                    "significant": float(p[i, j]) < ALPHA,
                }
            )
    return pd.DataFrame(out, columns=["round", "selector", "against", "difference", "p", "significant"])


def wilcoxon_holm(blocks: pd.DataFrame, run_areas: pd.DataFrame, control: str) -> pd.DataFrame:
    """Wilcoxon's signed-rank test of every selector against a control, Holm's correction for their number.

    Per query round, and over the areas under the budget curve (measure AREA). Differences of zero are split evenly, as
    Demsar (2006, section 3.1.3) does.

    Args:
        blocks: ``blocks``.
        run_areas: ``areas.run_areas``.
        control: a selector.

    Returns:
        Columns measure, selector, against (the control), n_blocks, median_difference (selector minus control),
        statistic, p, p_holm, significant (p_holm below 5%). Empty without the control.
    """
    areas = run_areas.pivot_table(index=list(BLOCK), columns="selector", values="area").dropna(axis=1)
    rounds = _complete(blocks).groupby(level="round")
    parts: list[tuple[str, pd.DataFrame]] = [(AREA, areas), *((f"round {index}", part) for index, part in rounds)]
    out: list[pd.DataFrame] = []
    for measure, part in parts:
        others = [name for name in part.columns if name != control]
        if control not in part.columns or not others:
            continue
        table = pd.DataFrame([_signed_ranks(part[name].to_numpy() - part[control].to_numpy()) for name in others])
        table = table.assign(measure=measure, selector=others, against=control, n_blocks=len(part))
        significant, p_holm, _, _ = multipletests(table["p"].to_numpy(), alpha=ALPHA, method="holm")
        out.append(table.assign(p_holm=p_holm, significant=significant))
    columns = ["measure", "selector", "against", "n_blocks", "median_difference", "statistic", "p", "p_holm"]
    columns = [*columns, "significant"]
    return pd.concat(out, ignore_index=True)[columns] if out else pd.DataFrame(columns=columns)


def _signed_ranks(differences: np.ndarray) -> dict[str, float]:
    if not differences.any():
        return {"median_difference": 0.0, "statistic": 0.0, "p": 1.0}
    method = "auto" if differences.all() else "approx"
    test: Any = stats.wilcoxon(differences, zero_method="zsplit", method=method)
    return {
        "median_difference": float(np.median(differences)),
        "statistic": float(test.statistic),
        "p": float(test.pvalue),
    }


def improvement(areas: pd.DataFrame) -> pd.DataFrame:
    """Probability that a run of one selector has a larger area than a run of another (Agarwal et al. 2021).

    In each configuration the share of all pairs of seeds in which the first is ahead, ties by half; their mean over
    configurations; the interval by a bootstrap over seeds within each configuration (DRAWS seeded draws).

    Args:
        areas: ``areas.seed_areas``.

    Returns:
        Columns selector, against, probability, low, high (NaN for one seed), n_configurations.
    """
    names = sorted(areas["selector"].unique())
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    by_pair: dict[tuple[str, str], list[np.ndarray]] = {}
    one_seed = False
    for _, part in areas.groupby(list(CONFIGURATION)):
        wide = part.pivot_table(index="seed", columns="selector", values="area").dropna(axis=1)
        values, n = wide.to_numpy(), len(wide)
        one_seed |= n == 1
        draws = np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)]) / n
        for i, j in permutations(range(len(wide.columns)), 2):
            ahead = (np.sign(values[:, i, None] - values[None, :, j]) + 1) / 2
            shares = np.einsum("ra,ab,rb->r", draws, ahead, draws, optimize=True)
            by_pair.setdefault((wide.columns[i], wide.columns[j]), []).append(shares)
    out = []
    for pair in permutations(names, 2):
        if pair not in by_pair:
            continue
        shares = np.mean(by_pair[pair], axis=0)
        low, high = np.quantile(shares[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        limits = (np.nan, np.nan) if one_seed else (float(low), float(high))
        out.append([*pair, float(shares[0]), *limits, len(by_pair[pair])])
    return pd.DataFrame(out, columns=["selector", "against", "probability", "low", "high", "n_configurations"])


def seeds_needed(areas: pd.DataFrame, seeds: pd.DataFrame, differences: Sequence[float] = DIFFERENCES) -> pd.DataFrame:
    """Paired seeds that a two-sided t test needs to detect a difference of a given size, at 5% with power POWER.

    The spread is that of the differences within a seed, root mean square over all pairs of selectors.

    Args:
        areas: ``areas.seed_areas``.
        seeds: ``rows.seed_means``.
        differences: in accuracy, as fractions.

    Returns:
        Columns of CONFIGURATION, measure (AREA, or the last round), spread, n_seeds (in the run), and for each
        difference d seeds_for_d (NaN above MOST_SEEDS or where the spread is unknown).
    """
    measured = [(AREA, areas, AREA)]
    ends = last_rounds(seeds, CONFIGURATION).groupby("round")
    measured += [(f"round {index}", part, "accuracy") for index, part in ends]
    out = []
    for measure, frame, column in measured:
        for key, part in seed_arrays(frame, column, list(CONFIGURATION)).groupby(level=list(CONFIGURATION)):
            values = part.dropna(axis=1).to_numpy()
            n, k = values.shape
            pairs = [values[:, i] - values[:, j] for i in range(k) for j in range(i)]
            spread = float(np.sqrt(np.mean([np.var(pair, ddof=1) for pair in pairs]))) if pairs and n > 1 else np.nan
            line = dict(zip(CONFIGURATION, key, strict=True))  # pyright: ignore[reportArgumentType]
            needed = {f"seeds_for_{d:g}": _seeds_for(d, spread) for d in differences}
            out.append({**line, "measure": measure, "spread": spread, "n_seeds": n, **needed})
    return pd.DataFrame(out)


def _seeds_for(difference: float, spread: float) -> float:
    """The smallest number of seeds, at least 2, whose paired t test has power POWER."""
    if np.isnan(spread):
        return np.nan
    if spread == 0:
        return 2.0
    test, effect = TTestPower(), difference / spread
    # Double first: far above the answer the noncentral t distribution cannot be evaluated.
    high = 2
    while test.power(effect, high, ALPHA) < POWER:
        if high >= MOST_SEEDS:
            return np.nan
        high = min(2 * high, MOST_SEEDS)
    ahead = bisect_left(range(high), True, lo=2, key=lambda n: bool(test.power(effect, n, ALPHA) >= POWER))
    return float(max(2, ahead))


def paired_areas(run_areas: pd.DataFrame, control: str) -> pd.DataFrame:
    """Differences in area from a control, over seeds or over data sets, never both in one interval.

    Over ``seeds``: data sets of the group averaged, one difference per seed. Over ``data sets``: seeds averaged, one
    difference per data set; left out where the group has one data set.

    Args:
        run_areas: ``areas.run_areas``.
        control: a selector.

    Returns:
        Columns of CONFIGURATION, selector, against (the control), over, n, difference, low, high (Student t),
        bootstrap_low, bootstrap_high (NaN for fewer than BOOTSTRAP_LEAST).
    """
    out = []
    for key, part in run_areas.groupby(list(CONFIGURATION)):
        line = dict(zip(CONFIGURATION, key, strict=True))  # pyright: ignore[reportArgumentType]
        for over, column in (("seeds", "seed"), ("data sets", "dataset")):
            wide = part.pivot_table(index=column, columns="selector", values="area")
            if control not in wide or (column == "dataset" and len(wide) == 1):
                continue
            for selector in wide.columns:
                if selector == control:
                    continue
                values = (wide[selector] - wide[control]).dropna().to_numpy()
                difference, low, high = t_interval(values)
                boot_low, boot_high = bootstrap_interval(values)
                out.append(
                    {
                        **line,
                        "selector": selector,
                        "against": control,
                        "over": over,
                        "n": len(values),
                        "difference": difference,
                        "low": low,
                        "high": high,
                        "bootstrap_low": boot_low,
                        "bootstrap_high": boot_high,
                    }
                )
    measured = ["over", "n", "difference", "low", "high", "bootstrap_low", "bootstrap_high"]
    return pd.DataFrame(out, columns=[*CONFIGURATION, "selector", "against", *measured])
