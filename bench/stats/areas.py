"""Area under the budget curve: one number per run, with paired differences from reference selectors."""

import numpy as np
import pandas as pd

from bench.columns import CONFIGURATION
from bench.stats.intervals import t_interval

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
    trapezoids = ordered[keys].assign(area=width * height, width=width).dropna()
    sums = trapezoids.groupby(keys).sum().reset_index()
    return sums.assign(area=sums["area"] / sums.pop("width"))


def seed_areas(run_areas: pd.DataFrame) -> pd.DataFrame:
    """The areas of ``run_areas``, the data sets of a group averaged within a seed.

    Returns:
        Columns of CONFIGURATION, selector, seed, area (a fraction).
    """
    return run_areas.groupby([*CONFIGURATION, "selector", "seed"]).agg({"area": "mean"}).reset_index()


def area_table(areas: pd.DataFrame, seconds_per_pick: pd.DataFrame) -> pd.DataFrame:
    """Area of each selector in each configuration, and its paired differences from REFERENCES.

    Intervals are 95% Student t over seeds, of the difference within a seed.

    Args:
        areas: ``seed_areas``.
        seconds_per_pick: ``costs.seconds_per_pick``.

    Returns:
        Columns of CONFIGURATION, selector, area, n_seeds, for each reference R of the configuration against_R,
        against_R_low, against_R_high (NaN for R itself, for one seed and without R), and seconds_per_pick; the largest
        area of a configuration first.
    """
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
    table = pd.DataFrame(out).merge(seconds_per_pick, on=[*CONFIGURATION, "selector"], how="left")
    return table.sort_values(order, ascending=[True] * len(CONFIGURATION) + [False], ignore_index=True)


def compare_with(area_table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Which selectors are better than a reference, worse, or not significantly different, in each configuration.

    Better and worse: the paired 95% interval of the difference in area excludes 0.

    Args:
        area_table: ``area_table``.
        reference: one of REFERENCES.

    Returns:
        Columns of CONFIGURATION, better, not_different, worse (selectors, comma-separated, the largest area first);
        without configurations that lack the reference.
    """
    out = []
    for _, part in area_table.groupby(list(CONFIGURATION)):
        others = part[part[f"against_{reference}"].notna()]
        if others.empty:
            continue
        better, worse = others[f"against_{reference}_low"] > 0, others[f"against_{reference}_high"] < 0
        groups = {"better": better, "not_different": ~(better | worse), "worse": worse}
        line = {name: part[name].iloc[0] for name in CONFIGURATION}
        out.append(line | {group: ", ".join(others.loc[chosen, "selector"]) for group, chosen in groups.items()})
    return pd.DataFrame(out, columns=[*CONFIGURATION, "better", "not_different", "worse"])
