"""What a round costs, and which selectors reach their accuracy at the lowest cost."""

from collections.abc import Sequence
from functools import lru_cache

import pandas as pd

from activekd.errors import InputError
from activekd.selectors import SELECTORS, plain_names, selector
from bench.columns import CONFIGURATION, SECONDS
from bench.stats.areas import run_areas, seed_areas
from bench.stats.intervals import mean_interval
from bench.stats.rows import alike, everywhere, last_rounds, shared


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


def _selection(rows: pd.DataFrame) -> pd.DataFrame:
    """The rounds with a query, with the seconds of the query and of the prediction of the pool that it needs.

    ``predict_seconds`` of a round with a query are those of the test split and, for a selector that reads the student's
    outputs, of the train split; in the last round of a trial they are of the test split alone. The difference from the
    last round, at least 0, is the prediction of the pool.
    """
    queries = _queries(rows)
    ends = last_rounds(rows, ["trial_id"]).set_index("trial_id")["predict_seconds"]
    pool = (queries["predict_seconds"] - queries["trial_id"].map(ends).astype(float)).clip(lower=0.0)
    return queries.assign(pool_seconds=pool.where(queries["selector"].map(_predicts).astype(bool), 0.0))


def selection_share(rows: pd.DataFrame) -> tuple[float, pd.Series]:
    """The share of queries in the seconds of all rounds: over all rows, and by selector, the largest first.

    Fits that several trials share count for each of them, so the share of the time that a grid took is larger.
    NaN where rounds took no time at all.
    """
    parts = rows[["selector"]].assign(query=_queries(rows)["select_seconds"], seconds=rows[list(SECONDS)].sum(axis=1))
    sums = parts.groupby("selector")[["query", "seconds"]].sum()
    query, seconds = sums.sum()
    by_selector = (sums["query"] / sums["seconds"]).sort_values(ascending=False, kind="stable")
    return query / seconds if seconds > 0 else float("nan"), by_selector


def seconds_per_pick(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean seconds that a selector takes per image it picks, the prediction of the pool that it needs included.

    Returns:
        Columns of CONFIGURATION, selector, seconds_per_pick (both parts), selection_per_pick (the query alone).
    """
    queries = _selection(rows)
    selection = queries["select_seconds"] / queries["query_size"]
    per_pick = queries.assign(
        seconds_per_pick=selection + queries["pool_seconds"] / queries["query_size"],
        selection_per_pick=selection,
    )
    columns = ["seconds_per_pick", "selection_per_pick"]
    return per_pick.groupby([*CONFIGURATION, "selector"])[columns].mean().reset_index()


def query_seconds(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean seconds of a query of each seed, the prediction of the pool that it needs included.

    Returns:
        Columns of CONFIGURATION, selector, seed, seconds.
    """
    queries = _selection(rows)
    queries = queries.assign(seconds=queries["select_seconds"] + queries["pool_seconds"])
    return queries.groupby([*CONFIGURATION, "selector", "seed"])["seconds"].mean().reset_index()


@lru_cache(maxsize=256)
def _predicts(name: str) -> bool:
    """Whether a selector reads the student's outputs on the pool; one that is not of this package may."""
    try:
        if not set(plain_names(name)) <= SELECTORS.keys():
            return True
        return bool(selector(name).needs & {"student_probabilities", "features"})
    except InputError:
        return True


def pareto(areas: pd.DataFrame, seconds: pd.DataFrame) -> pd.DataFrame:
    """Area under the budget curve against seconds of a query, and the Pareto front: none is both cheaper and better.

    Args:
        areas: ``areas.seed_areas``.
        seconds: ``query_seconds`` of the same rows.

    Returns:
        Columns of CONFIGURATION, selector, area, seconds (means over seeds), on_front.
    """
    keys = [*CONFIGURATION, "selector"]
    table = areas.merge(seconds, on=[*keys, "seed"]).groupby(keys)[["area", "seconds"]].mean().reset_index()
    order = [*CONFIGURATION, "seconds", "area"]
    table = table.sort_values(order, ascending=[name != "area" for name in order], ignore_index=True)
    best = table.groupby(list(CONFIGURATION))["area"].cummax()
    return table.assign(on_front=(table["area"] >= best) & ~table.duplicated([*CONFIGURATION, "area"]))


def pareto_overall(areas: pd.DataFrame, seconds: pd.DataFrame) -> pd.DataFrame:
    """Area and seconds of a query over all configurations, and the Pareto front.

    Areas are relative to the mean over the selectors of a configuration and seed; both numbers are averaged over
    configurations within a seed. Only configurations in which every selector took part count, and the seeds that they
    share: the same ones for all selectors. Limits are 95% Student t over these seeds.

    Args:
        areas: ``areas.seed_areas``.
        seconds: ``query_seconds`` of the same rows.

    Returns:
        Columns selector, area (difference, a fraction), area_low, area_high (NaN for one seed), n_seeds, seconds,
        n_configurations, on_front; empty without a shared seed.
    """
    cells = areas.merge(seconds, on=[*CONFIGURATION, "selector", "seed"])
    same = shared(everywhere(cells, CONFIGURATION), [], [*CONFIGURATION, "selector"], "seed")
    n_configurations = len(same[list(CONFIGURATION)].drop_duplicates())
    middle = same.groupby([*CONFIGURATION, "seed"])["area"].transform("mean")
    relative = same.assign(area=same["area"] - middle)
    per_seed = relative.groupby(["selector", "seed"])[["area", "seconds"]].mean().reset_index()
    table = mean_interval(per_seed, ["selector"], "area").drop(columns="p")
    table = table.rename(columns={"mean": "area", "low": "area_low", "high": "area_high"})
    seconds_of = per_seed.groupby("selector")["seconds"].mean().reset_index()
    table = table.merge(seconds_of, on="selector").assign(n_configurations=n_configurations)
    table = table.sort_values(["seconds", "area"], ascending=[True, False], ignore_index=True)
    return table.assign(on_front=(table["area"] >= table["area"].cummax()) & ~table.duplicated("area"))


def recipe_areas(rows: pd.DataFrame) -> pd.DataFrame:
    """Areas of each (group, teacher, student, distillation) that ran under several recipes, one column per recipe.

    A recipe with ``step_rule = "fixed"`` spends equal compute in every round; one whose steps grow with the labels
    does not. The pair shows how much of a gain is compute. Areas are over the rounds and seeds that all recipes share.

    Args:
        rows: one row per (trial_id, round).

    Returns:
        Columns group, teacher, student, distillation, selector, n_seeds, then one per recipe (NaN where it did not
        run); a recipe named like one of these columns is ``recipe NAME``.
    """
    keys = [*(name for name in CONFIGURATION if name != "recipe"), "selector"]
    several = rows[rows.groupby(keys)["recipe"].transform("nunique") > 1]
    same = alike(several, keys, ["recipe", "dataset"])
    areas = seed_areas(run_areas(same))
    if areas.empty:
        return pd.DataFrame(columns=[*keys, "n_seeds"])
    n_seeds = areas.groupby(keys)["seed"].nunique().rename("n_seeds")
    wide = areas.pivot_table(index=keys, columns="recipe", values="area").rename_axis(columns=None)
    wide = wide.rename(columns={name: f"recipe {name}" for name in (*keys, "n_seeds")})
    return n_seeds.to_frame().join(wide).reset_index()
