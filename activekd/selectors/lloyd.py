"""k-means without random draws: seeds by the farthest-first traversal, then Lloyd's algorithm."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.selectors.kcenter import greedy_k_center

STEPS = 30
"""Most steps of Lloyd's algorithm."""

DISTANCES = 2**22
"""Distances from points to centres per step; they bound the temporary memory."""


def k_means(points: Float32[Tensor, "n dim"], n_clusters: int) -> Float32[Tensor, "n_clusters dim"]:
    """The centres of k-means (Lloyd 1982).

    The first seed is the point farthest from the mean; each further seed is the point farthest from the earlier ones
    (Gonzalez 1985), so the centres need no generator and, up to ties, do not depend on the order of the points.
    Lloyd's algorithm ends when no point changes its cluster, at the latest after STEPS steps. A cluster without points
    keeps its centre. Sums are in float64, so that their order does not show on a GPU.

    Args:
        points: of any scale; distances are Euclidean.
        n_clusters: at most the number of points.
    """
    first = int((points - points.double().mean(dim=0).float()).square_().sum(dim=1).argmax())
    seeds = np.append(first, greedy_k_center(points, np.array([first]), n_clusters - 1))
    centres = points[torch.from_numpy(seeds).to(points.device)]
    nearest = assigned(points, centres)
    for _ in range(STEPS):
        sizes = torch.bincount(nearest, minlength=n_clusters)[:, None]
        sums = torch.zeros_like(centres, dtype=torch.float64).index_add_(0, nearest, points.double())
        centres = torch.where(sizes > 0, (sums / sizes.clamp(min=1)).float(), centres)
        before, nearest = nearest, assigned(points, centres)
        if torch.equal(nearest, before):
            break
    return centres


def assigned(points: Float32[Tensor, "n dim"], centres: Float32[Tensor, "clusters dim"]) -> Int64[Tensor, " n"]:
    """The nearest centre of each point; ties go to the first."""
    squares, columns = centres.square().sum(dim=1), centres.T.contiguous()
    parts = points.split(max(1, DISTANCES // len(centres)))
    return torch.cat([torch.addmm(squares, part, columns, alpha=-2.0).argmin(dim=1) for part in parts])
