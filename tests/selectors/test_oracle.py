"""The oracle BoSS: a case worked by hand, a plain reference, and what it must not see."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from activekd.pool import Pool
from activekd.selectors import SELECTORS, oracle, selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.oracle import RIDGE, STRATEGIES, accuracies, boss, heads, inputs, proposed
from activekd.selectors.query import select
from activekd.selectors.view import PoolView
from activekd.streams import stream


def test_heads_and_accuracies_by_hand() -> None:
    # Points (x, 1) at x = -1, 1, -1, 0.5, -0.5 of classes 0, 1, 0, 1, 0; row 0 is labeled.
    points = torch.tensor([[-1.0, 1.0], [1.0, 1.0], [-1.0, 1.0], [0.5, 1.0], [-0.5, 1.0]])
    labels, labeled, batches = np.array([0, 1, 0, 1, 0]), np.array([0]), np.array([[1], [2]])
    found = heads(points, torch.from_numpy(labels), labeled, batches, n_classes=2)
    # With row 1: X'X = 2 I and X'Y = [[-1, 1], [1, 1]], so the head is [[-1/2, 1/2], [1/2, 1/2]] but for the ridge.
    torch.testing.assert_close(found[0], torch.tensor([[-1.0, 1.0], [1.0, 1.0]]) / (2 + 2 * RIDGE))
    # With row 2, both points are (-1, 1) of class 0: the head's column of class 1 is 0, that of class 0 is c (-1, 1).
    torch.testing.assert_close(found[1][:, 1], torch.zeros(2))
    torch.testing.assert_close(found[1][:, 0], torch.tensor([-0.5, 0.5]), atol=1e-3, rtol=0.0)
    # The first head has logits 1/2 - x/2 and 1/2 + x/2: class 1 where x > 0, right in rows 2, 3, 4, which are outside
    # of its batch. The second gives class 0 to x < 1: wrong in row 3, and right or even in rows 1 and 4.
    judged = np.array([3, 4])
    assert accuracies(points, labels, labeled, batches, judged, n_classes=2).tolist() == [1.0, 0.5]
    alone = accuracies(points, labels, labeled, batches, np.array([1]), n_classes=2)
    assert alone[0] == 0.0


def plain_inputs(features: np.ndarray) -> np.ndarray:
    unit = features / np.sqrt((features**2).sum(axis=1, keepdims=True))
    centred = unit - unit.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).sum(axis=1).mean())
    return np.hstack([scaled, np.ones((len(features), 1))])


def reference_boss(view: PoolView, k: int, seed: int) -> list[int]:
    """The same draws; ridge regression by least squares on stacked rows, one head and one judged row at a time."""
    batches = proposed(view, k, stream(seed, "test")).tolist()
    unlabeled = sorted(set(range(view.pool.n)) - set(view.pool.labeled))
    points, best, chosen = plain_inputs(view.features.double().numpy()), -1.0, []
    for batch in batches:
        rows = [*view.pool.labeled, *batch]
        hot = np.eye(view.n_classes)[[int(view.true_labels[row]) for row in rows]]
        shrink = np.sqrt(len(rows) * 1e-4) * np.eye(points.shape[1])
        stacked = np.vstack([points[rows], shrink])
        head = np.linalg.lstsq(stacked, np.vstack([hot, np.zeros((len(shrink), view.n_classes))]), rcond=None)[0]
        others = [row for row in unlabeled if row not in batch]
        right = [int((points[row] @ head).argmax()) == view.true_labels[row] for row in others]
        if np.mean(right) > best:
            best, chosen = float(np.mean(right)), batch
    return chosen


def consistent_view(seed: int) -> PoolView:
    """A pool of clusters, whose labeled rows have their true labels."""
    view = made_up_view(seed)
    truth = view.true_labels.copy()
    labeled = list(view.pool.labeled)
    truth[labeled] = view.labels[labeled]
    centres = torch.randn(view.n_classes, 6, generator=torch.Generator().manual_seed(seed))
    features = view.features + centres[torch.from_numpy(truth)]
    return replace(view, truth=truth, arrays={**view.arrays, "features": features})


@pytest.mark.parametrize("seed", range(2))
def test_it_is_its_plain_reference(seed: int) -> None:
    view = declared(consistent_view(seed), SELECTORS["boss"])
    assert select(SELECTORS["boss"], view, 5, rng=stream(seed, "test")).tolist() == reference_boss(view, 5, seed)


def test_heads_do_not_depend_on_those_fitted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    view = declared(consistent_view(1), SELECTORS["boss"])
    whole = boss(view, 5, rng=stream(1, "test"))
    monkeypatch.setattr(oracle, "GROUP_NUMBERS", 700)
    assert boss(view, 5, rng=stream(1, "test")).tolist() == whole.tolist()


def test_true_labels_decide() -> None:
    view = declared(consistent_view(0), SELECTORS["boss"])
    unlabeled = view.pool.unlabeled
    found = set()
    for shift in range(3):
        truth = view.true_labels.copy()
        truth[unlabeled] = np.roll(truth[unlabeled], shift)
        found.add(tuple(boss(replace(view, truth=truth), 5, rng=stream(0, "test")).tolist()))
    assert len(found) > 1


def test_strategies_see_no_true_label_and_no_row_outside_their_subset(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def first(view: PoolView, k: int, *, rng: np.random.Generator) -> np.ndarray:
        seen.append(view)
        return view.pool.unlabeled[:k]

    monkeypatch.setattr(oracle, "STRATEGIES", {"first": first})
    view = declared(consistent_view(0), SELECTORS["boss"])
    batches = proposed(view, 5, stream(0, "test"))
    assert batches.shape == (10, 5)
    assert [each.truth for each in seen] == [None] * 10
    sizes = {len(each.pool.unlabeled) for each in seen}
    assert min(sizes) >= 4 * 5
    assert max(sizes) <= 80
    assert len(sizes) > 3


def test_a_large_pool_is_judged_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []
    plain = oracle.accuracies

    def noted(points: torch.Tensor, labels: np.ndarray, labeled: np.ndarray, *rest: np.ndarray, n_classes: int):
        judged.append(len(rest[1]))
        return plain(points, labels, labeled, *rest, n_classes=n_classes)

    monkeypatch.setattr(oracle, "accuracies", noted)
    view = declared(consistent_view(0), SELECTORS["boss"])
    boss(view, 5, rng=stream(0, "test"))
    monkeypatch.setattr(oracle, "JUDGED_ROWS", 30)
    boss(view, 5, rng=stream(0, "test"))
    assert judged == [80, 30]


def test_its_strategies_read_no_more_than_it_does() -> None:
    for name, function in STRATEGIES.items():
        assert selector(name).needs < SELECTORS["boss"].needs
        assert selector(name).function is function
    assert SELECTORS["boss"].is_oracle
    assert [name for name, each in SELECTORS.items() if each.is_oracle] == ["boss"]


def test_equal_features_give_inputs_without_infinities() -> None:
    assert inputs(torch.ones(7, 3)).isfinite().all()
    view = PoolView(
        Pool(4),
        np.full(4, -1),
        2,
        {"student_probabilities": torch.full((4, 2), 0.5), "features": torch.zeros(4, 3)},
        truth=np.array([0, 1, 0, 1]),
    )
    assert len(set(select(SELECTORS["boss"], view, 4, rng=stream(0, "test")).tolist())) == 4
