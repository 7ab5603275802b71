"""Intervals against scipy, a case by hand, and simulations with a known truth."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference
from statsmodels.stats.multitest import multipletests

from bench.stats.intervals import (
    BOOTSTRAP_LEAST,
    bootstrap_interval,
    drawn_weights,
    holm,
    mean_interval,
    seed_draws,
    share_interval,
    t_interval,
)

SIMULATIONS = 1_000


def test_t_interval_is_that_of_scipy() -> None:
    values = np.array([0.1, 0.4, 0.2, 0.6])
    expected = reference.t.interval(0.95, 3, loc=values.mean(), scale=reference.sem(values))
    assert t_interval(values) == pytest.approx((0.325, *expected))
    framed = mean_interval(pd.DataFrame({"key": "k", "value": values}), ["key"], "value").iloc[0]
    assert (framed["mean"], framed["low"], framed["high"], framed["n_seeds"]) == pytest.approx((0.325, *expected, 4))


def test_one_value_has_no_interval() -> None:
    assert t_interval(np.array([0.5]))[0] == 0.5
    assert np.isnan(t_interval(np.array([0.5]))[1:]).all()
    assert np.isnan(t_interval(np.array([]))).all()
    assert np.isnan(bootstrap_interval(np.zeros(BOOTSTRAP_LEAST - 1))).all()


def test_holm_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(0)
    tests = pd.DataFrame({"family": np.repeat([0, 1, 2], 6), "p": rng.uniform(0, 0.2, size=18)})
    tests.loc[3, "p"] = np.nan
    found = holm(tests, ["family"])
    for _, part in tests.dropna().groupby("family"):
        expected = multipletests(part["p"], method="holm")[1]
        assert found[part.index].to_numpy() == pytest.approx(expected)
    assert np.isnan(found[3])
    assert holm(tests.iloc[:3], []).to_numpy() == pytest.approx(multipletests(tests["p"][:3], method="holm")[1])
    assert holm(tests.iloc[:0], ["family"]).empty


def test_p_values_are_those_of_scipy_and_need_three_seeds() -> None:
    values = pd.DataFrame({"key": [0] * 4 + [1] * 2 + [2] * 3, "value": [0.1, 0.4, 0.2, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1]})
    p = mean_interval(values, ["key"], "value")["p"].tolist()
    assert p[0] == pytest.approx(reference.ttest_1samp([0.1, 0.4, 0.2, 0.6], 0.0)[1])
    assert np.isnan(p[1])
    assert p[2] == 0.25, "equal values: two of the 2^3 changes of signs"


def test_weights_of_a_seed_are_shared_by_cells_and_sum_to_one() -> None:
    draws = seed_draws(2_000, range(7))
    five, seven = drawn_weights(draws, range(5)), drawn_weights(draws, range(7))
    assert five.sum(axis=1) == pytest.approx(1.0)
    assert np.corrcoef(five[:, 0], seven[:, 0])[0, 1] > 0.8
    # The drawn means of n values spread by the standard error times the ratio of the quantiles of t and the normal.
    values = np.array([0.1, 0.4, 0.2, 0.6, 0.3])
    ratio = reference.t.ppf(0.975, 4) / reference.norm.ppf(0.975)
    error = values.std(ddof=1) / np.sqrt(5)
    assert (five @ values).std() == pytest.approx(error, rel=0.05)
    widened = drawn_weights(draws, range(5), widened=True)
    assert (widened @ values).std() == pytest.approx(ratio * error, rel=0.05)


@pytest.mark.parametrize("correlated", [True, False])
@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_intervals_of_expected_shares_cover_the_truth(correlated: bool, effect: float) -> None:
    """Thirty settings of five seeds, alike or independent; a lead of so many standard errors in each."""
    n, settings = 5, 1 if correlated else 30
    draws = seed_draws(1_000, range(n))
    weights, multipliers = drawn_weights(draws, range(n)), np.stack(list(draws.values()), axis=1)
    rng, truth, inside = np.random.default_rng(n), float(reference.norm.cdf(effect)), 0
    for _ in range(300):
        leads = rng.normal(effect / np.sqrt(n), 1.0, size=(n, settings))
        low, high = share_interval(np.mean(weights @ leads >= 0, axis=1), multipliers, 0.5, n - 1)
        inside += np.isnan(low) or low <= truth <= high
    assert inside / 300 >= 0.92


def test_a_share_that_no_draw_changes_has_no_interval() -> None:
    assert np.isnan(share_interval(np.ones(10), np.ones((10, 5)), 0.5, 4)).all()


def test_bootstrap_is_that_of_all_draws() -> None:
    """Of five values there are 3,125 draws: the limits by all of them, and by the seeded sample of draws."""
    values = np.array([0.1, 0.4, 0.2, 0.6, 0.3])
    draws = values[np.array(list(itertools.product(range(5), repeat=5)))]
    errors = draws.std(axis=1, ddof=1) / np.sqrt(5)
    with np.errstate(divide="ignore"):
        distances = np.where(
            errors > 1e-15, (draws.mean(axis=1) - 0.32) / errors, np.copysign(np.inf, draws[:, 0] - 0.32)
        )
    error = values.std(ddof=1) / np.sqrt(5)
    low, high = np.quantile(distances, [0.025, 0.975], method="nearest")
    assert bootstrap_interval(values) == pytest.approx((0.32 - high * error, 0.32 - low * error), abs=0.03)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(np.full(5, 0.3)) == pytest.approx((0.3, 0.3))


@pytest.mark.parametrize("n", [3, 5, 20])
def test_t_intervals_cover_the_truth(n: int) -> None:
    rng = np.random.default_rng(n)
    limits = np.array([t_interval(rng.normal(0.3, 2.0, size=n))[1:] for _ in range(SIMULATIONS)])
    assert np.mean((limits[:, 0] <= 0.3) & (limits[:, 1] >= 0.3)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("n", [5, 10, pytest.param(20, marks=pytest.mark.soak)])
def test_bootstrap_intervals_cover_the_truth(n: int) -> None:
    rng = np.random.default_rng(n)
    limits = np.array([bootstrap_interval(rng.normal(0.3, 2.0, size=n)) for _ in range(SIMULATIONS)])
    assert np.mean((limits[:, 0] <= 0.3) & (limits[:, 1] >= 0.3)) == pytest.approx(0.95, abs=0.02)
