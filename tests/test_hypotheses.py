"""Significance tests: Demsar's published example, scipy and scikit-posthocs called directly, and simulated levels."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scikit_posthocs
from statsmodels.stats.power import TTestPower
from test_stats import make_rows

from bench import stats
from bench.stats.power import power

C45 = """
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.9751 0.975
0.957 0.978 0.946 0.970
"""
"""Areas under the ROC curve of C4.5 and three variants on 14 data sets: Demsar (2006), table 6.

Where three digits are equal on ``voting`` the article ranks the third before the fourth: hence a fourth digit.
"""

NAMES = ("C4.5", "m", "cf", "m+cf")
N_SIMULATIONS = 400


def block_rows(values: np.ndarray, names: tuple[str, ...] = NAMES) -> pd.DataFrame:
    """Rows whose accuracy in round 1 is the table's, a data set a line; round 0 is equal for all."""
    n, k = values.shape
    return pd.concat([make_rows().iloc[:1]] * (2 * n * k), ignore_index=True).assign(
        trial_id=[f"{d}/{name}" for d in range(n) for name in names for _ in range(2)],
        dataset=[f"d{d}" for d in range(n) for _ in range(2 * k)],
        group="g",
        selector=[name for _ in range(n) for name in names for _ in range(2)],
        round=[0, 1] * (n * k),
        n_labeled=[10, 20] * (n * k),
        accuracy=np.stack([np.full(n * k, 0.5), values.ravel()], axis=1).ravel(),
    )


def areas(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.seed_areas(stats.run_areas(rows))


def wilcoxon(rows: pd.DataFrame, control: str) -> pd.DataFrame:
    return stats.wilcoxon_holm(stats.blocks(rows), stats.run_areas(rows), control)


def needed(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.seeds_needed(areas(rows), stats.seed_means(rows))


@pytest.fixture(scope="module")
def demsar() -> pd.DataFrame:
    return block_rows(np.array([[float(word) for word in line.split()] for line in C45.split("\n") if line]))


def test_friedman_and_critical_difference_of_demsar(demsar: pd.DataFrame) -> None:
    ranks = stats.mean_ranks(stats.blocks(demsar)).set_index("selector")["mean_rank"]
    assert ranks.round(3).to_dict() == {"C4.5": 3.143, "m": 2.0, "cf": 2.893, "m+cf": 1.964}
    (found,) = stats.friedman(stats.blocks(demsar)).to_dict("records")
    # The article's chi-squared is that without the correction for ties: 9.28, F 3.69.
    n, k = 14, 4
    plain = 12 * n / (k * (k + 1)) * (float((ranks**2).sum()) - k * (k + 1) ** 2 / 4)
    assert plain == pytest.approx(9.28, abs=0.005)
    assert (n - 1) * plain / (n * (k - 1) - plain) == pytest.approx(3.69, abs=0.005)
    ties = 3 * (2**3 - 2) + (4**3 - 4)
    assert found["statistic"] == pytest.approx(plain / (1 - ties / (n * (k**3 - k))))
    assert found["critical_difference"] == pytest.approx(1.25, abs=0.005)
    assert (found["n_blocks"], found["n_datasets"], found["n_selectors"]) == (14, 14, 4)
    assert found["f_p"] < 0.05


def test_nemenyi_of_demsar(demsar: pd.DataFrame) -> None:
    """No pair differs by 1.25 or significantly; p values are those of scikit-posthocs."""
    found = stats.nemenyi(stats.blocks(demsar))
    assert (found["difference"].abs() < 1.25).all()
    assert not found["significant"].any()
    wide = demsar[demsar["round"] == 1].pivot_table(index="dataset", columns="selector", values="accuracy")
    direct = scikit_posthocs.posthoc_nemenyi_friedman(wide.to_numpy())
    at = {name: i for i, name in enumerate(wide.columns)}
    for row in found.to_dict("records"):
        assert row["p"] == pytest.approx(direct.iloc[at[row["selector"]], at[row["against"]]])


def test_wilcoxon_of_demsar(demsar: pd.DataFrame) -> None:
    """C4.5 against C4.5+m: the smaller sum of ranks is 12 (Demsar 2006, section 3.1.3)."""
    found = wilcoxon(demsar, "C4.5").query("measure == 'round 1'").set_index("selector")
    assert found.loc["m", "statistic"] == 12
    assert found.loc["m", "n_blocks"] == 14
    p = found["p"].sort_values()
    assert found.loc[p.index, "p_holm"].tolist() == pytest.approx(
        np.maximum.accumulate(np.minimum(1.0, p.to_numpy() * [3, 2, 1])).tolist()
    )
    assert (found["significant"] == (found["p_holm"] < 0.05)).all()


def test_critical_differences_of_the_published_quantiles() -> None:
    """Quantiles of Demsar (2006), table 5(a), for 2 to 10 classifiers at 5%."""
    for k, q in zip(range(2, 11), (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164), strict=True):
        assert stats.critical_difference(k, 20) == pytest.approx(q * np.sqrt(k * (k + 1) / 120), abs=0.0005)


def test_selectors_that_are_not_everywhere_are_left_out_by_name(demsar: pd.DataFrame) -> None:
    rows = demsar[~((demsar["selector"] == "cf") & (demsar["dataset"] == "d3"))]
    (found,) = stats.friedman(stats.blocks(rows)).to_dict("records")
    assert (found["left_out"], found["n_selectors"]) == ("cf", 3)
    assert "cf" not in set(stats.nemenyi(stats.blocks(rows))["selector"])
    assert stats.friedman(stats.blocks(rows[rows["selector"].isin(["m", "C4.5"])])).empty
    assert wilcoxon(rows, "nobody").empty


def test_equal_selectors_are_not_significantly_different() -> None:
    rows = block_rows(np.full((6, 3), 0.5), ("a", "b", "c"))
    (found,) = stats.friedman(stats.blocks(rows)).to_dict("records")
    assert (found["statistic"], found["p"]) == (0.0, 1.0)
    assert set(wilcoxon(rows, "a")["p"]) == {1.0}


@pytest.mark.soak
def test_tests_hold_their_level() -> None:
    """Three selectors of one distribution on 12 data sets: about one simulation in twenty is significant at 5%."""
    rng = np.random.default_rng(0)
    friedmans, holms, like = [], [], block_rows(np.zeros((12, 3)), ("a", "b", "c"))
    for _ in range(N_SIMULATIONS):
        ends = rng.uniform(0.4, 0.9, size=36)
        rows = like.assign(accuracy=np.stack([np.full(36, 0.5), ends], axis=1).ravel())
        friedmans.append(stats.friedman(stats.blocks(rows))["f_p"].iloc[0] < 0.05)
        holms.append(wilcoxon(rows, "a").query("measure == 'area'")["significant"].any())
    spread = 1.96 * np.sqrt(0.05 * 0.95 / len(friedmans))
    assert np.mean(friedmans) <= 0.05 + spread
    assert np.mean(holms) <= 0.05 + spread
    assert np.mean(friedmans) > 0


def test_probability_of_improvement_by_hand() -> None:
    # Areas are mean heights over labels 10, 20, 30. Seed 0: a (.3 + .5) / 4 + (.5 + .8) / 4 = .525, b .65, c .425;
    # seed 1: a .575, b .55, c .475. Of four pairs of seeds b is ahead of a in three: .65 > .525, .65 > .575 and
    # .55 > .525.
    found: Any = stats.improvement(areas(make_rows())).set_index(["selector", "against"])
    assert found.loc[("b", "a"), "probability"] == 0.75
    assert found.loc[("a", "b"), "probability"] == 0.25
    assert found.loc[("a", "c"), "probability"] == 1.0
    assert found[["low", "high"]].isna().all().all(), "no interval below five seeds"
    assert set(found["n_seeds"]) == {2}


def test_seeds_that_a_difference_needs() -> None:
    found: Any = needed(make_rows()).set_index("measure")
    # Differences of areas in seeds 0 and 1: b-a .125 and -.025, c-a -.1 and -.1, c-b -.225 and -.075.
    spread = np.sqrt((0.15**2 + 0.15**2) / 2 / 3)
    assert found.loc["area", "spread"] == pytest.approx(spread)
    n = int(found.loc["area", "seeds_for_0.02"])
    assert power(0.02 / spread, n) >= 0.8 > power(0.02 / spread, n - 1)
    # statsmodels answers where the chance of a finding in the other direction is not too small.
    assert power(0.02 / spread, n) == pytest.approx(TTestPower().power(0.02 / spread, n, 0.05), abs=1e-6)
    assert needed(make_rows().query("seed == 0"))["seeds_for_0.02"].isna().all()


def test_seeds_and_data_sets_are_kept_apart() -> None:
    rng = np.random.default_rng(2)
    rows = block_rows(rng.uniform(0.4, 0.9, size=(6, 2)), ("a", "b"))
    rows = pd.concat([rows.assign(seed=s, accuracy=rows["accuracy"] + 0.01 * s) for s in (0, 1)], ignore_index=True)
    found: Any = stats.paired_areas(stats.run_areas(rows), "a").set_index("over")
    assert found["n"].to_dict() == {"seeds": 2, "data sets": 6}
    assert found.loc["seeds", "difference"] == pytest.approx(found.loc["data sets", "difference"])
    assert found.loc["seeds", "low"] == pytest.approx(found.loc["seeds", "high"])
    assert found.loc["data sets", "low"] < found.loc["data sets", "high"]
    assert np.isnan(found.loc["seeds", "bootstrap_low"])
    assert found.loc["data sets", "bootstrap_low"] < found.loc["data sets", "bootstrap_high"]
