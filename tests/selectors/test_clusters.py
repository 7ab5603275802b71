"""k-means: cases worked by hand, and equal picks of a point-by-point form in float64."""

import numpy as np
import pytest
import torch
from plain_clusters import plain_central

from activekd.selectors import clusters, lloyd
from activekd.selectors.clusters import central, sampled


def on_a_line(*places: float) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.float32)[:, None]


def test_the_heaviest_cluster_comes_first_and_gives_the_point_nearest_to_its_centre() -> None:
    # The clusters are {10, 11, 13}, of mean 11.33, and {0, 1}, of mean 0.5, where the lower position wins the tie.
    points = on_a_line(0, 1, 10, 11, 13)
    for seed in range(20):
        assert central(points, 2, rng=np.random.default_rng(seed)).tolist() == [3, 0]


def test_weights_move_the_centre_and_order_the_clusters() -> None:
    # One cluster of 0, 1, 2: mean 1, and (0 + 1 + 2) / 12 = 0.25 with weight 10 on the first point.
    points, rng = on_a_line(0, 1, 2), np.random.default_rng(0)
    assert central(points, 1, rng=rng).tolist() == [1]
    assert central(points, 1, rng=rng, weights=torch.tensor([10.0, 1.0, 1.0])).tolist() == [0]
    light = torch.tensor([3.0, 3.0, 1.0, 1.0, 1.0])
    assert central(on_a_line(0, 1, 10, 11, 13), 2, rng=rng, weights=light).tolist() == [0, 3]


def test_first_centres_are_drawn_by_weight_times_squared_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without Lloyd's steps the point nearest to a centre is its first centre. Row 0 comes first with chance 4/8; then
    # rows 1 and 2 at squared distances 1 and 9 count with their weights as 3 and 9, and so on.
    monkeypatch.setattr(clusters, "STEPS", 0)
    points, weights = on_a_line(0, 1, 3), torch.tensor([4.0, 3.0, 1.0])
    draws = [set(central(points, 2, rng=np.random.default_rng(s), weights=weights).tolist()) for s in range(600)]
    first = weights.double().numpy() / 8
    distance = np.array([[0, 1, 9], [1, 0, 4], [9, 4, 0]])
    chance = np.zeros((3, 3))
    for i in range(3):
        mass = weights.numpy() * distance[i]
        chance[i] = first[i] * mass / mass.sum()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.mean([each == {i, j} for each in draws]) == pytest.approx(chance[i, j] + chance[j, i], abs=0.07)


def test_places_of_empty_clusters_go_to_the_farthest_points() -> None:
    # Two distinct points and four clusters: positions 0 and 3, then the lowest of those at distance 0.
    points = on_a_line(0, 0, 0, 8, 8)
    for seed in range(10):
        picks = central(points, 4, rng=np.random.default_rng(seed)).tolist()
        assert picks == [0, 3, 1, 2]
    assert central(points, 5, rng=np.random.default_rng(0)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_picks_equal_those_of_the_plain_form(seed: int, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(60, 4, generator=generator)
    weights = torch.rand(60, generator=generator) if weighted else None
    for k in (1, 5, 20, 59):
        found = central(points, k, rng=np.random.default_rng(seed), weights=weights)
        plain = plain_central(
            points.numpy(), k, np.random.default_rng(seed), None if weights is None else weights.numpy()
        )
        assert found.tolist() == plain


def test_distances_in_several_steps_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    whole = central(points, 7, rng=np.random.default_rng(0))
    monkeypatch.setattr(lloyd, "DISTANCES", 70)
    assert central(points, 7, rng=np.random.default_rng(0)).tolist() == whole.tolist()


def test_a_sample_is_uniform_sorted_and_taken_above_both_limits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "SAMPLED_ROWS", 8)
    rows = np.arange(100, 132)
    assert sampled(rows[:8], 1, rng=np.random.default_rng(0)).tolist() == rows[:8].tolist()
    assert sampled(rows, 2, rng=np.random.default_rng(0)).tolist() == rows.tolist()
    some = sampled(rows, 1, rng=np.random.default_rng(0))
    assert len(some) == 16
    assert (np.diff(some) > 0).all()
    counts = np.bincount(np.concatenate([sampled(rows, 1, rng=np.random.default_rng(s)) for s in range(400)]) - 100)
    np.testing.assert_allclose(counts / 400, 0.5, atol=0.1)
