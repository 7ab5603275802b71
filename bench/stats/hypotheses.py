"""Significance tests over blocks (Demsar 2006): Friedman's, Nemenyi's and Wilcoxon's.

A block is a (configuration, data set): the accuracy of every selector there, seeds averaged. Blocks that share a data
set or a teacher are not independent, so p values over several configurations are too small. Demsar's case is one
configuration over its data sets; with fewer than LEAST_DATASETS data sets a report leaves these tests out.
"""

from functools import lru_cache
from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd
import scikit_posthocs
from jaxtyping import Float
from scipy import stats

from bench.columns import CONFIGURATION
from bench.stats.intervals import ALPHA, BOOTSTRAP_SEED, CONFIDENCE, holm

LEAST_SELECTORS = 3
"""Friedman's test needs at least this number."""

LEAST_BLOCKS = 2
LEAST_DATASETS = 5
"""With fewer data sets, blocks are repetitions on the same images."""

ASYMPTOTIC_BLOCKS = 10
"""With fewer blocks p values are by permutation: those of the limit distributions are too small."""

PERMUTATIONS = 100_000
AREA = "area"
BLOCK = (*CONFIGURATION, "dataset")


def blocks(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of every selector in every block; NaN where a selector took no part.

    Returns:
        Index (round, BLOCK) with round >= 1; one column per selector.
    """
    return rows[rows["round"] >= 1].pivot_table(index=["round", *BLOCK], columns="selector", values="accuracy")


def enough_data_sets(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame where it has LEAST_DATASETS data sets or more, as a column or a level of its index; else none of it."""
    sets = frame["dataset"] if "dataset" in frame else frame.index.get_level_values("dataset")
    return frame if sets.nunique() >= LEAST_DATASETS else frame.iloc[:0]


def _complete(blocks: pd.DataFrame) -> pd.DataFrame:
    """The selectors that took part in every block."""
    return blocks.dropna(axis=1)


def friedman(blocks: pd.DataFrame) -> pd.DataFrame:
    """Friedman's test of equal ranks, per query round, with Nemenyi's critical difference.

    With fewer than ASYMPTOTIC_BLOCKS blocks p, f_p and the critical difference are by PERMUTATIONS seeded permutations
    of the ranks within blocks, so that p and f_p are equal (F is a monotone function of chi-squared).

    Args:
        blocks: ``blocks``.

    Returns:
        Columns round, n_blocks, n_datasets, n_selectors, statistic (chi-squared, corrected for ties), p, f and f_p
        (Iman and Davenport 1980, less conservative), critical_difference (of mean ranks, at 5%), permuted (whether by
        permutation), left_out (selectors that did not take part everywhere). Empty for fewer than LEAST_SELECTORS
        selectors or LEAST_BLOCKS blocks.
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
        f_p, distance = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))), critical_difference(k, n)
        if n < ASYMPTOTIC_BLOCKS:
            ranks = part.rank(axis=1, ascending=False).to_numpy()
            middles = permuted_means(ranks)
            p = f_p = _share_at_least(_dispersion(middles), _dispersion(ranks.mean(axis=0)))
            distance = float(np.quantile(np.ptp(middles, axis=1), CONFIDENCE, method="higher"))
        out.append(
            {
                "round": index,
                "n_blocks": n,
                "n_datasets": part.index.get_level_values("dataset").nunique(),
                "n_selectors": k,
                "statistic": float(statistic),
                "p": float(p),
                "f": float(f),
                "f_p": f_p,
                "critical_difference": distance,
                "permuted": n < ASYMPTOTIC_BLOCKS,
                "left_out": ", ".join(left_out),
            }
        )
    columns = ["round", "n_blocks", "n_datasets", "n_selectors", "statistic", "p", "f", "f_p", "critical_difference"]
    return pd.DataFrame(out, columns=[*columns, "permuted", "left_out"])


def permuted_means(ranks: Float[np.ndarray, "blocks selectors"]) -> Float[np.ndarray, "permutations selectors"]:
    """Mean ranks over blocks where the ranks of each block are permuted at random; seeded."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    total = np.zeros((PERMUTATIONS, ranks.shape[1]))
    for block in ranks:
        total += rng.permuted(np.broadcast_to(block, total.shape), axis=1)
    return total / len(ranks)


def _dispersion(means: Float[np.ndarray, "... selectors"]) -> Float[np.ndarray, "..."]:
    """Sum of squares of mean ranks around their mean: Friedman's statistic up to a factor that permutations keep."""
    return ((means - means.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)


def _share_at_least(drawn: Float[np.ndarray, " n"], found: float | np.ndarray) -> float:
    """p value of a permutation test, the observed ranks counted as one of the permutations."""
    return float((1 + np.sum(drawn >= found - 1e-9)) / (1 + len(drawn)))


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

    With fewer than ASYMPTOTIC_BLOCKS blocks p is the share of permutations whose mean ranks have at least that range.

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
        ranks = part.rank(axis=1, ascending=False)
        middle = ranks.mean().to_numpy()
        if len(part) < ASYMPTOTIC_BLOCKS:
            ranges = np.ptp(permuted_means(ranks.to_numpy()), axis=1)
            p = np.array([[_share_at_least(ranges, abs(one - other)) for other in middle] for one in middle])
        else:
            p = scikit_posthocs.posthoc_nemenyi_friedman(part.to_numpy()).to_numpy()
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
    Demsar (2006, section 3.1.3) does. With fewer than ASYMPTOTIC_BLOCKS blocks p is that of all 2^n changes of signs;
    of n blocks it is at least 2^(1 - n). A family of Holm's is one measure.

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
        table = table.assign(p_holm=holm(table, []))
        out.append(table.assign(significant=table["p_holm"] < ALPHA))
    columns = ["measure", "selector", "against", "n_blocks", "median_difference", "statistic", "p", "p_holm"]
    columns = [*columns, "significant"]
    return pd.concat(out, ignore_index=True)[columns] if out else pd.DataFrame(columns=columns)


def _signed_ranks(differences: Float[np.ndarray, " n"]) -> dict[str, float]:
    if not differences.any():
        return {"median_difference": 0.0, "statistic": 0.0, "p": 1.0}
    method = "auto" if differences.all() else "approx"
    test: Any = stats.wilcoxon(differences, zero_method="zsplit", method=method)
    few = len(differences) < ASYMPTOTIC_BLOCKS
    return {
        "median_difference": float(np.median(differences)),
        "statistic": float(test.statistic),
        "p": _sign_changes(differences) if few else float(test.pvalue),
    }


def _sign_changes(differences: Float[np.ndarray, " n"]) -> float:
    """p value of the sum of signed ranks over all changes of signs; ranks of zeros count for neither side."""
    signed = np.sign(differences) * stats.rankdata(np.abs(differences))
    signs = np.array(list(product((-1.0, 1.0), repeat=len(signed))))
    return float(np.mean(np.abs(signs @ signed) >= abs(signed.sum()) - 1e-9))
