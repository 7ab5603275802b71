"""Feature files of CLIP as data sets of arrays: the validation split is the pool, class means are a few-shot head."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from activekd.archives import as_text, read_archive
from activekd.datasets.arrays import arrays_source
from activekd.datasets.catalog import CATALOG
from activekd.datasets.names import class_name, read_text
from activekd.errors import Faults, InputError, reason
from activekd.folders import data_folder, unfinished_beside, user_path
from bench.terminal import examples, say, user_errors

FOLDER = "clip_vitb32"
"""Folder of the feature files, relative to ``$ACTIVEKD_DATA``."""

SETS = "~/.cache/activekd/feature-sets"
"""Default folder of the data sets."""

SPLITS = "splits"
"""Folder of split files, relative to ``$ACTIVEKD_DATA``, beside those in the folders of the data sets."""

POOL, TEST, SHOTS = "val", "test", "train16"
"""The split that becomes the pool, the one that tests, and the few images of each class whose means are a head."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown", help=__doc__)


@dataclass(frozen=True)
class FeatureSet:
    """A data set of arrays.

    Attributes:
        arrays: by name, as ``activekd.datasets.arrays.arrays_source`` reads them.
        lines: what a reader should know, one line each.
    """

    arrays: dict[str, np.ndarray]
    lines: tuple[str, ...]


def feature_set(file: Path, root: Path) -> FeatureSet:
    """The data set of a feature file.

    The file has image features ``val_f`` and ``test_f`` (rows, width) with labels ``val_y`` and ``test_y`` (rows,), and
    optionally ``train16_f`` and ``train16_y``, a few images of each class. Students and teacher read the same features.
    The mean of a class over ``train16_f`` is its text embedding for teachers ``given``. Class names come from the split
    file of the data set, else from ``classnames`` in the file, else they are numbers. Classes without an image in a
    part are left out, and the others are numbered anew.

    Args:
        file: NAME.npz.
        root: the folder of all data sets, for split files.

    Raises:
        InputError: the file or the split file cannot be read, or every fault of its arrays at once.
    """
    content = read_archive(file)
    parts = _parts(file, content)
    n_classes = 1 + max(int(y.max()) for _, y in parts.values())
    names, source = _class_names(file, content, root, n_classes)
    counts = {part: np.bincount(y, minlength=len(names)) for part, (_, y) in parts.items()}
    kept = np.flatnonzero(np.all([count > 0 for count in counts.values()], axis=0))
    lines = [f"{len(kept)} classes, named by {source}"]
    if len(kept) < 2:
        raise InputError(
            f"{file}: {len(kept)} classes with an image in each of {', '.join(parts)}; expected: at least 2"
        )
    if len(kept) < len(names):
        out = [names[label] for label in range(len(names)) if label not in kept]
        lines.append(f"left out {len(out)} classes without an image in {' or '.join(parts)}: {', '.join(out)}")
    arrays: dict[str, np.ndarray] = {"class_names": np.array([names[label] for label in kept])}
    for end, part in (("", POOL), ("_test", TEST)):
        features, labels = parts[part]
        rows = np.isin(labels, kept)
        arrays |= {f"X{end}": features[rows], f"y{end}": np.searchsorted(kept, labels[rows]).astype(np.int64)}
        lines.append(f"{'test' if end else 'pool'}: {rows.sum():,} images of {part}")
    if SHOTS in parts:
        features, labels = parts[SHOTS]
        head = np.stack([features[labels == label].astype(np.float64).mean(axis=0) for label in kept])
        arrays |= {f"teacher_features{end}": arrays[f"X{end}"] for end in ("", "_test")}
        arrays["text"] = head.astype(np.float32)
        lines.append(f"teacher: means of {np.isin(labels, kept).sum():,} images of {SHOTS}")
    else:
        lines.append(f"no teacher, since there is no {SHOTS}")
    arrays_source(str(file), arrays)
    return FeatureSet(arrays, tuple(lines))


def _parts(file: Path, content: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Features and labels of each part that the file has."""
    wanted = [POOL, TEST, *([SHOTS] if {f"{SHOTS}_f", f"{SHOTS}_y"} & content.keys() else [])]
    if missing := [key for part in wanted for key in (f"{part}_f", f"{part}_y") if key not in content]:
        raise InputError(
            f"{file}: no {', '.join(missing)} among {', '.join(content)}; expected: features PART_f and labels PART_y "
            f"of {POOL} and {TEST}, and perhaps of {SHOTS}"
        )
    faults, parts = [], {}
    for part in wanted:
        features, labels = content[f"{part}_f"], content[f"{part}_y"]
        if features.ndim != 2 or features.dtype.kind != "f" or len(features) == 0:
            faults.append(f"{file}: {part}_f is {features.dtype} of shape {features.shape}; expected: rows of features")
        if labels.shape != features.shape[:1] or labels.dtype.kind not in "iu" or labels.min(initial=0) < 0:
            faults.append(
                f"{file}: {part}_y is {labels.dtype} of shape {labels.shape}; expected: whole numbers from 0, one "
                f"for each row of {part}_f"
            )
        parts[part] = features, labels
    if faults:
        raise InputError(*faults)
    return parts


def _class_names(file: Path, content: dict[str, np.ndarray], root: Path, n_classes: int) -> tuple[list[str], str]:
    """The class names in label order, and where they are from."""
    entry = CATALOG.get(file.stem)
    places = [root / entry.folder / entry.split, root / SPLITS / entry.split] if entry and entry.split else []
    split = next((place for place in places if place.is_file()), None)
    if split is not None:
        names, source = _names_of(split), str(split)
    elif "classnames" in content:
        names, source = list(map(class_name, as_text(file, "classnames", content["classnames"]))), "classnames"
    else:
        names, source = list(map(str, range(n_classes))), "their numbers"
    if len(names) < n_classes:
        raise InputError(
            f"{file}: labels up to {n_classes - 1}, but {len(names)} names in {source}; expected: a name each"
        )
    return names, source


def _names_of(split: Path) -> list[str]:
    try:
        content = json.loads(read_text(split))
        names = {int(label): str(name) for part in content.values() for _, label, name in part}
        return [class_name(names[label]) for label in range(len(names))]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as fault:
        raise InputError(f"{split}: {fault!r}; expected: lists of [path, label, class]") from fault


def feature_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """The feature files of these names, or of all names in the folder whose files have a pool.

    Raises:
        InputError: there is no such folder, no file or every missing one.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.npz"))}
    if not found:
        raise InputError(f"{folder}: no feature file; expected: NAME.npz with {POOL}_f, {POOL}_y, {TEST}_f, {TEST}_y")
    if missing := [name for name in names if name not in found]:
        raise InputError(f"{folder}: no file {', '.join(f'{name}.npz' for name in missing)}; known: {', '.join(found)}")
    return [found[name] for name in names] or [
        path for path in found.values() if read_archive(path, lambda key: key == f"{POOL}_y")
    ]


@app.command(
    epilog=examples(
        "ACTIVEKD_DATA=~/data python tools/feature_sets.py",
        "python tools/feature_sets.py dtd ucf101 --to sets",
        "activekd data check arrays:sets/dtd.npz",
    )
)
def write(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Feature files without .npz; all by default.")
    ] = None,
    to: Annotated[str, typer.Option(metavar="FOLDER", help="Folder of the data sets.")] = SETS,
    source: Annotated[
        str, typer.Option("--from", metavar="FOLDER", help="Folder of the feature files in $ACTIVEKD_DATA.")
    ] = FOLDER,
) -> None:
    """Write `arrays:` data sets from feature files of CLIP in `$ACTIVEKD_DATA`, one NAME.npz each."""
    with user_errors():
        root, folder = data_folder(), user_path(to, "--to")
        faults = Faults()
        files = feature_files(root / source, names or [])
        sets = faults.resolve(files, lambda file: feature_set(file, root), shown=str)
        faults.refuse()
        for file, made in sets.items():
            path = folder / file.name
            save(path, made)
            say(f"{path}: {'; '.join(made.lines)}")


def save(path: Path, made: FeatureSet) -> None:
    """Write a data set, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    unfinished = unfinished_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez(file, **made.arrays)  # pyright: ignore[reportArgumentType]
        unfinished.replace(path)
    except OSError as fault:
        raise InputError(f"{path}: {reason(fault)}; expected: a file that can be written") from fault
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    app()
