"""A user's image folder as a data set: class folders, optional splits and optional prompts."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from activekd.datasets.split import Source, Split, split_rows
from activekd.errors import InputError
from activekd.folders import keeps_decoded_images
from activekd.images.cache import decode_splits
from activekd.images.decoding import SHORT_SIDE

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
PROMPTS = ("a photo of a {}.",)
FRACTIONS = (0.6, 0.2, 0.2)
"""Shares of train, val and test per class, where the folder has no ``train/`` and ``test/``."""


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.suffix.lower() in EXTENSIONS and f.is_file())


def _class_folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _read(folders: Sequence[Path], cache: Path) -> tuple[list[Path], np.ndarray]:
    files, labels = [], []
    empty = []
    for label, folder in enumerate(folders):
        images = _files(folder)
        if not images:
            empty.append(str(folder))
        files.extend(images)
        labels.extend([label] * len(images))
    if empty:
        raise InputError(f"no image in {', '.join(empty)}; expected: at least one per class ({' '.join(EXTENSIONS)})")
    return files, np.array(labels, dtype=np.int64)


def _prompts(folder: Path) -> tuple[str, ...]:
    file = folder / "prompts.txt"
    if not file.exists():
        return PROMPTS
    prompts = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    wrong = [p for p in prompts if p.count("{}") != 1]
    if wrong or not prompts:
        raise InputError(f"{file}: {wrong or 'no line'}; expected: one template per line, each with one {{}}")
    return prompts


def image_folder(folder: Path, cache: Path, short_side: int = SHORT_SIDE) -> Source:
    """A folder with one sub-folder per class, or with ``train/``, ``test/`` and optionally ``val/`` of that form.

    Class names are the sorted folder names with ``_`` read as a space. Without ``train/`` and ``test/`` the images
    are split 60 / 20 / 20 by a fixed seed, class by class. ``prompts.txt`` in the folder may hold prompt templates,
    one per line; the default is 'a photo of a {}.'. Every image is decoded once, here, into the cache.

    Args:
        folder: an existing folder.
        cache: folder of the cache of decoded images.
        short_side: shorter side in pixels that larger images are scaled down to.

    Raises:
        InputError: ``train/`` or ``test/`` is missing, a class has no image, the classes of ``val`` or ``test`` differ
            from those of ``train``, ``prompts.txt`` is malformed, or images cannot be decoded; each is named.
    """
    parts = [part for part in ("train", "val", "test") if (folder / part).is_dir()]
    if parts and not {"train", "test"} <= set(parts):
        raise InputError(
            f"folder:{folder}: found {'/, '.join(parts)}/; expected: both train/ and test/, or class folders only"
        )
    if not parts:
        classes = _class_folders(folder)
        files, labels = _read(classes, cache) if classes else ([], np.zeros(0, dtype=np.int64))
        split = split_rows(labels, FRACTIONS, "folder") if files else [np.zeros(0, dtype=np.int64)] * 3
        groups = [([files[row] for row in rows], labels[rows]) for rows in split]
    else:
        classes = _class_folders(folder / "train")
        groups = []
        for part in ("train", "val", "test"):
            part_classes = _class_folders(folder / part) if part in parts else []
            names = [c.name for c in part_classes]
            if part in parts and names != [c.name for c in classes]:
                odd = sorted(set(names) ^ {c.name for c in classes})
                raise InputError(
                    f"{folder / part}: classes differ from those of train: {', '.join(odd)}; expected: the same classes"
                )
            groups.append(_read(part_classes, cache) if part_classes else ([], np.zeros(0, dtype=np.int64)))
    decoded = decode_splits(
        [files for files, _ in groups],
        cache,
        threads=os.cpu_count() or 1,
        short_side=short_side,
        keep=keeps_decoded_images(),
    )
    train, val, test = (Split(images, labels) for images, (_, labels) in zip(decoded, groups, strict=True))
    names = tuple(c.name.replace("_", " ") for c in classes)
    return Source(names, _prompts(folder), train, val, test)
