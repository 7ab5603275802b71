"""Learning curves for the HTML page: panels with coordinates, which a template draws as SVG with hover values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from activekd.recipes import NO_TEACHER
from bench.columns import teacher_label
from bench.report.figures.style import Style

WIDTH, HEIGHT = 340.0, 240.0
"""Size of a panel, in units of its view box."""

LEFT, RIGHT, TOP, BOTTOM = 38.0, 8.0, 18.0, 34.0
TICKS = 5
BLACK = "#000000"
DASHES = {"-": "", "--": "6 3", ":": "2 2", "-.": "6 2 2 2"}


@dataclass(frozen=True)
class Point:
    """A place on a panel and its hover value."""

    x: float
    y: float
    label: str


@dataclass(frozen=True)
class Line:
    """A selector's line; ``band`` is the outline of its interval, clipped to the panel; empty without an interval."""

    selector: str
    color: str
    dash: str
    points: list[Point]
    path: str
    band: str


@dataclass(frozen=True)
class Panel:
    """A panel of WIDTH x HEIGHT; ticks are (place, label)."""

    title: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


@dataclass(frozen=True)
class Chart:
    """Panels that share their vertical axis, and the legend."""

    title: str
    panels: list[Panel]
    selectors: list[tuple[str, str]]


def curve_chart(curves: pd.DataFrame, styles: Mapping[str, Style], title: str) -> Chart:
    """The learning curves of one (group, student, recipe): one panel per (teacher, distillation).

    Args:
        curves: of ``stats.curves``.
        styles: of at least every selector in it.
        title: of the chart.
    """
    accuracy = curves["accuracy"]
    locator = MaxNLocator(nbins=TICKS, steps=[1, 2, 5, 10])
    ticks = np.asarray(locator.tick_values(100 * accuracy.min(), 100 * accuracy.max()))
    low, high = ticks[0] / 100, ticks[-1] / 100
    by = ["teacher", "distillation"]
    keys = sorted(curves[by].drop_duplicates().itertuples(index=False), key=lambda key: (key[0] != NO_TEACHER, *key))
    panels = []
    for teacher, distillation in keys:
        part = curves[(curves["teacher"] == teacher) & (curves["distillation"] == distillation)]
        panels.append(_panel(part, styles, teacher_label(teacher, distillation), (low, high), ticks))
    shown = set(curves["selector"])
    return Chart(title, panels, [(name, color(style)) for name, style in styles.items() if name in shown])


def color(style: Style) -> str:
    """A colour on the page; black follows the theme."""
    return "currentColor" if style.color == BLACK else style.color


def _panel(
    part: pd.DataFrame, styles: Mapping[str, Style], title: str, span: tuple[float, float], ticks: np.ndarray
) -> Panel:
    labels = np.sort(part["n_labeled"].unique())
    first, last = float(labels[0]), float(labels[-1])

    def across(n: Any) -> Any:
        return LEFT + (n - first) / max(last - first, 1e-9) * (WIDTH - LEFT - RIGHT)

    def down(accuracy: Any) -> Any:
        share = (np.clip(accuracy, *span) - span[0]) / max(span[1] - span[0], 1e-9)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    lines = []
    for selector, style in styles.items():
        line = part[part["selector"] == selector].sort_values("round")
        if line.empty:
            continue
        xs, ys = across(line["n_labeled"].to_numpy()), down(line["accuracy"].to_numpy())
        band = ""
        if line["low"].notna().all():
            lower, upper = down(line["low"].to_numpy()), down(line["high"].to_numpy())
            band = _path(np.concatenate([xs, xs[::-1]]), np.concatenate([upper, lower[::-1]])) + "Z"
        points = [
            Point(round(float(x), 1), round(float(y), 1), _label(record))
            for x, y, record in zip(xs, ys, line.to_dict("records"), strict=True)
        ]
        lines.append(Line(selector, color(style), DASHES[style.line], points, _path(xs, ys), band))
    every = -(-len(labels) // TICKS)
    return Panel(
        title,
        lines,
        [(round(float(across(n)), 1), f"{n:g}") for n in labels[::every]],
        [(round(float(down(tick / 100)), 1), f"{tick:g}") for tick in ticks],
    )


def _path(xs: np.ndarray, ys: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))


def _label(record: Mapping[Any, Any]) -> str:
    spread = (
        "" if pd.isna(record["low"]) else f", 95% {record['low']:.1%} to {record['high']:.1%}, n = {record['n_seeds']}"
    )
    return (
        f"{record['selector']}: {record['accuracy']:.2%} at {record['n_labeled']:g} labels (round {record['round']})"
        f"{spread}"
    )
