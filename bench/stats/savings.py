"""Labels saved: how many a reference needs for the accuracy that a selector has."""

import numpy as np
import pandas as pd

from bench.stats.ranking import curves
from bench.stats.rows import CONFIGURATION, SETTING

REFERENCE = "random"


def labels_saved(rows: pd.DataFrame, reference: str = REFERENCE) -> pd.DataFrame:
    """The labels at which the reference first has the accuracy that a selector has in a round.

    Between two rounds the reference's mean curve is a straight line. Where it never gets there, its last budget is
    told as a lower bound.

    Returns:
        Columns of SETTING, selector, n_labeled, accuracy, reference_labels, saved (reference_labels - n_labeled),
        beyond (the reference never gets there: both are lower bounds); without configurations that lack the reference.
    """
    out = []
    for _, part in curves(rows).groupby(list(CONFIGURATION)):
        own = part[part["selector"] == reference].sort_values("round")
        others = part[(part["selector"] != reference) & (part["round"] >= 1)]
        if own.empty or others.empty:
            continue
        labels, accuracy = own["n_labeled"].to_numpy(dtype=float), own["accuracy"].to_numpy(dtype=float)
        needed = np.array([first_reached(labels, accuracy, float(a)) for a in others["accuracy"]])
        beyond = np.isnan(needed)
        needed = np.where(beyond, labels[-1], needed)
        out.append(others.assign(reference_labels=needed, saved=needed - others["n_labeled"], beyond=beyond))
    columns = [*SETTING, "selector", "n_labeled", "accuracy", "reference_labels", "saved", "beyond"]
    return pd.concat(out, ignore_index=True)[columns] if out else pd.DataFrame(columns=columns)


def first_reached(labels: np.ndarray, accuracy: np.ndarray, wanted: float) -> float:
    """Where a broken line first reaches a height; its first point if it starts there, NaN if it never does."""
    at = np.flatnonzero(accuracy >= wanted)
    if not len(at):
        return np.nan
    k = int(at[0])
    if k == 0:
        return float(labels[0])
    share = (wanted - accuracy[k - 1]) / (accuracy[k] - accuracy[k - 1])
    return float(labels[k - 1] + share * (labels[k] - labels[k - 1]))
