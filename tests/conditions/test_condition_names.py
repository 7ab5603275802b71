"""Conditions in names: what they parse to, what is refused, and what shares one name."""

from pathlib import Path

import pytest
from small_arrays import saved_arrays

from activekd.datasets import check_dataset_name
from activekd.datasets import choices as of_names
from activekd.datasets.choices import banked_name, choices_of, conditions_of, drawn_for
from activekd.datasets.conditions import Conditions
from activekd.datasets.sizes import EMBEDDED, dataset_sizes
from activekd.defaults import DIGITS, PHOTOS, default_views
from activekd.errors import InputError
from activekd.given import split_name
from bench.display import built_in
from bench.specs.listing import listed

CALTECH = "caltech101?pool=val&classes=clip/head.npz"


def test_any_data_set_has_conditions_beside_its_own_choices() -> None:
    assert conditions_of("digits") is None
    assert conditions_of("digits?imbalance=10&noise=0.2") == Conditions(imbalance=10.0, noise=0.2)
    assert conditions_of("folder:a/b?open=0.3&draw=4") == Conditions(open=0.3, draw=4)
    assert conditions_of("arrays:a.npz?duplicates=1") == Conditions(duplicates=1.0)
    choices = choices_of(f"{CALTECH}&imbalance=2.5&size=500&draw=7")
    assert choices.conditions == Conditions(imbalance=2.5, draw=7)
    assert (choices.pool, choices.size, choices.draw, choices.classes) == ("val", "500", "7", "clip/head.npz")


def test_a_path_ends_at_its_last_question_mark_before_pairs() -> None:
    assert split_name("folder:what?/now") == ("folder:what?/now", ())
    assert split_name("folder:what?now") == ("folder:what?now", ())
    assert split_name("folder:a?b?noise=0.1") == ("folder:a?b", (("noise", "0.1"),))
    assert split_name("folder:a?b=c/") == ("folder:a?b=c/", ())
    assert split_name("arrays:a=b.npz?noise=") == ("arrays:a=b.npz", (("noise", ""),))
    assert conditions_of("folder:what?/now") is None


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ("imbalance=0.5", "imbalance '0.5'; expected: a ratio of at least 1, such as 10"),
        ("imbalance=-1", "imbalance '-1'; expected: a ratio"),
        ("imbalance=1e3", "imbalance '1e3'; expected: a ratio"),
        ("noise=1", "noise '1'; expected: a share from 0 to below 1, such as 0.2"),
        ("noise=1.5", "noise '1.5'; expected"),
        ("noise=0.20", "noise '0.20'; expected"),
        ("open=1", "open '1'; expected: a share from 0 to below 1"),
        ("duplicates=1.1", "duplicates '1.1'; expected: a share from 0 to 1"),
        ("duplicates=nan", "duplicates 'nan'; expected"),
        ("noise=", "noise has no value; expected: NAME?KEY=VALUE"),
        ("noise=0.1&noise=0.2", "noise stands more than once; expected: each key once"),
        ("imbalace=10", "unknown choice in"),
        ("draw=3", "draw=3, but nothing is drawn; expected: a condition too, or no draw"),
        ("noise=0.1&draw=-3", "draw '-3'; expected: the number of a draw, at least 0"),
    ],
)
def test_wrong_conditions_are_named_without_reading_a_file(choices: str, message: str, tmp_path: Path) -> None:
    file = saved_arrays(tmp_path / "a.npz")
    for name in (f"digits?{choices}", f"{file}?{choices}"):
        with pytest.raises(InputError) as refused:
            check_dataset_name(name)
        assert message in str(refused.value), name
        assert name in str(refused.value)


def test_all_faults_of_a_name_come_at_once() -> None:
    with pytest.raises(InputError) as refused:
        check_dataset_name("folder:/nowhere?imbalance=0&noise=2&opn=0.1")
    for part in ("no such folder", "imbalance '0'", "noise '2'", "did you mean 'open'?"):
        assert part in str(refused.value)
    with pytest.raises(InputError) as refused:
        choices_of("caltech101?pool=text&imbalance=0")
    assert "pool 'text'" in str(refused.value)
    assert "imbalance '0'" in str(refused.value)


def test_published_classes_refuse_an_open_pool_before_any_file_is_read() -> None:
    with pytest.raises(
        InputError, match=r"open=0.99 leaves 1 of 100 classes; expected: a share that leaves at least 2"
    ):
        choices_of("caltech101?open=0.99")
    with pytest.raises(InputError, match=r"open=0.004 of 100 classes is none; expected: a share that is at least 1"):
        choices_of("caltech101?open=0.004")
    with pytest.raises(InputError, match=r"digits\?open=0.9: open=0.9 leaves 1 of 10 classes"):
        dataset_sizes("digits?open=0.9", Path())


def test_the_seed_of_a_trial_draws_its_conditions() -> None:
    assert drawn_for("digits?noise=0.2", 4) == "digits?noise=0.2&draw=4"
    assert drawn_for("folder:a?b?open=0.3", 4) == "folder:a?b?open=0.3&draw=4"
    assert drawn_for(f"{CALTECH}&imbalance=10", 4) == f"{CALTECH}&imbalance=10&draw=4"
    assert drawn_for("caltech101?size=500&noise=0.1", 4) == "caltech101?size=500&noise=0.1&draw=4"
    for name in ("digits", "folder:a?b", "digits?noise=0.2&draw=1", CALTECH):
        assert drawn_for(name, 4) == name


def test_a_bank_is_that_of_the_name_without_conditions() -> None:
    assert banked_name("digits?noise=0.2&draw=4") == "digits"
    assert banked_name(f"{CALTECH}&imbalance=10&draw=4") == CALTECH
    assert banked_name("caltech101?size=500&noise=0.1&draw=4") == "caltech101?size=500&draw=4"
    assert banked_name("folder:a?b?open=0.3") == "folder:a?b"
    for name in ("digits", "folder:a?b", "imagenet?draw=3", CALTECH):
        assert banked_name(name) == name


def test_conditions_change_no_default() -> None:
    assert default_views("digits?noise=0.2") == DIGITS
    assert default_views("caltech101?noise=0.2") == PHOTOS
    assert of_names.test_split("caltech101?test=val&noise=0.2") == "val"


def test_labels_and_lists_name_conditions() -> None:
    assert built_in("dataset", "digits?imbalance=10") == "Digits, imbalance 10"
    assert built_in("dataset", f"{CALTECH}&noise=0.2&duplicates=0.3") == (
        "Caltech-101 (pool val, classes head), label noise 0.2, duplicates 0.3"
    )
    assert built_in("dataset", "arrays:x/study.npz?open=0.3") == "study, open set 0.3"
    assert built_in("dataset", "mine?x=1") == "mine?x=1"
    lines = [line for line in listed("datasets") if line.startswith("NAME?")]
    assert [line.partition("=")[0] for line in lines] == [
        "NAME?imbalance",
        "NAME?noise",
        "NAME?open",
        "NAME?duplicates",
    ]


def test_a_plan_counts_the_images_of_classes_of_one_size() -> None:
    plain = EMBEDDED["digits"]
    noisy, open_, copied = (
        dataset_sizes(f"digits?{choices}", Path()) for choices in ("noise=0.2", "open=0.3", "duplicates=0.5")
    )
    assert (noisy.n_classes, noisy.n_pool, noisy.n_test, noisy.banked) == (10, plain.n_pool, plain.n_test, plain)
    assert (open_.n_classes, open_.n_pool, open_.n_test) == (7, plain.n_pool, round(0.7 * plain.n_test))
    assert copied.n_pool == plain.n_pool + plain.n_pool // 2
    # The tail of ten classes keeps the mean of 100^(-i / 9), which is 0.2490 for i from 0 to 9.
    assert dataset_sizes("digits?imbalance=100", Path()).n_pool == pytest.approx(0.2490 * plain.n_pool, abs=2)


def test_the_tail_by_hand() -> None:
    assert Conditions(imbalance=4.0).tail(40, 3) == [40, 20, 10]
    assert Conditions(imbalance=1.0).tail(40, 3) == [40, 40, 40]
    assert Conditions(open=0.25).n_left_out(8) == 2
