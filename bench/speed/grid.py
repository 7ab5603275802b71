"""What the grid costs beside the work in its trials: against bare Ray Tune, and against serial processes."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter, sleep, time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.columns import PICKED, Row
from bench.spec import Share, Spec, Trial, read_spec
from bench.speed.bars import Claim, apart
from bench.store.folder import Sources, write_plan
from bench.store.rows import ROUNDS, stored_rows
from bench.terminal import GridProgress
from bench.trial import Inputs, Needs, Running, RunTrial, provenance

SELECTORS = ("random", "entropy", "margin", "least_confidence", "coreset", "badge", "classbalanced", "typiclust")

SPEC = """
name = "idle"
selectors = {selectors}
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

CPUS = 2

POINTS = 5

BAR_TUNE, BAR_FLAT, BAR_SHARE = 1.3, 1.2, 0.10

BAR_FOLDER_BYTES, BAR_COMMAND_SECONDS = 100e6, 5.0

READING_SECONDS = 1.0
"""Length of a round that reads: long enough for the second worker to start while the first is at it."""

ORDER = 2 * ("serial", "ray", "ray", "serial")
"""In which the demo is timed."""

BAR_PRIVATE = 0.1
"""Largest part of a shared array by which a reader's private memory may grow."""


def idle_spec(n_trials: int, n_rounds: int, folder: Path) -> Path:
    """A spec of so many trials (rounded down to whole seeds) whose students will do nothing."""
    path = folder / "idle.toml"
    seeds = list(range(max(1, n_trials // len(SELECTORS))))
    path.write_text(SPEC.format(selectors=list(SELECTORS), seeds=seeds, rounds=n_rounds), encoding="utf-8")
    return path


def idle_rounds(trial: Trial, inputs: Inputs, done: Sequence[Row], running: Running) -> Iterator[Row]:
    """The rows of a trial in which nothing is trained: complete ones, with as many picks as digits has classes."""
    picks = list(range(1000, 1010))
    for index in range(len(done), trial.rounds):
        yield {
            **trial.identity,
            "round": index,
            "n_classes": 10,
            "query_size": 10,
            "n_labeled": 10 * (index + 1),
            "accuracy": 0.5,
            "teacher_accuracy": None,
            "teacher_seconds": 0.0,
            "train_seconds": 0.001,
            "predict_seconds": 0.0,
            "select_seconds": 0.0,
            "peak_rss_bytes": 0,
            **provenance(running.device, running.threads),
            PICKED: picks if index + 1 < trial.rounds else [],
        }


def reading_rounds(trial: Trial, inputs: Inputs, done: Sequence[Row], running: Running) -> Iterator[Row]:
    """Rows that tell by how much private and shared memory grew when the banked array was read to its end."""
    from bench.speed.bare_tune import private_and_shared_bytes

    for row in idle_rounds(trial, inputs, done, running):
        private, shared = private_and_shared_bytes()
        (array,) = inputs.banked.values()
        total = float(array.sum())
        after = private_and_shared_bytes()
        sleep(READING_SECONDS)
        yield {**row, "private_growth": after[0] - private, "shared_growth": after[1] - shared, "total": total}


def _as_plan(spec: Spec) -> list[dict[str, Any]]:
    return [{**t.identity, "n_classes": 10, "query_size": 10, "rounds": t.rounds} for t in spec.trials]


def _connect(folder: Path) -> None:
    from bench.cluster.nodes import LOCAL, connect

    connect(LOCAL, n_cpus=CPUS, spill=folder / "spill", dashboard_host="127.0.0.1")


def _run(spec: Spec, run: Path, run_trial: RunTrial, refs: Mapping[str, Any], needs: Needs, probe: Any) -> float:
    from bench.cluster.running import Work, run_trials
    from bench.cluster.storing import start_store

    run.mkdir(parents=True, exist_ok=True)
    write_plan(run, spec.name, _as_plan(spec), Sources({}, {}))
    work = Work(
        {t.id: t for t in spec.trials},
        dict.fromkeys((t.id for t in spec.trials), needs),
        dict.fromkeys({t.dataset for t in spec.trials}, None),  # pyright: ignore[reportArgumentType]
        "cpu",
        run_trial=run_trial,
    )
    rounds = {t.id: t.rounds for t in spec.trials}
    progress = GridProgress(dict.fromkeys(rounds, "idle"), rounds, {}, every=60.0)
    ids = list(rounds)
    start = perf_counter()
    with progress:
        share, store = Share(), start_store(run, attempts=1)
        run_trials(work, ids, refs, {}, store, run, progress, share=share, max_concurrent=None, callbacks=[probe])
    return perf_counter() - start


def measure_ours(answer: Any, n_trials: int, n_rounds: int, folder: Path) -> None:
    """In a process of its own: seconds and points of the grid with idle students."""
    from bench.cluster.nodes import disconnect
    from bench.speed.bare_tune import Probe

    spec = read_spec(str(idle_spec(n_trials, n_rounds, folder)))
    _connect(folder)
    probe = Probe(max(1, len(spec.trials) // POINTS))
    seconds = _run(spec, folder / "run", idle_rounds, {}, Needs((), None, (), None, None), probe)
    disconnect()
    answer.put((seconds, probe.points))


def measure_bare(answer: Any, n_trials: int, n_rounds: int, folder: Path) -> None:
    """In a process of its own: seconds and points of bare Tune with as many reports."""
    from bench.cluster.nodes import disconnect
    from bench.speed.bare_tune import Probe, bare_tune

    _connect(folder)
    probe = Probe(max(1, n_trials // POINTS))
    seconds = bare_tune(n_trials, n_rounds, probe)
    disconnect()
    answer.put((seconds, probe.points))


def measure_sharing(answer: Any, megabytes: int, folder: Path) -> None:
    """In a process of its own: what concurrent trials that read one banked array add to their own memory."""
    from activekd.bank.shards import Shard
    from activekd.recipes import ViewGeometry
    from bench.cluster.nodes import disconnect
    from bench.speed.bare_tune import Probe, made_up_array

    spec = read_spec(str(idle_spec(len(SELECTORS), 2, folder)))
    _connect(folder)
    one = ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
    shard = Shard("digits", "train", 0, "made up", "made up", "made up", one)
    needs = Needs((shard,), None, (), None, None)
    _run(spec, folder / "run", reading_rounds, {shard.key: made_up_array.remote(megabytes)}, needs, Probe(1))
    disconnect()
    rows = stored_rows(folder / "run")
    answer.put([(row["private_growth"], row["shared_growth"]) for row in rows if row["round"] == 0])


def overhead(n_trials: int, n_rounds: int, out: Console) -> list[Claim]:
    """The grid with idle students beside bare Tune."""
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        folder = Path(scratch)
        seconds, points = apart(measure_ours, n_trials, n_rounds, folder)
        out.print(f"grid: {seconds:.1f} s", highlight=False)
        plain, plain_points = apart(measure_bare, n_trials, n_rounds, folder / "bare")
        out.print(f"bare Tune: {plain:.1f} s", highlight=False)
        _print_points(points, plain_points, out)
        size = sum(path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file())
        commands = {
            "plan": _seconds_of(["plan", str(folder / "idle.toml")]),
            "status": _seconds_of(["status", str(folder / "run")]),
        }
    per_point = np.diff([0.0, *(t for _, t, _ in points)])
    memory = [m for _, _, m in points]
    what = f"{n_trials:,} trials x {n_rounds} rounds"
    return [
        Claim(
            f"{what}: seconds against bare Tune", seconds / plain, BAR_TUNE, f"{seconds:.0f} s against {plain:.0f} s"
        ),
        Claim(
            f"{what}: a trial of the last fifth against one of the first",
            float(per_point[-1] / per_point[0]),
            BAR_FLAT,
            " ".join(f"{1000 * s / (n_trials / POINTS):.0f}" for s in per_point) + " ms",
        ),
        Claim(
            f"{what}: the driver's memory after the last fifth against the first",
            memory[-1] / memory[0],
            BAR_FLAT,
            " ".join(f"{m / 1e6:.0f}" for m in memory) + " MB",
        ),
        Claim(f"{what}: results folder, MB", size / 1e6, BAR_FOLDER_BYTES / 1e6, ""),
        *(Claim(f"{what}: {name}, s", value, BAR_COMMAND_SECONDS, "") for name, value in commands.items()),
    ]


def sharing(megabytes: int) -> Claim:
    """Whether concurrent trials share the bank."""
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        grown = apart(measure_sharing, megabytes, Path(scratch))
    private = max(p for p, _ in grown) / (megabytes * 2**20)
    readers = sum(s > 0.9 * megabytes * 2**20 for _, s in grown)
    if readers < CPUS:
        raise RuntimeError(f"{readers} workers mapped the bank; at least {CPUS} are needed to see that they share it")
    return Claim(
        f"a bank of {megabytes} MB read by {CPUS} trials at a time: private growth of a reader, of the bank",
        private,
        BAR_PRIVATE,
        f"{readers} workers mapped {megabytes} MB of shared memory; own memory grew by {private * megabytes:.1f} MB",
    )


def real_work(out: Console) -> Claim:
    """The demo on Ray against two serial processes that share its selectors; caches are warm.

    Seconds from the command to the last row on disk: without the report that follows, which is not Ray's, and without
    Ray's shutdown, a second or two. Each is run four times, in the order of ORDER, by which a machine that grows
    slower or faster in between counts for both alike.
    """
    names = list(dict.fromkeys(t.selector for t in read_spec("demo").trials))
    halves = [",".join(f"selector={name}" for name in names[k::CPUS]) for k in range(CPUS)]
    commands = {
        "serial": [("demo", "--serial", "--only", half) for half in halves],
        "ray": [("demo", "--max-concurrent", str(CPUS))],
    }
    seconds: dict[str, list[float]] = {way: [] for way in commands}
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        folder = Path(scratch)
        _grid("demo", "--serial", "--only", "seed=0,selector=random", "--out", str(folder / "warm"))
        for index, way in enumerate(ORDER):
            seconds[way].append(_until_last_row(commands[way], folder / str(index)))
            out.print(f"demo, {way}: {seconds[way][-1]:.1f} s", highlight=False)
    serial, on_ray = sum(seconds["serial"]), sum(seconds["ray"])
    figures = "{} s against {} s".format(*(" ".join(f"{s:.0f}" for s in seconds[way]) for way in ("ray", "serial")))
    return Claim("demo: Ray's share of the wall time to the last row", (on_ray - serial) / on_ray, BAR_SHARE, figures)


def _until_last_row(commands: Sequence[Sequence[str]], folder: Path) -> float:
    """Seconds until the last row of grids that run beside each other is on disk."""
    folders = [folder / str(k) for k in range(len(commands))]
    start = time()
    running = [
        subprocess.Popen(_command(*command, "--out", str(out)), stdout=subprocess.DEVNULL)
        for command, out in zip(commands, folders, strict=True)
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise RuntimeError(f"grids ended with exit codes {codes}")
    return max((out / ROUNDS).stat().st_mtime for out in folders) - start


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.grid", *arguments]


def _grid(*arguments: str) -> None:
    subprocess.run(_command(*arguments), check=True, stdout=subprocess.DEVNULL)


def _seconds_of(arguments: Sequence[str]) -> float:
    start = perf_counter()
    _grid(*arguments)
    return perf_counter() - start


def _print_points(ours: Sequence[Any], bare: Sequence[Any], out: Console) -> None:
    table = Table(
        "trials done", "grid, s", "grid, MB", "bare Tune, s", "bare Tune, MB", title="the driver as it goes on"
    )
    for (done, seconds, memory), (_, plain, plain_memory) in zip(ours, bare, strict=False):
        table.add_row(f"{done:,}", f"{seconds:.0f}", f"{memory / 1e6:.0f}", f"{plain:.0f}", f"{plain_memory / 1e6:.0f}")
    out.print(table)
