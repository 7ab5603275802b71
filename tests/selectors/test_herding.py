"""MaxHerding and UHerding against cases worked by hand and against a plain form in float64."""

from dataclasses import replace
from math import cos, radians, sin

import numpy as np
import pytest
import torch

from activekd.pool import Pool
from activekd.selectors import herding, selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.herding import calibrated, smallest_distance, uncertainties
from activekd.selectors.query import select
from activekd.selectors.view import PoolView


def unit(*degrees: float) -> torch.Tensor:
    """Points on the unit circle."""
    return torch.tensor([[cos(radians(d)), sin(radians(d))] for d in degrees])


def view_of(features: torch.Tensor, probabilities: torch.Tensor, labels: list[int]) -> PoolView:
    """The first rows are labeled."""
    n, classes = probabilities.shape
    rows = np.array(labels + [-1] * (n - len(labels)))
    arrays = {"features": features, "student_probabilities": probabilities}
    return PoolView(Pool(n, tuple(range(len(labels)))), rows, classes, arrays)


def certain_except(n: int, unsure: list[int]) -> torch.Tensor:
    out = torch.eye(2)[torch.arange(n) % 2]
    out[unsure] = 0.5
    return out


def test_uherding_by_hand() -> None:
    # The labeled rows 0 and 1 are 60 degrees apart: a distance of 1, the width of MaxHerding. Their predictions are
    # right with a confidence of 1, so the temperature stays 1. Rows 2 to 4, close together, are certain and count
    # nothing for UHerding; rows 5 and 6 are unsure. MaxHerding takes the middle of the three.
    features = unit(0, 60, 199, 200, 201, 110, 300)
    view = view_of(features, certain_except(7, [5, 6]), [0, 1])
    by_coverage = select(
        selector("maxherding"), declared(view, selector("maxherding")), 1, rng=np.random.default_rng(0)
    )
    assert by_coverage.tolist() == [3]
    # A pick covers itself with a kernel of 1. Row 5 is 50 degrees from row 1, row 6 is 60 degrees from row 0, so the
    # latter gains more: 1 - exp(-1) against 1 - exp(-0.71). Rows 2 to 4 gain next to nothing.
    rows = select(selector("uherding"), view, 2, rng=np.random.default_rng(0))
    assert rows.tolist() == [6, 5]


def test_a_narrow_width_is_near_margin_sampling() -> None:
    # Two labeled rows 6 degrees apart: width 0.105, so no image covers another; the most unsure one comes first.
    shares = torch.tensor([1.0, 0.0, 0.7, 0.55, 0.9, 0.6])
    view = view_of(unit(0, 6, 60, 120, 180, 240), torch.stack([shares, 1 - shares], dim=1), [0, 1])
    rows = select(selector("uherding"), view, 4, rng=np.random.default_rng(0))
    assert rows.tolist() == [3, 5, 2, 4]


def test_the_width_by_hand() -> None:
    # 60 and 90 degrees: 2 sin 15 degrees; equal points give none.
    assert smallest_distance(unit(0, 0, 60, 90)) == pytest.approx(2 * sin(radians(15)), abs=1e-6)
    assert smallest_distance(unit(40)) == smallest_distance(unit(40, 40)) == smallest_distance(unit()[:0]) == 1.0


def test_the_width_is_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herding, "KERNEL_ROWS", 2)
    assert smallest_distance(unit(0, 100, 200, 300, 50, 210)) == pytest.approx(2 * sin(radians(5)), abs=1e-6)


def test_the_temperature_by_hand() -> None:
    # A confidence of 0.9 has odds of 9. Three of four are right, so calibrated odds are 3 = 9^(1/T): T = 2.
    probabilities = torch.tensor([[0.9, 0.1]]).repeat(4, 1)
    assert calibrated(probabilities, np.array([0, 0, 0, 1])) == 2.0
    # All right: no temperature above 1 helps. Half right: the highest temperature is the nearest to odds of 1.
    assert calibrated(probabilities, np.zeros(4, dtype=np.int64)) == 1.0
    assert calibrated(probabilities, np.array([0, 1, 0, 1])) == herding.TEMPERATURES[-1]
    # One-hot rows do not change with the temperature.
    assert calibrated(torch.eye(3), np.array([0, 1, 0])) == 1.0


def test_bins_hold_confidences_that_cancel_apart() -> None:
    # At T = 1, confidences are 0.9 (right) and 0.6 (wrong) in one of two bins: |1.5 - 1| = 0.5. With four bins they are
    # apart: |0.9 - 1| + |0.6 - 0| = 0.7. Two classes mean two bins; padding with two empty classes makes it four.
    two = torch.tensor([[0.9, 0.1], [0.6, 0.4]])
    labels = np.array([0, 1])
    # Two bins: both sums are equal where 9^(1/T) / (1 + 9^(1/T)) + 1.5^(1/T) / (1 + 1.5^(1/T)) is nearest to 1.
    assert calibrated(two, labels) == herding.TEMPERATURES[-1]
    padded = torch.cat([two, torch.zeros(2, 2)], dim=1)
    errors = []
    for temperature in herding.TEMPERATURES:
        confidence = 1 / (1 + (two[:, 1] / two[:, 0]).double() ** (1 / temperature))
        right, wrong = confidence.tolist()
        apart = (right > 0.75) != (wrong > 0.75)
        errors.append(abs(right - 1) + wrong if apart else abs(right + wrong - 1))
    assert calibrated(padded, labels) == herding.TEMPERATURES[int(np.argmin(errors))]


def test_uncertainty_is_one_minus_the_margin_at_the_temperature() -> None:
    # T = 2 as above: probabilities 0.64 and 0.04 of three classes become 0.8 : 0.2, next to a class without mass.
    probabilities = torch.tensor([[0.9, 0.1, 0.0]] * 4 + [[0.64 / 0.68, 0.04 / 0.68, 0.0], [0.5, 0.5, 0.0]])
    view = view_of(torch.ones(6, 2), probabilities, [0, 0, 0, 1])
    torch.testing.assert_close(uncertainties(view, np.array([4, 5])), torch.tensor([0.4, 1.0]))
    torch.testing.assert_close(uncertainties(replace(view, pool=Pool(6)), np.array([4])), torch.ones(1))


def plain_herding(
    features: np.ndarray, rows: np.ndarray, targets: np.ndarray, labeled: list[int], width: float, u: np.ndarray, k: int
) -> list[int]:
    """The definition in float64: the whole kernel, all gains anew for each pick."""
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    kernel = np.exp(-((x[rows][:, None] - x[targets][None]) ** 2).sum(axis=2) / width**2)
    best = np.zeros(len(targets))
    for row in labeled:
        best = np.maximum(best, np.exp(-((x[row] - x[targets]) ** 2).sum(axis=1) / width**2))
    picks = []
    for _ in range(k):
        gains = (u * np.maximum(kernel - best, 0)).mean(axis=1)
        gains[picks] = -1
        picks.append(int(gains.argmax()))
        best = np.maximum(best, kernel[picks[-1]])
    return rows[picks].tolist()


def plain_uncertainty(view: PoolView, labeled: list[int], targets: np.ndarray) -> np.ndarray:
    """1 - margin at the temperature with the smallest expected calibration error, by loops."""
    p = view.student_probabilities.double().numpy()
    errors, classes = [], view.n_classes
    for temperature in np.arange(1.0, 20.0, 0.1):
        bins: dict[int, list[float]] = {}
        for row in labeled:
            q = p[row] ** (1 / temperature)
            confidence = q.max() / q.sum()
            place = int(np.ceil(confidence * classes))
            bins.setdefault(place, []).append(confidence - (p[row].argmax() == view.labels[row]))
        errors.append(sum(abs(sum(gaps)) for gaps in bins.values()) / len(labeled))
    q = p[targets] ** (1 / np.arange(1.0, 20.0, 0.1)[int(np.argmin(errors))])
    top = np.sort(q / q.sum(axis=1, keepdims=True), axis=1)
    return 1 - (top[:, -1] - top[:, -2])


def plain_width(features: np.ndarray, labeled: list[int]) -> float:
    x = features[labeled] / np.linalg.norm(features[labeled], axis=1, keepdims=True)
    return min(float(np.linalg.norm(a - b)) for i, a in enumerate(x) for b in x[:i])


@pytest.mark.parametrize("seed", range(6))
def test_uherding_equals_the_plain_form(seed: int) -> None:
    view = made_up_view(seed, n=150, classes=5, dim=8, labeled=12)
    labeled = list(view.pool.labeled)
    features, free = view.features.double().numpy(), view.pool.unlabeled
    expected = plain_herding(
        features, free, free, labeled, plain_width(features, labeled), plain_uncertainty(view, labeled, free), 40
    )
    assert select(selector("uherding"), view, 40, rng=np.random.default_rng(0)).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["maxherding", "uherding"])
def test_without_labels_both_are_maxherding(name: str, seed: int) -> None:
    view = made_up_view(seed, n=120, dim=8, labeled=0)
    free = np.arange(120)
    # Later, two images that are nearest to each other have equal gains, between which rounding decides.
    expected = plain_herding(view.features.double().numpy(), free, free, [], 1.0, np.ones(120), 15)
    assert select(selector(name), view, 15, rng=np.random.default_rng(0)).tolist() == expected


def test_a_large_pool_is_sampled_for_candidates_and_targets_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herding, "HERDING_ROWS", 60)
    view = made_up_view(1, n=400, classes=5, dim=8, labeled=12)
    labeled, draws = list(view.pool.labeled), np.random.default_rng(7)
    rows, targets = (np.sort(draws.choice(view.pool.unlabeled, size=60, replace=False)) for _ in range(2))
    features = view.features.double().numpy()
    u = plain_uncertainty(view, labeled, targets)
    expected = plain_herding(features, rows, targets, labeled, plain_width(features, labeled), u, 7)
    assert select(selector("uherding"), view, 7, rng=np.random.default_rng(7)).tolist() == expected


def test_no_uncertainty_and_equal_images_leave_the_lowest_rows() -> None:
    view = view_of(torch.ones(8, 3), torch.eye(2)[torch.arange(8) % 2], [0, 1])
    assert select(selector("uherding"), view, 3, rng=np.random.default_rng(0)).tolist() == [2, 3, 4]
