"""The hours of a plan against what runs take: seconds of each part of the rounds, as planned and as their rows say."""

import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from activekd.errors import InputError
from activekd.students.networks import student_network
from bench.columns import SECONDS
from bench.plan.count import estimate
from bench.plan.hours import hours
from bench.plan.rates import Rates, rate_of
from bench.plan.work import Estimate, Part
from bench.settings import cache_folder, local_slots
from bench.spec import Spec, read_spec
from bench.specs.file import Share
from bench.speed.bars import Bar, print_wide
from bench.speed.commands import ROOT, command_bar
from bench.speed.throughput import measured_rates
from bench.store.table import Run, read_run
from bench.terminal import say
from bench.trials.run import provenance

LIMIT_AGAIN, LIMIT_TAKEN = 1.2, 1.5
"""Largest ratio of the larger to the smaller hours of two plans, and of a plan and its run."""

COLUMN_OF: Mapping[Part, str] = {
    "teacher": "teacher_seconds",
    "student": "train_seconds",
    "render": "train_seconds",
    "predict": "predict_seconds",
    "select": "select_seconds",
}
"""The column of a row that has the seconds of a part. No column has decoding, the bank and diagnostics."""

SHARING = ["dataset", "teacher", "student", "distillation", "recipe", "seed"]
"""Columns that are equal in trials that share the fit of round 0."""


@dataclass(frozen=True)
class Compared:
    """Seconds of one slot in the columns of rows, as planned and as taken.

    Attributes:
        what: ran.
        planned: by column.
        taken: by column.
    """

    what: str
    planned: Mapping[str, float]
    taken: Mapping[str, float]

    @property
    def bar(self) -> Bar:
        """The ratio of the larger total to the smaller."""
        planned, taken = sum(self.planned.values()), sum(self.taken.values())
        figures = f"{planned:.1f} s planned, {taken:.1f} s taken"
        return Bar(f"{self.what}: plan and run, larger to smaller", ratio(planned, taken), LIMIT_TAKEN, figures)


def ratio(a: float, b: float) -> float:
    """The larger of two positive numbers as a multiple of the smaller; infinite where one is 0."""
    return max(a, b) / min(a, b) if min(a, b) > 0 else math.inf


def planned_seconds(estimated: Estimate, rates: Rates) -> dict[str, float]:
    """Seconds of one slot in each column of SECONDS; tasks without a rate take none."""
    out = dict.fromkeys(SECONDS, 0.0)
    for work in (estimated.rendering, *(job.work for job in estimated.jobs)):
        for task, amount in work.items():
            rate = rate_of(task, rates, estimated)
            if task.part in COLUMN_OF and rate is not None:
                out[COLUMN_OF[task.part]] += amount / rate
    return out


def taken_seconds(rows: pd.DataFrame) -> dict[str, float]:
    """Seconds in each column of SECONDS, with what trials share counted once.

    A row has the seconds of its fit in full also where trials share it: that of round 0, and on a frozen backbone its
    predictions.

    Args:
        rows: as ``read_run`` gives them.
    """
    first = rows[rows["round"] == 0]
    frozen = first["student"].map(lambda name: student_network(str(name)).frozen).astype(bool)
    once = first.groupby(SHARING)[["teacher_seconds", "train_seconds"]].max().sum()
    predicted = first.loc[~frozen, "predict_seconds"].sum()
    predicted += first[frozen].groupby(SHARING)["predict_seconds"].max().sum()
    later = rows[rows["round"] > 0][list(SECONDS)].sum()
    return {
        "teacher_seconds": float(later["teacher_seconds"] + once["teacher_seconds"]),
        "train_seconds": float(later["train_seconds"] + once["train_seconds"]),
        "predict_seconds": float(later["predict_seconds"] + predicted),
        "select_seconds": float(later["select_seconds"] + first["select_seconds"].sum()),
    }


def plan_bars(source: str, only: str | None, device: str, out: Console) -> Iterable[Bar]:
    """Plan a part of a spec twice, run it, and compare; also with the run in results/SPEC, if on such a machine.

    Args:
        source: name or path of the spec.
        only: filter on its trials, as in ``Spec.only``; None for all.
        device: where the trials run.
        out: where to print.

    Raises:
        InputError: the run failed.
    """
    whole = read_spec(source)
    part = whole.only(only) if only else whole
    share = whole.resources.trial
    slots = local_slots(share, device)
    estimated = estimate(part.trials, cache_folder(), slots=slots, device=device)
    first, again = (_measured(estimated, device, share, slots, out) for _ in range(2))
    of_first, of_again = (hours(estimated, rates, slots).wall * 3600 for rates in (first, again))
    figures = f"{of_first:.1f} s and {of_again:.1f} s with {slots} slots"
    yield Bar("two plans, larger to smaller", ratio(of_first, of_again), LIMIT_AGAIN, figures)
    what = f"{whole.name}, {only}" if only else whole.name
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        arguments = ("run", source, "--out", scratch, "--no-report", "--device", device)
        ran = command_bar(what, math.inf, *arguments, *(("--only", only) if only else ()))
        if ran.detail:
            raise InputError(f"{what}: {ran.detail}")
        compared = Compared(what, planned_seconds(estimated, again), taken_seconds(read_run(Path(scratch)).rows))
    print_compared(compared, out)
    say(f"the whole command took {ran.value:.0f} s, {of_again:.0f} s planned, without the start of Ray", out)
    yield compared.bar
    stored = ROOT / "results" / whole.name
    if (stored / "plan.json").is_file():
        yield from _stored_bar(whole, read_run(stored), device, share, slots, out)


def _measured(estimated: Estimate, device: str, share: Share, slots: int, out: Console) -> Rates:
    return measured_rates(estimated, device, out, share=share, at_once=slots)


def _stored_bar(whole: Spec, run: Run, device: str, share: Share, slots: int, out: Console) -> Iterable[Bar]:
    """A stored run against the plan of its trials, where it is complete, of this spec and of such a machine."""
    here, there = provenance(device, share.cpus)["device"], sorted(run.rows["device"].unique())
    if set(run.plan["trial_id"]) != {t.id for t in whole.trials} or len(run.holes):
        say(f"stored run of {run.name}: not of the trials of this spec, or incomplete; not compared", out)
        return
    if there != [here]:
        say(f"stored run of {run.name}: on {', '.join(there)}, and this is {here}; not compared", out)
        return
    estimated = estimate(whole.trials, cache_folder(), slots=slots, device=device)
    rates = _measured(estimated, device, share, slots, out)
    compared = Compared(f"{run.name}, stored", planned_seconds(estimated, rates), taken_seconds(run.rows))
    print_compared(compared, out)
    yield compared.bar


def print_compared(compared: Compared, out: Console) -> None:
    """Print seconds by column, as planned and as taken."""
    table = Table("seconds of one slot", "planned", "taken", "planned / taken", title=compared.what)
    for column, planned in compared.planned.items():
        taken = compared.taken[column]
        table.add_row(column, f"{planned:.1f}", f"{taken:.1f}", f"{planned / taken:.2f}" if taken else "")
    print_wide(table, out)
