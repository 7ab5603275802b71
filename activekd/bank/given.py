"""Image features and text heads computed elsewhere: in the data set, or in .npz files, matched to it and checked."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float16, Float32, Shaped

from activekd.archives import DEFAULT_LOGIT_SCALE, LOGIT_SCALE, as_logit_scale, as_text, read_archive
from activekd.bank.matching import CLASS_NAMES, Part, matched_rows, parts_of
from activekd.datasets.split import Split
from activekd.errors import InputError, reason
from activekd.folders import data_folder
from activekd.given import FEATURES, GIVEN
from activekd.networks.checkpoints import file_hash

NORM_TOLERANCE = 0.01
"""Largest deviation of a feature's norm from 1."""

LEAST_NORM = 1e-6
"""Least norm of a text embedding."""

CHUNK = 16384
"""Rows whose norms are computed at a time."""

SHOWN = 3


@dataclass(frozen=True)
class GivenByData:
    """An encoder whose features the data set has, as those of arrays do.

    Attributes:
        of: whose features they are.
    """

    of: Literal["student", "teacher"]

    @property
    def name(self) -> str:
        """Its name in specs."""
        return GIVEN

    @property
    def fingerprint(self) -> str:
        """Empty: the features are part of the data set."""
        return ""

    def features(self, split: Split) -> Shaped[np.ndarray, "n dim"]:
        """The feature of each row of a split that has them."""
        rows = split.features
        chosen = None if rows is None else rows.student if self.of == "student" else rows.teacher
        assert chosen is not None
        return chosen


@dataclass(frozen=True)
class GivenFeatures:
    """A teacher network given by files of its image features and text embeddings.

    Attributes:
        name: in specs, ``features:FILE.npz`` or ``features:FILE.npz:HEAD.npz``.
        features: file with, for one or more parts, arrays ``PART_f`` (rows, dim) of unit-norm image features of view
            0 and, where the images have names, ``PART_path`` (rows,), optionally ``PART_y`` (rows,), their labels.
        head: file with the array ``W`` (classes, dim) of text embeddings, optionally ``classnames`` (classes,) and
            ``logit_scale``, the factor from a cosine to a logit (100 where no file states it).
    """

    name: str
    features: Path
    head: Path

    @property
    def fingerprint(self) -> str:
        """Hash of the bytes of both files."""
        return hashlib.sha256((file_hash(self.features) + file_hash(self.head)).encode()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """A line where nothing in the file of features can show that its rows are in another order than the images.

        Raises:
            InputError: the file cannot be read.
        """
        if read_archive(self.features, lambda name: name.endswith(("_path", "_y"))):
            return ()
        return (f"{self.features} has neither names (PART_path) nor labels (PART_y): row i is taken for image i",)


def given_features(network: str) -> GivenFeatures:
    """The files of ``features:FILE.npz`` or ``features:FILE.npz:HEAD.npz``, relative to ``$ACTIVEKD_DATA``.

    Raises:
        InputError: the name is malformed, or a file is missing.
    """
    names = network.removeprefix(FEATURES).split(":")
    if len(names) > 2 or not all(names):
        raise InputError(f"teacher network '{network}'; expected: features:FILE.npz or features:FILE.npz:HEAD.npz")
    files = [Path(name) if Path(name).is_absolute() else data_folder() / name for name in names]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError(f"teacher network '{network}': no file {', '.join(missing)}; expected: existing .npz files")
    return GivenFeatures(network, files[0], files[-1])


def given_width(given: GivenFeatures) -> int:
    """Numbers a feature: the width of the text embeddings, which is that of the image features.

    Raises:
        InputError: the file of the head cannot be read or has no text embeddings.
    """
    head = read_archive(given.head, lambda name: name == "W").get("W")
    if head is None or head.ndim != 2:
        raise InputError(f"{given.head}: no array W of shape (classes, width); expected: the text embeddings as W")
    return int(head.shape[1])


def read_features(given: GivenFeatures, split: Split, part: str) -> Float16[np.ndarray, "n dim"]:
    """The feature of each row of a split, in fp16.

    With ``PART_path`` in the file, rows are matched by name across all its parts (``matched_rows``), in any order; it
    may hold more images than the split. Without names, row i is the image of row i of the split (the order of a split
    file, or of the sorted paths of an image folder), and the file must hold exactly its rows. Labels in the file are
    compared with those of the data set. Names and labels that the file stores as bytes are read as UTF-8.

    Args:
        given: the files of the teacher network.
        split: the split, with or without image names.
        part: ``train`` or ``test``: names the array to read where there are no image names.

    Raises:
        InputError: images without features, a name that stands twice with other features, names for a data set without
            names, another count, other labels, or features that are not numbers, not finite or not of unit norm.
    """
    file = given.features
    return _checked(file, matched_rows(file, _parts(file, part), split, part))


def _parts(file: Path, part: str) -> dict[str, Part]:
    """The parts of a features file, which a process reads once as long as its size and time stay.

    The last file that was read stays in memory; ``forget_features`` lets it go.
    """
    try:
        status = file.stat()
    except OSError as fault:
        raise InputError(f"{file}: {reason(fault)}; expected: an .npz file of features") from fault
    parts, arrays = _read_parts(file, status.st_size, status.st_mtime_ns)
    if not parts:
        raise InputError(f"{file}: arrays {', '.join(sorted(arrays))}; expected: {part}_f of shape (rows, width)")
    return parts


@lru_cache(maxsize=1)
def _read_parts(file: Path, size: int, time_ns: int) -> tuple[dict[str, Part], list[str]]:
    """The parts of a features file of that size and time, and the names of its arrays."""
    arrays = read_archive(file)
    return parts_of(file, arrays), list(arrays)


def forget_features() -> None:
    """Free the memory of the features that were read last."""
    _read_parts.cache_clear()


def _checked(file: Path, features: np.ndarray) -> Float16[np.ndarray, "n dim"]:
    norms = np.concatenate([_norms(features[start : start + CHUNK]) for start in range(0, len(features), CHUNK)])
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise InputError(
            f"{file}: values that are not finite in {len(bad)} rows, first in row {bad[0]} of the split; "
            f"expected: finite features"
        )
    off = np.flatnonzero(np.abs(norms - 1) > NORM_TOLERANCE)
    if len(off):
        raise InputError(
            f"{file}: {len(off)} rows are not of unit norm, first row {off[0]} of the split with {norms[off[0]]:.3f}; "
            f"expected: 1 within {NORM_TOLERANCE}"
        )
    return features.astype(np.float16)


def _norms(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows.astype(np.float64), axis=1)


def read_head(given: GivenFeatures, class_names: Sequence[str], dim: int) -> Float32[np.ndarray, "classes dim"]:
    """The text embedding of each class, as stored, in label order.

    With class names in the file, rows are matched by name; capitals and ``_`` for a space make no difference. Without
    them, row c is class c of the data set.

    Args:
        given: the files of the teacher network.
        class_names: the data set's class names, in label order.
        dim: width of the image features.

    Raises:
        InputError: the number of classes, their names or the width differ, or an embedding is not finite or of norm 0.
    """
    file, arrays = given.head, read_archive(given.head)
    if "W" not in arrays:
        raise InputError(f"{file}: arrays {', '.join(sorted(arrays))}; expected: W of shape (classes, width)")
    weights, wanted = arrays["W"], (len(class_names), dim)
    if weights.dtype.kind not in "fiu":
        raise InputError(f"{file}: W is {weights.dtype}; expected: numbers")
    if weights.shape != wanted:
        raise InputError(f"{file}: W has shape {weights.shape}; expected: {wanted}")
    weights = weights[_class_rows(file, arrays, class_names)]
    norms = _norms(weights)
    for what, wrong in (("values that are not finite", ~np.isfinite(norms)), ("norm 0", norms < LEAST_NORM)):
        if wrong.any():
            shown = _few([f"'{class_names[row]}'" for row in np.flatnonzero(wrong).tolist()])
            raise InputError(
                f"{file}: W has {what} in {wrong.sum()} of {len(wrong)} rows, those of {shown}; "
                f"expected: finite text embeddings of a norm above 0"
            )
    return weights.astype(np.float32)


def _class_rows(file: Path, arrays: dict[str, np.ndarray], class_names: Sequence[str]) -> np.ndarray:
    """The row of the head of each class."""
    keys = [key for key in CLASS_NAMES if key in arrays]
    if not keys:
        return np.arange(len(class_names))
    if len({tuple(as_text(file, key, arrays[key])) for key in keys}) > 1:
        raise InputError(f"{file}: {' and '.join(keys)} differ; expected: one of them")
    stored = [_plain(name) for name in as_text(file, keys[0], arrays[keys[0]])]
    wanted = [_plain(name) for name in class_names]
    if stored == wanted:
        return np.arange(len(wanted))
    repeated = sorted({name for names in (stored, wanted) for name in names if names.count(name) > 1})
    if len(stored) != len(wanted) or repeated:
        found = f"{len(stored)} names" + (f", '{repeated[0]}' repeated" if repeated else "")
        raise InputError(
            f"{file}: {keys[0]} has {found}; expected: {len(wanted)} distinct names, one per row of W, or the data "
            f"set's in its order"
        )
    lacking = [name for name, plain in zip(class_names, wanted, strict=True) if plain not in stored]
    if lacking:
        others = [name for name in stored if name not in wanted]
        odd = [f"'{other}' for '{name}'" for other, name in zip(others, lacking, strict=True)]
        raise InputError(
            f"{file}: {len(odd)} of {len(wanted)} rows of W have other class names, such as {_few(odd)}; "
            f"expected: those of the data set"
        )
    return np.array([stored.index(name) for name in wanted])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _plain(name: str) -> str:
    return name.replace("_", " ").casefold()


def read_logit_scale(given: GivenFeatures) -> float:
    """The factor from a cosine to a logit that the files state as ``logit_scale``; DEFAULT_LOGIT_SCALE where none does.

    Raises:
        InputError: it is not one number of at least LEAST_LOGIT_SCALE, or the two files differ.
    """
    stated: dict[float, Path] = {}
    for file in (given.head, given.features):
        array = read_archive(file, lambda name: name == LOGIT_SCALE).get(LOGIT_SCALE)
        if array is not None:
            stated[as_logit_scale(file, array)] = file
    if len(stated) > 1:
        both = " and ".join(f"{value:g} in {file}" for value, file in stated.items())
        raise InputError(f"logit_scale is {both}; expected: the same factor in both, or in one")
    return next(iter(stated), DEFAULT_LOGIT_SCALE)
