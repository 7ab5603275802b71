"""BAIT: the batch that lowers the expected error of the head, by Fisher information."""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from activekd.selectors.clusters import sampled
from activekd.selectors.uncertainty import finite
from activekd.selectors.view import PoolView, rows_at_once

CHUNK = 2048
"""Rows per step of a computation over all rows; bounds its temporary memory."""

REGULARISATION = 1.0
"""Lambda, the multiple of the identity that is added to the information of the batch."""

OVERSAMPLING = 2
"""Rows that the forward pass picks, as a multiple of the query size."""


class InformationTrace:
    """tr(M^-1 F), where a step adds v v^T to M or removes it, over a set of candidate vectors v, all in float64.

    With w = M^-1 v and d = s + v.w, s = 1 to add and -1 to remove, (M + s v v^T)^-1 = M^-1 - w w^T / d (Woodbury), so a
    step lowers the trace by b / d with b = v^T M^-1 F M^-1 v. Candidates keep v.w and b, which a step changes by two
    products: O(dim) a candidate, where recomputation costs O(dim^2).

    Args:
        inverse: M^-1, updated in place.
        information: F.
        vectors: the candidates.
    """

    def __init__(
        self,
        inverse: Float64[Tensor, "dim dim"],
        information: Float64[Tensor, "dim dim"],
        vectors: Float64[Tensor, "n dim"],
    ) -> None:
        self.inverse, self._information, self._vectors = inverse, information, vectors
        self._leverages = _quadratic(vectors, inverse)
        self._benefits = _quadratic(vectors, inverse @ information @ inverse)

    def best(self, sign: int, free: Tensor) -> int:
        """The free candidate whose step lowers the trace most, or raises it least; ties go to the lowest."""
        return int(torch.where(free, self._benefits / (sign + self._leverages), -torch.inf).argmax())

    def step(self, candidate: int, sign: int) -> None:
        """Add the outer product of a candidate to M, or remove it."""
        w = self.inverse @ self._vectors[candidate]
        moved = self._information @ w
        divisor = sign + self._leverages[candidate]
        of_w, of_moved = torch.stack([w, self.inverse @ moved]) @ self._vectors.T
        self._leverages -= of_w.square() / divisor
        self._benefits -= of_w * (2 * of_moved / divisor - of_w * (w @ moved) / divisor.square())
        self.inverse.addr_(w, w / -divisor)


def _quadratic(vectors: Tensor, matrix: Tensor) -> Float64[Tensor, " n"]:
    """v^T A v of every vector."""
    size = rows_at_once(CHUNK, vectors.device)
    return torch.cat([((part @ matrix) * part).sum(dim=1) for part in vectors.split(size)])


def bait(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """BAIT (Ash et al. 2021) with the binary likelihood of Huseljic et al. 2024: the batch that minimises tr(M^-1 F).

    The likelihood is binary: the predicted class against all others, with the probability p of the predicted class.
    The Fisher information of an image with features h is then p (1 - p) h h^T: rank one and of feature width, for any
    number of classes. F is its mean over all images. M is the identity x REGULARISATION + m / (m + k) x the mean over
    the m labeled images + k / (m + k) x the sum over the picks, for a query of k. Forward, the 2 k images that lower
    the trace most are added one by one; backward, the k that raise it least are removed one by one. Ties go to the
    lowest row.

    Departures: p is the largest probability of the mixture of both heads, of which the information is taken as if of
    one head. The weights of M and REGULARISATION are those of the authors' code, in which the picks count by their sum
    and the labeled images by their mean. The candidates are a uniform sample of the unlabeled images where these exceed
    both SAMPLED_ROWS and SAMPLED_SHARE x the query size; F is of the whole pool. The generator draws this sample alone.
    """
    features, device = view.features, view.device
    size = rows_at_once(CHUNK, device)
    top = torch.cat([part.amax(dim=1) for part in view.student_probabilities.split(size)]).clamp_(max=1.0)
    scales = (top * (1 - top)).sqrt_()
    lengths = torch.cat([torch.linalg.vector_norm(part, dim=1) for part in features.split(size)])
    finite("squared norms of the features", lengths.square_())
    information = _mean_information(features, scales)
    labeled = view.at(np.asarray(view.pool.labeled, dtype=np.int64))
    share = len(labeled) / (len(labeled) + query_size)
    known = share * _mean_information(features[labeled], scales[labeled])
    inverse = torch.linalg.inv(REGULARISATION * torch.eye(len(known), dtype=torch.float64, device=device) + known)

    rows = sampled(view.pool.unlabeled, query_size, rng=rng)
    index = view.at(rows)
    vectors = (features[index].double() * scales[index, None]).mul_((1 - share) ** 0.5)
    trace = InformationTrace(inverse, information, vectors)
    free = torch.ones(len(rows), dtype=torch.bool, device=device)
    added: list[int] = []
    for _ in range(min(OVERSAMPLING * query_size, len(rows))):
        added.append(best := trace.best(1, free))
        free[best] = False
        trace.step(best, 1)
    pruned = InformationTrace(trace.inverse, information, vectors[added])
    kept = torch.ones(len(added), dtype=torch.bool, device=device)
    for _ in range(len(added) - query_size):
        worst = pruned.best(-1, kept)
        kept[worst] = False
        pruned.step(worst, -1)
    return rows[np.array(added)[kept.cpu().numpy()]]


def _mean_information(features: Tensor, scales: Tensor) -> Float64[Tensor, "dim dim"]:
    """The mean of s^2 h h^T; 0 of no rows. Products of a step are float32, their sum float64."""
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64, device=features.device)
    size = rows_at_once(CHUNK, features.device)
    for part, scale in zip(features.split(size), scales.split(size), strict=True):
        scaled = part * scale[:, None]
        total += scaled.T @ scaled
    return total / max(1, len(features))
