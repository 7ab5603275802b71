"""Cases of silent faults in query strategies, each with the right answer worked by hand."""

import numpy as np
import torch

from activekd.pool import Pool
from activekd.selectors import selector
from activekd.selectors.balanced import classbalanced, quotas
from activekd.selectors.query import select
from activekd.selectors.view import PoolView

SHARES = [0.346, 0.346, 0.231, 0.077]
"""Shares of a query over classes with 1, 1, 2 and 8 labels: 1/2, 1/2, 1/3 and 1/9 of 13/9."""


def test_case_24_classbalanced_follows_the_released_rule() -> None:
    labels = [0, 1, 2, 2, *[3] * 8]
    for query_size in (10, 26, 100, 1000):
        counts = quotas(np.array([1, 1, 2, 8]), query_size)
        assert counts.sum() == query_size
        np.testing.assert_allclose(counts / query_size, SHARES, atol=1 / query_size + 5e-4)
    predicted = np.repeat(np.arange(4), 30)
    view = PoolView(
        Pool(len(labels) + 120, tuple(range(len(labels)))),
        np.array(labels + [-1] * 120),
        4,
        {"student_probabilities": torch.eye(4)[torch.from_numpy(np.concatenate([labels, predicted]))]},
    )
    rows = classbalanced(view, 10, rng=np.random.default_rng(0))
    # Shares of 10: 3.46, 3.46, 2.31, .77; whole parts 3, 3, 2, 0; the two left go to the two largest weights.
    assert np.bincount(predicted[rows - len(labels)], minlength=4).tolist() == [4, 4, 2, 0]


def test_case_27_maxherding_is_no_random_draw_where_the_query_is_large() -> None:
    # 40 images have a place of their own, the others share one: all 41 places must be covered, before any is repeated.
    place = np.maximum(np.random.default_rng(0).permutation(5000) - 4959, 0)
    view = PoolView(Pool(5000), np.full(5000, -1), 2, {"features": torch.eye(41)[torch.from_numpy(place)]})
    rows = select(selector("maxherding"), view, 4096, rng=np.random.default_rng(0))
    assert sorted(place[rows[:41]]) == list(range(41))
