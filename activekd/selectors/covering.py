"""Strategies that cover the pool by balls around labeled images: ProbCover and DCoM."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.sparse import csr_array
from torch import Tensor

from activekd.selectors.lloyd import assigned, k_means
from activekd.selectors.uncertainty import predicted
from activekd.selectors.view import PoolView, unit_rows

GRAPH_ROWS, GRAPH_SHARE = 2**13, 8
"""At least this number of images is drawn from a larger pool, and at least this multiple of the query size."""

DISTANCES = 2**22
"""Distances per step; they bound the temporary memory."""

PURE, PURE_OF = 19, 20
"""A ball is pure if its images share a cluster; at the radius of ProbCover, PURE of PURE_OF balls are."""

CENTER, STEEPNESS = 0.8, 50.0
"""Coverage at the center of DCoM's logistic competence, and its steepness; as in the authors' code."""

LEAST_PURITY, MORE_PURITY = 0.4, 0.2
"""Purity of a ball of DCoM: LEAST_PURITY + MORE_PURITY x coverage; as in the authors' code."""

GROWTH = 2.0
"""Largest radius of DCoM, as a multiple of the radius of ProbCover."""

WHOLE = 2.5
"""Radius of a ball that holds all points of unit norm, wherever its center is."""

INSIDE = 1 - 1e-6
"""Factor on a distance to the first image outside an open ball, so that rounding cannot let that image in."""


@dataclass(frozen=True)
class Points:
    """The images of a graph: the labeled ones, then unlabeled ones in random order.

    Attributes:
        rows: their rows.
        features: of unit norm.
        n_labeled: number of labeled images.
    """

    rows: Int64[np.ndarray, " n"]
    features: Float32[Tensor, "n dim"]
    n_labeled: int


def points_of(view: PoolView, query_size: int, rng: np.random.Generator) -> Points:
    """All labeled images, and all unlabeled images or a uniform sample of a large pool."""
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    drawn = rng.permutation(view.pool.unlabeled)[: max(GRAPH_ROWS, GRAPH_SHARE * query_size)]
    rows = np.concatenate([labeled, drawn])
    return Points(rows, unit_rows(view.features[view.at(rows)]), len(labeled))


def squared_distances(
    left: Float32[Tensor, "n dim"], right: Float32[Tensor, "m dim"]
) -> Iterator[tuple[slice, Float32[Tensor, "some m"]]]:
    """Squared distances between points of unit norm, for a slice of the left ones at a time."""
    size = max(1, DISTANCES // len(right))
    for start in range(0, len(left), size):
        part = left[start : start + size]
        yield slice(start, start + len(part)), torch.addmm(part.new_full((), 2.0), part, right.T, alpha=-2.0)


def pure_radius(points: Float32[Tensor, "n dim"], cluster: Int64[Tensor, " n"]) -> float:
    """The largest radius at which PURE of PURE_OF balls are pure (Yehuda et al. 2022); WHOLE for one cluster.

    The open ball of an image is pure up to its distance to the nearest image of another cluster.
    """
    nearest = torch.cat(
        [
            squared.masked_fill_(cluster[part, None] == cluster, WHOLE**2).amin(dim=1)
            for part, squared in squared_distances(points, points)
        ]
    )
    return INSIDE * float(nearest.topk(-(-PURE * len(points) // PURE_OF)).values[-1].clamp(min=0.0)) ** 0.5


class Balls:
    """The open balls of one radius around all points, as lists of the points inside, and what they add to a cover.

    Attributes:
        gains: number of uncovered points in each ball.
    """

    def __init__(self, points: Float32[Tensor, "n dim"], radius: float) -> None:
        n = len(points)
        ends, inside = [np.zeros(1, dtype=np.int64)], []
        for part, squared in squared_distances(points, points):
            within = squared < radius**2
            within[torch.arange(len(within)), torch.arange(part.start, part.stop)] = True
            ends.append(within.sum(dim=1).cpu().numpy().cumsum() + ends[-1][-1])
            inside.append(within.nonzero()[:, 1].cpu().numpy().astype(np.int32))
        members = np.concatenate(inside)
        lists = csr_array((np.ones(len(members), dtype=np.int8), members, np.concatenate(ends)), shape=(n, n))
        around = lists.T.tocsr()
        self._inside, self._around = (lists.indptr, lists.indices), (around.indptr, around.indices)
        self._covered = np.zeros(n, dtype=bool)
        self.gains: Int64[np.ndarray, " n"] = np.diff(lists.indptr).astype(np.int64)

    def add(self, centers: Int64[np.ndarray, " some"]) -> None:
        """Cover the points in the balls of some points."""
        for inside in listed(*self._inside, centers):
            self.cover(np.unique(inside))

    def cover(self, points: Int64[np.ndarray, " some"]) -> None:
        """Count distinct points as covered."""
        new = points[~self._covered[points]]
        self._covered[new] = True
        for balls in listed(*self._around, new):
            self.gains -= np.bincount(balls, minlength=len(self.gains))


def listed(starts: np.ndarray, members: np.ndarray, lists: Int64[np.ndarray, " some"]) -> Iterator[np.ndarray]:
    """The members of some lists, about DISTANCES at a time; list i is ``members[starts[i] : starts[i + 1]]``."""
    ends = np.cumsum((starts[lists + 1] - starts[lists]).astype(np.int64))
    for some in np.split(lists, np.flatnonzero(np.diff(ends // DISTANCES)) + 1):
        sizes = starts[some + 1] - starts[some]
        before = np.cumsum(sizes) - sizes
        yield members[np.arange(sizes.sum()) + np.repeat(starts[some] - before, sizes)]


def probcover(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """ProbCover (Yehuda et al. 2022): greedily the image whose ball holds the most images that no ball covers yet.

    The balls of the labeled images cover from the start. All balls have the largest radius at which 95% of the balls
    are pure, that is hold images of one cluster alone; k-means on the features gives as many clusters as classes.
    Departures: the features are the student's, L2-normalised, where the paper's are self-supervised, so the radius
    changes with each round. The radius is exact, where the paper searches a grid. A pool that exceeds both GRAPH_ROWS
    and GRAPH_SHARE x the query size is sampled: the larger of these numbers of images is drawn uniformly, to pick from
    and to cover. Ties, also those between images that cover nothing new, go to a random image; in the authors' code
    they go to the lowest row. The graph of the balls is stored as lists, with up to 10 bytes for each image in a ball.
    """
    points = points_of(view, query_size, rng)
    balls = Balls(points.features, _radius(view, points))
    balls.add(np.arange(points.n_labeled))
    free = np.arange(len(points.rows)) >= points.n_labeled
    picks = []
    for _ in range(query_size):
        picks.append(top := int(np.where(free, balls.gains, -1).argmax()))
        free[top] = False
        balls.add(np.array([top]))
    return points.rows[picks]


def dcom(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """DCoM (Mishal & Weinshall 2024): greedily the image with the best mixture of coverage and uncertainty.

    Each labeled image has a ball of its own: the largest that keeps a share of 0.4 + 0.2 x coverage of images that are
    predicted as its class. The share of the pool in these balls is the coverage c; the student's competence is
    S = (1 + exp(-k (1 - a))) / (1 + exp(-k (c - a))) with k = STEEPNESS, a = CENTER. The score of an image is
    S x uncertainty + (1 - S) x gain. The uncertainty is 1 - the margin of its two largest probabilities, scaled to 0
    for the smallest and 1 for the largest; the gain is the number of images that no ball covers yet in its ball, whose
    radius is the mean of those of the labeled images. Both are divided by their largest value among the images that
    are left.

    Departures: the features are the student's, L2-normalised, and change with each round, so the balls of all labeled
    images are computed anew in each query; in the authors' code a ball keeps its radius. The first radius, a parameter
    of theirs, is that of ``probcover``; it gives the coverage from which the purity follows, and no radius exceeds
    GROWTH x the first. A radius is exact, where the authors' code bisects and rounds. Without labels the coverage is 0
    and the radius the first. Ties and a large pool are treated as in ``probcover``.
    """
    points = points_of(view, query_size, rng)
    covered, radius = _labeled_balls(view, points, _radius(view, points))
    balls = Balls(points.features, radius)
    balls.cover(covered)
    top = view.student_probabilities[view.at(points.rows)].topk(min(2, view.n_classes), dim=1).values
    unsure = scaled((top[:, 1:].sum(dim=1) - top[:, 0]).cpu().double().numpy())
    weight = competence(len(covered) / len(points.rows))
    free = np.arange(len(points.rows)) >= points.n_labeled
    picks = []
    for _ in range(query_size):
        score = weight * share(unsure, free) + (1 - weight) * share(balls.gains, free)
        picks.append(best := int(np.where(free, score, -1.0).argmax()))
        free[best] = False
        balls.add(np.array([best]))
    return points.rows[picks]


def _labeled_balls(view: PoolView, points: Points, first: float) -> tuple[Int64[np.ndarray, " covered"], float]:
    """The points in DCoM's balls of the labeled images, and the mean radius of these; ``first`` without labels."""
    labeled = points.features[: points.n_labeled]
    if not len(labeled):
        return np.empty(0, dtype=np.int64), first
    classes = torch.from_numpy(view.labels[points.rows[: points.n_labeled]]).to(view.device)
    by_first = covered_by(labeled, points.features, torch.full_like(labeled[:, 0], first))
    purity = LEAST_PURITY + MORE_PURITY * float(by_first.float().mean())
    classified = predicted(view.student_probabilities[view.at(points.rows)])
    radii = largest_radii(labeled, classes, points.features, classified, purity, GROWTH * first)
    by_own = covered_by(labeled, points.features, radii)
    return np.flatnonzero(by_own.cpu().numpy()), float(radii.mean())


def _radius(view: PoolView, points: Points) -> float:
    """The radius of ProbCover."""
    centres = k_means(points.features, min(view.n_classes, len(points.rows)))
    return pure_radius(points.features, assigned(points.features, centres))


def competence(coverage: float) -> float:
    """DCoM's weight of uncertainty for a coverage from 0 to 1: near 0 below CENTER, 1 for a coverage of 1."""
    return float((1 + np.exp(-STEEPNESS * (1 - CENTER))) / (1 + np.exp(-STEEPNESS * (coverage - CENTER))))


def covered_by(
    centers: Float32[Tensor, "centers dim"], points: Float32[Tensor, "n dim"], radii: Float32[Tensor, " centers"]
) -> Bool[Tensor, " n"]:
    """Whether a point is inside the open ball of a center; the first points are the centers, which always are."""
    covered = torch.arange(len(points), device=points.device) < len(centers)
    for part, squared in squared_distances(centers, points):
        covered |= (squared < radii[part, None].square()).any(dim=0)
    return covered


def largest_radii(
    centers: Float32[Tensor, "centers dim"],
    classes: Int64[Tensor, " centers"],
    points: Float32[Tensor, "n dim"],
    classified: Int64[Tensor, " n"],
    purity: float,
    largest: float,
) -> Float32[Tensor, " centers"]:
    """The largest radius of each center's open ball in which a share of points is predicted as the center's class.

    Args:
        centers: of unit norm.
        classes: their labels.
        points: of unit norm; the first ones are the centers, each in its own ball.
        classified: their predicted classes.
        purity: the share.
        largest: upper bound on a radius.

    Returns:
        0 where no ball is pure enough.
    """
    radii = torch.zeros_like(centers[:, 0])
    counts = torch.arange(1, len(points) + 1, device=points.device)
    for part, squared in squared_distances(centers, points):
        squared.clamp_(min=0.0)[torch.arange(len(squared)), torch.arange(part.start, part.stop)] = 0.0
        ordered = squared.sort(dim=1)
        hits = (classified[ordered.indices] == classes[part, None]).cumsum(dim=1)
        starts = ordered.values.sqrt_()
        ends = INSIDE * torch.cat([starts[:, 1:], torch.full_like(starts[:, :1], WHOLE)], dim=1)
        is_ball = (hits >= purity * counts) & (starts < ends) & (starts < largest)
        bounded = torch.where(is_ball, ends.clamp(max=largest), 0.0)
        radii[part] = bounded.amax(dim=1)
    return radii


def scaled(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Values on a line from 0 for the smallest to 1 for the largest; 0 where all are equal."""
    span = values.max() - values.min()
    return (values - values.min()) / span if span else np.zeros_like(values)


def share(values: np.ndarray, free: Bool[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Values as shares of the largest free one; 0 where that is 0."""
    top = values[free].max()
    return values / top if top else np.zeros(len(values))
