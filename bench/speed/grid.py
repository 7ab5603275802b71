"""The grid with idle trials against bare Ray Tune, and the bank shared by trials; memory is read on Linux only."""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

from activekd.bank.shards import Shard
from activekd.banked import BankedShards
from activekd.datasets import Dataset, Split
from activekd.inputs import Banked
from activekd.recipes import ViewGeometry
from activekd.selectors import selector
from activekd.students.networks import student_network
from activekd.teachers.text_heads import TextHead
from bench.cluster.address import LOCAL, use_loopback
from bench.columns import PICKED, Row
from bench.settings import Options
from bench.spec import Spec, read_spec
from bench.speed.bars import Bar, apart
from bench.speed.commands import command_bar
from bench.speed.memory import PRIVATE, SHARED, memory_bytes
from bench.store.folder import Sources, write_plan
from bench.store.rows import stored_rows
from bench.terminal import GridProgress
from bench.trials.cohorts import Cohort
from bench.trials.resolved import ResolvedTrial
from bench.trials.run import Execution, RunCohort, provenance

IDLE_SPEC = """
name = "idle"
selectors = ["random"]
seeds = {seeds}
[[block]]
datasets = ["digits"]
teachers = ["none"]
students = ["resnet6_mini@16"]
rounds = {rounds}
recipe = "idle"
views = "one"
[views.one]
count = 1
scale = [1.0, 1.0]
ratio = [1.0, 1.0]
flip = 0.0
[recipes.idle]
lr = 0.01
weight_decay = 0.0
steps = 1
step_rule = "fixed"
schedule = "linear"
warmup = 0.0
batch_labeled = 8
batch_unlabeled = 8
weight_ce = 0.5
weight_kd_labeled = 0.5
weight_kd_unlabeled = 0.5
temperature = 2.0
label_weight = 0.5
distill_temperature = 1.0
single_view = "targets"
clap = {{ lr = 0.01, momentum = 0.9, epochs = 1, batch = 8, warmup = 0.1 }}
"""

N_CLASSES = 10
PARTS = 5
BLOCK = 1000
"""Trials at the start and at the end whose seconds are compared; a fifth of them where there are fewer than 5,000."""

LIMIT_TUNE, LIMIT_FLAT = 1.5, 1.2
LIMIT_PRIVATE = 0.1
"""Largest growth of a reader's private memory, as a share of the bank."""

LIMIT_FOLDER_BYTES = 100e6
LIMIT_COMMAND_SECONDS = 5.0

BANK_MEGABYTES = 500
READERS = 2
READING_TRIALS = 16
"""So many that the second worker starts before the first one has run them all."""

READING_SECONDS = 1.0
"""Length of a round that reads."""


@dataclass(frozen=True)
class IdleRun:
    """A grid of idle trials as measured.

    Attributes:
        n_rounds: of each trial.
        seconds: from the first trial's start to the end.
        completed: seconds from the start to the completion of each trial, in order.
        resident: resident bytes of the driver at each completion.
    """

    n_rounds: int
    seconds: float
    completed: Sequence[float]
    resident: Sequence[int]

    @property
    def what(self) -> str:
        """The size of the grid in words."""
        return f"{len(self.completed):,} idle trials x {self.n_rounds} rounds"


def idle_spec(n_trials: int, n_rounds: int, folder: Path) -> Path:
    """Write a spec of so many trials whose students will not be trained."""
    path = folder / "idle.toml"
    path.write_text(IDLE_SPEC.format(seeds=list(range(n_trials)), rounds=n_rounds), encoding="utf-8")
    return path


def idle_trials(spec: Spec, bank: tuple[Shard, ...] = ()) -> list[ResolvedTrial]:
    """The trials of an idle spec on a stand-in data set, which has labels only.

    Args:
        bank: shards that each trial reads.
    """
    split = Split(None, np.arange(100 * N_CLASSES) % N_CLASSES)
    dataset = Dataset("digits", tuple(map(str, range(N_CLASSES))), (), split, split, split)
    chosen, student = selector("random"), student_network("resnet6_mini@16")
    banked = BankedShards(student_train=bank)
    return [ResolvedTrial(t, dataset, student, None, chosen, banked) for t in spec.trials]


def idle_rounds(
    cohort: Cohort, banked: Banked, head: TextHead | None, done: Mapping[str, Sequence[Row]], execution: Execution
) -> Iterator[Row]:
    """The rows of a single trial in which nothing is trained: complete ones, with a pick for each class."""
    (trial,) = cohort.trials
    for index in range(len(done[trial.id]), trial.trial.rounds):
        last = index + 1 == trial.trial.rounds
        yield {
            **trial.trial.identity,
            "round": index,
            "n_classes": N_CLASSES,
            "query_size": N_CLASSES,
            "n_labeled": N_CLASSES * (index + 1),
            "accuracy": 0.5,
            "teacher_accuracy": None,
            "teacher_seconds": 0.0,
            "train_seconds": 0.001,
            "predict_seconds": 0.0,
            "select_seconds": 0.0,
            "peak_rss_bytes": 0,
            **provenance(execution.device, execution.threads),
            PICKED: [] if last else list(range(N_CLASSES * (index + 1), N_CLASSES * (index + 2))),
        }


def reading_rounds(
    cohort: Cohort, banked: Banked, head: TextHead | None, done: Mapping[str, Sequence[Row]], execution: Execution
) -> Iterator[Row]:
    """Idle rows with the growth of private and shared memory while the banked array was read to its end."""
    for row in idle_rounds(cohort, banked, head, done, execution):
        private, shared = memory_bytes(PRIVATE), memory_bytes(SHARED)
        (array,) = banked.values()
        total = float(array.sum())
        growth = memory_bytes(PRIVATE) - private, memory_bytes(SHARED) - shared
        sleep(READING_SECONDS)
        yield {**row, "private_growth": growth[0], "shared_growth": growth[1], "total": total}


def write_idle_plan(folder: Path, spec: Spec) -> None:
    """Write the plan of an idle grid into its results folder."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"n_classes": N_CLASSES, "query_size": N_CLASSES}
    write_plan(folder, spec.name, [{**t.identity, **counts, "rounds": t.rounds} for t in spec.trials], Sources({}, {}))


def _run(trials: Sequence[ResolvedTrial], folder: Path, run: RunCohort, refs: Mapping[str, Any], probe: Any) -> float:
    """Seconds of the trials on a Ray that is running."""
    from bench.cluster.banking import Bank
    from bench.cluster.running import run_jobs
    from bench.cluster.storing import start_store

    progress = GridProgress.of_trials([t.trial for t in trials], {}, every=60.0)
    start = perf_counter()
    with progress:
        store = start_store(folder, attempts=1)
        execution, callbacks = Execution(), [probe] if probe else []
        bank = Bank(trials, folder, execution.device, Options().extraction, progress, refs)
        jobs = [Cohort((trial,)) for trial in trials]
        run_jobs(jobs, bank, store, folder, progress, execution, Options(), run=run, callbacks=callbacks)
    return perf_counter() - start


def _measure_idle(n_trials: int, n_rounds: int, folder: Path) -> IdleRun:
    use_loopback(LOCAL)
    from bench.cluster.nodes import connected
    from bench.speed.bare_tune import Probe

    spec = read_spec(str(idle_spec(n_trials, n_rounds, folder)))
    write_idle_plan(folder / "run", spec)
    with connected(Options(spill=folder / "spill")):
        probe = Probe()
        seconds = _run(idle_trials(spec), folder / "run", idle_rounds, {}, probe)
    return IdleRun(n_rounds, seconds, probe.seconds, probe.resident)


def _measure_bare(n_trials: int, n_rounds: int, folder: Path) -> float:
    use_loopback(LOCAL)
    from bench.cluster.nodes import connected
    from bench.speed.bare_tune import bare_tune

    with connected(Options(spill=folder / "spill")):
        return bare_tune(n_trials, n_rounds)


def _measure_sharing(megabytes: int, folder: Path) -> list[tuple[int, int]]:
    """By how many bytes private and shared memory of each trial grew while it read the bank."""
    use_loopback(LOCAL)
    from bench.cluster.nodes import connected
    from bench.speed.bare_tune import synthetic_array

    spec = read_spec(str(idle_spec(READING_TRIALS, 2, folder)))
    write_idle_plan(folder / "run", spec)
    one_view = ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
    shard = Shard("digits", "train", 0, "synthetic", "synthetic", "synthetic", one_view)
    with connected(Options(spill=folder / "spill")):
        refs = {shard.key: synthetic_array.remote(megabytes)}
        _run(idle_trials(spec, (shard,)), folder / "run", reading_rounds, refs, None)
    first = [row for row in stored_rows(folder / "run") if row["round"] == 0]
    return [(row["private_growth"], row["shared_growth"]) for row in first]


def idle_bars(n_trials: int, n_rounds: int) -> list[Bar]:
    """A grid of idle trials: its seconds against bare Tune, its growth, its folder, ``plan`` and ``status`` on it."""
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        folder = Path(scratch)
        idle = apart(_measure_idle, n_trials, n_rounds, folder)
        bare_seconds = apart(_measure_bare, n_trials, n_rounds, folder)
        return [
            tune_bar(idle, bare_seconds),
            flat_bar(idle),
            folder_bar(idle, folder / "run"),
            command_bar(f"{idle.what}: plan", LIMIT_COMMAND_SECONDS, "plan", str(folder / "idle.toml")),
            command_bar(f"{idle.what}: status", LIMIT_COMMAND_SECONDS, "status", str(folder / "run")),
        ]


def tune_bar(idle: IdleRun, bare_seconds: float) -> Bar:
    """Idle trials against bare Tune with as many trials and reports."""
    figures = f"{idle.seconds:.0f} s against {bare_seconds:.0f} s"
    return Bar(f"{idle.what}: seconds against bare Ray Tune", idle.seconds / bare_seconds, LIMIT_TUNE, figures)


def flat_bar(idle: IdleRun) -> Bar:
    """Seconds per trial of the last block of trials against the first; the start of the workers is left out."""
    k = min(BLOCK, len(idle.completed) // PARTS)
    first = (idle.completed[k] - idle.completed[0]) / k
    last = (idle.completed[-1] - idle.completed[-1 - k]) / k
    figures = (
        f"{1000 * last:.1f} ms against {1000 * first:.1f} ms; driver's memory {idle.resident[k] / 1e6:.0f} MB to "
        f"{idle.resident[-1] / 1e6:.0f} MB"
    )
    what = f"{idle.what}: seconds of the last {k:,} against the first {k:,}"
    return Bar(what, last / first, LIMIT_FLAT, figures)


def folder_bar(idle: IdleRun, run: Path) -> Bar:
    """The size of the results folder."""
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    return Bar(f"{idle.what}: results folder, MB", size / 1e6, LIMIT_FOLDER_BYTES / 1e6)


def sharing_bar(megabytes: int = BANK_MEGABYTES) -> Bar:
    """Whether trials that run at the same time share the bank."""
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        growth = apart(_measure_sharing, megabytes, Path(scratch))
    private = max(p for p, _ in growth) / (megabytes * 2**20)
    readers = sum(shared > 0.9 * megabytes * 2**20 for _, shared in growth)
    return Bar(
        f"{megabytes} MB bank in concurrent trials: private growth, share of the bank",
        private if readers >= READERS else math.inf,
        LIMIT_PRIVATE,
        f"at most {private * megabytes:.1f} MB; {readers} processes mapped the bank, expected: at least {READERS}",
    )
