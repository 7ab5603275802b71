"""The benchmark's data sets as sources: their listings, the choices in a name, and the decoded images."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from activekd.archives import read_archive
from activekd.datasets.catalog import CATALOG
from activekd.datasets.coop import Listing, Part, read_listing
from activekd.datasets.split import SPLIT_SEED, Source, Split
from activekd.errors import InputError, unknown
from activekd.folders import data_folder, keeps_decoded_images
from activekd.images.cache import decode_files
from activekd.streams import stream

_T = TypeVar("_T")

CHOICES = ("pool", "size", "classes", "prompts")
"""Keys of the choices that a name may carry."""
MISSING_SHOWN = 5
TEMPLATES = Path(__file__).parent / "clip_templates.json"
"""CLIP's prompt templates by data set."""


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """A name and its choices: ``caltech101?pool=val&size=500`` is ``("caltech101", {"pool": "val", "size": "500"})``.

    Raises:
        InputError: a choice is unknown or has no value.
    """
    base, _, query = name.partition("?")
    choices = {}
    for pair in query.split("&") if query else []:
        key, equals, value = pair.partition("=")
        if key not in CHOICES:
            raise unknown(f"choice in '{name}'", key, CHOICES)
        if not (equals and value):
            raise InputError(f"'{name}': {key} has no value; expected: NAME?KEY=VALUE&KEY=VALUE")
        choices[key] = value
    return base, choices


def benchmark_source(name: str, cache: Path, progress: Callable[[int, int], object]) -> Source:
    """A data set of CATALOG below ``$ACTIVEKD_DATA``, with the choices in its name.

    ``pool=val`` takes the validation split as the pool, for copies without the train images; ``size=N`` or
    ``size=all`` replaces the catalogue's pool size; ``classes=FILE.npz`` keeps the classes that the array
    ``class_idx`` of a file lists, in its order, to match the text head in the same file; ``prompts=clip`` replaces
    the paper's single prompt by CLIP's ensemble of templates. A held-out validation split is listed and never
    decoded: nothing is selected on it.

    Args:
        name: a key of CATALOG, with or without choices (``split_name``).
        cache: folder of the cache of decoded images.
        progress: called with the number of images decoded so far and the total.

    Raises:
        InputError: a choice is invalid, or files are missing or differ from the published lists; each is named.
    """
    base, choices = split_name(name)
    root = data_folder()
    listing = read_listing(base, root)
    _check_counts(base, listing)
    if "classes" in choices:
        listing = restricted(listing, kept_classes(root / choices["classes"], len(listing.class_names)))
    pool_part = _allowed(name, choices, "pool", {"train": "train", "val": "val"}, "train")
    pool, test = listing.parts[pool_part], listing.parts["test"]
    pool = drawn(name, pool, choices.get("size"), CATALOG[base].pool, base)
    held_out = listing.parts["val"] if pool_part == "train" else Part((), np.empty(0, dtype=np.int64))
    _check_files(name, listing, (*pool.paths, *test.paths))
    prompts = _allowed(name, choices, "prompts", {"paper": CATALOG[base].prompts, "clip": clip_ensemble(base)}, "paper")
    keep = keeps_decoded_images()
    threads, total = os.cpu_count() or 1, len(pool.paths) + len(test.paths)

    def decoded(part: Part, before: int) -> Split:
        files = [listing.images / path for path in part.paths]
        images = decode_files(
            files, cache, threads=threads, keep=keep, progress=lambda done: progress(before + done, total)
        )
        return Split(images, part.labels, part.paths)

    train = decoded(pool, 0)
    return Source(listing.class_names, prompts, train, Split(None, held_out.labels), decoded(test, len(pool.paths)))


def clip_ensemble(base: str) -> tuple[str, ...]:
    """CLIP's prompt templates for a data set of CATALOG (Radford et al. 2021)."""
    return tuple(json.loads(TEMPLATES.read_text(encoding="utf-8"))["templates"][base])


def _allowed(name: str, choices: Mapping[str, str], key: str, values: Mapping[str, _T], default: str) -> _T:
    value = choices.get(key, default)
    if value not in values:
        raise unknown(f"{key} in '{name}'", value, values)
    return values[value]


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


def drawn(name: str, pool: Part, size: str | None, default: int | None, base: str) -> Part:
    """A pool of the chosen size, drawn uniformly by a fixed stream: all trials share its images.

    Args:
        name: the data set's name, for messages.
        pool: the split to draw from.
        size: a number of images, or ``all``; None takes ``default``.
        default: the catalogue's pool size; None for all images.
        base: the key of CATALOG, which names the stream.

    Raises:
        InputError: the size is malformed or larger than the split.
    """
    if size is not None and size != "all" and not (size.isdecimal() and int(size) > 0):
        raise InputError(f"'{name}': size '{size}'; expected: a positive number of images, or all")
    wanted = default if size is None else None if size == "all" else int(size)
    if wanted is None or (size is None and wanted >= len(pool.paths)):
        return pool
    if wanted > len(pool.paths):
        raise InputError(
            f"'{name}': a pool of {wanted} from {len(pool.paths)} images; expected: at most {len(pool.paths)}, or all"
        )
    rows = np.sort(stream(SPLIT_SEED, "pool", base).choice(len(pool.paths), size=wanted, replace=False))
    return Part(tuple(pool.paths[row] for row in rows), pool.labels[rows])


def _check_counts(base: str, listing: Listing) -> None:
    entry = CATALOG[base]
    parts = {"train": entry.n_train, "val": entry.n_val, "test": entry.n_test}
    odd = (
        [] if len(listing.class_names) == entry.n_classes else [(len(listing.class_names), "classes", entry.n_classes)]
    )
    odd += [(len(p.paths), f"{k} images", parts[k]) for k, p in listing.parts.items() if len(p.paths) != parts[k]]
    if odd:
        differences = ", ".join(f"{n} {what} where {wanted} are published" for n, what, wanted in odd)
        raise InputError(
            f"{base}: its lists name {differences}; expected: the published lists "
            f"(`python -m bench.data fetch {base}` names their origin)"
        )


def _check_files(name: str, listing: Listing, paths: tuple[str, ...]) -> None:
    missing = [path for path in paths if not (listing.images / path).is_file()]
    if missing:
        shown = ", ".join(missing[:MISSING_SHOWN])
        raise InputError(
            f"{name}: {len(missing)} of {len(paths)} images are not in {listing.images}, such as {shown}; "
            f"expected: every listed image "
            f"(`python -m bench.data check {name.partition('?')[0]}` lists the missing ones)"
        )
