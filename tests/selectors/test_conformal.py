"""CCMA: cases worked by hand, and equal picks of a plain form."""

from math import ceil

import numpy as np
import pytest
import torch
from plain_clusters import plain_central, plain_unit

from activekd.pool import Pool
from activekd.selectors import conformal, selector
from activekd.selectors.conformal import threshold
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.query import select
from activekd.selectors.view import PoolView


@pytest.mark.parametrize(("m", "rank"), [(1, 1), (8, 8), (9, 9), (10, 10), (19, 18), (20, 19), (29, 27), (99, 90)])
def test_the_threshold_is_the_conformal_quantile_by_hand(m: int, rank: int) -> None:
    # ceil(0.9 (m + 1)): 9 of 9, 9.9 -> 10 of 10, 18 of 19, 18.9 -> 19 of 20; fewer than 9 labels take the smallest.
    of_labels = torch.rand(m, generator=torch.Generator().manual_seed(m))
    assert threshold(of_labels) == sorted(of_labels.tolist(), reverse=True)[rank - 1]


def test_a_threshold_covers_a_fresh_image_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    covered = [draw[-1] >= threshold(torch.from_numpy(draw[:-1])) for draw in rng.random((4000, 20))]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)  # 18 of the 20 ranks of the last


def ccma_view(student: list[list[float]], teacher: list[list[float]], labels: dict[int, int]) -> PoolView:
    n = len(student)
    all_labels = np.full(n, -1)
    for row, label in labels.items():
        all_labels[row] = label
    arrays = {
        "student_probabilities": torch.tensor(student),
        "teacher_probabilities": torch.tensor(teacher),
        "features": torch.randn(n, 3, generator=torch.Generator().manual_seed(0)),
    }
    return PoolView(Pool(n, tuple(labels)), all_labels, 3, arrays)


STUDENT = [[0.5, 0.3, 0.2], [0.9, 0.1, 0.0], [0.4, 0.4, 0.2], [0.3, 0.5, 0.2], [0.6, 0.25, 0.15], [0.2, 0.2, 0.6]]
TEACHER = [[0.4, 0.3, 0.3], [0.8, 0.2, 0.0], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0.35, 0.35, 0.3], [0.5, 0.1, 0.4]]
# The label of row 0 is class 0: thresholds 0.5 for the student and 0.4 for the teacher. Sets of student and teacher:
# row 1: {0} {0}, score 0.2; row 2: {0} for lack of one above 0.5, the lower of two equal, against {2}:
# 0.8 + 0.2 x 2 / 4 = 0.9; row 3: {1} {1}, 0.2; row 4: {0}, and {0} for lack: 0.2;
# row 5: {2} and {0, 2}: 0.8 / 2 + 0.2 x 3 / 4 = 0.55.


def test_ccma_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformal, "SHARE", 5)
    view = ccma_view(STUDENT, TEACHER, {0: 0})
    for seed in range(10):
        # A fifth of five images is one, so no more than the picks are clustered.
        assert select(selector("ccma"), view, 1, rng=np.random.default_rng(seed)).tolist() == [2]
        assert set(select(selector("ccma"), view, 2, rng=np.random.default_rng(seed)).tolist()) == {2, 5}
    third = [set(select(selector("ccma"), view, 3, rng=np.random.default_rng(s)).tolist()) - {2, 5} for s in range(200)]
    counts = [sum(row in each for each in third) / 200 for row in (1, 3, 4)]
    np.testing.assert_allclose(counts, 1 / 3, atol=0.12)


def test_the_score_weighs_disagreement_and_size_by_hand() -> None:
    view = ccma_view(STUDENT, TEACHER, {0: 0})
    found = conformal.score(0.5, 0.4, view, slice(1, 6), conformal.Scratch())
    torch.testing.assert_close(found, torch.tensor([0.2, 0.9, 0.2, 0.2, 0.55]))


def test_without_labels_the_predicted_classes_alone_are_compared() -> None:
    view = ccma_view(STUDENT, TEACHER, {})
    # Rows 2 and 5 are predicted otherwise by the teacher: {0} {2} and {2} {0}.
    assert set(select(selector("ccma"), view, 2, rng=np.random.default_rng(0)).tolist()) == {2, 5}


def plain_ccma(view: PoolView, k: int, rng: np.random.Generator) -> list[int]:
    labeled, unlabeled = list(view.pool.labeled), view.pool.unlabeled
    m = len(labeled)
    sets = []
    for p in (view.student_probabilities.numpy(), view.teacher_probabilities.numpy()):
        nonconformity = sorted(-np.log(p[i, view.labels[i]]) for i in labeled)
        quantile = nonconformity[min(m, ceil((m + 1) * 9 / 10)) - 1] if m else -np.inf
        sets.append(
            [
                {c for c in range(p.shape[1]) if -np.log(p[i, c]) <= quantile} | {int(p[i].argmax())}
                for i in range(len(p))
            ]
        )
    shuffled = rng.permutation(unlabeled).tolist()

    def score(i: int) -> float:
        s, t = sets[0][i], sets[1][i]
        return round(0.8 * len(s ^ t) / len(s | t) + 0.2 * (len(s) + len(t)) / (2 * len(s | t)), 5)

    most = max(k, min(20 * k, len(unlabeled) // 5))
    top = sorted(shuffled, key=lambda i: -score(i))[:most]
    return [top[i] for i in plain_central(plain_unit(view.features[top].numpy()), k, rng)]


@pytest.mark.parametrize("labeled", [0, 4, 25])
@pytest.mark.parametrize("k", [1, 8, 30, 100])
def test_ccma_picks_what_the_plain_form_picks(k: int, labeled: int) -> None:
    for seed in range(3):
        view = declared(made_up_view(seed, 150, 6, 5, labeled), selector("ccma"))
        found = select(selector("ccma"), view, k, rng=np.random.default_rng(seed))
        assert found.tolist() == plain_ccma(view, k, np.random.default_rng(seed))
