"""TFS and PCB against cases worked by hand and against plain forms with loops over the pool."""

from math import log

import numpy as np
import pytest
import torch

from activekd.pool import Pool
from activekd.selectors import selector
from activekd.selectors.classwise import pcb, tfs
from activekd.selectors.query import select
from activekd.selectors.view import PoolView


def view_of(probabilities: list[list[float]] | torch.Tensor, labels: list[int]) -> PoolView:
    """The first rows have these labels."""
    array = torch.as_tensor(probabilities, dtype=torch.float32)
    known = np.array(labels + [-1] * (len(array) - len(labels)))
    return PoolView(
        Pool(len(array), tuple(range(len(labels)))), known, array.shape[1], {"student_probabilities": array}
    )


def random_view(seed: int, n: int = 120, classes: int = 6, labeled: int = 9) -> PoolView:
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.linspace(0.1, 1.0, classes), size=n)
    return view_of(torch.from_numpy(rows), rng.integers(classes, size=labeled).tolist())


def entropies(view: PoolView) -> list[float]:
    rows = view.student_probabilities.double().tolist()
    return [-sum(p * log(p) for p in row if p > 0) for row in rows]


def plain_fill(view: PoolView, order: list[int], query_size: int) -> list[int]:
    """Recount and look through all rows for every pick."""
    of_row = [row.index(max(row)) for row in view.student_probabilities.tolist()]
    counts = [sum(label == c for label in view.labels.tolist()) for c in range(view.n_classes)]
    picks: list[int] = []
    while len(picks) < query_size:
        for c in sorted(range(view.n_classes), key=lambda c: (counts[c], c)):
            found = [row for row in order if of_row[row] == c and row not in picks]
            if found:
                picks.append(found[0])
                counts[c] += 1
                break
    return picks


def test_tfs_by_hand() -> None:
    # Labels: class 0 twice, class 1 never, class 2 once. Predicted as 0: rows 3, 4; as 1: row 5; as 2: rows 6, 7.
    certain, unsure = 0.9, 0.6
    view = view_of(
        [
            [1.0, 0.0, 0.0],
            [1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0],
            [certain, 0.1, 0.0],
            [unsure, 0.4, 0.0],
            [0.1, certain, 0.0],
            [0.0, 0.1, certain],
            [0.0, 0.4, unsure],
        ],
        [0, 0, 2],
    )
    # Counts 2, 0, 1: the only row of class 1, which then has none left. Counts 2, 1, 1: the more entropic row of class
    # 2. Counts 2, 1, 2: class 1 is empty, and of 0 and 2 the lower goes first: its more entropic row. Then class 2.
    picks = select(selector("tfs"), view, 5, rng=np.random.default_rng(0))
    assert picks.tolist() == [5, 7, 4, 6, 3]


def test_tfs_gives_equal_entropies_to_the_lowest_row() -> None:
    view = view_of([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.6, 0.4]], [])
    assert tfs(view, 4, rng=np.random.default_rng(0)).tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize("seed", range(8))
def test_tfs_picks_what_the_plain_form_picks(seed: int) -> None:
    view = random_view(seed)
    score = entropies(view)
    order = sorted(view.pool.unlabeled.tolist(), key=lambda row: -score[row])
    for query_size in (1, 20, len(order)):
        picks = select(selector("tfs"), view, query_size, rng=np.random.default_rng(0))
        assert picks.tolist() == plain_fill(view, order, query_size)


def test_pcb_picks_among_the_most_entropic_tenth_alone() -> None:
    # 20 rows, so 2 candidates: rows 18 and 19 have the largest entropy. Class 1 has no label, so its row goes first.
    rows = [[0.05, 0.95] if row % 2 else [0.95, 0.05] for row in range(18)] + [[0.55, 0.45], [0.45, 0.55]]
    view = view_of(rows, [0])
    for seed in range(20):
        assert pcb(view, 2, rng=np.random.default_rng(seed)).tolist() == [19, 18]


def test_pcb_takes_a_random_candidate_of_the_smallest_class() -> None:
    # 40 rows, so 4 candidates: rows 36 to 38 are predicted as class 0, row 39 as class 1. With two labels in class 1,
    # two picks are random rows of class 0: each of the three has a chance of 2/3.
    rows = [[0.05, 0.95]] * 36 + [[0.6, 0.4]] * 3 + [[0.4, 0.6]]
    view = view_of(rows, [1, 1])
    draws = [pcb(view, 2, rng=np.random.default_rng(seed)).tolist() for seed in range(600)]
    frequency = [np.mean([row in picks for picks in draws]) for row in (36, 37, 38, 39)]
    assert frequency == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0], abs=0.07)


def test_pcb_passes_over_a_class_without_candidates() -> None:
    # Class 2 has no label and no candidate; the picks alternate between the other two and never turn random.
    rows = [[0.98, 0.01, 0.01]] * 54 + [[0.6, 0.4, 0.0]] * 4 + [[0.4, 0.6, 0.0]] * 2
    view = view_of(rows, [0, 1])
    for seed in range(20):
        picks = pcb(view, 4, rng=np.random.default_rng(seed)).tolist()
        assert [row >= 58 for row in picks] == [False, True, False, True]


@pytest.mark.parametrize("seed", range(8))
def test_pcb_picks_what_the_plain_form_picks(seed: int) -> None:
    view = random_view(seed)
    score = entropies(view)
    order = sorted(view.pool.unlabeled.tolist(), key=lambda row: -score[row])
    for query_size in (1, 8, 12, 40, len(order)):
        candidates = order[: max(query_size, 12)]
        shuffled = np.random.default_rng(seed).permutation(np.array(candidates)).tolist()
        picks = select(selector("pcb"), view, query_size, rng=np.random.default_rng(seed))
        assert picks.tolist() == plain_fill(view, shuffled, query_size)
