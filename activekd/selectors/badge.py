"""BADGE: k-means++ seeding over factorised gradient embeddings."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.selectors.uncertainty import finite, predicted
from activekd.selectors.view import PoolView, rows_at_once

CHUNK = 2048
"""Rows per step of a computation over all rows; bounds its temporary memory."""

LEAST_NORM = 1e-12
"""Lower clip of a norm before a division by it."""

TAKEN = -1.0
"""Distance assigned to a pick, which cannot be picked again."""


class GradientEmbeddings:
    """The gradient embeddings g_i = a_i (outer) h_i of every row (Ash et al. 2020, Equation 1), as factors.

    a_i = p_i - onehot(y_i) with y_i = argmax p_i is the gradient of the cross-entropy of the hypothetical label y_i
    with respect to the logits, h_i the feature that the head multiplies. Since a_i . a_j = p_i . a_j - a_j[y_i],
    neither the N x C x D products nor the a_i are stored; memory is a few numbers per row and the given arrays.

    Args:
        probabilities: student probabilities; read in place.
        features: student features; read in place.

    Raises:
        InputError: a squared norm exceeds float32.
    """

    def __init__(self, probabilities: Float32[Tensor, "n classes"], features: Float32[Tensor, "n dim"]) -> None:
        self._probabilities, self._features = probabilities, features
        self._predicted = torch.empty(len(probabilities), dtype=torch.int64, device=probabilities.device)
        self.norms = torch.empty(len(probabilities), device=probabilities.device)
        """Squared norms |g_i|^2 = |a_i|^2 |h_i|^2."""
        size = rows_at_once(CHUNK, probabilities.device)
        for start in range(0, len(probabilities), size):
            part = slice(start, start + size)
            self._predicted[part] = predicted(probabilities[part])
            errors = probabilities[part].clone()
            errors[torch.arange(len(errors), device=errors.device), self._predicted[part]] -= 1.0
            self.norms[part] = errors.square_().sum(dim=1) * features[part].square().sum(dim=1)
        finite("squared norms of the gradient embeddings", self.norms)

    def inner(self, row: int) -> Float32[Tensor, " n"]:
        """g_i . g_row for every row i, by two matrix-vector products."""
        error = self._probabilities[row].clone()
        error[self._predicted[row]] -= 1.0
        of_errors = torch.mv(self._probabilities, error).sub_(error[self._predicted])
        return of_errors.mul_(torch.mv(self._features, self._features[row]))

    def squared_distances(self, row: int) -> Float32[Tensor, " n"]:
        """||g_i - g_row||^2 for every row i: |g_i|^2 + |g_row|^2 - 2 g_i . g_row, at least 0."""
        return (self.norms + self.norms[row]).sub_(self.inner(row), alpha=2.0).clamp_(min=0.0)


def badge(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """BADGE (Ash et al. 2020, Algorithm 1): k-means++ seeding over the gradient embeddings of the unlabeled images.

    Each further row is drawn with a probability proportional to its squared distance to the nearest pick. Departures:
    the first row is drawn uniformly, as in k-means++ (Arthur & Vassilvitskii 2007), where the authors' code and
    scikit-activeml take the row with the largest gradient; the probabilities are the predicted mixture of both heads,
    of which the gradient embedding is taken as if of one head; once every remaining row coincides with a pick, rows are
    drawn uniformly.
    """
    unlabeled = view.pool.unlabeled
    embeddings = GradientEmbeddings(view.student_probabilities, view.features)
    nearest = torch.full((view.pool.n,), torch.inf, device=view.device)
    free = np.ones(len(unlabeled), dtype=bool)
    picks = [int(rng.integers(len(unlabeled)))]
    while True:
        free[picks[-1]] = False
        if len(picks) == query_size:
            return unlabeled[picks]
        torch.minimum(nearest, embeddings.squared_distances(int(unlabeled[picks[-1]])), out=nearest)
        weights = np.where(free, nearest.cpu().numpy()[unlabeled].astype(np.float64), 0.0)
        if weights.sum() == 0:
            weights = free.astype(np.float64)
        picks.append(int(rng.choice(len(unlabeled), p=weights / weights.sum())))


def badge_released(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """BADGE as in PCoreSet's released code (Kang et al. 2025): normalised gradient embeddings, farthest first.

    The first row has the largest gradient; each further row is the farthest from all picks among the embeddings of
    unit length. Departure: the released code takes the first row by the largest norm of embeddings that it has already
    normalised, so rounding noise decides it; only the picks that follow a given first pick are comparable. Ties go to
    the lowest row; the generator is not used. The factors of the unlabeled images are copied: N x (C + D) numbers.
    """
    unlabeled = view.pool.unlabeled
    errors, features = view.student_probabilities[view.at(unlabeled)], view.features[view.at(unlabeled)]
    errors[torch.arange(len(errors), device=view.device), errors.argmax(dim=1)] -= 1.0
    gradients = errors.square().sum(dim=1) * features.square().sum(dim=1)
    picks = [int(finite("squared norms of the gradient embeddings", gradients).argmax())]
    for factor in (errors, features):
        factor /= torch.linalg.vector_norm(factor, dim=1, keepdim=True).clamp_(min=LEAST_NORM)
    norms = errors.square().sum(dim=1) * features.square().sum(dim=1)
    nearest = torch.full((len(unlabeled),), torch.inf, device=view.device)
    while len(picks) < query_size:
        inner = torch.mv(errors, errors[picks[-1]]).mul_(torch.mv(features, features[picks[-1]]))
        distances = (norms + norms[picks[-1]]).sub_(inner, alpha=2.0).clamp_(min=0.0)
        torch.minimum(nearest, distances, out=nearest)
        nearest[picks] = TAKEN
        picks.append(int(nearest.argmax()))
    return unlabeled[picks]
