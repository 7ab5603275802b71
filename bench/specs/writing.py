"""A new spec: a commented file in the short form, from what an image folder shows without decoding its images."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from activekd.datasets.coop import PARTS
from activekd.datasets.folder import FolderListing, read_folder
from activekd.datasets.image_files import readable, shown
from activekd.datasets.sizes import EMBEDDED, Sizes
from activekd.defaults import DIGITS, PHOTOS, VIEWS, default_recipe, default_views
from activekd.errors import Faults, InputError, reason
from activekd.given import FOLDER
from activekd.images.decoding import DECODER_FAULTS, FORMATS
from activekd.networks.vision_language import NETWORKS
from activekd.recipes import NO_TEACHER, ViewGeometry
from bench.specs.file import Block

BACKBONE, BACKBONE_SIZE = "efficientnet_lite0", 224
"""The suggested student, whose weights are in an installed package, and the input that it was trained with."""

SMALLER = (48, 64, 96, 128, 160)
"""Smaller inputs in pixels that suit smaller images."""

ADAPTER_STUDENT = f"adapter:{BACKBONE}"
CLIPS = ("clip_vitb16", "clip_rn50")
"""Teacher networks to suggest, the better one first."""

SELECTORS = ("random", "badge", "pcoreset")
SEEDS, MOST_ROUNDS = 3, 8
HEADERS = 200
"""Images whose size is read."""

OTHERS = (
    "start",
    "shots",
    "initial_labels",
    "query_size",
    "distillation",
    "recipe",
    "transfer",
    "group",
    "compared_as",
    "references",
)
"""Keys with a default, as comments in this order."""

WIDTH = 110
"""Columns of a comment."""


@dataclass(frozen=True)
class _Subject:
    """What the spec is about.

    Attributes:
        dataset: its name in the spec.
        found: lines on what was found, for the head of the file.
        sizes: of the data set.
        pixels: the median shorter side of its images; None where no header can be read.
        mirrored: class names that suggest that a mirror image has another meaning.
        teachers: networks to suggest as zero-shot teachers.
    """

    dataset: str
    found: tuple[str, ...]
    sizes: Sizes
    pixels: int | None
    mirrored: tuple[str, ...]
    teachers: tuple[str, ...]


def write_spec(path: Path, data: str | None, *, replace: bool) -> tuple[str, ...]:
    """Write a commented spec, with the keys that a run needs and the others as comments.

    Args:
        path: of the file.
        data: an image folder, with or without ``folder:``; None for the embedded digits.
        replace: whether it may replace a file.

    Returns:
        What was found, a line each.

    Raises:
        InputError: the file exists, has another suffix or cannot be written; the folder is none that a spec can name.
            All at once.
    """
    faults = Faults()
    subjects = faults.resolve([data], lambda given: _embedded() if given is None else _of_folder(given))
    for fault in _path_faults(path, replace):
        faults.add(InputError(fault))
    faults.refuse()
    subject = subjects[data]
    try:
        path.write_text("\n".join([*_lines(path, subject), ""]), encoding="utf-8")
    except OSError as fault:
        raise InputError(f"{path}: {reason(fault)}; expected: a file that can be written") from fault
    return subject.found


def _path_faults(path: Path, replace: bool) -> Iterator[str]:
    if path.suffix != ".toml":
        yield f"{path}; expected: a name that ends in .toml"
    elif path.exists() and not replace:
        yield f"{path} exists; expected: another name, or --force to replace it"


def _embedded() -> _Subject:
    sizes = EMBEDDED["digits"]
    found = f"digits: {sizes.n_classes} classes; {_counts(sizes)}; 8 x 8 px"
    return _Subject("digits", (found,), sizes, 8, tuple(map(str, range(10))), ("glyphclip",))


def _of_folder(given: str) -> _Subject:
    name = FOLDER + given.removeprefix(FOLDER)
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InputError(f"{readable(given)}: the name is not UTF-8; expected: UTF-8")
    found = read_folder(name)
    listing = found.listing
    counts = {part: len(listing.parts[part].paths) for part in PARTS}
    sizes = Sizes(len(listing.class_names), counts["train"], counts["val"], counts["test"], from_files=True)
    sides, unreadable = _shorter_sides(found)
    lines = [
        f"{sizes.n_classes:,} classes: {shown(listing.class_names, 8)}",
        f"{_counts(sizes)}; {_per_class(found)}",
        *([found.left_out] if found.left_out else []),
    ]
    if sides:
        of = "all" if len(sides) == sum(counts.values()) else f"{len(sides):,}"
        lines.append(f"shorter side of {of} images: {median(sides):.0f} px (median; {min(sides)} to {max(sides)})")
    if unreadable:
        lines.append(f"images without a readable header: {shown(unreadable)}; `activekd data check {name}` checks all")
    pixels = round(median(sides)) if sides else None
    return _Subject(name, tuple(lines), sizes, pixels, _mirrored(listing.class_names), CLIPS)


def _counts(sizes: Sizes) -> str:
    return f"{sizes.n_pool:,} train images (the pool), {sizes.n_val:,} val, {sizes.n_test:,} test"


def _per_class(found: FolderListing) -> str:
    counts = np.bincount(found.listing.parts["train"].labels, minlength=len(found.listing.class_names))
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,} train images in each class" if low == high else f"{low:,} to {high:,} train images in a class"


def _shorter_sides(found: FolderListing) -> tuple[list[int], list[str]]:
    """The shorter sides of at most HEADERS images, evenly spread, and the paths of those without a readable header."""
    from PIL import Image

    listing = found.listing
    paths = [path for part in PARTS for path in listing.parts[part].paths]
    sides: list[int] = []
    unreadable = []
    for position in np.linspace(0, len(paths) - 1, min(HEADERS, len(paths))).round().astype(int):
        path = paths[position]
        try:
            with Image.open(listing.images / path, formats=FORMATS) as image:
                sides.append(min(image.size))
        except (*DECODER_FAULTS, Image.DecompressionBombError):
            unreadable.append(path)
    return sides, unreadable


def _mirrored(class_names: Sequence[str]) -> tuple[str, ...]:
    """Class names that are a digit or a letter, or that tell left from right."""
    sided = re.compile(r"\b(left|right|(counter|anti)?clockwise)\b", re.IGNORECASE)
    return tuple(name for name in class_names if len(name) == 1 or name.isdecimal() or sided.search(name))


def student_of(pixels: int | None) -> str:
    """The suggested student: with a smaller input than its own where the images are smaller.

    >>> student_of(100)
    'adapter:efficientnet_lite0@128'
    """
    fitting = next((side for side in SMALLER if pixels is not None and side >= pixels), None)
    return f"{ADAPTER_STUDENT}@{fitting}" if fitting else ADAPTER_STUDENT


def rounds_of(sizes: Sizes) -> int:
    """Rounds, of one label per class each, that label half the pool: 2 to MOST_ROUNDS, fewer where the pool ends.

    >>> rounds_of(Sizes(3, 21, 6, 9, True))
    3
    """
    most = sizes.n_pool // sizes.n_classes
    return max(min(2, most), min(MOST_ROUNDS, most // 2), 1)


def _lines(path: Path, subject: _Subject) -> Iterator[str]:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "images"
    rounds = rounds_of(subject.sizes)
    yield from _comment(f"Written by activekd init for {_in_comment(subject.dataset)}. What was found:")
    for line in subject.found:
        yield from _comment(_in_comment(line), "  ")
    file = _in_comment(path.name)
    yield from _comment(f"First `activekd plan {file}` (the cost), then `activekd run {file}`, which also resumes.")
    yield f"name = {_toml(name)}"
    yield ""
    yield from _comment("`activekd list datasets`; the path of a folder is relative to where the command runs.")
    yield f"datasets = {_toml([subject.dataset])}"
    yield ""
    yield from _teachers(subject.teachers)
    yield ""
    yield from _comment(
        "`activekd list students`; adapter: trains a small trunk on a frozen network, frozen: heads alone, and a name "
        f"without either the whole network. @PIXELS is the side of its input; without it, {BACKBONE_SIZE} here."
    )
    yield f"students = {_toml([student_of(subject.pixels)])}"
    yield ""
    yield from _comment('`activekd list selectors`; yours is "MODULE:FUNCTION".')
    yield f"selectors = {_toml(SELECTORS)}"
    yield ""
    yield from _comment(
        f"Each selector runs once a seed: {SEEDS} for a first look, 10 for a paper. Or a list of seeds."
    )
    yield f"seeds = {SEEDS}"
    yield ""
    yield from _comment(
        f"Round 0 has one label per class, and each query adds as many: {rounds * subject.sizes.n_classes:,} labels of "
        f"{subject.sizes.n_pool:,} in the last round."
    )
    yield f"rounds = {rounds}"
    yield ""
    yield from _views(subject)
    yield ""
    yield from _comment("Other keys, with their defaults:")
    yield from _others(subject)


def _teachers(networks: Sequence[str]) -> Iterator[str]:
    """The teachers: none and, where its weights are on this machine, the first network, else as a comment."""
    missing = {}
    for name in networks:
        try:
            NETWORKS[name].weights(online=False)
        except InputError as fault:
            missing[name] = str(fault)
    there = [name for name in networks if name not in missing]
    chosen = (there or networks)[0]
    yield from _comment(
        f'`activekd list teachers`; "{NO_TEACHER}" trains without one, +zeroshot takes the network as it is, +clap '
        f'adapts it to the labels; "features:FILE.npz+zeroshot" reads features that were computed elsewhere.'
    )
    both = f"teachers = {_toml([NO_TEACHER, f'{chosen}+zeroshot'])}"
    if there:
        yield both
        return
    yield from _comment(_in_comment(missing[chosen]))
    yield f"# {both}"
    yield f"teachers = {_toml([NO_TEACHER])}"


def _views(subject: _Subject) -> Iterator[str]:
    """The hint on flips, and the key: a comment, unless class names suggest that mirror images differ."""
    yield from _comment(
        f"Students train on crops. {_described(PHOTOS)}. {_described(DIGITS)}: for images whose mirror image has "
        f"another meaning, as of text, digits, or left and right hands. Default here: {default_views(subject.dataset)}."
    )
    key = f"views = {_toml(DIGITS)}"
    if subject.mirrored and default_views(subject.dataset) != DIGITS:
        yield from _comment(f"Chosen for the class names {_in_comment(shown(subject.mirrored, 4))}:")
        yield key
    else:
        yield f"# {key}"


def _described(name: str) -> str:
    views: ViewGeometry = VIEWS[name]
    low, high = views.scale
    flip = f"mirrored with probability {views.flip:g}" if views.flip else "never mirrored (flip = 0)"
    return f'"{name}": {views.count - 1} crops of {low:.0%} to {high:.0%} of the area, {flip}'


def _others(subject: _Subject) -> Iterator[str]:
    """The other keys with their defaults, as comments: the text of each is that of ``Block``."""
    texts = described_keys()
    defaults = {
        "recipe": default_recipe(ADAPTER_STUDENT),
        "transfer": f"frozen:{BACKBONE}",
        "group": subject.dataset,
        "initial_labels": subject.sizes.n_classes,
        "compared_as": default_recipe(ADAPTER_STUDENT),
    }
    for key in OTHERS:
        value = Block.model_fields[key].default
        yield from _comment(f"{key}: {texts[key]}")
        yield f"# {key} = {_toml(defaults[key] if value is None else value)}"


def described_keys() -> Mapping[str, str]:
    """What each key of a block means, from the docstring of ``Block``."""
    text = inspect.cleandoc(Block.__doc__ or "").partition("Attributes:\n")[2].replace("``", "`")
    return {key: " ".join(what.split()) for key, what in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.M)}


def _comment(text: str, indent: str = "") -> Iterator[str]:
    """A text as comment lines."""
    line = ""
    for word in text.split():
        if line and len(line) + len(word) >= WIDTH:
            yield f"# {indent}{line}"
            line = ""
        line += f" {word}" if line else word
    yield f"# {indent}{line}"


def _in_comment(text: str) -> str:
    """A text that may stand in a comment: control characters as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _toml(value: str | Sequence[str] | int) -> str:
    """A value in TOML, whose strings have the escapes of JSON, and of DEL too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
