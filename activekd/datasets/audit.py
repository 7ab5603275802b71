"""Audit of a benchmark data set on disk: layout, lists, counts, and whether every image can be decoded."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from activekd.datasets.catalog import CATALOG
from activekd.datasets.coop import PARTS, Listing, read_listing, required
from activekd.errors import InputError
from activekd.images.cache import undecodable


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        name: a key of CATALOG.
        folder: the folder of the data set.
        present: whether that folder exists.
        counts: (what, found, expected) for classes and for the images of each split.
        layout: missing files and directories, and faults of the lists, one message each.
        missing: listed images that are absent from disk.
        undecodable: images that cannot be decoded, with the reason.
        repeated: images that the lists name more than once.
        unlisted: images on disk that no list names, which is allowed.
    """

    name: str
    folder: Path
    present: bool
    counts: tuple[tuple[str, int, int], ...] = ()
    layout: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    undecodable: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Every fault, one line each."""
        return (
            *self.layout,
            *(
                f"{what}: found {found:,}; expected: {wanted:,}"
                for what, found, wanted in self.counts
                if found != wanted
            ),
            *(f"missing image: {path}" for path in self.missing),
            *(f"cannot be decoded: {fault}" for fault in self.undecodable),
            *(f"listed more than once: {path}" for path in self.repeated),
        )


def audit(
    name: str,
    root: Path,
    *,
    decode: bool = True,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Audit:
    """Compare a data set of CATALOG on disk with its lists and its published counts.

    Args:
        name: a key of CATALOG.
        root: the folder of all data sets.
        decode: whether to decode every image.
        progress: called with the number of images decoded so far and the total.
    """
    entry = CATALOG[name]
    folder = root / entry.folder
    if not folder.is_dir():
        return Audit(name, folder, present=False, layout=(f"missing directory: {folder}",))
    lacking = [f"missing {kind}: {path}" for kind, path in required(name, root) if not path.exists()]
    try:
        listing = read_listing(name, root)
    except InputError as fault:
        unread = [] if lacking else [str(fault)]
        return Audit(name, folder, present=True, layout=(*lacking, *unread))
    paths = [path for part in PARTS for path in listing.parts[part].paths]
    on_disk = _images_below(listing.images)
    missing = tuple(path for path in paths if path not in on_disk) if listing.images.is_dir() else ()
    there = [listing.images / path for path in dict.fromkeys(paths) if path in on_disk]
    broken: tuple[str, ...] = ()
    if decode:
        broken = undecodable(there, threads=os.cpu_count() or 1, progress=lambda done: progress(done, len(there)))
    return Audit(
        name,
        folder,
        present=True,
        counts=_counts(name, listing),
        layout=tuple(lacking),
        missing=missing,
        undecodable=broken,
        repeated=tuple(path for path, times in Counter(paths).items() if times > 1),
        unlisted=tuple(sorted(on_disk - set(paths))),
    )


def _images_below(folder: Path) -> set[str]:
    images = set()
    for inside, _, files in os.walk(folder, followlinks=True):
        base = os.path.relpath(inside, folder)
        images |= {
            file if base == "." else f"{base}/{file}"
            for file in files
            if file.lower().endswith((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff"))
        }
    return images


def _counts(name: str, listing: Listing) -> tuple[tuple[str, int, int], ...]:
    entry = CATALOG[name]
    wanted = {"train": entry.n_train, "val": entry.n_val, "test": entry.n_test}
    return (
        ("classes", len(listing.class_names), entry.n_classes),
        *((f"{part} images", len(listing.parts[part].paths), wanted[part]) for part in PARTS),
    )
