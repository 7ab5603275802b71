"""Every strategy at full size: its seconds against greedy k-center, its memory, and how its seconds grow."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from activekd.selectors import SELECTORS, Selector
from activekd.selectors.contract import declared
from activekd.selectors.view import PoolView, StudentHead
from bench.speed.bars import Bar, print_wide
from bench.speed.pools import Answer, ask, labeled_rows, pool_view, synthetic_features, synthetic_probabilities

CLASSES, DIM = 1000, 512
"""Of the large pool."""

BASELINE = "pcoreset"
"""The strategy whose seconds the others are measured against: greedy k-center on the probabilities."""

MOST_TIMES = 10.0
"""Most seconds of a strategy, as a multiple of the baseline's, unless its docstring states what it costs and why."""

MOST_BYTES = 8e9
"""Most memory of a query beyond the arrays of the view."""

COST = "Cost: "
"""Begins the sentence of a docstring on why a strategy takes longer."""

BASE: Mapping[str, int] = {"rows": 50_000, "classes": 250, "picks": 200}
FACTORS = (1, 2, 4)
"""The growth of the strategies is measured at these multiples of each number of BASE."""

GROWTH_DIM, GROWTH_LABELED = 64, 100
GROWTH_SECONDS, GROWTH_REPEATS = 0.3, 9
"""Repetitions of a point stop after so many seconds, or so many of them; the least counts."""


def made_pool(rows: int, classes: int, dim: int, labeled: int, device: str) -> PoolView:
    """A view with everything that a strategy may declare.

    The teacher's arrays are those of the student, shifted by one row: they take no memory of their own.

    Args:
        rows: of the pool.
        classes: number of classes.
        dim: width of the features.
        labeled: number of labeled rows.
        device: of the arrays.
    """
    probabilities = synthetic_probabilities(rows + 1, classes, peaked=True, device=device)
    features = synthetic_features(rows + 1, dim).to(device)
    generator = torch.Generator().manual_seed(2)
    prototypes = torch.randn(classes, dim, generator=generator)
    heads = torch.randn(2, classes, dim, generator=generator) / dim**0.5
    arrays = {
        "student_probabilities": probabilities[:-1],
        "teacher_probabilities": probabilities[1:],
        "features": features[:-1],
        "teacher_features": features[1:],
    }
    return replace(
        pool_view(arrays, labeled_rows(rows, labeled), classes),
        head=StudentHead(heads.to(device), torch.zeros(2, classes, device=device), 0.5, 1.0),
        prototypes=(prototypes / prototypes.norm(dim=1, keepdim=True)).to(device),
    )


def strategies() -> list[Selector]:
    """The strategies of the library, the baseline first; oracles, which see every label, are none."""
    return sorted((s for s in SELECTORS.values() if not s.is_oracle), key=lambda chosen: chosen.name != BASELINE)


def strategy_bars(rows: int, picks: int, device: str) -> Iterator[Bar]:
    """Seconds and memory of each strategy on one pool, as they are measured.

    Args:
        rows: of the pool.
        picks: of the query.
        device: of the pool.
    """
    view = made_pool(rows, CLASSES, DIM, CLASSES, device)
    baseline: Answer | None = None
    for chosen in strategies():
        answer = ask(chosen.name, declared(view, chosen), picks)
        baseline = baseline or answer
        what = f"{chosen.name} {rows:,} x {CLASSES:,}, {DIM}-d, {picks:,} picks"
        figures = f"{answer.seconds:.2f} s against {baseline.seconds:.2f} s"
        reason = stated_cost(chosen)
        limit = float("inf") if reason else MOST_TIMES
        figures = f"{figures}; {reason}" if reason and answer.seconds > MOST_TIMES * baseline.seconds else figures
        yield Bar(f"{what}: seconds against {BASELINE}", answer.seconds / baseline.seconds, limit, figures)
        yield Bar(f"{what}: more memory, GB", answer.extra_bytes / 1e9, MOST_BYTES / 1e9)


def stated_cost(chosen: Selector) -> str:
    """What the docstring of a strategy says on its cost; empty where it says nothing."""
    text = " ".join((inspect.getdoc(chosen.function) or "").split())
    return text.partition(COST)[2].partition(". ")[0]


def print_growth(device: str, out: Console) -> None:
    """Print how each strategy's seconds grow with pool, classes and picks: exponents of power laws over 3 sizes."""
    points = {(axis, factor): {**BASE, axis: factor * BASE[axis]} for axis in BASE for factor in FACTORS}
    seconds: dict[tuple[str, ...], float] = {}
    for size in {tuple(size.items()): size for size in points.values()}.values():
        view = made_pool(size["rows"], size["classes"], GROWTH_DIM, GROWTH_LABELED, device)
        for chosen in strategies():
            seconds[chosen.name, str(size)] = _least_seconds(chosen, view, size["picks"])
    columns = (f"{BASE[axis]:,} to {4 * BASE[axis]:,} {axis}" for axis in BASE)
    table = Table("seconds ~ x to the power of", *columns, f"s at {', '.join(f'{v:,} {k}' for k, v in BASE.items())}")
    for chosen in strategies():
        exponents = []
        for axis in BASE:
            times = [seconds[chosen.name, str(points[axis, factor])] for factor in FACTORS]
            exponents.append(f"{np.polyfit(np.log(FACTORS), np.log(times), 1)[0]:.2f}")
        table.add_row(chosen.name, *exponents, f"{seconds[chosen.name, str(BASE)]:.4f}")
    print_wide(table, out)


def _least_seconds(chosen: Selector, view: PoolView, picks: int) -> float:
    times: list[float] = []
    while not times or (sum(times) < GROWTH_SECONDS and len(times) < GROWTH_REPEATS):
        times.append(ask(chosen.name, declared(view, chosen), picks).seconds)
    return min(times)
