"""The inputs of a run and how to compute them: the shards of its bank, the text head of its teacher, its views."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from activekd.bank.computing import Encoder as ImageEncoder
from activekd.bank.computing import compute
from activekd.bank.gathered import Gathered
from activekd.bank.given import GivenByData, GivenFeatures, read_features
from activekd.bank.shards import Shard, read_array, write_array
from activekd.bank.views import MappedViews, RenderedViews, Views, ViewSource
from activekd.banked import BankedShards, Encoder, banked_shards, encoder_of
from activekd.datasets import Conditioned, Dataset, Split
from activekd.datasets.row_map import RowMap
from activekd.finite import check_rows
from activekd.images.node import node_copy
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.recipes import ViewGeometry
from activekd.rounds import StudentViews, TeacherViews
from activekd.students.encoders import FrozenFeatures
from activekd.students.networks import StudentNetwork
from activekd.teachers import Teacher
from activekd.teachers.encoder import VisionLanguageEncoder, load_encoder
from activekd.teachers.text_heads import TextHead, given_text_head, text_head, text_head_path

TeacherNetwork = VisionLanguageNetwork | GivenFeatures | GivenByData

Banked = Mapping[str, np.ndarray]
"""Banked arrays by the key of their shard."""


def compute_shard(
    shard: Shard, split: Split, encoder: Encoder, cache: Path, device: str = "cpu", threads: int = 1
) -> np.ndarray:
    """A shard from the disk cache, or computed and cached; given features come from their file or the data set.

    Args:
        shard: the shard.
        split: of the shard, with its images.
        encoder: of the shard.
        cache: folder of the caches.
        device: where a network runs.
        threads: of torch.

    Raises:
        InputError: features are not finite, those of a teacher have norm 0, or the weights do not load.
    """
    (array,) = compute_shards([shard], split, encoder, cache, device, threads)
    return array


def compute_shards(
    shards: Sequence[Shard],
    split: Split,
    encoder: Encoder,
    cache: Path,
    device: str = "cpu",
    threads: int = 1,
) -> list[np.ndarray]:
    """Shards of one split, encoder and geometry, as ``compute_shard`` gives each; images are read once for all."""
    torch.set_num_threads(threads)
    if isinstance(encoder, GivenByData):
        return [encoder.features(split) for _ in shards]
    if isinstance(encoder, GivenFeatures):
        return [read_features(encoder, split, shard.split) for shard in shards]
    arrays = {shard.view: read_array(shard.path(cache)) for shard in shards}
    missing = [shard for shard in shards if arrays[shard.view] is None]
    if missing:
        images = node_copy(split.pixels)
        views = [shard.view for shard in missing]
        computed = compute(images, _encoder(encoder, device), missing[0].geometry, views)
        for shard, array in zip(missing, computed, strict=True):
            _check_features(array, shard, nonzero=isinstance(encoder, VisionLanguageNetwork))
            write_array(shard.path(cache), array)
            arrays[shard.view] = array
    return [array for array in arrays.values() if array is not None]


def _check_features(array: np.ndarray, shard: Shard, *, nonzero: bool) -> None:
    check_rows(torch.from_numpy(array), str(shard), "weights whose features are finite in fp16", nonzero=nonzero)


@lru_cache(maxsize=2)
def _encoder(encoder: StudentNetwork | VisionLanguageNetwork, device: str) -> ImageEncoder:
    return FrozenFeatures(encoder, device) if isinstance(encoder, StudentNetwork) else _teacher(encoder, device)


@lru_cache(maxsize=2)
def _teacher(network: VisionLanguageNetwork, device: str) -> VisionLanguageEncoder:
    return load_encoder(network, device)


def cached_text_head(network: TeacherNetwork, dataset: Dataset, cache: Path) -> TextHead | None:
    """A text head that is given or cached; None if a network must run.

    Args:
        dataset: with the names of its test images if features are given; of one with conditions, the base has the head.
    """
    dataset = dataset.banked
    if isinstance(network, GivenByData):
        assert dataset.embeddings is not None
        return text_head(dataset.embeddings.text, dataset.embeddings.logit_scale)
    if isinstance(network, GivenFeatures):
        width = read_features(network, dataset.test, "test").shape[1]
        return given_text_head(network, dataset.class_names, width)
    return TextHead.read(text_head_path(network, dataset.class_names, dataset.prompts, cache))


def compute_text_head(
    network: TeacherNetwork,
    dataset: Dataset,
    cache: Path,
    device: str = "cpu",
    threads: int = 1,
) -> TextHead:
    """The text head of a teacher network for a data set: from the disk cache, or computed and cached.

    Of a data set with conditions it is that of its base, with all classes; ``teacher_views`` has those that are kept.
    """
    torch.set_num_threads(threads)
    dataset = dataset.banked
    cached = cached_text_head(network, dataset, cache)
    if cached is not None:
        return cached
    assert isinstance(network, VisionLanguageNetwork)
    head = _teacher(network, device).text_head(dataset.class_names, dataset.prompts)
    head.write(text_head_path(network, dataset.class_names, dataset.prompts, cache))
    return head


def student_views(
    dataset: Dataset,
    student: StudentNetwork,
    geometry: ViewGeometry,
    shards: BankedShards,
    banked: Banked,
    device: str = "cpu",
) -> StudentViews:
    """A student with its inputs: banked features on a frozen backbone, else pixels that are rendered in each step.

    Args:
        dataset: with images where the student is trained end to end, or its base has them.
        student: the student.
        geometry: of the views.
        shards: of ``banked_shards``.
        banked: at least the arrays of the student's shards.
        device: where they are read.
    """
    of, base = dataset.conditioned, dataset.banked
    train_map, test_map = (None, None) if of is None else (of.train, of.test)
    if student.frozen:
        train = _views(shards.student_train, banked, device, train_map)
        return StudentViews(student, train, _views(shards.student_test, banked, device, test_map))

    def rendered(split: Split, row_map: RowMap | None) -> ViewSource:
        images = node_copy(split.pixels)
        views = RenderedViews(images, geometry, student.size, student.backbone.interpolation, device)
        return views if row_map is None else MappedViews(views, row_map, geometry.count)

    return StudentViews(student, rendered(base.train, train_map), rendered(base.test, test_map))


def teacher_views(
    teacher: Teacher,
    head: TextHead,
    shards: BankedShards,
    banked: Banked,
    device: str = "cpu",
    *,
    conditioned: Conditioned | None = None,
) -> TeacherViews:
    """A teacher with its banked features; it knows the classes of its data set alone.

    Args:
        teacher: the teacher.
        head: its text head; with conditions, that of the base.
        shards: of ``banked_shards``.
        banked: at least the arrays of the teacher's shards.
        device: where they are read.
        conditioned: of the data set; None without conditions.
    """
    test: np.ndarray | Gathered | None = banked[shards.teacher_test[0].key] if shards.teacher_test else None
    row_map = None
    if conditioned is not None:
        head, row_map = head.of_classes(conditioned.classes), conditioned.train
        if test is not None and conditioned.test is not None:
            test = Gathered((test,), conditioned.test)
    return TeacherViews(teacher.name, teacher.adapt, head, _views(shards.teacher_train, banked, device, row_map), test)


def computed_inputs(
    dataset: Dataset,
    student: StudentNetwork,
    teacher: Teacher | None,
    geometry: ViewGeometry,
    cache: Path,
    device: str = "cpu",
) -> tuple[StudentViews, TeacherViews | None]:
    """A student and a teacher with everything that they read of a data set, from the disk cache or computed.

    Args:
        dataset: with images or features.
        student: the student.
        teacher: None for no distillation.
        geometry: of the views.
        cache: folder of the caches.
        device: where networks run.

    Raises:
        InputError: features are not finite, those of a teacher have norm 0, or weights do not load.
    """
    threads, shards = torch.get_num_threads(), banked_shards(dataset, student, teacher, geometry)
    banked: dict[str, np.ndarray] = {}
    base = dataset.banked
    for split, some in (
        (base.train, shards.student_train),
        (base.test, shards.student_test),
        (base.train, shards.teacher_train),
        (base.test, shards.teacher_test),
    ):
        if some:
            arrays = compute_shards(some, split, encoder_of(some[0], student, teacher), cache, device, threads)
            banked |= {shard.key: array for shard, array in zip(some, arrays, strict=True)}
    taught = None
    if teacher is not None:
        head = compute_text_head(teacher.network, dataset, cache, device, threads)
        taught = teacher_views(teacher, head, shards, banked, device, conditioned=dataset.conditioned)
    return student_views(dataset, student, geometry, shards, banked, device), taught


def _views(shards: Sequence[Shard], banked: Banked, device: str, row_map: RowMap | None) -> Views:
    keys = [shard.key for shard in shards]
    return Views(tuple(banked[key] for key in keys), device, " ".join(keys), row_map=row_map)
