"""What is done once for all trials: decoding of files, and features of every view through teachers and backbones."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from activekd.datasets import banked_name, drawn_for
from activekd.images.decoding import kept_size
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.recipes import ViewGeometry
from activekd.students.networks import StudentNetwork
from bench.plan.names import Names
from bench.plan.work import PHOTO, PHOTOGRAPH, PICTURE, DecodedImages, Task
from bench.spec import Trial

BYTES, BYTES_OF_ARRAYS = 2, 4
"""Bytes of a number of a banked feature, float16, and of a feature that a data set gives its students, float32."""


def row_bytes(student: StudentNetwork, width: int) -> int:
    """Bytes of a banked row of a student's features."""
    return width * (BYTES_OF_ARRAYS if student.given else BYTES)


@dataclass
class Bank:
    """The shared work of a grid, and what it keeps.

    Attributes:
        work: amounts of decoding, encoding and the rendering for it.
        decoded: images from files by (pool or test split, shorter side in pixels).
        n_bytes: of the features.
        images: by data set, the decoded images of a trial that trains end to end.
    """

    work: Counter[Task] = field(default_factory=Counter)
    decoded: dict[tuple[str, int], int] = field(default_factory=dict)
    n_bytes: int = 0
    images: dict[str, DecodedImages] = field(default_factory=dict)

    @property
    def cache_bytes(self) -> int:
        """Bytes of the decoded images on disk."""
        return sum(n * decoded_bytes(side) for (_, side), n in self.decoded.items())


def decoded_bytes(short_side: int) -> int:
    """Bytes of a PHOTO decoded to this shorter side."""
    width, height = kept_size(PHOTO[1], PHOTO[0], short_side)
    return 3 * height * width


def shared_work(trials: Sequence[Trial], names: Names, device: str) -> Bank:
    """What is decoded and encoded once for the trials; nothing is in a cache yet.

    Args:
        trials: of the spec.
        names: what their names stand for.
        device: where networks run; on others than ``cpu`` they render their inputs, which their rates include.
    """
    bank = Bank()
    banked: set[tuple[str, int, str, int, int, ViewGeometry | None]] = set()
    alike = {(drawn_for(t.dataset, t.seed), t.student, t.teacher, t.views): t for t in trials}
    for (pool, *_), trial in alike.items():
        size, student, guide = (
            names.sizes[trial.dataset].banked,
            names.students[trial.student],
            names.teachers.get(trial.teacher),
        )
        side = names.sides[trial.student, trial.teacher] if size.from_files else 0
        images_of = {banked_name(pool): size.n_pool, f"test of {banked_name(trial.dataset)}": size.n_test}
        source = PHOTOGRAPH if size.from_files else PICTURE
        if size.from_files:
            bank.decoded |= {(name, side): n for name, n in images_of.items()}
            if not student.frozen:
                bank.images[trial.dataset] = DecodedImages(size.n_pool, size.n_pool * decoded_bytes(side))
        encoders: list[tuple[str, int, int, int]] = []
        if student.frozen:
            n_bytes = row_bytes(student, names.widths[trial.student])
            encoders.append((student.encoder_name, student.size, n_bytes, trial.views.count))
        if guide is not None:
            network, n_bytes, pixels, n_views = guide.network, BYTES * names.widths[guide.network.name], 0, 1
            if isinstance(network, VisionLanguageNetwork):
                pixels, n_views = network.size, trial.views.count
            encoders.append((network.name, pixels, n_bytes, n_views))
        for encoder, pixels, n_bytes, n_views in encoders:
            for name, view, n in _views(images_of, n_views):
                key = (name, side, encoder, pixels, view, _geometry(trial, view))
                if key in banked:
                    continue
                banked.add(key)
                bank.n_bytes += n * n_bytes
                if pixels:
                    bank.work[Task("encode", encoder, pixels)] += n
                if pixels and device == "cpu":
                    bank.work[Task("render", source, pixels)] += n
    if bank.decoded:
        bank.work[Task("decode", PHOTOGRAPH)] = sum(bank.decoded.values())
    return bank


def _views(images_of: Mapping[str, int], n_views: int) -> Iterator[tuple[str, int, int]]:
    """The banked (images, view, number of images): every view of the pool, which comes first, and view 0 of test."""
    (pool, n_pool), (test, n_test) = images_of.items()
    yield from ((pool, view, n_pool) for view in range(n_views))
    yield test, 0, n_test


def _geometry(trial: Trial, view: int) -> ViewGeometry | None:
    """What a view depends on besides the image: nothing for view 0, which no other view shares."""
    return None if view == 0 else replace(trial.views, count=1)
