"""From names to objects and from a Round to a row: what a trial needs, checked and loaded, and run."""

import importlib.metadata
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from activekd import bank
from activekd.bank import Encoder, Shard, Views
from activekd.datasets import Dataset, load_dataset
from activekd.errors import InputError
from activekd.features import feature_files, read_features
from activekd.loop import Protocol, Round, StudentInputs, TeacherInputs, run_rounds
from activekd.selectors import selector
from activekd.students import student_network
from activekd.teachers import (
    ADAPTATIONS,
    NO_TEACHER,
    TextHead,
    given_text_head,
    has_given_features,
    load_encoder,
    network_fingerprint,
    split_teacher,
)
from bench.spec import Trial
from bench.store import PICKED, Row

TEACHER = "teacher:"
"""Prefix of the encoders that are a teacher's image tower."""

WIDEST = 2048
"""Upper bound on the width of a feature, for estimates of the bank's size."""

LIBRARIES = ("torch", "timm", "open_clip_torch", "ray", "numpy")


@dataclass(frozen=True)
class Needs:
    """The banked arrays of a trial: names of shards, view by view.

    Attributes:
        student_train: one shard a view.
        student_test: view 0.
        teacher_train: one shard a view; empty without a teacher.
        teacher_test: view 0; None without a teacher.
        teacher_network: name of the network whose text head is needed; None without a teacher.
    """

    student_train: tuple[Shard, ...]
    student_test: Shard
    teacher_train: tuple[Shard, ...]
    teacher_test: Shard | None
    teacher_network: str | None

    @property
    def shards(self) -> tuple[Shard, ...]:
        tests = (self.student_test,) if self.teacher_test is None else (self.student_test, self.teacher_test)
        return (*self.student_train, *self.teacher_train, *tests)


Banked = Mapping[str, np.ndarray]
"""Banked arrays by the key of their shard."""

Heads = Mapping[tuple[str, str], TextHead]
"""Text heads by (teacher network, data set)."""


def check(trials: Sequence[Trial], cache: Path) -> dict[str, Dataset]:
    """Resolve every name of the trials and load their data sets, images included.

    Raises:
        InputError: a cache that cannot be written; or every fault at once: unknown names, missing checkpoints, faults
            of data sets, query sizes that do not fit the pool.
    """
    bank.check_cache(cache)
    faults: list[str] = []

    def attempt(action: Callable[[], object]) -> None:
        try:
            action()
        except InputError as fault:
            faults.append(str(fault))

    for name in _distinct(t.selector for t in trials):
        attempt(lambda name=name: selector(name))
    for name in _distinct(t.student for t in trials):
        attempt(lambda name=name: student_network(name))
    for name in _distinct(t.teacher for t in trials):
        if name != NO_TEACHER:
            attempt(lambda name=name: split_teacher(name))
    datasets: dict[str, Dataset] = {}
    for name in _distinct(t.dataset for t in trials):
        attempt(lambda name=name: datasets.update({name: load_dataset(name, cache)}))
    for name, data in _distinct((t.teacher, t.dataset) for t in trials):
        if has_given_features(name) and data in datasets:
            attempt(lambda name=name, data=data: _check_given_features(split_teacher(name)[0], datasets[data]))
    for name, rounds, shots, size in _distinct((t.dataset, t.rounds, t.shots, t.query_size) for t in trials):
        if name in datasets:
            attempt(lambda d=datasets[name], r=rounds, s=shots, q=size: _check_budget(d, r, s, q))
    if faults:
        raise InputError("; ".join(faults))
    return datasets


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _check_given_features(network: str, dataset: Dataset) -> None:
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        features = read_features(feature_files(network), split, part)
        given_text_head(network, dataset.class_names, features.shape[1])


def query_size(trial: Trial, dataset: Dataset) -> int:
    """Labels bought after each round: the spec's number, or one for each class."""
    return dataset.n_classes if trial.query_size == "classes" else trial.query_size


def _check_budget(dataset: Dataset, rounds: int, shots: int, size: int | str) -> None:
    counts = np.bincount(dataset.train.labels, minlength=dataset.n_classes)
    if counts.min() < shots:
        label = int(counts.argmin())
        raise InputError(
            f"{dataset.name}: class '{dataset.class_names[label]}' has {counts[label]} train images; "
            f"allowed: at least {shots} (shots)"
        )
    per_query = dataset.n_classes if size == "classes" else int(size)
    left = len(dataset.train) - shots * dataset.n_classes
    if (rounds - 1) * per_query > left:
        raise InputError(
            f"{dataset.name}: {rounds - 1} queries of size {per_query} from a pool of {left} unlabeled images; "
            f"allowed: rounds and query_size with (rounds - 1) x query_size <= {left}"
        )


def needs(trial: Trial, dataset: Dataset) -> Needs:
    """Which banked arrays a trial reads."""
    student = student_network(trial.student)
    common = {"dataset": dataset.name, "geometry": trial.views}

    def shard(split: str, view: int, encoder: str, weights: str) -> Shard:
        images = (dataset.train if split == "train" else dataset.test).pixels.fingerprint
        return Shard(split=split, view=view, images=images, encoder=encoder, weights=weights, **common)

    views = range(trial.views.count)
    student_train = tuple(shard("train", v, student.encoder_name, student.fingerprint) for v in views)
    student_test = shard("test", 0, student.encoder_name, student.fingerprint)
    if trial.teacher == NO_TEACHER:
        return Needs(student_train, student_test, (), None, None)
    name, _ = split_teacher(trial.teacher)
    weights = network_fingerprint(name)
    taught = range(1) if has_given_features(name) else views
    teacher_train = tuple(shard("train", v, f"{TEACHER}{name}", weights) for v in taught)
    return Needs(student_train, student_test, teacher_train, shard("test", 0, f"{TEACHER}{name}", weights), name)


def shards_of(trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> dict[Shard, str]:
    """Each shard that some trial needs, with the name of what encodes it: a student or ``teacher:NETWORK``."""
    out: dict[Shard, str] = {}
    for trial in {(t.dataset, t.student, t.teacher, t.views): t for t in trials}.values():
        wanted = needs(trial, datasets[trial.dataset])
        for shard in wanted.shards:
            is_teacher = shard.encoder.startswith(TEACHER)
            out.setdefault(shard, shard.encoder if is_teacher else trial.student)
    return out


def text_heads_of(trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """Each (teacher network, data set) whose text head some trial needs."""
    return _distinct((split_teacher(t.teacher)[0], t.dataset) for t in trials if t.teacher != NO_TEACHER)


def shard_bytes(shard: Shard, encoder: str, datasets: Mapping[str, Dataset]) -> int:
    """Bytes of a shard that is not made yet; features are taken to be 2,048 wide, an upper bound."""
    dataset = datasets[shard.dataset]
    rows = len(dataset.train if shard.split == "train" else dataset.test)
    if shard.encoder.startswith(TEACHER):
        return rows * 2 * WIDEST
    student = student_network(encoder)
    return rows * (2 * WIDEST if student.frozen else 3 * student.size**2)


@lru_cache(maxsize=2)
def _encoder(name: str) -> Encoder:
    return load_encoder(name.removeprefix(TEACHER)) if name.startswith(TEACHER) else student_network(name).encoder()


def make_shard(shard: Shard, encoder: str, cache: Path) -> np.ndarray:
    """A shard from the disk cache, or computed and put there."""
    torch.set_num_threads(1)
    found = bank.read(shard, cache)
    if found is not None:
        return found
    dataset = load_dataset(shard.dataset, cache)
    split = dataset.train if shard.split == "train" else dataset.test
    teacher = encoder.removeprefix(TEACHER)
    if encoder.startswith(TEACHER) and has_given_features(teacher):
        return read_features(feature_files(teacher), split, shard.split)
    array = bank.compute(split.pixels, _encoder(encoder), shard.geometry, shard.view)
    bank.write(shard, array, cache)
    return array


def make_text_head(network: str, dataset: str, cache: Path) -> TextHead:
    """The text head of a teacher network for a data set; seconds, so it is not kept on disk."""
    loaded = load_dataset(dataset, cache)
    if has_given_features(network):
        dim = read_features(feature_files(network), loaded.test, "test").shape[1]
        return given_text_head(network, loaded.class_names, dim)
    encoder = load_encoder(network)
    return encoder.text_head(loaded.class_names, loaded.prompts)


def run_trial(
    trial: Trial, dataset: Dataset, wanted: Needs, banked: Banked, heads: Heads, done: Sequence[Row]
) -> Iterator[Row]:
    """Run the rounds of a trial that are not done, one row each.

    The same function serves Ray and ``--serial``; one torch thread in both, so that their numbers agree to the bit.

    Args:
        dataset: labels; images are not read.
        banked: at least the arrays that ``wanted`` names.
        done: the trial's rows so far, from round 0 on.
    """
    torch.set_num_threads(1)
    student = StudentInputs(
        student_network(trial.student), _views(wanted.student_train, banked), banked[wanted.student_test.key]
    )
    teacher = None
    if wanted.teacher_network is not None and wanted.teacher_test is not None:
        teacher = TeacherInputs(
            ADAPTATIONS[split_teacher(trial.teacher)[1]],
            heads[wanted.teacher_network, trial.dataset],
            _views(wanted.teacher_train, banked),
            banked[wanted.teacher_test.key],
        )
    size = query_size(trial, dataset)
    protocol = Protocol(trial.rounds, trial.shots, size, trial.distillation, trial.seed)
    rounds = run_rounds(
        dataset,
        student,
        teacher,
        selector(trial.selector),
        trial.recipe,
        trial.views,
        protocol,
        picked=[row[PICKED] for row in done],
    )
    counts = {"n_classes": dataset.n_classes, "query_size": size}
    for measured in rounds:
        yield _row(trial, measured, counts)


def _views(shards: Sequence[Shard], banked: Banked) -> Views:
    return Views(tuple(banked[shard.key] for shard in shards))


def _row(trial: Trial, measured: Round, counts: Mapping[str, int]) -> Row:
    values = asdict(measured)
    index, picked = values.pop("index"), values.pop("picked")
    return {
        **trial.identity,
        "round": index,
        **counts,
        **values,
        **provenance(),
        PICKED: list(picked),
    }


@lru_cache(maxsize=1)
def provenance() -> dict[str, str]:
    """Commit of the code, versions of the libraries that make the numbers, and the device."""
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return {
        "commit": _commit(),
        "versions": f"python {platform.python_version()} {versions}",
        "device": f"cpu {platform.machine()}",
    }


def _commit() -> str:
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return answer.stdout.strip()
