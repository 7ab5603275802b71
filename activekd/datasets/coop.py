"""The benchmark's data sets on disk: the image files and labels of each split, in CoOp's layout (Zhou et al. 2022)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from activekd.datasets.catalog import CATALOG
from activekd.datasets.image_files import is_image, shown
from activekd.datasets.names import class_name, class_name_faults, read_text, repeated
from activekd.errors import InputError
from activekd.images.survey import Survey

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Part:
    """The files of a split, relative to the folder of the images, with their labels."""

    paths: tuple[str, ...]
    labels: Int64[np.ndarray, " n"]


NO_PART = Part((), np.empty(0, dtype=np.int64))
"""A split without files."""


@dataclass(frozen=True)
class Listing:
    """Class names, image paths and labels of a data set, from its lists alone.

    Attributes:
        class_names: one name per class, in label order.
        images: the folder that the paths are relative to.
        parts: ``train``, ``val`` and ``test``.
    """

    class_names: tuple[str, ...]
    images: Path
    parts: dict[str, Part]


def required(name: str, root: Path) -> tuple[tuple[str, Path], ...]:
    """Files and directories that a data set of CATALOG must have: (``file`` or ``directory``, path)."""
    entry = CATALOG[name]
    folder = root / entry.folder
    images = ("directory", folder / entry.images)
    if name == "imagenet":
        names = folder / "classnames.txt"
        parts = [("directory", folder / entry.images / sub) for sub in ("train", "val")]
        wordnet = _wordnet_ids(names) if names.is_file() else []
        classes = [("directory", path / w) for _, path in parts if path.is_dir() for w in wordnet]
        return ("file", names), *parts, *classes
    if name == "fgvc_aircraft":
        lists = ["variants.txt", *(f"images_variant_{part}.txt" for part in PARTS)]
        return (*(("file", folder / file) for file in lists), images)
    return ("file", folder / str(entry.split)), images


def read_listing(name: str, root: Path, survey: Survey | None = None) -> Listing:
    """The splits of a data set of CATALOG, from its split file, official lists or class folders.

    Args:
        name: a key of CATALOG.
        root: the folder of all data sets.
        survey: reads class folders; None for a new one.

    Raises:
        InputError: a list or class folder is missing or malformed; the message names it and what is expected.
    """
    entry = CATALOG[name]
    folder = root / entry.folder
    if name == "imagenet":
        return _imagenet(folder, folder / entry.images, survey or Survey())
    if name == "fgvc_aircraft":
        return _official_lists(folder, folder / entry.images)
    assert entry.split is not None
    return _split_file(folder / entry.split, folder / entry.images)


def _text(file: Path) -> str:
    try:
        return read_text(file)
    except InputError as fault:
        raise InputError(f"{fault}, as `activekd data fetch` names it") from fault


def _split_file(file: Path, images: Path) -> Listing:
    text = _text(file)
    try:
        content = json.loads(text)
        parts = {part: [_item(*item) for item in content[part]] for part in PARTS}
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as fault:
        raise InputError(
            f"{file}: {fault!r}; expected: train, val and test as lists of [path, label, class]"
        ) from fault
    names: dict[int, str] = {}
    for items in parts.values():
        for path, label, name in items:
            if names.setdefault(label, name) != name:
                raise InputError(
                    f"{file}: label {label} is '{names[label]}' and, for {path}, '{name}'; expected: one name per label"
                )
    if sorted(names) != list(range(len(names))):
        raise InputError(
            f"{file}: labels {sorted(names)[:3]} ... {max(names)}; expected: 0 to {len(names) - 1}, each used"
        )
    written = [names[label] for label in range(len(names))]
    _check_names(file, written)
    return Listing(
        tuple(map(class_name, written)),
        images,
        {part: _part([(p, label) for p, label, _ in items]) for part, items in parts.items()},
    )


def _item(path: object, label: object, name: object) -> tuple[str, int, str]:
    if not (isinstance(path, str) and type(label) is int and isinstance(name, str)):
        raise TypeError(f"[{path!r}, {label!r}, {name!r}] in place of a text, a whole number and a text")
    return path, label, name


def _check_names(file: Path, written: Sequence[str]) -> None:
    again = [f"{file}: class name '{name}' stands twice; expected: distinct names" for name in repeated(written)]
    if faults := [*again, *class_name_faults(str(file), list(dict.fromkeys(written)))]:
        raise InputError(*faults)


def _part(items: list[tuple[str, int]]) -> Part:
    return Part(tuple(path for path, _ in items), np.array([label for _, label in items], dtype=np.int64))


def _official_lists(folder: Path, images: Path) -> Listing:
    names = tuple(line.strip() for line in _text(folder / "variants.txt").splitlines() if line.strip())
    _check_names(folder / "variants.txt", names)
    label_of = {name: label for label, name in enumerate(names)}
    parts = {}
    for part in PARTS:
        file = folder / f"images_variant_{part}.txt"
        items = []
        for number, line in enumerate(_text(file).splitlines(), start=1):
            image, _, variant = line.strip().partition(" ")
            if variant not in label_of:
                raise InputError(f"{file}, line {number}: variant '{variant}'; expected: one of those in variants.txt")
            items.append((f"{image}.jpg", label_of[variant]))
        parts[part] = _part(items)
    return Listing(names, images, parts)


def _wordnet_ids(file: Path) -> list[str]:
    return sorted(line.split(" ", 1)[0] for line in _text(file).splitlines() if line.strip())


def _imagenet(folder: Path, images: Path, survey: Survey) -> Listing:
    file = folder / "classnames.txt"
    pairs = [line.split(" ", 1) for line in _text(file).splitlines() if line.strip()]
    wrong = [" ".join(pair) for pair in pairs if len(pair) != 2]
    if wrong:
        raise InputError(f"{file}: line '{wrong[0]}'; expected: WORDNET_ID NAME, one class per line")
    if twice := repeated(wordnet for wordnet, _ in pairs):
        raise InputError(f"{file}: {shown(twice)} on more than one line; expected: one line per class")
    names = {wordnet: name.strip() for wordnet, name in pairs}
    order = sorted(names)
    absent = [str(images / sub / w) for sub in ("train", "val") for w in order if not (images / sub / w).is_dir()]
    if absent:
        raise InputError(f"{len(absent)} class folders are missing: {shown(absent)}; expected: one per class of {file}")
    parts = {"val": NO_PART}
    for part, sub in (("train", "train"), ("test", "val")):
        names_of = survey.names([f"{images}/{sub}/{wordnet}" for wordnet in order], is_image)
        items = [
            (f"{sub}/{wordnet}/{file}", label)
            for label, (wordnet, files) in enumerate(zip(order, names_of, strict=True))
            for file in files
        ]
        parts[part] = _part(items)
    return Listing(tuple(names[wordnet] for wordnet in order), images, {part: parts[part] for part in PARTS})
