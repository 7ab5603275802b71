"""Area under the budget curve: one number for a whole run, with paired differences from reference selectors."""

import numpy as np
import pandas as pd
from scipy import stats

from bench.stats import CONFIDENCE, CONFIGURATION

REFERENCES = ("random", "pcoreset")


def seed_areas(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over the label budget of each run: the trapezoid under accuracy over labels, by the budget's range.

    The data sets of a group are averaged within a seed. A run of one round has no area and is left out.

    Returns:
        Columns of CONFIGURATION, selector, seed, area (a fraction).
    """
    keys = [*CONFIGURATION, "dataset", "selector", "seed"]
    out = []
    for key, part in rows.sort_values("round").groupby(keys):
        labels, accuracy = part["n_labeled"].to_numpy(dtype=float), part["accuracy"].to_numpy(dtype=float)
        if len(labels) < 2:
            continue
        area = float(np.trapezoid(accuracy, labels) / (labels[-1] - labels[0]))
        out.append([*key, area])  # pyright: ignore[reportGeneralTypeIssues]
    found = pd.DataFrame(out, columns=[*keys, "area"])
    return found.groupby([*CONFIGURATION, "selector", "seed"]).agg({"area": "mean"}).reset_index()


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
                    difference, low, high = _paired(wide[selector] - wide[reference])
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


def _paired(differences: pd.Series) -> tuple[float, float, float]:
    values = differences.dropna()
    n, middle = len(values), float(values.mean())
    if n < 2:
        return middle, np.nan, np.nan
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std() / np.sqrt(n))
    return middle, middle - half, middle + half
