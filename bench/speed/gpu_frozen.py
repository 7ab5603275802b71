"""Trials on a frozen backbone: rounds of a cohort, and fits of adapters, against the code of an older commit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import torch

from activekd.datasets import Labeled
from activekd.loop import run_cohort
from activekd.rounds import Member, Round
from activekd.selectors import selector
from activekd.starts import Start
from activekd.starts.rows import balanced
from activekd.streams import stream
from activekd.students.cohort import MemberFit, fit_cohort, together
from activekd.students.fit import Guide, fit_student
from activekd.students.heads import build_student
from activekd.students.networks import student_network
from activekd.teachers.classifier import from_prototypes
from bench.speed.bars import Bar, apart
from bench.speed.gpu_older import COMMIT, OlderProcess
from bench.speed.gpu_world import LOGIT_SCALE, Size, World, clock, wait_for
from bench.speed.memory import RESIDENT, memory_bytes

HEADS_ALONE, ADAPTER = "frozen:efficientnet_lite0", "adapter:efficientnet_lite0"

CALTECH = Size(train=1294, test=1938, classes=70, student=1280, teacher=512, views=5)
"""Of the spec ``caltech-real``."""

WIDE = Size(train=4000, test=100, classes=100, student=1280, teacher=1024, views=9)

TEACHERS = ("none", "zeroshot", "clap")
SELECTORS = ("random", "entropy", "coreset", "badge", "classbalanced", "pcoreset")

MEMBERS = 30
"""Adapters of a cohort."""

LABELED = 500
"""Labeled images of a fit of one of them."""


@dataclass(frozen=True)
class Rounds:
    """Which rounds stand for a run.

    Attributes:
        rounds: of a trial.
        middle: the round that stands for those after the first, whose costs grow with the labels.
        seeds: of the cohort.
        selectors: of the cohort.
        teachers: a cohort for each.
    """

    rounds: int = 8
    middle: int = 4
    seeds: Sequence[int] = (0, 1)
    selectors: Sequence[str] = SELECTORS
    teachers: Sequence[str] = TEACHERS

    def of_a_trial(self, first: float, middle: float) -> float:
        """Seconds of a trial from those of its first round and of its middle one."""
        return first + (self.rounds - 1) * middle


def frozen_bar(older: OlderProcess, folder: Path, size: Size = CALTECH, some: Rounds | None = None) -> Bar:
    """The frozen part of ``caltech-real`` against the older code: CPU seconds of a trial, one thread each.

    A trial is its first round and as often as needed its middle one; fits, predictions and queries count. The two
    codes take turns, teacher by teacher. Every trial of the older code fits alone; here all seeds and selectors of a
    teacher are one cohort.

    Args:
        older: a process with the older code.
        folder: for the arrays.
        size: of the data set.
        some: which rounds are computed.
    """
    some = some or Rounds()
    world = World.drawn(size)
    quick = replace(world, recipe=replace(world.recipe, steps=2, clap=replace(world.recipe.clap, epochs=1)))
    given, given_quick = (w.save(folder / f"{name}.npz") for name, w in (("whole", world), ("quick", quick)))
    named = {"seed": some.seeds[0], "rounds": some.rounds, "query_size": size.classes}
    older.ask("seconds_of_rounds", *given_quick, teacher="clap", selectors=some.selectors, picked=[], **named)
    _seconds_of_round(quick, "clap", 0, some)
    figures, then, now = [], 0.0, 0.0
    for teacher in some.teachers:
        of_rounds = []
        for index, selectors in ((0, some.selectors[-1:]), (some.middle, some.selectors)):
            picked = _picked(world, some.seeds[0], index)
            alone = older.ask("seconds_of_rounds", *given, teacher=teacher, selectors=selectors, picked=picked, **named)
            of_rounds.append((sum(alone) / len(alone), _seconds_of_round(world, teacher, index, some)))
        (first_then, first_now), (middle_then, middle_now) = of_rounds
        then += some.of_a_trial(first_then, middle_then)
        now += some.of_a_trial(first_now, middle_now)
        figures.append(f"{teacher} {middle_now:.2f} against {middle_then:.2f}")
    members = len(some.seeds) * len(some.selectors)
    detail = f"CPU s a round, cohorts of {members}: {', '.join(figures)}"
    return Bar(f"frozen part of caltech-real: time against {COMMIT}", now / then, 0.5, detail)


def _seconds_of_round(world: World, teacher: str, index: int, some: Rounds) -> float:
    """CPU seconds of a round of a cohort, per trial."""
    members = [
        Member(selector(name), seed, _picked(world, seed, index, offset))
        for seed in some.seeds
        for offset, name in enumerate(some.selectors)
    ]
    taught = world.teacher(teacher)
    start = process_time()
    outcomes = run_cohort(
        world.dataset,
        world.student(HEADS_ALONE),
        taught,
        members,
        world.recipe,
        world.geometry,
        rounds=some.rounds,
        start=Start(),
        query_size=world.dataset.n_classes,
        distillation="none" if taught is None else "both",
    )
    for outcome in islice(outcomes, len(members)):
        if isinstance(outcome.result, Exception):
            raise outcome.result
    return (process_time() - start) / len(members)


def _picked(world: World, seed: int, rounds: int, offset: int = 0) -> list[list[int]]:
    """The rows of the queries of these rounds, drawn; other trials have others."""
    dataset = world.dataset
    rest = np.setdiff1d(np.arange(len(dataset.train)), balanced(dataset, dataset.n_classes, seed))
    drawn = stream(seed, "speed picks", offset).permutation(rest)[: rounds * dataset.n_classes]
    return drawn.reshape(rounds, dataset.n_classes).tolist()


def cohort_bar(
    older: OlderProcess,
    folder: Path,
    device: str,
    limit: float,
    *,
    size: Size = WIDE,
    members: int = MEMBERS,
    steps: int = 300,
    repeats: int = 3,
) -> Bar:
    """Adapters fitted as a cohort, in steps of a trial per second, against fits one at a time.

    On a card, against the fits of the older code, which are bound by launches. It has no adapters; its heads have half
    the weights and two thirds of the arithmetic. On a CPU, which is bound by these, against adapters one at a time.

    Args:
        older: a process with the older code.
        folder: for the arrays.
        device: of the fits.
        limit: the least ratio that passes.
        size: of the data set.
        members: of the cohort.
        steps: of a fit.
        repeats: of which the median counts.
    """
    world = World.drawn(size)
    world = replace(world, recipe=replace(world.recipe, steps=steps))
    quick = replace(world, recipe=replace(world.recipe, steps=2))
    given, given_quick = (w.save(folder / f"{name}.npz") for name, w in (("wide", world), ("quick", quick)))
    labeled = min(LABELED, size.train // 2)
    older.ask("seconds_of_fit", *given_quick, labeled=labeled, device=device)
    _cohort_seconds(quick, members, labeled, device)
    _alone_seconds(quick, labeled, device)
    heads, alone, in_cohort = [], [], []
    for _ in range(repeats):
        heads.append(steps / older.ask("seconds_of_fit", *given, labeled=labeled, device=device))
        in_cohort.append(members * steps / _cohort_seconds(world, members, labeled, device))
        alone.append(steps / _alone_seconds(world, labeled, device))
    rates = {"in a cohort": median(in_cohort), "alone": median(alone), f"heads of {COMMIT}": median(heads)}
    against = "alone" if device == "cpu" else f"heads of {COMMIT}"
    what = f"cohort of {members} adapters, {size.student} wide, {size.classes} classes, against {against}"
    detail = f"trial-steps/s: {', '.join(f'{rate:,.0f} {which}' for which, rate in rates.items())}"
    return Bar(what, rates["in a cohort"] / rates[against], limit, detail, at_least=True)


def cohort_memory_bar(device: str, *, size: Size, members: int, steps: int) -> Bar:
    """Memory of a cohort of adapters beyond the features: two rounds with a CLAP teacher and all selectors.

    Measured in a process of its own, after a first round of one trial.

    Args:
        device: of the fits.
        size: of the data set.
        members: of the cohort, at least one a selector.
        steps: of a fit.
    """
    held = apart(_cohort_bytes, size, members, steps, device) / 1e9
    return Bar(f"GB of a cohort of {members} adapters beyond the features", held, 0.25, "fits, predictions, queries")


def _cohort_bytes(size: Size, members: int, steps: int, device: str) -> int:
    """Peak memory of a cohort above that after its arrays are there: resident on a CPU, allocated on a card."""
    torch.set_num_threads(1)
    world = World.drawn(size)
    world = replace(world, recipe=replace(world.recipe, steps=steps, clap=replace(world.recipe.clap, epochs=2)))
    given = world.dataset, world.student(ADAPTER, device), world.teacher("clap", device)

    def run(some: Sequence[Member], rounds: int) -> int:
        outcomes = run_cohort(
            *given,
            some,
            world.recipe,
            world.geometry,
            rounds=rounds,
            start=Start(),
            query_size=size.classes,
            distillation="both",
            device=device,
            diagnostics=True,
        )
        done = [outcome.result for outcome in outcomes]
        assert len(done) == rounds * len(some)
        return max(one.peak_rss_bytes for one in done if isinstance(one, Round))

    trials = [Member(selector(SELECTORS[k % len(SELECTORS)]), k // len(SELECTORS)) for k in range(members)]
    run(trials[:1], 1)
    if device != "cuda":
        before = memory_bytes(RESIDENT)
        return run(trials, 2) - before
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run(trials, 2)
    return torch.cuda.max_memory_allocated() - before


def _starts(world: World, members: int, labeled: int, device: str) -> list[MemberFit]:
    """Adapters before their fits, each with other labeled rows."""
    dataset, taught = world.dataset, world.teacher("zeroshot", device)
    assert taught is not None
    guide = Guide(taught.train, from_prototypes(torch.from_numpy(taught.head.zero_shot).to(device), LOGIT_SCALE))
    fits = []
    for seed in range(members):
        rows = stream(seed, "speed rows").permutation(len(dataset.train))
        student = build_student(
            student_network(ADAPTER),
            (world.arrays["student_train"].shape[2],),
            dataset.n_classes,
            trunk_width=world.recipe.trunk_width,
            rng=stream(seed, "student"),
        )
        some = Labeled(rows[:labeled], world.arrays["train_labels"][rows[:labeled]])
        fits.append(MemberFit(student, some, rows[labeled:], guide, stream(seed, "batches")))
    return fits


def _alone_seconds(world: World, labeled: int, device: str) -> float:
    """Seconds of one adapter's fit."""
    (fit,) = _starts(world, 1, labeled, device)
    given = (fit.student, world.views("student_train", device), fit.labeled, fit.unlabeled, fit.guide)
    start = clock(device)
    fit_student(*given, "both", world.recipe, world.geometry, rng=fit.rng, device=device)
    wait_for(device)
    return clock(device) - start


def _cohort_seconds(world: World, members: int, labeled: int, device: str) -> float:
    """Seconds of the fits of a cohort, in blocks of as many as are fitted together."""
    fits, recipe, inputs = _starts(world, members, labeled, device), world.recipe, world.views("student_train", device)
    n_classes, steps = world.dataset.n_classes, recipe.n_steps(labeled, inputs.n_rows - labeled)
    width = together(inputs.shape[0], n_classes, recipe, trunk=True, steps=steps)
    start = clock(device)
    for first in range(0, members, width):
        block = fits[first : first + width]
        # As in a grid: on a card, always as many fits.
        padded = [*block, *fits[: width - len(block)]] if device == "cuda" else block
        fit_cohort(padded, inputs, "both", recipe, world.geometry, device=device)
    wait_for(device)
    return clock(device) - start
