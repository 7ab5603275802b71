"""What the queries have in common, and what the diagnostics of a run say of each selector."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from bench.stats.intervals import mean_interval
from bench.stats.rows import CONFIGURATION

_QUERY = (*CONFIGURATION, "dataset", "seed")


def overlap(rows: pd.DataFrame, picks: pd.Series) -> pd.DataFrame:
    """Share of the labels bought since the start that two selectors have in common, after each query.

    Selectors start from the same labels, so that the pair of one (configuration, data set, seed) is compared.

    Args:
        rows: one row a (trial_id, round).
        picks: the train rows that each bought, under the same index.

    Returns:
        Columns selector, against, round, overlap (mean over configurations, data sets and seeds), n (how many).
    """
    out: dict[tuple[str, str, int], list[float]] = {}
    asked = rows[picks[rows.index].map(len) > 0]
    for _, part in asked.sort_values([*_QUERY, "selector", "round"]).groupby(list(_QUERY)):
        bought = {name: picks[trial.index].tolist() for name, trial in part.groupby("selector")}
        rounds = part["round"].unique()
        images, place = np.unique(
            np.concatenate([row for trial in bought.values() for row in trial]), return_inverse=True
        )
        when = np.full((len(bought), len(images)), len(rounds))
        start = 0
        for which, trial in enumerate(bought.values()):
            for index, row in enumerate(trial):
                when[which, place[start : start + len(row)]] = index
                start += len(row)
        sizes = [np.cumsum(np.bincount(times, minlength=len(rounds) + 1)[: len(rounds)]) for times in when]
        for (i, one), (j, other) in combinations(enumerate(bought), 2):
            both = np.bincount(np.maximum(when[i], when[j]), minlength=len(rounds) + 1)[: len(rounds)].cumsum()
            shares = both / np.minimum(sizes[i], sizes[j])
            for index, share in zip(rounds, shares, strict=True):
                out.setdefault((str(one), str(other), int(index)), []).append(float(share))
    lines = [[*key, float(np.mean(found)), len(found)] for key, found in sorted(out.items())]
    return pd.DataFrame(lines, columns=["selector", "against", "round", "overlap", "n"])


def diagnostics(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Diagnostics of each selector in each round: means over configurations and data sets, within a seed first.

    A column that no row has is left out; what only some configurations have, such as a teacher, is averaged over those.

    Args:
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
