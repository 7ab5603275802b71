"""Learning curves for the HTML page: panels with coordinates, which a template draws as SVG with values on hover."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from bench.columns import ACCURACY
from bench.display import distilled_on
from bench.report.figures.curves import TEACHERS, TEST_ACCURACY
from bench.report.figures.style import Style

WIDTH, HEIGHT = 340.0, 240.0
"""Size of a panel, in units of its view box."""

LEFT, RIGHT, TOP, BOTTOM = 38.0, 8.0, 18.0, 34.0
TICKS = 5
BLACK = "#000000"
DASHES = {"-": "", "--": "6 3", ":": "2 2", "-.": "6 2 2 2"}

DIFFERENCE = "difference"
"""The second view of a panel beside ACCURACY: the difference from a reference; also the columns that they show."""


@dataclass(frozen=True)
class Line:
    """A selector's line.

    Attributes:
        selector: its label.
        color: on the page.
        dash: pattern of the line.
        path: of the line.
        dots: of a dot at each round, drawn with round caps; empty for a line without markers.
        band: outline of its interval; empty without an interval.
        thin: whether it is a reference line.
    """

    selector: str
    color: str
    dash: str
    path: str
    dots: str
    band: str
    thin: bool = False


@dataclass(frozen=True)
class View:
    """Lines with a vertical axis of their own.

    Attributes:
        name: ACCURACY or DIFFERENCE.
        axis: name of the vertical axis.
        y_ticks: (place, label)s.
        lines: in the order of the legend.
    """

    name: str
    axis: str
    y_ticks: list[tuple[float, str]]
    lines: list[Line]


@dataclass(frozen=True)
class Panel:
    """A panel of WIDTH x HEIGHT.

    Attributes:
        title: its teacher.
        x_ticks: (place, label)s.
        views: of the same selectors.
        readings: JSON of the values at each number of labels: ``x``, ``title``, and ``rows`` of selector, colour, and
            for each view its value and its text.
    """

    title: str
    x_ticks: list[tuple[float, str]]
    views: list[View]
    readings: str


@dataclass(frozen=True)
class Chart:
    """Panels and their legend.

    Attributes:
        title: of the chart.
        panels: one per (teacher, distillation).
        selectors: label and colour of each, and the pattern of a reference line; None for the others.
        reference: the selector from which differences are shown; empty without differences.
        subject: the selector that is chosen at first; may be empty.
        axis: name of the vertical axis of the first view.
        measure: what that view shows, in a word or two.
    """

    title: str
    panels: list[Panel]
    selectors: list[tuple[str, str, str | None]]
    reference: str = ""
    subject: str = ""
    axis: str = TEST_ACCURACY
    measure: str = ACCURACY


def curve_chart(
    curves: pd.DataFrame,
    differences: pd.DataFrame,
    styles: Mapping[str, Style],
    title: str,
    subject: str = "",
    axis: str = TEST_ACCURACY,
    measure: str = ACCURACY,
) -> Chart:
    """The learning curves of one (group, student, recipe): one panel per (teacher, distillation).

    Args:
        curves: a part of ``curve_parts``, with labels; panels are in its order.
        differences: ``stats.curve_differences`` of the same cells, with labels; may be empty.
        styles: of at least every selector in it.
        title: of the chart.
        subject: the selector that is chosen at first; may be empty.
        axis: name of the vertical axis.
        measure: what the curves show, in a word or two.
    """
    keys = list(curves[TEACHERS].drop_duplicates().itertuples(index=False))
    panels = []
    for teacher, distillation in keys:
        part, difference = (
            frame[(frame["teacher"] == teacher) & (frame["distillation"] == distillation)]
            for frame in (curves, differences)
        )
        panels.append(_panel(part, difference, styles, distilled_on(teacher, distillation), axis))
    shown = set(curves["selector"])
    reference = str(differences["against"].iloc[0]) if len(differences) else ""
    selectors = [
        (name, color(style), DASHES[style.line] if style.thin else None)
        for name, style in styles.items()
        if name in shown
    ]
    return Chart(title, panels, selectors, reference, subject if subject in shown else "", axis, measure)


def color(style: Style) -> str:
    """A colour on the page; black follows the theme."""
    return "currentColor" if style.color == BLACK else style.color


def _panel(part: pd.DataFrame, differences: pd.DataFrame, styles: Mapping[str, Style], title: str, axis: str) -> Panel:
    labels = np.sort(part["n_labeled"].unique())
    views = [_view(part, ACCURACY, axis, labels, styles)]
    if len(differences):
        against = differences["against"].iloc[0]
        views.append(_view(differences, DIFFERENCE, f"difference from {against}, points", labels, styles))
    every = -(-len(labels) // TICKS)
    ticks = [(_place(n, labels), f"{n:g}") for n in labels[::every]]
    return Panel(title, ticks, views, json.dumps(_readings(part, differences, labels, styles), ensure_ascii=False))


def _across(n: Any, labels: np.ndarray) -> Any:
    first, last = float(labels[0]), float(labels[-1])
    return LEFT + (n - first) / max(last - first, 1e-9) * (WIDTH - LEFT - RIGHT)


def _place(n: float, labels: np.ndarray) -> float:
    return round(float(_across(n, labels)), 1)


def _view(part: pd.DataFrame, column: str, axis: str, labels: np.ndarray, styles: Mapping[str, Style]) -> View:
    locator = MaxNLocator(nbins=TICKS, steps=[1, 2, 5, 10])
    values = part[column] if column == ACCURACY else pd.concat([part[column], pd.Series([0.0])])
    ticks = np.asarray(locator.tick_values(100 * values.min(), 100 * values.max()))
    low, high = ticks[0] / 100, ticks[-1] / 100

    def down(value: Any) -> Any:
        share = (np.clip(value, low, high) - low) / max(high - low, 1e-9)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    lines = []
    for selector, style in styles.items():
        line = part[part["selector"] == selector].sort_values("round")
        if line.empty:
            continue
        xs, ys = _across(line["n_labeled"].to_numpy(), labels), down(line[column].to_numpy())
        band = ""
        if line["low"].notna().all():
            lower, upper = down(line["low"].to_numpy()), down(line["high"].to_numpy())
            band = _path(np.concatenate([xs, xs[::-1]]), np.concatenate([upper, lower[::-1]])) + "Z"
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in zip(xs, ys, strict=True)) if style.marker else ""
        lines.append(Line(selector, color(style), DASHES[style.line], _path(xs, ys), dots, band, style.thin))
    return View(column, axis, [(round(float(down(tick / 100)), 1), f"{tick:g}") for tick in ticks], lines)


def _path(xs: np.ndarray, ys: np.ndarray) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))


def _readings(
    part: pd.DataFrame, differences: pd.DataFrame, labels: np.ndarray, styles: Mapping[str, Style]
) -> list[dict[str, Any]]:
    by_cell = {(record["round"], record["selector"]): record for record in differences.to_dict("records")}
    out = []
    for (n, index), cells in part.groupby(["n_labeled", "round"]):
        rows = []
        by_selector = {record["selector"]: record for record in cells.to_dict("records")}
        for selector in (name for name in styles if name in by_selector):
            record, difference = by_selector[selector], by_cell.get((index, selector))
            row: dict[str, Any] = {"selector": selector, "color": color(styles[selector])}
            row[ACCURACY] = [round(record["accuracy"], 6), _text(record, ACCURACY, "{:.1%}")]
            if difference is not None:
                row[DIFFERENCE] = [round(difference["difference"], 6), _text(difference, DIFFERENCE, "")]
            rows.append(row)
        x = _place(float(n), labels)  # pyright: ignore[reportArgumentType]
        out.append({"x": x, "title": f"{n:g} labels (round {index}), n = {cells['n_seeds'].max()}", "rows": rows})
    return out


def _text(record: Mapping[Any, Any], column: str, form: str) -> str:
    def shown(value: float) -> str:
        return form.format(value) if form else f"{100 * value:+.1f}"

    spread = "" if pd.isna(record["low"]) else f" ({shown(record['low'])} to {shown(record['high'])})"
    return f"{shown(record[column])}{spread}"
