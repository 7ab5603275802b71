"""The benchmark's data sets as sources: their listings, the choices in a name, and the decoded images."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from activekd.archives import read_archive
from activekd.datasets.catalog import CATALOG
from activekd.datasets.choices import Choices, choices_of
from activekd.datasets.coop import NO_PART, Listing, Part, read_listing
from activekd.datasets.decoded import decode_parts
from activekd.datasets.image_files import shown
from activekd.datasets.names import repeated
from activekd.datasets.split import Source, Split, class_faults
from activekd.errors import InputError
from activekd.folders import data_folder
from activekd.images.decoding import SHORT_SIDE
from activekd.images.survey import Survey
from activekd.streams import stream

TEMPLATES = Path(__file__).parent / "clip_templates.json"
"""CLIP's prompt templates by data set."""


def benchmark_listing(name: str, survey: Survey) -> Listing:
    """The splits of a data set of CATALOG below ``$ACTIVEKD_DATA``, with the choices in its name, undecoded.

    ``pool=val`` takes the validation split as the pool, for copies without the train images; ``test=val`` or
    ``test=train``, where the other split is the pool, measures accuracy there, to choose recipes without the test
    split, and a note says so; ``size=N`` or ``size=all`` replaces the catalogue's pool size; ``draw=N`` is the number
    of the random draw of the pool, 0 by default; ``classes=FILE.npz`` keeps the classes that the array ``class_idx`` of
    a file lists, in its order, to match the text head in the same file.

    Args:
        name: a key of CATALOG, with or without choices (``choices_of``).
        survey: what is known of the files, of all draws of a pool.

    Returns:
        The listing, with the pool as ``train``, the images that measure accuracy as ``test``, and those that are held
        out as ``val``.

    Raises:
        InputError: a choice is invalid, or files are missing or differ from the published lists; each is named.
    """
    choices = choices_of(name)
    root = data_folder()
    listing = survey.once((choices.base, root), lambda: read_listing(choices.base, root, survey))
    faults = [*survey.once((choices.base, root, "faults"), lambda: _list_faults(choices.base, listing))]
    if choices.classes is not None:
        listing = restricted(listing, kept_classes(root / choices.classes, len(listing.class_names)))
    pool, test = drawn(listing.parts[choices.pool], choices), listing.parts[choices.test]
    held_out = NO_PART if choices.held_out is None else listing.parts[choices.held_out]
    faults += _missing_faults(name, listing, (*pool.paths, *test.paths), survey)
    faults += class_faults(name, listing.class_names, {"train": pool.labels, "test": test.labels})
    if faults:
        raise InputError(*faults)
    return replace(listing, parts={"train": pool, "val": held_out, "test": test})


def benchmark_source(
    name: str, cache: Path, progress: Callable[[int, int], object], survey: Survey, *, short_side: int = SHORT_SIDE
) -> Source:
    """A data set of CATALOG as ``benchmark_listing`` lists it, every image of its pool and test split decoded once.

    ``prompts=clip`` in its name replaces the paper's single prompt by CLIP's ensemble of templates. A split that is
    neither the pool nor tests is never decoded.

    Args:
        name: a key of CATALOG, with or without choices.
        cache: folder of the cache of decoded images.
        progress: called with the number of images decoded so far and the total.
        survey: what is known of the files, of all draws of a pool.
        short_side: shorter side in pixels that larger images are scaled down to.

    Raises:
        InputError: as ``benchmark_listing``, or images cannot be decoded.
    """
    choices, listing = choices_of(name), benchmark_listing(name, survey)
    read = {part: listing.parts[part] for part in ("train", "test")}
    splits = decode_parts(listing.images, read, cache, progress, survey, short_side=short_side)
    return Source(
        listing.class_names,
        clip_ensemble(choices.base) if choices.prompts == "clip" else CATALOG[choices.base].prompts,
        splits["train"],
        Split(None, listing.parts["val"].labels),
        splits["test"],
        notes=tuple(_notes(choices, listing)),
    )


def _notes(choices: Choices, listing: Listing) -> Iterator[str]:
    if choices.test != "test":
        yield f"accuracy is measured on the {choices.test} split, to choose by; the test split is not read"
    if twice := repeated(listing.class_names):
        yield f"class names that stand twice: {', '.join(twice)}"


def clip_ensemble(base: str) -> tuple[str, ...]:
    """CLIP's prompt templates for a data set of CATALOG (Radford et al. 2021)."""
    return tuple(json.loads(TEMPLATES.read_text(encoding="utf-8"))["templates"][base])


def kept_classes(file: Path, n_classes: int) -> Int64[np.ndarray, " kept"]:
    """The labels that the array ``class_idx`` of an .npz file lists, in its order.

    Args:
        file: the .npz file.
        n_classes: number of classes of the data set.

    Raises:
        InputError: the file or the array is missing, or its labels repeat or lie outside 0 to ``n_classes`` - 1.
    """
    stored = read_archive(file, lambda key: key == "class_idx").get("class_idx")
    if stored is None or stored.dtype.kind not in "iu":
        found = "no array class_idx" if stored is None else f"class_idx is {stored.dtype}"
        raise InputError(f"classes={file}: {found}; expected: an .npz file with the labels to keep as class_idx")
    kept = stored.astype(np.int64)
    if (
        kept.ndim != 1
        or len(np.unique(kept)) != len(kept)
        or not len(kept)
        or kept.min() < 0
        or kept.max() >= n_classes
    ):
        raise InputError(f"classes={file}: class_idx {kept}; expected: distinct labels from 0 to {n_classes - 1}")
    return kept


def restricted(listing: Listing, kept: Int64[np.ndarray, " kept"]) -> Listing:
    """A listing with the classes of ``kept`` alone, renumbered in that order."""
    label_of = np.full(len(listing.class_names), -1)
    label_of[kept] = np.arange(len(kept))
    parts = {}
    for key, part in listing.parts.items():
        rows = np.flatnonzero(label_of[part.labels] >= 0)
        parts[key] = Part(tuple(part.paths[row] for row in rows), label_of[part.labels[rows]])
    return Listing(tuple(listing.class_names[label] for label in kept), listing.images, parts)


def drawn(pool: Part, choices: Choices) -> Part:
    """The pool of the chosen size, drawn uniformly from a split; a pure function of the data set and the draw's number.

    Args:
        pool: the split to draw from.
        choices: the data set's name, parsed.

    Raises:
        InputError: the chosen size is larger than the split.
    """
    n = choices.n_pool(len(pool.paths))
    if n == len(pool.paths):
        return pool
    rng = stream(int(choices.draw or 0), "pool", choices.base)
    rows = np.sort(rng.choice(len(pool.paths), size=n, replace=False))
    return Part(tuple(pool.paths[row] for row in rows), pool.labels[rows])


def _list_faults(base: str, listing: Listing) -> list[str]:
    entry = CATALOG[base]
    parts = entry.n_images
    odd = (
        [] if len(listing.class_names) == entry.n_classes else [(len(listing.class_names), "classes", entry.n_classes)]
    )
    odd += [(len(p.paths), f"{k} images", parts[k]) for k, p in listing.parts.items() if len(p.paths) != parts[k]]
    differences = [f"{n} {what} where {wanted} are published" for n, what, wanted in odd]
    if twice := repeated(path for part in listing.parts.values() for path in part.paths):
        differences.append(f"{len(twice)} images more than once, such as {shown(twice)}")
    if not differences:
        return []
    return [
        f"{base}: its lists name {', '.join(differences)}; expected: the published lists "
        f"(`activekd data fetch {base}` names their origin)"
    ]


def _missing_faults(name: str, listing: Listing, paths: tuple[str, ...], survey: Survey) -> list[str]:
    statuses = survey.statuses(f"{listing.images}/{path}" for path in paths)
    missing = [path for path, status in zip(paths, statuses, strict=True) if isinstance(status, str)]
    if not missing:
        return []
    return [
        f"{name}: {len(missing)} of {len(paths)} images are not in {listing.images}, such as {shown(missing)}; "
        f"expected: every listed image "
        f"(`activekd data check {name.partition('?')[0]}` lists the missing ones)"
    ]
