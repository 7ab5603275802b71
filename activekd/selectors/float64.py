"""Decisions of greedy k-center in float64: which of several close rows is farthest from all centers."""

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

CHUNK = 4096
"""Rows and centers per step; bounds the temporary memory."""

CLOSE = 64
"""Rows that are compared first where rounding leaves the farthest row undecided."""

CANDIDATES = 8
"""Nearest centers by the expanded distance, whose distances are then recomputed by differences."""

DOUBT = 1e4 * 2.0**-52
"""Below this share of the squared norms, times the dimension, an expanded distance is unreliable."""

DIFFERENCES = 2**22
"""Numbers per step where all centers are compared by differences."""


class ExactDistances:
    """Squared distances of rows to their nearest center in float64, updated only where they decide.

    Args:
        points: one point per row; read in place.
        weights: factor on each point's squared distance, more than 0; None for 1.
    """

    def __init__(self, points: Float32[Tensor, "n dim"], weights: Float32[Tensor, " n"] | None = None) -> None:
        self._points, self._weights = points, weights
        self._nearest = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)
        self._met = torch.zeros(len(points), dtype=torch.int32, device=points.device)

    def first_of_largest(self, rows: Int64[Tensor, " rows"], centers: Int64[Tensor, " centers"]) -> int:
        """Position in ``rows`` of the largest weighted squared distance; ties go to the first.

        An outdated distance is an upper bound, and 0 is final, so rows are updated only until the largest distance is
        up to date. Many rows are close only in a pool of equal rows.

        Args:
            rows: the rows to compare.
            centers: all centers, in order of addition.
        """
        weights = 1.0 if self._weights is None else self._weights[rows].double()
        n = CLOSE
        while True:
            values = self._nearest[rows] * weights
            at = int(values.argmax())
            if values[at] == 0 or int(self._met[rows[at]]) == len(centers):
                return at
            self._bring_up_to_date(rows[_leading(values, min(n, len(rows)))], centers)
            n *= 4

    def _bring_up_to_date(self, rows: Int64[Tensor, " rows"], centers: Int64[Tensor, " centers"]) -> None:
        """Update rows with the centers added since their last update."""
        rows = rows[self._nearest[rows] > 0]
        for start in range(0, len(rows), CHUNK):
            block = rows[start : start + CHUNK]
            met = self._met[block]
            for known in met.unique().tolist():
                these = block[met == known]
                self._nearest[these] = torch.minimum(self._nearest[these], self._distances(these, centers[known:]))
            self._met[block] = len(centers)

    def _distances(self, rows: Int64[Tensor, " rows"], centers: Int64[Tensor, " centers"]) -> Float64[Tensor, " rows"]:
        points = self._points[rows].double()
        nearest = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=points.device)
        for start in range(0, len(centers), CHUNK):
            columns = self._points[centers[start : start + CHUNK]].double()
            torch.minimum(nearest, squared_distances_to_nearest(points, columns), out=nearest)
        return nearest


def squared_distances_to_nearest(
    points: Float64[Tensor, "n dim"], centers: Float64[Tensor, "k dim"]
) -> Float64[Tensor, " n"]:
    """Squared distance of each point to its nearest center, by differences; |x|^2 + |c|^2 - 2 x.c proposes the centers.

    Where the distance is so small that rounding makes the proposal unreliable, all centers are compared by differences.
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
    """Positions of the k largest values, in no particular order; ties go to the first."""
    least = values.topk(k).values[-1]
    above = torch.nonzero(values > least).squeeze(1)
    level = torch.nonzero(values == least).squeeze(1)
    return torch.cat([above, level[: k - len(above)]])
