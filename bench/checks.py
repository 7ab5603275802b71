"""The checks of a grid before Ray starts: names, data, budgets and networks.

Names and data come first, without torch; then the networks that unfinished trials need.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from activekd.bank.given import GivenFeatures, read_features, read_head
from activekd.datasets import Dataset, check_dataset_name, initial_rows, load_dataset
from activekd.errors import InputError
from activekd.networks.checkpoints import UnreachableError
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.pool import Pool
from activekd.recipes import NO_TEACHER
from activekd.selectors import Selector, selector
from activekd.streams import stream
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import Teacher, teacher
from bench.spec import Trial
from bench.store.history import History
from bench.store.rows import ROUNDS
from bench.trials.resolved import ResolvedTrial

LOADED = "loaded"
LOADERS = ("torch", "timm", "open_clip_torch")
"""Libraries whose versions decide whether a network still loads."""

DecodingProgress = Callable[[str, int, int], object]
"""Called with a data set's name, its number of decoded images, and its total."""

_T = TypeVar("_T")
_Network = StudentNetwork | VisionLanguageNetwork


class _Faults:
    """Collects faults, so that all are reported at once."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    def resolve(self, names: Iterable[str], registry: Callable[[str], _T]) -> dict[str, _T]:
        """What ``registry`` returns for each distinct name, in order; collect its InputErrors."""
        out = {}
        for name in dict.fromkeys(names):
            try:
                out[name] = registry(name)
            except InputError as fault:
                self._messages.append(str(fault))
        return out

    def add(self, message: str) -> None:
        """Collect one message."""
        self._messages.append(message)

    def refuse(self) -> None:
        """Raise the collected messages, if any, as one InputError."""
        faults = self._messages
        if faults:
            raise InputError(faults[0] if len(faults) == 1 else "\n  - ".join([f"{len(faults)} faults:", *faults]))


def resolve(trials: Sequence[Trial], cache: Path, progress: DecodingProgress) -> list[ResolvedTrial]:
    """Resolve the names of the trials, load their data sets, and check that teachers and budgets fit the data.

    Args:
        cache: folder of the caches.
        progress: called while images are decoded.

    Raises:
        InputError: all unknown names and missing files at once; else all faults of the data sets, of given features and
            of query sizes at once.
    """
    faults = _Faults()
    selectors = faults.resolve((t.selector for t in trials), selector)
    students = faults.resolve((t.student for t in trials), student_network)
    teachers = faults.resolve((t.teacher for t in trials if t.teacher != NO_TEACHER), teacher)
    faults.resolve((t.dataset for t in trials), check_dataset_name)
    untaught = dict.fromkeys(t.selector for t in trials if t.teacher == NO_TEACHER)
    faults.resolve((name for name in untaught if name in selectors), lambda name: _check_untaught(selectors[name]))
    faults.refuse()

    def load(name: str) -> Dataset:
        return load_dataset(name, cache, lambda done, total: progress(name, done, total))

    datasets = faults.resolve((t.dataset for t in trials), load)
    resolved = [
        ResolvedTrial(t, datasets[t.dataset], students[t.student], teachers.get(t.teacher), selectors[t.selector])
        for t in trials
        if t.dataset in datasets
    ]
    alike = {(t.dataset.name, t.trial.teacher, t.trial.rounds, t.trial.shots, t.query_size): t for t in resolved}
    for fault in dict.fromkeys(fault for t in alike.values() for fault in _misfits(t)):
        faults.add(fault)
    faults.refuse()
    return resolved


def _check_untaught(chosen: Selector) -> None:
    if "teacher_probabilities" in chosen.needs:
        raise InputError(
            f"selector '{chosen.name}' reads the teacher's probabilities; expected: a teacher other than '{NO_TEACHER}'"
        )


def _misfits(trial: ResolvedTrial) -> Iterable[str]:
    """Messages for a teacher or a budget that does not fit the trial's data set."""
    dataset = trial.dataset
    if trial.teacher is not None and isinstance(given := trial.teacher.network, GivenFeatures):
        try:
            for part, split in (("train", dataset.train), ("test", dataset.test)):
                features = read_features(given, split, part)
                read_head(given, dataset.class_names, features.shape[1])
        except InputError as fault:
            yield str(fault)
    rounds, shots, query_size = trial.trial.rounds, trial.trial.shots, trial.query_size
    counts = np.bincount(dataset.train.labels, minlength=dataset.n_classes)
    if counts.min() < shots:
        label = int(counts.argmin())
        yield (
            f"{dataset.name}: class '{dataset.class_names[label]}' has {counts[label]} train images; "
            f"expected: at least {shots} (shots)"
        )
        return
    left = len(dataset.train) - shots * dataset.n_classes
    if (rounds - 1) * query_size > left:
        yield (
            f"{dataset.name}: {rounds - 1} queries of size {query_size} from a pool of {left} unlabeled images; "
            f"expected: rounds and query_size with (rounds - 1) x query_size <= {left}"
        )


def check_resumable(trials: Sequence[ResolvedTrial], stored: Mapping[str, History], folder: Path) -> None:
    """Check that the stored picks of each trial are rows of its pool without its initial labels.

    Args:
        trials: resolved.
        stored: rows of the results folder, by trial id.
        folder: the results folder, for messages.

    Raises:
        InputError: every trial that cannot resume from its rows.
    """
    faults = _Faults()
    initial: dict[tuple[str, int, int], tuple[int, ...]] = {}
    for trial in trials:
        if trial.id not in stored:
            continue
        key = trial.dataset.name, trial.trial.shots, trial.trial.seed
        if key not in initial:
            initial[key] = initial_rows(trial.dataset, trial.trial.shots, stream(trial.trial.seed, "initial"))
        try:
            Pool(len(trial.dataset.train), (*initial[key], *stored[trial.id].bought))
        except ValueError as fault:
            faults.add(f"{folder / ROUNDS}, trial {trial.id}: {fault}, initial labels included")
    faults.refuse()


def check_networks(trials: Sequence[ResolvedTrial], cache: Path) -> None:
    """Find the weights of every network of the trials, on this machine or a hub, and load each once.

    The cache remembers the networks that loaded, by name, weights and library versions, so that a grid which resumes
    does not load them again.

    Raises:
        InputError: every fault at once: names unknown to timm or open_clip, weights that cannot be found or have
            another architecture, a missing tokenizer.
    """
    networks = _networks(trials)
    faults = _Faults()
    ready: list[_Network] = []
    online = True
    for network in networks:
        try:
            network.check_name()
            network.weights(online=online)
            ready.append(network)
        except InputError as fault:
            faults.add(f"{network.name}: {fault}")
            online = online and not isinstance(fault, UnreachableError)
    unseen = [(network, mark) for network in ready if not (mark := _mark(network, cache)).is_file()]
    for network, _ in unseen:
        try:
            _load(network)
        except InputError as fault:
            faults.add(f"{network.name}: {fault}")
    faults.refuse()
    with suppress(OSError):
        (cache / LOADED).mkdir(parents=True, exist_ok=True)
        for _, mark in unseen:
            mark.touch()


def _networks(trials: Sequence[ResolvedTrial]) -> list[_Network]:
    students = {t.student.name: t.student for t in trials}
    teachers: dict[str, Teacher] = {t.teacher.network.name: t.teacher for t in trials if t.teacher is not None}
    encoders = (t.network for t in teachers.values())
    return [*students.values(), *(network for network in encoders if isinstance(network, VisionLanguageNetwork))]


def _load(network: _Network) -> None:
    from activekd.students.encoders import check_loads
    from activekd.teachers.encoder import load_encoder

    if isinstance(network, StudentNetwork):
        check_loads(network)
    else:
        load_encoder(network)


def _mark(network: _Network, cache: Path) -> Path:
    """Path of an empty file that exists once these library versions have loaded this network."""
    weights = network.weights_hash() if isinstance(network, StudentNetwork) else network.fingerprint
    content = [network.name, weights, *map(importlib.metadata.version, LOADERS)]
    return cache / LOADED / hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
