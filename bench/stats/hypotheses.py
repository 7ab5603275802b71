"""Tests over blocks after Demsar (2006), and how sure one may be that a selector is better; scipy and its kin compute.

A block is a (configuration, data set): the accuracy of every selector there, seeds averaged. Blocks that share a data
set or a teacher are not independent, so that p values over several configurations are too small; tests of one
configuration over its data sets are Demsar's own case.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from bench.stats.areas import run_areas, seed_areas
from bench.stats.intervals import BOOTSTRAP_SEED, CONFIDENCE, bootstrap_interval, t_interval
from bench.stats.rows import CONFIGURATION, SETTING, seed_arrays

ALPHA = 1 - CONFIDENCE
POWER = 0.8
LEAST_SELECTORS = 3
"""Friedman's test compares at least so many."""

LEAST_BLOCKS = 2
DIFFERENCES = (0.005, 0.01, 0.02)
"""Differences in accuracy for which needed seeds are told."""

MOST_SEEDS = 1_000
DRAWS = 2_000
BLOCK = (*CONFIGURATION, "dataset")
AREA = "area"


def blocks(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Accuracies of the selectors that took part everywhere, a block a row.

    Returns:
        The frame, its index (round, BLOCK) with round >= 1; and the selectors that were left out.
    """
    cells = rows[rows["round"] >= 1].pivot_table(index=["round", *BLOCK], columns="selector", values="accuracy")
    whole = cells.notna().all()
    return cells.loc[:, whole], sorted(cells.columns[~whole])


def friedman(rows: pd.DataFrame) -> pd.DataFrame:
    """Friedman's test of equal ranks, per query round, with Nemenyi's critical difference.

    Returns:
        Columns round, n_blocks, n_datasets, n_selectors, statistic (chi-squared, corrected for ties), p, f and f_p
        (Iman and Davenport 1980, less conservative), critical_difference (of mean ranks, at 5%), left_out (selectors
        that did not take part everywhere). Empty for fewer than LEAST_SELECTORS selectors or LEAST_BLOCKS blocks.
    """
    cells, left_out = blocks(rows)
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
    """Mean ranks that differ by less are not told apart at 5% (Nemenyi 1963; Demsar 2006, section 3.2.2)."""
    quantile = stats.studentized_range.ppf(CONFIDENCE, n_selectors, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(n_selectors * (n_selectors + 1) / (6 * n_blocks)))


def mean_ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean rank over blocks per query round, 1 for the best; those of the critical-difference diagram.

    Returns:
        Columns round, selector, mean_rank, n_blocks.
    """
    cells, _ = blocks(rows)
    places = cells.rank(axis=1, ascending=False)
    middle = places.groupby(level="round").mean().rename_axis(columns=None).reset_index()
    found = middle.melt(id_vars="round", var_name="selector", value_name="mean_rank")
    counts = cells.groupby(level="round").size().rename("n_blocks").reset_index()
    return found.merge(counts, on="round").sort_values(["round", "mean_rank", "selector"], ignore_index=True)


def nemenyi(rows: pd.DataFrame) -> pd.DataFrame:
    """Nemenyi's test of every pair of selectors per query round, after Friedman's.

    Returns:
        Columns round, selector, against, difference (of mean ranks; negative where the first is better), p, apart.
    """
    cells, _ = blocks(rows)
    out: list[dict[str, Any]] = []
    for index, part in cells.groupby(level="round"):
        if part.shape[1] < LEAST_SELECTORS or len(part) < LEAST_BLOCKS:
            continue
        p = scikit_posthocs.posthoc_nemenyi_friedman(part.to_numpy()).to_numpy()
        middle = part.rank(axis=1, ascending=False).mean().to_numpy()
        for i, j in permutations(range(part.shape[1]), 2):
            names = {"round": index, "selector": part.columns[i], "against": part.columns[j]}
            found = float(p[i, j])
            out.append({**names, "difference": middle[i] - middle[j], "p": found, "apart": found < ALPHA})
    return pd.DataFrame(out, columns=["round", "selector", "against", "difference", "p", "apart"])


def wilcoxon_holm(rows: pd.DataFrame, control: str) -> pd.DataFrame:
    """Wilcoxon's signed-rank test of every selector against a control, Holm's correction for their number.

    Per query round, and over the areas under the budget curve (measure AREA). Differences of zero are split evenly, as
    Demsar (2006, section 3.1.3) does.

    Returns:
        Columns measure, selector, n_blocks, median_difference (selector minus control), statistic, p, p_holm, apart.
        Empty without the control.
    """
    areas = run_areas(rows).pivot_table(index=list(BLOCK), columns="selector", values="area")
    cells, _ = blocks(rows)
    parts: list[tuple[str, pd.DataFrame]] = [(f"round {index}", part) for index, part in cells.groupby(level="round")]
    out: list[pd.DataFrame] = []
    for measure, part in [(AREA, areas.dropna(axis=1)), *parts]:
        others = [name for name in part.columns if name != control]
        if control not in part.columns or not others:
            continue
        found = [_signed_ranks(part[name].to_numpy() - part[control].to_numpy()) for name in others]
        table = pd.DataFrame(found).assign(measure=measure, selector=others, n_blocks=len(part))
        corrected = multipletests(table["p"].to_numpy(), alpha=ALPHA, method="holm")
        out.append(table.assign(p_holm=corrected[1], apart=corrected[0]))
    columns = ["measure", "selector", "n_blocks", "median_difference", "statistic", "p", "p_holm", "apart"]
    return pd.concat(out, ignore_index=True)[columns] if out else pd.DataFrame(columns=columns)


def _signed_ranks(differences: np.ndarray) -> dict[str, float]:
    if not differences.any():
        return {"median_difference": 0.0, "statistic": 0.0, "p": 1.0}
    method = "auto" if differences.all() else "approx"
    found: Any = stats.wilcoxon(differences, zero_method="zsplit", method=method)
    return {
        "median_difference": float(np.median(differences)),
        "statistic": float(found.statistic),
        "p": float(found.pvalue),
    }


def improvement(rows: pd.DataFrame) -> pd.DataFrame:
    """Probability that a run of one selector ends with a larger area than a run of another (Agarwal et al. 2021).

    In each configuration the share of all pairs of seeds in which the first is ahead, ties by half; their mean over
    configurations; the interval by a bootstrap that draws seeds within each configuration (DRAWS seeded draws).

    Returns:
        Columns selector, against, probability, low, high (NaN for one seed), n_configurations.
    """
    areas = seed_areas(rows)
    names = sorted(areas["selector"].unique())
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    one_seed = False
    for _, part in areas.groupby(list(CONFIGURATION)):
        wide = part.pivot_table(index="seed", columns="selector", values="area").dropna(axis=1)
        values, n = wide.to_numpy(), len(wide)
        one_seed |= n == 1
        draws = np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)]) / n
        for i, j in permutations(range(len(wide.columns)), 2):
            ahead = (np.sign(values[:, i, None] - values[None, :, j]) + 1) / 2
            shares = np.einsum("ra,ab,rb->r", draws, ahead, draws, optimize=True)
            found.setdefault((wide.columns[i], wide.columns[j]), []).append(shares)
    out = []
    for pair in permutations(names, 2):
        if pair not in found:
            continue
        shares = np.mean(found[pair], axis=0)
        low, high = np.quantile(shares[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        limits = (np.nan, np.nan) if one_seed else (float(low), float(high))
        out.append([*pair, float(shares[0]), *limits, len(found[pair])])
    return pd.DataFrame(out, columns=["selector", "against", "probability", "low", "high", "n_configurations"])


def seeds_needed(rows: pd.DataFrame, differences: Sequence[float] = DIFFERENCES) -> pd.DataFrame:
    """How many paired seeds a two-sided t test needs to find a difference of a given size, at 5% with power POWER.

    The spread is that of the differences within a seed, root mean square over all pairs of selectors.

    Returns:
        Columns of CONFIGURATION, measure (AREA, or the last round), spread, n_seeds (there are), and for each
        difference d seeds_for_d (NaN above MOST_SEEDS or where nothing is known of the spread).
    """
    last = rows[rows["round"] == rows.groupby(list(CONFIGURATION))["round"].transform("max")]
    ends = last.groupby([*SETTING, "selector", "seed"])["accuracy"].mean().reset_index()
    measured = [(AREA, seed_areas(rows), AREA)]
    measured += [(f"round {index}", part, "accuracy") for index, part in ends.groupby("round")]
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
    """The least number of seeds from 2 on whose paired t test has the power."""
    if np.isnan(spread):
        return np.nan
    if spread == 0:
        return 2.0
    test, effect = TTestPower(), difference / spread
    # Doubled up first, since the noncentral t far above the answer is beyond its computation.
    high = 2
    while test.power(effect, high, ALPHA) < POWER:
        if high >= MOST_SEEDS:
            return np.nan
        high = min(2 * high, MOST_SEEDS)
    ahead = bisect_left(range(high), True, lo=2, key=lambda n: bool(test.power(effect, n, ALPHA) >= POWER))
    return float(max(2, ahead))


def paired_areas(rows: pd.DataFrame, control: str) -> pd.DataFrame:
    """Differences in area from a control by what is drawn anew: seeds, or data sets, never both in one interval.

    Over ``seeds``: the data sets of a group are averaged, what is left is a difference a seed. Over ``data sets``: the
    seeds are averaged, what is left is a difference a data set of the group; it tells how the mean would move with
    other data sets, and is left out where the group has one.

    Returns:
        Columns of CONFIGURATION, selector, over, n, difference, low, high (Student t), bootstrap_low, bootstrap_high
        (NaN for fewer than BOOTSTRAP_LEAST).
    """
    runs = run_areas(rows)
    out = []
    for key, part in runs.groupby(list(CONFIGURATION)):
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
    return pd.DataFrame(out, columns=[*CONFIGURATION, "selector", *measured])
