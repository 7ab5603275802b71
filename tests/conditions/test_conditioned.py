"""The rows and labels of data sets with conditions, worked by hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import made

from activekd.datasets import Dataset, buy, load_dataset, reveal
from activekd.datasets import conditioned as under
from activekd.datasets.conditioned import conditioned
from activekd.errors import InputError
from activekd.pool import NO_CLASS, Pool
from activekd.starts import RANDOM, Start
from activekd.starts.checks import budget_faults, train_labels


def drawn(base: Dataset, choices: str, *draws: int) -> Iterator[Any]:
    """The data set under these conditions, and what it is of its base, in each draw."""
    for draw in draws:
        dataset = conditioned(base, f"digits?{choices}&draw={draw}")
        assert dataset.conditioned is not None
        yield dataset, dataset.conditioned


def test_a_name_without_conditions_gives_the_base_itself() -> None:
    base = made(3, 3)
    assert under(base, "digits") is base
    assert base.banked is base
    assert base.true_labels is base.train.labels


def test_a_long_tail_falls_over_a_random_order_of_the_classes() -> None:
    base, orders = made(100, 100, 100), set()
    for dataset, of in drawn(base, "imbalance=100", *range(8)):
        sizes = np.bincount(dataset.train.labels)
        assert sorted(sizes.tolist()) == [1, 10, 100]
        assert (np.diff(of.train.rows) > 0).all()
        np.testing.assert_array_equal(dataset.train.labels, base.train.labels[of.train.rows])
        orders.add(tuple(sizes.tolist()))
    assert len(orders) > 2


def test_a_class_below_its_place_in_the_tail_stays_whole() -> None:
    for dataset, _ in drawn(made(100, 4, 100), "imbalance=4", *range(6)):
        sizes = np.bincount(dataset.train.labels)
        # Places keep at most 100, 50 and 25; the second class has 4 at any of them.
        assert sizes[1] == 4
        assert {int(sizes[0]), int(sizes[2])} in ({100, 50}, {100, 25}, {50, 25})


def test_noise_replaces_exactly_its_share_uniformly_by_other_classes() -> None:
    base = made(50, 30, 21)
    seen = []
    for dataset, of in drawn(base, "noise=0.2", 0, 1):
        wrong = np.flatnonzero(dataset.train.labels != dataset.true_labels)
        assert len(wrong) == round(0.2 * 101)
        np.testing.assert_array_equal(dataset.true_labels, base.train.labels)
        np.testing.assert_array_equal(of.train.rows, np.arange(101))
        seen.append(wrong.tolist())
    assert seen[0] != seen[1]
    steps = np.concatenate(
        [(dataset.train.labels - dataset.true_labels) % 3 for dataset, _ in drawn(base, "noise=0.9", *range(20))]
    )
    counts = np.bincount(steps, minlength=3)
    # 20 draws of round(0.9 x 101) = 91 wrong labels, each to one of two classes: 910 each within four deviations.
    assert counts[0] == 20 * 10
    assert abs(int(counts[1]) - 910) < 4 * np.sqrt(1820 / 4)


def test_left_out_classes_stay_as_images_of_no_class() -> None:
    base, kept = made(6, 6, 6, 6, 6), set()
    for dataset, of in drawn(base, "open=0.4", *range(6)):
        assert dataset.n_classes == 3
        assert len(dataset.train) == 30
        assert (dataset.train.labels == NO_CLASS).sum() == 12
        assert dataset.class_names == tuple(base.class_names[c] for c in of.classes)
        known = dataset.train.labels >= 0
        np.testing.assert_array_equal(of.classes[dataset.train.labels[known]], base.train.labels[known])
        np.testing.assert_array_equal(of.classes[dataset.test.labels], base.test.labels[of.test.rows])
        assert len(dataset.test) == 12
        assert dataset.embeddings is not None
        np.testing.assert_array_equal(dataset.embeddings.text, np.eye(5)[of.classes])
        assert len(dataset.val) == len(of.classes)
        kept.add(dataset.class_names)
    assert len(kept) > 2


def test_copies_come_after_all_rows_with_the_label_of_their_image() -> None:
    for dataset, of in drawn(made(6, 4), "duplicates=0.3", 0, 1):
        np.testing.assert_array_equal(of.train.rows[:10], np.arange(10))
        copies = of.train.rows[10:]
        assert len(copies) == len(set(copies.tolist())) == 3
        np.testing.assert_array_equal(dataset.train.labels[10:], dataset.train.labels[copies])
        assert (of.train.crops[:10] < 0).all()
        assert ((of.train.crops[10:] >= 0) & (of.train.crops[10:] < 1)).all()
    for dataset, _ in drawn(made(6, 4), "duplicates=1", 0):
        assert len(dataset.train) == 20


def test_test_images_are_never_changed() -> None:
    base = made(20, 20, 20)
    for dataset, of in drawn(base, "imbalance=4&noise=0.3&duplicates=0.5", 0, 1):
        assert of.test is None
        np.testing.assert_array_equal(dataset.test.labels, base.test.labels)
    assert all(of.base is base for _, of in drawn(base, "noise=0.3", 0))


def test_conditions_are_drawn_independently_and_together_in_one_order() -> None:
    base = made(20, 20, 20, 20, 20)
    ((_, alone),) = drawn(base, "imbalance=10", 3)
    ((both, of_both),) = drawn(base, "imbalance=10&noise=0.2", 3)
    np.testing.assert_array_equal(alone.train.rows, of_both.train.rows)
    ((all_, of_all),) = drawn(base, "open=0.2&imbalance=2&duplicates=0.5&noise=0.1", 3)
    # One class is left out. The others keep 20, 16, 13 and 10 images; of these 59 and 20 of no class, half come again.
    n = 20 + sum(round(20 * 2 ** (-i / 3)) for i in range(4))
    assert len(all_.train) == n + round(n / 2)
    known = all_.true_labels != NO_CLASS
    assert (all_.true_labels != all_.train.labels).sum() == round(0.1 * known.sum())
    assert (all_.train.labels[~known] == NO_CLASS).all()
    assert len(of_all.notes) == 4
    assert (both.train.labels != both.true_labels).sum() == round(0.2 * len(both.train))


def test_equal_names_are_equal_data_and_others_are_not() -> None:
    base = made(20, 20, 20, 20, 20)
    names = [f"digits?{c}&draw={d}" for c in ("noise=0.3", "imbalance=3", "open=0.4", "duplicates=1") for d in (0, 1)]
    prints = [conditioned(base, name).fingerprint for name in names]
    assert len({*prints, base.fingerprint}) == 9
    assert prints == [conditioned(base, name).fingerprint for name in names]


@pytest.mark.parametrize(
    ("base", "choices", "messages"),
    [
        (made(5, 5, 5), "open=0.6", ["open=0.6 leaves 1 of 3 classes; expected: a share that leaves at least 2"]),
        (made(5, 5, 5), "open=0.1", ["open=0.1 of 3 classes is none; expected: a share that is at least 1"]),
        (made(4, 4, 4), "imbalance=20", ["no train image of class", "expected: at least one per class"]),
        (
            made(2, 2),
            "noise=0.1&duplicates=0.1",
            ["noise=0.1 of 4 labels is none", "duplicates=0.1 of 4 rows is none; expected: a share that is at least 1"],
        ),
    ],
)
def test_conditions_that_leave_nothing_are_refused_at_once(base: Dataset, choices: str, messages: list[str]) -> None:
    name = f"digits?{choices}&draw=2"
    with pytest.raises(InputError) as refused:
        conditioned(base, name)
    assert all(fault.startswith(f"{name}: ") for fault in refused.value.faults)
    for message in messages:
        assert message in str(refused.value)


def test_a_tail_too_short_for_the_initial_labels_or_the_queries_is_refused() -> None:
    ((dataset, _),) = drawn(made(100, 100, 100), "imbalance=100", 0)
    (fault,) = budget_faults(dataset, rounds=2, start=Start(shots=2), query_size=3)
    assert "has 1 train images; expected: at least 2 (shots = 2)" in fault
    (fault,) = budget_faults(dataset, rounds=12, start=Start(RANDOM), query_size=10)
    assert "11 queries of size 10 from a pool of 108 unlabeled images" in fault
    ((dataset, _),) = drawn(made(6, 6, 6), "open=0.3", 0)
    assert budget_faults(dataset, rounds=2, start=Start(shots=6), query_size=3) == []
    (fault,) = budget_faults(dataset, rounds=2, start=Start(shots=7), query_size=3)
    assert "has 6 train images; expected: at least 7" in fault


def test_the_oracle_gives_wrong_labels_and_none_for_images_of_no_class() -> None:
    ((dataset, _),) = drawn(made(6, 6, 6), "open=0.3&noise=0.5", 0)
    none, known = np.flatnonzero(dataset.train.labels == NO_CLASS), np.flatnonzero(dataset.train.labels >= 0)
    pool = buy(dataset, Pool(18), [none[0], known[3], none[2], known[0]])
    assert (pool.labeled, pool.wasted, pool.n_bought) == ((known[3], known[0]), (none[0], none[2]), 4)
    assert len(pool.unlabeled) == 14
    assert not np.isin(pool.unlabeled, [*pool.labeled, *pool.wasted]).any()
    assert reveal(dataset, pool).labels.tolist() == dataset.train.labels[[known[3], known[0]]].tolist()
    np.testing.assert_array_equal(train_labels(dataset), dataset.train.labels)
    for rows, message in (([none[0]], "labeled twice"), ([99], "outside of the pool"), ([-1], "outside of the pool")):
        with pytest.raises(ValueError, match=message):
            buy(dataset, pool, rows)


def test_a_data_set_of_images_keeps_those_of_its_base(cache: Path) -> None:
    base, dataset = load_dataset("digits", cache), load_dataset("digits?imbalance=5&draw=1", cache)
    assert dataset.banked.fingerprint == base.fingerprint
    assert dataset.banked.train.content == base.train.content
    assert dataset.train.images is None
    light = dataset.without_images()
    assert light.banked.train.images is None
    np.testing.assert_array_equal(light.true_labels, dataset.true_labels)
    assert dataset.notes[-1].startswith("imbalance=5: the largest class has 1")
