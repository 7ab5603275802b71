"""The cost of every strategy: each is measured, against greedy k-center, unless it states what it costs."""

import numpy as np
import pytest

from activekd.selectors import SELECTORS, Selector
from bench.speed import strategies
from bench.speed.strategies import BASELINE, MOST_TIMES, made_pool, stated_cost, strategy_bars


def slow(view: object, query_size: int, *, rng: np.random.Generator) -> None:
    """A strategy. Cost: a product of the pool with
    itself. It is exact.
    """


def test_a_docstring_may_state_the_cost() -> None:
    assert stated_cost(Selector("slow", slow, frozenset())) == "a product of the pool with itself"
    assert stated_cost(Selector("none", lambda: None, frozenset())) == ""


def test_teacher_and_student_of_a_made_up_pool_differ() -> None:
    view = made_pool(300, 7, 5, 14, "cpu")
    assert view.student_probabilities.shape == view.teacher_probabilities.shape == (300, 7)
    assert not view.student_probabilities.equal(view.teacher_probabilities)
    assert view.features.untyped_storage().data_ptr() == view.teacher_features.untyped_storage().data_ptr()
    assert np.bincount(view.labels + 1).tolist() == [286] + 7 * [2]


def test_every_strategy_has_a_bar_of_seconds_and_one_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "CLASSES", 20)
    monkeypatch.setattr(strategies, "DIM", 8)
    bars = list(strategy_bars(400, 20, "cpu"))
    named = [bar.what.split()[0] for bar in bars]
    ranked = [name for name, chosen in SELECTORS.items() if not chosen.is_oracle]
    assert named[0] == BASELINE
    assert sorted(named) == sorted(2 * ranked)
    assert bars[0].value == 1.0
    limits = {bar.limit for bar in bars if "seconds" in bar.what}
    assert limits <= {MOST_TIMES, float("inf")}
