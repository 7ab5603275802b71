"""Strategies for small budgets, which query typical images: TypiClust and MaxHerding."""

import warnings

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.selectors.view import PoolView, unit_rows

MAX_CLUSTERS = 500
"""Largest number of clusters of TypiClust."""

NEIGHBOURS = 20
"""Nearest neighbours that typicality averages over."""

SMALL_CLUSTER = 5
"""Clusters with fewer images come last."""

HERDING_ROWS, HERDING_SHARE = 4096, 8
"""MaxHerding draws at least this number of images from a larger pool, and at least this multiple of the query size."""

KERNEL_ROWS, KERNEL_NUMBERS = 512, 2**22
"""Rows, and numbers, of a kernel matrix per step; they bound the temporary memory."""


def typiclust(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """TypiClust (Hacohen et al. 2022, Algorithm 1): the most typical image of each of the largest uncovered clusters.

    The number of clusters is the number of labels after the query, at most MAX_CLUSTERS; clusters with the fewest
    labels come first and of these the largest. Typicality is the inverse mean distance to the nearest images of the
    cluster. Departures: the student's L2-normalised features replace self-supervised ones. scikit-learn's mini-batch
    k-means serves any number of clusters; the authors' code uses it above 50. Clusters of fewer than SMALL_CLUSTER
    images come last; the authors' code drops those of up to 5. A cluster of n unlabeled images has
    min(NEIGHBOURS, n - 1) neighbours, ranked once and by distance; the authors' code takes min(20, n // 2), anew for
    each pick and by squared distance. A query larger than the number of clusters goes on with the cluster that has the
    fewest labels; the authors' code walks through its list of clusters again.
    """
    from sklearn.cluster import MiniBatchKMeans

    features = unit_rows(view.features).cpu().numpy()
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

    The coverage is the mean over the unlabeled images of the largest Gaussian kernel, of width 1 on L2-normalised
    features, to a labeled or picked image. Departures: the features are the student's; a pool that exceeds both
    HERDING_ROWS and HERDING_SHARE x the query size is sampled: the larger of these numbers of images is drawn uniformly
    as candidates and, independently, as the images to cover. Ties go to the lowest row. A pick lowers the gains of the
    others only at the images to which it is the nearest, so gains are updated there alone, in float64 sums; no kernel
    matrix is stored.
    """
    features = unit_rows(view.features)

    def drawn() -> Int64[np.ndarray, " drawn"]:
        most = max(HERDING_ROWS, HERDING_SHARE * query_size)
        unlabeled = view.pool.unlabeled
        return unlabeled if len(unlabeled) <= most else np.sort(rng.choice(unlabeled, size=most, replace=False))

    rows = drawn()
    candidates, covered = features[view.at(rows)], features[view.at(drawn())]
    best = torch.zeros(len(covered), device=view.device)
    labeled = features[view.at(np.asarray(view.pool.labeled, dtype=np.int64))]
    for start in range(0, len(labeled), KERNEL_ROWS):
        best = torch.maximum(best, gaussian(labeled[start : start + KERNEL_ROWS], covered).amax(dim=0))
    gain = torch.cat(
        [
            gaussian(some, covered).sub_(best).relu_().sum(dim=1, dtype=torch.float64)
            for some in candidates.split(KERNEL_ROWS)
        ]
    )
    picks: list[int] = []
    while True:
        picks.append(top := int(gain.argmax()))
        if len(picks) == query_size:
            return rows[picks]
        gain[top] = -torch.inf
        kernel = gaussian(candidates[top : top + 1], covered)[0]
        for nearer in torch.nonzero(kernel > best).squeeze(1).split(max(1, KERNEL_NUMBERS // len(rows))):
            lost = torch.minimum(gaussian(candidates, covered[nearer]), kernel[nearer]).sub_(best[nearer]).relu_()
            gain -= lost.sum(dim=1, dtype=torch.float64)
        best = torch.maximum(best, kernel)


def gaussian(left: Float32[Tensor, "n dim"], right: Float32[Tensor, "m dim"]) -> Float32[Tensor, "n m"]:
    """The kernel exp(-|x - y|^2) of points of unit norm."""
    return (2 * left @ right.T).sub_(2.0).exp_()
