"""Strategies for small budgets, which query typical images: TypiClust and MaxHerding."""

import warnings

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.selectors.view import PoolView

MAX_CLUSTERS = 500
"""Largest number of clusters of TypiClust."""

NEIGHBOURS = 20
"""Nearest neighbours that typicality averages over."""

SMALL_CLUSTER = 5
"""Clusters with fewer images come last, as in TypiClust's released code."""

HERDING_ROWS = 4096
"""Images that MaxHerding draws from a larger pool; its kernel matrix has this number of rows and columns."""

GAINS_AT_ONCE = 64
"""Gains updated per step."""


def typiclust(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """TypiClust (Hacohen et al. 2022, Algorithm 1): the most typical image of each of the largest uncovered clusters.

    The number of clusters is the number of labels after the query, at most MAX_CLUSTERS; typicality is the inverse
    mean distance to the NEIGHBOURS nearest images of the cluster. Departures: scikit-learn's mini-batch k-means on the
    student's L2-normalised features replaces k-means on self-supervised features; clusters are used in turn, those
    with the fewest labels first and of these the largest.
    """
    from sklearn.cluster import MiniBatchKMeans

    features = F.normalize(view.features, dim=1).cpu().numpy()
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    n_clusters = min(MAX_CLUSTERS, len(labeled) + query_size, len(features))
    seed = int(rng.integers(2**31))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cluster = MiniBatchKMeans(n_clusters, random_state=seed, n_init="auto", batch_size=2048).fit_predict(features)
    left = {c: np.flatnonzero(cluster == c) for c in range(n_clusters)}
    covered = np.bincount(cluster[labeled], minlength=n_clusters)
    left = {c: np.setdiff1d(rows, labeled, assume_unique=True) for c, rows in left.items()}
    order = {c: rows[np.argsort(-typicality(features[rows]), kind="stable")].tolist() for c, rows in left.items()}
    sizes = np.bincount(cluster, minlength=n_clusters)
    picks = []
    while len(picks) < query_size:
        open_clusters = [c for c in range(n_clusters) if order[c]]
        chosen = min(open_clusters, key=lambda c: (sizes[c] < SMALL_CLUSTER, covered[c], -sizes[c], c))
        picks.append(order[chosen].pop(0))
        covered[chosen] += 1
    return np.array(picks, dtype=np.int64)


def typicality(features: Float32[np.ndarray, "n dim"]) -> Float32[np.ndarray, " n"]:
    """Inverse of the mean distance of each point to its NEIGHBOURS nearest others (Hacohen et al. 2022, Equation 1)."""
    from sklearn.neighbors import NearestNeighbors

    if len(features) < 2:
        return np.ones(len(features), dtype=np.float32)
    k = min(NEIGHBOURS, len(features) - 1)
    distances, _ = NearestNeighbors(n_neighbors=k + 1).fit(features).kneighbors(features)
    return (1 / (distances[:, 1:].mean(axis=1) + 1e-5)).astype(np.float32)


def maxherding(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """MaxHerding (Bae et al. 2024): greedily the image that most raises the generalised coverage of the pool.

    The coverage is the mean over images of the largest Gaussian kernel, of width 1 on L2-normalised features, to a
    labeled or picked image. Departure: a pool with more than HERDING_ROWS unlabeled images is replaced by a uniform
    draw of that many, or of the query size if larger. Ties go to the lowest row. A gain can only fall, so an outdated
    one is an upper bound (Minoux 1978) and only the largest gains are updated.
    """
    unlabeled = view.pool.unlabeled
    n = max(HERDING_ROWS, query_size)
    rows = unlabeled if len(unlabeled) <= n else np.sort(rng.choice(unlabeled, size=n, replace=False))
    features = F.normalize(view.features, dim=1)
    points = features[view.at(rows)]
    kernel = gaussian(points, points)
    best = torch.zeros(len(rows), device=view.device)
    labeled = features[view.at(np.asarray(view.pool.labeled, dtype=np.int64))]
    for start in range(0, len(labeled), 1024):
        best = torch.maximum(best, gaussian(points, labeled[start : start + 1024]).amax(dim=1))
    gain = torch.full((len(rows),), torch.inf, device=view.device)
    updated = torch.zeros(len(rows), dtype=torch.bool, device=view.device)
    picks: list[int] = []
    while len(picks) < query_size:
        top = int(gain.argmax())
        if updated[top]:
            picks.append(top)
            torch.maximum(best, kernel[top], out=best)
            gain[top] = -torch.inf
            updated[:] = False
        else:
            some = gain.topk(min(GAINS_AT_ONCE, len(rows))).indices
            some[-1] = top
            gain[some] = torch.relu(kernel[some] - best).sum(dim=1).where(gain[some] >= 0, -torch.inf)
            updated[some] = True
    return rows[picks]


def gaussian(left: Float32[Tensor, "n dim"], right: Float32[Tensor, "m dim"]) -> Float32[Tensor, "n m"]:
    """The kernel exp(-|x - y|^2) of points of unit norm."""
    return (2 * left @ right.T).sub_(2.0).exp_()
