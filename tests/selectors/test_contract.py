"""The contract over the whole registry, on random pools too, and selectors that break it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activekd.errors import InputError
from activekd.selectors import SELECTORS, Selector, check, query_faults, selector
from activekd.selectors.compose import wrapped
from activekd.selectors.contract import LARGE, declared, made_up_view
from activekd.selectors.query import select
from activekd.selectors.uncertainty import Scratch, by_score, largest
from activekd.selectors.view import PoolView
from activekd.streams import stream

COMPOSED = [
    "top:margin:200|pcoreset",
    "parts:3|badge",
    "parts:2|top:disagreement:300|coreset",
    "switch:2|typiclust|top:margin:200|pcoreset",
    "refine:2:margin+badge|parts:2|coreset",
]


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_not_ranked(value: float) -> None:
    with pytest.raises(InputError, match=r"scores are not finite in 1 rows: \[3\]; expected: finite numbers"):
        largest(torch.tensor([0.0, 1.0, 2.0, value]), np.arange(4), 1)


@pytest.mark.parametrize("name", ["badge", "badge_released", "coreset_euclidean"])
def test_features_that_float32_cannot_square_are_named(name: str) -> None:
    view = with_array("features", torch.where(torch.arange(90)[:, None] == 7, 1e25, torch.ones(90, 6)))
    with pytest.raises(InputError, match=rf"selector '{name}': squared norms .*are not finite in \d+ rows: \["):
        select(selector(name), view, 3, rng=stream(0, "test"))


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
@pytest.mark.parametrize("name", ["coreset", "typiclust", "maxherding", "uherding", "probcover", "dcom", "cbs"])
def test_strategies_on_directions_do_not_depend_on_the_scale(name: str, scale: float) -> None:
    view = with_array("features", torch.randn(90, 6, generator=torch.Generator().manual_seed(5)))
    scaled = replace(view, arrays={**view.arrays, "features": view.features * scale})
    picks = [select(selector(name), v, 8, rng=stream(0, "test")).tolist() for v in (view, scaled)]
    assert picks[0] == picks[1]


ANSWERS = [
    (lambda rows: rows[[0, 0, 1]], r"1 rows more than once: \["),
    (lambda rows: rows[:3].astype(float), "returned float64"),
    (lambda rows: torch.from_numpy(rows[:3]).float(), "returned float32"),
    (lambda rows: torch.ones(3, requires_grad=True), "returned Tensor, not an array"),
    (lambda rows: np.ones(3, dtype=bool), "returned bool"),
    (lambda rows: rows[:2], r"an array of shape \(2,\)"),
    (lambda rows: rows[:3][None], r"an array of shape \(1, 3\)"),
    (lambda rows: -1 - rows[:3], r"3 rows outside the pool: \[-"),
    (lambda rows: np.array([2**63, 1, 2], dtype=np.uint64), "rows outside the pool"),
    (lambda rows: None, "returned NoneType"),
    (lambda rows: set(rows[:3].tolist()), "returned set"),
    (lambda rows: [[1], [2, 3]], "returned list, not an array"),
    (lambda rows: ["1", "2", "3"], "returned <U1"),
    (lambda rows: [rows[0], None, rows[1]], "returned list"),
]


@pytest.mark.parametrize("wrapped_in", ["", "parts:1|"])
@pytest.mark.parametrize(("answer", "message"), ANSWERS)
def test_answers_that_are_no_rows(answer: Callable[[np.ndarray], object], message: str, wrapped_in: str) -> None:
    strategy = broken(lambda view, k, *, rng: answer(view.pool.unlabeled))
    if wrapped_in:
        strategy = wrapped("wrapper", "parts:1", strategy)
    with pytest.raises(InputError, match=f"selector 'broken' .*{message}.*; expected: 3 distinct unlabeled rows"):
        select(strategy, made_up_view(), 3, rng=stream(0, "test"))


@pytest.mark.parametrize("name", [*SELECTORS, *COMPOSED])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_a_pool_without_labels(name: str, k: int) -> None:
    view = declared(made_up_view(n=40, labeled=0), selector(name))
    rows = select(selector(name), view, k, rng=stream(0, "test"))
    assert len(set(rows.tolist())) == k


def test_a_score_that_alone_decides_is_refused() -> None:
    message = "'pcoreset' sees 20 images for a query of 20, so 'margin' alone decides; expected: more than 20 images"
    narrow, view = selector("top:margin:20|pcoreset"), made_up_view()
    assert len(select(narrow, declared(view, narrow), 19, rng=stream(0, "test"))) == 19
    with pytest.raises(InputError, match=message):
        select(narrow, declared(view, narrow), 20, rng=stream(0, "test"))
    assert len(select(narrow, declared(view, narrow), 80, rng=stream(0, "test"))) == 80
    assert (
        query_faults(narrow, 19, 80) == query_faults(narrow, 80, 80) == query_faults(selector("pcoreset"), 79, 80) == []
    )
    assert query_faults(selector("parts:2|top:margin:20|pcoreset"), 38, 80) == []
    assert "for a query of 20" in query_faults(selector("parts:2|top:margin:20|pcoreset"), 39, 80)[0]
