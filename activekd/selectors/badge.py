"""BADGE: k-means++ seeding over gradient embeddings that are never written out."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.pool import PoolView


def gradient_factors(
    probabilities: Float32[Tensor, "n classes"], features: Float32[Tensor, "n dim"]
) -> tuple[Float32[Tensor, "n classes"], Float32[Tensor, "n dim"]]:
    """The two factors of each gradient embedding g_i = a_i (outer) h_i (Ash et al. 2020, Equation 1).

    a_i = p_i - onehot(argmax p_i) is the gradient of the cross-entropy of the hypothetical label with respect to the
    logits, h_i the feature that the head multiplies. N x (C + D) numbers stand for N x C x D.
    """
    errors = probabilities.clone()
    rows = torch.arange(len(errors))
    errors[rows, probabilities.argmax(dim=1)] -= 1.0
    return errors, features


def squared_gradient_distances(
    errors: Float32[Tensor, "n classes"],
    features: Float32[Tensor, "n dim"],
    norms: Float32[Tensor, " n"],
    row: int,
) -> Float32[Tensor, " n"]:
    """||g_i - g_row||^2 for each i: |g_i|^2 + |g_row|^2 - 2 (a_i . a_row)(h_i . h_row), at least 0.

    Args:
        errors: the factors a.
        features: the factors h.
        norms: squared norms |g_i|^2 = |a_i|^2 |h_i|^2.
        row: the embedding to which the distances are taken.
    """
    inner = torch.mv(errors, errors[row]).mul_(torch.mv(features, features[row]))
    return (norms + norms[row]).sub_(inner, alpha=2.0).clamp_(min=0.0)


def badge(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """BADGE (Ash et al. 2020, Algorithm 1): k-means++ seeding over the gradient embeddings of the unlabeled images.

    The first row is drawn uniformly (Arthur & Vassilvitskii 2007), each further one with a probability proportional
    to its squared distance to the nearest pick. Departures: the probabilities are the predicted mixture of both
    heads; when all that is left coincides with a pick, the rest is drawn uniformly.
    """
    unlabeled = view.pool.unlabeled
    index = torch.from_numpy(unlabeled)
    errors, features = gradient_factors(view.student_probabilities[index], view.features[index])
    norms = errors.square().sum(dim=1) * features.square().sum(dim=1)
    nearest = torch.full((len(unlabeled),), torch.inf)
    free = np.ones(len(unlabeled), dtype=bool)
    picks = [int(rng.integers(len(unlabeled)))]
    while True:
        free[picks[-1]] = False
        if len(picks) == query_size:
            return unlabeled[picks]
        torch.minimum(nearest, squared_gradient_distances(errors, features, norms, picks[-1]), out=nearest)
        weights = np.where(free, nearest.numpy().astype(np.float64), 0.0)
        if weights.sum() == 0:
            weights = free.astype(np.float64)
        picks.append(int(rng.choice(len(unlabeled), p=weights / weights.sum())))


def badge_released(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """BADGE as PCoreSet's released code has it: normalised gradient embeddings, farthest first, nothing drawn.

    The first row is the one with the largest gradient; each further one is the farthest from all picks among the
    embeddings of unit length. Ties go to the lowest row; the generator is not used.
    """
    unlabeled = view.pool.unlabeled
    index = torch.from_numpy(unlabeled)
    errors, features = gradient_factors(view.student_probabilities[index], view.features[index])
    picks = [int((errors.square().sum(dim=1) * features.square().sum(dim=1)).argmax())]
    errors, features = F.normalize(errors, dim=1), F.normalize(features, dim=1)
    norms = errors.square().sum(dim=1) * features.square().sum(dim=1)
    nearest = torch.full((len(unlabeled),), torch.inf)
    while len(picks) < query_size:
        torch.minimum(nearest, squared_gradient_distances(errors, features, norms, picks[-1]), out=nearest)
        nearest[picks[-1]] = -1.0
        picks.append(int(nearest.argmax()))
        nearest[picks] = -1.0
    return unlabeled[picks]
