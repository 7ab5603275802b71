"""Image features and text heads computed elsewhere: .npz files, checked against the data set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float16, Float32

from activekd.datasets.split import Split
from activekd.errors import InputError
from activekd.folders import data_folder

PREFIX = "features:"
"""Prefix of the name of a network given by files."""

NORM_TOLERANCE = 0.01
"""Largest deviation of a feature's norm from 1."""

SHOWN = 3


@dataclass(frozen=True)
class GivenFeatures:
    """A teacher network given by files of its image features and text embeddings.

    Attributes:
        name: in specs, ``features:FILE.npz`` or ``features:FILE.npz:HEAD.npz``.
        features: file with, for one or more parts, arrays ``PART_f`` (rows, dim) of unit-norm image features of view
            0 and, where the images have names, ``PART_path`` (rows,).
        head: file with the array ``W`` (classes, dim) of text embeddings and optionally ``classnames`` (classes,).
    """

    name: str
    features: Path
    head: Path

    @property
    def fingerprint(self) -> str:
        """Hash of the bytes of both files."""
        return hashlib.sha256((_hash(self.features) + _hash(self.head)).encode()).hexdigest()


@lru_cache(maxsize=8)
def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def given_features(network: str) -> GivenFeatures:
    """The files of ``features:FILE.npz`` or ``features:FILE.npz:HEAD.npz``, relative to ``$ACTIVEKD_DATA``.

    Raises:
        InputError: the name is malformed, or a file is missing.
    """
    names = network.removeprefix(PREFIX).split(":")
    if len(names) > 2 or not all(names):
        raise InputError(f"teacher network '{network}'; expected: features:FILE.npz or features:FILE.npz:HEAD.npz")
    files = [Path(name) if Path(name).is_absolute() else data_folder() / name for name in names]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise InputError(f"teacher network '{network}': no file {', '.join(missing)}; expected: existing .npz files")
    return GivenFeatures(network, files[0], files[-1])


def read_features(given: GivenFeatures, split: Split, part: str) -> Float16[np.ndarray, "n dim"]:
    """The feature of each row of a split, in fp16.

    Rows are matched by image name across all parts of the file. Without names they are matched by order, and the file
    must hold exactly the rows of the split.

    Args:
        given: the files of the teacher network.
        split: the split, with or without image names.
        part: ``train`` or ``test``: names the array to read where there are no image names.

    Raises:
        InputError: rows are absent, counts differ, or features are not finite or not of unit norm.
    """
    arrays = _load(given.features)
    parts = sorted(key.removesuffix("_f") for key in arrays if key.endswith("_f"))
    named = [p for p in parts if f"{p}_path" in arrays]
    if split.names is not None and named:
        places = {name: (p, row) for p in named for row, name in enumerate(arrays[f"{p}_path"].tolist())}
        absent = [name for name in split.names if name not in places]
        if absent:
            raise InputError(
                f"{given.features}: no features of {len(absent)} of {len(split)} {part} images, such as "
                f"{', '.join(absent[:SHOWN])}; expected: every image in {', '.join(f'{p}_path' for p in named)}"
            )
        for p in named:
            _check_count(given.features, p, len(arrays[f"{p}_path"]), len(arrays[f"{p}_f"]))
        out = np.stack([arrays[f"{places[name][0]}_f"][places[name][1]] for name in split.names])
    else:
        if part not in parts:
            raise InputError(
                f"{given.features}: arrays {', '.join(sorted(arrays))}; expected: {part}_f of shape (rows, width)"
            )
        out = arrays[f"{part}_f"]
        _check_count(given.features, part, len(split), len(out))
    return _checked(given.features, out)


def _check_count(file: Path, part: str, wanted: int, n_rows: int) -> None:
    if wanted != n_rows:
        raise InputError(f"{file}: {n_rows} rows of features in {part}_f; expected: {wanted}, one per image")


def _checked(file: Path, features: np.ndarray) -> np.ndarray:
    if features.ndim != 2:
        raise InputError(f"{file}: features of shape {features.shape}; expected: (rows, width)")
    norms = np.linalg.norm(features.astype(np.float32), axis=1)
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


def read_head(given: GivenFeatures, class_names: Sequence[str], dim: int) -> Float32[np.ndarray, "classes dim"]:
    """The text embedding of each class, as stored.

    Args:
        given: the files of the teacher network.
        class_names: the data set's class names, in label order.
        dim: width of the image features.

    Raises:
        InputError: the number of classes, their names or the width differ, or values are not finite.
    """
    arrays = _load(given.head)
    if "W" not in arrays:
        raise InputError(f"{given.head}: arrays {', '.join(sorted(arrays))}; expected: W of shape (classes, width)")
    weights = arrays["W"].astype(np.float32)
    if weights.shape != (len(class_names), dim):
        raise InputError(f"{given.head}: W has shape {weights.shape}; expected: {(len(class_names), dim)}")
    if not np.isfinite(weights).all():
        raise InputError(f"{given.head}: W has values that are not finite; expected: finite embeddings")
    stored = [str(name).replace("_", " ") for name in arrays.get("classnames", np.array(class_names)).tolist()]
    odd = [f"'{a}' for '{b}'" for a, b in zip(stored, class_names, strict=True) if a.lower() != b.lower()]
    if odd:
        raise InputError(
            f"{given.head}: other class names, such as {', '.join(odd[:SHOWN])}; expected: those of the data set"
        )
    return weights


def _load(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as content:
            return {key: content[key] for key in content.files}
    except (OSError, ValueError, BadZipFile) as fault:
        raise InputError(f"{file}: {fault}; expected: an .npz file of plain arrays") from fault
