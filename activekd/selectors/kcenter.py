"""Greedy k-center, exact at any size: on features (coreset) and on probabilities (pcoreset)."""

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.pool import PoolView
from activekd.selectors.query import SHOWN
from activekd.selectors.uncertainty import entropy, scores

CHUNK = 4096
"""Rows and centers a step of a computation over all points, which bounds its temporary memory."""

ROUNDING, ROUNDING_PER_DIM = 4e-6, 1.6e-8
"""Bound on the error of a float32 squared distance, in units of the largest squared norm: a constant and a part for
each dimension. A plain sum in the worst order could lose 4 x as much; the largest loss that was seen is a quarter."""

CANDIDATES = 8
"""Centers that may be nearest by the expanded float64 distance, of which the nearest is found by differences."""

DOUBT = 1e4 * 2.0**-52
"""Below this part of the squared norms, times the dimension, an expanded float64 distance says nothing."""

DIFFERENCES = 2**22
"""Numbers at a time where all centers are compared by differences."""

CLOSE = 64
"""Rows that are first compared in float64 where rounding leaves the farthest open."""

TAKEN = -1.0
"""Stands for the distance of a center, which cannot be picked."""

LEAST_WEIGHT = 1e-12
"""Stands for an entropy of 0, so that every image can still be picked."""

FRONT_BYTES = 256 * 2**20
"""Largest copy of the points of the front."""

FRONT_LEAST = 1024
FRONT_SHARE = 64
"""The front starts as this part of the points; then it grows or shrinks until it costs what the passes cost."""


class Coverage:
    """The squared distance of every point to its nearest center, while centers are added one by one.

    A distance to the nearest center can only fall, so an old one is an upper bound (the lazy greedy algorithm of Minoux
    1978). Only the front, the points with the largest distances, is brought up to date with each new center; as long
    as the largest distance in the front is above every bound outside of it, the pick is that of the textbook form.
    Where a bound outside is larger, all points are brought up to date with all new centers at once, one matrix product
    for many picks, and the front is chosen anew. Distances are |x|^2 + |c|^2 - 2 x.c in float32; where the largest,
    in the front or outside, are closer to each other than rounding, float64 decides.

    Args:
        points: one point a row; not copied and not changed.
        centers: rows that are covered from the start.
        weights: factor on each point's squared distance, more than 0; 1 without it.

    Raises:
        ValueError: points so far from the origin that float32 cannot hold their squared norm.
    """

    def __init__(
        self,
        points: Float32[Tensor, "n dim"],
        centers: Int64[np.ndarray, " centers"],
        weights: Float32[Tensor, " n"] | None = None,
    ) -> None:
        n, dim = points.shape
        self._points = points
        self._weights = weights
        self._norms = torch.linalg.vector_norm(points, dim=1).square_()
        bad = torch.nonzero(~self._norms.isfinite()).squeeze(1)
        if len(bad):
            raise ValueError(f"squared norms are not finite in {len(bad)} rows: {bad[:SHOWN].tolist()}")
        largest = 1.0 if weights is None else float(weights.max())
        self._slack = (ROUNDING + ROUNDING_PER_DIM * dim) * largest * max(float(self._norms.max()), 1e-30)
        self._centers = torch.from_numpy(centers).to(points.device)
        self._applied = 0
        self._bounds = torch.full_like(self._norms, torch.inf)
        self._exact = torch.full((n,), torch.inf, dtype=torch.float64, device=points.device)
        self._exact_centers = torch.zeros(n, dtype=torch.int32, device=points.device)
        self._most = max(FRONT_LEAST, FRONT_BYTES // (4 * dim))
        self._size = min(self._most, max(FRONT_LEAST, n // FRONT_SHARE))
        self._refresh()

    def _refresh(self) -> None:
        """Bring every point up to date and choose the front."""
        new = self._centers[self._applied :]
        if self._applied:
            spent = len(new) * self._size
            size = self._size // 2 if spent > 2 * len(self._points) else self._size * (1 + (spent < len(self._points)))
            self._size = min(self._most, max(FRONT_LEAST, size))
        for first in range(0, len(new), CHUNK):
            block = new[first : first + CHUNK]
            columns, norms = self._points[block].T.contiguous(), self._norms[block]
            products = torch.empty(min(CHUNK, len(self._points)), len(block), device=columns.device)
            for start in range(0, len(self._points), CHUNK):
                part = slice(start, start + CHUNK)
                if len(block) == 1:
                    found = torch.mv(self._points[part], columns[:, 0]).mul_(-2.0).add_(norms)
                else:
                    points = self._points[part]
                    found = torch.addmm(norms, points, columns, alpha=-2.0, out=products[: len(points)]).amin(dim=1)
                bounds = found.add_(self._norms[part]).clamp_(min=0.0)
                if self._weights is not None:
                    bounds *= self._weights[part]
                torch.minimum(self._bounds[part], bounds, out=self._bounds[part])
        self._bounds[new] = TAKEN
        self._applied = len(self._centers)
        size = min(self._size, len(self._points) - 1)
        front = self._bounds.topk(size + 1)
        self._outside = float(front.values[-1])
        self._front = front.indices[:-1].sort().values
        self._front_points = self._points[self._front]
        self._front_norms = self._norms[self._front]
        self._front_bounds = self._bounds[self._front]

    def distances(self) -> Float32[Tensor, " n"]:
        """The (weighted) squared distance of every point to its nearest center; TAKEN for centers."""
        if self._applied < len(self._centers):
            self._refresh()
        return self._bounds.clone()

    def farthest(self) -> int:
        """The point with the largest distance (times its weight) to its nearest center; the lowest row of several."""
        if not len(self._centers):
            return 0
        if self._top() + 2 * self._slack < self._outside and self._applied < len(self._centers):
            self._refresh()
        least = max(self._top() - 2 * self._slack, 0.0)
        if least > self._outside:
            close = self._front[self._front_bounds >= least]
        else:
            self._bounds[self._front] = self._front_bounds
            close = torch.nonzero(self._bounds >= least).squeeze(1)
        return int(close) if len(close) == 1 else int(close[self._first_of_largest(close)])

    def _top(self) -> float:
        return float(self._front_bounds.max()) if len(self._front) else TAKEN

    def _first_of_largest(self, rows: Int64[Tensor, " rows"]) -> int:
        """Position of the row with the largest weighted squared distance in float64; of several, the first.

        An old distance is an upper bound here too, and 0 is final: only as many rows are brought up to date as it
        takes for the largest to be a new one. Many are close together only in a pool of equal rows.
        """
        weights = 1.0 if self._weights is None else self._weights[rows].double()
        n = CLOSE
        while True:
            values = self._exact[rows] * weights
            at = int(values.argmax())
            if values[at] == 0 or int(self._exact_centers[rows[at]]) == len(self._centers):
                return at
            self._bring_up_to_date(rows[_leading(values, min(n, len(rows)))])
            n *= 4

    def _bring_up_to_date(self, rows: Int64[Tensor, " rows"]) -> None:
        """Let rows meet, in float64, the centers that they have not met."""
        rows = rows[self._exact[rows] > 0]
        for start in range(0, len(rows), CHUNK):
            block = rows[start : start + CHUNK]
            met = self._exact_centers[block]
            for known in met.unique().tolist():
                these = block[met == known]
                self._exact[these] = torch.minimum(self._exact[these], self._float64(these, self._centers[known:]))
            self._exact_centers[block] = len(self._centers)

    def _float64(self, rows: Int64[Tensor, " rows"], centers: Int64[Tensor, " centers"]) -> Float64[Tensor, " rows"]:
        points = self._points[rows].double()
        nearest = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=points.device)
        for start in range(0, len(centers), CHUNK):
            columns = self._points[centers[start : start + CHUNK]].double()
            torch.minimum(nearest, squared_distances_to_nearest(points, columns), out=nearest)
        return nearest

    def add(self, row: int) -> None:
        """Make a point a center."""
        self._centers = torch.cat([self._centers, torch.tensor([row], device=self._centers.device)])
        self._bounds[row] = TAKEN
        distances = torch.addmv(self._front_norms, self._front_points, self._points[row], alpha=-2.0)
        distances = distances.add_(self._norms[row]).clamp_(min=0.0)
        if self._weights is not None:
            distances *= self._weights[self._front]
        torch.minimum(self._front_bounds, distances, out=self._front_bounds)
        self._front_bounds[self._front == row] = TAKEN


def squared_distances_to_nearest(
    points: Float64[Tensor, "n dim"], centers: Float64[Tensor, "k dim"]
) -> Float64[Tensor, " n"]:
    """Squared distance of each point to its nearest center, by differences; |x|^2 + |c|^2 - 2 x.c proposes the centers.

    Where the proposed distance is so small that the proposal says nothing, all centers are compared by differences.
    """
    squares = centers.square().sum(dim=1)
    proposed = torch.addmm(squares, points, centers.T, alpha=-2.0)
    nearest = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)
    for column in proposed.topk(min(CANDIDATES, len(centers)), dim=1, largest=False).indices.T:
        torch.minimum(nearest, (points - centers[column]).square_().sum(dim=1), out=nearest)
    doubt = DOUBT * points.shape[1] * (points.square().sum(dim=1) + squares.max())
    unsure = torch.nonzero((nearest > 0) & (nearest <= doubt)).squeeze(1)
    at_once = max(1, DIFFERENCES // centers.numel())
    for start in range(0, len(unsure), at_once):
        block = unsure[start : start + at_once]
        nearest[block] = (points[block, None] - centers).square_().sum(dim=2).amin(dim=1)
    return nearest


def _leading(values: Float64[Tensor, " n"], k: int) -> Int64[Tensor, " k"]:
    """Positions of the k largest values in no particular order; of equal ones the first."""
    least = values.topk(k).values[-1]
    above = torch.nonzero(values > least).squeeze(1)
    level = torch.nonzero(values == least).squeeze(1)
    return torch.cat([above, level[: k - len(above)]])


def greedy_k_center(
    points: Float32[Tensor, "n dim"],
    centers: Int64[np.ndarray, " centers"],
    query_size: int,
    weights: Float32[Tensor, " n"] | None = None,
) -> Int64[np.ndarray, " query_size"]:
    """Repeatedly the point farthest from all centers and earlier picks (Sener & Savarese 2018, Algorithm 1).

    Ties go to the lowest row; without centers the lowest row is the first pick. The picks are those of float64.

    Args:
        points: one point a train row.
        centers: rows that are covered already, the labeled ones; all others are candidates.
        query_size: number of picks, at most the number of candidates.
        weights: factor on each point's squared distance, more than 0.
    """
    coverage = Coverage(points, centers, weights)
    picks = np.empty(query_size, dtype=np.int64)
    for k in range(query_size):
        picks[k] = coverage.farthest()
        coverage.add(int(picks[k]))
    return picks


def _labeled(view: PoolView) -> Int64[np.ndarray, " labeled"]:
    return np.asarray(view.pool.labeled, dtype=np.int64)


def coreset(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """CoreSet (Sener & Savarese 2018): greedy k-center over the student's features, from the labeled images.

    Departure: the features are L2-normalised, as in PCoreSet's released code, so that the Euclidean distance orders
    pairs as the cosine distance does. The generator is not used.
    """
    return greedy_k_center(F.normalize(view.features, dim=1), _labeled(view), query_size)


def coreset_euclidean(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """CoreSet (Sener & Savarese 2018, Algorithm 1) over the student's features as they are, Euclidean distance.

    The greedy form, without the paper's mixed-integer refinement. The generator is not used.
    """
    return greedy_k_center(view.features, _labeled(view), query_size)


def pcoreset(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """PCoreSet (Kang et al. 2025, Algorithm 1): greedy k-center over the student's probabilities, Euclidean distance.

    The generator is not used.
    """
    return greedy_k_center(view.student_probabilities, _labeled(view), query_size)


def teacher_pcoreset(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """PCoreSet over the teacher's probabilities in place of the student's: ours, after Kang et al. 2025, Algorithm 1.

    The generator is not used.
    """
    return greedy_k_center(view.teacher_probabilities, _labeled(view), query_size)


def pcoreset_uncertain(
    view: PoolView, query_size: int, *, rng: np.random.Generator
) -> Int64[np.ndarray, " query_size"]:
    """PCoreSet with each distance multiplied by the entropy of the image's prediction: ours, after Kang et al. 2025.

    Of two images that are equally far from everything that is covered, the more uncertain one is taken. The generator
    is not used.
    """
    weights = scores(view, entropy).square_().clamp_(min=LEAST_WEIGHT)
    return greedy_k_center(view.student_probabilities, _labeled(view), query_size, weights)


def pcoreset_nearest(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """The reversed diagnostic of PCoreSet (Kang et al. 2025): repeatedly the image nearest to what is covered.

    If covering the probability space is what helps, this must do worse than random. Distances are in float32, which
    tells near duplicates apart only roughly. The generator is not used.
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
