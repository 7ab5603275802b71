"""Conditions: groups that share a data set and differ in what is done to its pool, or in the query size."""

import pandas as pd

from bench.columns import CONFIGURATION
from bench.stats.areas import BASELINE
from bench.stats.intervals import ALPHA, VERDICT_LEAST, mean_interval

HARDER = ("imbalance", "noise", "open", "duplicates")
"""Keys of choices in the name of a data set that make its pool harder; test data are never changed."""

BETTER, WORSE, NOT_DIFFERENT, NO_VERDICT = "better", "worse", "not significantly different", ""
"""Verdicts of ``condition_table``."""


def split_name(dataset: str) -> tuple[str, frozenset[str]]:
    """The name of a data set without the choices of HARDER, and these.

    >>> split_name("caltech101?pool=val&noise=0.2")
    ('caltech101?pool=val', frozenset({'noise=0.2'}))
    """
    base, _, choices = dataset.partition("?")
    pairs = [pair for pair in choices.split("&") if pair]
    harder = [pair for pair in pairs if pair.partition("=")[0] in HARDER]
    kept = "&".join(pair for pair in pairs if pair not in harder)
    return f"{base}?{kept}" if kept else base, frozenset(harder)


def conditions(rows: pd.DataFrame) -> pd.DataFrame:
    """The groups that are conditions of one data set: they differ in choices of HARDER or in the query size.

    Groups whose data sets are equal without these choices have one base. A group without such choices is the plain
    condition of those with them that have as many classes and the same budgets, unless there are several: left-out
    classes, whose test images are fewer too, have none.

    Args:
        rows: one row per (trial_id, round).

    Returns:
        Columns group, base (data sets, joined by a space), plain (the group of the plain condition; empty for it and
        without one); in the order of the rows. Empty where no base has several conditions.
    """
    found = []
    for group, part in rows.groupby("group", sort=False):
        names = sorted(map(split_name, part["dataset"].unique()), key=lambda name: (name[0], sorted(name[1])))
        sizes = tuple(sorted(part[["dataset", "query_size"]].drop_duplicates()["query_size"].tolist()))
        harder = tuple(choices for _, choices in names)
        found.append((group, " ".join(base for base, _ in names), (harder, sizes), any(harder), _task(part)))
    table = pd.DataFrame(found, columns=["group", "base", "kind", "is_harder", "task"])
    table = table[table.groupby("base")["kind"].transform("nunique") > 1]
    plain = [
        _only(table[(table["base"] == base) & ~table["is_harder"] & table["task"].map(lambda t, own=task: t == own)])
        if is_harder
        else ""
        for base, is_harder, task in zip(table["base"], table["is_harder"], table["task"], strict=True)
    ]
    return table.assign(plain=plain)[["group", "base", "plain"]].reset_index(drop=True)


def _task(part: pd.DataFrame) -> tuple[tuple[int, ...], ...]:
    """Of each data set of a group: classes, query size, initial and last labels. Areas are compared where all agree."""
    of_data = part.groupby("dataset")
    counts = of_data[["n_classes", "query_size"]].max().join(of_data["n_labeled"].agg(["min", "max"]))
    return tuple(sorted(map(tuple, counts.to_numpy().tolist())))


def _only(candidates: pd.DataFrame) -> str:
    """The group of a single candidate; empty for none or several."""
    return str(candidates["group"].iloc[0]) if len(candidates) == 1 else ""


def condition_table(conditions: pd.DataFrame, area_table: pd.DataFrame, areas: pd.DataFrame) -> pd.DataFrame:
    """What breaks which strategy: areas under each condition, against random and against the plain condition.

    Against random: the columns of ``areas.area_table``, whose family of Holm's is the selectors of a configuration.
    Lost: the area under the plain condition minus that under this one, paired by seed.

    Args:
        conditions: ``conditions``.
        area_table: ``areas.area_table``.
        areas: ``areas.seed_areas`` of the same rows.

    Returns:
        Columns base, those of CONFIGURATION, selector, area, against_random, low, high, n_seeds, p_holm (NaN for random
        and without it), verdict (BETTER or WORSE than random where p_holm is below 5%, NOT_DIFFERENT, or NO_VERDICT
        for random and below VERDICT_LEAST seeds), plain, lost, lost_low, lost_high (NaN without a plain condition).
    """
    keys, against = [*CONFIGURATION, "selector"], f"against_{BASELINE}"
    table = conditions.merge(area_table, on="group")
    renamed = {f"{against}_low": "low", f"{against}_high": "high", f"{against}_p_holm": "p_holm"}
    table = table.rename(columns=renamed)
    verdicts = [
        _verdict(difference, p, n)
        for difference, p, n in zip(table[against], table["p_holm"], table[f"{against}_n_seeds"], strict=True)
    ]
    table = table.assign(verdict=verdicts).merge(_lost(conditions, areas), on=keys, how="left")
    measured = [
        "area",
        against,
        "low",
        "high",
        "n_seeds",
        "p_holm",
        "verdict",
        "plain",
        "lost",
        "lost_low",
        "lost_high",
    ]
    return table[["base", *keys, *measured]]


def _verdict(difference: float, p: float, n_seeds: float) -> str:
    if pd.isna(p) or n_seeds < VERDICT_LEAST:
        return NO_VERDICT
    return NOT_DIFFERENT if p >= ALPHA else BETTER if difference > 0 else WORSE


def _lost(conditions: pd.DataFrame, areas: pd.DataFrame) -> pd.DataFrame:
    """What each selector loses in area from the plain condition: CONFIGURATION, selector, lost, lost_low, lost_high."""
    keys, others = [*CONFIGURATION, "selector"], [name for name in CONFIGURATION if name != "group"]
    harder = areas.merge(conditions[conditions["plain"] != ""][["group", "plain"]], on="group")
    easy = areas.rename(columns={"group": "plain", "area": "plain_area"})
    pairs = harder.merge(easy, on=["plain", *others, "selector", "seed"])
    found = mean_interval(pairs.assign(lost=pairs["plain_area"] - pairs["area"]), keys, "lost")
    return found.rename(columns={"mean": "lost", "low": "lost_low", "high": "lost_high"})[
        [*keys, "lost", "lost_low", "lost_high"]
    ]
