"""A plan as tables: counts, data, what trials hold, rates and hours."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from bench.plan.hours import Hours
from bench.plan.memory import GB, Card, cohort_needs, step_needs, streams
from bench.plan.rates import FORWARD_SHARE, RATED, Rates, rate_of
from bench.plan.work import Estimate, Part, Task
from bench.specs.file import Share
from bench.terminal import print_notes, say

LABELS: Mapping[Part, str] = {
    "decode": "decoding into the image cache",
    "encode": "features of the bank, every view once",
    "render": "rendering of crops",
    "teacher": "fits of teachers",
    "student": "fits of students",
    "predict": "predictions",
    "select": "queries",
    "diagnose": "predictions for diagnostics",
    "measure": "diagnostics",
}


def unit_of(task: Task, estimated: Estimate) -> str:
    """What the rate of a task counts."""
    if task.part == "select":
        return "images x classes x picks"
    if task.part == "measure":
        return "images x classes"
    if task.part == "teacher" or (task.part == "student" and estimated.students[task.name].frozen):
        return "trial-steps"
    return "crops" if task.part == "render" else "images"


def print_plan(name: str, estimated: Estimate, card: Card | None, out: Console) -> None:
    """Print the counts of a plan, and what its trials hold.

    Args:
        name: of the spec.
        estimated: of the grid.
        card: on which the trials run; None for no card.
        out: where to print.
    """
    _print_counts(name, estimated, out)
    _print_data(estimated, out)
    _print_card(estimated, card, out)
    _print_cohorts(estimated, out)


def _print_counts(name: str, estimated: Estimate, out: Console) -> None:
    frozen = {name for name, student in estimated.students.items() if student.frozen}
    trained = {task: amount for task, amount in estimated.work.items() if task.part == "student"}
    table = Table(title=f"plan of {name}", show_header=False)
    for what, value in estimated.totals.items():
        table.add_row(what, f"{value:,}")
    for what, value in (
        ("images in optimiser steps, end to end", sum(n for t, n in trained.items() if t.name not in frozen)),
        ("trial-steps on frozen backbones", sum(n for t, n in trained.items() if t.name in frozen)),
        ("trial-steps of teachers", _amount(estimated, "teacher")),
        ("images in predictions, diagnostics included", _amount(estimated, "predict") + _amount(estimated, "diagnose")),
        ("images encoded for the bank, once", _amount(estimated, "encode")),
        ("images decoded, once", _amount(estimated, "decode")),
    ):
        if value:
            table.add_row(what, f"{value:,}")
    table.add_row("image cache on disk, approximate GB", f"{estimated.cache_bytes / GB:,.2f}")
    table.add_row("bank on disk and in the object store, GB", f"{estimated.bank_bytes / GB:,.2f}")
    out.print(table)


def _amount(estimated: Estimate, part: Part) -> int:
    return sum(amount for task, amount in estimated.work.items() if task.part == part)


def _print_data(estimated: Estimate, out: Console) -> None:
    table = Table("data set", "classes", "train (pool)", "val", "test", "decoded, GB", title="data")
    for dataset, size in estimated.sizes.items():
        held = estimated.images.get(dataset)
        counts = (f"{n:,}" for n in (size.n_classes, size.n_pool, size.n_val, size.n_test))
        table.add_row(dataset, *counts, "" if held is None else f"{held.n_bytes / GB:,.2f}")
    out.print(table)
    for dataset, n_draws in estimated.draws.items():
        if n_draws > 1:
            say(f"{dataset}: {n_draws} pools are drawn, one per seed", out)
    print_notes({dataset: size.notes for dataset, size in estimated.sizes.items()}, out)


def _print_card(estimated: Estimate, card: Card | None, out: Console) -> None:
    if all(student.frozen for student in estimated.students.values()):
        return
    if card is None:
        say(
            "device memory of a training step, micro-batches and streams: give the memory of a card, as --card-gb 80",
            out,
        )
        return
    from activekd.bank.held import HELD_SHARE

    table = Table(
        "student", "images a step", "GB", "micro-batches", title="device memory of a training step, end to end"
    )
    needs = step_needs(estimated, card)
    for student, need in needs.items():
        table.add_row(student, f"{need.images:,}", f"{need.n_bytes / GB:,.2f}", str(need.micro_batches or "none fits"))
    out.print(table)
    for student, need in needs.items():
        if need.fault:
            say(f"{student}: {need.fault}", out)
    which = [dataset for dataset, does in streams(estimated, card).items() if does]
    say(
        f"a trial has {card.of_trial / GB:,.1f} GB of a card of {card.n_bytes / GB:g} GB, and holds decoded images "
        f"there of up to {HELD_SHARE * card.of_trial / GB:,.1f} GB; those that stream: {', '.join(which) or 'none'}",
        out,
    )


def _print_cohorts(estimated: Estimate, out: Console) -> None:
    table = Table(
        "student", "cohorts", "members", "fitted together", "fits, GB at most", "features, GB at most", title="cohorts"
    )
    for student, need in cohort_needs(estimated).items():
        sizes = (f"{n:,}" for n in (need.cohorts, need.members, need.together))
        table.add_row(student, *sizes, f"{need.fit_bytes / GB:.2f}", f"{need.feature_bytes / GB:,.2f}")
    if table.rows:
        out.print(table)


def print_rates(estimated: Estimate, rates: Rates, out: Console) -> None:
    """Print the rates that the plan uses, as a table, and which are assumed."""
    table = Table("what", "of", "size", "together", "a second", "unit", title="rates of one slot")
    for part in RATED:
        for task in sorted(rates):
            if task.part == part:
                example = estimated.examples.get(task)
                together = "" if example is None or example.members == 1 else str(example.members)
                table.add_row(
                    LABELS[task.part],
                    task.name,
                    str(task.size or ""),
                    together,
                    f"{rates[task]:,.4g}",
                    unit_of(task, estimated),
                )
    out.print(table)
    assumed = [
        task.name
        for task in estimated.work
        if task.part == "predict" and task not in rates and rate_of(task, rates, estimated) is not None
    ]
    if assumed:
        say(f"assumed: a forward pass costs {FORWARD_SHARE:.2g} of a training step ({', '.join(assumed)})", out)


def print_hours(estimated: Estimate, spent: Hours, share: Share, device: str, out: Console) -> None:
    """Print the hours of a grid, and the tasks that they leave out.

    Args:
        estimated: of the grid.
        spent: its hours.
        share: of a machine that a trial takes.
        device: ``cpu``, ``cuda`` or ``mps``, where the trials run.
        out: where to print.
    """
    table = Table("", "hours", title="hours of one slot, that is of one trial at a time on its share of a device")
    for part, label in LABELS.items():
        if part in spent.parts:
            table.add_row(label, f"{spent.parts[part]:,.4g}")
    for student, value in spent.students.items() if len(spent.students) > 1 else ():
        table.add_row(f"trials of {student}", f"{value:,.4g}")
    table.add_row("one slot, all in turn", f"{spent.total:,.4g}")
    of_cpu = f"CPU-hours, {share.cpus} a trial", spent.total * share.cpus
    of_card = f"device-hours, {share.gpus:g} of a card a trial", spent.total * share.gpus
    what, value = of_cpu if device == "cpu" else of_card
    table.add_row(what, f"{value:,.4g}")
    longest = ", as long as the longest job" if spent.wall == spent.longest else ""
    table.add_row(f"{spent.slots} slots at a time{longest}", f"{spent.wall:,.4g}")
    out.print(table)
    for part, label in LABELS.items():
        names = [task.name for task in spent.unknown if task.part == part]
        if names:
            amount = sum(n for task, n in spent.unknown.items() if task.part == part)
            unit = unit_of(next(task for task in spent.unknown if task.part == part), estimated)
            say(
                f"not counted, for lack of a rate: {label}, {amount:,} {unit} ({', '.join(dict.fromkeys(names))})",
                out,
            )
