"""The command line of a grid: write its spec, plan it, run or resume it, show its state."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.table import Table

from activekd.errors import InputError, unknown
from activekd.folders import user_path
from bench.settings import (
    ADDRESS_VARIABLE,
    DEVICE_VARIABLE,
    LOCK,
    Device,
    Options,
    cache_folder,
    default_slots,
    default_spec,
    local_device,
)
from bench.spec import SPEC_NAMES, is_spec, read_spec
from bench.specs.file import Share
from bench.store import folder as store
from bench.store.locks import in_use
from bench.terminal import (
    EXIT_INPUT,
    LINE_SECONDS,
    Version,
    command_line,
    console,
    examples,
    failure_line,
    say,
    user_errors,
)

COMMANDS = ("init", "plan", "run", "status", "list")

app = command_line()

SpecName = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC", help="A name in bench/specs or the path of a TOML file [default: $ACTIVEKD_SPEC, else demo]"
    ),
]
CpusOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="CPUs, and torch threads [default: the spec's, or 1]")
]
GpusOption = Annotated[
    float | None,
    typer.Option(min=0, metavar="SHARE", help="GPUs or a share of one, with --device cuda [default: the spec's, or 1]"),
]
Only = Annotated[str | None, typer.Option(metavar="KEY=VALUE,...", help="Only the trials that match every key.")]


@app.callback()
def about(version: Version = False) -> None:
    """Run a grid of active-learning trials on Ray Tune. Without a command, `run`."""


@app.command(epilog=examples("activekd init birds.toml --data photos/birds", "activekd init first.toml"))
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The spec to write.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Your images: a folder per class, or train/ and test/ of that form."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented spec for your images. Without a folder, it is a small one on embedded digits."""
    with user_errors():
        path = user_path(str(file), "the spec")
        if data is not None:
            say(f"{data}: looking at its images and for weights of teachers")
        from bench.specs.writing import write_spec

        for line in write_spec(path, data, replace=force):
            say(line)
        say(f"wrote {file}; next: activekd plan {file}, then activekd run {file}")


@app.command(
    epilog=examples(
        "activekd run",
        "activekd run demo --only dataset=digits,seed=0 --out /tmp/one",
        "activekd run demo --serial --only selector=pcoreset",
        "activekd run paper --address auto",
        "activekd run paper --device cuda --gpus-per-trial 0.25 --track tensorboard",
    )
)
def run(
    spec: SpecName = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Results folder [default: results/runs/SPEC]")
    ] = None,
    serial: Annotated[bool, typer.Option("--serial", help="Run without Ray, in this process: for a debugger.")] = False,
    only: Only = None,
    address: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            envvar=ADDRESS_VARIABLE,
            help="Ray cluster: local starts one, auto or HOST:PORT joins one.",
        ),
    ] = "local",
    max_concurrent: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Trials, or cohorts of them, at a time [default: all that fit]"),
    ] = None,
    device: Annotated[
        Device,
        typer.Option(envvar=DEVICE_VARIABLE, help="Where networks run; auto is cuda if there is a GPU, else cpu."),
    ] = "auto",
    cpus_per_trial: CpusOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_extraction: CpusOption = None,
    gpus_per_extraction: GpusOption = None,
    attempts: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Attempts for each round of a trial that raises an error; one if it says what to change.",
        ),
    ] = 3,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Also retry trials that were given up, as --serial does.")
    ] = False,
    replace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SELECTOR",
            help="First drop the stored rows of this selector, whose code has changed, and keep them in a file; may be "
            "given several times.",
        ),
    ] = None,
    log_every: Annotated[
        float,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Seconds between progress lines when the output is not a terminal."
        ),
    ] = LINE_SECONDS,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show Ray's nodes, object store and dashboard.")
    ] = False,
    track: Annotated[
        Literal["tensorboard", "mlflow", "wandb"] | None,
        typer.Option(
            help="Also report every round to a tracker; its files are in RUN/tracking. Each trial then runs without a "
            "cohort."
        ),
    ] = None,
    dashboard_host: Annotated[
        str,
        typer.Option(metavar="HOST", help="Where a local Ray's dashboard listens; 0.0.0.0 opens it to the network."),
    ] = "127.0.0.1",
    spill: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for objects that do not fit into a local Ray's memory [default: CACHE/spill]"
        ),
    ] = None,
    diagnostics: Annotated[
        bool, typer.Option(help="Also measure calibration, diversity and coverage: one more prediction of the pool.")
    ] = True,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Only deterministic algorithms on a GPU: two runs on one card give equal rows, at some cost. The CPU "
            "has no others.",
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option(help="Write tables, figures and pages at the end, as `activekd report RUN` does.")
    ] = True,
) -> None:
    """Run a grid, or resume it; then write the report.

    Every trial resumes from its next missing round.
    """
    with user_errors("interrupted: the rows so far are stored. Resume with the same command."):
        whole = read_spec(spec or default_spec())
        say(f"{whole.name}: checking data and weights")
        from bench.launch import launch

        options = Options(
            serial=serial,
            address=address,
            max_concurrent=max_concurrent,
            device=device,
            trial=_share(whole.resources.trial, "trial", cpus_per_trial, gpus_per_trial),
            extraction=_share(whole.resources.extraction, "extraction", cpus_per_extraction, gpus_per_extraction),
            attempts=attempts,
            retry_failed=retry_failed,
            replace=tuple(dict.fromkeys(replace or ())),
            log_every=log_every,
            verbose=verbose,
            track=track,
            dashboard_host=dashboard_host,
            spill=(_folder(spill, "--spill") or cache_folder() / "spill").resolve(),
            diagnostics=diagnostics,
            deterministic=deterministic,
            report=report,
        )
        raise typer.Exit(launch(whole, only, _folder(out, "--out") or store.RUNS / whole.name, options))


def _folder(given: Path | None, option: str) -> Path | None:
    return None if given is None else user_path(str(given), option)


def _share(of_spec: Share, task: str, cpus: int | None, gpus: float | None) -> Share:
    """The spec's share of a task, with the values of the command line where given."""
    given = {"cpus": cpus, "gpus": gpus}
    try:
        return Share.model_validate({**of_spec.model_dump(), **{k: v for k, v in given.items() if v is not None}})
    except ValidationError as fault:
        raise InputError(f"--gpus-per-{task} {gpus:g}; expected: at most 1, or a whole number") from fault


@app.command(
    epilog=examples(
        "activekd plan paper",
        "activekd plan full-adapter --rates h100.toml",
        "activekd plan paper --rate resnet18=12000 --card-gb 80 --slots 8",
    )
)
def plan(
    spec: SpecName = None,
    only: Only = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PER_SECOND",
            help="Rate of one trial on its share of a device: of a student, images in optimiser steps (on a frozen "
            "backbone trial-steps of a cohort), of a teacher network, images encoded; may be given several times.",
        ),
    ] = None,
    rates: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Rates, as `activekd speed throughput --save` writes them."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trials at a time [default: one per CPU]")
    ] = None,
    cpus_per_trial: CpusOption = None,
    gpus_per_trial: GpusOption = None,
    device: Annotated[
        Device, typer.Option(help="Where networks run, here or elsewhere; auto is cuda if there is a GPU, else cpu.")
    ] = "auto",
    card_gb: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="GB", help="Memory of a card: says micro-batches, and which images stream to it."
        ),
    ] = None,
    diagnostics: Annotated[bool, typer.Option(help="Count what the diagnostics of `run` predict.")] = True,
) -> None:
    """Print the cost of a grid without starting it.

    Trials, fits, steps, sizes, memory and, at given rates, hours.

    The benchmark's data sets and pretrained weights need not be on this machine. `activekd speed throughput`
    measures the rates on this machine, and can save them.
    """
    with user_errors():
        from bench.plan.count import estimate
        from bench.plan.hours import hours
        from bench.plan.memory import Card
        from bench.plan.rates import given_rates, read_rates
        from bench.plan.tables import print_hours, print_plan, print_rates

        whole = read_spec(spec or default_spec())
        chosen = whole.only(only) if only else whole
        share = _share(whole.resources.trial, "trial", cpus_per_trial, gpus_per_trial)
        stored = read_rates(rates) if rates else {}
        n_slots = slots or max(1, default_slots() // share.cpus)
        there = local_device(device) if device == "auto" else device
        cost = estimate(chosen.trials, cache_folder(), slots=n_slots, device=there, diagnostics=diagnostics)
        known = {**stored, **given_rates(rate or [], cost)}
        card = Card(card_gb * 1e9, share.gpus) if card_gb else None
        print_plan(whole.name, cost, card, console)
        if known:
            print_rates(cost, known, console)
            print_hours(cost, hours(cost, known, n_slots), share, there, console)
        else:
            name = spec or default_spec()
            say(f"hours: give --rate or --rates (and --slots), or measure: activekd speed throughput {name}")


@app.command(
    epilog=examples(
        "activekd status",
        "activekd status paper",
        "activekd status results/runs/demo",
    )
)
def status(
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="A results folder, its name in results/runs, or a spec [default: $ACTIVEKD_SPEC, else demo]",
        ),
    ] = None,
) -> None:
    """Show rounds done, time left and failures of a grid."""
    with user_errors():
        from bench.store.activity import activity
        from bench.store.table import read_run

        run = store.results_folder(named or default_spec())
        results = read_run(run)
        missing = results.holes.groupby("trial_id").size()
        trials = results.plan["trial_id"].nunique()
        say(
            f"{results.name}: {trials - len(missing)} of {trials} trials, "
            f"{len(results.rows)} of {len(results.plan)} rounds; {activity(results, run, in_use(run, LOCK))}"
        )
        by = ["dataset", "teacher", "student"]
        table = Table(*by, "rounds done", "rounds")
        done = results.rows.groupby(by).size()
        for key, planned in results.plan.groupby(by).size().items():
            table.add_row(*(str(part) for part in key), str(done.get(key, 0)), str(planned))  # pyright: ignore[reportGeneralTypeIssues]
        console.print(table)
        identities = results.plan.drop_duplicates("trial_id").set_index("trial_id").T.to_dict()
        for trial_id, why in results.failures.items():
            say(f"failed: {failure_line(identities[trial_id], why, store.failure_file(run, trial_id))}")


@app.command(name="list", epilog=examples("activekd list", "activekd list selectors"))
def list_names(
    kind: Annotated[
        Literal["specs", "selectors", "teachers", "students", "datasets", "recipes"],
        typer.Argument(metavar="KIND", help="specs, selectors, teachers, students, datasets or recipes."),
    ] = "specs",
) -> None:
    """List the specs, or what a spec may name."""
    with user_errors():
        from bench.specs.listing import listed

        for line in listed(kind):
            say(line)


def main(arguments: Sequence[str], others: Sequence[str] = ()) -> None:
    """Run the command line; arguments that name no command are those of ``run``.

    Args:
        arguments: of the command line.
        others: further commands, for suggestions.
    """
    first = arguments[0] if arguments else ""
    if first in {*COMMANDS, "--help", "-h", "--version"}:
        app(list(arguments))
    elif first.startswith("-") or not first or is_spec(first):
        app(["run", *arguments])
    else:
        known = [*COMMANDS, *others, *SPEC_NAMES, "a path of a TOML file"]
        print(f"error: {unknown('command or spec', first, known)}", file=sys.stderr)
        sys.exit(EXIT_INPUT)


if __name__ == "__main__":
    main(sys.argv[1:])
