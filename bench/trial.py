"""From names to objects and from a Round to a row: what a trial needs, checked and loaded, and run."""

import importlib.metadata
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from activekd.bank import views as bank
from activekd.bank.given import feature_files, read_features
from activekd.bank.shards import Shard, read_array, write_array
from activekd.bank.views import Encoder, LiveViews, Views, ViewSource
from activekd.datasets import Dataset, Split, load_dataset
from activekd.errors import InputError
from activekd.loop import Protocol, Round, StudentInputs, TeacherInputs, run_rounds
from activekd.memory import keep_freed_memory
from activekd.networks.backbones import backbone
from activekd.networks.vision_language import network_fingerprint
from activekd.selectors import selector
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers import ADAPTATIONS, NO_TEACHER, split_teacher
from activekd.teachers.encoder import VisionLanguageEncoder, load_encoder
from activekd.teachers.text_heads import TextHead, given_text_head, has_given_features, text_head_path
from bench.columns import PICKED, Row
from bench.spec import Trial

TEACHER = "teacher:"
"""Prefix of the encoders that are a teacher's image tower."""

WIDEST = 2048
"""Upper bound on the width of a feature, for estimates of the bank's size."""

BANK_VARIABLE = "ACTIVEKD_BANK_GB"
BANK_GB = 2.0
"""Rendered views of one data set and input size that take more are not banked but rendered at every step."""

LIBRARIES = ("torch", "timm", "open_clip_torch", "ray", "numpy")


@dataclass(frozen=True)
class Needs:
    """The banked arrays of a trial: names of shards, view by view.

    Attributes:
        student_train: one shard a view; empty for a student whose inputs are rendered at every step.
        student_test: view 0; None for such a student.
        teacher_train: one shard a view; empty without a teacher.
        teacher_test: view 0; None without a teacher.
        teacher_network: name of the network whose text head is needed; None without a teacher.
    """

    student_train: tuple[Shard, ...]
    student_test: Shard | None
    teacher_train: tuple[Shard, ...]
    teacher_test: Shard | None
    teacher_network: str | None

    @property
    def shards(self) -> tuple[Shard, ...]:
        tests = (shard for shard in (self.student_test, self.teacher_test) if shard is not None)
        return (*self.student_train, *self.teacher_train, *tests)


Banked = Mapping[str, np.ndarray]
"""Banked arrays by the key of their shard."""

Heads = Mapping[tuple[str, str], TextHead]
"""Text heads by (teacher network, data set)."""


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values without repetition, in order."""
    return list(dict.fromkeys(values))


def query_size(trial: Trial, dataset: Dataset) -> int:
    """Labels bought after each round: the spec's number, or one for each class."""
    return dataset.n_classes if trial.query_size == "classes" else trial.query_size


def needs(trial: Trial, dataset: Dataset) -> Needs:
    """Which banked arrays a trial reads."""
    student = student_network(trial.student)
    common = {"dataset": dataset.name, "geometry": trial.views}

    def shard(split: str, view: int, encoder: str, weights: str) -> Shard:
        images = (dataset.train if split == "train" else dataset.test).pixels.fingerprint
        return Shard(split=split, view=view, images=images, encoder=encoder, weights=weights, **common)

    views = range(trial.views.count)
    student_train, student_test = (), None
    if not is_live(student, len(dataset.train), len(dataset.test), trial.views.count):
        student_train = tuple(shard("train", v, student.encoder_name, student.fingerprint) for v in views)
        student_test = shard("test", 0, student.encoder_name, student.fingerprint)
    if trial.teacher == NO_TEACHER:
        return Needs(student_train, student_test, (), None, None)
    name, _ = split_teacher(trial.teacher)
    weights = network_fingerprint(name)
    taught = range(1) if has_given_features(name) else views
    teacher_train = tuple(shard("train", v, f"{TEACHER}{name}", weights) for v in taught)
    return Needs(student_train, student_test, teacher_train, shard("test", 0, f"{TEACHER}{name}", weights), name)


def size_of(trial: Trial, dataset: Dataset, first: int = 0) -> float:
    """How long the rounds of a trial from ``first`` on take, in a unit of its own: images that steps take x pixels.

    It puts trials in order, the largest first; a student with a frozen backbone counts one pixel an image.
    """
    student, n_pool = student_network(trial.student), len(dataset.train)
    steps = 0
    for index in range(first, trial.rounds):
        labeled = dataset.n_classes * trial.shots + index * query_size(trial, dataset)
        steps += trial.recipe.n_steps(labeled, max(0, n_pool - labeled))
    images = trial.recipe.batch_labeled
    if trial.distillation in {"unlabeled", "both"}:
        images += trial.recipe.batch_unlabeled
    return float(steps * images * (1 if student.frozen else student.size**2))


def is_live(student: StudentNetwork, n_train: int, n_test: int, n_views: int) -> bool:
    """Whether a student's inputs are rendered at every step, because banking them would take too much memory.

    More than ``$ACTIVEKD_BANK_GB`` (default BANK_GB) for one data set is too much. The numbers are the same.
    """
    value = os.environ.get(BANK_VARIABLE) or str(BANK_GB)
    try:
        limit = float(value)
    except ValueError as fault:
        raise InputError(f"${BANK_VARIABLE} is '{value}'; expected: a number of GB") from fault
    return not student.frozen and view_bytes(student, n_train * n_views + n_test) > limit * 1e9


def view_bytes(student: StudentNetwork, n: int) -> int:
    """Bytes of so many banked inputs of a student; features are taken to be WIDEST, an upper bound."""
    return n * (2 * WIDEST if student.frozen else 3 * student.size**2)


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
    return distinct((split_teacher(t.teacher)[0], t.dataset) for t in trials if t.teacher != NO_TEACHER)


def shard_bytes(shard: Shard, encoder: str, datasets: Mapping[str, Dataset]) -> int:
    """Bytes of a shard that is not made yet; features are taken to be 2,048 wide, an upper bound."""
    dataset = datasets[shard.dataset]
    rows = len(dataset.train if shard.split == "train" else dataset.test)
    if shard.encoder.startswith(TEACHER):
        return rows * 2 * WIDEST
    return view_bytes(student_network(encoder), rows)


@lru_cache(maxsize=2)
def _teacher_encoder(name: str, device: str) -> VisionLanguageEncoder:
    return load_encoder(name, device)


@lru_cache(maxsize=2)
def _encoder(name: str, device: str) -> Encoder:
    if name.startswith(TEACHER):
        return _teacher_encoder(name.removeprefix(TEACHER), device)
    return student_network(name).encoder(device)


def runs_network(encoder: str) -> bool:
    """Whether making the shards of an encoder runs a network, which a GPU makes faster."""
    if encoder.startswith(TEACHER):
        return not has_given_features(encoder.removeprefix(TEACHER))
    return student_network(encoder).frozen


def make_shard(shard: Shard, encoder: str, cache: Path, device: str = "cpu", threads: int = 1) -> np.ndarray:
    """A shard from the disk cache, or computed and put there; given features from their own files."""
    torch.set_num_threads(threads)
    found = _kept_shard(shard, encoder, cache)
    if found is not None:
        return found
    images = _split(shard, cache).pixels
    array = bank.compute(images, _encoder(encoder, device), shard.geometry, shard.view)
    write_array(shard.path(cache), array)
    return array


def made_shard(shard: Shard, encoder: str, cache: Path) -> np.ndarray:
    """A shard that ``make_shard`` has made, perhaps on another machine.

    Raises:
        InputError: it is not in the disk cache that this machine sees.
    """
    found = _kept_shard(shard, encoder, cache)
    if found is None:
        raise InputError(
            f"cache {cache}: {shard.path(cache).name} was made, but is not there for the grid's driver; expected: one "
            f"folder that all nodes share ($ACTIVEKD_CACHE)"
        )
    return found


def _kept_shard(shard: Shard, encoder: str, cache: Path) -> np.ndarray | None:
    """A shard that no network need be run for; None where one must."""
    teacher = encoder.removeprefix(TEACHER)
    if encoder.startswith(TEACHER) and has_given_features(teacher):
        return read_features(feature_files(teacher), _split(shard, cache), shard.split)
    return read_array(shard.path(cache))


def _split(shard: Shard, cache: Path) -> Split:
    dataset = load_dataset(shard.dataset, cache)
    return dataset.train if shard.split == "train" else dataset.test


def kept_text_head(network: str, dataset: Dataset, cache: Path) -> TextHead | None:
    """A text head that no network need be run for; None where one must.

    Args:
        dataset: with the names of its test images where features are given.
    """
    if has_given_features(network):
        dim = read_features(feature_files(network), dataset.test, "test").shape[1]
        return given_text_head(network, dataset.class_names, dim)
    return TextHead.read(text_head_path(network, dataset.class_names, dataset.prompts, cache))


def make_text_head(network: str, dataset: Dataset, cache: Path, device: str = "cpu", threads: int = 1) -> TextHead:
    """The text head of a teacher network for a data set: from the disk cache, or computed and put there."""
    torch.set_num_threads(threads)
    found = kept_text_head(network, dataset, cache)
    if found is not None:
        return found
    head = _teacher_encoder(network, device).text_head(dataset.class_names, dataset.prompts)
    head.write(text_head_path(network, dataset.class_names, dataset.prompts, cache))
    return head


@dataclass(frozen=True)
class Inputs:
    """What a trial reads.

    Attributes:
        dataset: labels; images are read only where the student's inputs are not banked.
        needs: names of the banked arrays.
        banked: at least the arrays of ``needs``.
        heads: the teachers' text heads.
    """

    dataset: Dataset
    needs: Needs
    banked: Banked
    heads: Heads


@dataclass(frozen=True)
class Running:
    """How a trial is run, whatever it is.

    Attributes:
        device: where the networks are trained.
        threads: of torch: the CPUs of the trial.
        diagnostics: whether the rows have them.
    """

    device: str = "cpu"
    threads: int = 1
    diagnostics: bool = True


RunTrial = Callable[[Trial, Inputs, Sequence[Row], Running], Iterator[Row]]


def run_trial(trial: Trial, inputs: Inputs, done: Sequence[Row], running: Running) -> Iterator[Row]:
    """Run the rounds of a trial that are not done, one row each.

    The same function serves Ray and ``--serial``, so that their numbers agree to the bit.

    Args:
        done: the trial's rows so far, from round 0 on.
    """
    torch.set_num_threads(running.threads)
    keep_freed_memory()
    dataset, wanted, banked = inputs.dataset, inputs.needs, inputs.banked
    student = _student_inputs(trial, dataset, wanted, banked)
    teacher = None
    if wanted.teacher_network is not None and wanted.teacher_test is not None:
        teacher = TeacherInputs(
            ADAPTATIONS[split_teacher(trial.teacher)[1]],
            inputs.heads[wanted.teacher_network, trial.dataset],
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
        device=running.device,
        diagnostics=running.diagnostics,
    )
    counts = {"n_classes": dataset.n_classes, "query_size": size}
    for measured in rounds:
        yield _row(trial, measured, counts, running)


def _student_inputs(trial: Trial, dataset: Dataset, wanted: Needs, banked: Banked) -> StudentInputs:
    network = student_network(trial.student)
    if wanted.student_test is not None:
        return StudentInputs(network, _views(wanted.student_train, banked), Views((banked[wanted.student_test.key],)))
    interpolation = backbone(network.backbone).interpolation

    def live(split: Split) -> ViewSource:
        return LiveViews(split.pixels, trial.views, network.size, interpolation)

    return StudentInputs(network, live(dataset.train), live(dataset.test))


def _views(shards: Sequence[Shard], banked: Banked) -> Views:
    return Views(tuple(banked[shard.key] for shard in shards))


def _row(trial: Trial, measured: Round, counts: Mapping[str, int], running: Running) -> Row:
    values = asdict(measured)
    index, picked, diagnostics = (values.pop(name) for name in ("index", "picked", "diagnostics"))
    return {
        **trial.identity,
        "round": index,
        **counts,
        **values,
        **{name: None if math.isnan(value) else value for name, value in (diagnostics or {}).items()},
        **provenance(running.device, running.threads),
        PICKED: list(picked),
    }


@lru_cache(maxsize=2)
def provenance(device: str, threads: int = 1) -> dict[str, str]:
    """Commit of the code, versions of the libraries that make the numbers, and the device.

    The kind of CPU and the number of threads count: vector instructions round convolutions in their own way, threads
    add up sums in another order, and training amplifies that.
    """
    cpu = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    return {
        "commit": _commit(),
        "versions": f"python {platform.python_version()} {versions}",
        "device": f"{device} {torch.cuda.get_device_name() if device == 'cuda' else cpu}"
        + (f" {threads} threads" if threads > 1 else ""),
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
