"""The main table: accuracy of every selector at chosen numbers of labels, mean and spread over seeds, and the best."""

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd

from activekd.errors import InputError
from bench.columns import CONFIGURATION
from bench.stats.intervals import ALPHA, holm, mean_interval
from bench.stats.ranking import TIE

COLUMN = "column"
"""Where a cell stands: its query round or, with chosen budgets, its number of labels."""

MEMBERS = ("average", *CONFIGURATION)

MAIN_COLUMNS = (
    *MEMBERS,
    "n_configurations",
    "selector",
    COLUMN,
    "round",
    "n_labeled",
    "mean",
    "sd",
    "n_seeds",
    "best",
    "p_holm",
    "not_different",
)


def main_table(seeds: pd.DataFrame, budgets: Sequence[str] = ()) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every selector at some numbers of labels, and which are best.

    One table per configuration, and one per set of alike configurations: those with equal columns, seeds and selectors,
    averaged within a seed, so that the spread is that of the average over seeds. By default the columns are the first
    query round, the middle one and the last.

    The best of a column has the largest mean, alone or tied. Every other selector is compared with it by a paired t
    test over seeds (``mean_interval``); a family of Holm's is the others of a column. The best is chosen on the same
    seeds, so p values against it are too small rather than too large.

    Args:
        seeds: ``rows.seed_means``.
        budgets: numbers of labels, as a page shows them; none for the default columns.

    Returns:
        Columns average (0 for one configuration, else the number of the average), those of CONFIGURATION (empty where
        the averaged ones differ), n_configurations, selector, column, round (NaN with budgets), n_labeled (NaN where
        the averaged ones differ), mean, sd (sample standard deviation; NaN for one seed), n_seeds, best, p_holm (of
        the difference from the best; NaN for the best itself and below VERDICT_LEAST seeds), not_different (p_holm is
        not below 5%).

    Raises:
        InputError: a budget that no configuration has after a query.
    """
    cells = chosen(seeds, budgets)
    whole = averaged(cells, members_of(cells))
    column = [*MEMBERS, COLUMN]
    found = mean_and_spread(whole, budgets)
    found = found.assign(best=found["mean"] >= found.groupby(column)["mean"].transform("max") - TIE)
    found = found.merge(_tests(whole, found, column), on=[*column, "selector"], how="left")
    return found.assign(not_different=found["p_holm"] >= ALPHA)[[*MAIN_COLUMNS]]


def averaged(cells: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """The cells of each average, then those of each configuration, seed by seed.

    Args:
        cells: ``chosen``, or other rows with its columns; an average has a selector where all its configurations do.
        members: ``members_of``.

    Returns:
        The columns of ``cells``, average (0 for one configuration) and n_configurations.
    """
    averages = []
    for number, part in members.groupby("average"):
        alike = cells.merge(part, on=list(CONFIGURATION))
        means = alike.groupby(["selector", COLUMN, "seed"]).agg(accuracy=("accuracy", "mean"), n=("accuracy", "size"))
        means = means[means["n"] == len(part)].drop(columns="n").reset_index()
        n_labeled = alike.groupby(COLUMN)["n_labeled"].agg(lambda n: n.iloc[0] if len(set(n)) == 1 else np.nan)
        shared = {name: part[name].iloc[0] if len(set(part[name])) == 1 else "" for name in CONFIGURATION}
        averages.append(
            means.assign(average=number, **shared, n_configurations=len(part), n_labeled=means[COLUMN].map(n_labeled))
        )
    return pd.concat([*averages, cells.assign(average=0, n_configurations=1)], ignore_index=True)


def mean_and_spread(whole: pd.DataFrame, budgets: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of ``averaged``, with the first columns of MAIN_COLUMNS."""
    column = [*MEMBERS, COLUMN]
    found = whole.groupby([*column, "selector"], sort=False).agg(
        n_configurations=("n_configurations", "first"),
        n_labeled=("n_labeled", "first"),
        mean=("accuracy", "mean"),
        sd=("accuracy", "std"),
        n_seeds=("accuracy", "size"),
    )
    found = found.reset_index()
    return found.assign(round=np.nan if budgets else found[COLUMN].astype(float))


def main_averages(seeds: pd.DataFrame, budgets: Sequence[str] = ()) -> pd.DataFrame:
    """The configurations of each average of ``main_table``, in columns MEMBERS; averages are numbered from 1 on."""
    return members_of(chosen(seeds, budgets))


def chosen(seeds: pd.DataFrame, budgets: Sequence[str]) -> pd.DataFrame:
    """The cells of the main table, with the column that each stands in."""
    queries = seeds[seeds["round"] >= 1]
    if budgets:
        shown = queries["n_labeled"].map("{:g}".format)
        known = sorted(set(queries["n_labeled"]))
        lacking = [budget for budget in dict.fromkeys(budgets) if budget not in set(shown)]
        if lacking:
            raise InputError(
                f"--budgets {', '.join(lacking)}: no query round has so many labels; expected: some of "
                f"{', '.join(f'{budget:g}' for budget in known)}"
            )
        kept = queries[shown.isin(list(budgets))]
        return kept.assign(**{COLUMN: kept["n_labeled"]})
    parts = []
    for _, part in queries.groupby(list(CONFIGURATION), sort=False):
        rounds = np.sort(part["round"].unique())
        wanted = {rounds[0], rounds[(len(rounds) - 1) // 2], rounds[-1]}
        parts.append(part[part["round"].isin(wanted)])
    kept = pd.concat(parts, ignore_index=True) if parts else queries
    return kept.assign(**{COLUMN: kept["round"]})


def members_of(cells: pd.DataFrame) -> pd.DataFrame:
    """Sets of two configurations or more with equal columns, seeds and selectors, the largest first."""
    alike: dict[Hashable, list[tuple[Hashable, ...]]] = {}
    for key, part in cells.groupby(list(CONFIGURATION)):
        kind = tuple(tuple(sorted(part[name].unique())) for name in (COLUMN, "seed", "selector"))
        alike.setdefault(kind, []).append(tuple(key))  # pyright: ignore[reportArgumentType]
    several = sorted((members for members in alike.values() if len(members) > 1), key=len, reverse=True)
    rows = [(number, *member) for number, members in enumerate(several, start=1) for member in members]
    return pd.DataFrame(rows, columns=list(MEMBERS))


def _tests(whole: pd.DataFrame, found: pd.DataFrame, column: Sequence[str]) -> pd.DataFrame:
    """p values of each selector's difference from the best of its column, after Holm's correction."""
    order = found.sort_values([*column, "mean", "selector"], ascending=[*(True for _ in column), False, True])
    best = order.drop_duplicates(list(column))[[*column, "selector"]]
    per_seed = whole[[*column, "seed", "selector", "accuracy"]]
    of_best = best.merge(per_seed, on=[*column, "selector"]).drop(columns="selector")
    others = per_seed.merge(found.loc[~found["best"], [*column, "selector"]], on=[*column, "selector"])
    pairs = others.merge(of_best, on=[*column, "seed"], suffixes=("", "_best"))
    pairs = pairs.assign(difference=pairs["accuracy_best"] - pairs["accuracy"])
    tests = mean_interval(pairs, [*column, "selector"], "difference")
    return tests.assign(p_holm=holm(tests, column))[[*column, "selector", "p_holm"]]


def columns_of(table: pd.DataFrame) -> Mapping[Hashable, str]:
    """Header of each column of one table: its number of labels, or its round where the averaged ones differ."""
    firsts = table.drop_duplicates(COLUMN).sort_values(COLUMN)
    return {
        column: f"round {column}" if pd.isna(n) else f"{n:g}"
        for column, n in zip(firsts[COLUMN], firsts["n_labeled"], strict=True)
    }
