"""FALCUN against cases worked by hand and against a plain form in float64 that consumes the same draws."""

import numpy as np
import pytest
import torch

from activekd.pool import Pool
from activekd.selectors import falcun as module
from activekd.selectors import selector
from activekd.selectors.falcun import NearestPicks, falcun
from activekd.selectors.query import select
from activekd.selectors.view import PoolView

KINDS = ["flat", "peaked", "one-hot", "duplicates"]


def made_up_probabilities(kind: str, n: int, classes: int, seed: int) -> torch.Tensor:
    """Multiples of 1/1024, of which float32 takes exact differences."""
    rng = np.random.default_rng(seed)
    concentration = {"flat": 50.0, "peaked": 0.05}.get(kind, 1.0)
    rows = rng.multinomial(1024, rng.dirichlet(np.full(classes, concentration), size=n)) / 1024
    if kind == "one-hot":
        rows = np.eye(classes)[rows.argmax(axis=1)]
    if kind == "duplicates":
        rows = rows[rng.integers(max(1, n // 6), size=n)]
    return torch.from_numpy(rows).float()


def view_of(probabilities: torch.Tensor, labeled: tuple[int, ...] = ()) -> PoolView:
    n, classes = probabilities.shape
    labels = np.full(n, -1)
    labels[list(labeled)] = np.arange(len(labeled)) % classes
    return PoolView(Pool(n, labeled), labels, classes, {"student_probabilities": probabilities})


def plain_falcun(view: PoolView, query_size: int, rng: np.random.Generator) -> list[int]:
    """One row at a time, in float64."""
    p = view.student_probabilities.double().numpy()
    top = np.sort(p, axis=1)[:, ::-1]
    uncertainty = 1 - (top[:, 0] - top[:, 1])
    diversity = list(uncertainty)
    left = view.pool.unlabeled.tolist()
    picks: list[int] = []
    for _ in range(query_size):
        chances = np.zeros(len(p))
        low, high = min(diversity[row] for row in left), max(diversity[row] for row in left)
        for row in left:
            scaled = (diversity[row] - low) / (high - low) if high > low else 0.0
            chances[row] = (scaled + uncertainty[row]) ** 10 if high > 0 else 1.0
        row = int(rng.choice(len(p), p=chances / chances.sum()))
        picks.append(row)
        left.remove(row)
        for other in left:
            diversity[other] = min(diversity[other], sum(abs(a - b) for a, b in zip(p[other], p[row], strict=True)))
    return picks


def test_the_chance_of_the_first_draw_by_hand() -> None:
    # Uncertainties 1, 0.9 and 0; scaled to [0, 1] they are the same, so relevance is 2, 1.8 and 0. To the power of 10
    # the first row has 1 / (1 + 0.9^10) = 0.741 of the draws and the last row none.
    view = view_of(torch.tensor([[0.5, 0.5], [0.55, 0.45], [1.0, 0.0]]))
    first = [int(falcun(view, 1, rng=np.random.default_rng(seed))[0]) for seed in range(1000)]
    assert np.mean(np.array(first) == 0) == pytest.approx(0.741, abs=0.04)
    assert set(first) == {0, 1}


def test_distances_by_hand() -> None:
    picked = NearestPicks(torch.tensor([[0.5, 0.5], [0.625, 0.375], [1.0, 0.0], [0.25, 0.75]]))
    assert picked.uncertainties.tolist() == [1.0, 0.75, 0.0, 0.5]
    # From the first row the distances are 0, 0.25, 1 and 0.5; that of the third row stays at its uncertainty.
    picked.add(0)
    assert picked.distances.tolist() == [0.0, 0.25, 0.0, 0.5]
    # From the second row they are 0.25, 0, 0.75 and 0.75.
    picked.add(1)
    assert picked.distances.tolist() == [0.0, 0.0, 0.0, 0.5]


def test_the_second_draw_is_far_from_the_first() -> None:
    # Both rows at 0.5 are drawn first; the other one then has distance 0. Its relevance is 0 + 1, that of the last row
    # 1 + 0.5, so it is drawn with 1 / (1 + 1.5^10) = 0.017.
    view = view_of(torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]]))
    draws = [falcun(view, 2, rng=np.random.default_rng(seed)).tolist() for seed in range(600)]
    after = [second for first, second in draws if first < 2]
    assert len(after) > 550
    assert np.mean(np.array(after) == 2) == pytest.approx(0.983, abs=0.015)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "classes", "labeled"), [(60, 5, 6), (90, 12, 0), (40, 2, 3)])
def test_falcun_picks_what_the_plain_form_picks(kind: str, n: int, classes: int, labeled: int) -> None:
    for seed in range(3):
        view = view_of(made_up_probabilities(kind, n, classes, seed), tuple(range(0, 3 * labeled, 3)))
        for query_size in (12, n - labeled):
            wanted = plain_falcun(view, query_size, np.random.default_rng(seed))
            assert select(selector("falcun"), view, query_size, rng=np.random.default_rng(seed)).tolist() == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 2, 3, 30])
def test_the_bound_on_a_distance_changes_no_distance(kind: str, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NEAR_ROWS", 7)
    probabilities = made_up_probabilities(kind, 200, classes, 1)
    picked = NearestPicks(probabilities)
    expected = picked.uncertainties.clone()
    for row in range(0, 200, 11):
        picked.add(row)
        expected = torch.minimum(expected, (probabilities - probabilities[row]).abs().sum(dim=1))
        assert torch.equal(picked.distances, expected)


def test_the_bound_holds_where_probabilities_sum_to_1_but_roughly() -> None:
    # Both rows differ by 0.0018 in all, though 0.0009 + 0.0009 + 0 is what the two most likely classes tell.
    probabilities = torch.tensor([[0.5000, 0.4991, 0.0], [0.5009, 0.5000, 0.0]])
    picked = NearestPicks(probabilities)
    picked.add(0)
    assert float(picked.distances[1]) == pytest.approx(0.0018, abs=1e-6)


def test_certain_images_are_drawn_uniformly() -> None:
    view = view_of(torch.eye(4)[torch.arange(8) % 4], (0,))
    first = [int(falcun(view, 1, rng=np.random.default_rng(seed))[0]) for seed in range(700)]
    assert np.bincount(first, minlength=8)[1:].tolist() == pytest.approx([100] * 7, abs=40)
    assert 0 not in first
