"""What a round costs, and which selectors buy their accuracy cheapest."""

from collections.abc import Sequence

import pandas as pd

from bench.stats.areas import seed_areas
from bench.stats.rows import CONFIGURATION, COSTS


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


def pareto(rows: pd.DataFrame) -> pd.DataFrame:
    """Area under the budget curve against seconds of a run, and who is on the front: none is both cheaper and better.

    Returns:
        Columns of CONFIGURATION, selector, area, seconds (of all rounds of a run, mean over data sets and seeds),
        on_front.
    """
    keys = [*CONFIGURATION, "selector"]
    areas = seed_areas(rows).groupby(keys)["area"].mean().reset_index()
    per_run = rows.assign(seconds=rows[list(COSTS)].sum(axis=1)).groupby([*keys, "trial_id"])["seconds"].sum()
    found = areas.merge(per_run.groupby(keys).mean().reset_index(), on=keys)
    found = found.sort_values([*CONFIGURATION, "seconds", "area"], ascending=[True] * 6 + [False], ignore_index=True)
    best = found.groupby(list(CONFIGURATION))["area"].cummax()
    return found.assign(on_front=(found["area"] >= best) & ~found.duplicated([*CONFIGURATION, "area"]))


def pareto_overall(rows: pd.DataFrame) -> pd.DataFrame:
    """Area and seconds relative to the mean over the selectors of a configuration, averaged over configurations.

    Returns:
        Columns selector, area (difference, a fraction), seconds (ratio), n_configurations, on_front.
    """
    found = pareto(rows)
    means = found.groupby(list(CONFIGURATION))[["area", "seconds"]].transform("mean")
    relative = found.assign(area=found["area"] - means["area"], seconds=found["seconds"] / means["seconds"])
    by = relative.groupby("selector")
    table = by[["area", "seconds"]].mean().assign(n_configurations=by.size()).reset_index()
    table = table.sort_values(["seconds", "area"], ascending=[True, False], ignore_index=True)
    return table.assign(on_front=(table["area"] >= table["area"].cummax()) & ~table.duplicated("area"))


def recipes_beside(rows: pd.DataFrame) -> pd.DataFrame:
    """Where one (group, teacher, student, distillation) was run under several recipes, their areas side by side.

    A recipe with ``step_rule = "fixed"`` spends equal compute in every round; one whose steps grow with the labels
    does not: the pair tells what of a gain is compute.

    Returns:
        Columns group, teacher, student, distillation, selector, then one a recipe with its area (NaN where it was not
        run).
    """
    keys = [name for name in CONFIGURATION if name != "recipe"]
    areas = seed_areas(rows)
    several = areas[areas.groupby(keys)["recipe"].transform("nunique") > 1]
    if several.empty:
        return pd.DataFrame(columns=[*keys, "selector"])
    wide = several.pivot_table(index=[*keys, "selector"], columns="recipe", values="area")
    return wide.rename_axis(columns=None).reset_index()
