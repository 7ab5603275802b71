"""The checks of a grid before Ray starts: names, data, budgets and networks.

Names come first, without torch; then the data, decoded for the largest network of each trial; then the networks that
unfinished trials need.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from activekd.bank.given import GivenFeatures, read_features
from activekd.banked import teacher_faults
from activekd.datasets import (
    DATASETS,
    Dataset,
    banked_name,
    check_dataset_name,
    conditioned,
    drawn_for,
    load_dataset,
)
from activekd.errors import Faults, InputError
from activekd.given import ARRAYS, FOLDER, is_arrays, split_name
from activekd.images.decoding import decoded_side
from activekd.images.survey import Survey
from activekd.networks.checkpoints import UnreachableError
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.pool import Pool
from activekd.recipes import NO_TEACHER
from activekd.selectors import check_untaught, query_faults, selector
from activekd.starts.checks import budget_faults
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import Teacher, teacher
from activekd.teachers.text_heads import given_text_head
from bench.spec import Trial, with_transfers
from bench.store.history import History
from bench.store.rows import ROUNDS
from bench.terminal import named
from bench.trials.resolved import ResolvedTrial, all_readers, misfits, start_misfits

LOADED = "loaded"
LOADERS = ("torch", "timm", "open_clip_torch")
"""Libraries whose versions decide whether a network still loads."""

DecodingProgress = Callable[[str, int, int], object]
"""Called with a data set's name, its number of decoded images, and its total."""

_Network = StudentNetwork | VisionLanguageNetwork


def resolve(
    trials: Sequence[Trial], cache: Path, progress: DecodingProgress, *, ranked: Collection[str] = ()
) -> list[ResolvedTrial]:
    """Resolve the names of the trials, load their data sets, and check that teachers and budgets fit the data.

    Args:
        cache: folder of the caches.
        progress: called while images are decoded.
        ranked: selectors of the whole grid, of which ``trials`` may be a part; one at least must not be an oracle.

    Raises:
        InputError: all unknown names and missing files at once; else all unknown networks of timm and open_clip; else
            all faults of the data sets, of given features and of query sizes at once.
    """
    faults = Faults()
    selectors = faults.resolve((t.selector for t in trials), selector)
    students = faults.resolve((t.student for t in with_transfers(trials)), student_network)
    teachers = faults.resolve((t.teacher for t in trials if t.teacher != NO_TEACHER), teacher)
    faults.resolve((t.dataset for t in trials), check_dataset_name)
    untaught = dict.fromkeys(t.selector for t in trials if t.teacher == NO_TEACHER)
    faults.resolve((name for name in untaught if name in selectors), lambda name: check_untaught(selectors[name]))
    if ranked and all(name in selectors and selectors[name].is_oracle for name in ranked):
        faults.add(
            InputError(
                f"selectors: {', '.join(sorted(ranked))}, which read true labels and are not ranked; expected: also "
                f"strategies that do not, and random, above which an oracle is measured"
            )
        )
    for fault in (*misfits(with_transfers(trials), students, teachers), *start_misfits(trials, students, teachers)):
        faults.add(InputError(fault))
    faults.refuse()

    sides = _sides(with_transfers(trials), students, teachers, faults)
    faults.refuse()

    survey = Survey()

    def load(source: tuple[str, int]) -> Dataset:
        name, side = source
        decoded = partial(progress, name)
        with named(f"{name}: reading its files"):
            return load_dataset(name, cache, decoded, short_side=side, survey=survey)

    def source_of(trial: Trial) -> tuple[str, int]:
        return drawn_for(trial.dataset, trial.seed), sides[trial.dataset, trial.student, trial.teacher]

    sources = [*map(source_of, with_transfers(trials))]
    banked = {source: (banked_name(source[0]), source[1]) for source in sources}
    bases = faults.resolve(banked.values(), load, shown=lambda base: base[0].removeprefix(FOLDER).removeprefix(ARRAYS))
    loaded = [source for source in sources if banked[source] in bases]
    datasets = faults.resolve(loaded, lambda s: conditioned(bases[banked[s]], s[0]), shown=lambda _: "")

    def with_objects(t: Trial) -> ResolvedTrial | None:
        if (source := source_of(t)) not in datasets:
            return None
        transfer = t.of_transfer and with_objects(t.of_transfer)
        student, guide, asked = students[t.student], teachers.get(t.teacher), selectors[t.selector]
        return ResolvedTrial(t, datasets[source], student, guide, asked, transfer=transfer)

    resolved = [trial for trial in map(with_objects, trials) if trial is not None]
    alike = {(t.dataset.name, t.trial.teacher, t.trial.rounds, t.trial.initial, t.query_size): t for t in resolved}
    with named("comparing teachers and budgets with the data"):
        for fault in dict.fromkeys(fault for t in alike.values() for fault in _misfits(t)):
            faults.add(InputError(fault))
    for fault in dict.fromkeys(fault for t in resolved for fault in _narrow(t)):
        faults.add(InputError(fault))
    faults.refuse()
    return resolved


def _sides(
    trials: Sequence[Trial],
    students: Mapping[str, StudentNetwork],
    teachers: Mapping[str, Teacher],
    faults: Faults,
) -> dict[tuple[str, str, str], int]:
    """The shorter side that images are decoded to, by (data set, student, teacher); unknown networks become faults."""
    reads_files = [t for t in trials if split_name(t.dataset)[0] not in DATASETS and not is_arrays(t.dataset)]
    inputs = faults.resolve((t.student for t in reads_files), lambda name: students[name].size)
    taught = (t.teacher for t in reads_files if t.teacher in teachers)
    images = faults.resolve(taught, lambda name: _input_size(teachers[name]))
    return {
        (t.dataset, t.student, t.teacher): decoded_side(max(inputs.get(t.student, 0), images.get(t.teacher, 0)))
        for t in trials
    }


def _input_size(chosen: Teacher) -> int:
    """Side of the input of a teacher's network in pixels; 0 where its features come from a file."""
    if not isinstance(chosen.network, VisionLanguageNetwork):
        return 0
    chosen.network.check_name()
    return chosen.network.size


def teacher_notes(trials: Sequence[ResolvedTrial]) -> Mapping[str, Sequence[str]]:
    """What a reader should know of the teachers' given features, by network."""
    networks = {t.teacher.network.name: t.teacher.network for t in trials if t.teacher is not None}
    return {name: network.notes for name, network in networks.items() if isinstance(network, GivenFeatures)}


def _misfits(trial: ResolvedTrial) -> Iterable[str]:
    """Messages for a teacher or a budget that does not fit the trial's data set."""
    dataset = trial.dataset
    yield from teacher_faults(dataset.name, dataset.lacking, trial.teacher)
    if trial.teacher is not None and isinstance(given := trial.teacher.network, GivenFeatures):
        widths = set()
        base = dataset.banked
        for part, split in (("train", base.train), ("test", base.test)):
            try:
                widths.add(read_features(given, split, part).shape[1])
            except InputError as fault:
                yield str(fault)
        for width in sorted(widths):
            try:
                given_text_head(given, base.class_names, width)
            except InputError as fault:
                yield str(fault)
    yield from budget_faults(dataset, rounds=trial.trial.rounds, start=trial.trial.initial, query_size=trial.query_size)


def _narrow(trial: ResolvedTrial) -> Iterable[str]:
    """Messages for a selector that cannot answer queries of the trial's size."""
    left = len(trial.dataset.train) - trial.trial.initial.n_labels(trial.dataset.n_classes)
    for fault in query_faults(trial.selector, trial.query_size, left):
        yield f"{trial.dataset.name}: selector '{trial.selector.name}': {fault}"


def check_resumable(trials: Sequence[ResolvedTrial], stored: Mapping[str, History], folder: Path) -> None:
    """Check that the stored picks of each trial are rows of its pool without its initial labels.

    Initial labels by features or by a teacher are not known yet; a trial that picks one of them fails when it resumes.

    Args:
        trials: resolved.
        stored: rows of the results folder, by trial id.
        folder: the results folder, for messages.

    Raises:
        InputError: every trial that cannot resume from its rows.
    """
    faults = Faults()
    from activekd.starts.rows import drawn_rows

    initial: dict[tuple[object, ...], tuple[int, ...]] = {}
    for trial in trials:
        if trial.id not in stored:
            continue
        key = trial.dataset.name, trial.trial.initial, trial.trial.seed
        if key not in initial:
            initial[key] = drawn_rows(trial.dataset, trial.trial.initial, trial.trial.seed) or ()
        try:
            Pool(len(trial.dataset.train), (*initial[key], *stored[trial.id].bought))
        except ValueError as fault:
            faults.add(InputError(f"{folder / ROUNDS}, trial {trial.id}: {fault}, initial labels included"))
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
    faults = Faults()
    ready: list[_Network] = []
    online = True
    for network in networks:
        try:
            network.check_name()
            with named(f"{network.name}: looking for its weights"):
                network.weights(online=online)
            ready.append(network)
        except InputError as fault:
            faults.add(fault, network.name)
            online = online and not isinstance(fault, UnreachableError)
    unseen = [(network, mark) for network in ready if not (mark := _mark(network, cache)).is_file()]
    for network, _ in unseen:
        try:
            with named(f"{network.name}: loading it once, as a check"):
                _load(network)
        except InputError as fault:
            faults.add(fault, network.name)
    faults.refuse()
    with suppress(OSError):
        (cache / LOADED).mkdir(parents=True, exist_ok=True)
        for _, mark in unseen:
            mark.touch()


def _networks(trials: Sequence[ResolvedTrial]) -> list[_Network]:
    students = {t.student.name: t.student for t in all_readers(trials)}
    teachers: dict[str, Teacher] = {t.teacher.network.name: t.teacher for t in trials if t.teacher is not None}
    encoders = (t.network for t in teachers.values())
    run_here = [student for student in students.values() if not student.given]
    return [*run_here, *(network for network in encoders if isinstance(network, VisionLanguageNetwork))]


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
