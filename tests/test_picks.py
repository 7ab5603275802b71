"""Overlap of queries and means of diagnostics, worked by hand."""

import numpy as np
import pandas as pd
import pytest
from test_stats import make_rows

from bench import stats

PICKED = {
    ("a", 0): [1, 2],
    ("b", 0): [2, 3],
    ("c", 0): [7, 8],
    ("a", 1): [3, 4],
    ("b", 1): [1, 9],
    ("c", 1): [1, 2],
}


def test_overlap_counts_the_labels_queried_so_far() -> None:
    rows = make_rows()
    picks = pd.Series(
        [np.array(PICKED.get(key, []), dtype=np.int64) for key in zip(rows["selector"], rows["round"], strict=True)]
    )
    found = stats.overlap(rows, picks).set_index(["selector", "against", "round"])
    # a has 1 2 then 1 2 3 4; b has 2 3 then 1 2 3 9; c has 7 8 then 1 2 7 8.
    assert found["overlap"].to_dict() == {
        ("a", "b", 0): 0.5,
        ("a", "b", 1): 0.75,
        ("a", "c", 0): 0.0,
        ("a", "c", 1): 0.5,
        ("b", "c", 0): 0.0,
        ("b", "c", 1): 0.5,
    }
    assert set(found["n"]) == {2}
    nothing = pd.Series([np.array([], dtype=np.int64)] * len(rows))
    assert stats.overlap(rows, nothing).empty


def test_diagnostics_are_averaged_within_a_seed_first() -> None:
    rows = pd.concat([make_rows(), make_rows("t+zeroshot")], ignore_index=True)
    rows = rows.assign(ece=np.where(rows["teacher"] == "none", 0.1, 0.3) + 0.02 * rows["seed"], nll=np.nan)
    found = stats.diagnostics(rows, ["ece", "nll", "unknown"])
    assert set(found["measure"]) == {"ece"}
    assert found["mean"].to_numpy() == pytest.approx(np.full(9, 0.21))
    assert set(found["n_seeds"]) == {2}
    partly = stats.diagnostics(rows.assign(ece=rows["ece"].where(rows["teacher"] != "none")), ["ece"])
    assert partly["mean"].to_numpy() == pytest.approx(np.full(9, 0.31))


def test_means_over_rounds_keep_the_order_of_the_measures() -> None:
    rows = make_rows().assign(nll=lambda rows: 1.0 * rows["round"], ece=lambda rows: rows["seed"])
    found = stats.diagnostic_means(stats.diagnostics(rows, ["nll", "ece"]))
    assert found.columns.tolist() == ["measure", "a", "b", "c"]
    assert found.to_numpy().tolist() == [["nll", 1.0, 1.0, 1.0], ["ece", 0.5, 0.5, 0.5]]
    assert stats.diagnostic_means(stats.diagnostics(make_rows(), ["nll"])).empty
