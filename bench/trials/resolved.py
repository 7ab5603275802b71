"""Trials with their names resolved to objects: banked arrays, sources and estimated work."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from activekd.bank.given import GivenByData
from activekd.bank.shards import Shard
from activekd.banked import TEACHER, BankedShards, Encoder, banked_shards, encoder_of, pairing_faults
from activekd.datasets import Dataset, Split, banked_name
from activekd.images.decoding import SHORT_SIDE
from activekd.networks.vision_language import WIDEST, VisionLanguageNetwork
from activekd.recipes import NO_TEACHER
from activekd.selectors import Selector, own_code
from activekd.starts.checks import start_faults
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import Teacher
from bench.spec import Trial
from bench.store.folder import Sources


@dataclass(frozen=True)
class ResolvedTrial:
    """A trial and the objects behind its names.

    Attributes:
        trial: names and numbers.
        dataset: labels, and images where the student is trained end to end.
        student: the network to train.
        teacher: None for no distillation.
        selector: the query strategy.
        banked: the banked arrays that it reads; none before ``with_shards``.
    """

    trial: Trial
    dataset: Dataset
    student: StudentNetwork
    teacher: Teacher | None
    selector: Selector
    banked: BankedShards = field(default_factory=BankedShards)

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
        shards = self.banked
        return (*shards.student_train, *shards.teacher_train, *shards.student_test, *shards.teacher_test)

    @property
    def head_key(self) -> tuple[str, str] | None:
        """(teacher network, data set) of its text head, which draws and conditions share; None without a teacher."""
        return None if self.teacher is None else (self.teacher.network.name, banked_name(self.trial.dataset))

    def split(self, name: str) -> Split:
        """The ``train`` or the ``test`` split of its data set, as it is banked: without conditions."""
        return self.dataset.banked.train if name == "train" else self.dataset.banked.test

    def encoder_of(self, shard: Shard) -> Encoder:
        """The encoder of one of its shards: its teacher's network or its student."""
        return encoder_of(shard, self.student, self.teacher)

    def work(self, first_round: int = 0) -> float:
        """Work of the rounds from ``first_round`` on, in images of optimiser steps x pixels; used to order trials.

        A student with a frozen backbone counts one pixel per image.
        """
        trial, n_pool = self.trial, len(self.dataset.train)
        steps = 0
        for index in range(first_round, trial.rounds):
            labeled = trial.initial.n_labels(self.dataset.n_classes) + index * self.query_size
            steps += trial.recipe.n_steps(labeled, max(0, n_pool - labeled))
        images = trial.recipe.batch_labeled
        if trial.distillation in {"unlabeled", "both"}:
            images += trial.recipe.batch_unlabeled
        return float(steps * images * (1 if self.student.frozen else self.student.size**2))


def misfits(
    trials: Sequence[Trial], students: Mapping[str, StudentNetwork], teachers: Mapping[str, Teacher]
) -> list[str]:
    """Why students, teachers or views do not fit the data sets of their trials, by their names alone.

    Args:
        trials: of a spec.
        students: those whose names are known, by name.
        teachers: likewise.
    """
    alike = {(t.dataset, t.student, t.teacher, t.views) for t in trials if t.student in students}
    found = (pairing_faults(data, students[s], teachers.get(t), views) for data, s, t, views in alike)
    return sorted({fault for faults in found for fault in faults})


def start_misfits(
    trials: Sequence[Trial], students: Mapping[str, StudentNetwork], teachers: Mapping[str, Teacher]
) -> list[str]:
    """Why trials cannot begin as they ask to, by their names alone; arguments as of ``misfits``."""
    alike = {
        (t.initial, t.student, t.teacher)
        for t in trials
        if t.student in students and (t.teacher == NO_TEACHER or t.teacher in teachers)
    }
    return sorted({fault for start, s, t in alike for fault in start_faults(start, students[s], teachers.get(t))})


def array_name(shard: Shard) -> str:
    """A shard as the progress of the bank names it."""
    network = shard.encoder.removeprefix(TEACHER)
    who = f"teacher {network}" if network != shard.encoder else f"student {network}"
    return f"{who} on {shard.dataset}, {shard.split}, view {shard.view}"


def with_shards(trials: Sequence[ResolvedTrial]) -> list[ResolvedTrial]:
    """The same trials with the shards that each reads; the weights of their networks must be on this machine."""
    alike: dict[tuple[object, ...], BankedShards] = {}
    out = []
    for trial in trials:
        key = (trial.source, trial.trial.student, trial.trial.teacher, trial.trial.views)
        if key not in alike:
            alike[key] = banked_shards(trial.dataset, trial.student, trial.teacher, trial.trial.views)
        out.append(replace(trial, banked=alike[key]))
    return out


def banked_bytes(encoder: Encoder, n: int) -> int:
    """Bytes of n banked features.

    An upper bound for a frozen student and for given features, which count as WIDEST wide in fp16.
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
    backbone, and not at all where its initialisation is random. Features that a data set has count as data.

    Args:
        trials: to run.
        with_rows: trials of the spec that have rows.
    """
    students = {t.student.base: t.student for t in trials}
    teachers = {t.teacher.network.name: t.teacher.network for t in trials if t.teacher is not None}
    hashes = {
        **{name: content for name, student in students.items() if (content := student.weights_hash())},
        **{name: network.fingerprint for name, network in teachers.items() if not isinstance(network, GivenByData)},
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
