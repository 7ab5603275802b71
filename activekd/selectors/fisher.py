"""BAIT: the batch that lowers the expected error of the head, by Fisher information."""

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from activekd.selectors.uncertainty import finite
from activekd.selectors.view import PoolView, rows_at_once

CHUNK = 2048
"""Rows per step of a computation over all rows; bounds its temporary memory."""

REGULARISATION = 1.0
"""Lambda, the multiple of the identity that is added to the information of the batch."""

OVERSAMPLING = 2
"""Rows that the forward pass picks, as a multiple of the query size."""


class InformationTrace:
    """tr(M^-1 F), where a step adds v v^T to M or removes it, over a set of candidate vectors v.

    With w = M^-1 v and d = s + v.w, s = 1 to add and -1 to remove, (M + s v v^T)^-1 = M^-1 - w w^T / d (Woodbury), so a
    step lowers the trace by b / d with b = v^T M^-1 F M^-1 v. Candidates keep v.w and b, which a step changes by two
    products: O(dim) a candidate, where recomputation costs O(dim^2). Vectors are float32, sums float64.

    Args:
        inverse: M^-1, updated in place.
        information: F.
        vectors: the candidates are ``scales[:, None] * vectors``.
        scales: at least 0.
    """

    def __init__(
        self,
        inverse: Float64[Tensor, "dim dim"],
        information: Float64[Tensor, "dim dim"],
        vectors: Tensor,
        scales: Tensor,
    ) -> None:
        self.inverse, self._information = inverse, information
        self._vectors, self._scales = vectors, scales
        self._leverages = self._quadratic(inverse)
        self._benefits = self._quadratic(inverse @ information @ inverse)

    def _quadratic(self, matrix: Tensor) -> Float64[Tensor, " n"]:
        """v^T A v of every candidate."""
        size = rows_at_once(CHUNK, self._vectors.device)
        forms = [((part @ matrix.to(part.dtype)) * part).sum(dim=1) for part in self._vectors.split(size)]
        return torch.cat(forms).double() * self._scales.double().square()

    def best(self, sign: int, free: Tensor) -> int:
        """The free candidate whose step lowers the trace most, or raises it least; ties go to the lowest."""
        return int(torch.where(free, self._benefits / (sign + self._leverages), -torch.inf).argmax())

    def step(self, candidate: int, sign: int) -> None:
        """Add the outer product of a candidate to M, or remove it."""
        w = self.inverse @ (self._scales[candidate] * self._vectors[candidate]).double()
        moved = self._information @ w
        over = self.inverse @ moved
        divisor = sign + self._leverages[candidate]
        products = torch.stack([w, over]).to(self._vectors.dtype) @ self._vectors.T
        of_w, of_over = products.mul_(self._scales).double()
        self._leverages -= of_w.square() / divisor
        self._benefits -= of_w * (2 * of_over / divisor - of_w * (w @ moved) / divisor.square())
        self.inverse.addr_(w, w / -divisor)


def bait(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """BAIT (Ash et al. 2021) with the binary likelihood of Huseljic et al. 2024: the batch that minimises tr(M^-1 F).

    The likelihood is binary: the predicted class against all others, with the probability p of the predicted class.
    The Fisher information of an image with features h is then p (1 - p) h h^T: rank one and of feature width, for any
    number of classes. F is its mean over all images. M is the identity x REGULARISATION + m / (m + k) x the mean over
    the m labeled images + k / (m + k) x the sum over the picks, for a query of k. Forward, 2 k images that lower
    the trace most are added one by one; backward, the k that raise it least are removed one by one. The forward pass
    looks at all unlabeled images: a step changes two numbers of each by two products. Ties go to the lowest row. The
    generator is not used.

    Departures: p is the largest probability of the mixture of both heads, of which the information is taken as if of
    one head. The weights of M and REGULARISATION are those of the authors' code, in which the picks count by their sum
    and the labeled images by their mean. At ImageNet's size and 1,000 picks a query reads the features 2,000 times.
    """
    features, device = view.features, view.device
    labeled, unlabeled = np.asarray(view.pool.labeled, dtype=np.int64), view.pool.unlabeled
    size = rows_at_once(CHUNK, device)
    top = torch.cat([part.amax(dim=1) for part in view.student_probabilities.split(size)]).clamp_(max=1.0)
    scales = (top * (1 - top)).sqrt_()
    lengths = torch.cat([torch.linalg.vector_norm(part, dim=1) for part in features.split(size)]).square_()
    finite("squared norms of the features", lengths)
    information = _mean_information(features, scales)
    of_labels = view.at(labeled)
    known = _mean_information(features[of_labels], scales[of_labels])
    share = len(labeled) / (len(labeled) + query_size)
    inverse = torch.linalg.inv(REGULARISATION * torch.eye(len(known), dtype=torch.float64) + share * known.cpu())

    scales *= (1 - share) ** 0.5
    trace = InformationTrace(inverse.to(device), information, features, scales)
    free = torch.zeros(len(features), dtype=torch.bool, device=device)
    free[view.at(unlabeled)] = True
    added: list[int] = []
    for _ in range(min(OVERSAMPLING * query_size, len(unlabeled))):
        added.append(best := trace.best(1, free))
        free[best] = False
        trace.step(best, 1)

    batch = torch.tensor(added, device=device)
    pruned = InformationTrace(trace.inverse, information, features[batch].double(), scales[batch].double())
    kept = torch.ones(len(added), dtype=torch.bool, device=device)
    for _ in range(len(added) - query_size):
        worst = pruned.best(-1, kept)
        kept[worst] = False
        pruned.step(worst, -1)
    return batch[kept].cpu().numpy()


def _mean_information(features: Tensor, scales: Tensor) -> Float64[Tensor, "dim dim"]:
    """The mean of s^2 h h^T; 0 of no rows. Products of a step are float32, their sum float64."""
    total = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64, device=features.device)
    size = rows_at_once(CHUNK, features.device)
    for part, scale in zip(features.split(size), scales.split(size), strict=True):
        scaled = part * scale[:, None]
        total += scaled.T @ scaled
    return total / max(1, len(features))
