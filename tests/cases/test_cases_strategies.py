"""Cases of silent faults in query strategies, each with the right answer worked by hand."""

import numpy as np
import pytest
import torch

from activekd.pool import Pool
from activekd.selectors import selector
from activekd.selectors.balanced import classbalanced, quotas
from activekd.selectors.coverage import UNIT, error_bound
from activekd.selectors.kcenter import greedy_k_center
from activekd.selectors.query import select
from activekd.selectors.view import PoolView

SHARES = [0.346, 0.346, 0.231, 0.077]
"""Shares of a query over classes with 1, 1, 2 and 8 labels: 1/2, 1/2, 1/3 and 1/9 of 13/9."""


def test_case_24_classbalanced_follows_the_released_rule() -> None:
    labels = [0, 1, 2, 2, *[3] * 8]
    for query_size in (10, 26, 100, 1000):
        counts = quotas(np.array([1, 1, 2, 8]), query_size)
        assert counts.sum() == query_size
        np.testing.assert_allclose(counts / query_size, SHARES, atol=1 / query_size + 5e-4)
    predicted = np.repeat(np.arange(4), 30)
    view = PoolView(
        Pool(len(labels) + 120, tuple(range(len(labels)))),
        np.array(labels + [-1] * 120),
        4,
        {"student_probabilities": torch.eye(4)[torch.from_numpy(np.concatenate([labels, predicted]))]},
    )
    rows = classbalanced(view, 10, rng=np.random.default_rng(0))
    # Shares of 10: 3.46, 3.46, 2.31, .77; whole parts 3, 3, 2, 0; the two left go to the two largest weights.
    assert np.bincount(predicted[rows - len(labels)], minlength=4).tolist() == [4, 4, 2, 0]


def test_case_27_maxherding_is_no_random_draw_where_the_query_is_large() -> None:
    # 40 images have a place of their own, the others share one: all 41 places must be covered, before any is repeated.
    place = np.maximum(np.random.default_rng(0).permutation(5000) - 4959, 0)
    view = PoolView(Pool(5000), np.full(5000, -1), 2, {"features": torch.eye(41)[torch.from_numpy(place)]})
    rows = select(selector("maxherding"), view, 4096, rng=np.random.default_rng(0))
    assert sorted(place[rows[:41]]) == list(range(41))


def adversarial(kind: str, dim: int) -> torch.Tensor:
    """Rows whose float32 distances lose much: biased sums, cancellation, underflow, few bits."""
    generator = torch.Generator().manual_seed(dim)
    noise = torch.randn(80, dim, generator=generator)
    match kind:
        case "equal":
            return (noise[:, :1].abs() + 0.5).expand(80, dim).contiguous()
        case "near":
            return torch.full((80, dim), 1 / 3) + 1e-7 * torch.arange(80)[:, None]
        case "offset":
            return noise + 1000
        case "subnormal":
            return noise * 1e-22
        case _:
            return noise.half().float()


@pytest.mark.parametrize("kind", ["equal", "near", "offset", "subnormal", "half"])
@pytest.mark.parametrize("dim", [1, 2, 3, 16, 191, 512, 1001, 4096])
def test_case_31_float32_distances_stay_within_their_bound(kind: str, dim: int) -> None:
    points = adversarial(kind, dim)
    squares = torch.linalg.vector_norm(points, dim=1).square_()
    exact = (points.double()[:, None] - points[:20].double()).square().sum(dim=2)
    matrix = torch.addmm(squares[:20], points, points[:20].T, alpha=-2.0) + squares[:, None]
    vectors = torch.stack([torch.mv(points, c).mul_(-2.0).add_(n) + squares for c, n in zip(points[:20], squares[:20], strict=True)], 1)
    bound = error_bound(dim, float(squares.max()))
    assert bound >= 4 * dim * UNIT * float(squares.max())
    for found in (matrix, vectors):
        assert float((found.double() - exact).abs().max()) < 0.3 * bound


@pytest.mark.parametrize("kind", ["equal", "near", "offset", "half"])
def test_case_31_picks_equal_those_of_float64(kind: str) -> None:
    points = adversarial(kind, 191)
    nearest = (points.double() - points[0].double()).square().sum(dim=1)
    picks = []
    for _ in range(30):
        nearest[[0, *picks]] = -1
        picks.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points.double() - points[picks[-1]].double()).square().sum(dim=1))
    assert greedy_k_center(points, np.array([0]), 30).tolist() == picks
