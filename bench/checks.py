"""Everything that a grid needs, found and checked before its first trial starts; every fault is told at once."""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from activekd.bank.given import feature_files, read_features
from activekd.datasets import Dataset, load_dataset
from activekd.errors import InputError
from activekd.networks.checkpoints import UnreachableError
from activekd.networks.vision_language import checkpoint_file, network_fingerprint
from activekd.selectors import selector
from activekd.students.networks import student_network
from activekd.teachers import NO_TEACHER, split_teacher
from activekd.teachers.encoder import load_encoder
from activekd.teachers.text_heads import given_text_head, has_given_features
from bench.spec import Trial
from bench.trial import distinct

LOADED = "loaded"
LOADERS = ("torch", "timm", "open_clip_torch")
"""Libraries whose versions say whether a network that could be loaded still can."""

DecodingProgress = Callable[[str, int, int], object]
"""Told a data set's name, how many of its images are decoded, and how many there are."""


def check(trials: Sequence[Trial], cache: Path, progress: DecodingProgress) -> dict[str, Dataset]:
    """Resolve every name of the trials and load their data sets, images included.

    Raises:
        InputError: every fault at once: unknown names, missing files, faults of data sets, query sizes that do not fit
            the pool.
    """
    faults: list[str] = []

    def attempt(action: Callable[[], object]) -> None:
        try:
            action()
        except InputError as fault:
            faults.append(str(fault))

    def load(name: str) -> None:
        datasets[name] = load_dataset(name, cache, lambda done, total: progress(name, done, total))

    for name in distinct(t.selector for t in trials):
        attempt(lambda name=name: selector(name))
    for name, teacher in distinct((t.selector, t.teacher) for t in trials):
        if teacher == NO_TEACHER:
            attempt(lambda name=name: _check_without_teacher(name))
    for name in distinct(t.student for t in trials):
        attempt(lambda name=name: student_network(name))
    for name in distinct(t.teacher for t in trials):
        if name != NO_TEACHER:
            attempt(lambda name=name: split_teacher(name))
    datasets: dict[str, Dataset] = {}
    for name in distinct(t.dataset for t in trials):
        attempt(lambda name=name: load(name))
    for name, data in distinct((t.teacher, t.dataset) for t in trials):
        if has_given_features(name) and data in datasets:
            attempt(lambda name=name, data=data: _check_given_features(split_teacher(name)[0], datasets[data]))
    for name, rounds, shots, size in distinct((t.dataset, t.rounds, t.shots, t.query_size) for t in trials):
        if name in datasets:
            attempt(lambda d=datasets[name], r=rounds, s=shots, q=size: _check_budget(d, r, s, q))
    _refuse(faults)
    return datasets


def find_networks(trials: Sequence[Trial]) -> None:
    """Find the weights of every network of the trials, on this machine or on a hub.

    Raises:
        InputError: every fault at once: weights that cannot be had, and what is wrong with those that are there.
    """
    faults: list[str] = []
    found: list[_Network] = []
    online = True
    for network in _networks(trials):
        try:
            network.find(online=online)
            found.append(network)
        except InputError as fault:
            faults.append(f"{network.name}: {fault}")
            online = online and not isinstance(fault, UnreachableError)
    if faults:
        _refuse([*faults, *_unfit(found)])


def load_networks(trials: Sequence[Trial], cache: Path) -> None:
    """Load every network of the trials once; their weights were found before.

    The cache remembers those that could be loaded, by name, weights and versions of the libraries: a grid that goes
    on does not load them again.

    Raises:
        InputError: every fault at once: weights of another architecture, a missing tokenizer.
    """
    unseen = {mark: network for network in _networks(trials) if not (mark := network.mark(cache)).is_file()}
    _refuse(list(_unfit(unseen.values())))
    with suppress(OSError):
        (cache / LOADED).mkdir(parents=True, exist_ok=True)
        for mark in unseen:
            mark.touch()


@dataclass(frozen=True)
class _Network:
    """A network of a trial, how its weights are found and loaded, and the hash of what they are."""

    name: str
    find: Callable[..., object]
    load: Callable[[], object]
    fingerprint: Callable[[], str]

    def mark(self, cache: Path) -> Path:
        """An empty file that is there when this network was loaded before, by the same libraries."""
        content = [self.name, self.fingerprint(), *map(importlib.metadata.version, LOADERS)]
        return cache / LOADED / hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def _networks(trials: Sequence[Trial]) -> list[_Network]:
    students = [student_network(name) for name in distinct(t.student for t in trials)]
    teachers = distinct(split_teacher(t.teacher)[0] for t in trials if t.teacher != NO_TEACHER)
    return [
        *(_Network(s.name, s.weights, s.check, s.weights_hash) for s in students),
        *(
            _Network(n, partial(checkpoint_file, n), partial(load_encoder, n), partial(network_fingerprint, n))
            for n in teachers
            if not has_given_features(n)
        ),
    ]


def _unfit(networks: Iterable[_Network]) -> Iterator[str]:
    for network in networks:
        try:
            network.load()
        except InputError as fault:
            yield f"{network.name}: {fault}"


def _check_without_teacher(name: str) -> None:
    try:
        needs = selector(name).needs
    except InputError:
        return
    if "teacher_probabilities" in needs:
        raise InputError(
            f"selector '{name}' reads the teacher's probabilities; expected: with a teacher, not with 'none'"
        )


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        raise InputError(faults[0] if len(faults) == 1 else "\n  - ".join([f"{len(faults)} faults:", *faults]))


def _check_given_features(network: str, dataset: Dataset) -> None:
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        features = read_features(feature_files(network), split, part)
        given_text_head(network, dataset.class_names, features.shape[1])


def _check_budget(dataset: Dataset, rounds: int, shots: int, size: int | str) -> None:
    counts = np.bincount(dataset.train.labels, minlength=dataset.n_classes)
    if counts.min() < shots:
        label = int(counts.argmin())
        raise InputError(
            f"{dataset.name}: class '{dataset.class_names[label]}' has {counts[label]} train images; "
            f"expected: at least {shots} (shots)"
        )
    per_query = dataset.n_classes if size == "classes" else int(size)
    left = len(dataset.train) - shots * dataset.n_classes
    if (rounds - 1) * per_query > left:
        raise InputError(
            f"{dataset.name}: {rounds - 1} queries of size {per_query} from a pool of {left} unlabeled images; "
            f"expected: rounds and query_size with (rounds - 1) x query_size <= {left}"
        )
