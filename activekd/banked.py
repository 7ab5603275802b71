"""The banked arrays that a student and a teacher read of a data set, and the encoder of each; what fits together."""

from collections.abc import Iterable
from dataclasses import dataclass

from activekd.bank.given import GivenByData, GivenFeatures
from activekd.bank.shards import Shard
from activekd.datasets import Dataset
from activekd.datasets.arrays import OF_TEACHER
from activekd.given import ARRAYS, GIVEN, is_arrays
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.recipes import Recipe, ViewGeometry, one_view
from activekd.students.networks import ADAPTER, FROZEN, StudentNetwork
from activekd.teachers import Teacher

TEACHER = "teacher:"
"""Prefix of the names of encoders that are a teacher's image tower."""

Encoder = StudentNetwork | VisionLanguageNetwork | GivenFeatures | GivenByData
"""Encoders of the shards of a bank."""


@dataclass(frozen=True)
class BankedShards:
    """The banked arrays that a student and a teacher read.

    Attributes:
        student_train: features of the train split from a frozen backbone, one shard per view; empty for a student that
            is trained end to end.
        student_test: the same for view 0 of the test split.
        teacher_train: the teacher's features of the train split, one shard per view; only view 0 for given features;
            empty without a teacher.
        teacher_test: the same for view 0 of the test split; empty too where the data set does not have them.
    """

    student_train: tuple[Shard, ...] = ()
    student_test: tuple[Shard, ...] = ()
    teacher_train: tuple[Shard, ...] = ()
    teacher_test: tuple[Shard, ...] = ()


def banked_shards(
    dataset: Dataset, student: StudentNetwork, teacher: Teacher | None, geometry: ViewGeometry
) -> BankedShards:
    """The banked arrays of a student and a teacher; the weights of their networks must be on this machine.

    Those of a data set with conditions are those of its base.
    """
    base = dataset.banked

    def shards(split: str, views: Iterable[int], encoder: str, weights: str) -> tuple[Shard, ...]:
        content = (base.train if split == "train" else base.test).content
        return tuple(Shard(base.name, split, view, content, encoder, weights, geometry) for view in views)

    def both(encoder: str, weights: str, views: Iterable[int], tested: bool = True) -> list[tuple[Shard, ...]]:
        return [shards("train", views, encoder, weights), shards("test", [0] if tested else [], encoder, weights)]

    of_student: list[tuple[Shard, ...]] = [(), ()]
    of_teacher: list[tuple[Shard, ...]] = [(), ()]
    if student.frozen:
        of_student = both(student.encoder_name, student.fingerprint, range(geometry.count))
    if teacher is not None:
        network, rows = teacher.network, base.test.features
        views = range(geometry.count) if isinstance(network, VisionLanguageNetwork) else [0]
        has_test = not isinstance(network, GivenByData) or (rows is not None and rows.teacher is not None)
        of_teacher = both(f"{TEACHER}{network.name}", network.fingerprint, views, has_test)
    return BankedShards(*of_student, *of_teacher)


def encoder_of(shard: Shard, student: StudentNetwork, teacher: Teacher | None) -> Encoder:
    """The encoder of a shard of this student and this teacher."""
    if teacher is not None and shard.encoder.startswith(TEACHER):
        return teacher.network
    return GivenByData("student") if student.given else student


def runs_network(encoder: Encoder) -> bool:
    """Whether computing the shards of an encoder runs a network, which a GPU speeds up."""
    return isinstance(encoder, StudentNetwork | VisionLanguageNetwork)


def pairing_faults(dataset: str, student: StudentNetwork, teacher: Teacher | None, geometry: ViewGeometry) -> list[str]:
    """Why a student, a teacher or views do not fit a data set, which may have features in place of images.

    Args:
        dataset: its name.
        student: the student.
        teacher: None for no distillation.
        geometry: of the views.
    """
    faults, given = [], f"{ADAPTER}{GIVEN} or {FROZEN}{GIVEN}"
    if not is_arrays(dataset):
        if student.given:
            faults.append(
                f"student '{student.name}' on {dataset}, which has images; expected: a backbone, as "
                f"{ADAPTER}efficientnet_lite0, or a data set {ARRAYS}FILE.npz"
            )
        if teacher is not None and isinstance(teacher.network, GivenByData):
            faults.append(
                f"teacher '{teacher.name}' on {dataset}, which has images; expected: a network, as "
                f"clip_vitb16+{teacher.adaptation}, features:FILE.npz, or a data set {ARRAYS}FILE.npz"
            )
        return faults
    if not student.given:
        faults.append(f"student '{student.name}' on {dataset}, which has no images; expected: {given}")
    if teacher is not None and isinstance(teacher.network, VisionLanguageNetwork):
        faults.append(
            f"teacher '{teacher.name}' on {dataset}, which has no images; expected: {GIVEN}+{teacher.adaptation}, "
            f"features:FILE.npz+{teacher.adaptation} or none"
        )
    if geometry.count > 1:
        faults.append(
            f"{geometry.count} views of {dataset}, which has no images to crop; expected: count = 1, as in the "
            f"built-in views 'single'"
        )
    return faults


def objective_faults(
    student: StudentNetwork, teacher: Teacher | None, geometry: ViewGeometry, recipe: Recipe
) -> list[str]:
    """Why the objective of a recipe does not fit a student, a teacher or views.

    Args:
        student: the student.
        teacher: None for no distillation; terms on features then have no meaning and are absent.
        geometry: of the views.
        recipe: of the fits.
    """
    faults = []
    if recipe.has_strong_views and student.frozen:
        given = teacher is not None and not isinstance(teacher.network, VisionLanguageNetwork)
        if geometry.count == 1:
            faults.append(f"student '{student.name}': {one_view(recipe, 'one view')}")
        elif teacher is not None and given and recipe.single_view == "inputs":
            found = f"view 0 alone, as the teacher '{teacher.name}' has no other and single_view is 'inputs'"
            faults.append(f"student '{student.name}': {one_view(recipe, found)}, or single_view = 'targets'")
    if recipe.has_feature_terms and teacher is not None and student.frozen and not student.trunk:
        faults.append(
            f"student '{student.name}' with weight_feature {recipe.weight_feature:g} and weight_feature_direction "
            f"{recipe.weight_feature_direction:g}: its features are not trained; expected: weights 0, an "
            f"{ADAPTER} student or one that is trained end to end"
        )
    return faults


def teacher_faults(dataset: str, lacking: Iterable[str], teacher: Teacher | None) -> list[str]:
    """Why a data set of arrays does not have what a teacher reads of it.

    Args:
        dataset: its name.
        lacking: arrays of OF_TEACHER that it does not have.
        teacher: None for no distillation.
    """
    names = ", ".join(lacking)
    if not names or teacher is None or not isinstance(teacher.network, GivenByData):
        return []
    return [f"{dataset}: teacher '{teacher.name}', but no {names}; expected: {', '.join(OF_TEACHER)}"]
