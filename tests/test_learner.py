"""The library: runs on arrays and by name, and learners that ask a person."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_arrays import CLASSES, made_arrays, saved_arrays
from small_recipe import RECIPE

import activekd as ak
from activekd.arguments import chosen_recipe
from activekd.errors import InputError
from activekd.selectors import NEEDS

KEYS = ("X", "y", "X_test", "y_test")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads may round predictions otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def a_run(**options: Any) -> ak.Run:
    arrays = made_arrays()
    return ak.run(*(arrays[key] for key in KEYS), **{"recipe": RECIPE, "rounds": 3, "query_size": 4} | options)


def a_teacher(adapt: Callable[..., ak.FeatureTeacher] = ak.clap, **changed: Any) -> ak.FeatureTeacher:
    arrays = made_arrays() | changed
    return adapt(arrays["teacher_features"], arrays["text"], features_test=arrays["teacher_features_test"])


def a_learner(**options: Any) -> ak.Learner:
    return ak.Learner(made_arrays()["X"], CLASSES, recipe=RECIPE, **options)


def faults(call: Callable[[], object]) -> list[str]:
    with pytest.raises(InputError) as refused:
        call()
    return list(refused.value.faults)


def test_a_curve_has_a_row_per_round_and_picks_are_those_of_the_queries() -> None:
    done = a_run(teacher=a_teacher(), shots=2)
    assert done.curve.columns.tolist() == ["round", "labels", "accuracy", "teacher_accuracy"]
    assert done.curve["round"].tolist() == [0, 1, 2]
    assert done.curve["labels"].tolist() == [6, 10, 14]
    assert done.curve[["accuracy", "teacher_accuracy"]].to_numpy().min() > 1 / 3
    assert [len(rows) for rows in done.picked] == [4, 4]
    bought = [*done.initial, *(row for rows in done.picked for row in rows)]
    assert len(set(bought)) == 14
    assert sorted(made_arrays()["y"][list(done.initial)]) == [0, 0, 1, 1, 2, 2]


def test_a_teacher_without_test_features_has_no_accuracy_and_changes_nothing_else() -> None:
    arrays = made_arrays()
    blind = a_run(teacher=ak.clap(arrays["teacher_features"], arrays["text"]))
    seeing = a_run(teacher=a_teacher())
    assert blind.curve["teacher_accuracy"].isna().all()
    assert blind.curve["accuracy"].equals(seeing.curve["accuracy"])
    assert blind.picked == seeing.picked
    assert a_run().curve["teacher_accuracy"].isna().all()


def test_a_query_is_one_label_per_class_by_default() -> None:
    assert a_run(query_size=None, rounds=2).curve["labels"].tolist() == [3, 6]


def test_the_default_recipe_is_that_of_the_student() -> None:
    assert chosen_recipe(None, "adapter:given") == ak.RECIPES["adapter"]
    assert chosen_recipe(None, "frozen:given") == ak.RECIPES["heads"]
    with pytest.raises(InputError, match="recipe 'end-to-end' with student 'adapter:given'; expected: one of adapter"):
        chosen_recipe("end-to-end", "adapter:given")


def last_rows(view: ak.PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
    return view.pool.unlabeled[-query_size:]


def test_a_selector_is_a_name_a_function_or_an_object() -> None:
    taken = a_run(selector=last_rows).picked[0]
    assert taken == a_run(selector=ak.Selector("mine", last_rows, frozenset())).picked[0]
    assert taken == tuple(sorted(set(range(30)) - set(a_run(rounds=1).initial))[-4:])


def test_a_function_sees_the_arrays_that_it_declares() -> None:
    seen = []

    def curious(view: ak.PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        seen.append(set(view.arrays))
        return view.pool.unlabeled[:query_size]

    a_run(selector=curious, rounds=2)
    curious.needs = {"teacher_probabilities"}  # type: ignore[attr-defined]
    a_run(selector=curious, rounds=2, teacher=a_teacher())
    assert seen == [{"student_probabilities", "features"}, {"teacher_probabilities"}]
    with pytest.raises(InputError, match="selector 'curious' reads teacher_probabilities"):
        a_run(selector=curious)


def test_what_a_selector_reads_is_of_one_round() -> None:
    arrays, seen = made_arrays(), []

    def curious(view: ak.PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        seen.append(view.index)
        predicted = view.student_head.probabilities(view.features)
        torch.testing.assert_close(predicted, view.student_probabilities)
        torch.testing.assert_close(view.text_prototypes.norm(dim=1), torch.ones(3))
        logits = 100 * view.teacher_features.float() @ view.text_prototypes.T
        torch.testing.assert_close(logits.softmax(dim=1), view.teacher_probabilities, rtol=1e-3, atol=1e-3)
        assert view.true_labels.tolist() == arrays["y"].tolist()
        return view.pool.unlabeled[:query_size]

    curious.needs = set(NEEDS)  # type: ignore[attr-defined]
    a_run(selector=curious, rounds=3, teacher=a_teacher(ak.zeroshot))
    assert seen == [0, 1]


def test_an_oracle_is_refused_where_true_labels_are_not_known() -> None:
    oracle = ak.Selector("peek", last_rows, frozenset({"true_labels"}))
    with pytest.raises(InputError, match="selector 'peek' is an oracle, which reads true labels; expected: a strategy"):
        ak.Learner([[0.0, 1.0]] * 9, ["ant", "bee"], selector=oracle)


def test_a_selector_that_breaks_its_contract_is_named() -> None:
    with pytest.raises(InputError, match=r"round 0: selector '<lambda>' returned rows more|returned an array of shape"):
        a_run(selector=lambda view, query_size, *, rng: [1])


def test_all_faults_of_a_run_are_named_at_once() -> None:
    arrays = made_arrays()
    found = faults(
        lambda: ak.run(
            arrays["X"],
            arrays["y"] + 0.5,
            arrays["X_test"][:, :2],
            [0, 1],
            selector="pcorset",
            student="adapter:efficientnet_lite0",
            teacher=ak.zeroshot(arrays["teacher_features"][1:], arrays["text"]),
            recipe="heads",
            rounds=0,
            shots=1.5,  # type: ignore[reportArgumentType]
            views="photos",
            device="tpu",
        )
    )
    assert [fault.partition(";")[0] for fault in found] == [
        "rounds is 0",
        "shots is 1.5",
        "device tpu: unknown",
        "recipe 'heads' with student 'adapter:efficientnet_lite0'",
        "unknown selector 'pcorset'",
        "student 'adapter:efficientnet_lite0' on arrays, which has no images",
        "5 views of arrays, which has no images to crop",
        "run: X_test has 2 columns",
        "run: y is float64 of shape (30,)",
        "run: y_test has 2 rows",
        "run: teacher_features has 29 rows",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selector": "teacher_entropy"}, "selector 'teacher_entropy' reads teacher_probabilities; expected: a"),
        ({"teacher": "clip_rn50+clap"}, "teacher 'clip_rn50+clap' for arrays in memory; expected: activekd.zeroshot"),
        ({"distillation": "both"}, "distillation 'both' without a teacher; expected: none"),
        (
            {"teacher": a_teacher(), "distillation": "none"},
            "distillation 'none' with a teacher; expected: labeled, unl",
        ),
        (
            {"rounds": 8},
            "arrays: 7 queries of size 4 from a pool of 27 unlabeled images; expected: rounds and query_size",
        ),
        ({"shots": 11}, "arrays: class '0' has 10 train images; expected: at least 11 (shots = 11)"),
        (
            {"selector": "top:margin:4|coreset"},
            "selector 'top:margin:4|coreset': 'coreset' sees 4 images for a query of",
        ),
        ({"selector": 3}, "selector 'int' is int; expected: a function (view, query_size, *, rng) or an activekd"),
        ({"recipe": "head"}, "unknown recipe 'head'; did you mean 'heads'?"),
        ({"views": "none"}, "unknown view geometry 'none'"),
        ({"seed": True}, "seed is True; expected: a whole number, at least 0"),
    ],
)
def test_a_fault_of_a_run_is_named(options: dict[str, Any], message: str) -> None:
    found = faults(lambda: a_run(**options))
    assert len(found) == 1
    assert found[0].startswith(message)


def test_a_name_comes_without_arrays_and_with_a_teacher_by_name(tmp_path: Path) -> None:
    name, arrays = saved_arrays(tmp_path / "a.npz"), made_arrays()
    found = faults(lambda: ak.run(name, arrays["y"], teacher=a_teacher()))
    assert found == [
        f"a teacher of features for the data set {name}; expected: a name, NETWORK+zeroshot, NETWORK+clap, "
        f"NETWORK+tip_adapter, NETWORK+lp++, NETWORK+transclip, or None",
        f"y with the data set {name}; expected: arrays, or a name alone",
    ]
    short = {"recipe": RECIPE, "rounds": 2, "query_size": 4, "selector": "margin"}
    by_name = ak.run(name, teacher="given+clap", **short)
    assert by_name.picked == a_run(teacher=a_teacher(), rounds=2, selector="margin").picked


def test_a_folder_of_images_runs_by_name(ok: Path, cache: Path) -> None:
    done = ak.run(
        f"folder:{ok}",
        student="resnet6_mini@16",
        teacher="glyphclip+zeroshot",
        selector="margin",
        recipe=RECIPE,
        views=ak.ViewGeometry(count=2, scale=(0.8, 1.0), ratio=(1.0, 1.0), flip=0.5),
        rounds=2,
        cache=cache,
    )
    assert done.curve["labels"].tolist() == [3, 6]
    assert done.curve["teacher_accuracy"].notna().all()
    with pytest.raises(
        InputError, match=r"student 'adapter:given' on folder:.*, which has images; expected: a backbone"
    ):
        ak.run(f"folder:{ok}", cache=cache)


def test_a_learner_has_the_numbers_of_a_run() -> None:
    arrays = made_arrays()
    for teacher, selector in ((a_teacher(), "pcoreset"), (None, "badge")):
        done = a_run(teacher=teacher, selector=selector, seed=2)
        learner = a_learner(teacher=teacher, selector=selector, seed=2)
        learner.teach(done.initial, arrays["y"][list(done.initial)])
        for measured in done.rounds:
            right = learner.predict(arrays["X_test"]) == arrays["y_test"]
            assert right.mean() == measured.accuracy
            if measured.picked:
                rows = learner.query(4)
                assert tuple(rows) == measured.picked
                learner.teach(rows, arrays["y"][rows])


def test_the_first_query_is_a_random_draw_that_stays_until_something_is_taught() -> None:
    first = a_learner().query(6)
    assert len(set(first.tolist())) == 6
    assert a_learner().query(6).tolist() == first.tolist()
    assert a_learner(seed=1).query(6).tolist() != first.tolist()
    drawn = np.concatenate([a_learner(seed=seed, selector="random").query(10) for seed in range(200)])
    counts = np.bincount(drawn, minlength=30)
    assert counts.max() < 2 * counts.min()


def test_a_query_is_the_same_until_labels_come_and_then_another() -> None:
    y, learner = made_arrays()["y"], a_learner(selector="random")
    learner.teach([0, 1, 2], y[:3])
    first = learner.query(5).tolist()
    assert learner.query(5).tolist() == first
    learner.teach(first[:2], y[first[:2]])
    learner.teach(first[2:], [CLASSES[label] for label in y[first[2:]]])
    assert set(learner.query(5).tolist()).isdisjoint([0, 1, 2, *first])
    known = np.flatnonzero(learner.labels >= 0)
    assert sorted([0, 1, 2, *first]) == known.tolist()
    assert learner.labels[known].tolist() == y[known].tolist()


def test_classes_without_a_label_are_no_obstacle() -> None:
    learner = a_learner(teacher=a_teacher(), selector="classbalanced")
    learner.teach([0, 3], [0, 0])
    assert learner.predict_proba(made_arrays()["X_test"]).sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert len(learner.query(28)) == 28
    learner.teach(learner.query(28), made_arrays()["y"][learner.query(28)])
    assert faults(lambda: learner.query(1)) == ["a query of 1 rows from 0 unlabeled ones; expected: at most 0"]
    assert len(learner.predict(made_arrays()["X"])) == 30


@pytest.mark.parametrize(
    ("rows", "labels", "messages"),
    [
        (
            [5, 5, 40, 0],
            [0, 1, 2, 3],
            ["rows 40 outside of the 30", "rows 5 more than once", "rows 0 that have", "labels"],
        ),
        ([5], [0, 1], ["labels has 2 rows; expected: 1, as many as rows"]),
        ([5.0], [0], ["rows is float64 of shape (1,)"]),
        ([5], ["be"], ["unknown class 'be'; did you mean 'bee'? known: ant, bee, cat"]),
        ([5], [0.5], ["labels is float64 of shape (1,); expected: whole numbers"]),
        ([-1], [0], ["rows has numbers from -1 to -1"]),
        (5, 0, ["rows is int64 of shape (); expected", "labels is int64 of shape ()"]),
        ([5], None, ["no labels"]),
    ],
)
def test_nothing_is_taught_where_there_is_a_fault(rows: Any, labels: Any, messages: list[str]) -> None:
    learner = a_learner()
    learner.teach([0], [0])
    found = faults(lambda: learner.teach(rows, labels))
    assert [fault.startswith(f"teach: {start}") for fault, start in zip(found, messages, strict=True)] == [True] * len(
        found
    )
    assert (learner.labels >= 0).sum() == 1


def test_faults_of_a_learner_are_named() -> None:
    learner = a_learner()
    assert faults(lambda: learner.predict([[0.0] * 5])) == ["no label is known; expected: teach(rows, labels) first"]
    learner.teach([0, 1], [0, 1])
    assert faults(lambda: learner.predict([[0.0] * 4])) == [
        "predict: X has 4 columns; expected: 5, as many as X of the fit"
    ]
    assert faults(lambda: learner.predict([[np.nan] * 5]))[0].startswith("predict: X has values that are not finite")
    assert faults(lambda: learner.query(0)) == ["n is 0; expected: a whole number, at least 1"]
    assert faults(lambda: learner.query(29)) == ["a query of 29 rows from 28 unlabeled ones; expected: at most 28"]
    assert [fault.partition(";")[0] for fault in faults(
        lambda: ak.Learner([[1.0, np.nan]], ["a"], teacher=a_teacher(), seed=-1, student="resnet18")
    )] == [
        "seed is -1",
        "student 'resnet18' on arrays, which has no images",
        "Learner: X has values that are not finite in 1 row (0)",
        "Learner: class_names has 1 names",
    ]  # fmt: skip
    assert faults(lambda: ak.Learner([[1.0]], None)) == ["Learner: no class_names; expected: one name per class"]  # type: ignore[reportArgumentType]


def test_a_saved_learner_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    arrays, file = made_arrays(), tmp_path / "model.safetensors"
    learner = a_learner(teacher=a_teacher(), selector="margin", distillation="unlabeled")
    learner.teach([0, 1, 2], [0, 1, 2])
    asked = learner.query(4)
    learner.save(file)
    again = ak.Learner.load(file, arrays["X"], teacher=a_teacher())
    for each in (learner, again):
        each.teach(asked, arrays["y"][asked])
    assert np.array_equal(again.predict_proba(arrays["X"]), learner.predict_proba(arrays["X"]))
    assert again.query(4).tolist() == learner.query(4).tolist()
    learner.save(file)
    alone = ak.Predictor.load(file)
    assert alone.class_names == CLASSES
    assert np.array_equal(alone.predict(arrays["X_test"]), learner.predict(arrays["X_test"]))
    alone.save(file)
    assert faults(lambda: ak.Learner.load(file, arrays["X"]))[0].endswith(
        "a predictor alone; expected: a file of Learner.save"
    )
    assert np.array_equal(ak.Predictor.load(file).predict_proba(arrays["X"]), learner.predict_proba(arrays["X"]))


def test_a_file_that_is_no_saved_learner_or_of_other_rows_is_named(tmp_path: Path) -> None:
    file, X = tmp_path / "model.safetensors", made_arrays()["X"]
    learner = a_learner(selector=last_rows)
    assert faults(lambda: learner.save(file)) == ["no label is known; expected: teach(rows, labels) first"]
    learner.teach([0, 1], [0, 1])
    learner.save(file)
    assert faults(lambda: ak.Learner.load(file, X, teacher=a_teacher())) == [
        f"{file}: saved without a teacher; expected: teacher=None",
        f"{file}: saved with the selector 'last_rows', which is not in the library; expected: selector=...",
    ]
    assert faults(lambda: ak.Learner.load(file, X[::-1], selector=last_rows)) == [
        f"{file}: saved with another X; expected: the same rows in the same order"
    ]
    assert ak.Learner.load(file, X, selector=last_rows).query(2).tolist() == [28, 29]
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    (tmp_path / "text.safetensors").write_text("no tensors", encoding="utf-8")
    for name, message in (("other", "format None"), ("text", "Error"), ("absent", "No such file")):
        found = faults(lambda name=name: ak.Predictor.load(tmp_path / f"{name}.safetensors"))
        assert message in found[0]
        assert "expected: a file of Learner.save" in found[0]
    assert (
        "expected: a file in a folder that can be written" in faults(lambda: learner.save("/absent/a.safetensors"))[0]
    )
