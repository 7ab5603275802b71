"""Jobs of a grid: cohorts and their split, company, resuming, errors and deaths of one trial among others, round 0."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SPEC
from ray.exceptions import ActorDiedError

from activekd.datasets import Dataset, Split
from activekd.errors import InputError
from activekd.rounds import FirstFit
from activekd.selectors import Selector, selector
from activekd.selectors.view import PoolView
from activekd.students.cohort import MOST_TOGETHER
from activekd.students.networks import student_network
from bench.checks import resolve
from bench.cluster.attempts import WARY_DEATHS, Attempts, Ended
from bench.cluster.order import InOrder
from bench.cluster.running import followers_of_first_fits
from bench.cluster.storing import GridStore
from bench.columns import COSTS, PICKED, PROVENANCE, Row
from bench.spec import read_spec
from bench.store.rows import StorageError, logged, stored_rows
from bench.trials.cohorts import LEAST_MEMBERS, Cohort, cohorts
from bench.trials.first_fits import FitFolders, StoredFits, fit_folder, has_fit, shared_first_fits
from bench.trials.inputs import compute_shard
from bench.trials.resolved import ResolvedTrial, shards_of, with_shards
from bench.trials.run import Execution, Fault, run_cohort_rows, run_stored

ADAPTER, TRAINED = "adapter:efficientnet_lite0@32", "resnet6_mini@16"
SIX = ("random", "entropy", "coreset", "badge", "classbalanced", "pcoreset")


def spec_of(folder: Path, *pairs: tuple[str, str]) -> Path:
    """The tiny spec without a teacher, edited."""
    text = SPEC
    for old, new in (('["none", "glyphclip+clap"]', '["none"]'), *pairs):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "jobs.toml"
    path.write_text(text, encoding="utf-8")
    return path


def trials_of(
    folder: Path, *students: str, selectors: Sequence[str] = SIX, seeds: int = 4, n_classes: int = 10
) -> list[ResolvedTrial]:
    """Trials on a stand-in data set that has labels alone."""
    spec = spec_of(
        folder,
        (f'"{TRAINED}"', ", ".join(f'"{student}"' for student in students)),
        ('["random", "pcoreset"]', str(list(selectors)).replace("'", '"')),
        ("seeds = [0]", f"seeds = {list(range(seeds))}"),
    )
    split = Split(None, np.arange(100 * n_classes) % n_classes)
    dataset = Dataset("digits", tuple(map(str, range(n_classes))), (), split, split, split)
    return [
        ResolvedTrial(t, dataset, student_network(t.student), None, selector(t.selector))
        for t in read_spec(str(spec)).trials
    ]


def sizes(jobs: Sequence[Cohort]) -> list[int]:
    return [len(job.trials) for job in jobs]


def seeds_of(job: Cohort) -> set[int]:
    return {t.trial.seed for t in job.trials}


@pytest.mark.parametrize(
    ("slots", "expected"),
    [(1, [12, 12]), (2, [12, 12]), (3, [6] * 4), (4, [6] * 4), (8, [3] * 8), (24, [1] * 24), (100, [1] * 24)],
)
def test_cohorts_keep_every_slot_busy_and_the_selectors_of_a_seed_together(
    slots: int, expected: list[int], tmp_path: Path
) -> None:
    """24 trials: three jobs a slot would have fewer than 16, so a slot has one job at least, of whole seeds of 6."""
    jobs = cohorts(trials_of(tmp_path, ADAPTER), slots, {})
    assert sizes(jobs) == expected
    assert all(len(seeds_of(job)) == max(1, len(job.trials) // 6) for job in jobs)
    assert len({t.id for job in jobs for t in job.trials}) == 24
    assert LEAST_MEMBERS == MOST_TOGETHER


def test_many_trials_make_several_jobs_a_slot_in_even_parts(tmp_path: Path) -> None:
    """Two selectors and 55 seeds, one slot: 110 trials, a third of them at most 37 and so 18 seeds a job."""
    jobs = cohorts(trials_of(tmp_path, ADAPTER, selectors=SIX[:2], seeds=55), 1, {})
    assert sizes(jobs) == [28, 28, 28, 26]
    assert sorted(seed for job in jobs for seed in seeds_of(job)) == list(range(55))


def test_trials_that_differ_in_more_than_selector_and_seed_have_cohorts_of_their_own(tmp_path: Path) -> None:
    """Two frozen students, one of them on two draws of the pool, and one trained end to end."""
    trials = trials_of(tmp_path, ADAPTER, "frozen:efficientnet_lite0@32", TRAINED, selectors=SIX[:2], seeds=2)
    drawn = [
        replace(t, dataset=replace(t.dataset, name=f"digits?draw={t.trial.seed}")) if t.student.trunk else t
        for t in trials
    ]
    jobs = cohorts(drawn, 1, {})
    found = [(job.trials[0].trial.student, len(job.trials), seeds_of(job)) for job in jobs]
    assert found[:4] == [(TRAINED, 1, {0}), (TRAINED, 1, {0}), (TRAINED, 1, {1}), (TRAINED, 1, {1})]
    assert found[4:] == [("frozen:efficientnet_lite0@32", 4, {0, 1}), (ADAPTER, 2, {0}), (ADAPTER, 2, {1})]
    assert len({job.id for job in jobs}) == len(jobs)
    assert {job.id for job in cohorts(list(reversed(drawn)), 1, {})} == {job.id for job in jobs}
    assert sizes(cohorts(drawn, 1, {}, together=False)) == [1] * 12


def test_the_largest_work_that_is_left_comes_first(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, TRAINED, selectors=SIX[:1], seeds=3)
    done = {trials[0].id: 2, trials[1].id: 1}
    assert [job.trials[0].id for job in cohorts(trials, 1, done)] == [trials[2].id, trials[1].id, trials[0].id]


def test_a_mixed_cohort_is_refused(tmp_path: Path) -> None:
    one, other = trials_of(tmp_path, ADAPTER, selectors=SIX[:2], seeds=1)
    trial = replace(other.trial, rounds=4, recipe=replace(other.trial.recipe, lr=0.5))
    with pytest.raises(InputError) as refused:
        Cohort((one, replace(other, trial=trial)))
    assert str(refused.value) == (
        "a cohort of trials that differ in rounds: 3 and 4; recipe.lr: 0.01 and 0.5; "
        "expected: trials that differ in selector and seed alone"
    )
    two = trials_of(tmp_path, TRAINED, selectors=SIX[:2], seeds=1)
    with pytest.raises(InputError, match=r"2 students 'resnet6_mini@16', which are trained end to end; expected:"):
        Cohort(tuple(two))


@pytest.fixture(scope="module")
def cheap(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[ResolvedTrial], dict[str, np.ndarray]]:
    """Four adapter trials of three rounds on 36 images, and their bank: two selectors, two seeds."""
    from folders import paint

    folder = tmp_path_factory.mktemp("cheap")
    for name in ("ant", "bee", "cat"):
        paint(folder / "ok" / name, 12)
    spec = spec_of(
        folder,
        (TRAINED, ADAPTER),
        ('"digits"', f'"folder:{folder / "ok"}"'),
        ("seeds = [0]", "seeds = [0, 1]"),
        ('["random", "pcoreset"]', '["random", "entropy"]'),
    )
    trials = with_shards(resolve(read_spec(str(spec)).trials, folder / "cache", lambda name, done, total: None))
    banked = {
        shard.key: compute_shard(shard, t.split(shard.split), t.encoder_of(shard), folder / "cache")
        for shard, t in shards_of(trials).items()
    }
    return trials, banked


Cheap = tuple[list[ResolvedTrial], dict[str, np.ndarray]]


def rows_of(cheap: Cheap, trials: Sequence[ResolvedTrial], done: Mapping[str, Sequence[Row]] | None = None) -> Any:
    """The outcomes of a cohort of these trials, from these rows on."""
    begun = done or {t.id: [] for t in trials}
    return list(run_cohort_rows(Cohort(tuple(trials)), cheap[1], None, begun, Execution()))


def by_key(rows: Sequence[Row]) -> dict[tuple[str, int], Row]:
    return {
        (row["trial_id"], row["round"]): {k: v for k, v in row.items() if k not in {*COSTS, *PROVENANCE}}
        for row in rows
    }


@pytest.fixture(scope="module")
def alone(cheap: Cheap) -> dict[tuple[str, int], Row]:
    """The rows of each trial without company."""
    return by_key([row for t in cheap[0] for row in rows_of(cheap, [t])])


def test_a_trial_has_the_same_rows_alone_in_a_cohort_and_in_any_order(
    cheap: Cheap, alone: dict[tuple[str, int], Row]
) -> None:
    trials = cheap[0]
    assert len(alone) == 12
    assert by_key(rows_of(cheap, trials)) == alone
    assert by_key(rows_of(cheap, list(reversed(trials)))) == alone
    assert by_key(rows_of(cheap, trials[1:3])) == {
        k: v for k, v in alone.items() if k[0] in {t.id for t in trials[1:3]}
    }


def test_a_cohort_resumes_from_any_state_of_its_trials(cheap: Cheap, alone: dict[tuple[str, int], Row]) -> None:
    """Complete, one round stored, none stored; the last trial is not to run."""
    trials = cheap[0]
    counts = {trials[0].id: 3, trials[1].id: 1, trials[2].id: 0}
    done = {trial_id: [alone[trial_id, k] for k in range(n)] for trial_id, n in counts.items()}
    rest = by_key(rows_of(cheap, trials, done))
    assert rest == {k: v for k, v in alone.items() if k[1] >= counts.get(k[0], 3)}
    assert rows_of(cheap, trials, {trials[0].id: done[trials[0].id]}) == []


def failing(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
    raise RuntimeError("this selector fails")


def test_a_selector_that_raises_fails_its_trial_alone(cheap: Cheap, alone: dict[tuple[str, int], Row]) -> None:
    first, *others = cheap[0]
    broken = replace(first, selector=Selector(first.selector.name, failing, frozenset()))
    outcomes = rows_of(cheap, [broken, *others])
    (fault,) = (outcome for outcome in outcomes if isinstance(outcome, Fault))
    assert fault.trial_id == first.id
    assert "this selector fails" in "".join(traceback.format_exception(fault.error))
    rest = by_key([outcome for outcome in outcomes if not isinstance(outcome, Fault)])
    assert rest == {k: v for k, v in alone.items() if k[0] != first.id}


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


def test_the_address_of_a_first_fit_changes_with_all_that_changes_the_fit(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, TRAINED, selectors=SIX[:2], seeds=2)
    one, settings = trials[0], Execution().of_fits
    labels = np.arange(1000) % 10
    labels[0] = 5
    changed = [
        replace(one, trial=replace(one.trial, seed=5)),
        replace(one, trial=replace(one.trial, shots=2)),
        replace(one, trial=replace(one.trial, distillation="labeled")),
        replace(one, trial=replace(one.trial, recipe=replace(one.trial.recipe, lr=0.5))),
        replace(one, trial=replace(one.trial, views=replace(one.trial.views, count=3))),
        replace(one, student=student_network("resnet6_mini@32")),
        replace(one, dataset=replace(one.dataset, train=Split(None, labels))),
    ]
    folders = [fit_folder(t, tmp_path, settings) for t in (one, *changed)]
    folders.append(fit_folder(one, tmp_path, Execution(threads=2).of_fits))
    assert len(set(folders)) == len(changed) + 2
    assert fit_folder(trials[1], tmp_path, Execution(diagnostics=False).of_fits) == folders[0]


def fit_of(value: float) -> FirstFit:
    return FirstFit({"backbone.w": torch.full((2, 3), value), "n": torch.tensor(4)}, None, 0.5, value)


def test_a_first_fit_is_read_as_it_was_written_and_a_torn_one_is_ignored(tmp_path: Path) -> None:
    fits = StoredFits(tmp_path / "fit", "here")
    assert fits.read(0) is None
    assert not has_fit(tmp_path / "fit")
    fits.write(0, fit_of(1.0))
    fits.write(0, fit_of(2.0))
    read = fits.read(0)
    assert read is not None
    assert (read.teacher_seconds, read.train_seconds, read.prototypes) == (0.5, 1.0, None)
    assert read.state["backbone.w"].tolist() == [[1.0] * 3] * 2
    assert read.state["n"].item() == 4
    assert has_fit(tmp_path / "fit")
    assert StoredFits(tmp_path / "fit", "another device").read(0) is None
    (path,) = (tmp_path / "fit").glob("*.pt")
    path.write_bytes(path.read_bytes()[:-7])
    assert fits.read(0) is None
    fits.write(0, fit_of(3.0))
    again = fits.read(0)
    assert again is not None
    assert again.train_seconds == 3.0


def test_a_first_fit_that_cannot_be_kept_is_told_and_costs_no_trial(tmp_path: Path) -> None:
    (tmp_path / "fit").write_text("no folder")
    fits = StoredFits(tmp_path / "fit", "here")
    with pytest.warns(UserWarning, match="a fit of round 0 is not kept for the other selectors: cache .*fit: "):
        fits.write(0, fit_of(1.0))
    assert fits.read(0) is None


def test_first_fits_are_shared_by_selectors_and_removed_once_no_trial_needs_them(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, TRAINED, ADAPTER, selectors=SIX[:3], seeds=2)
    trained = [t for t in trials if not t.student.frozen]
    settings = Execution().of_fits
    done = {trained[0].id: 1, trained[3].id: 2, trained[4].id: 1}
    shared = shared_first_fits(trials, done, tmp_path, settings)
    assert list(shared) == [trained[1].id, trained[2].id]
    (folder,) = set(shared.values())
    last = fit_folder(trained[5], tmp_path, settings)
    for place in (folder, last):
        StoredFits(place, "here").write(0, fit_of(1.0))
    again = shared_first_fits(trials, done, tmp_path, settings)
    assert list(again) == [trained[1].id, trained[2].id, trained[5].id]
    fits = FitFolders(again)
    fits.passed(trained[1].id)
    fits.passed(trained[0].id)
    assert folder.is_dir()
    fits.passed(trained[2].id)
    fits.passed(trained[2].id)
    assert not folder.exists()
    assert last.is_dir()


def test_the_first_trial_of_a_configuration_and_seed_precedes_the_others(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, TRAINED, selectors=SIX[:3], seeds=2)
    shared = shared_first_fits(trials, {}, tmp_path, Execution().of_fits)
    jobs = cohorts(trials, 2, {}, first_fits=shared)
    a, b, c, d, e, f = (job.id for job in jobs)
    follows = followers_of_first_fits(jobs, {})
    assert follows == {b: a, c: a, e: d, f: d}
    assert followers_of_first_fits(jobs, {a: 1, b: 2}) == {e: d, f: d}
    StoredFits(shared[d], "of other code").write(1, fit_of(1.0))
    assert followers_of_first_fits(jobs, {}) == follows

    order = InOrder([a, b, c, d, e, f], follows=follows)
    given = [order.suggest(f"tune{k}") for k in range(3)]
    assert given == [{"job_id": a}, {"job_id": d}, None]
    order.on_trial_result("tune1", {})
    assert [order.suggest(f"tune{k}") for k in (3, 4, 5)] == [{"job_id": e}, {"job_id": f}, None]
    order.on_trial_complete("tune0", error=True)
    order.release(a)
    assert [order.suggest(f"tune{k}") for k in (6, 7, 8)] == [{"job_id": b}, {"job_id": c}, "FINISHED"]
