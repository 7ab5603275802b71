"""Labels saved: the labels that a reference needs to reach the accuracy of a selector."""

import numpy as np
import pandas as pd

from bench.columns import CONFIGURATION, SETTING

REFERENCE = "random"


def labels_saved(curves: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """Labels at which the reference first reaches the accuracy of each selector in each round.

    The reference's mean curve is linearly interpolated between rounds. Where it never reaches the accuracy, its last
    budget is a lower bound.

    Args:
        curves: ``ranking.curves``.
        reference: a selector.

    Returns:
        Columns of SETTING, selector, n_labeled, accuracy, reference_labels, saved (reference_labels - n_labeled),
        lower_bound (the reference never reaches the accuracy); without configurations that lack the reference.
    """
    out = []
    for _, part in curves.groupby(list(CONFIGURATION)):
        line = part[part["selector"] == reference].sort_values("round")
        others = part[(part["selector"] != reference) & (part["round"] >= 1)]
        if line.empty or others.empty:
            continue
        labels, accuracy = line["n_labeled"].to_numpy(dtype=float), line["accuracy"].to_numpy(dtype=float)
        needed = np.array([first_reached(labels, accuracy, float(a)) for a in others["accuracy"]])
        lower_bound = np.isnan(needed)
        needed = np.where(lower_bound, labels[-1], needed)
        out.append(others.assign(reference_labels=needed, saved=needed - others["n_labeled"], lower_bound=lower_bound))
    columns = [*SETTING, "selector", "n_labeled", "accuracy", "reference_labels", "saved", "lower_bound"]
    return pd.concat(out, ignore_index=True)[columns] if out else pd.DataFrame(columns=columns)


def first_reached(labels: np.ndarray, accuracy: np.ndarray, wanted: float) -> float:
    """Where a piecewise linear curve first reaches a height; its first point if it starts there, NaN if never."""
    at = np.flatnonzero(accuracy >= wanted)
    if not len(at):
        return np.nan
    k = int(at[0])
    if k == 0:
        return float(labels[0])
    share = (wanted - accuracy[k - 1]) / (accuracy[k] - accuracy[k - 1])
    return float(labels[k - 1] + share * (labels[k] - labels[k - 1]))
