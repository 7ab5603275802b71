"""Data frame in, data frame out: from one row a (trial, round) to curves, ranks, first places, gains and costs.

Words: a configuration is a (group, teacher, student, distillation, recipe); a setting is a (configuration, round) with
round >= 1, because all selectors share round 0. The data sets of a group are averaged before anything is ranked.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from activekd.errors import InputError

CONFIGURATION = ("group", "teacher", "student", "distillation", "recipe")
SETTING = (*CONFIGURATION, "round")
COSTS = ("teacher_seconds", "train_seconds", "predict_seconds", "select_seconds")
READ = (
    *("trial_id", "round", "protocol", "dataset", *CONFIGURATION, "selector", "seed", "n_labeled"),
    *("accuracy", "teacher_accuracy", *COSTS, "peak_rss_bytes"),
)
"""The columns that this module reads."""

NO_TEACHER = "none"
CONFIDENCE = 0.95
TIE = 1e-12
"""Accuracies that differ by no more than this are equal."""

EARLY_ROUNDS = 2
"""The paper claims the first place 'except in the first 2 AL rounds': up to this round it is early, then late."""

SHOWN = 5
"""Cells that an error names."""

_CELL = (*CONFIGURATION, "dataset", "selector", "seed", "round")
_GAIN = ("group", "student", "recipe", "teacher", "distillation", "selector", "round")
GAIN_SUMMARY = ("teacher", "distillation", "round")


def check_rows(rows: pd.DataFrame) -> None:
    """Check that a table can be averaged and ranked without comparing unlike things.

    Every configuration must hold the full product of its data sets, selectors, seeds and rounds, once each, with equal
    label budgets for all selectors and seeds.

    Raises:
        InputError: naming the cells at fault and what is allowed.
    """
    missing = [column for column in READ if column not in rows.columns]
    if missing:
        found = ", ".join(map(str, rows.columns))
        raise InputError(f"table of rounds lacks the columns {', '.join(missing)}; it has: {found}")
    if rows.empty:
        raise InputError("table of rounds is empty; allowed: at least one (trial, round)")
    protocols = sorted(rows["protocol"].unique())
    if len(protocols) > 1:
        raise InputError(
            f"rows of protocols {', '.join(map(str, protocols))} in one table; allowed: rows of one protocol"
        )
    twice = rows[rows.duplicated(["trial_id", "round"], keep=False)]
    if not twice.empty:
        raise InputError(
            f"more than one row of {_names(twice, ('trial_id', 'round'))}; allowed: one row a (trial_id, round)"
        )
    outside = rows[~rows["accuracy"].between(0.0, 1.0)]
    if not outside.empty:
        raise InputError(f"accuracy of {_names(outside, (*_CELL, 'accuracy'))}; allowed: a fraction in [0, 1]")
    _check_cells(rows)


def _check_cells(rows: pd.DataFrame) -> None:
    doubled = rows[rows.duplicated(list(_CELL), keep=False)]
    if not doubled.empty:
        raise InputError(
            f"two trials of one cell: {_names(doubled, (*_CELL, 'trial_id'))}; allowed: one trial a (configuration, "
            f"data set, selector, seed) (give what differs another recipe name or group)"
        )
    axes = ["dataset", "selector", "seed", "round"]
    holes = []
    for _, part in rows.groupby(list(CONFIGURATION)):
        want = pd.MultiIndex.from_product([sorted(part[axis].unique()) for axis in axes], names=axes)
        lacking = want[~want.isin(pd.MultiIndex.from_frame(part[axes]))].to_frame(index=False)
        holes.append(lacking.merge(part[list(CONFIGURATION)].drop_duplicates(), how="cross"))
    lacking = pd.concat(holes, ignore_index=True)
    if not lacking.empty:
        raise InputError(
            f"selectors of one configuration do not share seeds, data sets and rounds; without a row: "
            f"{_names(lacking, _CELL)}; allowed: the same ones for every selector of a configuration"
        )
    per_round = rows.groupby([*CONFIGURATION, "dataset", "round"])["n_labeled"]
    unequal = per_round.agg(["min", "max"]).query("min != max").reset_index()
    if not unequal.empty:
        raise InputError(
            f"unequal label budgets: {_names(unequal, (*CONFIGURATION, 'dataset', 'round', 'min', 'max'))}; "
            f"allowed: one n_labeled a (configuration, data set, round)"
        )


def _names(cells: pd.DataFrame, columns: Sequence[str]) -> str:
    shown = [" ".join(f"{c}={cell[c]}" for c in columns) for _, cell in cells.head(SHOWN).iterrows()]
    more = len(cells) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more else "")


def _mean_interval(per_seed: pd.DataFrame, by: Sequence[str], column: str) -> pd.DataFrame:
    """Columns mean, low, high, n_seeds: Student's t interval over seeds; one seed gives NaN limits."""
    found = per_seed.groupby(list(by))[column].agg(["mean", "std", "count"]).reset_index()
    count = found.pop("count")
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count.where(count > 1) - 1)
    half = quantile * found.pop("std") / np.sqrt(count)
    return found.assign(low=found["mean"] - half, high=found["mean"] + half, n_seeds=count)


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Learning curves: accuracy per configuration, selector and round.

    The data sets of a group are averaged within a seed first; the 95% Student t interval is over seeds, so it tells
    how far a new seed may move the mean of these data sets, not what other data sets would give.

    Returns:
        Columns of SETTING, selector, n_labeled (mean over the group's data sets), accuracy, low, high (NaN for one
        seed), n_seeds.
    """
    by = [*SETTING, "selector"]
    per_seed = rows.groupby([*by, "seed"])[["accuracy", "n_labeled"]].mean().reset_index()
    found = _mean_interval(per_seed, by, "accuracy").rename(columns={"mean": "accuracy"})
    labels = per_seed.groupby(by)["n_labeled"].mean().reset_index()
    return found.merge(labels, on=by)[[*by, "n_labeled", "accuracy", "low", "high", "n_seeds"]]


def ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """The place of every selector in every setting, best first.

    Selectors whose mean accuracies differ by no more than TIE are tied: ``rank`` is the lowest place that they take
    up, ``rank_average`` the mean of their places.

    Returns:
        Columns of SETTING, selector, accuracy, rank, rank_average, tied; one row a (setting, selector).
    """
    by = list(SETTING)
    found = curves(rows[rows["round"] >= 1])[[*by, "selector", "accuracy"]]
    found = found.sort_values(
        [*by, "accuracy", "selector"], ascending=[True] * len(by) + [False, True], ignore_index=True
    )
    place = found.groupby(by).cumcount() + 1
    apart = ~(found.groupby(by)["accuracy"].diff().abs() <= TIE)
    places = place.groupby(apart.cumsum())
    return found.assign(
        rank=places.transform("min"), rank_average=places.transform("mean"), tied=places.transform("size") > 1
    )


def rank_table(ranks: pd.DataFrame) -> pd.DataFrame:
    """First places and mean ranks over settings, most first places first, then lower mean rank.

    A shared first place counts for each of those that share it: the sum of ``first`` exceeds the number of settings by
    ``extra_firsts``.

    Args:
        ranks: what ``ranks`` returned, or some of its settings.

    Returns:
        One row a selector: selector, first (settings at rank 1, alone or tied), tied_first (those of them that are
        tied), settings (those in which it took part), first_share, mean_rank (ties take the mean of their places),
        mean_accuracy.
    """
    leads = ranks["rank"] == 1
    counted = ranks.assign(first=leads, tied_first=leads & ranks["tied"]).groupby("selector")
    table = counted.agg(
        first=("first", "sum"),
        tied_first=("tied_first", "sum"),
        settings=("first", "size"),
        first_share=("first", "mean"),
        mean_rank=("rank_average", "mean"),
        mean_accuracy=("accuracy", "mean"),
    ).reset_index()
    return table.sort_values(["first", "mean_rank", "selector"], ascending=[False, True, True], ignore_index=True)


def rank_table_by(ranks: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The rank table of each part of the settings, one below the other.

    Args:
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
    """The same frame with a column stage: early up to round EARLY_ROUNDS, then late."""
    return ranks.assign(stage=np.where(ranks["round"] <= EARLY_ROUNDS, "early", "late"))


def n_settings(ranks: pd.DataFrame) -> int:
    """How many settings were ranked."""
    return len(ranks[list(SETTING)].drop_duplicates())


def extra_firsts(ranks: pd.DataFrame) -> int:
    """First places beyond one a setting, which come from ties: sum(first) - extra_firsts = n_settings."""
    firsts = ranks[ranks["rank"] == 1].groupby(list(SETTING)).size()
    return int((firsts - 1).sum())


def headline(rank_table: pd.DataFrame) -> str:
    """The count in the paper's form, such as ``pcoreset first in 31 of 48 settings (64.6%)``, for who leads it.

    Places that were shared are named; selectors with equally many first places are named together.
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


def margins(rows: pd.DataFrame) -> pd.DataFrame:
    """How far the first is ahead of the second in each setting that has two selectors or more.

    Returns:
        Columns of SETTING, first, second, margin (accuracies), overlap (their 95% intervals meet, or there is one
        seed and hence no interval).
    """
    by = list(SETTING)
    places = ranks(rows).merge(curves(rows)[[*by, "selector", "low", "high"]], on=[*by, "selector"])
    order = places.groupby(by).cumcount()
    pairs = places[order == 0].merge(places[order == 1], on=by, suffixes=("_first", "_second"))
    return pairs[by].assign(
        first=pairs["selector_first"],
        second=pairs["selector_second"],
        margin=pairs["accuracy_first"] - pairs["accuracy_second"],
        overlap=~(pairs["low_first"] > pairs["high_second"]),
    )


def _gains_by_seed(rows: pd.DataFrame) -> pd.DataFrame:
    """Per (_GAIN, seed): accuracy with and without teacher, their difference, the teacher's own accuracy."""
    on = ["group", "dataset", "student", "recipe", "selector", "seed", "round"]
    distilled = rows[rows["teacher"] != NO_TEACHER]
    plain = rows[rows["teacher"] == NO_TEACHER][[*on, "accuracy"]].rename(columns={"accuracy": "without"})
    pairs = distilled.merge(plain, on=on, validate="many_to_one").rename(columns={"accuracy": "with_teacher"})
    pairs = pairs.assign(gain=pairs["with_teacher"] - pairs["without"])
    by = [*_GAIN, "seed"]
    whole = distilled.groupby(by).size().rename("whole").reset_index()
    found = pairs.groupby(by).agg(
        with_teacher=("with_teacher", "mean"),
        without=("without", "mean"),
        gain=("gain", "mean"),
        teacher_accuracy=("teacher_accuracy", "mean"),
        paired=("gain", "size"),
    )
    found = found.reset_index().merge(whole, on=by)
    return found[found["paired"] == found["whole"]].drop(columns=["paired", "whole"]).reset_index(drop=True)


def gain(rows: pd.DataFrame) -> pd.DataFrame:
    """Gain of distillation: accuracy with a teacher minus accuracy without it, per configuration, selector and round.

    Paired by (data set, student, recipe, selector, seed, round); a seed counts where all data sets of the group have
    their pair. What has no counterpart without a teacher is left out.

    Returns:
        Columns group, student, recipe, teacher, distillation, selector, round, with_teacher, without, teacher_accuracy
        (of the teacher itself), gain, low, high (95% t interval of the gain over seeds), n_seeds; accuracies as
        fractions.
    """
    return _gain_over_seeds(_gains_by_seed(rows), _GAIN)


def gain_summary(rows: pd.DataFrame, by: Sequence[str] = GAIN_SUMMARY) -> pd.DataFrame:
    """The gain of distillation averaged over all that ``by`` does not name; within a seed first.

    Only the seeds that all averaged cells share are used.

    Args:
        by: some of the key columns of ``gain``.

    Returns:
        Columns ``by``, those of ``gain`` from with_teacher on, and n_cells (how many of its cells were averaged).
    """
    keys = list(by)
    per_cell = _gains_by_seed(rows)
    n_cells = per_cell[list(_GAIN)].drop_duplicates().groupby(keys).size().rename("n_cells").reset_index()
    measured = ["with_teacher", "without", "gain", "teacher_accuracy"]
    averages = per_cell.groupby([*keys, "seed"])[measured].mean()
    averages = averages.assign(found=per_cell.groupby([*keys, "seed"]).size()).reset_index().merge(n_cells, on=keys)
    per_seed = averages[averages["found"] == averages["n_cells"]]
    return _gain_over_seeds(per_seed, by).merge(n_cells, on=keys)


def _gain_over_seeds(per_seed: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    keys, levels = list(by), ["with_teacher", "without", "teacher_accuracy"]
    interval = _mean_interval(per_seed, by, "gain").rename(columns={"mean": "gain"})
    means = per_seed.groupby(keys)[levels].mean().reset_index()
    return means.merge(interval, on=keys)[[*keys, *levels, "gain", "low", "high", "n_seeds"]]


def costs(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean seconds a round, and the largest memory, per value of ``by``.

    The last round of a trial asks for nothing and does not count in ``select_seconds``.

    Returns:
        Columns ``by``, teacher_seconds, train_seconds, predict_seconds, select_seconds (NaN where nothing was ever
        asked for), peak_rss_bytes, n_rounds.
    """
    last = rows["round"] == rows.groupby("trial_id")["round"].transform("max")
    asked = rows.assign(select_seconds=rows["select_seconds"].mask(last))
    groups = asked.groupby(list(by))
    found = groups[list(COSTS)].mean()
    return found.assign(peak_rss_bytes=groups["peak_rss_bytes"].max(), n_rounds=groups.size()).reset_index()
