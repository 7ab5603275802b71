"""Jobs of a grid: cohorts and their split, company, resuming, a selector that raises."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_trials import ADAPTER, SIX, TRAINED, spec_of, trials_of

from activekd.errors import InputError
from activekd.inputs import compute_shard
from activekd.selectors import Selector
from activekd.selectors.view import PoolView
from activekd.students.cohort import MOST_TOGETHER
from bench.checks import resolve
from bench.columns import COSTS, PROVENANCE, Row
from bench.spec import read_spec
from bench.trials.cohorts import LEAST_MEMBERS, Cohort, cohorts
from bench.trials.resolved import ResolvedTrial, shards_of, with_shards
from bench.trials.run import Execution, Fault, run_cohort_rows


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
