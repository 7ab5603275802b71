"""Area under the budget curve: one number per run, with paired differences and shares of pairs of selectors."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from bench.columns import CONFIGURATION
from bench.stats.intervals import (
    ALPHA,
    VERDICT_LEAST,
    bootstrap_interval,
    holm,
    jackknife_share,
    mean_interval,
    t_interval,
)
from bench.stats.rows import data_set_means

BASELINE = "random"
"""A reference of every table of areas."""


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
    """The areas of ``run_areas``, the data sets of a group averaged within a seed that has all of them.

    Returns:
        Columns of CONFIGURATION, selector, seed, area (a fraction).
    """
    return data_set_means(run_areas, [*CONFIGURATION, "selector", "seed"], ["area"])


def area_table(areas: pd.DataFrame, seconds_per_pick: pd.DataFrame, control: str) -> pd.DataFrame:
    """Area of each selector in each configuration, and its paired differences from BASELINE and from a control.

    Intervals are 95% Student t over seeds, of the difference within a seed. p values are corrected after Holm; a family
    is the selectors compared with one reference in one configuration.

    Args:
        areas: ``seed_areas``.
        seconds_per_pick: ``costs.seconds_per_pick``.
        control: a selector.

    Returns:
        Columns of CONFIGURATION, selector, area, n_seeds, for each reference R of the configuration against_R,
        against_R_low, against_R_high, against_R_n_seeds, against_R_p_holm (NaN for R itself and without R; limits are
        NaN for one seed, p below VERDICT_LEAST seeds), and those of ``seconds_per_pick``; the largest area of a
        configuration first.
    """
    keys = [*CONFIGURATION, "selector"]
    table = areas.groupby(keys)["area"].agg(area="mean", n_seeds="count").reset_index()
    for reference in dict.fromkeys([BASELINE, control]):
        table = table.merge(_differences(areas, reference), on=keys, how="left")
    table = table.merge(seconds_per_pick, on=keys, how="left")
    order = [*CONFIGURATION, "area"]
    return table.sort_values(order, ascending=[name != "area" for name in order], ignore_index=True)


def references_in(area_table: pd.DataFrame) -> Sequence[str]:
    """The selectors from which ``area_table`` has differences."""
    names = [str(name) for name in area_table.columns if str(name).endswith("_p_holm")]
    return [name.removeprefix("against_").removesuffix("_p_holm") for name in names]


def _differences(areas: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Paired differences from one selector, as the columns of ``area_table``."""
    on = [*CONFIGURATION, "seed"]
    base = areas[areas["selector"] == reference].drop(columns="selector").rename(columns={"area": "base"})
    others = areas[areas["selector"] != reference].merge(base, on=on)
    others = others.assign(difference=others["area"] - others["base"])
    found = mean_interval(others, [*CONFIGURATION, "selector"], "difference")
    name = f"against_{reference}"
    renamed = {"mean": name, "low": f"{name}_low", "high": f"{name}_high", "n_seeds": f"{name}_n_seeds"}
    found = found.assign(**{f"{name}_p_holm": holm(found, CONFIGURATION)}).rename(columns=renamed)
    return found[[*CONFIGURATION, "selector", *renamed.values(), f"{name}_p_holm"]]


def compare_with(area_table: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Which selectors are better than a reference, worse, or not significantly different, in each configuration.

    Better and worse: p after Holm's correction is below 5%.

    Args:
        area_table: ``area_table``.
        reference: one of those of the table.

    Returns:
        Columns of CONFIGURATION, against (the reference), better, not_different, worse (selectors, comma-separated,
        the largest area first), n_seeds, verdict (whether there are VERDICT_LEAST seeds; without them the three groups
        are empty); without
        configurations that lack the reference.
    """
    name = f"against_{reference}"
    out = []
    for key, part in area_table.groupby(list(CONFIGURATION)):
        others = part[part[name].notna()]
        if others.empty:
            continue
        n_seeds = int(others[f"{name}_n_seeds"].min())
        told = n_seeds >= VERDICT_LEAST
        clear = others[f"{name}_p_holm"] < ALPHA
        better, worse = clear & (others[name] > 0), clear & (others[name] < 0)
        groups = {"better": better, "not_different": ~(better | worse), "worse": worse}
        line = dict(zip(CONFIGURATION, key, strict=True))  # pyright: ignore[reportArgumentType]
        named = {group: ", ".join(others.loc[chosen & told, "selector"]) for group, chosen in groups.items()}
        out.append({**line, "against": reference, **named, "n_seeds": n_seeds, "verdict": told})
    return pd.DataFrame(
        out, columns=[*CONFIGURATION, "against", "better", "not_different", "worse", "n_seeds", "verdict"]
    )


def improvement(areas: pd.DataFrame) -> pd.DataFrame:
    """Probability that a run of one selector has a larger area than a run of another (Agarwal et al. 2021).

    In each configuration the share of all pairs of seeds in which the first is ahead, ties by half; then the mean over
    the configurations in which both took part, of the seeds that all of these share. The interval is that of
    ``intervals.jackknife_share``: a seed is left out of all configurations at once, since they share its initial
    labels. (Agarwal et al. draw runs by a stratified bootstrap, as if configurations were independent.)
    In the 1,000 simulations of ``ranking.first_place_intervals`` the intervals held the truth in 94.4 to 96.4% of runs.

    Args:
        areas: ``seed_areas``.

    Returns:
        Columns selector, against, probability, low, high (NaN for fewer than BOOTSTRAP_LEAST seeds, and where every
        seed gives the same share), n_seeds, n_configurations.
    """
    names = sorted(areas["selector"].unique())
    configurations = [
        part.pivot_table(index="seed", columns="selector", values="area")
        for _, part in areas.groupby(list(CONFIGURATION))
    ]
    out = []
    for one, other in permutations(names, 2):
        parts = [wide[[one, other]].dropna() for wide in configurations if {one, other} <= set(wide.columns)]
        if not parts:
            continue
        seeds = sorted(set.intersection(*(set(part.index) for part in parts)))
        share, low, high = np.nan, np.nan, np.nan
        if seeds:
            both = [part.loc[seeds].to_numpy() for part in parts]
            pairs = [cells[:, 0, None] - cells[None, :, 1] for cells in both]
            ahead = np.mean([(np.sign(pair) + 1) / 2 for pair in pairs], axis=0)
            share, (low, high) = float(ahead.mean()), jackknife_share(ahead)
        out.append([one, other, share, low, high, len(seeds), len(parts)])
    return pd.DataFrame(
        out, columns=["selector", "against", "probability", "low", "high", "n_seeds", "n_configurations"]
    )


def paired_areas(run_areas: pd.DataFrame, control: str) -> pd.DataFrame:
    """Differences in area from a control, over seeds or over data sets, never both in one interval.

    Both use the seeds that have every data set of the group. Over ``seeds``: data sets averaged, one difference per
    seed. Over ``data sets``: seeds averaged, one difference per data set; left out where the group has one data set.

    Args:
        run_areas: ``run_areas``.
        control: a selector.

    Returns:
        Columns of CONFIGURATION, selector, against (the control), over, n, difference, low, high (Student t),
        bootstrap_low, bootstrap_high (NaN for fewer than BOOTSTRAP_LEAST).
    """
    out = []
    for key, part in run_areas.groupby(list(CONFIGURATION)):
        line = dict(zip(CONFIGURATION, key, strict=True))  # pyright: ignore[reportArgumentType]
        wide = part.pivot_table(index=["seed", "dataset"], columns="selector", values="area")
        if control not in wide:
            continue
        sets = sorted(set(part["dataset"]))
        for selector in wide.columns.drop(control):
            pairs = (wide[selector] - wide[control]).rename("difference").reset_index()
            whole = pairs.pivot_table(index="seed", columns="dataset", values="difference")
            whole = whole.reindex(columns=sets).dropna()
            means = {"seeds": whole.mean(axis="columns"), "data sets": whole.mean(axis="index")}
            for over, differences in means.items():
                if over == "data sets" and len(sets) == 1:
                    continue
                values = differences.dropna().to_numpy()
                difference, low, high = t_interval(values)
                boot_low, boot_high = bootstrap_interval(values)
                out.append(
                    {
                        **line,
                        "selector": selector,
                        "against": control,
                        "over": over,
                        "n": len(values),
                        "difference": difference,
                        "low": low,
                        "high": high,
                        "bootstrap_low": boot_low,
                        "bootstrap_high": boot_high,
                    }
                )
    measured = ["over", "n", "difference", "low", "high", "bootstrap_low", "bootstrap_high"]
    return pd.DataFrame(out, columns=[*CONFIGURATION, "selector", "against", *measured])
