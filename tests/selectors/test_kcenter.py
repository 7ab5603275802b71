"""Greedy k-center against cases worked by hand and against the textbook form in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from activekd.selectors import coverage, float64
from activekd.selectors.kcenter import greedy_k_center


def test_k_center_by_hand() -> None:
    # On a line: centre 0; farthest is 10, then 4 (distance 4 to 0, 6 to 10) against 7 (3) and 1 (1), then 7.
    points = torch.tensor([[0.0], [1.0], [4.0], [7.0], [10.0]])
    picks = greedy_k_center(points, np.array([0]), 3)
    assert picks.tolist() == [4, 2, 3]


def test_k_center_ties_go_to_the_lowest_row() -> None:
    points = torch.tensor([[0.0], [-3.0], [3.0], [3.0]])
    assert greedy_k_center(points, np.array([0]), 3).tolist() == [1, 2, 3]


def test_k_center_equals_recomputing_all_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(200, 6, generator=generator)
    labeled = list(range(5))
    chosen = list(labeled)
    for _ in range(20):
        distances = torch.cdist(points.double(), points[chosen].double()).min(dim=1).values
        distances[chosen] = -1
        chosen.append(int(distances.argmax()))
    picks = greedy_k_center(points, np.array(labeled), 20)
    assert picks.tolist() == chosen[5:]


def float64_k_center(points: torch.Tensor, labeled: list[int], k: int) -> list[int]:
    """The textbook form in float64: all distances from differences, ties to the lowest row."""
    exact = points.double()
    nearest = torch.full((len(points),), torch.inf, dtype=torch.float64)
    for row in labeled:
        nearest = torch.minimum(nearest, (exact - exact[row]).square().sum(dim=1))
    chosen = list(labeled)
    for _ in range(k):
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (exact - exact[chosen[-1]]).square().sum(dim=1))
    return chosen[len(labeled) :]


@pytest.mark.parametrize("sharpness", [0.1, 3.0, 20.0])
@pytest.mark.parametrize("offset", [0.0, 50.0])
def test_k_center_picks_what_float64_picks(sharpness: float, offset: float) -> None:
    """Flat and peaked points, duplicates, exactly one-hot rows, and points far from the origin (cancellation)."""
    generator = torch.Generator().manual_seed(int(sharpness))
    points = (sharpness * torch.randn(900, 12, generator=generator)).softmax(dim=1)
    points[300:400] = points[100:200]
    points[400:450] = torch.eye(12)[torch.arange(50) % 12]
    points += offset
    labeled = list(range(0, 900, 60))
    picks = greedy_k_center(points, np.array(labeled), 300)
    assert picks.tolist() == float64_k_center(points, labeled, 300)


def test_k_center_without_centers_and_to_the_last_point() -> None:
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    picks = greedy_k_center(points, np.array([], dtype=np.int64), 100)
    assert picks.tolist()[0] == 0
    assert sorted(picks.tolist()) == list(range(100))
    assert picks.tolist() == [0, *float64_k_center(points, [0], 99)]


@pytest.fixture
def small_fronts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fronts, blocks and first comparisons of a few rows, so that small pools go through every branch."""
    for name, size in (("FRONT_LEAST", 4), ("CHUNK", 16), ("FRONT_SHARE", 500)):
        monkeypatch.setattr(coverage, name, size)
    for name, size in (("CHUNK", 16), ("CLOSE", 3)):
        monkeypatch.setattr(float64, name, size)


KINDS = ["flat", "peaked", "one-hot", "duplicates", "grid", "far", "certain"]


def made_up_points(kind: str, n: int, dim: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, dim, generator=generator)
    if kind == "flat":
        return noise.softmax(dim=1)
    if kind == "peaked":
        return (20 * noise).softmax(dim=1)
    if kind == "one-hot":
        return torch.eye(dim)[noise.argmax(dim=1)]
    if kind == "duplicates":
        return noise[torch.randint(max(1, n // 5), (n,), generator=generator)].softmax(dim=1)
    if kind == "grid":
        return noise.mul(2).round()
    if kind == "far":
        return noise.softmax(dim=1) + 30.0
    out = 1e-8 * noise.abs()
    out[:, 0] = 1.0
    return out


@pytest.mark.usefixtures("small_fronts")
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    n=st.integers(2, 400),
    dim=st.integers(1, 9),
    labeled=st.integers(1, 20),
    share=st.floats(0.01, 1.0),
)
def test_lazy_fronts_pick_what_float64_picks(
    kind: str, seed: int, n: int, dim: int, labeled: int, share: float
) -> None:
    points = made_up_points(kind, n, dim, seed)
    rows = np.random.default_rng(seed).permutation(n)[: min(labeled, n - 1)]
    k = max(1, int(share * (n - len(rows))))
    assert greedy_k_center(points, rows, k).tolist() == float64_k_center(points, rows.tolist(), k)


@pytest.mark.usefixtures("small_fronts")
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16), n=st.integers(2, 100), dim=st.integers(1, 9), labeled=st.integers(0, 20))
def test_updating_all_points_picks_what_fronts_pick(kind: str, seed: int, n: int, dim: int, labeled: int) -> None:
    points = made_up_points(kind, n, dim, seed)
    rows = np.random.default_rng(seed).permutation(n)[: min(labeled, n - 1)]
    weights = torch.rand(n, generator=torch.Generator().manual_seed(seed)) + 1e-3
    k = min(30, n - len(rows))
    for factor in (None, weights):
        all_points, fronts = (greedy_k_center(points, rows, k, factor, fronts=some) for some in (False, True))
        assert all_points.tolist() == fronts.tolist()


def test_all_points_by_hand_and_their_distances() -> None:
    points = torch.tensor([[0.0], [1.0], [4.0], [7.0], [10.0]])
    assert greedy_k_center(points, np.array([0]), 3, fronts=False).tolist() == [4, 2, 3]
    covered = coverage.Coverage(points, np.array([0]), fronts=False)
    covered.add(4)
    assert covered.distances().tolist() == [coverage.TAKEN, 1.0, 16.0, 9.0, coverage.TAKEN]


@pytest.mark.usefixtures("small_fronts")
@pytest.mark.parametrize("kind", KINDS)
def test_weighted_lazy_fronts_pick_what_float64_picks(kind: str) -> None:
    points = made_up_points(kind, 300, 7, 1)
    weights = torch.rand(300, generator=torch.Generator().manual_seed(2)) + 1e-3
    nearest = (points.double() - points[5].double()).square().sum(dim=1)
    chosen = [5]
    for _ in range(60):
        scored = nearest * weights.double()
        scored[chosen] = -1
        chosen.append(int(scored.argmax()))
        nearest = torch.minimum(nearest, (points.double() - points[chosen[-1]].double()).square().sum(dim=1))
    assert greedy_k_center(points, np.array([5]), 60, weights).tolist() == chosen[1:]


@pytest.mark.parametrize("kind", ["peaked", "one-hot", "duplicates"])
def test_a_pool_larger_than_its_front(kind: str) -> None:
    points = made_up_points(kind, 6000, 30, 0)
    labeled = list(range(0, 6000, 600))
    assert greedy_k_center(points, np.array(labeled), 400).tolist() == float64_k_center(points, labeled, 400)


def test_points_that_float32_cannot_square_are_named() -> None:
    points = torch.zeros(10, 2)
    points[3] = 1e20
    with pytest.raises(ValueError, match=r"squared norms are not finite in 1 rows: \[3\]"):
        greedy_k_center(points, np.array([0]), 2)
