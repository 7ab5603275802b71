"""Rounds under conditions: what is paid, wasted, measured and resumed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_arrays import saved_arrays
from small_recipe import RECIPE
from test_diagnostics import MEASURED, WORLD

from activekd.accuracies import recalls
from activekd.datasets import Conditioned, Split, load_dataset, reveal
from activekd.datasets.row_map import RowMap
from activekd.defaults import VIEWS
from activekd.diagnostics import diagnose
from activekd.errors import InputError
from activekd.inputs import computed_inputs
from activekd.loop import run_cohort, run_rounds
from activekd.pool import NO_CLASS, Pool
from activekd.rounds import Member, Round
from activekd.selectors import SELECTORS, Selector, selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.query import select
from activekd.starts import RANDOM, TYPICLUST, Start
from activekd.streams import stream
from activekd.students.networks import student_network
from activekd.teachers import teacher

SEED = 3


@pytest.fixture(scope="module")
def open_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"{saved_arrays(tmp_path_factory.mktemp('open') / 'a.npz')}?open=0.34&draw={SEED}"


def rounds_on(
    name: str, cache: Path, picker: Selector, *, start: str = RANDOM, taught: str = "given+clap", **more: Any
) -> list[Round]:
    dataset = load_dataset(name, cache)
    views = computed_inputs(dataset, student_network("adapter:given"), teacher(taught), VIEWS["single"], cache)
    found = run_rounds(
        dataset,
        *views,
        picker,
        RECIPE,
        VIEWS["single"],
        **{"rounds": 4, "start": Start(start, labels=6), "query_size": 4, "distillation": "both", "seed": SEED, **more},
    )
    return list(found)


def numbers(done: Sequence[Round]) -> list[tuple[object, ...]]:
    return [
        (r.index, r.n_labeled, r.wasted_labels, r.picked, r.accuracy, r.macro_accuracy, r.worst_class_accuracy)
        for r in done
    ]


def test_a_wasted_label_is_paid_for_and_trains_nothing(open_name: str, cache: Path) -> None:
    dataset = load_dataset(open_name, cache)
    none = dataset.train.labels == NO_CLASS
    done = rounds_on(open_name, cache, selector("random"))
    assert [r.n_labeled for r in done] == [6, 10, 14, 18]
    wasted, bought = int(done[0].wasted_labels or 0), set[int]()
    assert wasted > 0
    for before, after in pairwise(done):
        wasted += int(none[list(before.picked)].sum())
        assert after.wasted_labels == wasted
        assert bought.isdisjoint(before.picked)
        bought |= set(before.picked)
    assert wasted > int(done[0].wasted_labels or 0)


def test_a_balanced_start_wastes_nothing(open_name: str, cache: Path) -> None:
    done = rounds_on(open_name, cache, selector("random"), start="balanced", rounds=1)
    assert (done[0].n_labeled, done[0].wasted_labels) == (6, 0)
    (plain,) = rounds_on(open_name.partition("?")[0], cache, selector("random"), rounds=1)
    assert plain.wasted_labels == 0


@pytest.mark.parametrize("name", ["random", "pcoreset", "typiclust", "galaxy", "boss"])
@pytest.mark.parametrize("start", [RANDOM, TYPICLUST])
def test_a_resumed_trial_has_the_rounds_of_an_undisturbed_one(
    name: str, start: str, open_name: str, cache: Path
) -> None:
    whole = rounds_on(open_name, cache, selector(name), start=start)
    for n in (1, 3):
        rest = rounds_on(open_name, cache, selector(name), start=start, picked=[r.picked for r in whole[:n]])
        assert numbers(rest) == numbers(whole[n:])


def test_trials_that_waste_different_numbers_share_a_cohort(open_name: str, cache: Path) -> None:
    names = ["random", "coreset", "entropy", "margin", "pcoreset"]
    dataset = load_dataset(open_name, cache)
    student, taught = computed_inputs(
        dataset, student_network("adapter:given"), teacher("given+clap"), VIEWS["single"], cache
    )
    found: dict[int, list[Round]] = {}
    for outcome in run_cohort(
        dataset,
        student,
        taught,
        [Member(selector(name), SEED) for name in names],
        RECIPE,
        VIEWS["single"],
        rounds=4,
        start=Start(RANDOM, labels=6),
        query_size=4,
        distillation="both",
    ):
        assert isinstance(outcome.result, Round), outcome.result
        found.setdefault(outcome.member, []).append(outcome.result)
    assert len({tuple(r.wasted_labels for r in done) for done in found.values()}) > 1
    for member, name in enumerate(names):
        assert numbers(found[member]) == numbers(rounds_on(open_name, cache, selector(name)))


def test_selectors_never_see_rows_whose_labels_were_wasted() -> None:
    view = made_up_view()
    none, truth = view.pool.unlabeled[1::10], view.true_labels.copy()
    truth[none] = NO_CLASS
    pool = replace(view.pool, wasted=tuple(none[::2].tolist()))
    for picker in SELECTORS.values():
        seen = replace(declared(view, picker), pool=pool)
        seen = replace(seen, truth=truth if picker.is_oracle else None)
        for k in (9, len(pool.unlabeled)):
            rows = select(picker, seen, k, rng=stream(0, "test"))
            assert np.isin(rows, pool.unlabeled).all(), picker.name
            assert len(set(rows.tolist())) == k

    def own(view: Any, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        assert view.pool.wasted == ()
        assert len(view.labels) == view.pool.n == len(pool.labeled) + len(pool.unlabeled)
        return np.flatnonzero(view.labels < 0)[:query_size]

    rows = select(Selector("own", own, frozenset()), replace(view, pool=pool, arrays={}), 5, rng=stream(0, "test"))
    assert rows.tolist() == pool.unlabeled[:5].tolist()


def test_the_student_learns_the_labels_that_come_and_diagnostics_read_the_true_ones(
    tmp_path: Path, cache: Path
) -> None:
    dataset = load_dataset(f"{saved_arrays(tmp_path / 'a.npz')}?noise=0.5&draw=1", cache)
    labeled = reveal(dataset, Pool(30, tuple(range(30))))
    assert (labeled.labels != dataset.true_labels).sum() == 15
    # WORLD's rows 2 and 5 come wrong, and row 7 is of no class: the figures by hand of ``test_diagnostics`` change so.
    true = WORLD.train.labels.copy()
    true[7] = NO_CLASS
    told = true.copy()
    told[[2, 5]] = 0
    of = Conditioned(WORLD, np.arange(4), RowMap(np.arange(8)), None, true)
    world = replace(WORLD, train=Split(None, told), conditioned=of)
    found = diagnose(world, Pool(8, (0, 4, 1)), np.array([2, 7]), MEASURED, rng=np.random.default_rng(0))
    # Labels 0, 0, 1 and then 2; row 7 buys none. Of the picks one of two has a class that counts.
    assert (found.picks_coverage, found.labeled_coverage) == (0.5, 0.75)
    assert found.picks_teacher_accuracy == 1.0
    # Unlabeled with a class: 2, 3, 5, 6, of which the teacher is right on 2.
    assert found.pool_teacher_accuracy == 0.25
    # It surely mistakes 3 and 6 of the seven rows with a class; 7, of no class, misleads nobody.
    assert found.misled == pytest.approx(2 / 7)


def test_accuracy_by_class_by_hand() -> None:
    probabilities = torch.eye(4)[torch.tensor([0, 0, 1, 0, 3, 3])]
    # Class 0 is right in 2 of 2, class 1 in 1 of 2, class 3 in 2 of 2; class 2 has no test image.
    found = recalls(probabilities, np.array([0, 0, 1, 1, 3, 3]))
    assert found.tolist() == [1.0, 0.5, 1.0]
    assert recalls(probabilities[:2], np.array([1, 1])).tolist() == [0.0]


def test_rounds_have_accuracies_by_class(open_name: str, cache: Path) -> None:
    for done in rounds_on(open_name, cache, selector("random"), start="balanced"):
        # Both classes have five test images, so the mean over classes is that over images.
        assert done.macro_accuracy == pytest.approx(done.accuracy)
        assert done.worst_class_accuracy is not None
        assert done.worst_class_accuracy <= done.accuracy


def test_a_start_without_any_label_is_named(open_name: str, cache: Path) -> None:
    dataset = load_dataset(open_name, cache)
    labels = np.full(30, NO_CLASS)
    of = dataset.conditioned
    assert of is not None
    nothing = replace(dataset, train=Split(None, labels), conditioned=replace(of, true_labels=labels))
    views = computed_inputs(nothing, student_network("adapter:given"), None, VIEWS["single"], cache)
    found = run_rounds(
        nothing,
        *views,
        selector("random"),
        RECIPE,
        VIEWS["single"],
        rounds=1,
        start=Start(RANDOM, labels=2),
        query_size=1,
        distillation="none",
        seed=0,
    )
    with pytest.raises(InputError, match="all 2 initial labels of seed 0 are wasted on images of no class; expected: "):
        list(found)
