"""Data sets of arrays: features and labels in an .npz file or in memory, all checked where they enter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from activekd.archives import as_logit_scale, as_text, read_archive
from activekd.datasets.split import Embeddings, FeatureRows, Source, Split, class_faults
from activekd.errors import InputError
from activekd.given import ARRAYS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

    Rows = ArrayLike | Tensor
    """An array, a tensor, a list or a data frame of a user."""

REQUIRED = ("X", "y", "X_test", "y_test")
OF_TEACHER = ("teacher_features", "teacher_features_test", "text")
"""Arrays that a teacher ``given`` needs."""

KEYS = (*REQUIRED, *OF_TEACHER, "class_names", "logit_scale")

CHUNK = 16384
"""Rows that are checked at a time."""

LEAST_NORM = 1e-12
"""Least norm of a row that has a direction."""

SHOWN = 3

Wanted = tuple[str, int | None]
"""A number that an array must agree with, and the name of the array that has it; None where that is not known."""

ANY: Wanted = ("", None)


def arrays_path(name: str) -> Path:
    """The file of the data set ``arrays:FILE.npz``.

    Raises:
        InputError: there is no such file.
    """
    path = name.removeprefix(ARRAYS)
    try:
        file = Path(path).expanduser()
        if path and file.is_file():
            return file
        reason = "no such file" if path else "no path"
    except (OSError, RuntimeError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
    raise InputError(f"{name}: {reason}; expected: {ARRAYS}FILE.npz with the arrays {', '.join(REQUIRED)}")


def arrays_file(name: str) -> Source:
    """The data set ``arrays:FILE.npz``, whose arrays ``arrays_source`` describes and checks.

    Raises:
        InputError: the file cannot be read; or every fault of its arrays at once.
    """
    file, other = arrays_path(name), list[str]()

    def wanted(key: str) -> bool:
        if key not in KEYS:
            other.append(key)
        return key in KEYS

    arrays = read_archive(file, wanted)
    return arrays_source(str(file), arrays, (f"arrays that are not read: {', '.join(other)}",) if other else ())


def arrays_source(where: str, arrays: Mapping[str, Any], notes: tuple[str, ...] = ()) -> Source:
    """A data set from its arrays: features in place of images, labels, and what a teacher reads.

    ``X`` and ``X_test`` (rows, width) are the features that students read, kept in float32; ``y`` and ``y_test``
    (rows,) are their labels, whole numbers from 0. The others are optional. ``class_names`` (classes,) are by default
    the numbers of the classes. ``teacher_features`` and ``teacher_features_test`` (rows, dim) are image features of a
    vision-language network, ``text`` (classes, dim) its text embeddings of the classes, and ``logit_scale`` its factor
    from a cosine to a logit, 100 where it is absent. The teacher's features are divided by their norms, on which no
    teacher depends, and kept in float16.

    Args:
        where: begins every message, such as the path of the file.
        arrays: by name; a value is anything that ``numpy.asarray`` takes, or a tensor.
        notes: of the data set.

    Raises:
        InputError: every fault at once: missing arrays, other kinds of numbers or shapes, values that are not finite,
            widths or lengths that disagree, labels outside of the classes, classes without a train or a test row.
    """
    door = Door(where)
    if missing := [key for key in REQUIRED if key not in arrays]:
        door.add(f"no {', '.join(missing)} among {', '.join(arrays) or 'its arrays'}", ", ".join(REQUIRED))
    given = {key: door.array(key, arrays.get(key)) for key in KEYS}
    rows, rows_test, width = ("X", length(given["X"])), ("X_test", length(given["X_test"])), ("X", width_of(given["X"]))
    dim = ("teacher_features", width_of(given["teacher_features"]))
    train = door.features("X", given["X"])
    test = door.features("X_test", given["X_test"], width=width)
    labels = {
        "y": door.labels("y", given["y"], rows=rows),
        "y_test": door.labels("y_test", given["y_test"], rows=rows_test),
    }
    names = door.class_names(given["class_names"]) or door.numbered([y for y in labels.values() if y is not None])
    if names is not None:
        inside = {key: y for key, y in labels.items() if y is not None and door.are_classes(key, y, names)}
        door.faults += class_faults(where, names, {"train" if key == "y" else "test": y for key, y in inside.items()})
    taught = door.directions("teacher_features", given["teacher_features"], rows=rows)
    taught_test = door.directions("teacher_features_test", given["teacher_features_test"], rows=rows_test, width=dim)
    embeddings = door.embeddings(given["text"], given["logit_scale"], names, width=dim)
    door.refuse()
    lacking = tuple(key for key in OF_TEACHER if given[key] is None)
    splits = []
    for features, taught_features, y in ((train, taught, labels["y"]), (test, taught_test, labels["y_test"])):
        assert features is not None
        assert y is not None
        splits.append(Split(None, y, features=FeatureRows(features, taught_features)))
    assert names is not None
    nothing = Split(None, np.zeros(0, dtype=np.int64))
    return Source(names, (), splits[0], nothing, splits[1], notes, embeddings, lacking)


def plain_array(value: Any) -> np.ndarray:
    """An array of what a user gives: an array, a tensor on any device, a list or a data frame.

    Raises:
        ValueError: the rows of a list have different lengths.
        TypeError: numpy has no such type.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() and value.element_size() == 2 else value
    return np.asarray(value)


def length(array: np.ndarray | None) -> int | None:
    """Rows of an array; None where there are none."""
    return len(array) if array is not None and array.ndim else None


def width_of(array: np.ndarray | None) -> int | None:
    """Columns of an array; None where it is no matrix."""
    return array.shape[1] if array is not None and array.ndim == 2 else None


class Door:
    """Checks arrays where they enter and collects the faults; an array that is absent or faulty comes back as None.

    Attributes:
        where: begins every message.
        faults: so far.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.faults: list[str] = []

    def add(self, found: str, expected: str) -> None:
        """Collect a fault."""
        self.faults.append(f"{self.where}: {found}; expected: {expected}")

    def refuse(self) -> None:
        """Raise the faults, if any, as one InputError."""
        if self.faults:
            raise InputError(*dict.fromkeys(self.faults))

    def array(self, key: str, value: Any) -> np.ndarray | None:
        """What a user gives as ``key``, as an array; None for None."""
        if value is None:
            return None
        try:
            array = plain_array(value)
        except (ValueError, TypeError) as fault:
            why = str(fault).partition(".")[0]
            self.add(f"{key} is no array ({why})", "an array, a tensor, or a list of rows of one length")
            return None
        if array.dtype == object and array.ndim and all(isinstance(item, str) for item in array.flat):
            return array.astype(str)
        if array.dtype == object:
            self.add(f"{key} holds Python objects ({type(value).__name__})", "numbers or text")
            return None
        return array

    def features(self, key: str, value: Any, *, rows: Wanted = ANY, width: Wanted = ANY) -> np.ndarray | None:
        """Features (rows, width) in float32.

        Args:
            key: names them in messages.
            value: of the user; None where they are absent.
            rows: number of rows.
            width: number of columns.
        """
        array = self.array(key, value)
        if array is None:
            return None
        if array.ndim != 2 or array.dtype.kind not in "fiu" or 0 in array.shape:
            self.add(f"{key} is {array.dtype} of shape {array.shape}", "numbers of shape (rows, width)")
            return None
        if not self._as_many(key, len(array), rows, "rows") or not self._as_many(key, array.shape[1], width, "columns"):
            return None
        with np.errstate(over="ignore"):
            out = np.ascontiguousarray(array, dtype=np.float32)
        starts = range(0, len(out), CHUNK)
        bad = np.concatenate([s + np.flatnonzero(~np.isfinite(out[s : s + CHUNK]).all(axis=1)) for s in starts])
        if len(bad):
            self.add(f"{key} has values that are not finite in {_rows(bad)}", "numbers that are finite in float32")
            return None
        return out

    def directions(self, key: str, value: Any, *, rows: Wanted = ANY, width: Wanted = ANY) -> np.ndarray | None:
        """Features of a teacher, divided by their norms, (rows, dim) in float16; arguments as of ``features``."""
        array = self.features(key, value, rows=rows, width=width)
        if array is None or not self._have_directions(key, array):
            return None
        out = np.empty(array.shape, dtype=np.float16)
        for start in range(0, len(array), CHUNK):
            some = array[start : start + CHUNK]
            out[start : start + CHUNK] = some / _norms(some)
        return out

    def labels(self, key: str, value: Any, *, rows: Wanted = ANY) -> np.ndarray | None:
        """Labels (rows,), whole numbers from 0, as int64.

        Args:
            key: names them in messages.
            value: of the user; None where they are absent.
            rows: number of rows.
        """
        array = self.array(key, value)
        if array is None:
            return None
        if array.ndim != 1 or array.dtype.kind not in "iu":
            self.add(f"{key} is {array.dtype} of shape {array.shape}", "whole numbers of shape (rows,)")
            return None
        if not self._as_many(key, len(array), rows, "rows"):
            return None
        if len(array) and (int(array.min()) < 0 or int(array.max()) > np.iinfo(np.int64).max):
            self.add(f"{key} has numbers from {array.min()} to {array.max()}", "whole numbers from 0")
            return None
        return array.astype(np.int64)

    def class_names(self, value: Any) -> tuple[str, ...] | None:
        """One name per class, in label order; None where they are absent or faulty."""
        array = self.array("class_names", value)
        if array is None:
            return None
        try:
            names = as_text(self.where, "class_names", array)
        except InputError as fault:
            self.faults += fault.faults
            return None
        twice = next((f", '{name}' twice" for name in names if names.count(name) > 1), "")
        blank = ", an empty one" if not all(name.strip() for name in names) else ""
        if len(names) < 2 or twice or blank:
            self.add(f"class_names has {len(names)} names{twice}{blank}", "distinct names of at least 2 classes")
            return None
        return tuple(names)

    def numbered(self, labels: Sequence[np.ndarray]) -> tuple[str, ...] | None:
        """The numbers from 0 to the largest label as names of the classes; None without labels."""
        n_classes = 1 + max((int(y.max()) for y in labels if len(y)), default=-1)
        n_rows = max(map(len, labels), default=0)
        if n_classes > n_rows:
            self.add(
                f"y and y_test have labels up to {n_classes - 1} in {n_rows} rows",
                "the numbers of the classes, from 0 without a gap",
            )
            return None
        return tuple(map(str, range(n_classes))) or None

    def are_classes(self, key: str, labels: np.ndarray, names: Sequence[str]) -> bool:
        """Whether all labels are numbers of classes."""
        outside = np.flatnonzero(labels >= len(names))
        if len(outside):
            self.add(
                f"{key} has {labels[outside[0]]} as the label of {_rows(outside)}",
                f"0 to {len(names) - 1}, for {len(names)} classes",
            )
        return not len(outside)

    def embeddings(
        self, text: Any, logit_scale: Any, names: Sequence[str] | None, *, width: Wanted
    ) -> Embeddings | None:
        """The text embeddings of the classes, with the factor from a cosine to a logit.

        Args:
            text: (classes, dim); None where they are absent.
            logit_scale: the factor; None for the default.
            names: of the classes; None where they are not known.
            width: number of columns.
        """
        scale = None
        try:
            scale = as_logit_scale(self.where, self.array("logit_scale", logit_scale))
        except InputError as fault:
            self.faults += fault.faults
        classes = ("the classes", None if names is None else len(names))
        array = self.features("text", text, rows=classes, width=width)
        if array is None or not self._have_directions("text", array) or scale is None:
            return None
        return Embeddings(array, scale)

    def _as_many(self, key: str, n: int, wanted: Wanted, what: str) -> bool:
        of, number = wanted
        if number is not None and n != number:
            self.add(f"{key} has {n} {what}", f"{number}, as many as {of}")
        return number is None or n == number

    def _have_directions(self, key: str, array: np.ndarray) -> bool:
        bad = np.flatnonzero(np.linalg.norm(array, axis=1) < LEAST_NORM)
        if len(bad):
            self.add(f"{key} has norm 0 in {_rows(bad)}", "rows of a norm above 0")
        return not len(bad)


def _rows(rows: np.ndarray) -> str:
    numbers = ", ".join(map(str, rows[:SHOWN].tolist()))
    return f"{len(rows)} row{'s' * (len(rows) > 1)} ({numbers}{', ...' * (len(rows) > SHOWN)})"


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
