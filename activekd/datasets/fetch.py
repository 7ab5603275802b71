"""Where the benchmark's data sets come from: what torchvision downloads, and what a person must fetch and put where."""

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
    """A file that a person must fetch.

    Attributes:
        what: its name.
        origin: address.
        target: where it goes, below the data set's folder; ``.`` for an archive that is unpacked there.
    """

    what: str
    origin: str
    target: str


@dataclass(frozen=True)
class Origin:
    """How a data set is had.

    Attributes:
        torchvision: class of ``torchvision.datasets`` that downloads it and checks its archives; None where none does.
        moves: (path in the download, path below the data set's folder) of what it is rearranged to.
        by_hand: what a person must fetch besides.
    """

    torchvision: str | None
    moves: tuple[tuple[str, str], ...]
    by_hand: tuple[ByHand, ...]


def _split(name: str, drive_id: str) -> ByHand:
    file = str(CATALOG[name].split)
    return ByHand(file, f"{DRIVE}{drive_id}", file)


def download(name: str, root: Path) -> tuple[Path, ...]:
    """Download what torchvision has of a data set and put it into CoOp's layout.

    The archives' checksums are torchvision's (it has none for FGVC-Aircraft). An interrupted download goes on with the
    archives that are whole. Downloads were not tried: no network was at hand; the rearranging was.

    Args:
        name: a key of ORIGINS whose ``torchvision`` is not None.
        root: the folder of all data sets.

    Returns:
        The paths that were put in place.

    Raises:
        InputError: something stands where a path must go, or the download failed.
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
            f"connection to its server, then the same command again"
        ) from fault
    made = arrange(staging, folder, origin)
    shutil.rmtree(staging)
    return made


@contextmanager
def archives_kept_inside() -> Iterator[None]:
    """Refuse, for the length of a block, members of tar archives that would land outside of the target folder.

    torchvision unpacks with ``tarfile``, whose default before Python 3.14 lets them; ``zipfile`` never does.
    """
    before = tarfile.TarFile.extraction_filter
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def arrange(staging: Path, folder: Path, origin: Origin) -> tuple[Path, ...]:
    """Move what torchvision unpacked into a data set's folder in CoOp's layout.

    Raises:
        InputError: something stands where a path must go, or torchvision unpacked other paths.
    """
    _check_free(folder, origin)
    absent = [source for source, _ in origin.moves if not any(staging.glob(source))]
    if absent:
        raise InputError(f"{staging}: no {', '.join(absent)} in what torchvision {origin.torchvision} unpacked")
    made = []
    for source, target in origin.moves:
        for found in sorted(staging.glob(source)):
            goal = folder / (found.name if target == "." else target)
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(found, goal)
            made.append(goal)
    return tuple(made)


def _check_free(folder: Path, origin: Origin) -> None:
    there = [str(folder / target) for _, target in origin.moves if target != "." and (folder / target).exists()]
    if there:
        raise InputError(f"{', '.join(there)} is there already; expected: remove it, or keep it and check it")


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
"""As CoOp's instructions have it (Zhou et al. 2022); split files are CoOp's own."""
