"""BAIT: a case worked by hand, and equal picks of the objective with every matrix inverted in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from activekd.pool import Pool
from activekd.selectors import selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.fisher import InformationTrace
from activekd.selectors.query import select
from activekd.selectors.view import PoolView


def on_axes(*axes: int, p: float = 0.5) -> PoolView:
    """Images on two axes at distance 2, so that p = 1/2 makes their Fisher vectors unit vectors."""
    arrays = {"features": 2 * torch.eye(2)[list(axes)], "student_probabilities": torch.tensor([[p, 1 - p]] * len(axes))}
    return PoolView(Pool(len(axes)), np.full(len(axes), -1), 2, arrays)


def ask(view: PoolView, k: int) -> list[int]:
    return select(selector("bait"), view, k, rng=np.random.default_rng(0)).tolist()


def test_bait_by_hand() -> None:
    # Three images on the first axis, two on the second: F = diag(0.6, 0.4), and M starts from the identity.
    view = on_axes(1, 0, 0, 1, 0)
    # Forward, M = I: the first axis lowers the trace by 0.6 / 2, the second by 0.4 / 2; row 1. Then M = diag(2, 1): 0.1
    # and 0.2; row 0. Backward, M = diag(2, 2): to remove row 1 adds 0.3, to remove row 0 adds 0.2.
    assert ask(view, 1) == [1]
    # Forward: rows 1 and 0; M = diag(2, 2): 0.1 and 0.067, row 2; M = diag(3, 2): 0.05 and 0.067, row 3. Backward,
    # M = diag(3, 3): 0.1 and 0.067, row 0 goes; M = diag(3, 2): 0.1 and 0.2, row 1 goes.
    assert ask(view, 2) == [2, 3]


def test_a_certain_image_has_no_information() -> None:
    view = on_axes(0, 1, 0, 1)
    view.arrays["student_probabilities"][:2] = torch.tensor([1.0, 0.0])
    assert set(ask(view, 2)) == {2, 3}


def test_a_step_and_its_inverse_change_the_trace_by_what_best_promises() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    information = vectors.T @ vectors
    trace = InformationTrace(torch.eye(4, dtype=torch.float64), information, vectors)
    free = torch.ones(12, dtype=torch.bool)
    m = torch.eye(4, dtype=torch.float64)

    def after(i: int, sign: int) -> float:
        return float(torch.trace(torch.linalg.inv(m + sign * torch.outer(vectors[i], vectors[i])) @ information))

    taken = []
    for _ in range(5):
        taken.append(best := trace.best(1, free))
        values = [after(i, 1) if free[i] else np.inf for i in range(12)]
        assert best == int(np.argmin(values))
        free[best] = False
        trace.step(best, 1)
        m += torch.outer(vectors[best], vectors[best])
        torch.testing.assert_close(trace.inverse, torch.linalg.inv(m))
    held = ~free
    worst = trace.best(-1, held)
    assert worst == min(taken, key=lambda i: after(i, -1))
    trace.step(worst, -1)
    torch.testing.assert_close(trace.inverse, torch.linalg.inv(m - torch.outer(vectors[worst], vectors[worst])))


def plain_bait(view: PoolView, k: int) -> tuple[list[int], list[int]]:
    """The picks, and the first picks of the forward pass alone."""
    p = view.student_probabilities.double().numpy().max(axis=1)
    x = np.sqrt(p * (1 - p))[:, None] * view.features.double().numpy()
    labeled, m = list(view.pool.labeled), len(view.pool.labeled)
    information = sum(np.outer(v, v) for v in x) / len(x)
    matrix = np.eye(x.shape[1]) + sum((np.outer(x[i], x[i]) for i in labeled), np.zeros_like(information)) / (m + k)
    x = x * np.sqrt(k / (m + k))

    def trace(matrix: np.ndarray) -> float:
        return float(np.trace(np.linalg.inv(matrix) @ information))

    batch: list[int] = []
    unlabeled = view.pool.unlabeled.tolist()
    for _ in range(min(2 * k, len(unlabeled))):
        left = [i for i in unlabeled if i not in batch]
        best = min(left, key=lambda i: trace(matrix + np.outer(x[i], x[i])))
        batch.append(best)
        matrix = matrix + np.outer(x[best], x[best])
    forward = batch[:k]
    while len(batch) > k:
        worst = min(batch, key=lambda i: trace(matrix - np.outer(x[i], x[i])))
        batch.remove(worst)
        matrix = matrix - np.outer(x[worst], x[worst])
    return batch, forward


def test_bait_picks_what_the_plain_form_picks() -> None:
    pruned = 0
    for seed in range(6):
        for k, labeled in ((1, 0), (6, 5), (12, 20), (30, 5)):
            view = declared(made_up_view(seed, 50, 4, 6, labeled), selector("bait"))
            expected, forward = plain_bait(view, k)
            assert ask(view, k) == expected
            pruned += set(expected) != set(forward)
    assert pruned


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_bait_picks_what_the_plain_form_picks_at_other_scales_of_the_features(scale: float) -> None:
    view = declared(made_up_view(0, 40, 3, 5, 4), selector("bait"))
    view = replace(view, arrays={**view.arrays, "features": scale * view.features})
    assert ask(view, 8) == plain_bait(view, 8)[0]
