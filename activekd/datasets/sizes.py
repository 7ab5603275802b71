"""Numbers of classes and images, known for the benchmark's data sets before their files are on this machine."""

from dataclasses import dataclass, replace
from pathlib import Path

from activekd.datasets import load_dataset
from activekd.datasets.benchmark import kept_classes, restricted
from activekd.datasets.catalog import CATALOG
from activekd.datasets.choices import banked_name, choices_of, conditions_of
from activekd.datasets.conditions import Conditions, part
from activekd.datasets.coop import read_listing
from activekd.errors import InputError
from activekd.folders import data_folder
from activekd.given import FOLDER


@dataclass(frozen=True)
class Sizes:
    """Numbers of classes and images.

    Attributes:
        n_classes: number of classes.
        n_pool: images of the pool.
        n_val: images that are held out.
        n_test: images on which accuracy is measured.
        from_files: whether the images are decoded from files into the image cache.
        notes: the notes on a data set that was loaded to know its sizes.
        widths: of a data set of arrays, numbers a feature of the student and of the teacher, 0 where it has none.
        lacking: arrays that a teacher ``given`` needs and that a data set of arrays does not have.
        base: of a data set with conditions, the sizes without them, which are those of its bank.
    """

    n_classes: int
    n_pool: int
    n_val: int
    n_test: int
    from_files: bool
    notes: tuple[str, ...] = ()
    widths: tuple[int, int] = (0, 0)
    lacking: tuple[str, ...] = ()
    base: "Sizes | None" = None

    @property
    def banked(self) -> "Sizes":
        """The sizes of what is decoded and banked."""
        return self.base or self


EMBEDDED = {"digits": Sizes(10, 1078, 360, 359, False), "mnist5k": Sizes(10, 3000, 1000, 1000, False)}
"""Sizes of the data sets in installed packages, stated here because importing these takes longer than a plan."""


def dataset_sizes(name: str, cache: Path) -> Sizes:
    """The sizes of a data set by name, as ``load_dataset`` takes it.

    Conditions change them as if all classes had equally many images, which is approximate.

    A data set of the catalogue has its published sizes and may be absent from this machine, unless its name restricts
    it to the classes of a file. Embedded data sets have the sizes in EMBEDDED. Other data sets are loaded.

    Args:
        name: the data set's name, with or without choices.
        cache: folder of the cache of decoded images.

    Raises:
        InputError: the name or a choice is unknown, files are missing or faulty, or a condition leaves fewer than two
            classes.
    """
    if (conditions := conditions_of(name)) is not None:
        try:
            return _under(conditions, dataset_sizes(banked_name(name), cache))
        except InputError as fault:
            raise InputError(*(f"{name}: {message}" for message in fault.faults)) from fault
    if name in EMBEDDED:
        return EMBEDDED[name]
    if name.startswith(FOLDER) or name.partition("?")[0] not in CATALOG:
        loaded = load_dataset(name, cache)
        counts = len(loaded.train), len(loaded.val), len(loaded.test)
        widths = 0, 0
        if (rows := loaded.train.features) is not None:
            widths = rows.student.shape[1], 0 if rows.teacher is None else rows.teacher.shape[1]
        return Sizes(loaded.n_classes, *counts, name.startswith(FOLDER), loaded.notes, widths, loaded.lacking)
    choices = choices_of(name)
    entry = CATALOG[choices.base]
    counts = entry.n_images
    n_classes = entry.n_classes
    if choices.classes is not None:
        root = data_folder()
        listing = read_listing(choices.base, root)
        listing = restricted(listing, kept_classes(root / choices.classes, len(listing.class_names)))
        counts = {part: len(listing.parts[part].paths) for part in counts}
        n_classes = len(listing.class_names)
    n_val = 0 if choices.held_out is None else counts[choices.held_out]
    return Sizes(n_classes, choices.n_pool(counts[choices.pool]), n_val, counts[choices.test], True)


def _under(conditions: Conditions, base: Sizes) -> Sizes:
    """The sizes of a data set under conditions, if its classes have equally many images."""
    n_classes = base.n_classes - conditions.n_left_out(base.n_classes)
    kept = n_classes / base.n_classes
    of_none = round(base.n_pool * (1 - kept))
    tail = sum(conditions.tail(base.n_pool, n_classes)) / n_classes / base.n_pool if conditions.imbalance > 1 else 1.0
    n_pool = of_none + round((base.n_pool - of_none) * tail)
    return replace(
        base,
        n_classes=n_classes,
        n_pool=n_pool + part(conditions.duplicates, n_pool),
        n_val=round(base.n_val * kept),
        n_test=round(base.n_test * kept),
        notes=(*base.notes, "the numbers of images are those of classes of one size, before conditions"),
        base=base,
    )
