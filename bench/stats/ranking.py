"""Learning curves, the rank of every selector in every setting, first places, and pairwise wins.

Nothing is clear below VERDICT_LEAST seeds. p values of one setting are a family of Holm's: the first against every
other selector, or all pairs of selectors.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float

from bench.columns import CONFIGURATION, SETTING
from bench.stats.intervals import (
    ALPHA,
    BOOTSTRAP_LEAST,
    EQUAL,
    VERDICT_LEAST,
    drawn_weights,
    holm,
    mean_interval,
    seed_draws,
    share_interval,
)
from bench.stats.rows import everywhere, seed_arrays

TIE = EQUAL
"""Accuracies that differ by no more than this are equal."""

SEED_DRAWS = 2_000

EARLY_ROUNDS = 2
"""The paper claims the first place 'except in the first 2 AL rounds': rounds up to this one are early, then late."""


def curves(seeds: pd.DataFrame) -> pd.DataFrame:
    """Learning curves: accuracy per configuration, selector and round.

    The 95% Student t interval is over seeds: how far a new seed may move the mean of these data sets, not what
    other data sets would give.

    Args:
        seeds: ``rows.seed_means``.

    Returns:
        Columns of SETTING, selector, n_labeled (mean over the group's data sets), accuracy, low, high (within 0 and 1;
        NaN for one seed), n_seeds.
    """
    by = [*SETTING, "selector"]
    means = mean_interval(seeds, by, "accuracy").rename(columns={"mean": "accuracy"})
    means = means.assign(low=means["low"].clip(lower=0.0), high=means["high"].clip(upper=1.0))
    labels = seeds.groupby(by)["n_labeled"].mean().reset_index()
    return means.merge(labels, on=by)[[*by, "n_labeled", "accuracy", "low", "high", "n_seeds"]]


def curve_differences(seeds: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Learning curves as differences from a reference, paired by seed.

    Args:
        seeds: ``rows.seed_means``.
        reference: a selector.

    Returns:
        Columns of SETTING, selector, against (the reference), n_labeled, difference, low, high (95% Student t over
        seeds; NaN for one seed), n_seeds; the reference itself and configurations without it are left out.
    """
    on = [*SETTING, "seed"]
    base = seeds.loc[seeds["selector"] == reference, [*on, "accuracy"]]
    pairs = seeds[seeds["selector"] != reference].merge(base, on=on, suffixes=("", "_base"))
    pairs = pairs.assign(difference=pairs["accuracy"] - pairs["accuracy_base"])
    by = [*SETTING, "selector"]
    found = mean_interval(pairs, by, "difference").rename(columns={"mean": "difference"})
    labels = pairs.groupby(by)["n_labeled"].mean().reset_index()
    found = found.merge(labels, on=by).assign(against=reference)
    return found[[*by, "against", "n_labeled", "difference", "low", "high", "n_seeds"]]


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
    """The lead of the first over every other selector in each setting that has two selectors or more.

    Args:
        curves: ``curves``.
        seeds: ``rows.seed_means`` of the same rows.

    Returns:
        Columns of SETTING, first, second; of the difference from the second within a seed margin, low, high (95%
        Student t; NaN for one seed), n_seeds; p_holm (the largest p of the first against any other selector, after
        Holm's correction over the others), clear (p_holm is below 5%: the first is clear of every other).
    """
    by = list(SETTING)
    places = _places(curves)
    order = places.groupby(by).cumcount()
    columns = [*by, "selector"]
    leads = places.loc[order == 0, columns].merge(
        places.assign(order=order).loc[order > 0, [*columns, "order"]], on=by, suffixes=("_first", "_other")
    )
    leads = leads.rename(columns={"selector_first": "first", "selector_other": "other"})
    per_seed = seeds.loc[seeds["round"] >= 1, [*by, "selector", "seed", "accuracy"]]
    first = leads.merge(per_seed.rename(columns={"selector": "first"}), on=[*by, "first"])
    both = first.merge(per_seed.rename(columns={"selector": "other"}), on=[*by, "other", "seed"])
    both = both.assign(margin=both["accuracy_x"] - both["accuracy_y"])
    found = mean_interval(both, [*by, "first", "other", "order"], "margin").rename(columns={"mean": "margin"})
    found = leads.merge(found, on=[*by, "first", "other", "order"], how="left")
    found = found.assign(p_holm=holm(found, by))
    worst = found.groupby(by)["p_holm"].agg(lambda p: p.max(skipna=False)).reset_index()
    seconds = found[found["order"] == 1].drop(columns="p_holm").rename(columns={"other": "second"})
    table = seconds.merge(worst, on=by)
    table = table.assign(n_seeds=table["n_seeds"].fillna(0).astype(int), clear=table["p_holm"] < ALPHA)
    return table[[*by, "first", "second", "margin", "low", "high", "n_seeds", "p_holm", "clear"]]


def rank_table(ranks: pd.DataFrame) -> pd.DataFrame:
    """First places and mean ranks over settings, most first places first, then lower mean rank.

    A shared first place counts for each of those that share it: the sum of ``first`` exceeds the number of settings by
    ``extra_firsts``. Mean ranks and accuracies are over the settings in which every selector took part.

    Args:
        ranks: ``ranks``, or some of its settings.

    Returns:
        One row per selector: selector, first (settings at rank 1, alone or tied), tied_first (those of them that are
        tied), clear_first (those of them that are clear), settings (those in which it took part), first_share,
        mean_rank (ties take the mean of their places), mean_accuracy, common_settings (those of both means; without
        one, the means are NaN), partial (it did not take part in every setting of the table).
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
    )
    common = everywhere(ranks, SETTING)
    means = common.groupby("selector").agg(mean_rank=("rank_average", "mean"), mean_accuracy=("accuracy", "mean"))
    table = table.join(means).reset_index()
    table = table.assign(common_settings=n_settings(common), partial=table["settings"] < n_settings(ranks))
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


def headline(rank_table: pd.DataFrame, subject: str | None = None) -> str:
    """First places of the leader in the paper's form: ``pcoreset first in 31 of 48 settings (64.6%)``.

    It counts shared places; selectors with equally many first places appear together. With another selector as the
    subject, that one comes first: ``mine first in 3 of 48 settings (6.2%); pcoreset first in ...``.
    """
    if rank_table.empty:
        return "no setting to rank: no round after round 0"
    if len(rank_table) == 1:
        return f"nothing to rank: {rank_table['selector'].iloc[0]} is the only selector"
    leaders = rank_table[rank_table["first"] == rank_table["first"].max()]
    if subject is None or subject in set(leaders["selector"]):
        return _first_places(leaders)
    return f"{_first_places(rank_table[rank_table['selector'] == subject])}; {_first_places(leaders)}"


def _first_places(part: pd.DataFrame) -> str:
    return "; ".join(
        f"{selector} first in {first} of {settings} settings ({share:.1%}" + (f"; {tied} shared)" if tied else ")")
        for selector, first, tied, settings, share in part[
            ["selector", "first", "tied_first", "settings", "first_share"]
        ].itertuples(index=False)
    )


def headline_confidence(rank_table: pd.DataFrame, first_places: pd.DataFrame, subject: str | None = None) -> str:
    """How certain the headline is: clear first places of the leader, or of the subject, and the interval of its count.

    Args:
        rank_table: ``rank_table``.
        first_places: ``first_place_intervals`` of the same settings.
        subject: a selector; None for the leader.
    """
    if len(rank_table) < 2:
        return ""
    shown = rank_table if subject is None else rank_table[rank_table["selector"] == subject]
    leader = shown.iloc[0]
    limits = first_places.set_index("selector").loc[leader["selector"]]
    least, most = int(limits["n_seeds"]), int(limits["most_seeds"])
    clearly = f"clearly first in {leader['clear_first']} of {leader['settings']}"
    if most < VERDICT_LEAST:
        clearly = f"no first place is called clear below {VERDICT_LEAST} seeds (n = {most})"
    interval = f"no interval, which needs {BOOTSTRAP_LEAST} seeds in every configuration (n = {least})"
    if least >= BOOTSTRAP_LEAST:
        interval = f"no interval: every draw of the seeds gives the same count (n = {least})"
    if pd.notna(limits["first_low"]):
        interval = f"95% over seeds: {limits['first_low']:.0f} to {limits['first_high']:.0f} (n = {least})"
    return f"{leader['selector']}: {clearly}; {interval}"


def first_place_intervals(seeds: pd.DataFrame) -> pd.DataFrame:
    """95% intervals of each selector's count of first places and of its mean rank, as expected with as many seeds.

    Expected over other draws of the seeds: an expected count is below the number of settings in which a selector is
    truly best wherever the leads are of the size of the noise.

    A draw gives each seed one weight in all configurations, rounds and selectors, because configurations share the
    initial labels of a seed; limits are those of ``intervals.share_interval`` over SEED_DRAWS draws. In 1,000
    simulations (two equal selectors, six teachers, five rounds, seeds correlated by 0, .3 and .6 over teachers) the
    intervals held the expected count in 93.5 to 95.3% of the runs of 5 seeds, and in 94.3 to 95.3% of those of 10.

    A mean rank is 1 plus the share of the other selectors that are ahead, times their number: its limits are those of
    the share, over the settings in which every selector took part. In 200 simulations each (six selectors, equal ones
    and others, six teachers, five rounds, seeds correlated by .3) the intervals held the expected mean rank in 93 to
    98.5% of the runs of 5 seeds, and in 90.5 to 98% of those of 10.

    Args:
        seeds: ``rows.seed_means``.

    Returns:
        Columns selector, first_low, first_high (numbers of settings; NaN where a configuration has fewer than
        BOOTSTRAP_LEAST seeds, and where all draws give the same count), rank_low, rank_high (of the mean rank;
        likewise), n_seeds (the least of any configuration), most_seeds (the most).
    """
    per_seed = seeds[seeds["round"] >= 1]
    names = sorted(per_seed["selector"].unique())
    sizes = per_seed.groupby(list(CONFIGURATION))["seed"].nunique()
    least, most = (int(sizes.min()), int(sizes.max())) if len(sizes) else (0, 0)
    nothing = dict.fromkeys(["first_low", "first_high", "rank_low", "rank_high"], np.nan)
    table = pd.DataFrame({"selector": names, **nothing})
    if least >= BOOTSTRAP_LEAST and len(names) > 1:
        counts, settings, chances = np.zeros((SEED_DRAWS, len(names))), np.zeros(len(names)), np.zeros(len(names))
        ahead, n_common = np.zeros((SEED_DRAWS, len(names))), 0
        draws = seed_draws(SEED_DRAWS, per_seed["seed"].unique().tolist())
        for _, part in per_seed.groupby(list(CONFIGURATION)):
            cells = part.pivot_table(index="seed", columns=["round", "selector"], values="accuracy").dropna(axis=1)
            weights = drawn_weights(draws, cells.index.tolist())
            for index in cells.columns.unique("round"):
                of_round = cells[index]
                means = weights @ of_round.to_numpy()
                places = [names.index(name) for name in of_round.columns]
                counts[:, places] += means >= means.max(axis=1, keepdims=True) - TIE
                settings[places] += 1
                chances[places] += 1 / len(places)
                if len(places) == len(names):
                    ahead[:, places] += _others_ahead(means)
                    n_common += 1
        multipliers = np.stack(list(draws.values()), axis=1)
        limits = [
            share_interval(counts[:, i] / settings[i], multipliers, chances[i] / settings[i], least - 1)
            for i in range(len(names))
        ]
        low, high = (settings * limit for limit in zip(*limits, strict=True))
        table = table.assign(first_low=low, first_high=high)
        if n_common:
            n_others = len(names) - 1
            shares = (ahead / (n_common * n_others)).T
            limits = [share_interval(share, multipliers, 0.5, least - 1) for share in shares]
            low, high = (1 + n_others * np.array(limit) for limit in zip(*limits, strict=True))
            table = table.assign(rank_low=low, rank_high=high)
    return table.assign(n_seeds=least, most_seeds=most)


def _others_ahead(means: Float[np.ndarray, "draws selectors"]) -> Float[np.ndarray, "draws selectors"]:
    """How many other selectors are ahead of each, in each draw; a tie counts half."""
    over = means[:, None, :] - means[:, :, None]
    return (over > TIE).sum(axis=2) + 0.5 * ((np.abs(over) <= TIE).sum(axis=2) - 1)


def win_matrix(seeds: pd.DataFrame) -> pd.DataFrame:
    """In how many settings each selector is ahead of, level with and behind each other one.

    Args:
        seeds: ``rows.seed_means``.

    Returns:
        Columns selector, against, settings (those in which both took part), wins, ties, losses, clear_wins,
        clear_losses (p of the difference within a seed is below 5% after Holm's correction over the pairs of the
        setting; never below VERDICT_LEAST seeds), tested_settings (those with enough seeds).
    """
    keys = list(SETTING)
    cells = seed_arrays(seeds[seeds["round"] >= 1], "accuracy", keys)
    setting = cells.groupby(level=keys, sort=False).ngroup().to_numpy()
    columns = ["selector", "against", "settings", "wins", "ties", "losses", "clear_wins", "clear_losses"]
    columns = [*columns, "tested_settings"]
    parts = []
    for one, other in combinations(cells.columns, 2):
        difference = pd.DataFrame({"setting": setting, "difference": (cells[one] - cells[other]).to_numpy()}).dropna()
        parts.append(mean_interval(difference, ["setting"], "difference").assign(selector=one, against=other))
    if not parts:
        return pd.DataFrame(columns=columns)
    pairs = pd.concat(parts, ignore_index=True)
    pairs = pairs.assign(clear=holm(pairs, ["setting"]) < ALPHA, tested=pairs["p"].notna())
    mirrored = pairs.rename(columns={"selector": "against", "against": "selector"}).assign(mean=-pairs["mean"])
    both = pd.concat([pairs, mirrored], ignore_index=True)
    tied, ahead = both["mean"].abs() <= TIE, both["mean"] > 0
    both = both.assign(
        wins=~tied & ahead,
        ties=tied,
        losses=~tied & ~ahead,
        clear_wins=both["clear"] & ~tied & ahead,
        clear_losses=both["clear"] & ~tied & ~ahead,
    )
    counts = both.groupby(["selector", "against"])
    sums = counts[["wins", "ties", "losses", "clear_wins", "clear_losses"]].sum()
    return sums.assign(settings=counts.size(), tested_settings=counts["tested"].sum()).reset_index()[columns]
