"""The rates of a plan's tasks on this machine, each measured warm until two measurements agree, with all slots busy."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from time import perf_counter

from rich.console import Console

from bench.plan.rates import RATED, Rates
from bench.plan.tables import LABELS, unit_of
from bench.plan.work import Estimate, Task
from bench.specs.file import Share
from bench.speed.actions import Subject, subject, timed
from bench.terminal import say

LEAST_SECONDS = 0.3
"""An action is repeated for at least this long in one measurement."""

AGREEMENT = 0.1
"""Largest difference of two successive measurements that agree, as a share of the larger."""

MOST_TRIES = 10

ONE = Share()


@dataclass(frozen=True)
class Rate:
    """An amount per second.

    Attributes:
        value: mean of the last two measurements.
        steady: whether they agree.
    """

    value: float
    steady: bool


def steady_rate(action: Callable[[], object], amount: float, clock: Callable[[], float] = perf_counter) -> Rate:
    """Measure an action until two successive measurements agree, at most MOST_TRIES times, after one uncounted call.

    Args:
        action: what is measured.
        amount: that one call does.
        clock: in seconds.
    """
    action()
    rate = _rate(action, amount, clock)
    before, steady = rate, False
    for _ in range(MOST_TRIES - 1):
        before, rate = rate, _rate(action, amount, clock)
        steady = abs(rate - before) <= AGREEMENT * max(rate, before)
        if steady:
            break
    return Rate((rate + before) / 2, steady)


def _rate(action: Callable[[], object], amount: float, clock: Callable[[], float]) -> float:
    start, calls, spent = clock(), 0, 0.0
    while spent < LEAST_SECONDS:
        action()
        calls += 1
        spent = clock() - start
    return amount * calls / spent


def measured_rates(estimated: Estimate, device: str, out: Console, *, share: Share = ONE, at_once: int = 1) -> Rates:
    """The rate of each task of a plan on this machine, with random weights and noise as data.

    A line is printed for each rate as it is measured.

    Args:
        estimated: of the grid.
        device: where networks run.
        out: where to print.
        share: of this machine that a slot takes: threads of torch, and memory of a card.
        at_once: slots that measure at the same time, each in a process; with 1, this process measures.
    """
    tasks = [task for task in estimated.work if task.part in RATED]
    rates: dict[Task, float] = {}
    with _slots(at_once, share) as measure:
        for task in sorted(tasks, key=lambda task: (RATED.index(task.part), task)):
            found = measure(subject(task, estimated, device))
            rates[task] = sum(rate.value for rate in found) / len(found)
            steady = all(rate.steady for rate in found)
            note = "" if steady else f", not steady: no two of {MOST_TRIES} in a row within {AGREEMENT:.0%}"
            what = f"{LABELS[task.part]}, {task.name}" + (f", {task.size}" if task.size else "")
            say(f"{what}: {rates[task]:,.4g} {unit_of(task, estimated)}/s{note}", out)
    return rates


def _measure(of: Subject, share: Share) -> Rate:
    import torch

    from activekd.devices import limit_memory

    torch.set_num_threads(share.cpus)
    limit_memory(of.device, share.gpus)
    made = timed(of)
    return steady_rate(made.action, made.amount)


@contextmanager
def _slots(n: int, share: Share) -> Iterator[Callable[[Subject], Sequence[Rate]]]:
    """Measures a task in n processes at the same time, which stay warm from task to task."""
    if n == 1:
        yield lambda of: [_measure(of, share)]
        return
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn"))) for _ in range(n)]
        yield lambda of: [f.result() for f in [pool.submit(_measure, of, share) for pool in pools]]
