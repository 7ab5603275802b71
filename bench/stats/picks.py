"""Overlap of the labels of two selectors, and the diagnostics of a run by selector."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from bench.columns import CONFIGURATION
from bench.stats.intervals import mean_interval

_QUERY = (*CONFIGURATION, "dataset", "seed")


def overlap(rows: pd.DataFrame, picks: pd.Series) -> pd.DataFrame:
    """Share of the queried labels that two selectors have in common, after each query.

    Selectors start from the same labels; pairs share the configuration, data set and seed.

    Args:
        rows: one row per (trial_id, round).
        picks: the train rows that each of them queried, under the same index.

    Returns:
        Columns selector, against, round, overlap (mean over configurations, data sets and seeds), n (pairs averaged).
    """
    out: dict[tuple[str, str, int], list[float]] = {}
    queries = rows[picks[rows.index].map(len) > 0]
    for _, part in queries.sort_values([*_QUERY, "selector", "round"]).groupby(list(_QUERY)):
        picked = {name: picks[trial.index].tolist() for name, trial in part.groupby("selector")}
        rounds = part["round"].unique()
        images, place = np.unique(
            np.concatenate([row for trial in picked.values() for row in trial]), return_inverse=True
        )
        when = np.full((len(picked), len(images)), len(rounds))
        start = 0
        for which, trial in enumerate(picked.values()):
            for index, row in enumerate(trial):
                when[which, place[start : start + len(row)]] = index
                start += len(row)
        sizes = [np.cumsum(np.bincount(times, minlength=len(rounds) + 1)[: len(rounds)]) for times in when]
        for (i, one), (j, other) in combinations(enumerate(picked), 2):
            both = np.bincount(np.maximum(when[i], when[j]), minlength=len(rounds) + 1)[: len(rounds)].cumsum()
            shares = both / np.minimum(sizes[i], sizes[j])
            for index, share in zip(rounds, shares, strict=True):
                out.setdefault((str(one), str(other), int(index)), []).append(float(share))
    lines = [[*key, float(np.mean(shares)), len(shares)] for key, shares in sorted(out.items())]
    return pd.DataFrame(lines, columns=["selector", "against", "round", "overlap", "n"])


def diagnostics(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Diagnostics of each selector in each round: means over configurations and data sets, within a seed first.

    A column without values is left out; one that only some configurations have, such as the teacher's, is averaged over
    those.

    Args:
        rows: one row per (trial_id, round).
        columns: names of the diagnostics.

    Returns:
        Columns measure, selector, round, mean, low, high (95% Student t over seeds), n_seeds.
    """
    out = []
    for column in columns:
        known = rows[rows[column].notna()] if column in rows else rows.iloc[:0]
        if known.empty:
            continue
        per_seed = known.groupby(["selector", "round", "seed"])[column].mean().reset_index()
        out.append(mean_interval(per_seed, ["selector", "round"], column).assign(measure=column))
    names = ["measure", "selector", "round", "mean", "low", "high", "n_seeds"]
    return pd.concat(out, ignore_index=True)[names] if out else pd.DataFrame(columns=names)


def diagnostic_means(diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Diagnostics averaged over rounds, one column per selector.

    Args:
        diagnostics: ``diagnostics``.

    Returns:
        Columns measure (in the order of ``diagnostics``), then one per selector; a selector named ``measure`` is
        ``selector measure``.
    """
    wide = diagnostics.pivot_table(index="measure", columns="selector", values="mean", sort=False)
    wide = wide.sort_index(axis=1).rename(columns={"measure": "selector measure"})
    return wide.rename_axis(columns=None).reset_index()
