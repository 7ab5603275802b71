"""Data sets by name: class names, prompts and splits. ``reveal`` is the oracle: runs read train labels through it."""

from collections.abc import Callable
from pathlib import Path

from activekd.datasets.arrays import arrays_file, arrays_path
from activekd.datasets.benchmark import benchmark_source
from activekd.datasets.catalog import CATALOG
from activekd.datasets.choices import banked_name, choices_of, conditions_of, drawn_for
from activekd.datasets.conditioned import conditioned
from activekd.datasets.dataset import Conditioned, Dataset, Labeled, buy, reveal
from activekd.datasets.embedded import digits, mnist5k
from activekd.datasets.folder import folder_path, image_folder
from activekd.datasets.split import Source, Split, class_faults
from activekd.errors import Faults, InputError, unknown
from activekd.folders import data_folder
from activekd.given import ARRAYS, FOLDER, split_name
from activekd.images.decoding import SHORT_SIDE
from activekd.images.survey import Survey

__all__ = [
    "DATASETS",
    "Conditioned",
    "Dataset",
    "Labeled",
    "Split",
    "banked_name",
    "buy",
    "check_dataset_name",
    "conditioned",
    "drawn_for",
    "load_dataset",
    "reveal",
]


def no_progress(done: int, total: int) -> None:
    """Ignore the progress of decoding."""


def check_dataset_name(name: str) -> None:
    """Check, without reading a file, that ``load_dataset`` takes a name and that its folder exists.

    Raises:
        InputError: the name or a choice in it is unknown, the folder is missing, or ``$ACTIVEKD_DATA`` is not set;
            all faults at once.
    """
    base, _ = split_name(name)
    faults = Faults()
    if base.startswith(FOLDER):
        faults.resolve([base], folder_path)
    elif base.startswith(ARRAYS):
        faults.resolve([base], arrays_path)
    elif base in CATALOG:
        choices_of(name)
        data_folder()
    elif base not in DATASETS:
        raise unknown("dataset", name, [*DATASETS, *CATALOG, f"{FOLDER}PATH", f"{ARRAYS}FILE.npz"])
    faults.resolve([name], conditions_of, shown=lambda _: "")
    faults.refuse()


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
            ``arrays:FILE.npz``; each with or without conditions (``activekd.datasets.conditions``).
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
    if (base := banked_name(name)) != name:
        return conditioned(load_dataset(base, cache, progress, short_side=short_side, survey=survey), name)
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
