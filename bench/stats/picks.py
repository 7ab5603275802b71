"""Overlap of the labels of two selectors, and the diagnostics of a run by selector."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd

from bench.columns import CONFIGURATION
from bench.stats.intervals import mean_interval
from bench.stats.rows import alike, everywhere, shared

_QUERY = (*CONFIGURATION, "dataset", "seed")
_STUDENT = ("group", "student", "recipe")


def overlap(rows: pd.DataFrame, picks: pd.Series) -> pd.DataFrame:
    """Share of the queried labels that two selectors have in common, after each query.

    Selectors start from the same labels; pairs share the configuration, data set and seed. Means are over teachers and
    data sets of one (group, student, recipe), of the rounds and seeds that all of these share.

    Args:
        rows: one row per (trial_id, round).
        picks: the train rows that each of them queried, under the same index.

    Returns:
        Columns group, student, recipe, selector, against, round, overlap, n (pairs averaged), n_seeds.
    """
    out: list[tuple[object, ...]] = []
    queries = rows[picks[rows.index].map(len) > 0]
    for key, part in queries.sort_values([*_QUERY, "selector", "round"]).groupby(list(_QUERY)):
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
            group = *key, str(one), str(other)
            out.extend((*group, index, share) for index, share in zip(rounds, shares, strict=True))
    pair = [*_STUDENT, "selector", "against"]
    if not out:
        return pd.DataFrame(columns=[*pair, "round", "overlap", "n", "n_seeds"])
    pairs = pd.DataFrame(out, columns=[*_QUERY, "selector", "against", "round", "overlap"])
    same = alike(pairs, pair, ["teacher", "distillation", "dataset"])
    found = same.groupby([*pair, "round"]).agg(
        overlap=("overlap", "mean"), n=("overlap", "size"), n_seeds=("seed", "nunique")
    )
    return found.reset_index()


def diagnostics(rows: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Diagnostics of each selector in each round: means over configurations and data sets, within a seed first.

    A measure is averaged over the configurations that have it and in which every selector took part, such as those with
    a teacher. All rounds and selectors have one population: the seeds that all these configurations ran, and the rounds
    in which each of their (data set, selector, seed)s has a value. A measure without such a seed and round is left out.

    Args:
        rows: one row per (trial_id, round).
        columns: names of the diagnostics.

    Returns:
        Columns measure, selector, round, mean, low, high (95% Student t over seeds), n_seeds, n_configurations.
    """
    keys = list(CONFIGURATION)
    out = []
    for column in columns:
        if column not in rows or rows[column].isna().all():
            continue
        known = rows[rows[column].notna()]
        ran = rows[pd.MultiIndex.from_frame(rows[keys]).isin(pd.MultiIndex.from_frame(known[keys]))]
        seeds = shared(everywhere(ran, keys), [], [*keys, "dataset", "selector"], "seed")
        cells = known.loc[known.index.intersection(seeds.index)]
        cell = [*keys, "dataset", "selector", "seed"]
        wanted = len(seeds[cell].drop_duplicates())
        cells = cells[cells.groupby("round")["seed"].transform("size") == wanted]
        if cells.empty:
            continue
        per_seed = cells.groupby(["selector", "round", "seed"])[column].mean().reset_index()
        n_configurations = len(cells[keys].drop_duplicates())
        found = mean_interval(per_seed, ["selector", "round"], column)
        out.append(found.assign(measure=column, n_configurations=n_configurations))
    names = ["measure", "selector", "round", "mean", "low", "high", "n_seeds", "n_configurations"]
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
