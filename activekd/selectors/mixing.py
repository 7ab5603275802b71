"""Strategies that change features and look whether the student's head still predicts the same class."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.losses import mixture
from activekd.selectors.clusters import central, sampled
from activekd.selectors.uncertainty import predicted
from activekd.selectors.view import PoolView, StudentHead, rows_at_once, unit_rows

CHUNK = 2048
"""Rows per step of a pass through the head; bounds its temporary memory."""

PASSES, KEPT = 3, 0.25
"""Passes of DropQuery, and the share of the features that each of them keeps."""

STEP, CAPS = 0.2, 5
"""ALFA-Mix's step is STEP / sqrt(width) of the distance to the anchor, then 2 x as far, up to CAPS x."""


def dropquery(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """DropQuery (Gupte et al. 2024): images whose predicted class flips under dropout, one of each cluster of them.

    Three times, 75% of the features of an image are set to 0 and the others multiplied by 4. The candidates are the
    images whose class differs from that of the whole features in more than half of these passes. They are clustered
    by k-means on L2-normalised features, with one cluster for each pick, and the image nearest to each centre is
    picked. Departures: the class is that of the mixture of both heads. Where the candidates are fewer than the query,
    which the paper leaves open, all are picked, then images that flip once, clustered likewise, then images drawn
    uniformly from those that never flip. k-means clusters a uniform sample of the candidates where they exceed both
    SAMPLED_ROWS and SAMPLED_SHARE x the query size; every image passes through the head.
    """
    unlabeled, head = view.pool.unlabeled, _head(view)
    flips = np.concatenate([flips_of(head, view.features[view.at(rows)], rng) for rows in _parts(view)])
    often = 2 * flips > PASSES
    return _chosen(view, [unlabeled[often], unlabeled[(flips > 0) & ~often]], query_size, rng)


def flips_of(head: StudentHead, features: Tensor, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """In how many passes with dropout the predicted class differs."""
    n, dim = features.shape
    kept = torch.from_numpy(rng.random((n, PASSES, dim), dtype=np.float32) < KEPT).to(features.device)
    classes = predicted(head.probabilities(features))
    changed = [predicted(head.probabilities(features * kept[:, i] / KEPT)) != classes for i in range(PASSES)]
    return torch.stack(changed).sum(dim=0).cpu().numpy()


def alfamix(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """ALFA-Mix (Parvaneh et al. 2022): images whose class flips when their features are mixed with those of a class.

    An anchor is the mean feature of the labeled images of a class; a class without labels has the mean of all. Each
    feature z moves towards an anchor a by the paper's closed form, one share for each dimension: alpha = e |a - z| /
    |g| x g / (a - z), where g is the gradient of the cross-entropy of the predicted class and e = STEP / sqrt(width).
    The division cancels: z + alpha (a - z) = z + e |a - z| g / |g|. All anchors lie on one ray, at different distances.
    With one softmax head the logits are linear along it, so a class that is lost stays lost and the farthest anchor
    decides for all: the cost is that of three passes through the head, for any number of classes. As in the authors'
    code, e grows up to CAPS x until the candidates are more than the query; k-means on L2-normalised features then
    picks the image nearest to each centre, and a lack is filled with images drawn uniformly.

    Departures: the prediction is the mixture of both heads, and g its gradient. Such a class may come back along the
    ray, so an image that flips at nearer anchors alone is missed; it is exact where the label head predicts alone.
    k-means clusters a uniform sample of the candidates where they exceed both SAMPLED_ROWS and SAMPLED_SHARE x the
    query size. Without any label all images are drawn uniformly.
    """
    unlabeled, anchors = view.pool.unlabeled, _anchors(view)
    if anchors is None:
        return _chosen(view, [], query_size, rng)
    head = _head(view)
    caps = np.concatenate([caps_of(head, view.features[view.at(rows)], anchors) for rows in _parts(view)])
    cap = next((cap for cap in range(1, CAPS) if (caps <= cap).sum() > query_size), CAPS)
    return _chosen(view, [unlabeled[caps <= cap]], query_size, rng)


def _anchors(view: PoolView) -> Tensor | None:
    """Mean features of the labeled images of each class, and of all where a class has none; None without labels."""
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    if not len(labeled):
        return None
    features = view.features[view.at(labeled)].cpu()
    classes, place = np.unique(view.labels[labeled], return_inverse=True)
    sums = torch.zeros(len(classes), features.shape[1]).index_add_(0, torch.from_numpy(place), features)
    means = sums / torch.from_numpy(np.bincount(place).astype(np.float32))[:, None]
    every = means if len(classes) == view.n_classes else torch.cat([means, features.mean(dim=0, keepdim=True)])
    return every.to(view.device)


def caps_of(head: StudentHead, features: Tensor, anchors: Tensor) -> Int64[np.ndarray, " n"]:
    """The smallest multiple of the step that flips the class of each image; CAPS + 1 where none does."""
    logits = [torch.addmm(bias, features, weight.T) for weight, bias in zip(head.weights, head.biases, strict=True)]
    classes = predicted(_mixed(head, logits))
    ray = unit_rows(gradients(head, logits, classes))
    slopes = [ray @ weight.T for weight in head.weights]
    step = torch.cdist(features, anchors).amax(dim=1, keepdim=True) * (STEP / features.shape[1] ** 0.5)
    caps = torch.full_like(classes, CAPS + 1)
    for cap in range(CAPS, 0, -1):
        moved = [torch.addcmul(start, cap * step, slope) for start, slope in zip(logits, slopes, strict=True)]
        caps[predicted(_mixed(head, moved)) != classes] = cap
    return caps.cpu().numpy()


def _mixed(head: StudentHead, logits: Sequence[Tensor]) -> Tensor:
    label, distill = logits
    return mixture(label, distill, label_weight=head.label_weight, distill_temperature=head.distill_temperature)


def gradients(head: StudentHead, logits: Sequence[Tensor], classes: Tensor) -> Float32[Tensor, "n dim"]:
    """The gradient of -p_y with respect to the features, y the predicted class: that of -log p_y but for its length.

    p = a s + (1 - a) t with the softmax s of the label head and t of the distill head at temperature T, so the
    gradient is a s_y (sum_c s_c W_c - W_y) + (1 - a) / T t_y (sum_c t_c V_c - V_y). s_y - 1 is the negative sum of the
    others, which float32 holds where s_y rounds to 1.
    """
    total = torch.zeros_like(logits[0][:, :1])
    for weight, share, temperature, each in zip(
        head.weights,
        (head.label_weight, 1 - head.label_weight),
        (1.0, head.distill_temperature),
        logits,
        strict=True,
    ):
        if share:
            errors = (each / temperature).softmax(dim=1)
            factor = share / temperature * errors.gather(1, classes[:, None])
            errors.scatter_(1, classes[:, None], 0.0)
            errors.scatter_(1, classes[:, None], -errors.sum(dim=1, keepdim=True))
            total = total + factor * (errors @ weight)
    return total


def _head(view: PoolView) -> StudentHead:
    """The student's head on the device of the features."""
    head = view.student_head
    return replace(head, weights=head.weights.to(view.device), biases=head.biases.to(view.device))


def _parts(view: PoolView) -> Iterator[Int64[np.ndarray, " rows"]]:
    """The unlabeled rows in steps."""
    size = rows_at_once(CHUNK, view.device)
    for start in range(0, len(view.pool.unlabeled), size):
        yield view.pool.unlabeled[start : start + size]


def _chosen(
    view: PoolView, levels: Sequence[Int64[np.ndarray, " rows"]], query_size: int, rng: np.random.Generator
) -> Int64[np.ndarray, " query_size"]:
    """All rows of each level while they fit, then the central rows of one, then uniformly drawn unlabeled rows."""
    picks = np.empty(0, dtype=np.int64)
    for rows in levels:
        left = query_size - len(picks)
        if len(rows) > left:
            some = sampled(rows, left, rng=rng)
            rows = some[central(unit_rows(view.features[view.at(some)]), left, rng=rng)] if left else rows[:0]
        picks = np.concatenate([picks, rows])
    rest = np.setdiff1d(view.pool.unlabeled, picks, assume_unique=True)
    return np.concatenate([picks, rng.choice(rest, size=query_size - len(picks), replace=False)])
