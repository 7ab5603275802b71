"""Greedy k-center, exact at any size: on features (coreset) and on probabilities (pcoreset)."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.selectors.coverage import Coverage
from activekd.selectors.uncertainty import entropy, scores
from activekd.selectors.view import PoolView, unit_rows

LEAST_WEIGHT = 1e-12
"""Lower clip of a squared entropy, so that every image can be picked."""


def greedy_k_center(
    points: Float32[Tensor, "n dim"],
    centers: Int64[np.ndarray, " centers"],
    query_size: int,
    weights: Float32[Tensor, " n"] | None = None,
    fronts: bool | None = None,
) -> Int64[np.ndarray, " query_size"]:
    """Pick repeatedly the point farthest from all centers and earlier picks (Sener & Savarese 2018, Algorithm 1).

    Ties go to the lowest row; without centers the lowest row is the first pick. The picks equal those of float64.

    Args:
        points: one point per train row.
        centers: the initial centers, the labeled rows; all other rows are candidates.
        query_size: number of picks, at most the number of candidates.
        weights: factor on each point's squared distance, more than 0; None for 1.
        fronts: as in ``Coverage``; the picks do not depend on it.
    """
    coverage = Coverage(points, centers, weights, fronts)
    picks = np.empty(query_size, dtype=np.int64)
    for k in range(query_size):
        picks[k] = coverage.farthest()
        coverage.add(int(picks[k]))
    return picks


def _labeled(view: PoolView) -> Int64[np.ndarray, " labeled"]:
    return np.asarray(view.pool.labeled, dtype=np.int64)


def coreset(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """CoreSet (Sener & Savarese 2018): greedy k-center over the student's features, from the labeled images.

    Departures: the features are L2-normalised, as in PCoreSet's released code, so that the Euclidean distance orders
    pairs as the cosine distance does; the greedy algorithm alone, without the paper's mixed-integer refinement. The
    generator is not used.
    """
    return greedy_k_center(unit_rows(view.features), _labeled(view), query_size)


def coreset_euclidean(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """CoreSet (Sener & Savarese 2018, Algorithm 1) over the student's raw features, Euclidean distance.

    Departure: the greedy algorithm alone, without the paper's mixed-integer refinement. The generator is not used.
    """
    return greedy_k_center(view.features, _labeled(view), query_size)


def pcoreset(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """PCoreSet (Kang et al. 2025, Algorithm 1): greedy k-center over the student's probabilities, Euclidean distance.

    The first centers are the labeled images, by their predicted probabilities. Departure: ties go to the lowest row by
    distances in float64; the released code decides close distances in float32. The generator is not used.
    """
    return greedy_k_center(view.student_probabilities, _labeled(view), query_size)


def teacher_pcoreset(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """PCoreSet over the teacher's probabilities: ours, after Kang et al. 2025, Algorithm 1.

    The generator is not used.
    """
    return greedy_k_center(view.teacher_probabilities, _labeled(view), query_size)


def pcoreset_uncertain(
    view: PoolView, query_size: int, *, rng: np.random.Generator
) -> Int64[np.ndarray, " query_size"]:
    """PCoreSet with each distance multiplied by the entropy of the image's prediction: ours, after Kang et al. 2025.

    Of two images at equal distance from the labeled images and picks, the more uncertain one is picked. The generator
    is not used.
    """
    weights = scores(view, entropy).square_().clamp_(min=LEAST_WEIGHT)
    return greedy_k_center(view.student_probabilities, _labeled(view), query_size, weights)


def pcoreset_nearest(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """PCoreSet reversed, a diagnostic of ours: repeatedly the image nearest to a labeled image or pick.

    If coverage of the probability space helps, this must be worse than random. Distances are in float32, so the order
    of near duplicates is approximate. The generator is not used.
    """
    points, labeled = view.student_probabilities, _labeled(view)
    norms = torch.linalg.vector_norm(points, dim=1).square_()
    nearest = Coverage(points, labeled).distances()
    free = torch.ones(len(points), dtype=torch.bool, device=points.device)
    free[view.at(labeled)] = False
    picks = np.empty(query_size, dtype=np.int64)
    for k in range(query_size):
        picks[k] = row = int(torch.where(free, nearest, torch.inf).argmin())
        free[row] = False
        distances = torch.addmv(norms, points, points[row], alpha=-2.0).add_(norms[row])
        torch.minimum(nearest, distances.clamp_(min=0.0), out=nearest)
    return picks
