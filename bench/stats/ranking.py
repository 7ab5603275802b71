"""Learning curves, the rank of every selector in every setting, first places, and pairwise wins."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from bench.columns import CONFIGURATION, SETTING
from bench.stats.intervals import BOOTSTRAP_SEED, CONFIDENCE, mean_interval
from bench.stats.rows import seed_arrays

TIE = 1e-12
"""Accuracies that differ by no more than this are equal."""

SEED_DRAWS = 1_000

EARLY_ROUNDS = 2
"""The paper claims the first place 'except in the first 2 AL rounds': rounds up to this one are early, then late."""


def curves(seeds: pd.DataFrame) -> pd.DataFrame:
    """Learning curves: accuracy per configuration, selector and round.

    The 95% Student t interval is over seeds: how far a new seed may move the mean of these data sets, not what
    other data sets would give.

    Args:
        seeds: ``rows.seed_means``.

    Returns:
        Columns of SETTING, selector, n_labeled (mean over the group's data sets), accuracy, low, high (NaN for one
        seed), n_seeds.
    """
    by = [*SETTING, "selector"]
    means = mean_interval(seeds, by, "accuracy").rename(columns={"mean": "accuracy"})
    labels = seeds.groupby(by)["n_labeled"].mean().reset_index()
    return means.merge(labels, on=by)[[*by, "n_labeled", "accuracy", "low", "high", "n_seeds"]]


def ranks(curves: pd.DataFrame, margins: pd.DataFrame) -> pd.DataFrame:
    """The rank of every selector in every setting, best first.

    Selectors whose mean accuracies differ by no more than TIE are tied: ``rank`` is the lowest place that they take
    up, ``rank_average`` the mean of their places. ``clear`` is that of ``margins``, for first places without a tie.

    Args:
        curves: ``curves``.
        margins: ``margins`` of the same rows.

    Returns:
        Columns of SETTING, selector, accuracy, rank, rank_average, tied, clear; one row per (setting, selector).
    """
    by = [*SETTING, "selector"]
    clear = margins.loc[margins["clear"], [*SETTING, "first"]].rename(columns={"first": "selector"})
    places = _places(curves)
    is_clear = pd.MultiIndex.from_frame(places[by]).isin(pd.MultiIndex.from_frame(clear[by]))
    return places.assign(clear=is_clear & ~places["tied"])


def _places(curves: pd.DataFrame) -> pd.DataFrame:
    by = list(SETTING)
    order = [*by, "accuracy", "selector"]
    cells = curves.loc[curves["round"] >= 1, [*by, "selector", "accuracy"]]
    cells = cells.sort_values(order, ascending=[name != "accuracy" for name in order], ignore_index=True)
    place = cells.groupby(by).cumcount() + 1
    differs = ~(cells.groupby(by)["accuracy"].diff().abs() <= TIE)
    places = place.groupby(differs.cumsum())
    return cells.assign(
        rank=places.transform("min"), rank_average=places.transform("mean"), tied=places.transform("size") > 1
    )


def margins(curves: pd.DataFrame, seeds: pd.DataFrame) -> pd.DataFrame:
    """The lead of the first over the second in each setting that has two selectors or more.

    Args:
        curves: ``curves``.
        seeds: ``rows.seed_means`` of the same rows.

    Returns:
        Columns of SETTING, first, second, margin, low, high (95% Student t interval of the difference within a seed;
        NaN for one seed), n_seeds, clear (the interval lies above 0).
    """
    by = list(SETTING)
    places = _places(curves)
    order = places.groupby(by).cumcount()
    pairs = places[order == 0].merge(places[order == 1], on=by, suffixes=("_first", "_second"))
    pairs = pairs.rename(columns={"selector_first": "first", "selector_second": "second"})[[*by, "first", "second"]]
    per_seed = seeds.loc[seeds["round"] >= 1, [*by, "selector", "seed", "accuracy"]]
    first = pairs.merge(per_seed.rename(columns={"selector": "first"}), on=[*by, "first"])
    both = first.merge(per_seed.rename(columns={"selector": "second"}), on=[*by, "second", "seed"])
    both = both.assign(margin=both["accuracy_x"] - both["accuracy_y"])
    if both.empty:
        leads = pairs.assign(margin=np.nan, low=np.nan, high=np.nan, n_seeds=0)
    else:
        leads = mean_interval(both, [*by, "first", "second"], "margin").rename(columns={"mean": "margin"})
    return leads.assign(clear=leads["low"] > 0)[[*by, "first", "second", "margin", "low", "high", "n_seeds", "clear"]]


def rank_table(ranks: pd.DataFrame) -> pd.DataFrame:
    """First places and mean ranks over settings, most first places first, then lower mean rank.

    A shared first place counts for each of those that share it: the sum of ``first`` exceeds the number of settings by
    ``extra_firsts``.

    Args:
        ranks: ``ranks``, or some of its settings.

    Returns:
        One row per selector: selector, first (settings at rank 1, alone or tied), tied_first (those of them that are
        tied), clear_first (those of them that are clear), settings (those in which it took part), first_share,
        mean_rank (ties take the mean of their places), mean_accuracy.
    """
    leads = ranks["rank"] == 1
    counted = ranks.assign(first=leads, tied_first=leads & ranks["tied"], clear_first=leads & ranks["clear"]).groupby(
        "selector"
    )
    table = counted.agg(
        first=("first", "sum"),
        tied_first=("tied_first", "sum"),
        clear_first=("clear_first", "sum"),
        settings=("first", "size"),
        first_share=("first", "mean"),
        mean_rank=("rank_average", "mean"),
        mean_accuracy=("accuracy", "mean"),
    ).reset_index()
    return table.sort_values(["first", "mean_rank", "selector"], ascending=[False, True, True], ignore_index=True)


def rank_table_by(ranks: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The rank table of each part of the settings, one below the other.

    Args:
        ranks: ``ranks``.
        by: columns of ``ranks`` that split the settings, such as teacher, or stage after ``with_stage``.

    Returns:
        Columns ``by``, then those of ``rank_table``.
    """
    keys = list(by)
    if ranks.empty:
        return pd.DataFrame(columns=[*keys, *rank_table(ranks).columns])
    parts = [part[keys].drop_duplicates().merge(rank_table(part), how="cross") for _, part in ranks.groupby(keys)]
    return pd.concat(parts, ignore_index=True)


def with_stage(ranks: pd.DataFrame) -> pd.DataFrame:
    """Add a column stage: early up to round EARLY_ROUNDS, then late."""
    return ranks.assign(stage=np.where(ranks["round"] <= EARLY_ROUNDS, "early", "late"))


def n_settings(ranks: pd.DataFrame) -> int:
    """Number of settings ranked."""
    return len(ranks[list(SETTING)].drop_duplicates())


def extra_firsts(ranks: pd.DataFrame) -> int:
    """First places beyond one per setting, from ties: sum(first) - extra_firsts = n_settings."""
    firsts = ranks[ranks["rank"] == 1].groupby(list(SETTING)).size()
    return int((firsts - 1).sum())


def headline(rank_table: pd.DataFrame) -> str:
    """First places of the leader in the paper's form: ``pcoreset first in 31 of 48 settings (64.6%)``.

    It counts shared places; selectors with equally many first places appear together.
    """
    if rank_table.empty:
        return "no setting to rank: no round after round 0"
    if len(rank_table) == 1:
        return f"nothing to rank: {rank_table['selector'].iloc[0]} is the only selector"
    leaders = rank_table[rank_table["first"] == rank_table["first"].max()]
    return "; ".join(
        f"{selector} first in {first} of {settings} settings ({share:.1%}" + (f"; {tied} shared)" if tied else ")")
        for selector, first, tied, settings, share in leaders[
            ["selector", "first", "tied_first", "settings", "first_share"]
        ].itertuples(index=False)
    )


def headline_confidence(rank_table: pd.DataFrame, first_places: pd.DataFrame) -> str:
    """How certain the headline is: clear first places of the leader, and the bootstrap interval of its count.

    Args:
        rank_table: ``rank_table``.
        first_places: ``first_place_intervals`` of the same settings.
    """
    if len(rank_table) < 2:
        return ""
    leader = rank_table.iloc[0]
    limits = first_places.set_index("selector").loc[leader["selector"]]
    interval = "one seed gives no interval"
    if pd.notna(limits["first_low"]):
        interval = f"95% bootstrap over seeds: {limits['first_low']:.0f} to {limits['first_high']:.0f}"
    return f"{leader['selector']}: clearly first in {leader['clear_first']} of {leader['settings']}; {interval}"


def first_place_intervals(seeds: pd.DataFrame) -> pd.DataFrame:
    """95% interval of each selector's count of first places, by a bootstrap over seeds.

    Each draw resamples the seeds of a configuration, the same for all its rounds and selectors; percentiles over
    SEED_DRAWS seeded draws. With few seeds the interval is coarse.

    Args:
        seeds: ``rows.seed_means``.

    Returns:
        Columns selector, first_low, first_high, n_seeds (the least of any configuration); one seed gives NaN limits.
    """
    per_seed = seeds[seeds["round"] >= 1]
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    names = sorted(per_seed["selector"].unique())
    counts, least = np.zeros((SEED_DRAWS, len(names))), len(per_seed)
    for _, part in per_seed.groupby(list(CONFIGURATION)):
        cells = part.pivot_table(index=["round", "seed"], columns="selector", values="accuracy").reindex(columns=names)
        n_seeds = part["seed"].nunique()
        least = min(least, n_seeds)
        accuracy = np.nan_to_num(cells.to_numpy().reshape(-1, n_seeds, len(names)), nan=-np.inf)
        draws = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=SEED_DRAWS)
        for index in range(len(accuracy)):
            took_part = np.isfinite(accuracy[index, 0])
            means = draws @ accuracy[index][:, took_part] / n_seeds
            counts[:, took_part] += means >= means.max(axis=1, keepdims=True) - TIE
    low, high = np.quantile(counts, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0, method="nearest")
    table = pd.DataFrame({"selector": names, "first_low": low, "first_high": high, "n_seeds": least})
    return table if least > 1 else table.assign(first_low=np.nan, first_high=np.nan)


def win_matrix(seeds: pd.DataFrame) -> pd.DataFrame:
    """In how many settings each selector is ahead of, level with and behind each other one.

    Args:
        seeds: ``rows.seed_means``.

    Returns:
        Columns selector, against, settings (those in which both took part), wins, ties, losses, clear_wins,
        clear_losses (the 95% Student t interval of the difference within a seed excludes 0).
    """
    keys = list(SETTING)
    cells = seed_arrays(seeds[seeds["round"] >= 1], "accuracy", keys)
    setting = cells.groupby(level=keys, sort=False).ngroup().to_numpy()
    out = []
    for one, other in permutations(cells.columns, 2):
        difference = pd.DataFrame({"setting": setting, "difference": (cells[one] - cells[other]).to_numpy()}).dropna()
        means = mean_interval(difference, ["setting"], "difference")
        tied = means["mean"].abs() <= TIE
        out.append(
            {
                "selector": one,
                "against": other,
                "settings": len(means),
                "wins": int((~tied & (means["mean"] > 0)).sum()),
                "ties": int(tied.sum()),
                "losses": int((~tied & (means["mean"] < 0)).sum()),
                "clear_wins": int((~tied & (means["low"] > 0)).sum()),
                "clear_losses": int((~tied & (means["high"] < 0)).sum()),
            }
        )
    columns = ["selector", "against", "settings", "wins", "ties", "losses", "clear_wins", "clear_losses"]
    return pd.DataFrame(out, columns=columns)
