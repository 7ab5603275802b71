"""Greedy k-center: on the student's features (coreset) and on its probabilities (pcoreset)."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.pool import PoolView

CHUNK = 4096
"""Points a step of the distance computation, which bounds its temporary memory."""


def squared_distances(points: Float32[Tensor, "n dim"], center: Float32[Tensor, " dim"]) -> Float32[Tensor, " n"]:
    """Squared Euclidean distance of each point to one center, from differences: exactly 0 between equal points."""
    out = torch.empty(len(points))
    for start in range(0, len(points), CHUNK):
        chunk = points[start : start + CHUNK]
        torch.sum((chunk - center).square_(), dim=1, out=out[start : start + CHUNK])
    return out


def greedy_k_center(
    points: Float32[Tensor, "n dim"],
    centers: Int64[np.ndarray, " centers"],
    candidates: Int64[np.ndarray, " candidates"],
    query_size: int,
) -> Int64[np.ndarray, " query_size"]:
    """Repeatedly the candidate farthest from all centers and earlier picks (Sener & Savarese 2018, Algorithm 1).

    The minimum distance of each candidate is kept and updated by each new center, so a pick costs one pass over the
    candidates. Ties go to the lowest row. Without centers the lowest candidate is the first pick.

    Args:
        points: one point a train row.
        centers: rows that are covered already, the labeled ones.
        candidates: ascending rows to pick from.
        query_size: number of picks, at most the number of candidates.
    """
    pool = points[torch.from_numpy(candidates)]
    nearest = torch.full((len(pool),), torch.inf)
    for row in centers.tolist():
        torch.minimum(nearest, squared_distances(pool, points[row]), out=nearest)
    picks = np.empty(query_size, dtype=np.int64)
    for k in range(query_size):
        position = int(nearest.argmax())
        picks[k] = position
        torch.minimum(nearest, squared_distances(pool, pool[position]), out=nearest)
        nearest[torch.from_numpy(picks[: k + 1])] = -1.0
    return candidates[picks]


def coreset(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """CoreSet (Sener & Savarese 2018): greedy k-center over the student's features, from the labeled images.

    Departure: the features are L2-normalised, as in PCoreSet's released code, so that the Euclidean distance orders
    pairs as the cosine distance does. The generator is not used.
    """
    features = F.normalize(view.features, dim=1)
    return greedy_k_center(features, np.asarray(view.pool.labeled, dtype=np.int64), view.pool.unlabeled, query_size)


def pcoreset(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """PCoreSet (Kang et al. 2025, Algorithm 1): greedy k-center over the student's probabilities, Euclidean distance.

    The generator is not used.
    """
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    return greedy_k_center(view.student_probabilities, labeled, view.pool.unlabeled, query_size)
