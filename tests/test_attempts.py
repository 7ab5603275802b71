"""A cohort under a worker: two workers at once, errors and deaths of one trial among others."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import ActorDiedError
from small_trials import ADAPTER, SIX, trials_of

from activekd.errors import InputError
from bench.cluster.attempts import WARY_DEATHS, Attempts, Ended
from bench.cluster.storing import GridStore
from bench.columns import PICKED, Row
from bench.store.rows import StorageError, logged, stored_rows
from bench.trials.cohorts import Cohort
from bench.trials.run import Fault, run_stored

ROUNDS = 3


def row_of(trial_id: str, index: int, picked: list[int]) -> Row:
    return {"trial_id": trial_id, "round": index, "n_labeled": 10 + 2 * index, PICKED: picked}


Raises = Callable[[str, int], Exception | None]


def lockstep(raises: Raises = lambda trial_id, index: None, calls: list[list[str]] | None = None) -> Any:
    """A cohort in which nothing is trained: all members a round, then the next; errors as given."""

    def run(done: Mapping[str, Sequence[Row]]) -> Iterator[Row | Fault]:
        at = {trial_id: len(rows) for trial_id, rows in done.items() if len(rows) < ROUNDS}
        if calls is not None:
            calls.append(list(at))
        while at:
            index = min(at.values())
            if error := raises("", index):
                raise error
            for trial_id in [t for t, k in at.items() if k == index]:
                if error := raises(trial_id, index):
                    del at[trial_id]
                    yield Fault(trial_id, error)
                    continue
                at[trial_id] += 1
                if index + 1 == ROUNDS:
                    del at[trial_id]
                yield row_of(trial_id, index, [] if index + 1 == ROUNDS else [10 * index, 10 * index + 1])

    return run


class Direct:
    """The store of a grid in this process, in the place of its actor."""

    def __init__(self, store: GridStore) -> None:
        self._store = store
        self.append, self.fault, self.deaths = store.append, store.fault, store.deaths

    def begin(self, trial_ids: Sequence[str]) -> Sequence[tuple[list[Row], bool]]:
        return [self._store.begin(trial_id) for trial_id in trial_ids]


def named(folder: Path, n: int) -> tuple[Cohort, list[str]]:
    """A cohort of so many trials, and their ids."""
    job = Cohort(tuple(trials_of(folder, ADAPTER, selectors=SIX[:1], seeds=n)))
    return job, [t.id for t in job.trials]


def told(events: Sequence[Any], names: Sequence[str]) -> str:
    """Events in short: a0 for round 0 of the first trial, a! for its error, a. for its end, a- if it was given up."""
    short = {trial_id: chr(ord("a") + k) for k, trial_id in enumerate(names)}

    def one(event: Any) -> str:
        if isinstance(event, Ended):
            return short[event.trial_id] + ("-" if event.failed else ".")
        return (
            f"{short[event.trial_id]}!" if isinstance(event, Fault) else f"{short[event['trial_id']]}{event['round']}"
        )

    return " ".join(map(one, events))


def test_a_cohort_begins_again_where_the_store_has_other_picks_for_a_round(tmp_path: Path) -> None:
    """The store already has another round 0 of b, as from a worker that was cut off."""
    store = GridStore(tmp_path, 3, "g")
    other = row_of("b", 0, [90, 91])
    begun: list[dict[str, int]] = []

    def begin() -> dict[str, list[Row]]:
        rows = {trial_id: store.begin(trial_id)[0] for trial_id in "ab"}
        begun.append({trial_id: len(rows[trial_id]) for trial_id in rows})
        if len(begun) == 1:
            store.append(other)
        return rows

    rows = [row for row in run_stored(begin, lockstep(), store.append) if not isinstance(row, Fault)]
    store.close()
    assert begun == [{"a": 0, "b": 0}, {"a": 1, "b": 1}]
    assert rows[:2] == [row_of("a", 0, [0, 1]), other]
    assert [row[PICKED] for row in stored_rows(tmp_path) if row["trial_id"] == "b"] == [[90, 91], [10, 11], []]


def test_a_trial_that_raises_an_error_is_tried_again_when_the_others_have_ended(tmp_path: Path) -> None:
    job, (a, b) = named(tmp_path, 2)
    store, left = GridStore(tmp_path / "run", 3, "g"), [RuntimeError("once"), RuntimeError("twice")]
    calls: list[list[str]] = []

    def raises(trial_id: str, index: int) -> Exception | None:
        return left.pop() if trial_id == a and index == 1 and left else None

    events = list(Attempts(job, Direct(store), lockstep(raises, calls)).events())
    store.close()
    assert told(events, [a, b]) == "a0 b0 a! b1 b2 b. a! a1 a2 a."
    assert calls == [[a, b], [a], [a]]


def test_a_trial_that_keeps_raising_is_given_up_alone(tmp_path: Path) -> None:
    job, (a, b) = named(tmp_path, 2)
    store = GridStore(tmp_path / "run", 2, "g")

    def raises(trial_id: str, index: int) -> Exception | None:
        return RuntimeError("always") if trial_id == a else None

    assert told(list(Attempts(job, Direct(store), lockstep(raises)).events()), [a, b]) == "a! b0 b1 b2 b. a-"
    assert "RuntimeError: always" in store.failures()[a]
    diverging = lockstep(lambda trial_id, index: InputError("a fit that diverges") if trial_id == b else None)
    again = GridStore(tmp_path / "again", 3, "g")
    assert told(list(Attempts(job, Direct(again), diverging).events()), [a, b]) == "a0 b- a1 a2 a."
    store.close()
    again.close()


def test_an_error_of_shared_work_counts_for_each_open_trial(tmp_path: Path) -> None:
    job, (a, b) = named(tmp_path, 2)
    store = GridStore(tmp_path / "run", 2, "g")
    store.append(row_of(a, 0, [0, 1]))
    shared = lockstep(lambda trial_id, index: RuntimeError("out of memory") if not trial_id and index == 1 else None)
    assert told(list(Attempts(job, Direct(store), shared).events()), [a, b]) == "b0 a! b! a- b-"
    assert sorted(store.failures()) == sorted([a, b])
    store.close()
    raised = [(e["trial_id"], e["round"]) for e in logged(tmp_path / "run") if e["event"] == "raised"]
    assert raised == [(a, 1), (b, 1)] * 2


def test_a_lost_worker_and_a_full_disk_are_nobodys_fault(tmp_path: Path) -> None:
    job, _ = named(tmp_path, 2)
    for error in (ActorDiedError(), StorageError("the disk is full")):
        store = GridStore(tmp_path / type(error).__name__, 3, "g")
        with pytest.raises(type(error)):
            list(Attempts(job, Direct(store), lockstep(lambda trial_id, index, error=error: error)).events())
        assert not store.failures()
        store.close()


def test_a_worker_whose_device_fails_is_replaced_and_the_error_counts_against_a_trial_alone(tmp_path: Path) -> None:
    job, (a, b) = named(tmp_path, 2)
    store = GridStore(tmp_path / "run", 2, "g")
    assertion = torch.AcceleratorError("device-side assert triggered")

    def run() -> Iterator[Any]:
        return Attempts(job, Direct(store), lockstep(lambda t, index: assertion if t == a else None)).events()

    def life() -> str:
        seen: list[Any] = []
        try:
            seen.extend(run())
        except torch.AcceleratorError:
            store.died([a, b], 5.0)
            return told(seen, [a, b]) + " died"
        return told(seen, [a, b])

    assert [life() for _ in range(WARY_DEATHS)] == [" died"] * WARY_DEATHS
    assert not store.failures()
    assert [life() for _ in range(3)] == ["a! died", "a- died", "a- b0 b1 b2 b."]
    assert "device-side assert triggered" in store.failures()[a]
    store.close()


def test_complete_trials_and_those_given_up_are_told_and_not_run(tmp_path: Path) -> None:
    job, (a, b, c) = named(tmp_path, 3)
    store = GridStore(tmp_path / "run", 1, "g")
    for row in lockstep()({a: []}):
        store.append(row)
    assert not store.fault(b, "an error")
    calls: list[list[str]] = []
    events = list(Attempts(job, Direct(store), lockstep(calls=calls)).events())
    store.close()
    assert told(events, [a, b, c]) == "a. b- c0 c1 c2 c."
    assert calls == [[c]]


def test_trials_whose_worker_died_run_that_round_alone_to_spare_the_others(tmp_path: Path) -> None:
    """The worker died twice in round 0 of b and c, and three times in that of b, which killed it: b comes last."""
    job, (a, b, c) = named(tmp_path, 3)
    store = GridStore(tmp_path / "run", 3, "g")
    store.append(row_of(a, 0, [0, 1]))
    for dead in [[b, c]] * WARY_DEATHS + [[b]]:
        for trial_id in dead:
            store.begin(trial_id)
        store.died(dead, 5.0)
    calls: list[list[str]] = []
    events = list(Attempts(job, Direct(store), lockstep(calls=calls)).events())
    store.close()
    assert calls == [[c], [b], [a, b, c]]
    assert told(events, [a, b, c]) == "c0 b0 a1 b1 c1 a2 a. b2 b. c2 c."
