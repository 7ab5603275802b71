"""Frames to figures: learning curves, ranks and gains of distillation; knows columns, not how a number was made.

Every function makes its own Figure (no pyplot, no global state), sized for the column or page of a paper; ``save``
writes the same bytes for the same frames.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

COLUMN_INCHES = 3.4

PAGE_INCHES = 7.0

PANEL_INCHES = 2.1
"""Height of a row of panels."""

WIDE_PANEL_INCHES = 3.4
"""The same where there are many lines."""

MANY_LINES = 8
"""Above this number of selectors a figure has the width of a page, no bands and a legend of LEGEND_COLUMNS."""

LEGEND_COLUMNS = 4

PANELS_A_ROW = 3

PNG_DPI = 200

NO_TEACHER = "none"

FEATURES = "features:"

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 8.0,
    "figure.titlesize": 9.0,
    "lines.linewidth": 1.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "activekd",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Style:
    """How a selector or teacher looks in every figure."""

    color: str
    marker: str
    line: str = "-"


SELECTOR_STYLES: dict[str, Style] = {
    "random": Style("#8c8c8c", "o"),
    "entropy": Style("#e69f00", "s"),
    "coreset": Style("#56b4e9", "^"),
    "badge": Style("#009e73", "D"),
    "classbalanced": Style("#cc79a7", "v"),
    "pcoreset": Style("#d55e00", "*"),
    "margin": Style("#e69f00", "P", "--"),
    "least_confidence": Style("#e69f00", "X", ":"),
    "teacher_entropy": Style("#e69f00", "<", "-."),
    "disagreement": Style("#a6611a", "h"),
    "coreset_euclidean": Style("#56b4e9", "<", "--"),
    "badge_released": Style("#009e73", "d", "--"),
    "typiclust": Style("#5e3c99", "p"),
    "maxherding": Style("#5e3c99", "8", "--"),
    "pcoreset_uncertain": Style("#d55e00", "P", "--"),
    "pcoreset_nearest": Style("#d55e00", "v", ":"),
    "teacher_pcoreset": Style("#d55e00", "X", "-."),
}
"""Colours of Okabe and Ito (2008), told apart by colour-blind readers; random in grey. Strategies of one family share a
colour and differ in marker and line."""

SPARE_STYLES = tuple(
    Style(color, marker, line)
    for line in ("-", "--", ":", "-.")
    for color, marker in (("#0072b2", "P"), ("#000000", "X"), ("#b8a800", "h"), ("#5e3c99", "<"))
)


def selector_styles(selectors: Sequence[str]) -> dict[str, Style]:
    """A fixed style for each selector of the suite; others take the spare ones in alphabetical order."""
    spare = cycle(SPARE_STYLES)
    others = {name: next(spare) for name in sorted(set(selectors) - set(SELECTOR_STYLES))}
    return {name: style for name, style in {**SELECTOR_STYLES, **others}.items() if name in set(selectors)}


def teacher_label(teacher: str, distillation: str) -> str:
    """A teacher as named in figures and tables; the distillation mode where it is not both kinds of images.

    Features from a file go by the file's name alone.
    """
    if teacher == NO_TEACHER:
        return "no distillation"
    network, _, adaptation = teacher.rpartition("+")
    if network.startswith(FEATURES):
        teacher = f"{network.removeprefix(FEATURES).split(':')[0].removesuffix('.npz')}+{adaptation}"
    return teacher if distillation == "both" else f"{teacher} ({distillation} only)"


def panels_of(count: int, *, wide: bool = False, shared: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, of a page's width where there are several; ``shared``: one vertical axis for all."""
    columns = 2 if count == 4 else min(count, PANELS_A_ROW)
    rows = -(-count // columns)
    width = COLUMN_INCHES if columns == 1 and not wide else PAGE_INCHES
    height = WIDE_PANEL_INCHES if wide else PANEL_INCHES
    figure = Figure(figsize=(width, height * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = np.atleast_1d(figure.subplots(rows, columns, sharey=shared, squeeze=False)).ravel()
    for unused in grid[count:]:
        unused.remove()
    return figure, list(grid[:count])


def _line(axes: Axes, line: pd.DataFrame, x: str, y: str, style: Style, label: str) -> None:
    size = 6.0 if style.marker == "*" else 4.0
    axes.plot(line[x], line[y], color=style.color, marker=style.marker, ms=size, linestyle=style.line, label=label)
    if line["low"].notna().any():
        axes.fill_between(line[x], line["low"], line["high"], color=style.color, alpha=0.13, linewidth=0)


def _name_axes(panels: Sequence[Axes], x: str, y: str) -> None:
    for axes in panels:
        axes.set_xlabel(x)
        place = axes.get_subplotspec()
        if place is not None and place.is_first_col():
            axes.set_ylabel(y)


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below all panels, with every label once."""
    found = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    columns = len(found) if figure.get_figwidth() > COLUMN_INCHES else 3
    columns = LEGEND_COLUMNS if len(found) > MANY_LINES else columns
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=min(len(found), columns))


def rank_figure(rank_table: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Mean rank and number of first places a selector, in the order of the table; shared first places are hatched.

    Args:
        rank_table: ``stats.rank_table``.
        styles: of every selector in it.
    """
    names = list(rank_table["selector"])
    colors = [styles[name].color for name in names]
    rows = np.arange(len(names))
    with rc_context(RC):
        figure = Figure(figsize=(PAGE_INCHES, 0.27 * len(names) + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        left.barh(rows, rank_table["mean_rank"], color=colors, height=0.7)
        _values(left, rows, rank_table["mean_rank"], "{:.2f}")
        left.set_yticks(rows, names)
        left.invert_yaxis()
        left.set_xlabel("mean rank (lower is better)")
        alone = rank_table["first"] - rank_table["tied_first"]
        right.barh(rows, alone, color=colors, height=0.7)
        right.barh(
            rows,
            rank_table["tied_first"],
            left=alone,
            color="white",
            edgecolor=colors,
            hatch="////",
            height=0.7,
            linewidth=0.8,
        )
        _values(right, rows, rank_table["first"], "{:.0f}")
        hatched = " (hatched: shared)" if rank_table["tied_first"].any() else ""
        right.set_xlabel(f"first places, of {rank_table['settings'].max()} settings{hatched}")
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (left, right):
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
    return figure


def _values(axes: Axes, rows: np.ndarray, values: pd.Series, form: str) -> None:
    for row, value in zip(rows, values, strict=True):
        axes.annotate(
            form.format(value), (value, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5
        )
    axes.set_xlim(0, max(1.0, float(values.max())) * 1.15)


def save(figure: Figure, stem: Path, source: str = "") -> tuple[Path, Path]:
    """Write the figure beside each other as SVG and PNG, without date or program in them.

    Args:
        stem: path without suffix; its folder must exist.
        source: what the figure was made from, for its metadata, by which a stale one is known.

    Returns:
        Paths of the SVG and the PNG.
    """
    svg, png = stem.parent / f"{stem.name}.svg", stem.parent / f"{stem.name}.png"
    with rc_context(RC):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Source": source or None})
        # Laid out once: the second file has the places of the first.
        figure.set_layout_engine("none")
        figure.savefig(png, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return svg, png
