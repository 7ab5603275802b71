"""TypiClust, a strategy for small budgets, which queries typical images of clusters."""

import warnings

import numpy as np
from jaxtyping import Float32, Int64

from activekd.selectors.view import PoolView, unit_rows

MAX_CLUSTERS = 500
"""Largest number of clusters of TypiClust."""

NEIGHBOURS = 20
"""Nearest neighbours that typicality averages over."""

SMALL_CLUSTER = 5
"""Clusters with fewer images come last."""


def typiclust(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """TypiClust (Hacohen et al. 2022, Algorithm 1): the most typical image of each of the largest uncovered clusters.

    The number of clusters is the number of labels after the query, at most MAX_CLUSTERS; clusters with the fewest
    labels come first and of these the largest. Typicality is the inverse mean distance to the nearest images of the
    cluster. Departures: the student's L2-normalised features replace self-supervised ones. scikit-learn's mini-batch
    k-means serves any number of clusters; the authors' code uses it above 50. Clusters of fewer than SMALL_CLUSTER
    images come last; the authors' code drops those of up to 5. A cluster of n unlabeled images has
    min(NEIGHBOURS, n - 1) neighbours, ranked once and by distance; the authors' code takes min(20, n // 2), anew for
    each pick and by squared distance. A query larger than the number of clusters goes on with the cluster that has the
    fewest labels; the authors' code walks through its list of clusters again. Cost: k-means of the whole pool and the
    neighbours in each cluster, by scikit-learn, for the picks of the published strategy.
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
