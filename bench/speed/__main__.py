"""Claims about speed as ratios, each measured against the plain way in the same run."""

import os
import platform
from typing import Annotated, Literal

import torch
import typer
from rich.table import Table

from bench import speed_grid
from bench.launch import local_device
from bench.speed import report as speed_report
from bench.speed import selectors as speed_selectors
from bench.speed.training import PAPER_STEP, distillation_step, paper_steps
from bench.terminal import EXIT_FAILED, console, user_errors

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")

Repeats = Annotated[int, typer.Option(min=1, help="Counted repetitions; the median is shown.")]


@app.command(epilog="Example: `python -m bench.speed demo`")
def demo(repeats: Repeats = 5) -> None:
    """A training step of the demo's end-to-end student: teacher features banked, and teacher run at every step."""
    with user_errors():
        banked, live = distillation_step(repeats)
        table = Table("teacher", "ms a step", "ratio", title="training step of the demo's end-to-end student")
        table.add_row("live at every step", f"{1000 * live:.1f}", "1.00")
        table.add_row("banked features", f"{1000 * banked:.1f}", f"{banked / live:.2f}")
        console.print(table)
        _tell_machine(repeats)


@app.command(epilog="Example: `python -m bench.speed train --repeats 1`")
def train(repeats: Repeats = 3) -> None:
    """A training step of the paper's recipe at 224 px from JPEG files: banked features, and CLIP RN50 at every step."""
    with user_errors():
        torch.set_num_threads(os.cpu_count() or 1)
        steps = paper_steps(repeats)
        whole = {name: sum(step.values()) for name, step in steps.items()}
        table = Table("seconds", *(f"teacher {name}" for name in steps), title=PAPER_STEP)
        for part in steps["live"]:
            table.add_row(part, *(f"{step[part]:.2f}" for step in steps.values()))
        table.add_row("whole step", *(f"{seconds:.2f}" for seconds in whole.values()))
        table.add_row("ratio", *(f"{seconds / whole['live']:.2f}" for seconds in whole.values()))
        console.print(table)
        _tell_machine(repeats)


@app.command(epilog="Example: `python -m bench.speed selectors --rows 200000 --picks 200`")
def selectors(
    rows: Annotated[int, typer.Option(min=20_000, help="Images of the large pools.")] = speed_selectors.IMAGENET,
    picks: Annotated[int, typer.Option(min=10, help="Labels asked for.")] = 1000,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the pools are.")] = "cpu",
) -> None:
    """The strategies at ImageNet's size against their plain forms; half an hour and 16 GB at full size."""
    with user_errors():
        local_device(device)
        torch.set_num_threads(os.cpu_count() or 1)
        cases = speed_selectors.measure(rows, picks, device, console)
        speed_selectors.growth(device, console)
        speed_selectors.print_cases(cases, console)
        _tell_machine(1)
        if not all(case.passes for case in cases):
            raise typer.Exit(EXIT_FAILED)


@app.command(epilog="Example: `python -m bench.speed grid --trials 500`")
def grid(
    trials: Annotated[int, typer.Option(min=speed_grid.POINTS, help="Trials of the idle grid.")] = 5000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each.")] = 8,
    work: Annotated[bool, typer.Option(help="Also run the demo, on Ray and in serial processes.")] = True,
) -> None:
    """The grid itself: against bare Ray Tune with idle students, and against serial processes with the demo's.

    Half an hour at full size.
    """
    with user_errors():
        claims = speed_grid.overhead(trials, rounds, console)
        claims.append(speed_grid.sharing(500))
        if work:
            claims.append(speed_grid.real_work(console))
        speed_grid.print_claims(claims, console)
        _tell_machine(1)
        if not all(claim.passes for claim in claims):
            raise typer.Exit(EXIT_FAILED)


@app.command(epilog="Example: `python -m bench.speed report --trials 1000`")
def report(
    trials: Annotated[int, typer.Option(min=480, help="Trials of the made-up run.")] = 5000,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of each.")] = 16,
) -> None:
    """The report of a run of thousands of trials: seconds and peak memory."""
    with user_errors():
        claims = speed_report.report_claims(trials, rounds)
        speed_grid.print_claims(claims, console)
        _tell_machine(1)
        if not all(claim.passes for claim in claims):
            raise typer.Exit(EXIT_FAILED)


@app.callback(invoke_without_command=True)
def everything(context: typer.Context) -> None:
    """Measure the claims about speed on this machine: one by name; without one, `demo` and `train`."""
    if context.invoked_subcommand is None:
        demo()
        train()


def _tell_machine(repeats: int) -> None:
    threads = torch.get_num_threads()
    console.print(
        f"{platform.machine()}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}, median of {repeats}",
        highlight=False,
    )


if __name__ == "__main__":
    app()
