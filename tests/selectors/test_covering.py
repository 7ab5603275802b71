"""ProbCover and DCoM against cases worked by hand and against plain forms in float64."""

from math import cos, exp, radians, sin

import numpy as np
import pytest
import torch
from test_lloyd import plain_k_means

from activekd.pool import Pool
from activekd.selectors import covering, selector
from activekd.selectors.contract import made_up_view
from activekd.selectors.covering import (
    CENTER,
    WHOLE,
    Balls,
    competence,
    covered_by,
    largest_radii,
    listed,
    pure_radius,
    scaled,
    share,
)
from activekd.selectors.query import select
from activekd.selectors.view import PoolView


def unit(*degrees: float) -> torch.Tensor:
    """Points on the unit circle."""
    return torch.tensor([[cos(radians(d)), sin(radians(d))] for d in degrees])


def chord(degrees: float) -> float:
    """The distance between points of the unit circle that are so many degrees apart."""
    return 2 * sin(radians(degrees / 2))


def view_of(features: torch.Tensor, labels: list[int], probabilities: torch.Tensor | None = None) -> PoolView:
    """A pool of two classes; the first rows are labeled."""
    n = len(features)
    rows = np.array(labels + [-1] * (n - len(labels)))
    arrays = {"features": features, "student_probabilities": torch.full((n, 2), 0.5)}
    if probabilities is not None:
        arrays["student_probabilities"] = probabilities
    return PoolView(Pool(n, tuple(range(len(labels)))), rows, 2, arrays)


def picks_of(name: str, view: PoolView, k: int, seed: int = 0) -> list[int]:
    return select(selector(name), view, k, rng=np.random.default_rng(seed)).tolist()


def test_the_radius_by_hand() -> None:
    # Two images of different clusters 10 degrees apart; of each cluster, others 90 degrees further out. Distances to
    # the other cluster: twice 10, then 80 for those at 90 degrees, then 90. Of 20 images one may be impure, so the
    # radius is at 10 degrees; of 40 two may, so both, and it is at 80.
    for n, degrees in ((9, 10), (19, 80)):
        points = unit(0, *[90] * n, 10, *[180] * n)
        cluster = torch.tensor([0] * (n + 1) + [1] * (n + 1))
        assert pure_radius(points, cluster) == pytest.approx(chord(degrees), rel=1e-4)
    assert pure_radius(points, torch.zeros_like(cluster)) == pytest.approx(WHOLE, rel=1e-4)


def test_balls_by_hand() -> None:
    # Radius at 15 degrees: 0 and 10 see each other, 10 and 20 too, 90 is alone.
    balls = Balls(unit(0, 10, 20, 90), chord(15))
    assert balls.gains.tolist() == [2, 3, 2, 1]
    balls.add(np.array([0]))
    assert balls.gains.tolist() == [0, 1, 1, 1]
    balls.cover(np.array([1, 2]))
    assert balls.gains.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("distances", [4, 8, 1000])
def test_no_edges_leave_each_image_its_own_ball(distances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covering, "DISTANCES", distances)
    balls = Balls(unit(0, 0, 0, 90), 0.0)
    assert balls.gains.tolist() == [1, 1, 1, 1]
    balls.add(np.array([1, 3]))
    assert balls.gains.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("distances", [1, 4, 1000])
def test_lists_are_read_in_steps(distances: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covering, "DISTANCES", distances)
    starts, members = np.array([0, 2, 2, 5, 6]), np.array([10, 11, 30, 31, 32, 40])
    steps = [step.tolist() for step in listed(starts, members, np.array([3, 0, 1, 2]))]
    assert [member for step in steps for member in step] == [40, 10, 11, 30, 31, 32]
    assert len(steps) == {1: 3, 4: 2, 1000: 1}[distances]
    assert [step.tolist() for step in listed(starts, members, np.array([], dtype=np.int64))] == [[]]


def test_probcover_by_hand() -> None:
    # k-means finds four images around 3 degrees and two around 91. All six must be pure (95% of 6 is 5.7), so the
    # radius ends before 84 degrees, between 6 and 90: each ball holds its cluster. One of the larger cluster comes
    # first, at random, then one of the other, and then nothing is left to cover.
    view = view_of(unit(0, 2, 4, 6, 90, 92), [])
    draws = [picks_of("probcover", view, 6, seed) for seed in range(40)]
    assert {first for first, *_ in draws} == {0, 1, 2, 3}
    assert {second for _, second, *_ in draws} == {4, 5}
    assert all(sorted(rows) == list(range(6)) for rows in draws)
    # A label in the larger cluster covers it.
    labeled = view_of(unit(0, 2, 4, 6, 90, 92), [0])
    assert {picks_of("probcover", labeled, 2, seed)[0] for seed in range(20)} == {4, 5}


def plain_points(view: PoolView, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows in the order of the draws, their distances, and the radius by a search over all of them."""
    drawn = np.random.default_rng(seed).permutation(view.pool.unlabeled)[: max(covering.GRAPH_ROWS, 8 * k)]
    rows = np.concatenate([np.asarray(view.pool.labeled, dtype=np.int64), drawn])
    x = view.features.double().numpy()[rows]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    distances = np.linalg.norm(x[:, None] - x[None], axis=2)
    cluster = plain_k_means(x, view.n_classes)
    other = cluster[:, None] != cluster[None]
    radius = 0.0
    for delta in np.unique(distances):
        impure = ((distances < delta) & other).any(axis=1)
        if (~impure).mean() >= 0.95:
            radius = float(delta)
    return rows, distances, radius


def plain_probcover(view: PoolView, k: int, seed: int) -> list[int]:
    rows, distances, radius = plain_points(view, k, seed)
    n_labeled = len(view.pool.labeled)
    ball = distances < radius
    covered = ball[:n_labeled].any(axis=0)
    picks: list[int] = []
    for _ in range(k):
        gains = [int((ball[i] & ~covered).sum()) if i not in picks else -1 for i in range(n_labeled, len(rows))]
        picks.append(n_labeled + int(np.argmax(gains)))
        covered |= ball[picks[-1]]
    return rows[picks].tolist()


@pytest.mark.parametrize("labeled", [0, 1, 12])
@pytest.mark.parametrize("seed", range(3))
def test_probcover_equals_the_plain_form(seed: int, labeled: int) -> None:
    view = made_up_view(seed, n=120, classes=4, dim=3, labeled=labeled)
    assert picks_of("probcover", view, 60, seed) == plain_probcover(view, 60, seed)


@pytest.mark.parametrize("name", ["probcover", "dcom"])
def test_a_large_pool_is_sampled_and_blocks_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covering, "GRAPH_ROWS", 50)
    view = made_up_view(2, n=300, classes=4, dim=3, labeled=12)
    plain = plain_probcover if name == "probcover" else plain_dcom
    expected = plain(view, 6, 5)
    assert picks_of(name, view, 6, 5) == expected
    monkeypatch.setattr(covering, "DISTANCES", 100)
    assert picks_of(name, view, 6, 5) == expected


def test_competence_by_hand() -> None:
    assert competence(1.0) == 1.0
    assert competence(CENTER) == pytest.approx((1 + exp(-10)) / 2)
    assert competence(0.0) < 1e-15


def test_the_balls_of_labels_by_hand() -> None:
    # Class 0 at 0 degrees, where points at 0, 10 and 30 degrees are predicted as 0, those at 20 and 60 as 1. Shares of
    # the balls that end before 10, 20, 30, 60 and hold all: 1, 1, 2/3, 3/4, 3/5.
    points, classified = unit(0, 10, 20, 30, 60), torch.tensor([0, 0, 1, 0, 1])
    center, label = points[:1], torch.tensor([0])

    def radius(purity: float, largest: float = 2.0) -> float:
        return float(largest_radii(center, label, points, classified, purity, largest)[0])

    assert radius(0.8) == pytest.approx(chord(20), rel=1e-4)
    assert radius(0.7) == pytest.approx(chord(60), rel=1e-4)
    assert radius(0.7, largest=0.3) == pytest.approx(0.3)
    assert radius(0.6) == pytest.approx(2.0)
    # Predicted as another class, the image itself spoils the smallest balls: 0, 1/2, 1/3, 1/2, 2/5.
    wrong = torch.tensor([1, 0, 1, 0, 1])
    assert float(largest_radii(center, label, points, wrong, 0.6, 2.0)[0]) == 0.0
    assert float(largest_radii(center, label, points, wrong, 0.5, 2.0)[0]) == pytest.approx(chord(60), rel=1e-4)
    # Open balls: 20 degrees is not inside, and a radius of 0 still covers the image itself.
    assert covered_by(center, points, torch.tensor([chord(20) * 0.999])).tolist() == [True, True, False, False, False]
    assert covered_by(center, points, torch.zeros(1)).tolist() == [True, False, False, False, False]


def test_scales_by_hand() -> None:
    assert scaled(np.array([1.0, 3.0, 2.0])).tolist() == [0.0, 1.0, 0.5]
    assert scaled(np.ones(2)).tolist() == [0.0, 0.0]
    assert share(np.array([8, 2, 4]), np.array([False, True, True])).tolist() == [2.0, 0.5, 1.0]
    assert share(np.zeros(2), np.array([True, True])).tolist() == [0.0, 0.0]


def test_dcom_without_coverage_covers_and_with_it_takes_the_unsure() -> None:
    # The pool of ProbCover's case, all predicted as class 1. The label of row 0 is class 0, so its ball and with it the
    # radius of all balls is 0; coverage is 1/6 and the competence next to 0. All gains are 1, and margins decide.
    shares = torch.tensor([0.1, 0.1, 0.2, 0.3, 0.4, 0.05])
    wrong = view_of(unit(0, 2, 4, 6, 90, 92), [0], torch.stack([shares, 1 - shares], dim=1))
    assert picks_of("dcom", wrong, 5) == [4, 3, 2, 1, 5]
    # Right about a label in either cluster: both balls are whole, coverage and competence are 1, margins decide.
    shares = torch.tensor([0.9, 0.1, 0.9, 0.8, 0.7, 0.05])
    features = unit(0, 90, 2, 4, 6, 92)
    right = view_of(features, [0, 1], torch.stack([shares, 1 - shares], dim=1))
    assert picks_of("dcom", right, 4) == [4, 3, 2, 5]
    # Without labels it is ProbCover.
    none = view_of(features, [])
    assert picks_of("dcom", none, 2, 3) == picks_of("probcover", none, 2, 3)


def plain_dcom(view: PoolView, k: int, seed: int) -> list[int]:
    """DCoM from its definition: every radius by a search over all distances."""
    rows, distances, first = plain_points(view, k, seed)
    n_labeled, n = len(view.pool.labeled), len(rows)
    p = view.student_probabilities.double().numpy()[rows]

    def inside(radii: list[float]) -> np.ndarray:
        covered = np.arange(n) < n_labeled
        for i, radius in enumerate(radii):
            covered |= distances[i] < radius
        return covered

    covered, radius = np.zeros(n, dtype=bool), first
    if n_labeled:
        purity = 0.4 + 0.2 * inside([first] * n_labeled).mean()
        radii = []
        for i in range(n_labeled):
            agree = p.argmax(axis=1) == view.labels[rows[i]]
            ends = [d for d in [*np.unique(distances[i])[1:], np.inf] if agree[distances[i] < d].mean() >= purity]
            starts = [max(distances[i][distances[i] < d]) for d in ends]
            radii.append(max([min(d, 2 * first) for d, s in zip(ends, starts, strict=True) if s < 2 * first] or [0.0]))
        covered, radius = inside(radii), float(np.mean(radii))
    weight = (1 + np.exp(-10)) / (1 + np.exp(-50 * (covered.mean() - 0.8)))
    top = np.sort(p, axis=1)
    unsure = 1 - (top[:, -1] - top[:, -2])
    unsure = (unsure - unsure.min()) / (unsure.max() - unsure.min())
    ball = (distances < radius) | np.eye(n, dtype=bool)
    picks: list[int] = []
    for _ in range(k):
        free = np.setdiff1d(np.arange(n_labeled, n), picks)
        gains = (ball & ~covered).sum(axis=1)
        gain = gains / max(1, gains[free].max())
        score = weight * unsure / unsure[free].max() + (1 - weight) * gain
        picks.append(int(free[score[free].argmax()]))
        covered |= ball[picks[-1]]
    return rows[picks].tolist()


@pytest.mark.parametrize("labeled", [0, 1, 12, 60])
@pytest.mark.parametrize("seed", range(3))
def test_dcom_equals_the_plain_form(seed: int, labeled: int) -> None:
    view = made_up_view(seed, n=120, classes=4, dim=3, labeled=labeled)
    assert picks_of("dcom", view, 50, seed) == plain_dcom(view, 50, seed)


@pytest.mark.parametrize("name", ["probcover", "dcom"])
def test_equal_images_are_covered_by_one(name: str) -> None:
    view = view_of(torch.ones(9, 3), [0, 1])
    assert sorted(picks_of(name, view, 7)) == list(range(2, 9))
