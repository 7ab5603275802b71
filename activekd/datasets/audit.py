"""Audit of a data set on disk: layout, lists, counts, and whether every image can be decoded."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from activekd.datasets.arrays import arrays_file, arrays_path
from activekd.datasets.catalog import CATALOG
from activekd.datasets.coop import PARTS, Listing, read_listing, required
from activekd.datasets.folder import folder_path, read_folder
from activekd.datasets.image_files import image_tree, left_out_line
from activekd.datasets.names import repeated
from activekd.datasets.repeats import equal_files_line
from activekd.errors import InputError
from activekd.images.cache import undecodable
from activekd.images.survey import Survey


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        name: a key of CATALOG, ``folder:PATH`` or ``arrays:FILE.npz``.
        folder: the folder of the data set, or its file.
        present: whether it exists.
        counts: (what, found, expected) for classes and for the images of each split; any number is expected of None.
        layout: missing files and directories, and faults of the lists, one message each.
        missing: listed images that are absent from disk.
        undecodable: images that cannot be decoded, with the reason.
        repeated: images that the lists name more than once.
        unlisted: images on disk that no list names, which is allowed.
        notes: lines on what else is on disk, and on test images that equal a train image where images are decoded.
    """

    name: str
    folder: Path
    present: bool
    counts: tuple[tuple[str, int, int | None], ...] = ()
    layout: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    undecodable: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Every fault, one line each."""
        return (
            *self.layout,
            *(
                f"{what}: found {found:,}; expected: {wanted:,}"
                for what, found, wanted in self.counts
                if wanted not in {None, found}
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
        unread = () if lacking else fault.faults
        return Audit(name, folder, present=True, layout=(*lacking, *unread))
    paths = [path for part in PARTS for path in listing.parts[part].paths]
    listed = set(paths)
    tree = image_tree(listing.images) if listing.images.is_dir() else None
    statuses = Survey().statuses(f"{listing.images}/{path}" for path in paths)
    absent = {path for path, status in zip(paths, statuses, strict=True) if isinstance(status, str)}
    there = [listing.images / path for path in dict.fromkeys(paths) if path not in absent]
    broken = _undecodable(there, progress) if decode else ()
    return Audit(
        name,
        folder,
        present=True,
        counts=_counts(name, listing),
        layout=(*lacking, *(tree.faults if tree else ())),
        missing=tuple(path for path in paths if path in absent) if tree else (),
        undecodable=broken,
        repeated=repeated(paths),
        unlisted=tuple(path for path in tree.images if path not in listed) if tree else (),
        notes=_notes(left_out_line(tree.left_out) if tree else "", listing, decode),
    )


def _notes(left_out: str, listing: Listing, decode: bool) -> tuple[str, ...]:
    equal = equal_files_line(listing.images, listing.parts) if decode else ""
    return tuple(line for line in (left_out, equal) if line)


def _undecodable(files: Sequence[Path], progress: Callable[[int, int], object]) -> tuple[str, ...]:
    return undecodable(files, threads=os.cpu_count() or 1, progress=lambda done: progress(done, len(files)))


def audit_folder(
    name: str, *, decode: bool = True, progress: Callable[[int, int], object] = lambda done, total: None
) -> Audit:
    """Check the layout of ``folder:PATH`` and try its images.

    Args:
        name: ``folder:PATH``.
        decode: whether to decode every image.
        progress: called with the number of images decoded so far and the total.

    Raises:
        InputError: there is no such folder.
    """
    folder = folder_path(name)
    try:
        found = read_folder(name)
    except InputError as fault:
        return Audit(name, folder, present=True, layout=fault.faults)
    listing = found.listing
    files = [folder / path for part in PARTS for path in listing.parts[part].paths]
    return Audit(
        name,
        folder,
        present=True,
        counts=(
            ("classes", len(listing.class_names), None),
            *((f"{part} images", len(listing.parts[part].paths), None) for part in PARTS),
        ),
        undecodable=_undecodable(files, progress) if decode else (),
        notes=_notes(found.left_out, listing, decode),
    )


def audit_arrays(name: str) -> Audit:
    """Check ``arrays:FILE.npz``.

    Args:
        name: ``arrays:FILE.npz``.

    Raises:
        InputError: there is no such file.
    """
    file = arrays_path(name)
    try:
        source = arrays_file(name)
    except InputError as fault:
        return Audit(name, file, present=True, layout=fault.faults)
    counts = (
        ("classes", len(source.class_names), None),
        ("train rows", len(source.train), None),
        ("test rows", len(source.test), None),
    )
    return Audit(name, file, present=True, counts=counts)


def _counts(name: str, listing: Listing) -> tuple[tuple[str, int, int], ...]:
    entry = CATALOG[name]
    return (
        ("classes", len(listing.class_names), entry.n_classes),
        *((f"{part} images", len(listing.parts[part].paths), entry.n_images[part]) for part in PARTS),
    )
