"""Area under the budget curve: one number for a whole run, with paired differences from reference selectors."""

import numpy as np
import pandas as pd

from bench.stats.intervals import t_interval
from bench.stats.rows import CONFIGURATION

REFERENCES = ("random", "pcoreset")


def run_areas(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over the label budget of each run: the trapezoid under accuracy over labels, by the budget's range.

    A run of one round has no area and is left out.

    Returns:
        Columns of CONFIGURATION, dataset, selector, seed, area (a fraction).
    """
    keys = [*CONFIGURATION, "dataset", "selector", "seed"]
    ordered = rows.sort_values([*keys, "round"], ignore_index=True)
    runs = ordered.groupby(keys)
    width = runs["n_labeled"].diff()
    height = (ordered["accuracy"] + runs["accuracy"].shift()) / 2
    found = ordered[keys].assign(area=width * height, width=width).dropna()
    sums = found.groupby(keys).sum().reset_index()
    return sums.assign(area=sums["area"] / sums.pop("width"))


def seed_areas(rows: pd.DataFrame) -> pd.DataFrame:
    """The areas of ``run_areas``, the data sets of a group averaged within a seed.

    Returns:
        Columns of CONFIGURATION, selector, seed, area (a fraction).
    """
    return run_areas(rows).groupby([*CONFIGURATION, "selector", "seed"]).agg({"area": "mean"}).reset_index()


def area_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Each selector's area in each configuration, and its paired differences from REFERENCES.

    Intervals are 95% Student t over seeds, of the difference within a seed.

    Returns:
        Columns of CONFIGURATION, selector, area, n_seeds, seconds_per_pick, and for each reference R of the
        configuration against_R, against_R_low, against_R_high (NaN for itself, for one seed and without R); the largest
        area of a configuration first.
    """
    areas = seed_areas(rows)
    asked = rows[rows["round"] < rows.groupby("trial_id")["round"].transform("max")]
    per_pick = asked.assign(seconds_per_pick=asked["select_seconds"] / asked["query_size"])
    cost = per_pick.groupby([*CONFIGURATION, "selector"], as_index=False)["seconds_per_pick"].mean()
    out = []
    for _, part in areas.groupby(list(CONFIGURATION)):
        wide = part.pivot_table(index="seed", columns="selector", values="area")
        for selector in wide.columns:
            line = {name: part[name].iloc[0] for name in CONFIGURATION}
            line |= {"selector": selector, "area": wide[selector].mean(), "n_seeds": int(wide[selector].count())}
            for reference in REFERENCES:
                difference, low, high = np.nan, np.nan, np.nan
                if reference in wide and reference != selector:
                    difference, low, high = t_interval((wide[selector] - wide[reference]).dropna().to_numpy())
                line |= {
                    f"against_{reference}": difference,
                    f"against_{reference}_low": low,
                    f"against_{reference}_high": high,
                }
            out.append(line)
    order = [*CONFIGURATION, "area"]
    table = pd.DataFrame(out).merge(cost, on=[*CONFIGURATION, "selector"], how="left")
    return table.sort_values(order, ascending=[True] * len(CONFIGURATION) + [False], ignore_index=True)


def standing(table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Who is above, below and not told apart from a reference in each configuration, by the paired intervals.

    Args:
        table: what ``area_table`` returned.
        reference: one of REFERENCES.

    Returns:
        Columns of CONFIGURATION, above, level, below (names, the largest area first); without configurations in which
        the reference did not take part.
    """
    out = []
    for _, part in table.groupby(list(CONFIGURATION)):
        others = part[part[f"against_{reference}"].notna()]
        if others.empty:
            continue
        above, below = others[f"against_{reference}_low"] > 0, others[f"against_{reference}_high"] < 0
        names = {"above": above, "level": ~(above | below), "below": below}
        line = {name: part[name].iloc[0] for name in CONFIGURATION}
        out.append(line | {place: ", ".join(others.loc[chosen, "selector"]) for place, chosen in names.items()})
    return pd.DataFrame(out, columns=[*CONFIGURATION, "above", "level", "below"])
