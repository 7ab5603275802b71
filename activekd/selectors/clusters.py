"""k-means for strategies that pick the points nearest to its centres."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.selectors.lloyd import STEPS, assigned
from activekd.selectors.view import subsample

SAMPLED_ROWS, SAMPLED_SHARE = 2**14, 16
"""k-means clusters at most the larger of this number of rows and this multiple of the query size."""

EQUAL = 1e-5
"""Relative difference of squared distances that rounding may cause; within it they are equal."""

LEAST_WEIGHT = 1e-12
"""Lower clip of a weight, so that points without weight can be clustered too."""


def sampled(
    rows: Int64[np.ndarray, " rows"], query_size: int, *, rng: np.random.Generator
) -> Int64[np.ndarray, " sampled"]:
    """The rows, or a uniform sample where they exceed both SAMPLED_ROWS and SAMPLED_SHARE x the query size; sorted."""
    return subsample(rows, max(SAMPLED_ROWS, SAMPLED_SHARE * query_size), rng=rng)


def central(
    points: Float32[Tensor, "n dim"],
    n_clusters: int,
    *,
    rng: np.random.Generator,
    weights: Float32[Tensor, " n"] | None = None,
) -> Int64[np.ndarray, " n_clusters"]:
    """The point nearest to the centre of each cluster of weighted k-means, the heaviest cluster first.

    The first centres are those of k-means++ (Arthur & Vassilvitskii 2007), where a point is drawn in proportion to its
    weight x its squared distance to the nearest centre; Lloyd's algorithm follows, for at most STEPS steps. A cluster
    that loses its points keeps its centre. Points that are nearest but for EQUAL tie, such as both of a cluster of two;
    ties go to the lowest position. Clusters without points leave places, which go to the points farthest from the
    centre of their cluster. It runs on the CPU, where sums of equal points are equal in every run.

    Args:
        points: of any scale, on any device; distances are Euclidean.
        n_clusters: number of positions, at most the number of points.
        rng: for the first centres.
        weights: of the points, at least 0; None for 1.

    Returns:
        Distinct positions in ``points``.
    """
    if n_clusters == len(points):
        return np.arange(len(points))
    points = points.cpu()
    weights = torch.ones_like(points[:, 0]) if weights is None else weights.cpu().clamp(min=LEAST_WEIGHT)
    centres = _seeds(points, weights, n_clusters, rng)
    nearest = assigned(points, centres)
    for _ in range(STEPS):
        totals = torch.zeros_like(centres[:, 0]).index_add_(0, nearest, weights)
        sums = torch.zeros_like(centres).index_add_(0, nearest, weights[:, None] * points)
        centres = torch.where(totals[:, None] > 0, sums / totals.clamp(min=LEAST_WEIGHT)[:, None], centres)
        before, nearest = nearest, assigned(points, centres)
        if torch.equal(nearest, before):
            break
    cluster = nearest.numpy()
    far = (points - centres[nearest]).square_().sum(dim=1).numpy()
    least = np.full(n_clusters, np.inf)
    np.minimum.at(least, cluster, far)
    closest = np.flatnonzero(far <= least[cluster] * (1 + EQUAL))
    filled, first = np.unique(cluster[closest], return_index=True)
    weight = np.bincount(cluster, weights=weights.numpy())[filled]
    picks = closest[first][np.argsort(-weight, kind="stable")]
    rest = np.setdiff1d(np.arange(len(points)), picks, assume_unique=True)
    farthest = rest[np.argsort(-far[rest], kind="stable")]
    return np.concatenate([picks, farthest[: n_clusters - len(picks)]])


def _seeds(points: Tensor, weights: Tensor, n_clusters: int, rng: np.random.Generator) -> Tensor:
    """The first centres, distinct points; fewer than ``n_clusters`` where fewer points are distinct."""
    norms = points.square().sum(dim=1)
    mass = weights.numpy().astype(np.float64)
    chosen = [int(rng.choice(len(points), p=mass / mass.sum()))]
    nearest = torch.full_like(norms, torch.inf)
    while len(chosen) < n_clusters:
        last = chosen[-1]
        distances = torch.addmv(norms, points, points[last], alpha=-2.0).add_(norms[last]).clamp_(min=0.0)
        torch.minimum(nearest, distances, out=nearest)
        nearest[last] = 0.0
        chances = mass * nearest.numpy()
        if chances.sum() == 0:
            break
        chosen.append(int(rng.choice(len(points), p=chances / chances.sum())))
    return points[chosen]
