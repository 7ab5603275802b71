"""Cases of running grids: two workers of one trial, spill folders, locks, temporary folders, attempts, interruptions."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.columns import PICKED, Row
from bench.store.rows import Store, stored_rows
from bench.trials.run import run_stored

ROUNDS = 4


def row_of(index: int, picked: list[int], **more: Any) -> Row:
    return {"trial_id": "t", "round": index, "n_labeled": 10 + 2 * index, PICKED: picked, **more}


def forking(seed: int) -> Any:
    """A trial that two workers compute differently: round k buys 20 + 10 k, and another row for each seed."""

    def run(done: Sequence[Row]) -> Iterator[Row]:
        for index in range(len(done), ROUNDS):
            last = index + 1 == ROUNDS
            yield row_of(index, [] if last else [20 + 10 * index, 21 + 10 * index + seed], worker=seed)

    return run


def test_case_21_two_workers_of_a_trial_continue_one_history(tmp_path: Path) -> None:
    store = Store(tmp_path)
    started: dict[int, int] = {0: 0, 1: 0}

    def worker(seed: int) -> Iterator[Row]:
        def begin() -> list[Row]:
            started[seed] += 1
            return store.begin("t")

        return run_stored(begin, forking(seed), store.append)

    one, other = worker(0), worker(1)
    assert next(one)[PICKED] == [20, 21]
    assert next(other)["round"] == 1
    # The first computes its own round 1, gets the other's, and resumes at round 2; then the same the other way round.
    assert next(one)["round"] == 2
    assert next(other)["round"] == 3
    assert list(one) == list(other) == []
    store.close()
    rows = stored_rows(tmp_path)
    assert [(row["round"], row["worker"]) for row in rows] == [(0, 0), (1, 1), (2, 0), (3, 1)]
    assert started == {0: 3, 1: 2}
