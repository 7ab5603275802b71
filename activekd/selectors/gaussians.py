"""Class-Balanced Selection: picks whose Gaussian is close to that of their cluster."""

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from activekd.selectors.lloyd import assigned, k_means
from activekd.selectors.view import PoolView, subsample, unit_rows

CLUSTER_ROWS, CLUSTER_SHARE = 2**14, 16
"""k-means finds the centres from at most the larger of this number of images and this multiple of the clusters."""

CANDIDATE_ROWS, CANDIDATE_SHARE = 4096, 8
"""At least this number of candidates is drawn from a larger cluster, and at least this multiple of its picks."""

CHUNK = 2048
"""Images per step of a computation over a cluster; bounds its temporary memory."""

LEAST_SPREAD = 1e-6
"""Lower clip of a standard deviation, as in the authors' code."""


def cbs(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """CBS (Huang et al. 2024): in each cluster, greedily the images whose Gaussian is closest to the cluster's.

    k-means groups the unlabeled images into as many clusters as classes. A cluster has a share of the query in
    proportion to its size, rounded up. Its first pick is the image with the largest inner product with the mean; each
    further pick gives the smallest Kullback-Leibler divergence from the Gaussian of the picks to the Gaussian of the
    cluster, both with diagonal covariances of unbiased variances. Where rounding up picks too many, a uniform sample
    of the picks is kept, as in the authors' code, from which what the paper leaves open is taken.

    Departures: the features are the student's, L2-normalised, where the paper's are those of a frozen CLIP. Labeled
    images play no part. k-means finds its centres from a uniform sample of the images where they exceed both
    CLUSTER_ROWS and CLUSTER_SHARE x the clusters; where a cluster exceeds both CANDIDATE_ROWS and CANDIDATE_SHARE x its
    picks, these come from a uniform sample of it, while its Gaussian is that of all its images. Ties inside a cluster
    go to the lowest row.
    """
    unlabeled = view.pool.unlabeled
    n_clusters = min(view.n_classes, len(unlabeled))
    sample = subsample(unlabeled, max(CLUSTER_ROWS, CLUSTER_SHARE * n_clusters), rng=rng)
    centres = k_means(unit_rows(view.features[view.at(sample)]), n_clusters)
    parts = np.array_split(unlabeled, -(-len(unlabeled) // CHUNK))
    cluster = np.concatenate([assigned(unit_rows(view.features[view.at(p)]), centres).cpu().numpy() for p in parts])
    members = np.split(unlabeled[np.argsort(cluster, kind="stable")], np.cumsum(np.bincount(cluster))[:-1])
    picks = []
    for rows in members:
        if share := -(-query_size * len(rows) // len(unlabeled)):
            candidates = subsample(rows, max(CANDIDATE_ROWS, CANDIDATE_SHARE * share), rng=rng)
            mean, spread = gaussian_of(view.features, rows)
            picks.append(candidates[matched(view.features[view.at(candidates)], mean, spread, share)])
    return rng.choice(np.concatenate(picks), size=query_size, replace=False)


def gaussian_of(
    features: Float32[Tensor, "n dim"], rows: Int64[np.ndarray, " rows"]
) -> tuple[Float64[Tensor, " dim"], Float64[Tensor, " dim"]]:
    """Mean and standard deviation of L2-normalised rows in each dimension; the latter is at least LEAST_SPREAD."""
    parts = torch.from_numpy(rows).to(features.device).split(CHUNK)
    mean, squares = (torch.zeros(features.shape[1], dtype=torch.float64, device=features.device) for _ in range(2))
    for part in parts:
        mean += unit_rows(features[part]).double().sum(dim=0) / len(rows)
    for part in parts:
        squares += (unit_rows(features[part]).double() - mean).square_().sum(dim=0)
    return mean, (squares / max(1, len(rows) - 1)).sqrt_().clamp_(min=LEAST_SPREAD)


def matched(
    features: Float32[Tensor, "n dim"], mean: Float64[Tensor, " dim"], spread: Float64[Tensor, " dim"], n_picks: int
) -> Int64[np.ndarray, " n_picks"]:
    """Positions picked greedily so that the diagonal Gaussian of the picks comes close to a given one.

    Args:
        features: of the candidates; they are L2-normalised.
        mean: of the given Gaussian.
        spread: its standard deviations.
        n_picks: at most the number of candidates.
    """
    points = unit_rows(features)
    nearness = torch.cat([part.double() @ mean for part in points.split(CHUNK)])
    picks = [int(nearness.argmax())]
    center, squares = points[picks[0]].double(), torch.zeros_like(mean)
    while len(picks) < n_picks:
        after = len(picks) + 1
        divergences = []
        for part in points.split(CHUNK):
            steps = part.double() - center
            variances = torch.addcmul(squares, steps, steps, value=(after - 1) / after) / (after - 1)
            variances.clamp_(min=LEAST_SPREAD**2)
            offsets = (center - mean + steps / after).square_()
            divergences.append(((variances + offsets) / spread**2 - variances.log()).sum(dim=1))
        divergence = torch.cat(divergences)
        divergence[picks] = torch.inf
        picks.append(top := int(divergence.argmin()))
        step = points[top].double() - center
        squares += step**2 * ((after - 1) / after)
        center += step / after
    return np.array(picks, dtype=np.int64)
