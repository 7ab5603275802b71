"""Weighted k-means in float64, point by point, with the draws of ``activekd.selectors.clusters.central``."""

import numpy as np


def plain_central(
    points: np.ndarray, n_clusters: int, rng: np.random.Generator, weights: np.ndarray | None = None
) -> list[int]:
    n, points = len(points), points.astype(np.float64)
    weights = np.ones(n) if weights is None else np.maximum(weights.astype(np.float64), 1e-12)
    if n_clusters == n:
        return list(range(n))

    def squared(i: int, centres: np.ndarray) -> np.ndarray:
        return ((points[i] - centres) ** 2).sum(axis=1)

    chosen = [int(rng.choice(n, p=weights / weights.sum()))]
    while len(chosen) < n_clusters:
        chances = np.array([weights[i] * squared(i, points[chosen]).min() for i in range(n)])
        chosen.append(int(rng.choice(n, p=chances / chances.sum())))
    centres = points[chosen]

    def nearest(i: int) -> int:
        return int(squared(i, centres).argmin())

    cluster = np.array([nearest(i) for i in range(n)])
    for _ in range(30):
        for c in range(n_clusters):
            if (cluster == c).any():
                of = weights[cluster == c]
                centres[c] = (of[:, None] * points[cluster == c]).sum(axis=0) / of.sum()
        before, cluster = cluster, np.array([nearest(i) for i in range(n)])
        if (before == cluster).all():
            break
    far = np.array([squared(i, centres)[cluster[i]] for i in range(n)])
    filled = sorted(set(cluster.tolist()), key=lambda c: (-weights[cluster == c].sum(), c))
    picks = []
    for c in filled:
        of = np.flatnonzero(cluster == c)
        picks.append(int(of[far[of] <= far[of].min() * (1 + 1e-5)][0]))
    rest = sorted(set(range(n)) - set(picks), key=lambda i: (-far[i], i))
    return picks + rest[: n_clusters - len(picks)]


def plain_unit(points: np.ndarray) -> np.ndarray:
    points = points.astype(np.float64)
    return points / np.linalg.norm(points, axis=1, keepdims=True)
