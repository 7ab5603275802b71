"""Features computed elsewhere: rows matched by name or order, and every fault of a file named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from activekd.archives import read_archive
from activekd.bank import given
from activekd.bank.given import forget_features, given_features, read_features, read_head
from activekd.datasets import Split
from activekd.errors import InputError
from activekd.teachers.text_heads import given_text_head

NAMES = ("a/1.jpg", "a/2.jpg", "b/1.jpg")
CLASSES = ("cat", "sea lion")


def unit(n: int, dim: int = 4) -> np.ndarray:
    x = np.random.default_rng(n).normal(size=(n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACTIVEKD_DATA", str(tmp_path))
    return tmp_path


def save(data: Path, **arrays: Any) -> None:
    whole = {"test_f": unit(3), "W": unit(2), "classnames": np.array(["Cat", "sea_lion"]), **arrays}
    np.savez(data / "clip.npz", **{k: v for k, v in whole.items() if v is not None})


def split(names: tuple[str, ...] | None = None) -> Split:
    return Split(None, np.array([0, 0, 1]), names)


def test_rows_are_matched_by_name_in_any_order(data: Path) -> None:
    features = unit(3)
    save(data, test_f=features[::-1], test_path=np.array(NAMES[::-1]))
    found = read_features(given_features("features:clip.npz"), split(NAMES), "train")
    np.testing.assert_array_equal(found, features)


def test_rows_without_names_are_taken_in_order_and_a_note_says_so(data: Path) -> None:
    save(data)
    given = given_features("features:clip.npz")
    np.testing.assert_array_equal(read_features(given, split(NAMES), "test"), unit(3))
    assert [line.partition(" has ")[2] for line in given.notes] == [
        "neither names (PART_path) nor labels (PART_y): row i is taken for image i"
    ]
    save(data, test_y=np.array([0, 0, 1]))
    assert given.notes == ()


def test_a_file_is_read_once_as_long_as_it_stays(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def counted(file: Path) -> dict[str, np.ndarray]:
        reads.append(file)
        return read_archive(file)

    monkeypatch.setattr(given, "read_archive", counted)
    save(data)
    features = given_features("features:clip.npz")
    for part in ("test", "test"):
        np.testing.assert_array_equal(read_features(features, split(), part), unit(3))
    assert len(reads) == 1
    save(data, test_f=unit(3)[::-1], test_y=np.array([0, 0, 1]))
    np.testing.assert_array_equal(read_features(features, split(), "test"), unit(3)[::-1])
    forget_features()
    read_features(features, split(), "test")
    assert len(reads) == 3


@pytest.mark.parametrize("key", ["test_names", "filenames", "paths"])
def test_names_under_another_key_are_refused(key: str, data: Path) -> None:
    save(data, **{key: np.array(NAMES[::-1])})
    with pytest.raises(InputError, match=rf"no test_path, but {key} has a text for each row; expected: .*as test_path"):
        read_features(given_features("features:clip.npz"), split(NAMES), "test")


def test_names_as_python_objects_are_refused_with_the_remedy(data: Path) -> None:
    save(data, test_path=np.array(NAMES, dtype=object))
    with pytest.raises(InputError, match=r"'test_path': Object arrays .*; arrays of text .* with .astype\(str\)"):
        read_features(given_features("features:clip.npz"), split(NAMES), "test")


def test_head_is_normalised_for_the_zero_shot_teacher(data: Path) -> None:
    save(data, W=3 * unit(2).astype(np.float32))
    head = given_text_head(given_features("features:clip.npz"), CLASSES, 4)
    np.testing.assert_allclose(np.linalg.norm(head.zero_shot, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(head.text, axis=1), 3, rtol=1e-2)


@pytest.mark.parametrize("key", ["classnames", "class_names"])
def test_rows_of_a_head_are_matched_by_class_name(key: str, data: Path) -> None:
    head = unit(2)
    save(data, **{"W": head[::-1], "classnames": None, key: np.array([b"Sea_Lion", b"cat"])})
    np.testing.assert_array_equal(read_head(given_features("features:clip.npz"), CLASSES, 4), head)


def test_a_file_may_hold_more_images_than_the_split_and_any_numbering_of_labels(data: Path) -> None:
    features = unit(5)
    save(data, test_f=None, all_f=features, all_path=np.array([*NAMES, "c/1.jpg", "c/2.jpg"]), all_y=[7, 7, 3, 9, 9])
    found = read_features(given_features("features:clip.npz"), split(NAMES), "test")
    np.testing.assert_array_equal(found, features[:3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equal_names_of_two_parts_are_told_apart_by_their_folder(dtype: type, data: Path) -> None:
    features, names = unit(6).astype(dtype), np.array(NAMES)
    save(data, train_f=features[:3], train_path=names, test_f=features[3:], test_path=names)
    for part, rows in (("train", features[:3]), ("test", features[3:])):
        found = read_features(given_features("features:clip.npz"), split(tuple(f"{part}/{n}" for n in NAMES)), part)
        np.testing.assert_array_equal(found, rows.astype(np.float16))
    with pytest.raises(InputError, match="3 names stand twice with other features"):
        read_features(given_features("features:clip.npz"), split(NAMES), "train")


def test_names_for_images_without_names_are_refused(data: Path) -> None:
    save(data, test_path=np.array(NAMES))
    with pytest.raises(InputError, match="test_path names its rows, but the test images of the data set have no names"):
        read_features(given_features("features:clip.npz"), split(), "test")


def nan(x: np.ndarray) -> np.ndarray:
    out = x.copy()
    out[1, 2] = np.nan
    return out


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"test_f": unit(2)}, "2 rows of features in test_f; expected: 3"),
        ({"test_f": None}, r"arrays W, classnames; expected: test_f of shape \(rows, width\)"),
        ({"test_f": nan(unit(3))}, "not finite in 1 rows, first in row 1"),
        ({"test_f": 2 * unit(3)}, "3 rows are not of unit norm, first row 0 of the split with 2.0"),
        ({"test_f": unit(3)[0]}, "features of shape|rows of features"),
        ({"test_path": np.array([*NAMES[:2], "b/9.jpg"])}, "no features of 1 of 3 test images, such as b/1.jpg"),
        ({"test_path": np.array(NAMES[:2])}, "no features of 1|rows of features"),
        ({"test_f": unit(3).astype(str)}, "test_f is <U.*expected: numbers"),
        ({"test_f": unit(3) > 0}, "test_f is bool.*expected: numbers"),
        ({"test_f": np.where(np.arange(3)[:, None] == 1, 0, unit(3))}, "1 rows are not of unit norm, first row 1"),
        ({"test_path": np.arange(3)}, "test_path is int64 of shape .3,.; expected: one-dimensional text"),
        ({"test_path": np.array([b"\xff"] * 3)}, "not UTF-8"),
        (
            {"test_path": np.array([f"/data/{name}" for name in NAMES])},
            "no features of 3 .*names such as /data/a/1.jpg",
        ),
        ({"test_names": np.array(NAMES)}, "no test_path, but test_names has a text for each row"),
        (
            {"test_y": np.array([1, 0, 0])},
            "2 of 3 labels in test_y differ from the data set's, first in row 0: 1 for 0",
        ),
        ({"test_y": np.array(["cat", "dog", "cat"])}, "1 of 3 images have a label in test_y that disagrees"),
        ({"test_path": np.array(NAMES), "test_y": np.array([5, 5, 5])}, "1 of 3 images have a label .* '5' for"),
        ({"test_path": np.array(NAMES), "test_y": np.array([5, 5])}, r"test_y of shape \(2,\)"),
        (
            {"val_f": unit(1, 5), "val_path": np.array(NAMES[2:]), "test_f": unit(2), "test_path": np.array(NAMES[:2])},
            "widths",
        ),
    ],
)
def test_given_features_that_are_refused(arrays: dict[str, Any], message: str, data: Path) -> None:
    save(data, **arrays)
    with pytest.raises(InputError, match=message):
        read_features(given_features("features:clip.npz"), split(NAMES), "test")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"W": unit(3)}, r"W has shape \(3, 4\); expected: \(2, 4\)"),
        ({"W": unit(2, 5)}, r"W has shape \(2, 5\); expected: \(2, 4\)"),
        ({"W": nan(unit(2))}, "W has values that are not finite"),
        ({"W": None}, r"expected: W of shape \(classes, width\)"),
        ({"classnames": np.array(["cat", "walrus"])}, "other class names, such as 'walrus' for 'sea lion'"),
        ({"classnames": np.array(["cat", "cat"])}, "classnames has 2 names, 'cat' repeated"),
        ({"classnames": np.array(["cat"])}, "classnames has 1 names; expected: 2 distinct names"),
        ({"classnames": np.arange(2)}, "classnames is int64.*expected: one-dimensional text"),
        ({"class_names": np.array(["sea lion", "cat"])}, "classnames and class_names differ"),
        ({"W": 0 * unit(2)}, "W has norm 0 in 2 of 2 rows, those of 'cat', 'sea lion'"),
        ({"W": unit(2).astype(str)}, "W is <U.*; expected: numbers"),
    ],
)
def test_heads_that_are_refused(arrays: dict[str, Any], message: str, data: Path) -> None:
    save(data, **arrays)
    with pytest.raises(InputError, match=message):
        read_head(given_features("features:clip.npz"), CLASSES, 4)


def test_files_that_are_not_there_or_no_archive(data: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*absent\.npz"):
        given_features("features:absent.npz")
    (data / "clip.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"expected: an \.npz file of plain arrays"):
        read_features(given_features("features:clip.npz"), split(NAMES), "test")
