"""Several runs compared: the cells that all of them have."""

from collections.abc import Mapping

import pandas as pd

from bench.columns import SETTING

CELL = (*SETTING, "selector")


def common_cells(seeds: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Mean accuracies of the (setting, selector)s that every run has, over the seeds that every run has there.

    Args:
        seeds: ``rows.seed_means`` by name of the run.

    Returns:
        Columns of SETTING, selector, n_seeds, and one per run with its accuracy.
    """
    keys = [*CELL, "seed"]
    accuracies = [frame.set_index(keys)["accuracy"].rename(name) for name, frame in seeds.items()]
    cells = pd.concat(accuracies, axis=1, join="inner").groupby(list(CELL))
    return cells.size().rename("n_seeds").to_frame().join(cells.mean()).reset_index()


def run_differences(common: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Differences in accuracy of each other run from a reference run over the common cells.

    Args:
        common: ``common_cells``.
        reference: name of a run.

    Returns:
        Columns run, mean, min, max, n_cells, n_seeds (the least of any cell).
    """
    others = [name for name in common.columns if name not in {*CELL, "n_seeds", reference}]
    differences = common[others].sub(common[reference], axis=0)
    table = differences.agg(["mean", "min", "max"]).T.rename_axis("run").reset_index()
    return table.assign(n_cells=len(common), n_seeds=common["n_seeds"].min())
