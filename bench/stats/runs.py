"""Several runs compared: the cells that all of them have."""

from collections.abc import Mapping

import pandas as pd

from bench.columns import SETTING

CELL = (*SETTING, "selector")


def common_cells(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean accuracies of the (setting, selector)s that every run has.

    Args:
        curves: ``ranking.curves`` by name of the run.

    Returns:
        Columns of SETTING, selector, and one per run with its accuracy.
    """
    accuracies = [frame.set_index(list(CELL))["accuracy"].rename(name) for name, frame in curves.items()]
    return pd.concat(accuracies, axis=1, join="inner").reset_index()


def run_differences(common: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Differences in accuracy of each other run from a reference run over the common cells.

    Args:
        common: ``common_cells``.
        reference: name of a run.

    Returns:
        Columns run, mean, min, max, n_cells.
    """
    others = [name for name in common.columns if name not in {*CELL, reference}]
    differences = common[others].sub(common[reference], axis=0)
    table = differences.agg(["mean", "min", "max"]).T.rename_axis("run").reset_index()
    return table.assign(n_cells=len(common))
