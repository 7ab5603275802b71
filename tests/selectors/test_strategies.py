"""The contract that every selector keeps, and each strategy against a case worked by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from activekd.errors import InputError
from activekd.pool import Pool
from activekd.selectors import NEEDS, SELECTORS, Need, Selector, herding, selector
from activekd.selectors.badge import GradientEmbeddings
from activekd.selectors.balanced import classbalanced, quotas
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.herding import gaussian
from activekd.selectors.query import FREE_WIDTH, select
from activekd.selectors.view import PoolView

N, CLASSES, DIM = 60, 4, 5


def make_view(needs: frozenset[Need], seed: int = 0, n: int = N) -> PoolView:
    return declared(made_up_view(seed, n, CLASSES, DIM, 2 * CLASSES), Selector("", "", needs))


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("query_size", [1, 7, N - 2 * CLASSES])
def test_contract(name: str, query_size: int) -> None:
    strategy = selector(name)
    view = make_view(strategy.needs)
    before = {k: v.clone() for k, v in view.arrays.items()}
    rows = select(strategy, view, query_size, rng=np.random.default_rng(1))
    again = select(strategy, view, query_size, rng=np.random.default_rng(1))
    assert rows.tolist() == again.tolist()
    assert rows.dtype == np.int64
    assert len(set(rows.tolist())) == query_size
    assert not set(rows.tolist()) & set(view.pool.labeled)
    assert all(torch.equal(before[k], view.arrays[k]) for k in before)


@pytest.mark.parametrize("name", SELECTORS)
def test_each_declared_array_is_read_and_no_other_exists(name: str) -> None:
    strategy = selector(name)
    assert strategy.needs <= set(NEEDS)
    for need in strategy.needs:
        view = make_view(strategy.needs - {need})
        with pytest.raises(LookupError, match=need):
            select(strategy, view, 3, rng=np.random.default_rng(0))


@pytest.mark.parametrize("name", SELECTORS)
def test_equal_rows_and_one_hot_probabilities_are_no_trouble(name: str) -> None:
    strategy = selector(name)
    view = make_view(strategy.needs)
    hot = torch.eye(CLASSES)[torch.arange(N) % CLASSES]
    arrays = {k: torch.ones_like(v) if k in FREE_WIDTH else hot for k, v in view.arrays.items()}
    same = replace(view, arrays=arrays)
    rows = select(strategy, same, 10, rng=np.random.default_rng(0))
    assert len(set(rows.tolist())) == 10


def test_query_larger_than_the_pool_is_refused() -> None:
    view = make_view(frozenset())
    with pytest.raises(InputError, match="query size 53 from 52 unlabeled"):
        select(selector("random"), view, 53, rng=np.random.default_rng(0))


def test_unknown_selector_is_told_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="unknown selector 'pcorset'; did you mean 'pcoreset'"):
        selector("pcorset")


def test_a_selector_that_breaks_the_contract_is_told() -> None:
    view = make_view(frozenset())
    broken = Selector("broken", lambda view, query_size, *, rng: np.array([view.pool.labeled[0]]), frozenset())
    with pytest.raises(
        ValueError, match=r"selector 'broken' returned 1 labeled rows: .*; expected: 1 distinct unlabeled rows"
    ):
        select(broken, view, 1, rng=np.random.default_rng(0))


def test_entropy_by_hand() -> None:
    probabilities = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [1.0, 0.0]])
    view = PoolView(Pool(5, (0,)), np.array([0, -1, -1, -1, -1]), 2, {"student_probabilities": probabilities})
    rows = select(selector("entropy"), view, 4, rng=np.random.default_rng(0))
    assert rows.tolist() == [3, 2, 1, 4]


def test_badge_distances_equal_those_of_explicit_gradient_embeddings() -> None:
    view = make_view(frozenset({"student_probabilities", "features"}))
    embeddings = GradientEmbeddings(view.student_probabilities, view.features)
    hot = torch.eye(CLASSES)[view.student_probabilities.argmax(dim=1)].double()
    errors = view.student_probabilities.double() - hot
    explicit = torch.einsum("nc,nd->ncd", errors, view.features.double()).reshape(N, -1)
    for row in range(N):
        expected = (explicit - explicit[row]).square().sum(dim=1)
        found = embeddings.squared_distances(row)
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_badge_draws_in_proportion_to_squared_distance() -> None:
    # Errors are (-1/2, 1/2) in each row, so distances are those of the features 0, 1 and 3 on a line.
    arrays = {
        "student_probabilities": torch.full((3, 2), 0.5),
        "features": torch.tensor([[0.0], [1.0], [3.0]]),
    }
    view = PoolView(Pool(3), np.full(3, -1), 2, arrays)
    draws = [select(selector("badge"), view, 2, rng=np.random.default_rng(seed)).tolist() for seed in range(3000)]
    after_first = [second for first, second in draws if first == 0]
    assert len(after_first) / 3000 == pytest.approx(1 / 3, abs=0.04)
    assert np.mean(np.array(after_first) == 2) == pytest.approx(0.9, abs=0.03)


def test_quotas_by_hand() -> None:
    # Weights 1/2, 1/2, 1/3, 1/9 of 13/9: 26 in shares 9, 9, 6, 2 exactly.
    assert quotas(np.array([1, 1, 2, 8]), 26).tolist() == [9, 9, 6, 2]
    # Weights 1/3, 1/9, 1/6 of 11/18 give 6, 2, 3; float64 rounds 2 to 1.
    assert quotas(np.array([2, 8, 5]), 11).tolist() == [6, 2, 3]
    # A class without labels weighs as much as one with a single label: 1/2, 1/2, 1/3 of 4/3.
    assert quotas(np.array([0, 1, 2]), 8).tolist() == [3, 3, 2]
    # Equal weights: the rest goes to the lowest classes.
    assert quotas(np.array([3, 3, 3]), 5).tolist() == [2, 2, 1]
    assert quotas(np.array([4]), 5).tolist() == [5]


def balanced_view(labels: list[int], predicted: list[int], n_classes: int) -> PoolView:
    """Labeled rows first, then unlabeled rows with one-hot predictions; the predictions of labeled rows are class 0."""
    rows = np.array(labels + [-1] * len(predicted))
    hot = torch.eye(n_classes)[torch.tensor([0] * len(labels) + predicted)]
    return PoolView(Pool(len(rows), tuple(range(len(labels)))), rows, n_classes, {"student_probabilities": hot})


def test_classbalanced_fills_the_quota_of_a_small_class_from_all_other_rows() -> None:
    # Quotas of 6 over the predicted classes 0 and 2: weights 1/2, 1/3, shares 3.6, 2.4, so 4 and 2; class 0 has 1 row.
    view = balanced_view([0, 1, 2, 2], [0, 2, 2, 2, 2, 2, 2, 2], 3)
    draws = [classbalanced(view, 6, rng=np.random.default_rng(seed)) for seed in range(400)]
    assert all(4 in rows and len(set(rows.tolist())) == 6 for rows in draws)
    frequency = np.mean([np.isin(np.arange(5, 12), rows) for rows in draws], axis=0)
    np.testing.assert_allclose(frequency, 5 / 7, atol=0.08)


def test_classbalanced_prefers_the_class_with_fewer_labels() -> None:
    labels = np.array([0, 0, 0, 1, -1, -1, -1, -1, -1, -1, -1, -1])
    predicted = np.array([0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1])
    arrays = {"student_probabilities": torch.eye(2)[torch.from_numpy(predicted)]}
    view = PoolView(Pool(12, (0, 1, 2, 3)), labels, 2, arrays)
    rows = classbalanced(view, 4, rng=np.random.default_rng(0))
    assert np.bincount(predicted[rows], minlength=2).tolist() == [1, 3]


@pytest.mark.parametrize("n", [100, 128, 600])
@pytest.mark.parametrize("kind", ["equal", "one-hot", "duplicates"])
def test_maxherding_ends_where_many_gains_are_equal(n: int, kind: str) -> None:
    features = torch.ones(n, 6)
    if kind != "equal":
        features = torch.eye(6)[torch.arange(n) % 6]
    if kind == "duplicates":
        features = torch.randn(n // 4, 6, generator=torch.Generator().manual_seed(0)).repeat(4, 1)
    view = PoolView(Pool(n, (0, 1)), np.full(n, -1), 2, {"features": features})
    rows = select(selector("maxherding"), view, n - 2, rng=np.random.default_rng(0))
    assert sorted(rows.tolist()) == list(range(2, n))


def coverage_of(features: torch.Tensor, rows: np.ndarray) -> float:
    """Mean over the points of the largest kernel to one of ``rows``."""
    unit = F.normalize(features, dim=1)
    return float(gaussian(unit, unit[torch.from_numpy(rows)]).amax(dim=1).mean())


def test_maxherding_covers_a_sampled_pool_better_than_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herding, "HERDING_ROWS", 64)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 6, generator=generator)[torch.randint(40, (1000,), generator=generator)]
    features += 0.1 * torch.randn(1000, 6, generator=generator)
    view = PoolView(Pool(1000), np.full(1000, -1), 2, {"features": features})
    for query_size in (5, 40):
        rows = select(selector("maxherding"), view, query_size, rng=np.random.default_rng(0))
        chance = [
            coverage_of(features, np.random.default_rng(s).choice(1000, query_size, replace=False)) for s in range(30)
        ]
        assert coverage_of(features, rows) > max(chance)


def test_maxherding_takes_the_largest_gain_at_every_pick() -> None:
    features = F.normalize(torch.randn(300, 5, generator=torch.Generator().manual_seed(3)), dim=1)
    view = PoolView(Pool(300, (7,)), np.full(300, -1), 2, {"features": features})
    rows = select(selector("maxherding"), view, 40, rng=np.random.default_rng(0)).tolist()
    kernel = gaussian(features, features)
    best = kernel[7]
    for row in rows:
        gains = torch.relu(kernel - best).sum(dim=1)
        assert gains[row] >= gains.max() - 1e-4
        best = torch.maximum(best, kernel[row])
