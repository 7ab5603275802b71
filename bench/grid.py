"""The command line of the grid: run it or go on with it, plan it, look at its state."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from activekd.errors import InputError
from bench import store as results
from bench.report import print_rank_table, write_report
from bench.spec import Spec, Trial, read_spec
from bench.terminal import EXIT_FAILED, DecodingLines, GridProgress, console, user_errors

if TYPE_CHECKING:
    from activekd.datasets import Dataset

COMMANDS = ("run", "plan", "status")
RUNS = Path("results") / "runs"
CACHE_VARIABLE = "ACTIVEKD_CACHE"
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
Only = Annotated[str | None, typer.Option(metavar="KEY=VALUE,...", help="Only the trials that agree with all keys.")]


@app.command(
    epilog="Examples: `python -m bench.grid` · `python -m bench.grid demo --only dataset=digits,seed=0 --out /tmp/one` "
    "· `python -m bench.grid demo --serial --only selector=pcoreset` · `python -m bench.grid paper --address auto`"
)
def run(
    spec: SpecName = None,
    out: Annotated[Path | None, typer.Option(help="Results folder [default: results/runs/SPEC]")] = None,
    serial: Annotated[bool, typer.Option("--serial", help="Without Ray, in this process, for a debugger.")] = False,
    only: Only = None,
    address: Annotated[
        str, typer.Option(help="Ray cluster: local starts one here, auto joins the running one.")
    ] = "local",
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Trials at a time [default: one a CPU]")] = None,
    device: Annotated[
        Device, typer.Option(help="Where networks run; auto takes cuda where there is a GPU, else cpu.")
    ] = "auto",
    gpus_per_trial: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of a GPU that a trial takes, with --device cuda.")
    ] = 1.0,
) -> None:
    """Run a grid, or go on with it where it stopped; end with the report."""
    with user_errors("interrupted; the rows so far are stored, and the same command goes on from there"):
        how = How(serial, address, max_concurrent, device, gpus_per_trial)
        raise typer.Exit(_run(spec, out, only, how))


@dataclass(frozen=True)
class How:
    """The options of a run that do not change what is run."""

    serial: bool
    address: str
    max_concurrent: int | None
    device: Device
    gpus_per_trial: float


def _run(source: str | None, out: Path | None, only: str | None, how: How) -> int:
    from bench.checks import check, check_networks

    whole = read_spec(source)
    spec = whole.only(only) if only else whole
    folder = out or RUNS / whole.name
    cache = cache_folder()
    datasets = check(spec.trials, cache, DecodingLines())
    fingerprints = {name: dataset.fingerprint for name, dataset in datasets.items()}
    with results.exclusive(folder, LOCK):
        results.check_belongs(folder, whole.name, [t.id for t in whole.trials], fingerprints)
        planned = [_planned(t, datasets.get(t.dataset)) for t in whole.trials]
        results.write_plan(folder, whole.name, planned, fingerprints)
        stored = {(row["trial_id"], row["round"]) for row in results.stored_rows(folder)}
        missing = [t for t in spec.trials if any((t.id, index) not in stored for index in range(t.rounds))]
        rounds = [(t.id, index) for t in spec.trials for index in range(t.rounds)]
        progress = GridProgress(
            len(spec.trials), len(spec.trials) - len(missing), len(rounds), sum(cell in stored for cell in rounds)
        )
        console.print(
            f"{whole.name}: {len(spec.trials)} trials, {len(rounds)} rounds; {len(missing)} trials to do; {folder}",
            highlight=False,
            soft_wrap=True,
        )
        failures: Mapping[str, str] = {}
        if missing:
            check_networks(missing)
            if how.serial:
                _run_serial(missing, datasets, cache, folder, progress, how)
            else:
                failures = _run_on_ray(missing, datasets, cache, folder, progress, how)
        if failures:
            return _tell_failures(failures, spec, folder)
        report = write_report(results.read_run(folder).restricted_to([t.id for t in spec.trials]), folder)
    print_rank_table(report, console)
    return 0


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

    shards = trials.shards_of(missing, datasets)
    wanted_heads = trials.text_heads_of(missing)
    store = results.Store(folder)
    with progress:
        banked = {}
        for done, (shard, encoder) in enumerate(shards.items(), start=1):
            banked[shard.key] = trials.make_shard(shard, encoder, cache, device)
            progress.banked(done, len(shards))
        heads = {key: trials.make_text_head(*key, cache, device) for key in wanted_heads}
        for trial in missing:
            progress.started(trial.id)
            dataset = datasets[trial.dataset]
            needs = trials.needs(trial, dataset)
            for row in trials.run_trial(trial, dataset, needs, banked, heads, store.rows_of(trial.id), device):
                store.append(row)
                progress.round_done(trial.id)
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
    from bench import cluster
    from bench import trial as trials

    shards = trials.shards_of(missing, datasets)
    needs = {t.id: trials.needs(t, datasets[t.dataset]) for t in missing}
    live = {t.dataset for t in missing if needs[t.id].student_test is None}
    light = {name: d if name in live else d.without_images() for name, d in datasets.items()}
    bank_bytes = sum(trials.shard_bytes(shard, encoder, datasets) for shard, encoder in shards.items())
    cluster.connect(how.address, n_cpus=how.max_concurrent, bank_bytes=bank_bytes)
    try:
        device = how.device if how.device != "auto" else "cuda" if cluster.has_gpu() else "cpu"
        if how.address == cluster.LOCAL:
            local_device(device)
        gpus = how.gpus_per_trial if device == "cuda" else 0.0
        work = cluster.Work({t.id: t for t in missing}, needs, light, cache, device, gpus)
        with progress:
            refs, heads = cluster.bank(shards, trials.text_heads_of(missing), work, progress)
            ids = [t.id for t in missing]
            return cluster.run(work, ids, refs, heads, folder.resolve(), progress, max_concurrent=how.max_concurrent)
    finally:
        cluster.disconnect()


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


def _tell_failures(failures: Mapping[str, str], spec: Spec, folder: Path) -> int:
    by_id = {t.id: t for t in spec.trials}
    (folder / results.FAILURES).mkdir(exist_ok=True)
    print(f"{len(failures)} of {len(spec.trials)} trials failed; the same command tries them again:", file=sys.stderr)
    for trial_id, traceback in failures.items():
        trial = by_id[trial_id]
        path = folder / results.FAILURES / f"{trial_id}.txt"
        path.write_text(traceback, encoding="utf-8")
        print(
            f"  {trial.dataset} {trial.teacher} {trial.student} {trial.selector} seed {trial.seed}: {path}",
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
    with user_errors():
        found = results.read_run(run)
        missing = found.holes.groupby("trial_id").size()
        trials = found.plan["trial_id"].nunique()
        console.print(
            f"{found.name}: {trials - len(missing)} of {trials} trials, {len(found.rows)} of {len(found.plan)} rounds"
        )
        by = ["dataset", "teacher", "student"]
        table = Table(*by, "rounds done", "rounds")
        done = found.rows.groupby(by).size()
        for key, planned in found.plan.groupby(by).size().items():
            table.add_row(*(str(part) for part in key), str(done.get(key, 0)), str(planned))  # pyright: ignore[reportGeneralTypeIssues]
        console.print(table)
        for path in sorted((run / results.FAILURES).glob("*.txt")):
            console.print(f"failed: {path}")


def main(arguments: Sequence[str]) -> None:
    """Run the command line; what is no command is taken for the SPEC of ``run``."""
    is_command = bool(arguments) and (arguments[0] in COMMANDS or arguments[0] in {"--help", "-h"})
    app(list(arguments) if is_command else ["run", *arguments])


if __name__ == "__main__":
    main(sys.argv[1:])
