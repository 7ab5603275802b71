"""The command line of the measurements of speed."""

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bench.settings import Device, cache_folder, default_slots, default_spec, local_device, local_slots
from bench.spec import read_spec
from bench.speed.bars import Bar, print_bars
from bench.terminal import EXIT_FAILED, Version, command_line, console, examples, user_errors

app = command_line()

SpecName = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC", help="A name in bench/specs or a path of a TOML file; else $ACTIVEKD_SPEC, else demo."
    ),
]
Repeats = Annotated[int, typer.Option(min=1, metavar="N", help="Counted repetitions; the median is shown.")]


@app.command(epilog=examples("activekd speed demo"))
def demo(repeats: Repeats = 5) -> None:
    """A training step of the demo, with and without the bank.

    Of its end-to-end student: teacher features banked, and the teacher run at every step.
    """
    with user_errors():
        from bench.speed.training import distillation_step

        banked, live = distillation_step(repeats)
        table = Table("teacher", "ms a step", "ratio", title="training step of the demo's end-to-end student")
        table.add_row("live at every step", f"{1000 * live:.1f}", "1.00")
        table.add_row("banked features", f"{1000 * banked:.1f}", f"{banked / live:.2f}")
        console.print(table)
        _print_machine("1 thread", f"median of {repeats}")


@app.command(epilog=examples("activekd speed train --repeats 1"))
def train(repeats: Repeats = 3) -> None:
    """A training step of the paper, with and without the bank.

    At 224 px from JPEG files: banked features, and CLIP RN50 at every step.
    """
    with user_errors():
        from bench.speed.training import PAPER_STEP, paper_steps

        threads = _use_all_threads()
        steps = paper_steps(repeats)
        whole = {way: sum(step.values()) for way, step in steps.items()}
        table = Table("seconds", *(f"teacher {way}" for way in steps), title=PAPER_STEP)
        for part in steps["live"]:
            table.add_row(part, *(f"{step[part]:.2f}" for step in steps.values()))
        table.add_row("whole step", *(f"{seconds:.2f}" for seconds in whole.values()))
        table.add_row("ratio", *(f"{seconds / whole['live']:.2f}" for seconds in whole.values()))
        console.print(table)
        _print_machine(threads, f"median of {repeats}")


@app.command(epilog=examples("activekd speed selectors --rows 200000 --picks 200"))
def selectors(
    rows: Annotated[
        int, typer.Option(min=20_000, metavar="N", help="Images of the large pools; ImageNet's by default.")
    ] = 1_281_167,
    picks: Annotated[int, typer.Option(min=10, metavar="N", help="Query size.")] = 1000,
    device: Annotated[Device, typer.Option(help="Where the pools are.")] = "cpu",
) -> None:
    """The strategies at ImageNet's size.

    Some against plain forms, every one against greedy k-center. An hour and 16 GB at full size. Exit code 1 where a bar
    is missed.
    """
    with user_errors():
        from bench.speed.selectors import selector_bars
        from bench.speed.strategies import print_growth, strategy_bars

        there, threads = local_device(device), _use_all_threads()
        bars = _shown(chain(selector_bars(rows, picks, there, console), strategy_bars(rows, picks, there)))
        print_growth(there, console)
        _judge(bars, there, threads)


@app.command(
    epilog=examples(
        "activekd speed grid",
        "activekd speed grid --trials 500 --no-work",
    )
)
def grid(
    trials: Annotated[int, typer.Option(min=10, metavar="N", help="Idle trials.")] = 5000,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds of each.")] = 8,
    work: Annotated[bool, typer.Option(help="Also run the demo, on Ray and in serial processes.")] = True,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="Times that the demo runs in the order serial, Ray, Ray, serial.")
    ] = 1,
) -> None:
    """The cost of the grid itself.

    How soon it answers, idle trials against bare Ray Tune, memory shared by trials, the demo on Ray. Half an hour or
    more at full size. Exit code 1 where a bar is missed.
    """
    with user_errors():
        from bench.speed.commands import demo_bar, first_row_bar, help_bar, wrong_spec_bar
        from bench.speed.grid import idle_bars, sharing_bar

        def bars() -> Iterable[Bar]:
            yield help_bar()
            yield wrong_spec_bar()
            yield from idle_bars(trials, rounds)
            yield sharing_bar()
            if work:
                yield first_row_bar()
                yield demo_bar(repeats, lambda line: console.print(line, highlight=False))

        _judge(_shown(bars()))


@app.command(epilog=examples("activekd speed report --trials 1000"))
def report(
    trials: Annotated[int, typer.Option(min=480, metavar="N", help="Trials of the synthetic run.")] = 5000,
    rounds: Annotated[int, typer.Option(min=2, metavar="N", help="Rounds of each.")] = 16,
) -> None:
    """Seconds and memory of a large report.

    Of a run of thousands of trials. Exit code 1 where a bar is missed.
    """
    with user_errors():
        from bench.speed.report import report_bars

        _judge(report_bars(trials, rounds))


@app.command(
    epilog=examples(
        "activekd speed throughput paper",
        "activekd speed throughput full-adapter --slots 8 --save h100.toml",
    )
)
def throughput(
    spec: SpecName = None,
    slots: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trials at a time [default: one per CPU]")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the networks run.")] = "auto",
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Save the rates, for `activekd plan --rates`.")
    ] = None,
) -> None:
    """The rates of a spec's tasks here, and its hours.

    Networks have random weights, and data are noise; neither data sets nor weights need be on this machine. As many
    processes measure at the same time as slots of this machine would be busy.
    """
    with user_errors():
        from bench.plan.count import estimate
        from bench.plan.hours import hours
        from bench.plan.rates import write_rates
        from bench.plan.tables import print_hours
        from bench.speed.throughput import measured_rates

        whole, there = read_spec(spec or default_spec()), local_device(device)
        share = whole.resources.trial
        n_slots = slots or max(1, default_slots() // share.cpus)
        estimated = estimate(whole.trials, cache_folder(), slots=n_slots, device=there)
        at_once = min(n_slots, local_slots(share, there))
        rates = measured_rates(estimated, there, console, share=share, at_once=at_once)
        if save is not None:
            write_rates(rates, save)
        print_hours(estimated, hours(estimated, rates, n_slots), share, there, console)
        _print_machine(there, f"{share.cpus} threads a slot", f"{at_once} slots measured at once")


@app.command(
    epilog=examples(
        "activekd speed plan",
        "activekd speed plan caltech-real --only seed=0,teacher=none",
    )
)
def plan(
    spec: SpecName = None,
    only: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE,...", help="The trials to run; `all` runs every trial.")
    ] = "seed=0",
    device: Annotated[Device, typer.Option(help="Where the trials run.")] = "auto",
) -> None:
    """A plan against itself, and against a run of its trials.

    Minutes, or as long as the trials take. Exit code 1 where a bar is missed.
    """
    with user_errors():
        from bench.speed.planned import plan_bars

        name, there = spec or default_spec(), local_device(device)
        bars = plan_bars(name, None if only == "all" else only, there, console)
        _judge(_shown(bars), there)


@app.command(
    epilog=examples(
        "activekd speed gpu --device cpu",
        "activekd speed gpu",
    )
)
def gpu(device: Annotated[Device, typer.Option(help="Where to measure; `cpu` has rows of its own.")] = "auto") -> None:
    """Fits, rendering, extraction and selection on one device.

    Each against a rate of the same run; five minutes. Networks have random weights, images and features are
    synthetic. Exit code 1 where a bar is missed.
    """
    with user_errors():
        from bench.speed.gpu import gpu_bars, name_of

        there = local_device(device)
        _judge(gpu_bars(there, console), name_of(there))


@app.callback(invoke_without_command=True)
def everything(context: typer.Context, version: Version = False) -> None:
    """Measure speed on this machine. Without a command, `demo` and `train`."""
    if context.invoked_subcommand is None:
        demo()
        train()


def _shown(bars: Iterable[Bar]) -> list[Bar]:
    """The bars, each printed as it is measured."""
    out = []
    for bar in bars:
        console.print(f"{bar.what}: {bar.value:.3g}", highlight=False, soft_wrap=True)
        out.append(bar)
    return out


def _judge(bars: list[Bar], *how: str) -> None:
    """Print the bars; exit with code 1 where one is missed."""
    print_bars(bars, console)
    _print_machine(*how)
    if not all(bar.passes for bar in bars):
        raise typer.Exit(EXIT_FAILED)


def _use_all_threads() -> str:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    return f"{torch.get_num_threads()} threads"


def _print_machine(*how: str) -> None:
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("torch", "ray"))
    console.print(", ".join([platform.machine(), f"{os.cpu_count()} CPUs", *versions, *how]), highlight=False)


if __name__ == "__main__":
    app()
