"""An oracle: of the batches that many strategies propose, the one that helps most when its true labels are known."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from activekd.pool import NO_CLASS
from activekd.selectors.badge import badge, badge_released
from activekd.selectors.balanced import classbalanced
from activekd.selectors.herding import maxherding
from activekd.selectors.kcenter import coreset, pcoreset, pcoreset_uncertain
from activekd.selectors.uncertainty import by_entropy, by_margin, random
from activekd.selectors.view import PoolView, narrowed, subsample, unit_rows

STRATEGIES: Mapping[str, Callable[..., np.ndarray]] = {
    "random": random,
    "margin": by_margin,
    "entropy": by_entropy,
    "coreset": coreset,
    "badge": badge,
    "badge_released": badge_released,
    "classbalanced": classbalanced,
    "maxherding": maxherding,
    "pcoreset": pcoreset,
    "pcoreset_uncertain": pcoreset_uncertain,
}
"""The strategies that propose batches; each reads the student's probabilities and features at most."""

BATCHES = 10
"""Batches that each strategy proposes."""

LEAST_QUERIES, MOST_ROWS = 4, 5000
"""The random subset of a batch has at least this multiple of the query size and at most this number of rows."""

JUDGED_ROWS = 2**14
"""Unlabeled rows on which heads are judged; a larger pool is sampled."""

RIDGE = 1e-4
"""Weight of the squared norm of a head in its loss."""

GROUP_NUMBERS = 2**20
"""Numbers of the heads that are fitted at once; bounds the temporary memory."""


def boss(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """BoSS (Huseljic et al. 2026), an oracle: of many strategies' batches the one whose true labels help most.

    Each of STRATEGIES proposes BATCHES batches, each from a random subset of the unlabeled rows whose size is drawn
    uniformly from LEAST_QUERIES queries to MOST_ROWS rows. For each batch a head on the student's features is fitted to
    the labeled rows and the batch with its true labels. The batch whose head is most accurate on the other unlabeled
    rows is kept, the first of equal ones. It is a ceiling for strategies and no strategy. A query costs as much as all
    those of its strategies on subsets, for any size of the pool.

    Departures: heads are judged on the unlabeled rows outside the batch, where the authors' code takes the test split;
    a pool of more than JUDGED_ROWS unlabeled rows is judged on a uniform sample. The strategies are those of this
    package that are fast on a small pool; the paper's ten have BAIT, TypiClust, ALFA-Mix, DropQuery and two that read
    labels, and each proposes a random number of batches. The head is the ridge regression of one-hot labels on
    centred, L2-normalised features, which has a closed form (``heads``); the authors' code trains a softmax head by the
    recipe of the student, 50 epochs for each batch.
    """
    truth, unlabeled = view.true_labels, view.pool.unlabeled
    batches = proposed(view, query_size, rng)
    judged = subsample(unlabeled[truth[unlabeled] != NO_CLASS], JUDGED_ROWS, rng=rng)
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    used = np.unique(np.concatenate([labeled, judged, batches.ravel()]))
    points = inputs(view.features[view.at(used)])
    labels = np.where(view.labels[used] < 0, truth[used], view.labels[used])
    if len(of_none := np.flatnonzero(labels == NO_CLASS)):
        # A point of zeros changes no sum of a head: an image of no class teaches nothing.
        points[of_none], labels[of_none] = 0, 0
    place = [np.searchsorted(used, rows) for rows in (labeled, batches, judged)]
    return batches[int(accuracies(points, labels, *place, n_classes=view.n_classes).argmax())]


def proposed(view: PoolView, query_size: int, rng: np.random.Generator) -> Int64[np.ndarray, "batches query_size"]:
    """The batches of all strategies; none of them sees a true label."""
    blind, unlabeled = replace(view, truth=None), view.pool.unlabeled
    least = min(len(unlabeled), LEAST_QUERIES * query_size)
    most = max(least, min(len(unlabeled), MOST_ROWS))
    batches = []
    for strategy in STRATEGIES.values():
        for _ in range(BATCHES):
            size = int(rng.integers(least, most + 1))
            seen, small = narrowed(blind, np.sort(rng.choice(unlabeled, size=size, replace=False)))
            batches.append(seen[strategy(small, query_size, rng=rng)])
    return np.stack(batches)


def inputs(features: Float32[Tensor, "n dim"]) -> Float32[Tensor, "n dim+1"]:
    """Directions of features, centred, with a mean squared norm of 1, and a constant 1 for the bias."""
    points = unit_rows(features)
    points = points - points.mean(dim=0)
    size = points.square().sum(dim=1).mean().sqrt()
    return torch.cat([points / size.clamp(min=torch.finfo(points.dtype).tiny), torch.ones_like(points[:, :1])], dim=1)


def accuracies(
    points: Float32[Tensor, "n dim"],
    labels: Int64[np.ndarray, " n"],
    labeled: Int64[np.ndarray, " labeled"],
    batches: Int64[np.ndarray, "batches size"],
    judged: Int64[np.ndarray, " judged"],
    *,
    n_classes: int,
) -> Float64[np.ndarray, " batches"]:
    """Accuracy of the head of each batch on the judged points outside the batch; 0 where there are none.

    Args:
        points: ``inputs``.
        labels: of all points.
        labeled: points that every head is fitted to.
        batches: further points of each head.
        judged: points to predict.
        n_classes: number of classes.
    """
    width = points.shape[1]
    targets = torch.from_numpy(labels).to(points.device)
    to_predict = torch.from_numpy(judged).to(points.device)
    at_once = max(1, GROUP_NUMBERS // (2 * width * (width + n_classes) + batches.shape[1] * (width + n_classes)))
    rows_at_once = max(1, GROUP_NUMBERS // (at_once * n_classes))
    found = []
    for first in range(0, len(batches), at_once):
        group = batches[first : first + at_once]
        fitted = heads(points, targets, labeled, group, n_classes=n_classes)
        right = torch.cat(
            [(points[rows] @ fitted).argmax(dim=2) == targets[rows] for rows in to_predict.split(rows_at_once)],
            dim=1,
        )
        outside = torch.from_numpy(np.stack([~np.isin(judged, batch) for batch in group])).to(points.device)
        counts = outside.sum(dim=1).cpu().numpy()
        found.append((right & outside).sum(dim=1).cpu().numpy() / np.maximum(counts, 1))
    return np.concatenate(found)


def heads(
    points: Float32[Tensor, "n dim"],
    targets: Int64[Tensor, " n"],
    labeled: Int64[np.ndarray, " labeled"],
    batches: Int64[np.ndarray, "batches size"],
    *,
    n_classes: int,
) -> Float32[Tensor, "batches dim classes"]:
    """The ridge regression of one-hot labels on the labeled points and each batch: (X'X + n RIDGE I)^-1 X'Y.

    X has the n points of one head as rows and Y their one-hot labels. The sums over the labeled points are shared.
    """

    def sums(rows: Int64[Tensor, "*batches size"]) -> tuple[Tensor, Tensor]:
        chosen = points[rows]
        hot = torch.nn.functional.one_hot(targets[rows], n_classes).to(points.dtype)
        return chosen.mT @ chosen, chosen.mT @ hot

    gram, products = sums(torch.from_numpy(labeled).to(points.device))
    batch_gram, batch_products = sums(torch.from_numpy(batches).to(points.device))
    n_fit = len(labeled) + batches.shape[1]
    ridge = n_fit * RIDGE * torch.eye(points.shape[1], dtype=points.dtype, device=points.device)
    factors = torch.linalg.cholesky(batch_gram.add_(gram).add_(ridge))
    return torch.cholesky_solve(batch_products.add_(products), factors)
