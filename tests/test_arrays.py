"""Data sets of arrays: what is read, every fault named at once, and grids on them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_arrays import CLASSES, made_arrays, saved_arrays, spec_on
from small_recipe import RECIPE

import activekd as ak
from activekd.banked import banked_shards
from activekd.datasets import load_dataset
from activekd.datasets.arrays import arrays_source
from activekd.errors import InputError
from activekd.students.networks import student_network
from activekd.teachers import teacher
from bench.checks import resolve
from bench.data import app as data_command
from bench.data import list_rows
from bench.launch import launch
from bench.plan.count import estimate
from bench.settings import Options
from bench.spec import read_spec
from bench.store.rows import stored_rows


def faults_of(**changed: Any) -> list[str]:
    """The messages of arrays with these changes, without the word that begins each."""
    with pytest.raises(InputError) as refused:
        arrays_source("here", made_arrays(**changed))
    assert all(fault.startswith("here: ") for fault in refused.value.faults)
    return [fault.removeprefix("here: ") for fault in refused.value.faults]


def changed(key: str, at: Any, value: float) -> dict[str, np.ndarray]:
    array = made_arrays()[key].copy()
    array[at] = value
    return {key: array}


def test_a_file_is_a_data_set_with_features_in_place_of_images(tmp_path: Path, cache: Path) -> None:
    name = saved_arrays(tmp_path / "a.npz", ids=np.arange(30), logit_scale=np.array(50.0))
    dataset = load_dataset(name, cache)
    assert (dataset.class_names, len(dataset.train), len(dataset.val), len(dataset.test)) == (CLASSES, 30, 0, 15)
    assert dataset.train.features is not None
    assert dataset.train.features.student.dtype == np.float32
    np.testing.assert_allclose(dataset.train.features.student, made_arrays()["X"], rtol=1e-6)
    assert dataset.embeddings is not None
    assert dataset.embeddings.logit_scale == 50.0
    assert dataset.notes == ("arrays that are not read: ids",)
    assert dataset.without_images().train.features is None


def test_features_of_a_teacher_are_divided_by_their_norm() -> None:
    features = made_arrays()["teacher_features"]
    features[0] = [3e6, 4e6, 0, 0]
    source = arrays_source("here", made_arrays(teacher_features=features))
    assert source.train.features is not None
    assert source.train.features.teacher is not None
    assert source.train.features.teacher.dtype == np.float16
    np.testing.assert_allclose(source.train.features.teacher[0], [0.6, 0.8, 0, 0], atol=1e-3)


def test_classes_have_their_numbers_as_names_where_none_are_given() -> None:
    source = arrays_source("here", made_arrays(class_names=None))
    assert source.class_names == ("0", "1", "2")


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.uint64, list, torch.tensor])
def test_arrays_tensors_lists_and_integers_of_any_width_are_the_same(kind: Any) -> None:
    arrays = made_arrays()
    listed = {key: value.tolist() for key, value in arrays.items()}
    made = {key: kind(value) if key.startswith("y") else value for key, value in listed.items()}
    source = arrays_source("here", made)
    assert source.train.labels.dtype == np.int64
    assert source.train.fingerprint == arrays_source("here", arrays).train.fingerprint


def test_half_precision_tensors_are_taken() -> None:
    X = torch.tensor(made_arrays()["X"])
    for kind in (torch.bfloat16, torch.float16):
        source = arrays_source("here", made_arrays(X=X.to(kind).requires_grad_()))
        assert source.train.features is not None
        np.testing.assert_array_equal(source.train.features.student, X.to(kind).float().numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": None, "X": None}, "no X, y_test among class_names, text, y, teacher_features, X_test"),
        (changed("X", (4, 2), np.nan), "X has values that are not finite in 1 row (4); expected: numbers"),
        (changed("X_test", ([1, 3], 0), np.inf), "X_test has values that are not finite in 2 rows (1, 3)"),
        (
            changed("X", (5, 0), 1e300),
            "X has values that are not finite in 1 row (5); expected: numbers that are finite",
        ),
        ({"X_test": np.zeros((15, 7))}, "X_test has 7 columns; expected: 5, as many as X"),
        ({"X": np.zeros(30)}, "X is float64 of shape (30,); expected: numbers of shape (rows, width)"),
        ({"X": np.zeros((30, 0))}, "X is float64 of shape (30, 0); expected: numbers of shape (rows, width)"),
        ({"X": np.array([["a"] * 5] * 30)}, "X is <U1 of shape (30, 5); expected: numbers of shape (rows, width)"),
        ({"X": [[1.0], [1.0, 2.0]]}, "X is no array (setting an array element with a sequence); expected: an array"),
        ({"X": np.array([[{}]])}, "X holds Python objects (ndarray); expected: numbers or text"),
        ({"y": np.zeros(29, dtype=int)}, "y has 29 rows; expected: 30, as many as X"),
        ({"y": np.arange(30) % 3 / 1}, "y is float64 of shape (30,); expected: whole numbers of shape (rows,)"),
        (changed("y", 7, -1), "y has numbers from -1 to 2; expected: whole numbers from 0"),
        (changed("y", [7, 9], 3), "y has 3 as the label of 2 rows (7, 9); expected: 0 to 2, for 3 classes"),
        ({**changed("y", 7, 10**12), "class_names": None}, "y and y_test have labels up to 1000000000000 in 30 rows"),
        (changed("y_test", slice(None), 1), "no test image of class 'ant', 'cat'; expected: at least one per class"),
        ({"class_names": ["a", "b", "a"]}, "class_names has 3 names, 'a' twice; expected: distinct names"),
        ({"class_names": ["a", "b", " "]}, "class_names has 3 names, an empty one; expected: distinct names"),
        ({"class_names": [1, 2, 3]}, "class_names is int64 of shape (3,); expected: one-dimensional text"),
        ({"text": np.ones((4, 4))}, "text has 4 rows; expected: 3, as many as the classes"),
        ({"text": np.ones((3, 6))}, "text has 6 columns; expected: 4, as many as teacher_features"),
        (changed("text", 1, 0.0), "text has norm 0 in 1 row (1); expected: rows of a norm above 0"),
        (changed("teacher_features", 8, 0.0), "teacher_features has norm 0 in 1 row (8); expected: rows of a norm"),
        ({"teacher_features_test": np.ones((15, 9))}, "teacher_features_test has 9 columns; expected: 4, as many as"),
        ({"teacher_features": np.ones((31, 4))}, "teacher_features has 31 rows; expected: 30, as many as X"),
        ({"logit_scale": 4.6}, "logit_scale is 4.6; expected: the factor from a cosine to a logit"),
    ],
)
def test_a_fault_of_the_arrays_is_named(change: dict[str, Any], message: str) -> None:
    assert any(fault.startswith(message) for fault in faults_of(**change)), faults_of(**change)


def test_all_faults_are_named_at_once() -> None:
    found = faults_of(
        X=made_arrays()["X"] * np.nan, X_test=np.ones((15, 2)), y=np.ones(3), text=np.ones((9, 9)), logit_scale="high"
    )
    assert [fault.partition(" ")[0] for fault in found] == ["X", "X_test", "y", "logit_scale", "text"]


def test_python_objects_in_a_file_are_refused_and_never_unpickled(tmp_path: Path, cache: Path) -> None:
    name = saved_arrays(
        tmp_path / "a.npz",
        X=np.array([Unpickled()] * 30),
        class_names=np.array(CLASSES, dtype=object),
        other=np.array({}),
    )
    with pytest.raises(InputError) as refused:
        load_dataset(name, cache)
    assert [fault.split(": ")[1] for fault in refused.value.faults] == ["'class_names'", "'X'"]


class Unpickled:
    def __reduce__(self) -> Any:
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arrays:", "arrays:: no path; expected: arrays:FILE.npz with the arrays X, y, X_test, y_test"),
        ("arrays:/absent.npz", "arrays:/absent.npz: no such file; expected: arrays:FILE.npz"),
    ],
)
def test_a_file_that_is_absent_is_named(name: str, message: str, cache: Path) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        load_dataset(name, cache)


def test_whatever_changes_a_number_changes_the_fingerprint(tmp_path: Path, cache: Path) -> None:
    prints = {load_dataset(saved_arrays(tmp_path / "a.npz"), cache).fingerprint}
    edits = [changed(key, 0, 0.5) for key in ("X", "X_test", "teacher_features", "text")]
    for edit in (*edits, {"logit_scale": 50.0}, {"text": None}, {"class_names": ["a", "b", "c"]}):
        prints.add(load_dataset(saved_arrays(tmp_path / "a.npz", **edit), cache).fingerprint)
    assert len(prints) == 8


def test_a_data_set_without_text_has_no_teacher(tmp_path: Path, cache: Path) -> None:
    name = saved_arrays(tmp_path / "a.npz", text=None, teacher_features_test=None)
    spec = read_spec(str(spec_on(name, tmp_path)))
    expected = (
        f"{name}: teacher 'given\\+clap', but no teacher_features_test, text; "
        "expected: teacher_features, teacher_features_test, text"
    )
    for check in (lambda: resolve(spec.trials, cache, print), lambda: estimate(spec.trials, cache)):
        with pytest.raises(InputError, match=expected):
            check()
    untaught = spec.only("teacher=none")
    assert len(resolve(untaught.trials, cache, print)) == 4


def test_what_does_not_fit_arrays_or_images_is_refused_before_data_are_read(tmp_path: Path, cache: Path) -> None:
    spec = spec_on(
        "arrays:/absent/too.npz",
        tmp_path,
        datasets='["arrays:/dev/null/a.npz", "digits"]',
        teachers='["none", "given+zeroshot", "glyphclip+clap"]',
        students='["adapter:given", "frozen:efficientnet_lite0@64"]',
        views='"digits"',
    )
    for check in (lambda t: resolve(t, cache, print), lambda t: estimate(t, cache)):
        with pytest.raises(InputError) as refused:
            check(read_spec(str(spec)).trials)
        found = [fault.partition("; expected: ")[0] for fault in refused.value.faults if "no such file" not in fault]
        assert sorted(found)[-5:] == [
            "5 views of arrays:/dev/null/a.npz, which has no images to crop",
            "student 'adapter:given' on digits, which has images",
            "student 'frozen:efficientnet_lite0@64' on arrays:/dev/null/a.npz, which has no images",
            "teacher 'given+zeroshot' on digits, which has images",
            "teacher 'glyphclip+clap' on arrays:/dev/null/a.npz, which has no images",
        ]


@pytest.mark.parametrize("name", ["given", "adapter:given@64"])
def test_a_student_of_given_features_has_a_prefix_and_no_size(name: str) -> None:
    with pytest.raises(InputError, match=f"student '{name}'; expected: adapter:given or frozen:given"):
        student_network(name)


def test_two_files_share_no_banked_array(tmp_path: Path, cache: Path) -> None:
    keys = []
    for number, edit in enumerate(({}, changed("X", 0, 0.5))):
        dataset = load_dataset(saved_arrays(tmp_path / f"{number}.npz", **edit), cache)
        geometry = ak.VIEWS["single"]
        shards = banked_shards(dataset, student_network("frozen:given"), teacher("given+clap"), geometry)
        keys.append([shard.key for shard in (*shards.student_train, *shards.teacher_train)])
        assert len(set(keys[-1])) == 2
    assert set(keys[0]).isdisjoint(keys[1])


def test_a_plan_counts_features_without_networks(tmp_path: Path, cache: Path) -> None:
    trials = read_spec(str(spec_on(saved_arrays(tmp_path / "a.npz"), tmp_path))).trials
    cost = estimate(trials, cache)
    assert cost.widths == {"given": 4, "adapter:given": 5, "frozen:given": 5}
    assert not cost.encoders
    assert {task.part for task in cost.shared} == set()
    # Both students read one table of 5 float32 a row, the teachers one of 4 float16.
    assert cost.bank_bytes == (30 + 15) * (5 * 4 + 4 * 2)


def test_rows_of_a_file_are_listed_without_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_rows(saved_arrays(tmp_path / "a.npz"), as_csv=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["split,row,path,label", "train,0,,ant", "train,1,,bee"]
    assert len(lines) == 1 + 30 + 15


def test_data_check_counts_the_rows_of_a_file_and_names_its_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = saved_arrays(tmp_path / "good.npz")
    bad = saved_arrays(tmp_path / "bad.npz", y=np.full(30, 7))
    codes = []
    for name in (good, bad):
        with pytest.raises(SystemExit) as done:
            data_command(["check", name])
        codes.append(done.value.code)
    out = capsys.readouterr().out
    assert codes == [0, 1]
    assert "train rows" in out
    assert "cannot be decoded" not in out
    assert "as it should be" in out
    assert "fault: " in out
    assert "y has 7 as the label of 30 rows" in out


def test_given_files_are_teachers_of_arrays_too(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path))
    eye = np.eye(3, dtype=np.float32)
    np.savez(tmp_path / "clip.npz", train_f=eye[np.arange(30) % 3], test_f=eye[np.arange(15) % 3], W=eye)
    name = saved_arrays(tmp_path / "a.npz")
    done = ak.run(name, teacher="features:clip.npz+zeroshot", selector="random", rounds=1, cache=cache)
    assert done.curve["teacher_accuracy"].tolist() == [1.0]


def numbers(run: Path) -> dict[tuple[str, str, str], list[tuple[object, ...]]]:
    """Accuracies and picks of each (teacher, student, selector), by round."""
    out: dict[tuple[str, str, str], list[tuple[object, ...]]] = {}
    for row in sorted(stored_rows(run), key=lambda row: row["round"]):
        key = row["teacher"], row["student"], row["selector"]
        out.setdefault(key, []).append((row["accuracy"], row["teacher_accuracy"], tuple(row["picked"])))
    return out


def test_a_serial_run_has_the_numbers_of_the_library_and_of_ray(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIVEKD_CACHE", str(cache))
    torch.set_num_threads(1)
    arrays = made_arrays()
    spec = spec_on(saved_arrays(tmp_path / "a.npz"), tmp_path, recipe='"short"')
    options = Options(serial=True, report=False, device="cpu")
    assert launch(read_spec(str(spec)), None, tmp_path / "serial", options) == 0
    serial = numbers(tmp_path / "serial")
    assert len(serial) == 12
    for (taught_by, student, selector), rows in serial.items():
        adapt = {"given+zeroshot": ak.zeroshot, "given+clap": ak.clap}.get(taught_by)
        features = (arrays["teacher_features"], arrays["text"])
        chosen = None if adapt is None else adapt(*features, features_test=arrays["teacher_features_test"])
        done = ak.run(
            *(arrays[key] for key in ("X", "y", "X_test", "y_test")),
            teacher=chosen,
            student=student,
            selector=selector,
            recipe=RECIPE,
            rounds=3,
            query_size=4,
            seed=3,
        )
        assert [(r.accuracy, r.teacher_accuracy, r.picked) for r in done.rounds] == rows
    only = "student=adapter:given,teacher=given+clap"
    command = [sys.executable, "-m", "bench.grid", "run", str(spec), "--no-report", "--device", "cpu", "--only", only]
    result = subprocess.run(
        [*command, "--out", str(tmp_path / "ray")],
        env={**os.environ, "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    on_ray = numbers(tmp_path / "ray")
    assert on_ray == {key: serial[key] for key in on_ray}
    assert len(on_ray) == 2
