"""A grid from its first check to its report, on Ray or in this process; what is heavy is imported when it is needed."""

import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from activekd.bank.shards import check_cache
from activekd.errors import InputError
from activekd.memory import without_collection
from bench import store as results
from bench.spec import Device, Share, Spec, Trial
from bench.terminal import EXIT_FAILED, DecodingLines, GridProgress, console

if TYPE_CHECKING:
    from activekd.datasets import Dataset
    from bench.cluster.nodes import Connection

CACHE_VARIABLE = "ACTIVEKD_CACHE"
LOCK = "grid.lock"
IMPORTED_MEANWHILE = ("bench.checks", "bench.report")
"""What the checks and the report need, torch among it: it takes as long to import as Ray to start."""


@dataclass(frozen=True)
class How:
    """The options of a run that do not change what is run, as ``python -m bench.grid run --help`` explains them."""

    serial: bool
    address: str
    max_concurrent: int | None
    device: Device
    trial: Share
    extraction: Share
    attempts: int
    retry_failed: bool
    log_every: float
    track: str | None
    dashboard_host: str
    spill: Path
    diagnostics: bool


def launch(whole: Spec, out: Path | None, only: str | None, how: How) -> int:
    """Run a grid, or go on with it, and write its report.

    Args:
        whole: the spec.
        out: the results folder; RUNS/NAME without it.
        only: which of its trials, as ``Spec.only`` takes it; all without it.

    Returns:
        The exit code: 0, or EXIT_FAILED where trials were given up.

    Raises:
        InputError: whatever the checks find, before any trial starts; or what keeps the grid from going on.
    """
    spec = whole.only(only) if only else whole
    folder = out or results.RUNS / whole.name
    cache = cache_folder()
    _check_options(how)
    check_cache(cache)
    with ExitStack() as ray_up:
        n_todo = 0 if how.serial else len(_standing(spec, folder, how).todo)
        with without_collection():
            connection = ray_up.enter_context(_connected(how, n_todo)) if n_todo else None

            from bench.checks import check, find_networks, load_networks
            from bench.report.__main__ import print_rank_table, write_report
            from bench.store.table import read_run

        datasets = check(spec.trials, cache, DecodingLines())
        sources = _sources(spec, datasets)
        with results.exclusive(folder, LOCK):
            results.check_belongs(folder, whole.name, [t.id for t in whole.trials], sources)
            results.write_plan(
                folder, whole.name, [_planned(t, datasets.get(t.dataset)) for t in whole.trials], sources
            )
            found = _standing(spec, folder, how)
            counts = f"{len(spec.trials)} trials, {sum(t.rounds for t in spec.trials)} rounds"
            console.print(
                f"{whole.name}: {counts}; {len(found.todo)} trials to do; {folder}", highlight=False, soft_wrap=True
            )
            failures = dict.fromkeys(found.given_up, "")
            if found.todo:
                todo = _largest_first(found, datasets)
                find_networks(todo)
                load_networks(todo, cache)
                for trial_id in found.again:
                    results.forget_failure(folder, trial_id)
                job = _Job(todo, datasets, cache, folder, _progress(spec, found.done, how), how)
                if how.serial:
                    _run_serial(job)
                else:
                    failures |= _run_on_ray(job, connection or ray_up.enter_context(_connected(how, len(todo))))
            ray_up.close()
            if failures:
                return _tell_failures(failures, spec, folder)
            report = write_report(read_run(folder).restricted_to([t.id for t in spec.trials]), folder)
    print_rank_table(report, console)
    return 0


@dataclass(frozen=True)
class _Standing:
    """How far the trials of a spec are.

    Attributes:
        done: rounds that are stored, by trial id.
        given_up: ids of the trials that were given up and are left so.
        again: ids of those that are tried again.
        todo: the trials with a missing round that are not left given up.
    """

    done: Mapping[str, int]
    given_up: Sequence[str]
    again: Sequence[str]
    todo: Sequence[Trial]


def _standing(spec: Spec, folder: Path, how: How) -> _Standing:
    done = results.rounds_done(folder)
    missing = [t for t in spec.trials if done.get(t.id, 0) < t.rounds]
    failures = results.read_failures(folder)
    failed = [t.id for t in missing if t.id in failures]
    if how.retry_failed or how.serial:
        return _Standing(done, [], failed, missing)
    return _Standing(done, failed, [], [t for t in missing if t.id not in failures])


def _sources(spec: Spec, datasets: Mapping[str, "Dataset"]) -> results.Sources:
    from activekd.selectors import own_code
    from bench.trial import distinct

    codes = {name: code for name in distinct(t.selector for t in spec.trials) if (code := own_code(name))}
    return results.Sources({name: dataset.fingerprint for name, dataset in datasets.items()}, codes)


def _largest_first(found: _Standing, datasets: Mapping[str, "Dataset"]) -> list[Trial]:
    """The trials that are to be run, by the work they have left, so that the tail of the grid is short."""
    from bench.trial import size_of

    return sorted(found.todo, key=lambda t: size_of(t, datasets[t.dataset], found.done.get(t.id, 0)), reverse=True)


def _progress(spec: Spec, done: Mapping[str, int], how: How) -> GridProgress:
    kinds = {t.id: f"{t.dataset} {t.teacher} {t.student} {t.recipe_name}" for t in spec.trials}
    stored = {t.id: min(done.get(t.id, 0), t.rounds) for t in spec.trials}
    return GridProgress(kinds, {t.id: t.rounds for t in spec.trials}, stored, every=how.log_every)


@contextmanager
def _connected(how: How, n_trials: int) -> Iterator["Connection"]:
    """Ray for the length of a block; while it starts, a thread imports what comes after.

    Ray's processes die with the thread that starts them, and signals reach the main thread alone.
    """
    from bench.cluster.nodes import LOCAL, connect, device_of, disconnect, slots
    from bench.cluster.starting import start_readers, start_trial_processes

    try:
        with ThreadPoolExecutor(max_workers=1) as beside:
            importing = [beside.submit(importlib.import_module, name) for name in IMPORTED_MEANWHILE]
            connection = connect(
                how.address,
                n_cpus=how.max_concurrent and _cpus(how),
                spill=how.spill,
                dashboard_host=how.dashboard_host,
            )
            if how.address == LOCAL:
                at_a_time = slots(how.trial, device_of(how.device, connection))
                start_trial_processes(min(at_a_time, n_trials, how.max_concurrent or n_trials))
                start_readers()
            for imported in importing:
                imported.result()
        yield connection
    finally:
        disconnect()


def _check_options(how: How) -> None:
    if how.track and how.serial:
        raise InputError("--track with --serial; expected: one of them, since trackers are told by Ray Tune")
    if how.track:
        from bench.cluster.tracking import check_tracker

        check_tracker(how.track)


def cache_folder() -> Path:
    """Where decoded images and banks are kept: ``$ACTIVEKD_CACHE``, else ``~/.cache/activekd``."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "activekd").resolve()


def _planned(trial: Trial, dataset: "Dataset | None") -> dict[str, object]:
    """A trial in the plan; the counts that only its data set knows are left open where --only left it out."""
    from bench.trial import query_size

    if dataset is None:
        return {**trial.identity, "n_classes": None, "query_size": None, "rounds": trial.rounds}
    counts = {"n_classes": dataset.n_classes, "query_size": query_size(trial, dataset)}
    return {**trial.identity, **counts, "rounds": trial.rounds}


@dataclass(frozen=True)
class _Job:
    """What is to be run, after all checks.

    Attributes:
        trials: with a missing round, in the order in which they start.
        datasets: of the trials, by name.
        cache: folder of the caches.
        folder: the results folder.
        progress: told as the grid goes on.
        how: the options.
    """

    trials: Sequence[Trial]
    datasets: Mapping[str, "Dataset"]
    cache: Path
    folder: Path
    progress: GridProgress
    how: How


def _run_serial(job: _Job) -> None:
    from bench import trial as trials

    datasets, cache, how, progress = job.datasets, job.cache, job.how, job.progress
    device = local_device(how.device)
    running = trials.Running(device, how.trial.cpus, how.diagnostics)
    shards = trials.shards_of(job.trials, datasets)
    wanted_heads = trials.text_heads_of(job.trials)
    store = results.Store(job.folder)
    with progress:
        banked = {}
        for done, (shard, encoder) in enumerate(shards.items(), start=1):
            banked[shard.key] = trials.make_shard(shard, encoder, cache, device, how.extraction.cpus)
            progress.banked(done, len(shards))
        heads = {
            (network, name): trials.make_text_head(network, datasets[name], cache, device, how.extraction.cpus)
            for network, name in wanted_heads
        }
        for trial in job.trials:
            progress.started(trial.id)
            dataset = datasets[trial.dataset]
            inputs = trials.Inputs(dataset, trials.needs(trial, dataset), banked, heads)
            for row in trials.run_trial(trial, inputs, store.begin(trial.id), running):
                store.append(row)
                progress.round_done(trial.id, results.seconds_of(row))
            progress.ended(trial.id)
    store.close()


def _run_on_ray(job: _Job, connection: "Connection") -> dict[str, str]:
    from bench import trial as trials
    from bench.cluster.banking import bank
    from bench.cluster.nodes import LOCAL, device_of, lacking_room
    from bench.cluster.running import Work, run_trials
    from bench.cluster.storing import start_store

    datasets, how, progress, folder = job.datasets, job.how, job.progress, job.folder.resolve()
    shards = trials.shards_of(job.trials, datasets)
    needs = {t.id: trials.needs(t, datasets[t.dataset]) for t in job.trials}
    live = {t.dataset for t in job.trials if needs[t.id].student_test is None}
    light = {name: d if name in live else d.without_images() for name, d in datasets.items()}
    bank_bytes = sum(trials.shard_bytes(shard, encoder, datasets) for shard, encoder in shards.items())
    for line in connection.lines(bank_bytes):
        console.print(line, highlight=False, soft_wrap=True)
    if how.device == "auto" and not connection.cpus:
        raise InputError("--device auto on a cluster without a worker yet; expected: --device cuda or --device cpu")
    device = device_of(how.device, connection)
    if how.address == LOCAL:
        local_device(device)
    if lacking := lacking_room(device, how.trial, how.extraction):
        if how.address == LOCAL:
            raise InputError("; ".join(lacking))
        console.print(f"waiting for larger nodes: {'; '.join(lacking)}", highlight=False, soft_wrap=True)
    work = Work({t.id: t for t in job.trials}, needs, light, device, how.diagnostics)
    with progress:
        store = start_store(folder, how.attempts)
        heads_of = trials.text_heads_of(job.trials)
        refs, heads = bank(shards, heads_of, datasets, job.cache, device, how.extraction, progress)
        return run_trials(
            work,
            [t.id for t in job.trials],
            refs,
            heads,
            store,
            folder,
            progress,
            share=how.trial,
            max_concurrent=how.max_concurrent,
            track=how.track,
        )


def _cpus(how: How) -> int:
    """CPUs that a local Ray may use where the trials at a time are bounded; never more than there are."""
    wanted = max((how.max_concurrent or 1) * how.trial.cpus, how.extraction.cpus)
    return min(wanted, os.cpu_count() or 1)


def local_device(device: Device) -> str:
    """The device of this machine that ``--device`` means.

    Raises:
        InputError: this machine has none such.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return "cuda" if there["cuda"] else "cpu"
    if not there[device]:
        raise InputError(
            f"--device {device}: this machine has none; expected: {', '.join(d for d in there if there[d])}"
        )
    return device


def _gist(reason: str) -> str:
    """The line of a traceback that names the exception, without the notes behind it; else the last line."""
    lines = reason.rstrip().splitlines() or ["failed before"]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return (named or lines)[-1]


def _tell_failures(failures: Mapping[str, str], spec: Spec, folder: Path) -> int:
    by_id = {t.id: t for t in spec.trials}
    head = f"{len(failures)} of {len(spec.trials)} trials failed"
    print(f"{head}; the same command with --retry-failed tries them again:", file=sys.stderr)
    for trial_id, reason in failures.items():
        trial = by_id[trial_id]
        print(
            f"  {trial.dataset} {trial.teacher} {trial.student} {trial.selector} seed {trial.seed}: {_gist(reason)} "
            f"({folder / results.FAILURES / trial_id}.txt)",
            file=sys.stderr,
        )
    return EXIT_FAILED
