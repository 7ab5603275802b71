"""FALCUN: uncertainty and diversity in the probability space, by distances that are updated where a pick is near."""

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from activekd.selectors.query import SUM_TOLERANCE
from activekd.selectors.uncertainty import CHUNK
from activekd.selectors.view import PoolView, rows_at_once

NEAR_ROWS = 512
"""Rows per step of the distances to a pick; they stay in the processor's cache."""

SLACK = 3 * SUM_TOLERANCE
"""Above the error of the lower bound on a distance: each of both sums of probabilities deviates from 1 by at most
SUM_TOLERANCE, and float32 rounds by less than a third."""


class NearestPicks:
    """The Manhattan distance of every row to its nearest pick, at most the row's uncertainty (1 minus its margin).

    The distance from p to a pick q is at least |a| + |b| + |a + b|, where a and b are the differences p - q in the two
    most likely classes of p: in all others together the difference is -(a + b). A row whose bound exceeds its present
    distance keeps it, so that the full sum over classes is taken only near the pick. The distances are those of full
    sums.

    Args:
        probabilities: one distribution per row; read in place.
    """

    def __init__(self, probabilities: Float32[Tensor, "n classes"]) -> None:
        self._probabilities = probabilities
        size = rows_at_once(CHUNK, probabilities.device)
        most = min(2, probabilities.shape[1])
        tops = [part.topk(most, dim=1) for part in probabilities.split(size)]
        self._top = torch.cat([top.values for top in tops])
        self._classes = torch.cat([top.indices for top in tops])
        second = self._top[:, 1] if most == 2 else torch.zeros_like(self._top[:, 0])
        self.uncertainties = (1 - (self._top[:, 0] - second)).clamp_(min=0.0)
        """1 minus the gap between the two largest probabilities."""
        self.distances = self.uncertainties.clone()
        rows = min(rows_at_once(NEAR_ROWS, probabilities.device), len(probabilities))
        self._differences = torch.empty_like(probabilities[:rows])

    def add(self, row: int) -> None:
        """Lower the distances to those from a further pick."""
        pick = self._probabilities[row]
        apart = self._top - pick[self._classes]
        bounds = apart.abs().sum(dim=1).add_(apart.sum(dim=1).abs_())
        near = torch.nonzero(bounds < self.distances + SLACK).squeeze(1)
        for some in near.split(len(self._differences)):
            buffer = self._differences[: len(some)]
            torch.index_select(self._probabilities, 0, some, out=buffer)
            found = buffer.sub_(pick).abs_().sum(dim=1)
            self.distances[some] = torch.minimum(self.distances[some], found)


def falcun(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """FALCUN (Gilhuber et al. 2024): rows drawn in proportion to (diversity + uncertainty)^10.

    The uncertainty of an image is 1 minus the margin of the student's prediction. Its diversity starts as its
    uncertainty and falls to the Manhattan distance from its predicted distribution to that of the nearest pick; at each
    draw it is scaled to [0, 1] over the images that are left. Departures: the paper was read through its released code,
    whose default exponent of 10 is taken; distances are updated without a loop over images, and only where a bound
    allows a change, so a pick costs at most one pass over the probabilities. Once the diversity of all remaining images
    is 0, images are drawn uniformly, and where all have the same, it counts as 0; both as in the released code. Labeled
    images play no part.
    """
    picked = NearestPicks(view.student_probabilities)
    uncertainties = picked.uncertainties.cpu().numpy().astype(np.float64)
    free = np.zeros(view.pool.n, dtype=bool)
    free[view.pool.unlabeled] = True
    picks: list[int] = []
    while True:
        diversity = picked.distances.cpu().numpy().astype(np.float64)
        picks.append(int(rng.choice(len(free), p=_chances(diversity, uncertainties, free))))
        if len(picks) == query_size:
            return np.array(picks, dtype=np.int64)
        free[picks[-1]] = False
        picked.add(picks[-1])


def _chances(
    diversity: Float64[np.ndarray, " n"], uncertainties: Float64[np.ndarray, " n"], free: Bool[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """The probability of each row to be drawn next; 0 for rows that are not free."""
    least, most = diversity.min(where=free, initial=np.inf), diversity.max(where=free, initial=0.0)
    weights = free.astype(np.float64)
    if most > 0:
        relevance = (diversity - least) / ((most - least) or 1.0) + uncertainties
        squares = relevance * relevance
        fourth = squares * squares
        weights *= fourth * fourth * squares
    return weights / weights.sum()
