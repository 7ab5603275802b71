"""CEC: the calibrated uncertainty of the teacher, of an image and of its neighbours."""

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.selectors.clusters import central, sampled
from activekd.selectors.view import PoolView, rows_at_once, unit_rows

CHUNK = 2048
"""Rows per step of a computation over all rows; bounds its temporary memory."""

SUPPORT = 10
"""Images of each class whose mean prediction is the prior."""

NEIGHBOURS = 10
"""Nearest neighbours whose uncertainty counts."""

COSINES = 2**22
"""Cosines per step; bounds the temporary memory."""

LEAST = 1e-12
"""Lower clip of a number before a division by it."""


def cec(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """CEC (Safaei & Patel 2025): weighted k-means, the weight being calibrated entropy of an image and its neighbours.

    The teacher's probabilities are divided by its prior over classes and normalised; the prior is its mean prediction
    on a support set, for each class the images with the largest probabilities. The uncertainty of an image is the
    entropy of its calibrated prediction plus the weighted mean of that of its nearest neighbours in the teacher's
    features. k-means on these features, L2-normalised and weighted by uncertainty, has one cluster for each pick; the
    image nearest to each centre is picked.

    Departures: the paper was read in summaries alone. The prior is that of contextualised calibration (Hu et al.
    2022). These are ours: SUPPORT images a class, among the unlabeled; NEIGHBOURS neighbours, among the unlabeled
    images; the cosine as their weight; the plain sum of both uncertainties. The teacher is that of the round. Of a
    pool that exceeds both SAMPLED_ROWS and SAMPLED_SHARE x the query size, a uniform sample is clustered and holds the
    neighbours; the prior is of the whole pool.
    """
    rows = sampled(view.pool.unlabeled, query_size, rng=rng)
    prior = contextual_prior(view.teacher_probabilities, view.pool.unlabeled)
    index = view.at(rows)
    entropies = torch.cat(
        [calibrated_entropies(view.teacher_probabilities[some], prior) for some in index.split(CHUNK)]
    )
    features = unit_rows(view.teacher_features[index])
    weights = entropies + of_neighbours(features, entropies)
    return rows[central(features, query_size, rng=rng, weights=weights)]


def contextual_prior(
    probabilities: Float32[Tensor, "n classes"], rows: Int64[np.ndarray, " rows"]
) -> Float32[Tensor, " classes"]:
    """The mean prediction on the SUPPORT rows with the largest probability of each class; a row counts once."""
    device = probabilities.device
    k = min(SUPPORT, len(rows))
    best = torch.empty(0, probabilities.shape[1], device=device)
    where = torch.empty(0, probabilities.shape[1], dtype=torch.int64, device=device)
    for some in torch.from_numpy(rows).to(device).split(rows_at_once(CHUNK, device)):
        values = torch.cat([best, probabilities[some]])
        places = torch.cat([where, some[:, None].expand(-1, values.shape[1])])
        top = values.topk(min(k, len(values)), dim=0)
        best, where = top.values, places.gather(0, top.indices)
    support = where.unique()
    total = torch.zeros(probabilities.shape[1], dtype=torch.float64, device=device)
    for some in support.split(CHUNK):
        total += probabilities[some].sum(dim=0, dtype=torch.float64)
    return (total / len(support)).float()


def calibrated_entropies(
    probabilities: Float32[Tensor, "n classes"], prior: Float32[Tensor, " classes"]
) -> Float32[Tensor, " n"]:
    """The entropy in nats of the predictions, divided by the prior and normalised."""
    ratios = probabilities / prior.clamp(min=LEAST)
    return torch.special.entr(ratios / ratios.sum(dim=1, keepdim=True)).sum(dim=1)


def of_neighbours(features: Float32[Tensor, "n dim"], values: Float32[Tensor, " n"]) -> Float32[Tensor, " n"]:
    """The mean value of the nearest others of each point of unit norm, weighted by the cosine, at least 0."""
    n = len(features)
    k = min(NEIGHBOURS, n - 1)
    if not k:
        return torch.zeros_like(values)
    out = torch.empty_like(values)
    columns = features.T.contiguous()
    for some in torch.arange(n, device=features.device).split(max(1, COSINES // n)):
        cosines = features[some] @ columns
        cosines[torch.arange(len(some), device=features.device), some] = -torch.inf
        near = cosines.topk(k, dim=1)
        weights = near.values.clamp(min=LEAST)
        out[some] = (weights * values[near.indices]).sum(dim=1) / weights.sum(dim=1)
    return out
