"""Areas under the budget curve, worked by hand."""

import numpy as np
import pandas as pd
import pytest
from test_claims import ACCURACY, TEACHERS, make_rows

from bench.stats import area_table, compare_with, references_in, run_areas, seconds_per_pick, seed_areas


def rows(n_rounds: int = 3) -> pd.DataFrame:
    return make_rows("g", TEACHERS, ACCURACY, n_rounds).assign(select_seconds=0.5, predict_seconds=0.2, query_size=10)


def areas(table: pd.DataFrame) -> pd.DataFrame:
    return area_table(seed_areas(run_areas(table)), seconds_per_pick(table), "pcoreset")


def test_area_is_the_mean_height_of_the_curve() -> None:
    # Labels 10, 20, 30; accuracies .40, .41, .42: trapezoids of mean heights .405 and .415.
    found = seed_areas(run_areas(rows())).set_index(["teacher", "selector", "seed"])["area"]
    assert found["none", "random", 0] == pytest.approx(0.41)
    assert seed_areas(run_areas(rows(1))).empty


def test_differences_are_paired_by_seed() -> None:
    table = areas(rows())
    first = table[table["teacher"] == "none"].set_index("selector")
    assert first.index.tolist() == ["badge", "entropy", "pcoreset", "random"]
    half = 4.302652729911275 * 0.01 / np.sqrt(3)
    assert first.loc["pcoreset", "against_random"] == pytest.approx(0.11)
    assert first.loc["pcoreset", "against_random_low"] == pytest.approx(0.11 - half)
    assert first.loc["random", "against_pcoreset_high"] == pytest.approx(-0.11 + half)
    assert first["against_random"].isna().to_dict() == {
        "badge": False,
        "entropy": False,
        "pcoreset": False,
        "random": True,
    }
    assert first.loc["badge", "seconds_per_pick"] == pytest.approx(0.05)
    assert first.loc["badge", "n_seeds"] == 3


def test_selectors_compared_with_a_reference() -> None:
    found = compare_with(areas(rows()), "pcoreset")
    assert len(found) == 2
    assert set(found["against"]) == {"pcoreset"}
    assert references_in(areas(rows())) == ["random", "pcoreset"]
    assert [found[group].iloc[0] for group in ("better", "not_different", "worse")] == ["badge", "entropy", "random"]
    without = make_rows("g", TEACHERS, {name: ACCURACY[name] for name in ("random", "badge")}, 3)
    assert compare_with(areas(without.assign(select_seconds=0.5, predict_seconds=0.2, query_size=10)), "pcoreset").empty
