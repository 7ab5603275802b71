"""k-means: k-means++ seeding and Lloyd's algorithm."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

STEPS = 30
"""Most steps of Lloyd's algorithm."""

DISTANCES = 2**22
"""Distances from points to centres per step; they bound the temporary memory."""

ROUNDING = 1e-6
"""Share of the sum of squared norms below which squared distances are rounding errors, so all points are seeds."""


def k_means(
    points: Float32[Tensor, "n dim"], n_clusters: int, *, rng: np.random.Generator
) -> Float32[Tensor, "clusters dim"]:
    """The centres of k-means (Lloyd 1982) after k-means++ seeding (Arthur & Vassilvitskii 2007), one start.

    Each seed is a point, drawn in proportion to its squared distance to the nearest earlier seed. Lloyd's algorithm
    ends when no point changes its cluster, at the latest after STEPS steps. A cluster that loses its points keeps its
    centre. Fewer distinct points than ``n_clusters`` give fewer centres.

    Args:
        points: of any scale; distances are Euclidean.
        n_clusters: number of centres, at least 1.
        rng: for the seeds.
    """
    centres = _seeds(points, n_clusters, rng)
    nearest = assigned(points, centres)
    for _ in range(STEPS):
        members = torch.zeros(len(centres), len(points), device=points.device)
        members[nearest, torch.arange(len(points), device=points.device)] = 1.0
        sizes = members.sum(dim=1, keepdim=True)
        centres = torch.where(sizes > 0, (members @ points) / sizes.clamp(min=1.0), centres)
        before, nearest = nearest, assigned(points, centres)
        if torch.equal(nearest, before):
            break
    return centres


def assigned(points: Float32[Tensor, "n dim"], centres: Float32[Tensor, "clusters dim"]) -> Int64[Tensor, " n"]:
    """The nearest centre of each point; ties go to the first."""
    squares, columns = centres.square().sum(dim=1), centres.T.contiguous()
    parts = points.split(max(1, DISTANCES // len(centres)))
    return torch.cat([torch.addmm(squares, part, columns, alpha=-2.0).argmin(dim=1) for part in parts])


def _seeds(points: Tensor, n_clusters: int, rng: np.random.Generator) -> Tensor:
    norms = points.square().sum(dim=1)
    chosen = [int(rng.integers(len(points)))]
    nearest = torch.full_like(norms, torch.inf)
    while len(chosen) < n_clusters:
        last = chosen[-1]
        distances = torch.addmv(norms, points, points[last], alpha=-2.0).add_(norms[last])
        torch.minimum(nearest, distances, out=nearest)
        nearest[last] = 0.0
        reached = np.cumsum(nearest.cpu().numpy().clip(min=0.0), dtype=np.float64)
        if reached[-1] <= ROUNDING * float(norms.sum()):
            break
        chosen.append(int(np.searchsorted(reached, rng.random() * reached[-1], side="right")))
    return points[torch.tensor(chosen, device=points.device)]
