"""The contract over the whole registry, on random pools too, and selectors that break it."""

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activekd.errors import InputError
from activekd.pool import PoolView
from activekd.selectors import SELECTORS, Selector, select, selector
from activekd.selectors.contract import check, declared, made_up_view
from activekd.streams import stream

COMPOSED = ["top:margin:20|pcoreset", "parts:3|badge", "parts:2|top:disagreement:30|coreset"]


@pytest.mark.parametrize("name", [*SELECTORS, *COMPOSED])
def test_every_selector_keeps_the_contract(name: str) -> None:
    check(selector(name))


@pytest.mark.parametrize("name", [*SELECTORS, *COMPOSED])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    n=st.integers(12, 60),
    classes=st.integers(2, 6),
    labeled=st.integers(2, 8),
    share=st.floats(0.01, 1.0),
)
def test_random_pools(name: str, seed: int, n: int, classes: int, labeled: int, share: float) -> None:
    strategy = selector(name)
    view = declared(made_up_view(seed, n, classes, 3, labeled), strategy)
    k = max(1, int(share * (n - labeled)))
    rows = select(strategy, view, k, rng=stream(seed, "test"))
    assert len(set(rows.tolist())) == k
    assert not set(rows.tolist()) & set(view.pool.labeled)


def broken(query: object, *needs: str) -> Selector:
    return Selector("broken", query, frozenset(needs))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (broken(lambda view, k, *, rng: view.pool.unlabeled[: k - 1]), r"got an array of shape \(0,\)"),
        (broken(lambda view, k, *, rng: view.pool.unlabeled[[0] * k]), "rows more than once"),
        (broken(lambda view, k, *, rng: np.array(view.pool.labeled[:k])), "labeled rows|array of shape"),
        (broken(lambda view, k, *, rng: np.arange(view.pool.n, view.pool.n + k)), "rows outside of the pool"),
        (broken(lambda view, k, *, rng: view.pool.unlabeled[:k] / 1.0), "as integers, got float64"),
        (broken(lambda view, k, *, rng: view.features[:k]), "reads 'features' without declaring it"),
        (
            broken(lambda view, k, *, rng: np.random.default_rng().choice(view.pool.unlabeled, k, replace=False)),
            "the same rows from the same stream",
        ),
        (broken(lambda view, k, *, rng: view.pool.unlabeled[:k]), "the order of the rows does not matter"),
        (
            broken(lambda view, k, *, rng: (view.features.zero_(), view.pool.unlabeled[:k])[1], "features"),
            "the view is not changed: it changed features",
        ),
    ],
)
def test_breaches_are_named(strategy: Selector, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(strategy)


def with_array(name: str, array: torch.Tensor) -> PoolView:
    view = made_up_view()
    return PoolView(view.pool, view.labels, view.n_classes, {**view.arrays, name: array})


def nan_in(array: torch.Tensor, row: int) -> torch.Tensor:
    out = array.clone()
    out[row, 0] = float("nan")
    return out


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (with_array("student_probabilities", torch.full((90, 5), 0.3)), r"do not sum to 1 in 90 rows: \[0, 1, 2"),
        (with_array("student_probabilities", torch.full((90, 4), 0.25)), r"shape \(90, 4\); allowed: \(90, 5\)"),
        (with_array("features", torch.zeros(89, 6)), r"shape \(89, 6\); allowed: \(90, any\)"),
        (with_array("features", nan_in(torch.zeros(90, 6), 7)), r"features are not finite in 1 rows: \[7\]"),
        (
            with_array("teacher_probabilities", nan_in(torch.full((90, 5), 0.2), 3)),
            r"teacher_probabilities are not finite in 1 rows: \[3\]",
        ),
    ],
)
def test_arrays_that_no_selector_can_use(view: PoolView, message: str) -> None:
    with pytest.raises(ValueError, match=f"selector 'random': .*{message}"):
        select(selector("random"), view, 3, rng=stream(0, "test"))


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    text = """
        from activekd.selectors import Selector

        def first(view, query_size, *, rng):
            return view.pool.unlabeled[:query_size]

        mine = Selector("whatever", first, frozenset())
        strange = Selector("strange", first, frozenset())
        object.__setattr__(strange, "needs", frozenset({"pixels"}))
    """
    (tmp_path / "own_selectors.py").write_text(textwrap.dedent(text), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_selectors", raising=False)
    selector.cache_clear()
    return "own_selectors"


def test_a_selector_of_ones_own_goes_by_its_place(own_module: str) -> None:
    own = selector(f"{own_module}:mine")
    assert own.name == "own_selectors:mine"
    assert select(own, declared(made_up_view(), own), 2, rng=stream(0, "test")).shape == (2,)
    assert selector(f"parts:2|{own_module}:mine").needs == frozenset()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_selectors:yours", "has no attribute 'yours'; allowed: MODULE:OBJECT"),
        ("own_selectors:first", "is function; allowed: an activekd.selectors.Selector"),
        ("own_selectors:strange", "needs pixels; allowed: student_probabilities"),
        ("no_such_module:mine", "No module named 'no_such_module'"),
        ("top:entropi:5|pcoreset", "unknown score in 'top:entropi:5' 'entropi'; did you mean 'entropy'"),
        ("top:entropy:0|pcoreset", "number '0'; allowed: a whole number, at least 1"),
        ("tip:entropy|pcoreset", "allowed: top:SCORE:M or parts:K"),
        ("parts:2|pcorset", "unknown selector 'pcorset'; did you mean 'pcoreset'"),
    ],
)
def test_names_that_are_refused(name: str, message: str, own_module: str) -> None:
    with pytest.raises(InputError, match=message):
        selector(name)
