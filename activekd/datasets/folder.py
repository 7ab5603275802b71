"""A user's image folder as a data set: class folders, optional splits and optional prompts."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activekd.datasets.coop import PARTS, Listing, Part
from activekd.datasets.decoded import decode_parts
from activekd.datasets.image_files import (
    EXTENSIONS,
    TWICE,
    Tree,
    image_tree,
    is_image,
    left_out_line,
    shown,
    subfolders,
)
from activekd.datasets.names import class_name, class_name_faults, read_templates
from activekd.datasets.split import Source, class_faults, split_rows
from activekd.errors import InputError
from activekd.given import FOLDER
from activekd.images.survey import Survey

PROMPTS = ("a photo of a {}.",)
PROMPTS_FILE = "prompts.txt"
FRACTIONS = (0.6, 0.2, 0.2)
"""Shares of train, val and test per class, where the folder has no ``train/`` and ``test/``."""

OUTSIDE = "image outside the class folders"
BESIDE = "folder beside train/ and test/"

PART_WORDS = {
    "train": ("train", "training", "trainset", "trainingset"),
    "val": ("val", "validation", "valset", "validationset"),
    "test": ("test", "testing", "testset", "testingset"),
}
"""Words that name a split, and never a class beside other classes."""
DOUBTFUL_WORDS = {"val": ("valid", "dev"), "test": ("eval", "evaluation", "holdout")}
"""Words that name a split if the folder has no image of its own; else they name a class."""
FILLERS = {"set", "data", "dataset", "images", "image", "imgs", "img", "split"}
UNLABELED_WORDS = {"unsup", "unsupervised", "unknown", "unclassified", "uncategorized", "uncategorised", "unsorted"}
UNLABELED_STEMS = tuple(
    no + done for no in ("un", "no", "non", "not", "without") for done in ("label", "labl", "annot")
)


@dataclass(frozen=True)
class FolderListing:
    """An image folder before its images are decoded.

    Attributes:
        listing: class names, and the images and labels of each split; paths are relative to the folder.
        prompts: templates with one ``{}``.
        left_out: a line on the entries that are no part of the data set; empty if there are none.
    """

    listing: Listing
    prompts: tuple[str, ...]
    left_out: str


def folder_path(name: str) -> Path:
    """The folder of the data set ``folder:PATH``.

    Raises:
        InputError: there is no such folder, or it cannot be read.
    """
    path = name.removeprefix(FOLDER)
    try:
        folder = Path(path).expanduser()
        if path and folder.is_dir():
            return folder
        reason = "no such folder" if path else "no path"
    except (OSError, RuntimeError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
    raise InputError(f"{name}: {reason}; expected: {FOLDER}PATH with class folders, or train/ and test/ of that form")


def read_folder(name: str) -> FolderListing:
    """The splits of ``folder:PATH``, without decoding an image.

    The folder has one sub-folder per class, or ``train/``, ``test/`` and optionally ``val/`` of that form. A class
    folder has images of its own; those in its sub-folders count too. Links are followed. Class names are the sorted
    folder names as ``class_name`` writes them. Without ``train/`` and ``test/`` the images are split 60 / 20 / 20 by a
    fixed seed, class by class. ``prompts.txt`` may hold prompt templates, one per line; the default is
    'a photo of a {}.'.

    Raises:
        InputError: every fault of the layout, the class folders and the prompts at once.
    """
    folder = folder_path(name)
    try:
        tops = subfolders(folder)
        part_of, faults = _part_folders(folder, tops)
    except OSError as fault:
        raise InputError(f"{name}: {fault.strerror}; expected: a folder that can be read") from fault
    tree = image_tree(folder, set(part_of.values()) or None)
    faults += tree.faults
    prompts = PROMPTS
    try:
        prompts = _prompts(folder)
    except InputError as fault:
        faults += fault.faults
    left_out = defaultdict[str, list[str]](list, {kind: list(paths) for kind, paths in tree.left_out.items()})
    left_out[".txt"] = [path for path in left_out[".txt"] if path != PROMPTS_FILE]
    if part_of:
        left_out[BESIDE] = [top for top in tops if top not in part_of.values()]
    faults += _linked_faults(folder, tree, 2 if part_of else 1, left_out)
    classes, found = {}, {}
    if not part_of or {"train", "test"} <= part_of.keys():
        for part, top in (part_of or {"train": ""}).items():
            if top not in tree.folders:
                continue
            classes[part], found[part] = _classes(top, tree)
            faults += _class_folder_faults(folder, top, classes[part], found[part], left_out)
            faults += _too_few(folder, top, classes[part], tree)
        left_out[OUTSIDE] = sorted({*tree.images} - {p for part in found.values() for ps in part.values() for p in ps})
        faults += class_name_faults(str(folder / part_of.get("train", "")), classes.get("train", ()))
        faults += _other_classes(folder, part_of, classes)
    if faults:
        raise InputError(*dict.fromkeys(faults))
    parts = _parts(classes["train"], found, is_split=bool(part_of))
    listing = Listing(tuple(map(class_name, classes["train"])), folder, parts)
    labels = {part: parts[part].labels for part in ("train", "test")}
    if faults := class_faults(name, listing.class_names, labels):
        raise InputError(*faults)
    return FolderListing(listing, prompts, left_out_line(left_out))


def image_folder(
    name: str, cache: Path, progress: Callable[[int, int], object], survey: Survey, *, short_side: int
) -> Source:
    """The data set ``folder:PATH``, as ``read_folder`` lists it, every image decoded once into the cache.

    Args:
        name: ``folder:PATH``.
        cache: folder of the cache of decoded images.
        progress: called with the number of images decoded so far and the total.
        survey: what is known of the files.
        short_side: shorter side in pixels that larger images are scaled down to.

    Raises:
        InputError: every fault of ``read_folder`` at once; else every image that cannot be decoded.
    """
    found = survey.once(name, lambda: read_folder(name))
    splits = decode_parts(found.listing.images, found.listing.parts, cache, progress, survey, short_side=short_side)
    notes = (found.left_out,) if found.left_out else ()
    train, val, test = (splits[part] for part in PARTS)
    return Source(found.listing.class_names, found.prompts, train, val, test, notes)


def _part_folders(folder: Path, tops: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The folder of each split, in the order of PARTS, and faults of their names."""
    named = defaultdict[str, list[str]](list)
    for top in tops:
        if part := _part(folder / top):
            named[part].append(top)
    part_of = {part: part if part in named[part] else named[part][0] for part in PARTS if named[part]}
    faults = []
    if odd := [top for part in PARTS for top in named[part] if top != part]:
        faults.append(
            f"{folder}: folders {', '.join(f'{top}/' for top in odd)} look like splits; expected: the names "
            f"train/, test/ and val/, or class folders with other names"
        )
    if part_of and not {"train", "test"} <= part_of.keys():
        faults.append(
            f"{FOLDER}{folder}: found {', '.join(f'{top}/' for top in part_of.values())}; expected: both train/ and "
            f"test/, or class folders only (a class of such a name needs train/ and test/ around it)"
        )
    return part_of, faults


def _part(folder: Path) -> str | None:
    """The split that the name of a folder stands for."""
    words = [word for word in re.findall("[a-z]+", folder.name.lower()) if word not in FILLERS]
    for part in PARTS:
        if len(words) == 1 and words[0] in PART_WORDS[part]:
            return part
        if len(words) == 1 and words[0] in DOUBTFUL_WORDS.get(part, ()):
            return None if any(is_image(path.name) for path in folder.iterdir()) else part
    return None


def _prompts(folder: Path) -> tuple[str, ...]:
    file = folder / PROMPTS_FILE
    if os.path.lexists(file):
        return read_templates(file)
    alike = re.compile(r"(prompts?|templates?)(\W.*)?", re.IGNORECASE)
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not is_image(path.name))
    if odd := [name for name in names if alike.fullmatch(name)]:
        raise InputError(f"{folder}: {', '.join(odd)} would not be read; expected: prompt templates in {PROMPTS_FILE}")
    return PROMPTS


def _linked_faults(folder: Path, tree: Tree, depth: int, left_out: dict[str, list[str]]) -> list[str]:
    """Faults for what links place in two classes or splits; other repetitions go to ``left_out``."""
    clashes = []
    for path, earlier in tree.twice:
        if path.split("/")[:depth] == earlier.split("/")[:depth]:
            left_out[TWICE].append(path)
        else:
            clashes.append(f"{path} = {earlier or folder.name}")
    if not clashes:
        return []
    return [
        f"{folder}: links place images in two classes or splits: {shown(clashes)}; expected: each image in one class "
        f"and one split"
    ]


def _classes(top: str, tree: Tree) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Names of the class folders in a split's folder, and the images below each that has any."""
    depth = 1 if top else 0
    inside = [path.split("/") for path in tree.folders if path]
    names = tuple(p[depth] for p in inside if len(p) == depth + 1 and (not top or p[0] == top))
    found = defaultdict[str, list[str]](list)
    for path in tree.images:
        components = path.split("/")
        if len(components) > depth + 1 and (not top or components[0] == top):
            found[components[depth]].append(path)
    return names, {name: tuple(found[name]) for name in names if found[name]}


def _class_folder_faults(
    folder: Path,
    top: str,
    names: Sequence[str],
    found: Mapping[str, Sequence[str]],
    left_out: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Faults of the class folders of one split: images in sub-folders alone, none, or unlabeled ones."""
    inside = folder / top
    prefixes = {name: f"{top}/{name}" if top else name for name in names}
    empty = [name for name in names if name not in found]
    nested = [name for name, paths in found.items() if all(path.rpartition("/")[0] != prefixes[name] for path in paths)]
    unlabeled = [name for name in names if _reads_unlabeled(name)]
    if nested:
        yield (
            f"{inside}: no image directly in the class folders {shown([f'{n}/' for n in nested])}, only in their "
            f"sub-folders; expected: images in every class folder, and splits as train/ and test/ in {folder}"
        )
    if empty:
        there = [
            f"{inside / name}{_other_content(prefixes[name], left_out)}" for name in empty if name not in unlabeled
        ]
        if there:
            yield f"no image in {shown(there)}; expected: at least one per class ({' '.join(EXTENSIONS)})"
    if unlabeled:
        yield (
            f"{inside}: folders {', '.join(f'{name}/' for name in unlabeled)} beside the classes; expected: labeled "
            f"images only (labels of the pool are hidden until they are queried), or another name for such a class"
        )


def _too_few(folder: Path, top: str, names: Sequence[str], tree: Tree) -> Iterator[str]:
    if len(names) < 2:
        direct = sum(path.rpartition("/")[0] == top for path in tree.images)
        stray = f", and {direct:,} images directly in the folder" if direct else ""
        listed = ", ".join(map(repr, names)) or "none"
        yield f"{FOLDER}{folder / top}: {len(names)} class ({listed}){stray}; expected: at least 2, one folder each"


def _other_content(prefix: str, left_out: Mapping[str, Sequence[str]]) -> str:
    """What a folder without images has instead, in parentheses."""
    counts = {kind: sum(path.startswith(f"{prefix}/") for path in paths) for kind, paths in left_out.items()}
    content = ", ".join(f"{n:,} x {kind}" for kind, n in counts.items() if n)
    return f" ({content})" if content else ""


def _reads_unlabeled(name: str) -> bool:
    letters = "".join(re.findall("[a-z]+", name.lower()))
    return letters in UNLABELED_WORDS or letters.startswith(UNLABELED_STEMS)


def _other_classes(folder: Path, part_of: Mapping[str, str], classes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for part in classes if "train" in classes else ():
        odd = sorted({*classes[part]} ^ {*classes["train"]})
        if odd:
            alike = class_name_faults("", odd)
            names = shown([*map(ascii, odd)] if alike else odd)
            expected = "the same classes, in the same spelling" if alike else "the same classes"
            yield f"{folder / part_of[part]}: classes differ from those of train: {names}; expected: {expected}"


def _parts(
    names: Sequence[str], found: Mapping[str, Mapping[str, Sequence[str]]], *, is_split: bool
) -> dict[str, Part]:
    listed = {
        part: Part(
            tuple(path for name in names for path in images[name]),
            np.repeat(np.arange(len(names), dtype=np.int64), [len(images[name]) for name in names]),
        )
        for part, images in found.items()
    }
    if is_split:
        return {part: listed.get(part, Part((), np.zeros(0, dtype=np.int64))) for part in PARTS}
    whole = listed["train"]
    rows = split_rows(whole.labels, FRACTIONS, "folder")
    return {
        part: Part(tuple(whole.paths[row] for row in of_part), whole.labels[of_part])
        for part, of_part in zip(PARTS, rows, strict=True)
    }
