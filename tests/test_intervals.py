"""Intervals against scipy, a case by hand, and simulations with a known truth."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from bench.stats.intervals import BOOTSTRAP_LEAST, bootstrap_interval, mean_interval, t_interval

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


@pytest.mark.parametrize("n", [5, 10, pytest.param(20, marks=pytest.mark.slow)])
def test_bootstrap_intervals_cover_the_truth(n: int) -> None:
    rng = np.random.default_rng(n)
    limits = np.array([bootstrap_interval(rng.normal(0.3, 2.0, size=n)) for _ in range(SIMULATIONS)])
    assert np.mean((limits[:, 0] <= 0.3) & (limits[:, 1] >= 0.3)) == pytest.approx(0.95, abs=0.02)
