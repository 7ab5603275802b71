"""Labels saved: the labels that each selector needs for the final accuracy of a reference."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from bench.columns import CONFIGURATION
from bench.stats.intervals import ALPHA, BOOTSTRAP_LEAST, drawn_weights, mean_interval, percentiles, seed_draws
from bench.stats.ranking import TIE

REFERENCE = "random"
DRAWS = 2_000


def labels_saved(seeds: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Labels at which each selector first reaches the reference's accuracy of its last round.

    Mean curves over the seeds that both selectors have are linearly interpolated between rounds. Where the reference is
    flat the question has no answer: its last accuracy is not above its first or, with three seeds or more, the 95%
    interval of the rise within a seed includes 0. The interval is by a multiplier bootstrap over seeds, the same seeds
    for the reference and the selector.

    Args:
        seeds: ``rows.seed_means``.
        reference: a selector.

    Returns:
        Columns of CONFIGURATION, selector, accuracy (of the reference in its last round), reference_labels (its labels
        there), labels (that the selector needs; NaN where it never reaches the accuracy, or flat), low, high (95%; inf
        where a limit lies above the last budget; NaN for fewer than BOOTSTRAP_LEAST seeds, or flat), saved
        (reference_labels - labels), n_seeds, flat; without configurations that lack the reference or a query.
    """
    found, rises = [], []
    for key, part in seeds.groupby(list(CONFIGURATION)):
        names = dict(zip(CONFIGURATION, key, strict=True))  # pyright: ignore[reportArgumentType]
        if reference not in set(part["selector"]) or part["round"].nunique() < 2:
            continue
        wide = part.pivot_table(index="seed", columns=["selector", "round"], values="accuracy")
        budget = part.groupby(["selector", "round"])["n_labeled"].mean()
        for other in sorted(set(part["selector"]) - {reference}):
            cells = wide[[reference, other]].dropna()
            if not cells.empty:
                curve = pd.DataFrame(cells[reference])
                rises.append(curve.iloc[:, -1] - curve.iloc[:, 0])
                found.append(({**names, "selector": other}, cells, budget))
    measured = ["accuracy", "reference_labels", "labels", "low", "high", "saved", "n_seeds", "flat"]
    if not found:
        return pd.DataFrame(columns=[*CONFIGURATION, "selector", *measured])
    tests = mean_interval(
        pd.concat(rises, keys=range(len(rises)), names=["pair"]).rename("rise").reset_index(), ["pair"], "rise"
    )
    flat = (tests["mean"] <= TIE) | (tests["p"] >= ALPHA)
    out = [
        {**names, **_needed(cells, budget, reference, names["selector"], flat=is_flat)}
        for (names, cells, budget), is_flat in zip(found, flat.tolist(), strict=True)
    ]
    return pd.DataFrame(out, columns=[*CONFIGURATION, "selector", *measured])


def _needed(
    cells: pd.DataFrame, budget: pd.Series, reference: str, name: str, *, flat: bool
) -> dict[str, float | bool]:
    """The answer for one selector; cells with one row per seed and one column per selector and round."""
    height, values = pd.DataFrame(cells[reference]).iloc[:, -1].to_numpy(), cells[name].to_numpy()
    wanted, last = float(height.mean()), float(budget[reference].iloc[-1])
    labels, low, high = np.nan, np.nan, np.nan
    if not flat:
        at = budget[name].to_numpy(dtype=float)
        labels = float(first_reached(at, values.mean(axis=0)[None], np.array([wanted]))[0])
        if len(values) >= BOOTSTRAP_LEAST:
            seeds = cells.index.tolist()
            weights = drawn_weights(seed_draws(DRAWS, seeds), seeds, widened=True)
            reached = first_reached(at, weights @ values, weights @ height)
            low, high = (float(limit) for limit in percentiles(np.nan_to_num(reached, nan=np.inf)))
    return {
        "accuracy": wanted,
        "reference_labels": last,
        "labels": labels,
        "low": low,
        "high": high,
        "saved": last - labels,
        "n_seeds": len(cells),
        "flat": flat,
    }


def first_reached(
    labels: Float[np.ndarray, " rounds"],
    accuracy: Float[np.ndarray, "curves rounds"],
    wanted: Float[np.ndarray, " curves"],
) -> Float[np.ndarray, " curves"]:
    """Where piecewise linear curves first reach a height; their first point if they start there, NaN if never."""
    reached: Bool[np.ndarray, "curves rounds"] = accuracy >= wanted[:, None]
    k = reached.argmax(axis=1)
    curve = np.arange(len(accuracy))
    before = np.maximum(k - 1, 0)
    height, step = accuracy[curve, before], accuracy[curve, k] - accuracy[curve, before]
    share = np.where(k == 0, 0.0, (wanted - height) / np.where(k == 0, 1.0, step))
    found = labels[before] + share * (labels[k] - labels[before])
    return np.where(reached.any(axis=1), found, np.nan)
