"""Rows of given features matched to the rows of a split: by image name, or by order where there are no names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activekd.archives import as_text
from activekd.datasets.split import Split
from activekd.errors import InputError

SPLIT_FOLDERS = ("train", "val", "test")
"""First components of a path that a file may leave out of the names of the part that they stand for."""

CLASS_NAMES = ("classnames", "class_names")
"""Names of the array with the class of each row of a head."""

SHOWN = 3


@dataclass(frozen=True)
class Part:
    """The arrays of one part of a features file.

    Attributes:
        name: of the part, such as ``train``.
        features: ``PART_f``, one row per image.
        names: ``PART_path`` with ``/`` between components; None where the file has none.
        labels: ``PART_y``; None where the file has none.
    """

    name: str
    features: np.ndarray
    names: list[str] | None
    labels: np.ndarray | None


def parts_of(file: Path, arrays: Mapping[str, np.ndarray]) -> dict[str, Part]:
    """The parts of a features file by name.

    Raises:
        InputError: features that are not two-dimensional numbers, names or labels of another count, or a
            text array beside unnamed features, which may hold their names.
    """
    parts = {}
    for name in sorted(key.removesuffix("_f") for key in arrays if key.endswith("_f")):
        features = arrays[f"{name}_f"]
        if features.ndim != 2 or features.dtype.kind not in "fiu":
            raise InputError(
                f"{file}: {name}_f is {features.dtype}, features of shape {features.shape}; "
                f"expected: numbers of shape (rows, width)"
            )
        for key in (f"{name}_path", f"{name}_y"):
            if key in arrays and arrays[key].shape != features.shape[:1]:
                raise InputError(
                    f"{file}: {len(features)} rows of features in {name}_f and {key} of shape {arrays[key].shape}; "
                    f"expected: one entry of {key} per row"
                )
        path = arrays.get(f"{name}_path")
        if path is None:
            _refuse_hidden_names(file, name, len(features), arrays)
        names = None if path is None else [_posix(item) for item in as_text(file, f"{name}_path", path)]
        parts[name] = Part(name, features, names, arrays.get(f"{name}_y"))
    return parts


def _refuse_hidden_names(file: Path, part: str, n_rows: int, arrays: Mapping[str, np.ndarray]) -> None:
    known = {*CLASS_NAMES, *(f"{key.removesuffix('_f')}{suffix}" for key in arrays for suffix in ("_path", "_y"))}
    for key, array in arrays.items():
        if key not in known and array.dtype.kind in "US" and array.shape == (n_rows,):
            raise InputError(
                f"{file}: no {part}_path, but {key} has a text for each row; expected: the paths of the images as "
                f"{part}_path, or no such array"
            )


def _posix(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def matched_rows(file: Path, parts: Mapping[str, Part], split: Split, part: str) -> np.ndarray:
    """The feature of each row of a split, (n, width), in the dtype of the file.

    A name of the split is looked up in every part; one that begins with ``train/``, ``val/`` or ``test/`` also without
    it, in the part of that name and in the part that is read. An image may stand several times with equal features.

    Args:
        file: of the parts, for the messages.
        parts: of the file.
        split: the split, with or without image names.
        part: ``train`` or ``test``: the part to read.

    Raises:
        InputError: images without features, a name with two different features, names for a split without names, or
            another count or other labels.
    """
    named = {name: p for name, p in parts.items() if p.names is not None}
    if not named:
        return _in_order(file, parts, split, part)
    columns = ", ".join(f"{name}_path" for name in named)
    if split.names is None:
        raise InputError(
            f"{file}: {columns} names its rows, but the {part} images of the data set have no names; "
            f"expected: no names in the file, and row i of {part}_f for image i of the split"
        )
    row_of = {name: _first_rows(file, p) for name, p in named.items()}
    chosen: list[tuple[str, int]] = []
    absent, torn = [], []
    for name in split.names:
        found = list(_lookup(_posix(name), row_of, part))
        if not found:
            absent.append(name)
            continue
        first = named[found[0][0]].features[found[0][1]]
        if not all(np.array_equal(named[p].features[row], first) for p, row in found[1:]):
            torn.append(name)
        chosen.append(found[0])
    if absent:
        known = next((p.names[0] for p in named.values() if p.names), "none")
        raise InputError(
            f"{file}: no features of {len(absent)} of {len(split)} {part} images, such as "
            f"{', '.join(absent[:SHOWN])}; expected: every image in {columns}, by its path in the data set "
            f"(the file has names such as {known})"
        )
    if torn:
        raise _repeated(file, torn)
    return _gathered(file, named, chosen, split, part)


def _first_rows(file: Path, part: Part) -> dict[str, int]:
    """The first row of each name of a part.

    Raises:
        InputError: a name stands twice with other features.
    """
    rows: dict[str, int] = {}
    torn = [
        name
        for row, name in enumerate(part.names or [])
        if rows.setdefault(name, row) != row and not np.array_equal(part.features[row], part.features[rows[name]])
    ]
    if torn:
        raise _repeated(file, list(dict.fromkeys(torn)))
    return rows


def _repeated(file: Path, names: list[str]) -> InputError:
    return InputError(
        f"{file}: {len(names)} names stand twice with other features, such as {', '.join(names[:SHOWN])}; "
        f"expected: one feature per image"
    )


def _lookup(name: str, row_of: Mapping[str, Mapping[str, int]], part: str) -> Iterator[tuple[str, int]]:
    for p, rows in row_of.items():
        if name in rows:
            yield p, rows[name]
    first, _, rest = name.partition("/")
    if first in SPLIT_FOLDERS:
        for p in dict.fromkeys((first, part)):
            if rest in row_of.get(p, {}):
                yield p, row_of[p][rest]


def _gathered(
    file: Path, named: Mapping[str, Part], chosen: list[tuple[str, int]], split: Split, part: str
) -> np.ndarray:
    used = [named[name] for name in dict.fromkeys(name for name, _ in chosen)]
    widths = {p.name: p.features.shape[1] for p in used}
    if len(set(widths.values())) > 1:
        raise InputError(f"{file}: features of widths {widths}; expected: one width")
    of_part, rows = np.array([name for name, _ in chosen]), np.array([row for _, row in chosen], dtype=np.int64)
    out = np.empty((len(chosen), used[0].features.shape[1]), dtype=np.result_type(*(p.features for p in used)))
    for p in used:
        here = of_part == p.name
        out[here] = p.features[rows[here]]
        if p.labels is not None:
            _check_labels(file, f"{p.name}_y", p.labels[rows[here]], split.labels[here])
    return out


def _in_order(file: Path, parts: Mapping[str, Part], split: Split, part: str) -> np.ndarray:
    if part not in parts:
        found = ", ".join(f"{name}_f" for name in parts)
        raise InputError(f"{file}: {found}; expected: {part}_f of shape (rows, width)")
    given = parts[part]
    if len(given.features) != len(split):
        raise InputError(
            f"{file}: {len(given.features)} rows of features in {part}_f; expected: {len(split)}, one per image"
        )
    if given.labels is not None and given.labels.dtype.kind in "fiu":
        odd = np.flatnonzero(given.labels != split.labels)
        if len(odd):
            raise InputError(
                f"{file}: {len(odd)} of {len(split)} labels in {part}_y differ from the data set's, first in row "
                f"{odd[0]}: {given.labels[odd[0]]} for {split.labels[odd[0]]}; expected: row i for image i of the "
                f"split, with its label, or names in {part}_path"
            )
    elif given.labels is not None:
        _check_labels(file, f"{part}_y", given.labels, split.labels)
    return given.features


def _check_labels(file: Path, name: str, given: np.ndarray, labels: np.ndarray) -> None:
    """Check that equal labels of the file are equal labels of the data set; their numbers may differ.

    Raises:
        InputError: images that share a label in the file have different labels in the data set.
    """
    kinds, codes = np.unique(given, return_inverse=True)
    counts = np.zeros((len(kinds), labels.max() + 1), dtype=np.int64)
    np.add.at(counts, (codes, labels), 1)
    odd = np.flatnonzero(counts.argmax(axis=1)[codes] != labels)
    if len(odd):
        raise InputError(
            f"{file}: {len(odd)} of {len(labels)} images have a label in {name} that disagrees with the data set, such "
            f"as '{kinds[codes[odd[0]]]}' for an image of class {labels[odd[0]]}; expected: the labels of the data "
            f"set, in any numbering"
        )
