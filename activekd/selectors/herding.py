"""Greedy coverage by a Gaussian kernel: MaxHerding, and Uncertainty Herding, which weighs the images to cover."""

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from activekd.selectors.uncertainty import predicted
from activekd.selectors.view import PoolView, subsample, unit_rows

HERDING_ROWS, HERDING_SHARE = 4096, 8
"""At least this number of images is drawn from a larger pool, and at least this multiple of the query size."""

KERNEL_ROWS, KERNEL_NUMBERS = 512, 2**22
"""Rows, and numbers, of a kernel matrix per step; they bound the temporary memory."""

WIDTH, LEAST_WIDTH = 1.0, 0.05
"""Width of MaxHerding's kernel, and the smallest width of UHerding's, which float32 still resolves."""

EQUAL = 1e-5
"""Points of unit norm at a smaller squared distance count as equal."""

TEMPERATURES = np.arange(10, 200) / 10
"""Temperatures that UHerding tries: 1 to 19.9 in steps of 0.1."""


def maxherding(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """MaxHerding (Bae et al. 2024): greedily the image that most raises the generalised coverage of the pool.

    The coverage is the mean over the unlabeled images of the largest Gaussian kernel, of width 1 on L2-normalised
    features, to a labeled or picked image. Departures: the features are the student's; a pool that exceeds both
    HERDING_ROWS and HERDING_SHARE x the query size is sampled: the larger of these numbers of images is drawn uniformly
    as candidates and, independently, as the images to cover. Ties go to the lowest row. A pick lowers the gains of the
    others only at the images to which it is the nearest, so gains are updated there alone, in float64 sums; no kernel
    matrix is stored.
    """
    rows, targets = _drawn(view, query_size, rng), _drawn(view, query_size, rng)
    weights = torch.ones(len(targets), device=view.device)
    return rows[_herded(view, rows, targets, _labeled(view), query_size, WIDTH, weights)]


def uherding(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """UHerding (Bae et al. 2025): greedily the image that most raises the uncertainty coverage of the pool.

    The uncertainty coverage is the mean over the unlabeled images of u x the largest kernel exp(-|x - y|^2 / s^2), on
    L2-normalised features, to a labeled or picked image. u is 1 - the margin of the two largest probabilities at the
    calibrated temperature. The width s is the smallest distance between two labeled images: with few labels it is
    large and UHerding is near MaxHerding, with many it is small and UHerding is near margin sampling. Without labels u
    and s are 1, which is MaxHerding.

    Departures: as in ``maxherding``, the features are the student's and a large pool is sampled. The paper calibrates
    a second model, trained on a part of the labels, on the others; here the temperature of the student is calibrated
    on all labeled images, which it has learnt, and is often 1. The temperature applies to the logarithm of the
    predicted mixture of both heads. Equal labeled images, at a squared distance below EQUAL, give no width; with a
    single distinct labeled image s is 1. s is at least LEAST_WIDTH. Ties go to the lowest row.
    """
    rows, targets, labeled = _drawn(view, query_size, rng), _drawn(view, query_size, rng), _labeled(view)
    width = max(LEAST_WIDTH, smallest_distance(unit_rows(view.features[view.at(labeled)])))
    return rows[_herded(view, rows, targets, labeled, query_size, width, uncertainties(view, targets))]


def _labeled(view: PoolView) -> Int64[np.ndarray, " labeled"]:
    return np.asarray(view.pool.labeled, dtype=np.int64)


def _drawn(view: PoolView, query_size: int, rng: np.random.Generator) -> Int64[np.ndarray, " drawn"]:
    """The unlabeled rows, or a sorted uniform sample of a large pool."""
    return subsample(view.pool.unlabeled, max(HERDING_ROWS, HERDING_SHARE * query_size), rng=rng)


def _herded(
    view: PoolView,
    rows: Int64[np.ndarray, " candidates"],
    targets: Int64[np.ndarray, " covered"],
    labeled: Int64[np.ndarray, " labeled"],
    query_size: int,
    width: float,
    weights: Float32[Tensor, " covered"],
) -> list[int]:
    """Positions in ``rows`` that greedily maximise the weighted coverage of the targets."""
    candidates, covered, centers = (unit_rows(view.features[view.at(some)]) for some in (rows, targets, labeled))
    best = torch.zeros(len(covered), device=view.device)
    for start in range(0, len(centers), KERNEL_ROWS):
        best = torch.maximum(best, gaussian(centers[start : start + KERNEL_ROWS], covered, width).amax(dim=0))
    gain = torch.cat(
        [
            gaussian(some, covered, width).sub_(best).relu_().mul_(weights).sum(dim=1, dtype=torch.float64)
            for some in candidates.split(KERNEL_ROWS)
        ]
    )
    picks: list[int] = []
    while True:
        picks.append(top := int(gain.argmax()))
        if len(picks) == query_size:
            return picks
        gain[top] = -torch.inf
        kernel = gaussian(candidates[top : top + 1], covered, width)[0]
        for nearer in torch.nonzero(kernel > best).squeeze(1).split(max(1, KERNEL_NUMBERS // len(rows))):
            lost = torch.minimum(gaussian(candidates, covered[nearer], width), kernel[nearer])
            gain -= lost.sub_(best[nearer]).relu_().mul_(weights[nearer]).sum(dim=1, dtype=torch.float64)
        best = torch.maximum(best, kernel)


def gaussian(
    left: Float32[Tensor, "n dim"], right: Float32[Tensor, "m dim"], width: float = WIDTH
) -> Float32[Tensor, "n m"]:
    """The kernel exp(-|x - y|^2 / width^2) of points of unit norm."""
    return (2 * left @ right.T).sub_(2.0).div_(width**2).exp_()


def smallest_distance(points: Float32[Tensor, "n dim"]) -> float:
    """The smallest distance between two distinct points of unit norm; WIDTH where none differ."""
    least = torch.inf
    for start in range(0, len(points), KERNEL_ROWS):
        squared = 2 - 2 * points[start : start + KERNEL_ROWS] @ points.T
        least = min(least, float(torch.where(squared < EQUAL, torch.inf, squared).min()))
    return least**0.5 if least < torch.inf else WIDTH


def uncertainties(view: PoolView, rows: Int64[np.ndarray, " rows"]) -> Float32[Tensor, " rows"]:
    """1 - the margin of the two largest probabilities of rows at the calibrated temperature; 1 without labels."""
    labeled = _labeled(view)
    probabilities = view.student_probabilities[view.at(rows)]
    if not len(labeled):
        return torch.ones(len(rows), device=view.device)
    temperature = calibrated(view.student_probabilities[view.at(labeled)], view.labels[labeled])
    top = probabilities.log().div_(temperature).softmax(dim=1).topk(min(2, view.n_classes), dim=1).values
    return 1 - (top[:, 0] - top[:, 1:].sum(dim=1))


def calibrated(probabilities: Float32[Tensor, "n classes"], labels: Int64[np.ndarray, " n"]) -> float:
    """The temperature with the smallest expected calibration error on labeled images; ties go to the lowest.

    The error (Naeini et al. 2015) is the mean over images, by bins of the confidence, of the absolute difference of
    confidence and accuracy; there are as many bins of equal width as classes, as in the authors' code.

    Args:
        probabilities: at temperature 1; a temperature T makes them proportional to p^(1/T).
        labels: of the same images.
    """
    bins = probabilities.shape[1]
    correct = torch.from_numpy(predicted(probabilities).cpu().numpy() == labels)
    logs = probabilities.cpu().double().log_()
    logs -= logs.amax(dim=1, keepdim=True)

    def error(temperature: float) -> float:
        confidence: Float64[Tensor, " n"] = 1 / (logs / temperature).exp_().sum(dim=1)
        places = (confidence * bins).ceil_().long().sub_(1).clamp_(0, bins - 1)
        gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, places, confidence - correct.double())
        return float(gaps.abs().sum())

    return float(min(TEMPERATURES, key=error))
