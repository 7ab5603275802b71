"""The speed of fits, rendering, extraction and selection on one device, each against a rate of the same run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from activekd.errors import InputError
from bench.speed.bars import Bar
from bench.speed.gpu_frozen import CALTECH, WIDE, Rounds, cohort_bar, cohort_memory_bar, frozen_bar
from bench.speed.gpu_older import COMMIT, OlderProcess, older_code, older_processes
from bench.speed.gpu_pixels import (
    Crops,
    Task,
    extraction_bar,
    noise_images,
    older_together,
    rendering_bar,
    step_bar,
    together,
)
from bench.speed.gpu_world import Size
from bench.speed.pools import synthetic_probabilities
from bench.speed.selectors import k_center_bars, plain_k_center, plain_seconds

FAULTS = (RuntimeError, OSError, MemoryError, InputError)
"""What ends one case and no other: out of memory is a RuntimeError of torch."""

TEACHERS = ("RN50-quickgelu", "ViT-B-16-quickgelu")


@dataclass(frozen=True)
class Case:
    """Some rows of the table.

    Attributes:
        what: names them where they fail.
        measure: the rows; None where the history of this repository lacks the older code.
    """

    what: str
    measure: Callable[[], Sequence[Bar]] | None


@dataclass(frozen=True)
class Pool:
    """A pool for k-center.

    Attributes:
        rows: its images.
        classes: width of the points.
        labeled: images with a label at the start.
        picks: the query size.
    """

    rows: int
    classes: int
    labeled: int
    picks: int


@dataclass(frozen=True)
class Sizes:
    """The sizes of all cases.

    Attributes:
        frozen: data set of the trials on a frozen backbone.
        rounds: which of their rounds are computed.
        wide: data set of the cohort of adapters.
        members: of that cohort.
        cohort_steps: of its fits.
        crops: rendered on the CPU.
        pool: of k-center.
        small: fit with 64 + 64 images a step.
        large: fit with 256 + 256 images a step.
        mobile: fit of a network that is bound by the launches of its kernels.
        at_once: numbers of trials at a time on the whole card.
        older_at_once: the same of the older code.
        extracted: images of the extraction.
        repeats: of a measurement, of which the median counts.
    """

    frozen: Size = CALTECH
    rounds: Rounds = field(default_factory=Rounds)
    wide: Size = WIDE
    members: int = 30
    cohort_steps: int = 300
    crops: Crops = field(default_factory=Crops)
    pool: Pool = field(default_factory=lambda: Pool(1_281_167, 1000, 1000, 300))
    small: Task = field(default_factory=Task)
    large: Task = field(default_factory=lambda: Task(batch=256, steps=50))
    mobile: Task = field(default_factory=lambda: Task(backbone="mobilenetv2_100"))
    at_once: Sequence[int] = (1, 2, 4)
    older_at_once: Sequence[int] = (4, 10)
    extracted: int = 2000
    repeats: int = 3


CPU = Sizes(cohort_steps=60, pool=Pool(50_000, 1000, 1000, 100))
"""Sizes for ``--device cpu``."""


def gpu_bars(device: str, out: Console, sizes: Sizes | None = None) -> list[Bar]:
    """The rows for a device, each printed as it is measured; a case that fails is a row that misses.

    Args:
        device: ``cpu`` or ``cuda``.
        out: for the lines.
        sizes: of the cases; by default, those of the device.
    """
    sizes = sizes or (CPU if device == "cpu" else Sizes())
    bars: list[Bar] = []
    with ExitStack() as stack:
        folder = stack.enter_context(older_code())
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="activekd-speed-")))
        cases = cpu_cases(folder, scratch, sizes) if device == "cpu" else card_cases(device, folder, scratch, sizes)
        for case in cases:
            for bar in measured(case, out):
                out.print(f"{bar.what}: {bar.value:.3g} ({bar.detail})", highlight=False, soft_wrap=True)
                bars.append(bar)
    return bars


def name_of(device: str) -> str:
    """The device's name, for the line below the table."""
    return torch.cuda.get_device_name() if device == "cuda" else f"CPU {torch.backends.cpu.get_cpu_capability()}"


def measured(case: Case, out: Console) -> Sequence[Bar]:
    """The rows of a case; a row that misses where it fails, none where it lacks the older code."""
    if case.measure is None:
        out.print(
            f"{case.what}: not counted, since the history of this repository lacks commit {COMMIT}",
            highlight=False,
            soft_wrap=True,
        )
        return []
    try:
        return case.measure()
    except FAULTS as fault:
        return [Bar(case.what, float("nan"), 0.0, f"failed: {str(fault)[:200]}")]
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def cpu_cases(folder: Path | None, scratch: Path, sizes: Sizes) -> Iterator[Case]:
    """The cases of ``--device cpu``."""

    def frozen(older: OlderProcess) -> list[Bar]:
        return [frozen_bar(older, scratch, sizes.frozen, sizes.rounds)]

    yield _against_older("frozen part of caltech-real", folder, frozen)
    yield _cohort("cpu", folder, scratch, sizes, 1.1)
    yield _memory("cpu", sizes)
    yield Case("rendering", lambda: _threaded(1, lambda: [rendering_bar(sizes.crops, sizes.repeats)]))
    yield Case("k-center", lambda: _threaded(1, lambda: _k_center("cpu", sizes.pool, sizes.repeats)))


def card_cases(device: str, folder: Path | None, scratch: Path, sizes: Sizes) -> Iterator[Case]:
    """The cases of a card."""
    small, repeats = sizes.small, sizes.repeats
    rates: dict[int, float] = {}

    def at_once(count: int) -> float:
        if count not in rates:
            rates[count] = together(small, device, count)
        return rates[count]

    yield Case(small.what, lambda: [step_bar(small, device, 0.85, repeats)])
    yield Case(sizes.large.what, lambda: [step_bar(sizes.large, device, 0.85, repeats)])
    yield Case("two trials together", lambda: [_two_bar(at_once(1), at_once(2))])
    yield Case(sizes.mobile.what, lambda: [step_bar(sizes.mobile, device, 1.3, repeats)])
    for model in TEACHERS:
        yield Case(f"extraction {model}", partial(_extraction, model, device, sizes))
    yield _cohort(device, folder, scratch, sizes, 60.0)
    yield _memory(device, sizes)
    yield Case("k-center", lambda: _k_center(device, sizes.pool, repeats))
    whole = f"the whole card against {COMMIT}"
    if folder is None:
        yield Case(whole, None)
        return
    given = (small, device, folder)
    yield Case(
        whole,
        lambda: [
            whole_card_bar(
                {count: at_once(count) for count in sizes.at_once},
                {count: older_together(*given, count) for count in sizes.older_at_once},
            )
        ],
    )


def _against_older(what: str, folder: Path | None, measure: Callable[[OlderProcess], list[Bar]]) -> Case:
    """A case that asks one process of the older code; both codes have one thread."""
    if folder is None:
        return Case(what, None)

    def bars() -> list[Bar]:
        with older_processes(folder) as (older,):
            return _threaded(1, lambda: measure(older))

    return Case(what, bars)


def _cohort(device: str, folder: Path | None, scratch: Path, sizes: Sizes, least: float) -> Case:
    def bars(older: OlderProcess) -> list[Bar]:
        named = {"members": sizes.members, "steps": sizes.cohort_steps, "repeats": sizes.repeats}
        return [cohort_bar(older, scratch, device, least, size=sizes.wide, **named)]

    return _against_older(f"cohort of {sizes.members} adapters", folder, bars)


def _memory(device: str, sizes: Sizes) -> Case:
    named = {"members": sizes.members, "steps": sizes.cohort_steps}
    return Case("memory of a cohort", lambda: [cohort_memory_bar(device, size=sizes.wide, **named)])


def _threaded(threads: int, measure: Callable[[], list[Bar]]) -> list[Bar]:
    """Measure with this number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return measure()
    finally:
        torch.set_num_threads(before)


def _k_center(device: str, pool: Pool, repeats: int) -> list[Bar]:
    """The rows of the median ratio."""
    points = synthetic_probabilities(pool.rows, pool.classes, peaked=True, device=device)

    def bars() -> list[Bar]:
        seconds = plain_seconds(plain_k_center, points, pool.labeled, pool.picks)
        return k_center_bars("pcoreset", " peaked", points, pool.labeled, pool.picks, 1.1, plain_seconds=seconds)

    tried = sorted((bars() for _ in range(repeats)), key=lambda rows: rows[0].value)
    return tried[len(tried) // 2]


def _extraction(model: str, device: str, sizes: Sizes) -> list[Bar]:
    task = sizes.small
    images = noise_images(sizes.extracted, task.height, task.width)
    return [extraction_bar(model, images, device, 0.8, repeats=sizes.repeats)]


def _two_bar(alone: float, two: float) -> Bar:
    """Two trials on one card at once against one."""
    detail = f"{two:,.0f} against {alone:,.0f} images/s"
    return Bar("two trials a card, together, against one", two / alone, 1.4, detail, at_least=True)


def whole_card_bar(now: dict[int, float], then: dict[int, float]) -> Bar:
    """The most images per second of any number of trials at a time, against the older code.

    Args:
        now: images per second by the number of trials.
        then: the same of the older code.
    """
    best_now, best_then = max(now, key=now.__getitem__), max(then, key=then.__getitem__)
    detail = (
        f"{now[best_now]:,.0f} images/s of {best_now} trials against {then[best_then]:,.0f} of {best_then}; tried "
        f"{', '.join(map(str, now))} against {', '.join(map(str, then))}"
    )
    ratio = now[best_now] / then[best_then]
    return Bar(f"the whole card, best number of trials, against {COMMIT}", ratio, 1.0, detail, at_least=True)
