"""k-means against a case worked by hand and a plain form in float64."""

import numpy as np
import pytest
import torch

from activekd.selectors import lloyd
from activekd.selectors.lloyd import assigned, k_means


def plain_k_means(points: np.ndarray, n_clusters: int) -> np.ndarray:
    """The cluster of each point in float64, by loops."""
    x = points.astype(np.float64)
    seeds = [int(((x - x.mean(axis=0)) ** 2).sum(axis=1).argmax())]
    while len(seeds) < n_clusters:
        seeds.append(int(np.min([((x - x[s]) ** 2).sum(axis=1) for s in seeds], axis=0).argmax()))
    centres = x[seeds]
    nearest = np.array([int(((centres - row) ** 2).sum(axis=1).argmin()) for row in x])
    for _ in range(30):
        for c in range(n_clusters):
            if (nearest == c).any():
                centres[c] = x[nearest == c].mean(axis=0)
        before = nearest
        nearest = np.array([int(((centres - row) ** 2).sum(axis=1).argmin()) for row in x])
        if (nearest == before).all():
            break
    return nearest


def test_k_means_by_hand() -> None:
    # The mean is 4.4. Seeds: 12 is the farthest from it, then 0. Nearer to 12 are 7 and 12: centres 9.5 and 1.33. No
    # point changes its cluster then.
    points = torch.tensor([[0.0], [1.0], [3.0], [7.0], [12.0]])[:, [0, 0]]
    centres = k_means(points, 2)
    torch.testing.assert_close(centres[:, 0], torch.tensor([9.5, 4 / 3]))
    assert assigned(points, centres).tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("seed", range(5))
def test_k_means_equals_the_plain_form(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lloyd, "DISTANCES", 64)
    points = torch.randn(150, 4, generator=torch.Generator().manual_seed(seed))
    assert assigned(points, k_means(points, 7)).tolist() == plain_k_means(points.numpy(), 7).tolist()


def test_the_order_of_the_points_does_not_matter() -> None:
    points = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(k_means(points, 6), k_means(points[order], 6))


def test_fewer_distinct_points_than_clusters() -> None:
    points = torch.eye(2)[torch.arange(10) % 2]
    cluster = assigned(points, k_means(points, 4))
    assert len(set(cluster.tolist())) == 2
    assert (cluster[0::2] == cluster[0]).all()
    assert k_means(points, 10).isfinite().all()
