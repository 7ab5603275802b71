"""The command line of the grid: run it or go on with it, plan it, look at its state."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError
from rich.table import Table

from activekd.errors import InputError
from bench import store as results
from bench.spec import Share, Spec, Trial, read_spec
from bench.terminal import EXIT_FAILED, LINE_SECONDS, DecodingLines, GridProgress, console, user_errors

if TYPE_CHECKING:
    from activekd.datasets import Dataset
    from bench.runs import Run

COMMANDS = ("run", "plan", "status")
CACHE_VARIABLE = "ACTIVEKD_CACHE"
ADDRESS_VARIABLE = "ACTIVEKD_RAY"
DEVICE_VARIABLE = "ACTIVEKD_DEVICE"
LOCK = "grid.lock"

app = typer.Typer(
    help="Run a grid of active-learning trials on Ray Tune. `python -m bench.grid [SPEC]` is short for `run [SPEC]`.",
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

SpecName = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC", help="A name in bench/specs or a path of a TOML file; else $ACTIVEKD_SPEC, else demo."
    ),
]
Device = Literal["auto", "cpu", "cuda", "mps"]
CpusOption = Annotated[int | None, typer.Option(min=1, help="CPUs, and torch threads [default: the spec's, or 1]")]
GpusOption = Annotated[
    float | None, typer.Option(min=0, help="GPUs or a share of one, with --device cuda [default: the spec's, or 1]")
]
Only = Annotated[str | None, typer.Option(metavar="KEY=VALUE,...", help="Only the trials that agree with all keys.")]


@app.command(
    epilog="Examples: `python -m bench.grid` · `python -m bench.grid demo --only dataset=digits,seed=0 --out /tmp/one` "
    "· `python -m bench.grid demo --serial --only selector=pcoreset` · `python -m bench.grid paper --address auto` · "
    "`python -m bench.grid paper --device cuda --gpus-per-trial 0.25 --track tensorboard`"
)
def run(
    spec: SpecName = None,
    out: Annotated[Path | None, typer.Option(help="Results folder [default: results/runs/SPEC]")] = None,
    serial: Annotated[bool, typer.Option("--serial", help="Without Ray, in this process, for a debugger.")] = False,
    only: Only = None,
    address: Annotated[
        str,
        typer.Option(envvar=ADDRESS_VARIABLE, help="Ray cluster: local starts one here, auto joins the running one."),
    ] = "local",
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Trials at a time [default: all that fit]")] = None,
    device: Annotated[
        Device,
        typer.Option(
            envvar=DEVICE_VARIABLE, help="Where networks run; auto takes cuda where there is a GPU, else cpu."
        ),
    ] = "auto",
    cpus_per_trial: CpusOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_extraction: CpusOption = None,
    gpus_per_extraction: GpusOption = None,
    attempts: Annotated[int, typer.Option(min=1, help="Times that a trial which raises an error is tried.")] = 3,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also try again the trials that were given up; --serial always does.")
    ] = False,
    log_every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between lines of progress where there is no terminal.")
    ] = LINE_SECONDS,
    track: Annotated[
        Literal["tensorboard", "mlflow", "wandb"] | None,
        typer.Option(help="Also tell a tracker every round; under RUN/tracking."),
    ] = None,
    dashboard_host: Annotated[
        str, typer.Option(help="Where a local Ray's dashboard listens; 0.0.0.0 opens it to the network.")
    ] = "127.0.0.1",
    spill: Annotated[
        Path | None, typer.Option(help="Where a local Ray puts what its memory cannot hold [default: CACHE/spill]")
    ] = None,
    diagnostics: Annotated[
        bool, typer.Option(help="Measure calibration, diversity and coverage too: one more prediction of the pool.")
    ] = True,
) -> None:
    """Run a grid, or go on with it where it stopped; end with the report."""
    with user_errors("interrupted; the rows so far are stored, and the same command goes on from there"):
        whole = read_spec(spec)
        how = How(
            serial,
            address,
            max_concurrent,
            device,
            _share(whole.resources.trial, cpus_per_trial, gpus_per_trial),
            _share(whole.resources.extraction, cpus_per_extraction, gpus_per_extraction),
            attempts,
            retry_failed,
            log_every,
            track,
            dashboard_host,
            (spill or cache_folder() / "spill").resolve(),
            diagnostics,
        )
        raise typer.Exit(_run(whole, out, only, how))


@dataclass(frozen=True)
class How:
    """The options of a run that do not change what is run."""

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


def _share(of_spec: Share, cpus: int | None, gpus: float | None) -> Share:
    """What the spec has, with what the command line says in its place."""
    given = {"cpus": cpus, "gpus": gpus}
    try:
        return Share.model_validate({**of_spec.model_dump(), **{k: v for k, v in given.items() if v is not None}})
    except ValidationError as fault:
        raise InputError(
            f"GPUs of a trial or an extraction: found {gpus}; allowed: at most 1, or a whole number"
        ) from fault


def _run(whole: Spec, out: Path | None, only: str | None, how: How) -> int:
    from activekd.selectors import own_code
    from bench.checks import check, find_networks, load_networks
    from bench.report import print_rank_table, write_report
    from bench.runs import read_run
    from bench.trial import distinct, size_of

    spec = whole.only(only) if only else whole
    folder = out or results.RUNS / whole.name
    cache = cache_folder()
    _check_options(how)
    datasets = check(spec.trials, cache, DecodingLines())
    codes = {name: code for name in distinct(t.selector for t in spec.trials) if (code := own_code(name))}
    sources = results.Sources({name: dataset.fingerprint for name, dataset in datasets.items()}, codes)
    with results.exclusive(folder, LOCK):
        results.check_belongs(folder, whole.name, [t.id for t in whole.trials], sources)
        planned = [_planned(t, datasets.get(t.dataset)) for t in whole.trials]
        results.write_plan(folder, whole.name, planned, sources)
        done = results.rounds_done(folder)
        missing = [t for t in spec.trials if done.get(t.id, 0) < t.rounds]
        failed = {t.id for t in missing} & set(results.read_failures(folder))
        again = failed if how.retry_failed or how.serial else set()
        failed = failed - again
        todo = [t for t in missing if t.id not in failed]
        todo.sort(key=lambda t: size_of(t, datasets[t.dataset], done.get(t.id, 0)), reverse=True)
        rounds = {t.id: t.rounds for t in spec.trials}
        kinds = {t.id: f"{t.dataset} {t.teacher} {t.student} {t.recipe_name}" for t in spec.trials}
        stored = {t.id: min(done.get(t.id, 0), t.rounds) for t in spec.trials}
        progress = GridProgress(kinds, rounds, stored, every=how.log_every)
        counts = f"{len(spec.trials)} trials, {sum(rounds.values())} rounds; {len(todo)} trials to do"
        console.print(f"{whole.name}: {counts}; {folder}", highlight=False, soft_wrap=True)
        failures = dict.fromkeys(failed, "")
        if todo:
            find_networks(todo)
            for trial_id in again:
                results.forget_failure(folder, trial_id)
            if how.serial:
                load_networks(todo)
                _run_serial(todo, datasets, cache, folder, progress, how)
            else:
                failures |= _run_on_ray(todo, datasets, cache, folder, progress, how)
        if failures:
            return _tell_failures(failures, spec, folder)
        report = write_report(read_run(folder).restricted_to([t.id for t in spec.trials]), folder)
    print_rank_table(report, console)
    return 0


def _check_options(how: How) -> None:
    if how.track and how.serial:
        raise InputError("--track with --serial; allowed: one of them, since trackers are told by Ray Tune")
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


def _run_serial(
    missing: Sequence[Trial],
    datasets: Mapping[str, "Dataset"],
    cache: Path,
    folder: Path,
    progress: GridProgress,
    how: How,
) -> None:
    from bench import trial as trials

    device = local_device(how.device)
    running = trials.Running(device, how.trial.cpus, how.diagnostics)
    shards = trials.shards_of(missing, datasets)
    wanted_heads = trials.text_heads_of(missing)
    store = results.Store(folder)
    with progress:
        banked = {}
        for done, (shard, encoder) in enumerate(shards.items(), start=1):
            banked[shard.key] = trials.make_shard(shard, encoder, cache, device, how.extraction.cpus)
            progress.banked(done, len(shards))
        heads = {
            (network, name): trials.make_text_head(network, datasets[name], cache, device, how.extraction.cpus)
            for network, name in wanted_heads
        }
        for trial in missing:
            progress.started(trial.id)
            dataset = datasets[trial.dataset]
            inputs = trials.Inputs(dataset, trials.needs(trial, dataset), banked, heads)
            for row in trials.run_trial(trial, inputs, store.begin(trial.id), running):
                store.append(row)
                progress.round_done(trial.id, results.seconds_of(row))
            progress.ended(trial.id)
    store.close()


def _run_on_ray(
    missing: Sequence[Trial],
    datasets: Mapping[str, "Dataset"],
    cache: Path,
    folder: Path,
    progress: GridProgress,
    how: How,
) -> dict[str, str]:
    from bench import trial as trials
    from bench.checks import load_networks
    from bench.cluster.banking import bank
    from bench.cluster.nodes import LOCAL, connect, disconnect, lacking_room
    from bench.cluster.running import Work, run_trials
    from bench.cluster.storing import start_store

    shards = trials.shards_of(missing, datasets)
    needs = {t.id: trials.needs(t, datasets[t.dataset]) for t in missing}
    live = {t.dataset for t in missing if needs[t.id].student_test is None}
    light = {name: d if name in live else d.without_images() for name, d in datasets.items()}
    bank_bytes = sum(trials.shard_bytes(shard, encoder, datasets) for shard, encoder in shards.items())
    try:
        # Ray takes as long to start as the networks to load.
        with ThreadPoolExecutor(max_workers=1) as beside:
            loading = beside.submit(load_networks, missing)
            connection = connect(
                how.address,
                n_cpus=how.max_concurrent and _cpus(how),
                bank_bytes=bank_bytes,
                spill=how.spill,
                dashboard_host=how.dashboard_host,
            )
            loading.result()
        for line in connection.lines(bank_bytes):
            console.print(line, highlight=False, soft_wrap=True)
        if how.device == "auto" and not connection.cpus:
            raise InputError("--device auto on a cluster without a worker yet; allowed: --device cuda or --device cpu")
        device = how.device if how.device != "auto" else "cuda" if connection.gpus else "cpu"
        if how.address == LOCAL:
            local_device(device)
        if lacking := lacking_room(device, how.trial, how.extraction):
            if how.address == LOCAL:
                raise InputError("; ".join(lacking))
            console.print(f"waiting for larger nodes: {'; '.join(lacking)}", highlight=False, soft_wrap=True)
        work = Work({t.id: t for t in missing}, needs, light, device, how.diagnostics)
        with progress:
            store = start_store(folder.resolve(), how.attempts)
            heads_of = trials.text_heads_of(missing)
            refs, heads = bank(shards, heads_of, datasets, cache, device, how.extraction, progress)
            return run_trials(
                work,
                [t.id for t in missing],
                refs,
                heads,
                store,
                folder.resolve(),
                progress,
                share=how.trial,
                max_concurrent=how.max_concurrent,
                track=how.track,
            )
    finally:
        disconnect()


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
            f"--device {device}: this machine has none; allowed: {', '.join(d for d in there if there[d])}"
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


@app.command(
    epilog="Examples: `python -m bench.grid plan paper` · `python -m bench.grid plan full --images-per-second 900 "
    "--slots 8` · `python -m bench.grid plan demo --measure`"
)
def plan(
    spec: SpecName = None,
    only: Only = None,
    images_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Images a second of one trial's training, for an estimate of hours.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the throughput of every network here, with random weights.")
    ] = False,
    slots: Annotated[int | None, typer.Option(min=1, help="Trials at a time [default: one a CPU]")] = None,
    device: Annotated[Device, typer.Option(help="Where --measure runs the networks.")] = "auto",
) -> None:
    """Say what a grid would take: trials, fits, settings, steps, sizes, hours. Nothing is started.

    Data sets of the benchmark and pretrained weights need not be on this machine.
    """
    with user_errors():
        from bench import plan as planning

        if measure and images_per_second is not None:
            raise InputError("--measure and --images-per-second; allowed: one of them")
        whole = read_spec(spec)
        chosen = whole.only(only) if only else whole
        made = planning.make_plan(chosen.trials, cache_folder())
        throughput = None
        if images_per_second is not None:
            throughput = planning.given_throughput(made, images_per_second)
        elif measure:
            throughput = planning.measured_throughput(made, local_device(device))
        planning.print_plan(whole.name, made, throughput, slots or planning.default_slots(), console)


@app.command(epilog="Example: `python -m bench.grid status results/runs/demo`")
def status(run: Annotated[Path, typer.Argument(metavar="RUN", help="A results folder.")]) -> None:
    """Say how far a grid is: trials and rounds done, what is missing, what has failed."""
    from bench.runs import read_run

    with user_errors():
        found = read_run(run)
        missing = found.holes.groupby("trial_id").size()
        trials = found.plan["trial_id"].nunique()
        console.print(
            f"{found.name}: {trials - len(missing)} of {trials} trials, {len(found.rows)} of {len(found.plan)} rounds; "
            f"{_activity(found, run)}",
            highlight=False,
            soft_wrap=True,
        )
        by = ["dataset", "teacher", "student"]
        table = Table(*by, "rounds done", "rounds")
        done = found.rows.groupby(by).size()
        for key, planned in found.plan.groupby(by).size().items():
            table.add_row(*(str(part) for part in key), str(done.get(key, 0)), str(planned))  # pyright: ignore[reportGeneralTypeIssues]
        console.print(table)
        for path in sorted((run / results.FAILURES).glob("*.txt")):
            console.print(f"failed: {path}")


def _activity(found: "Run", run: Path) -> str:
    """Whether a grid is at work on a results folder, on how many trials, and how long it has left."""
    if not results.in_use(run, LOCK):
        return "no grid is running"
    given_up = set(results.read_failures(run))
    running = results.begun(run) & set(found.holes["trial_id"]) - given_up
    by = ["dataset", "teacher", "student", "recipe"]
    seconds = found.rows.assign(seconds=found.rows[list(results.SECONDS)].sum(axis=1)).groupby(by)["seconds"].mean()
    left = found.holes[~found.holes["trial_id"].isin(given_up)].groupby(by).size()
    if seconds.empty or not running:
        return "a grid is running"
    work = float((left * seconds.reindex(left.index).fillna(seconds.mean())).sum())
    return f"a grid is running, {len(running)} trials at a time, ETA {timedelta(seconds=round(work / len(running)))}"


def main(arguments: Sequence[str]) -> None:
    """Run the command line; what is no command is taken for the SPEC of ``run``."""
    is_command = bool(arguments) and (arguments[0] in COMMANDS or arguments[0] in {"--help", "-h"})
    app(list(arguments) if is_command else ["run", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
