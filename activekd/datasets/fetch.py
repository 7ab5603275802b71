"""Origins of the benchmark's data sets: downloads by torchvision, and files that a person fetches by hand."""

import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from activekd.datasets.catalog import CATALOG
from activekd.errors import InputError

DRIVE = "https://drive.google.com/file/d/"
STAGING = ".fetch-"


@dataclass(frozen=True)
class ByHand:
    """A file to fetch by hand.

    Attributes:
        what: name of the file.
        origin: its URL.
        target: destination, relative to the data set's folder; ``.`` for an archive unpacked there.
    """

    what: str
    origin: str
    target: str


@dataclass(frozen=True)
class Origin:
    """How to obtain a data set.

    Attributes:
        torchvision: class of ``torchvision.datasets`` that downloads it and checks its archives; None without one.
        moves: (path in the download, path below the data set's folder) pairs that give CoOp's layout.
        by_hand: further files, to fetch by hand.
    """

    torchvision: str | None
    moves: tuple[tuple[str, str], ...]
    by_hand: tuple[ByHand, ...]


def _split(name: str, drive_id: str) -> ByHand:
    file = str(CATALOG[name].split)
    return ByHand(file, f"{DRIVE}{drive_id}", file)


def download(name: str, root: Path) -> tuple[Path, ...]:
    """Download a data set with torchvision and rearrange it into CoOp's layout.

    torchvision verifies the archives by checksum (FGVC-Aircraft has none). An interrupted download resumes with the
    complete archives. Only the rearrangement is tested; the downloads are untested for lack of a network.

    Args:
        name: a key of ORIGINS whose ``torchvision`` is not None.
        root: the folder of all data sets.

    Returns:
        The new paths in the data set's folder.

    Raises:
        InputError: a target path exists already, or the download failed.
    """
    from torchvision import datasets

    origin = ORIGINS[name]
    folder = root / CATALOG[name].folder
    _check_free(folder, origin)
    assert origin.torchvision is not None
    staging = root / f"{STAGING}{name}"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        with archives_kept_inside():
            getattr(datasets, origin.torchvision)(str(staging), download=True)
    except (OSError, URLError, RuntimeError, tarfile.TarError) as fault:
        raise InputError(
            f"{name}: torchvision.datasets.{origin.torchvision} could not be downloaded: {fault}; expected: a "
            f"connection to its server, then the same command"
        ) from fault
    moved = arrange(staging, folder, origin)
    shutil.rmtree(staging)
    return moved


@contextmanager
def archives_kept_inside() -> Iterator[None]:
    """Refuse, inside the block, members of tar archives that would unpack outside the target folder.

    torchvision unpacks with ``tarfile``, whose default before Python 3.14 accepts them; ``zipfile`` is safe.
    """
    before = tarfile.TarFile.extraction_filter
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def arrange(staging: Path, folder: Path, origin: Origin) -> tuple[Path, ...]:
    """Move the paths that torchvision unpacked into a data set's folder, in CoOp's layout.

    Args:
        staging: folder that torchvision unpacked into.
        folder: the data set's folder.
        origin: whose ``moves`` to follow.

    Returns:
        The new paths.

    Raises:
        InputError: a target path exists already, or torchvision unpacked other paths.
    """
    _check_free(folder, origin)
    absent = [source for source, _ in origin.moves if not any(staging.glob(source))]
    if absent:
        raise InputError(
            f"{staging}: no {', '.join(absent)} in what torchvision {origin.torchvision} unpacked; "
            f"expected: a version of torchvision that unpacks these paths"
        )
    moved = []
    for source, target in origin.moves:
        for unpacked in sorted(staging.glob(source)):
            goal = folder / (unpacked.name if target == "." else target)
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(unpacked, goal)
            moved.append(goal)
    return tuple(moved)


def _check_free(folder: Path, origin: Origin) -> None:
    there = [str(folder / target) for _, target in origin.moves if target != "." and (folder / target).exists()]
    if there:
        raise InputError(
            f"{', '.join(there)} exists already; expected: remove it, or keep it and run `activekd data check`"
        )


ORIGINS: dict[str, Origin] = {
    "caltech101": Origin(
        "Caltech101",
        (("caltech101/101_ObjectCategories", "101_ObjectCategories"),),
        (_split("caltech101", "1hyarUivQE36mY6jSomru6Fjd-JzwcCzN"),),
    ),
    "oxford_pets": Origin(
        "OxfordIIITPet",
        (("oxford-iiit-pet/images", "images"), ("oxford-iiit-pet/annotations", "annotations")),
        (_split("oxford_pets", "1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs"),),
    ),
    "stanford_cars": Origin(
        None,
        (),
        (
            ByHand("cars_train.tgz", "http://ai.stanford.edu/~jkrause/car196/cars_train.tgz", "cars_train"),
            ByHand("cars_test.tgz", "http://ai.stanford.edu/~jkrause/car196/cars_test.tgz", "cars_test"),
            _split("stanford_cars", "1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT"),
        ),
    ),
    "oxford_flowers": Origin(
        "Flowers102",
        (("flowers-102/jpg", "jpg"), ("flowers-102/imagelabels.mat", "imagelabels.mat")),
        (_split("oxford_flowers", "1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT"),),
    ),
    "food101": Origin(
        "Food101",
        (("food-101/images", "images"), ("food-101/meta", "meta")),
        (_split("food101", "1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl"),),
    ),
    "fgvc_aircraft": Origin(
        "FGVCAircraft",
        (("fgvc-aircraft-2013b/data/images", "images"), ("fgvc-aircraft-2013b/data/*.txt", ".")),
        (),
    ),
    "sun397": Origin(
        None,
        (),
        (
            ByHand("SUN397.tar.gz", "http://vision.princeton.edu/projects/2010/SUN/SUN397.tar.gz", "SUN397"),
            _split("sun397", "1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq"),
        ),
    ),
    "dtd": Origin(
        "DTD",
        (("dtd/dtd/images", "images"), ("dtd/dtd/labels", "labels"), ("dtd/dtd/imdb", "imdb")),
        (_split("dtd", "1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x"),),
    ),
    "eurosat": Origin(
        "EuroSAT",
        (("eurosat/2750", "2750"),),
        (_split("eurosat", "1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"),),
    ),
    "ucf101": Origin(
        None,
        (),
        (
            ByHand("UCF-101-midframes.zip", f"{DRIVE}10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O", "UCF-101-midframes"),
            _split("ucf101", "1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y"),
        ),
    ),
    "imagenet": Origin(
        None,
        (),
        (
            ByHand("ILSVRC2012_img_train.tar", "https://image-net.org/download.php", "images/train/WORDNET_ID"),
            ByHand(
                "ILSVRC2012_img_val.tar, its images sorted into the folders of their classes",
                "https://image-net.org/download.php",
                "images/val/WORDNET_ID",
            ),
            ByHand("classnames.txt", f"{DRIVE}1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF", "classnames.txt"),
        ),
    ),
}
"""Origins as in CoOp's instructions (Zhou et al. 2022); the split files are CoOp's."""
