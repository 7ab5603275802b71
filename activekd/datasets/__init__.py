"""Data sets by name: class names, prompts and splits. ``reveal`` is the oracle: runs read train labels through it."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from activekd.datasets.arrays import arrays_file, arrays_path
from activekd.datasets.benchmark import benchmark_source
from activekd.datasets.catalog import CATALOG
from activekd.datasets.choices import choices_of, drawn_for
from activekd.datasets.embedded import digits, mnist5k
from activekd.datasets.folder import folder_path, image_folder
from activekd.datasets.repeats import repeat_lines
from activekd.datasets.split import Embeddings, Source, Split, class_faults
from activekd.errors import InputError, unknown
from activekd.folders import data_folder
from activekd.given import ARRAYS, FOLDER
from activekd.images.decoding import SHORT_SIDE
from activekd.images.survey import Survey
from activekd.pool import UNLABELED, Pool

__all__ = [
    "DATASETS",
    "Dataset",
    "Labeled",
    "Split",
    "check_dataset_name",
    "drawn_for",
    "load_dataset",
    "reveal",
]


@dataclass(frozen=True)
class Dataset:
    """A data set under the protocol: ``train`` is the only pool; nothing is selected on ``val`` or ``test``.

    Attributes:
        name: its name, as ``load_dataset`` takes it.
        class_names: one name per class, in label order.
        prompts: templates with one ``{}`` for the class name.
        train: the pool.
        val: held out, unused by the protocol.
        test: the split on which accuracy is measured.
        short_side: shorter side in pixels that images read from files are scaled down to, where they are larger.
        source_notes: notes from reading the source, one line each; ``notes`` has them all.
        embeddings: text embeddings of the classes; None where a network computes them from the prompts.
        lacking: arrays that a teacher ``given`` needs and that a data set of arrays does not have.
    """

    name: str
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    short_side: int = SHORT_SIDE
    source_notes: tuple[str, ...] = ()
    embeddings: Embeddings | None = None
    lacking: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, source: Source, *, short_side: int = SHORT_SIDE) -> "Dataset":
        """The data set of a source."""
        content = {field.name: getattr(source, field.name) for field in fields(source) if field.name != "notes"}
        return cls(name, **content, short_side=short_side, source_notes=source.notes)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything in the data set: names, prompts, pixels or features, and labels."""
        digest = sha256(repr((self.class_names, self.prompts)).encode())
        for split in (self.train, self.val, self.test):
            digest.update(split.fingerprint.encode())
        if self.embeddings is not None:
            digest.update(self.embeddings.fingerprint.encode())
        return digest.hexdigest()

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the data, one line each: what is left out, and equal pictures.

        Pictures are compared where decoded images are cached (``find_repeats``).
        """
        return (*self.source_notes, *repeat_lines(self.train, self.test))

    def without_images(self) -> "Dataset":
        """The same data set with labels alone, which is all that a trial reads once views are banked."""
        return replace(
            self,
            train=self.train.without_images(),
            val=self.val.without_images(),
            test=self.test.without_images(),
        )


@dataclass(frozen=True)
class Labeled:
    """Rows and the labels that the oracle has revealed, in order of purchase."""

    rows: Int64[np.ndarray, " labeled"]
    labels: Int64[np.ndarray, " labeled"]

    def spread(self, n: int) -> Int64[np.ndarray, " n"]:
        """One label per train row; ``UNLABELED`` on unlabeled rows. ``n`` is the number of train rows."""
        out = np.full(n, UNLABELED, dtype=np.int64)
        out[self.rows] = self.labels
        return out


def reveal(dataset: Dataset, pool: Pool) -> Labeled:
    """The oracle: the labels of the pool's labeled rows, in order of purchase."""
    rows = np.asarray(pool.labeled, dtype=np.int64)
    return Labeled(rows, dataset.train.labels[rows])


def no_progress(done: int, total: int) -> None:
    """Ignore the progress of decoding."""


def check_dataset_name(name: str) -> None:
    """Check, without reading a file, that ``load_dataset`` takes a name and that its folder exists.

    Raises:
        InputError: the name or a choice in it is unknown, the folder is missing, or ``$ACTIVEKD_DATA`` is not set.
    """
    if name.startswith(FOLDER):
        folder_path(name)
    elif name.startswith(ARRAYS):
        arrays_path(name)
    elif name.partition("?")[0] in CATALOG:
        choices_of(name)
        data_folder()
    elif name not in DATASETS:
        raise unknown("dataset", name, [*DATASETS, *CATALOG, f"{FOLDER}PATH", f"{ARRAYS}FILE.npz"])


def load_dataset(
    name: str,
    cache: Path,
    progress: Callable[[int, int], object] = no_progress,
    *,
    short_side: int = SHORT_SIDE,
    survey: Survey | None = None,
) -> Dataset:
    """The data set of that name: embedded, from the benchmark, an image folder, or a file of arrays.

    Args:
        name: a key of DATASETS, a key of CATALOG with or without choices (``choices_of``), ``folder:PATH`` or
            ``arrays:FILE.npz``.
        cache: folder of the cache of decoded images.
        progress: called with the number of images decoded so far and the total.
        short_side: shorter side in pixels that larger images are scaled down to: ``decoded_side`` of the largest
            network that reads them.
        survey: what is known of the files, shared by data sets that are loaded together; None for a new one.

    Raises:
        InputError: the name is unknown, files are missing or faulty, there are fewer than two classes, or a class has
            no train or no test image.
    """
    check_dataset_name(name)
    if name.startswith(FOLDER):
        source = image_folder(name, cache, progress, survey or Survey(), short_side=short_side)
    elif name.startswith(ARRAYS):
        source = arrays_file(name)
    elif name in DATASETS:
        source = DATASETS[name]()
    else:
        source = benchmark_source(name, cache, progress, survey or Survey(), short_side=short_side)
    labels = {"train": source.train.labels, "test": source.test.labels}
    if faults := class_faults(name, source.class_names, labels):
        raise InputError(*faults)
    return Dataset.of(name, source, short_side=short_side)


DATASETS: dict[str, Callable[[], Source]] = {
    "digits": digits,
    "mnist5k": mnist5k,
}
"""The data sets in installed packages."""
