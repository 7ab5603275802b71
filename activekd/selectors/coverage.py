"""Distances from every point to its nearest center while centers are added, in float32: lazy fronts, or all points."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.selectors.float64 import ExactDistances
from activekd.selectors.uncertainty import finite
from activekd.selectors.view import rows_at_once

CHUNK = 4096
"""Rows and centers per step of a computation over all points; bounds its temporary memory."""

NORM_ROWS = 1024
"""Rows per step of the squared norms; their float64 copies stay in the processor's cache."""

UNIT, TINY = 2.0**-24, 2.0**-126
"""Unit roundoff and smallest normal number of float32."""

TAKEN = -1.0
"""Distance assigned to a center, which cannot be picked."""

FRONT_BYTES = 256 * 2**20
"""Largest copy of the points of the front, in bytes."""

FRONT_LEAST = 1024
"""Smallest front, in points."""

FRONT_SHARE = 64
"""The first front holds 1 / FRONT_SHARE of the points; its size then adapts until fronts cost what full passes cost."""


def squared_norms(points: Float32[Tensor, "n dim"]) -> Float32[Tensor, " n"]:
    """The squared norm of each point, summed in float64 and rounded once."""
    size = rows_at_once(NORM_ROWS, points.device)
    norms = [torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in points.split(size)]
    return torch.cat(norms).square_().float()


def error_bound(dim: int, largest_norm: float) -> float:
    """Bound on the error of |x|^2 + |c|^2 - 2 x.c in float32 with ``squared_norms``, for any order of summation.

    It also holds after a product with a weight of at most 1. With gamma_n = n u / (1 - n u) and u = UNIT, x.c is
    computed within gamma_d |x| |c| (Higham 2002, Section 3.1), so 2 x.c within 2 gamma_d m, where m is the largest
    squared norm. The rounding of both norms, the two sums and the weight add at most 13 u m. In total, with terms of
    second order, this is below 2 gamma_(d+7) m, and m is at most 1 + gamma_(d+7) times the computed one. A product or a
    sum below TINY may be lost, which adds at most TINY for each of 4 d + 8 operations.

    Args:
        dim: width d of the points, below 2^22.
        largest_norm: largest computed squared norm of a point.
    """
    gamma = (dim + 7) * UNIT / (1 - (dim + 7) * UNIT)
    return 2 * gamma * (1 + gamma) * largest_norm + (4 * dim + 8) * TINY


class Coverage:
    """The squared distance of every point to its nearest center, while centers are added one by one.

    A distance to the nearest center can only fall, so an outdated one is an upper bound (the lazy greedy algorithm of
    Minoux 1978). Each new center updates only the front, the points with the largest distances. While the largest
    distance in the front exceeds every bound outside, the pick equals that of the textbook algorithm. Otherwise all
    points are updated with all new centers at once, one matrix product for many picks, and a new front is chosen.
    Distances are |x|^2 + |c|^2 - 2 x.c in float32; where the largest are closer to each other than twice the bound on
    their error, float64 decides. Without fronts each new center updates all points at once, one read of the points a
    pick, which on ``cuda`` is faster than the bookkeeping of a front; the picks are the same.

    Args:
        points: one point per row; read in place.
        centers: rows that are centers from the start.
        weights: factor on each point's squared distance, more than 0; None for 1.
        fronts: whether a new center updates the front alone; None for yes, except on ``cuda``.

    Raises:
        InputError: a squared norm exceeds float32.
    """

    def __init__(
        self,
        points: Float32[Tensor, "n dim"],
        centers: Int64[np.ndarray, " centers"],
        weights: Float32[Tensor, " n"] | None = None,
        fronts: bool | None = None,
    ) -> None:
        n, dim = points.shape
        self._fronts = not points.is_cuda if fronts is None else fronts
        self._points = points
        self._weights = weights
        self._norms = finite("squared norms", squared_norms(points))
        largest = 1.0 if weights is None else float(weights.max())
        self._slack = largest * error_bound(dim, float(self._norms.max()))
        self._centers = torch.from_numpy(centers).to(points.device)
        self._applied = 0
        self._bounds = torch.full_like(self._norms, torch.inf)
        self._exact = ExactDistances(points, weights)
        self._most = max(FRONT_LEAST, FRONT_BYTES // (4 * dim))
        self._size = min(self._most, max(FRONT_LEAST, n // FRONT_SHARE))
        self._refresh()

    def _refresh(self) -> None:
        """Update every point and, with fronts, choose a new one."""
        new = self._centers[self._applied :]
        if self._fronts and self._applied:
            spent = len(new) * self._size
            size = self._size // 2 if spent > 2 * len(self._points) else self._size * (1 + (spent < len(self._points)))
            self._size = min(self._most, max(FRONT_LEAST, size))
        for first in range(0, len(new), CHUNK):
            block = new[first : first + CHUNK]
            columns, norms = self._points[block].T.contiguous(), self._norms[block]
            rows = rows_at_once(CHUNK, columns.device)
            products = torch.empty(min(rows, len(self._points)), len(block), device=columns.device)
            for start in range(0, len(self._points), rows):
                part = slice(start, start + rows)
                if len(block) == 1:
                    nearest = torch.mv(self._points[part], columns[:, 0]).mul_(-2.0).add_(norms)
                else:
                    points = self._points[part]
                    nearest = torch.addmm(norms, points, columns, alpha=-2.0, out=products[: len(points)]).amin(dim=1)
                bounds = nearest.add_(self._norms[part]).clamp_(min=0.0)
                if self._weights is not None:
                    bounds *= self._weights[part]
                torch.minimum(self._bounds[part], bounds, out=self._bounds[part])
        self._bounds[new] = TAKEN
        self._applied = len(self._centers)
        if not self._fronts:
            return
        size = min(self._size, len(self._points) - 1)
        front = self._bounds.topk(size + 1)
        self._outside = float(front.values[-1])
        self._front = front.indices[:-1].sort().values
        self._front_points = self._points[self._front]
        self._front_norms = self._norms[self._front]
        self._front_bounds = self._bounds[self._front]

    def distances(self) -> Float32[Tensor, " n"]:
        """The (weighted) squared distance from every point to its nearest center; TAKEN for centers."""
        if self._applied < len(self._centers):
            self._refresh()
        return self._bounds.clone()

    def farthest(self) -> int:
        """The point with the largest (weighted) distance to its nearest center; ties go to the lowest row."""
        if not len(self._centers):
            return 0
        if not self._fronts:
            return self._first_of(torch.nonzero(self._bounds >= self._least(float(self._bounds.max()))).squeeze(1))
        if self._top() + 2 * self._slack < self._outside and self._applied < len(self._centers):
            self._refresh()
        least = self._least(self._top())
        if least > self._outside:
            close = self._front[self._front_bounds >= least]
        else:
            self._bounds[self._front] = self._front_bounds
            close = torch.nonzero(self._bounds >= least).squeeze(1)
        return self._first_of(close)

    def _least(self, top: float) -> float:
        """The smallest distance in float32 whose exact value may be the largest."""
        return max(top - 2 * self._slack, 0.0)

    def _first_of(self, close: Int64[Tensor, " close"]) -> int:
        return int(close) if len(close) == 1 else int(close[self._exact.first_of_largest(close, self._centers)])

    def _top(self) -> float:
        return float(self._front_bounds.max()) if len(self._front) else TAKEN

    def add(self, row: int) -> None:
        """Make a point a center."""
        self._centers = torch.cat([self._centers, torch.tensor([row], device=self._centers.device)])
        if self._fronts:
            self._bounds[row] = TAKEN
            self._nearer(row, self._front_bounds, self._front_points, self._front_norms, self._front)
            self._front_bounds[self._front == row] = TAKEN
        else:
            self._nearer(row, self._bounds, self._points, self._norms, slice(None))
            self._bounds[row] = TAKEN
            self._applied = len(self._centers)

    def _nearer(self, row: int, bounds: Tensor, points: Tensor, norms: Tensor, members: Tensor | slice) -> None:
        """Lower the bounds of the members, in place, to their distance from a point."""
        distances = torch.addmv(norms, points, self._points[row], alpha=-2.0)
        distances = distances.add_(self._norms[row]).clamp_(min=0.0)
        if self._weights is not None:
            distances *= self._weights[members]
        torch.minimum(bounds, distances, out=bounds)
