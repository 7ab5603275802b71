"""CBS against cases worked by hand and against a plain form in float64."""

from collections import Counter
from math import ceil, cos, radians, sin

import numpy as np
import pytest
import torch
from test_lloyd import plain_k_means

from activekd.pool import Pool
from activekd.selectors import gaussians, selector
from activekd.selectors.contract import made_up_view
from activekd.selectors.gaussians import LEAST_SPREAD, gaussian_of, matched
from activekd.selectors.query import select
from activekd.selectors.view import PoolView


def unit(*degrees: float) -> torch.Tensor:
    """Points on the unit circle."""
    return torch.tensor([[cos(radians(d)), sin(radians(d))] for d in degrees])


def view_of(features: torch.Tensor, n_labeled: int = 0) -> PoolView:
    """A pool of two classes; the first rows are labeled."""
    n = len(features)
    return PoolView(
        Pool(n, tuple(range(n_labeled))), np.array([0] * n_labeled + [-1] * (n - n_labeled)), 2, {"features": features}
    )


def picks_of(view: PoolView, k: int, seed: int = 0) -> list[int]:
    return select(selector("cbs"), view, k, rng=np.random.default_rng(seed)).tolist()


def test_picks_of_a_cluster_by_hand() -> None:
    # The first pick is nearest to the mean (0.9, 0): 0 degrees. With a second one at t degrees, the variance in y is
    # sin(t)^2 / 2, a standard deviation of 0.06 at 5 degrees, 0.30 at 25 and 0.61 at 60; the cluster's is 0.3.
    mean, spread = torch.tensor([0.9, 0.0], dtype=torch.float64), torch.tensor([0.1, 0.3], dtype=torch.float64)
    assert matched(unit(60, 5, 0, 25), mean, spread, 2).tolist() == [2, 3]
    # The length of a feature does not matter.
    assert matched(unit(60, 5, 0, 25) * torch.tensor([[9.0], [1.0], [0.1], [5.0]]), mean, spread, 2).tolist() == [2, 3]


def test_the_gaussian_of_a_cluster_by_hand() -> None:
    # 0 and 90 degrees: both coordinates are 0 and 1; the unbiased variance is 1/2.
    mean, spread = gaussian_of(unit(45, 0, 90) * 3, np.array([1, 2]))
    torch.testing.assert_close(mean, torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-7, rtol=0)
    torch.testing.assert_close(spread, torch.tensor([0.5**0.5] * 2, dtype=torch.float64), atol=1e-7, rtol=0)
    _, alone = gaussian_of(unit(45, 0, 90), np.array([1]))
    assert alone.tolist() == [LEAST_SPREAD] * 2


def test_shares_of_clusters_by_hand() -> None:
    # Six images around 5 degrees, two around 91. Four picks are 3 and 1; three picks are 9/4 and 3/4, rounded up to 3
    # and 1, of which a random one is dropped. The labeled image plays no part.
    view = view_of(unit(200, 0, 2, 4, 6, 8, 10, 90, 92), n_labeled=1)
    assert Counter(row > 6 for row in picks_of(view, 4)) == {False: 3, True: 1}
    small = [sum(row > 6 for row in picks_of(view, 3, seed)) for seed in range(150)]
    assert set(small) == {0, 1}
    assert np.mean(small) == pytest.approx(3 / 4, abs=0.12)
    assert sorted(picks_of(view, 8)) == list(range(1, 9))


def plain_cbs(view: PoolView, k: int, seed: int) -> list[int]:
    """The definition in float64: mean, variance and divergence of the picks anew for each candidate."""
    free = view.pool.unlabeled
    x = view.features.double().numpy()[free]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cluster = plain_k_means(x, view.n_classes)
    picks: list[int] = []
    for c in range(view.n_classes):
        members = np.flatnonzero(cluster == c)
        if not len(members):
            continue
        mean = x[members].mean(axis=0)
        spread = np.maximum(x[members].std(axis=0, ddof=1) if len(members) > 1 else 0 * mean, 1e-6)
        mine = [int(members[(x[members] @ mean).argmax()])]
        while len(mine) < ceil(k * len(members) / len(free)):

            def divergence(row: int, mine: list[int] = mine, mean: np.ndarray = mean, s: np.ndarray = spread) -> float:
                some = x[[*mine, row]]
                own = np.maximum(some.std(axis=0, ddof=1), 1e-6)
                terms = np.log(s / own) + (own**2 + (some.mean(axis=0) - mean) ** 2) / (2 * s**2) - 0.5
                return float(terms.sum())

            mine.append(min((row for row in members.tolist() if row not in mine), key=divergence))
        picks += mine
    return np.random.default_rng(seed).choice(free[picks], size=k, replace=False).tolist()


@pytest.mark.parametrize("k", [1, 7, 40])
@pytest.mark.parametrize("seed", range(3))
def test_cbs_equals_the_plain_form(seed: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussians, "CHUNK", 16)
    view = made_up_view(seed, n=120, classes=4, dim=5, labeled=12)
    assert picks_of(view, k, seed) == plain_cbs(view, k, seed)


def test_candidates_of_a_large_cluster_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussians, "CANDIDATE_ROWS", 8)
    monkeypatch.setattr(gaussians, "CLUSTER_ROWS", 64)
    view = made_up_view(0, n=900, classes=4, dim=5, labeled=12)
    seen = []

    def seeing(features: torch.Tensor, mean: torch.Tensor, spread: torch.Tensor, n_picks: int) -> np.ndarray:
        seen.append((len(features), n_picks))
        return matched(features, mean, spread, n_picks)

    monkeypatch.setattr(gaussians, "matched", seeing)
    assert len(set(picks_of(view, 10))) == 10
    assert [n == max(8, 8 * k) for n, k in seen] == [True] * 4


@pytest.mark.parametrize("n_labeled", [0, 1])
def test_equal_images(n_labeled: int) -> None:
    view = view_of(torch.ones(9, 3), n_labeled)
    assert len(set(picks_of(view, 5))) == 5
    assert sorted(picks_of(view, 9 - n_labeled)) == list(range(n_labeled, 9))
