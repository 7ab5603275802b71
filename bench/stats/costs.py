"""What a round costs, and which selectors reach their accuracy at the lowest cost."""

from collections.abc import Sequence

import pandas as pd

from bench.columns import CONFIGURATION, SECONDS
from bench.stats.rows import last_rounds


def _queries(rows: pd.DataFrame) -> pd.DataFrame:
    """The rounds that end with a query: all but the last of a trial."""
    return rows.drop(last_rounds(rows, ["trial_id"]).index)


def costs(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Mean seconds of a round, and the largest memory, per value of ``by``.

    The last round of a trial has no query and does not count in ``select_seconds``.

    Returns:
        Columns ``by``, those of SECONDS (select_seconds is NaN without a query), peak_rss_bytes, n_rounds.
    """
    groups = rows.assign(select_seconds=_queries(rows)["select_seconds"]).groupby(list(by))
    means = groups[list(SECONDS)].mean()
    return means.assign(peak_rss_bytes=groups["peak_rss_bytes"].max(), n_rounds=groups.size()).reset_index()


def seconds_per_pick(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean seconds that a selector takes per image it picks.

    Returns:
        Columns of CONFIGURATION, selector, seconds_per_pick.
    """
    queries = _queries(rows)
    per_pick = queries.assign(seconds_per_pick=queries["select_seconds"] / queries["query_size"])
    return per_pick.groupby([*CONFIGURATION, "selector"])["seconds_per_pick"].mean().reset_index()


def pareto(areas: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Area under the budget curve against seconds of a run, and the Pareto front: none is both cheaper and better.

    Args:
        areas: ``areas.seed_areas`` of the rows.
        rows: for the seconds.

    Returns:
        Columns of CONFIGURATION, selector, area, seconds (of all rounds of a run, mean over data sets and seeds),
        on_front.
    """
    keys = [*CONFIGURATION, "selector"]
    means = areas.groupby(keys)["area"].mean().reset_index()
    per_run = rows.assign(seconds=rows[list(SECONDS)].sum(axis=1)).groupby([*keys, "trial_id"])["seconds"].sum()
    table = means.merge(per_run.groupby(keys).mean().reset_index(), on=keys)
    order = [*CONFIGURATION, "seconds", "area"]
    table = table.sort_values(order, ascending=[name != "area" for name in order], ignore_index=True)
    best = table.groupby(list(CONFIGURATION))["area"].cummax()
    return table.assign(on_front=(table["area"] >= best) & ~table.duplicated([*CONFIGURATION, "area"]))


def pareto_overall(pareto: pd.DataFrame) -> pd.DataFrame:
    """Area and seconds relative to the mean over the selectors of a configuration, averaged over configurations.

    Args:
        pareto: ``pareto``.

    Returns:
        Columns selector, area (difference, a fraction), seconds (ratio), n_configurations, on_front.
    """
    means = pareto.groupby(list(CONFIGURATION))[["area", "seconds"]].transform("mean")
    relative = pareto.assign(area=pareto["area"] - means["area"], seconds=pareto["seconds"] / means["seconds"])
    by = relative.groupby("selector")
    table = by[["area", "seconds"]].mean().assign(n_configurations=by.size()).reset_index()
    table = table.sort_values(["seconds", "area"], ascending=[True, False], ignore_index=True)
    return table.assign(on_front=(table["area"] >= table["area"].cummax()) & ~table.duplicated("area"))


def recipe_areas(areas: pd.DataFrame) -> pd.DataFrame:
    """Areas of each (group, teacher, student, distillation) that ran under several recipes, one column per recipe.

    A recipe with ``step_rule = "fixed"`` spends equal compute in every round; one whose steps grow with the labels
    does not. The pair shows how much of a gain is compute.

    Args:
        areas: ``areas.seed_areas``.

    Returns:
        Columns group, teacher, student, distillation, selector, then one per recipe (NaN where it did not run); a
        recipe named like one of these columns is ``recipe NAME``.
    """
    keys = [name for name in CONFIGURATION if name != "recipe"]
    several = areas[areas.groupby(keys)["recipe"].transform("nunique") > 1]
    if several.empty:
        return pd.DataFrame(columns=[*keys, "selector"])
    wide = several.pivot_table(index=[*keys, "selector"], columns="recipe", values="area")
    named = {name: f"recipe {name}" for name in (*keys, "selector")}
    return wide.rename(columns=named).rename_axis(columns=None).reset_index()
