"""Trials with their names resolved to objects: banked arrays, sources and estimated work."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from activekd.bank.given import GivenFeatures
from activekd.bank.shards import Shard
from activekd.datasets import Dataset, Split
from activekd.images.decoding import SHORT_SIDE
from activekd.networks.vision_language import WIDEST, VisionLanguageNetwork
from activekd.selectors import Selector, own_code
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import Teacher
from bench.spec import Trial
from bench.store.folder import Sources

TEACHER = "teacher:"
"""Prefix of the names of encoders that are a teacher's image tower."""


@dataclass(frozen=True)
class ResolvedTrial:
    """A trial and the objects behind its names.

    Attributes:
        trial: names and numbers.
        dataset: labels, and images where the student is trained end to end.
        student: the network to train.
        teacher: None for no distillation.
        selector: the query strategy.
        student_train: the features of the train split from the student's frozen backbone, one shard per view; empty
            before ``with_shards``, and for a student that is trained end to end.
        student_test: the same for view 0 of the test split.
        teacher_train: the teacher's features of the train split, one shard per view; only view 0 for given features;
            empty before ``with_shards``, and without a teacher.
        teacher_test: the same for view 0 of the test split.
    """

    trial: Trial
    dataset: Dataset
    student: StudentNetwork
    teacher: Teacher | None
    selector: Selector
    student_train: tuple[Shard, ...] = ()
    student_test: tuple[Shard, ...] = ()
    teacher_train: tuple[Shard, ...] = ()
    teacher_test: tuple[Shard, ...] = ()

    @property
    def id(self) -> str:
        """The trial's id."""
        return self.trial.id

    @property
    def source(self) -> str:
        """Names its images: the data set with its draw, and the shorter side they are decoded to if not SHORT_SIDE."""
        data = self.dataset
        return data.name if data.short_side == SHORT_SIDE else f"{data.name} at {data.short_side} px"

    @property
    def query_size(self) -> int:
        """Labels bought after each round."""
        return self.trial.labels_per_query(self.dataset.n_classes)

    @property
    def shards(self) -> tuple[Shard, ...]:
        """Every banked array that the trial reads."""
        return (*self.student_train, *self.teacher_train, *self.student_test, *self.teacher_test)

    @property
    def head_key(self) -> tuple[str, str] | None:
        """(teacher network, data set) of its text head, which all draws of a pool share; None without a teacher."""
        return None if self.teacher is None else (self.teacher.network.name, self.trial.dataset)

    def split(self, name: str) -> Split:
        """The ``train`` or the ``test`` split of its data set."""
        return self.dataset.train if name == "train" else self.dataset.test

    def encoder_of(self, shard: Shard) -> StudentNetwork | VisionLanguageNetwork | GivenFeatures:
        """The encoder of one of its shards: its teacher's network or its student."""
        if self.teacher is not None and shard.encoder.startswith(TEACHER):
            return self.teacher.network
        return self.student

    def work(self, first_round: int = 0) -> float:
        """Work of the rounds from ``first_round`` on, in images of optimiser steps x pixels; used to order trials.

        A student with a frozen backbone counts one pixel per image.
        """
        trial, n_pool = self.trial, len(self.dataset.train)
        steps = 0
        for index in range(first_round, trial.rounds):
            labeled = self.dataset.n_classes * trial.shots + index * self.query_size
            steps += trial.recipe.n_steps(labeled, max(0, n_pool - labeled))
        images = trial.recipe.batch_labeled
        if trial.distillation in {"unlabeled", "both"}:
            images += trial.recipe.batch_unlabeled
        return float(steps * images * (1 if self.student.frozen else self.student.size**2))


def array_name(shard: Shard) -> str:
    """A shard as the progress of the bank names it."""
    network = shard.encoder.removeprefix(TEACHER)
    who = f"teacher {network}" if network != shard.encoder else f"student {network}"
    return f"{who} on {shard.dataset}, {shard.split}, view {shard.view}"


def with_shards(trials: Sequence[ResolvedTrial]) -> list[ResolvedTrial]:
    """The same trials with the shards that each reads; the weights of their networks must be on this machine."""
    alike: dict[tuple[object, ...], ResolvedTrial] = {}
    out = []
    for trial in trials:
        key = (trial.source, trial.trial.student, trial.trial.teacher, trial.trial.views)
        first = alike.setdefault(key, trial)
        if first is trial:
            first = alike[key] = _with_shards(trial)
        out.append(
            replace(
                trial,
                student_train=first.student_train,
                student_test=first.student_test,
                teacher_train=first.teacher_train,
                teacher_test=first.teacher_test,
            )
        )
    return out


def _with_shards(trial: ResolvedTrial) -> ResolvedTrial:
    student, teacher, n_views = trial.student, trial.teacher, trial.trial.views.count

    def shards(split: str, views: Iterable[int], encoder: str, weights: str) -> tuple[Shard, ...]:
        data, images, geometry = trial.dataset, trial.split(split).pixels.fingerprint, trial.trial.views
        return tuple(Shard(data.name, split, view, images, encoder, weights, geometry) for view in views)

    if student.frozen:
        encoder = student.encoder_name, student.fingerprint
        trial = replace(
            trial, student_train=shards("train", range(n_views), *encoder), student_test=shards("test", [0], *encoder)
        )
    if teacher is None:
        return trial
    encoder = f"{TEACHER}{teacher.network.name}", teacher.network.fingerprint
    views = [0] if isinstance(teacher.network, GivenFeatures) else range(n_views)
    return replace(trial, teacher_train=shards("train", views, *encoder), teacher_test=shards("test", [0], *encoder))


def banked_bytes(encoder: StudentNetwork | VisionLanguageNetwork | GivenFeatures, n: int) -> int:
    """Bytes of n banked features.

    An upper bound for a frozen student and for features from a file, which count as WIDEST wide.
    """
    return n * 2 * (encoder.feature_width if isinstance(encoder, VisionLanguageNetwork) else WIDEST)


def bank_bytes(shards: Mapping[Shard, ResolvedTrial]) -> int:
    """Bytes of the shards of a bank before it is computed, as ``banked_bytes`` counts them."""
    return sum(banked_bytes(trial.encoder_of(s), len(trial.split(s.split))) for s, trial in shards.items())


def shards_of(trials: Sequence[ResolvedTrial]) -> Mapping[Shard, ResolvedTrial]:
    """Each shard that a trial reads, one of each key, with the first such trial."""
    out: dict[str, tuple[Shard, ResolvedTrial]] = {}
    for trial in {(t.source, t.trial.student, t.trial.teacher, t.trial.views): t for t in trials}.values():
        for shard in trial.shards:
            out.setdefault(shard.key, (shard, trial))
    return dict(out.values())


def computed_together(shards: Iterable[Shard]) -> list[list[Shard]]:
    """The shards in groups of one split, encoder and geometry, for which images are read once."""
    groups: dict[tuple[object, ...], list[Shard]] = {}
    for shard in shards:
        groups.setdefault(read_together(shard), []).append(shard)
    return list(groups.values())


def read_together(shard: Shard) -> tuple[object, ...]:
    """What shards share for which images are read once: split, encoder and geometry."""
    return shard.images, shard.split, shard.encoder, shard.weights, shard.geometry


def text_heads_of(trials: Sequence[ResolvedTrial]) -> Mapping[tuple[str, str], ResolvedTrial]:
    """Each (teacher network, data set) whose text head a trial reads, with one such trial."""
    return {trial.head_key: trial for trial in trials if trial.head_key is not None}


def sources_of(trials: Sequence[ResolvedTrial]) -> Sources:
    """Fingerprints of the data and of the user-defined selectors of these trials."""
    datasets = {t.source: t.dataset for t in trials}
    codes = {name: own_code(name) for name in {t.selector.name for t in trials}}
    return Sources(
        {name: dataset.fingerprint for name, dataset in datasets.items()},
        {name: code for name, code in codes.items() if code is not None},
    )


def sources_with_rows(trials: Sequence[ResolvedTrial], with_rows: Sequence[Trial]) -> Sources:
    """The sources of these trials on which stored rows depend.

    Args:
        trials: to run.
        with_rows: trials of the spec that have rows.
    """
    datasets, selectors = {t.dataset for t in with_rows}, {t.selector for t in with_rows}
    return Sources(
        sources_of([t for t in trials if t.trial.dataset in datasets]).datasets,
        sources_of([t for t in trials if t.trial.selector in selectors]).selectors,
    )


def networks_of(trials: Sequence[ResolvedTrial], with_rows: Sequence[Trial]) -> tuple[Mapping[str, str], Sources]:
    """Hashes of the files behind the networks of these trials, and those of them on which stored rows depend.

    The files must be on this machine, as ``check_networks`` leaves them; each is read once. A student counts by its
    backbone, and not at all where its initialisation is random.

    Args:
        trials: to run.
        with_rows: trials of the spec that have rows.
    """
    students = {t.student.base: t.student for t in trials}
    teachers = {t.teacher.network.name: t.teacher.network for t in trials if t.teacher is not None}
    hashes = {
        **{name: content for name, student in students.items() if (content := student.weights_hash())},
        **{name: network.fingerprint for name, network in teachers.items()},
    }
    used = {student_network(t.student).base for t in with_rows} | {t.teacher.rpartition("+")[0] for t in with_rows}
    return hashes, Sources({}, {}, {name: hashes[name] for name in hashes if name in used})


def planned(trials: Sequence[Trial], resolved: Sequence[ResolvedTrial]) -> list[dict[str, object]]:
    """The trials of a spec as entries of a plan: identity, counts of the data set, rounds.

    The counts are None for trials whose data set is not among the resolved ones.
    """
    n_classes = {t.trial.dataset: t.dataset.n_classes for t in resolved}
    return [
        {
            **trial.identity,
            "n_classes": n_classes.get(trial.dataset),
            "query_size": trial.labels_per_query(n_classes[trial.dataset]) if trial.dataset in n_classes else None,
            "rounds": trial.rounds,
        }
        for trial in trials
    ]
