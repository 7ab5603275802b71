"""The contract over the whole registry, on random pools too, and selectors that break it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activekd.selectors import SELECTORS, Selector, check, selector
from activekd.selectors.contract import LARGE, declared, made_up_view
from activekd.selectors.query import select
from activekd.selectors.uncertainty import Scratch, by_score
from activekd.selectors.view import PoolView
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


def hoarded(view: PoolView, k: int, *, rng: np.random.Generator) -> np.ndarray:
    """The first rows, by way of 640 MB where the pool is the large one of the contract."""
    if view.pool.n == LARGE:
        np.ones((LARGE, 4000))
    return view.pool.unlabeled[:k]


def every_gradient(view: PoolView, k: int, *, rng: np.random.Generator) -> np.ndarray:
    """The rows of the longest gradients, by way of one number for each row, class and feature."""
    gradients = torch.einsum("nc,nd->ncd", view.student_probabilities, view.features)
    lengths = gradients.flatten(1).norm(dim=1).numpy()
    return view.pool.unlabeled[np.argsort(-lengths[view.pool.unlabeled], kind="stable")[:k]]


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (broken(lambda view, k, *, rng: view.pool.unlabeled[: k - 1]), r"returned an array of shape \(0,\)"),
        (broken(lambda view, k, *, rng: view.pool.unlabeled[[0] * k]), "rows more than once"),
        (broken(lambda view, k, *, rng: np.array(view.pool.labeled[:k])), "labeled rows|array of shape"),
        (broken(lambda view, k, *, rng: np.arange(view.pool.n, view.pool.n + k)), "rows outside the pool"),
        (
            broken(lambda view, k, *, rng: view.pool.unlabeled[:k] / 1.0),
            "returned float64; expected: 1 distinct unlabeled rows as integers",
        ),
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
        (
            broken(hoarded),
            r"memory is bounded: \d+ MB for a pool of 0 MB; expected: 256 MB",
        ),
        (
            broken(every_gradient, "student_probabilities", "features"),
            r"memory is bounded: \d+ MB for a pool of 13 MB; expected: 331 MB",
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


def below_zero(row: int) -> torch.Tensor:
    out = torch.full((90, 5), 0.2)
    out[row] = torch.tensor([-0.2, 1.2, 0.0, 0.0, 0.0])
    return out


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (with_array("student_probabilities", torch.full((90, 5), 0.3)), r"do not sum to 1 in 90 rows: \[0, 1, 2"),
        (with_array("student_probabilities", below_zero(4)), r"student_probabilities are below 0 in 1 rows: \[4\]"),
        (with_array("features", torch.full((90, 6), torch.inf)), "features are not finite in 90 rows"),
        (with_array("features", torch.zeros(90, 0)), r"shape \(90, 0\); expected: \(90, any\)"),
        (
            with_array("features", torch.zeros(90, 6, dtype=torch.int64)),
            "features are torch.int64; expected: a tensor of",
        ),
        (with_array("student_probabilities", torch.full((90, 4), 0.25)), r"shape \(90, 4\); expected: \(90, 5\)"),
        (with_array("features", torch.zeros(89, 6)), r"shape \(89, 6\); expected: \(90, any\)"),
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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_named(value: float) -> None:
    def score(view: PoolView, rows: slice, scratch: Scratch) -> torch.Tensor:
        numbers = torch.arange(view.pool.n)[rows]
        return torch.where((numbers == 7) | (numbers == 70), value, 0.0)

    strategy = broken(by_score(score))
    with pytest.raises(ValueError, match=r"selector 'broken': scores are not finite in 2 rows: \[7, 70\]"):
        select(strategy, made_up_view(), 3, rng=stream(0, "test"))


def test_other_errors_of_a_selector_name_it() -> None:
    def query(view: PoolView, k: int, *, rng: np.random.Generator) -> np.ndarray:
        raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas") as caught:
        select(broken(query), made_up_view(), 3, rng=stream(0, "test"))
    assert caught.value.__notes__ == ["selector 'broken'"]


def test_products_are_in_whole_float32() -> None:
    seen = []

    def query(view: PoolView, k: int, *, rng: np.random.Generator) -> np.ndarray:
        seen.append((torch.get_float32_matmul_precision(), torch.is_autocast_enabled("cpu")))
        return view.pool.unlabeled[:k]

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu"):
            select(broken(query), made_up_view(), 3, rng=stream(0, "test"))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == [("highest", False)]
