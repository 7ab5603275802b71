"""The look of every figure: sizes, styles of selectors, panels, lines, legends, and files with equal bytes.

Figures are drawn without pyplot and without global state, sized for the column or page of a paper.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, Formatter, FuncFormatter

from bench.report.figures.fonts import FONT

COLUMN_INCHES = 3.4
PAGE_INCHES = 7.0

PANEL_INCHES = 2.1
"""Height of a row of panels."""

WIDE_PANEL_INCHES = 3.4
"""Height of a row of panels with many lines."""

MANY_LINES = 8
"""With more selectors a figure has the width of a page, no bands and a legend of LEGEND_COLUMNS."""

LEGEND_COLUMNS = 4
PANELS_PER_ROW = 3
PNG_DPI = 200
VECTOR_DPI = 72

THIN_WIDTH = 0.8
"""Of a reference line, in points."""

STRESSED_WIDTH = 2.4
"""Of the line of a selector that is the subject of a report, in points."""

GROWTH = 1.25
"""Of a figure whose labels leave no room for its axes, until they do."""

MOST_CHARACTERS = 40
"""Of a line in a figure; longer ones lose their middle."""

UNNAMED = re.compile(r"_child\d+")
"""Label of a line that was given none."""

RC: Any = {
    "font.family": FONT,
    "text.parse_math": False,
    "text.usetex": False,
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
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Style:
    """Colour, marker and line of a selector, teacher or reference line in every figure.

    Attributes:
        color: as hexadecimal digits.
        marker: of matplotlib; empty for none.
        line: of matplotlib.
        thin: whether the line is THIN_WIDTH wide, as those of references are.
    """

    color: str
    marker: str
    line: str = "-"
    thin: bool = False


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
    "falcun": Style("#a6611a", "*", "-."),
    "tfs": Style("#cc79a7", "^", "--"),
    "pcb": Style("#cc79a7", ">", ":"),
    "direct": Style("#a6611a", "D", "--"),
    "galaxy": Style("#a6611a", "s", ":"),
    "uherding": Style("#5e3c99", "D", "-."),
    "probcover": Style("#0072b2", "o", "--"),
    "dcom": Style("#0072b2", "s", ":"),
    "cbs": Style("#0072b2", "^", "-."),
    "dropquery": Style("#009e73", "v", ":"),
    "alfamix": Style("#009e73", "^", "-."),
    "bait": Style("#b8a800", "D", "--"),
    "cec": Style("#b8a800", "o", ":"),
    "ccma": Style("#b8a800", "s", "-."),
}
"""Colours of Okabe and Ito (2008), distinct for colour-blind readers; random in grey. Strategies of one family share a
colour and differ in marker and line."""

SPARE_STYLES = tuple(
    Style(color, marker, line)
    for line in ("-", "--", ":", "-.")
    for color, marker in (("#0072b2", "P"), ("#000000", "X"), ("#b8a800", "h"), ("#5e3c99", "<"))
)


REFERENCE_STYLES: dict[str, Style] = {
    "all_labels_accuracy": Style("#000000", "", "--", thin=True),
    "teacher_accuracy": Style("#000000", "", ":", thin=True),
    "probe_accuracy": Style("#000000", "", "-.", thin=True),
    "clap_accuracy": Style("#000000", "", "-", thin=True),
}
"""Reference lines are thin and black, without markers and bands."""

ORACLE_COLOR = "#404040"
ORACLE_LINES = ("--", ":", "-.")
"""Oracles are lines without markers."""


def oracle_styles(oracles: Sequence[str]) -> dict[str, Style]:
    """The style of each oracle, in alphabetical order."""
    return {name: Style(ORACLE_COLOR, "", line) for name, line in zip(sorted(oracles), cycle(ORACLE_LINES))}


def selector_styles(selectors: Sequence[str]) -> dict[str, Style]:
    """A fixed style for each selector of the suite; others take the spare ones in alphabetical order."""
    spare = cycle(SPARE_STYLES)
    others = {name: next(spare) for name in sorted(set(selectors) - set(SELECTOR_STYLES))}
    return {name: style for name, style in {**SELECTOR_STYLES, **others}.items() if name in set(selectors)}


def panels_of(count: int, *, wide: bool = False, shared: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels.

    Args:
        count: of panels; several take the width of a page.
        wide: the width of a page for one panel too.
        shared: one vertical axis for all panels.
    """
    columns = 2 if count == 4 else min(count, PANELS_PER_ROW)
    rows = -(-count // columns)
    width = COLUMN_INCHES if columns == 1 and not wide else PAGE_INCHES
    height = WIDE_PANEL_INCHES if wide else PANEL_INCHES
    figure = Figure(figsize=(width, height * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = np.atleast_1d(figure.subplots(rows, columns, sharey=shared, squeeze=False)).ravel()
    for unused in grid[count:]:
        unused.remove()
    return figure, list(grid[:count])


def draw_line(
    axes: Axes, line: pd.DataFrame, x: str, y: str, style: Style, label: str, *, stressed: bool = False
) -> None:
    """Columns ``y`` over ``x``, with a band from low to high where they are known; a stressed line is thicker."""
    size = 6.0 if style.marker == "*" else 4.0
    look: dict[str, Any] = {"color": style.color, "marker": style.marker, "ms": size, "linestyle": style.line}
    width = STRESSED_WIDTH if stressed else THIN_WIDTH if style.thin else None
    axes.plot(line[x], line[y], **look, linewidth=width, label=label)
    if line["low"].notna().any():
        axes.fill_between(line[x], line["low"], line["high"], color=style.color, alpha=0.13, linewidth=0)


def name_axes(panels: Sequence[Axes], x: str, y: str) -> None:
    """Name the horizontal axis of every panel and the vertical axis of the first column."""
    for axes in panels:
        axes.set_xlabel(x)
        place = axes.get_subplotspec()
        if place is not None and place.is_first_col():
            axes.set_ylabel(y)


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below all panels, with the label of every line once; a name may begin with an underscore."""
    labeled = {str(line.get_label()): line for axes in panels for line in axes.get_lines()}
    handles = {label: line for label, line in labeled.items() if not UNNAMED.fullmatch(label)}
    columns = len(handles) if figure.get_figwidth() > COLUMN_INCHES else 3
    columns = min(len(handles), LEGEND_COLUMNS if len(handles) > MANY_LINES else columns)
    names = [_short(label) for label in handles]
    with boxes_for_unknown_characters():
        for n in range(columns, 0, -1):
            made = figure.legend(handles.values(), names, loc="outside lower center", ncols=n)
            if n == 1 or made.get_window_extent().width <= figure.bbox.width:
                break
            made.remove()


def points() -> Formatter:
    """Fractions of 1 as points, with as many decimals as their ticks have."""
    return FuncFormatter(lambda fraction, _: f"{round(100 * fraction, 6):.4g}")


@contextmanager
def boxes_for_unknown_characters() -> Iterator[None]:
    """Draw a box, without a warning, for a character that no font of a figure has; the page names them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        yield


def shorten(figure: Figure) -> None:
    """Shorten every line of more than MOST_CHARACTERS in a figure, by its middle, but for the names of axes."""
    both = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    kept = {axis.label for axis in both}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text not in kept and len(text.get_text()) > MOST_CHARACTERS:
            text.set_text(_short(text.get_text()))
    for axis in both:
        if isinstance(axis.get_major_locator(), FixedLocator):
            labels = [text.get_text() for text in axis.get_majorticklabels()]
            if max(map(len, labels), default=0) > MOST_CHARACTERS:
                axis.set_ticks(axis.get_majorticklocs(), [_short(label) for label in labels])


def _short(text: str) -> str:
    half = MOST_CHARACTERS // 2
    lines = text.split("\n")
    return "\n".join(f"{line[:half]}…{line[-half:]}" if len(line) > MOST_CHARACTERS else line for line in lines)


def _lay_out(figure: Figure) -> None:
    """Lay a figure out, enlarged until its labels leave room for its axes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied", UserWarning)
        while True:
            try:
                figure.draw_without_rendering()
            except UserWarning:
                figure.set_size_inches(*(GROWTH * figure.get_size_inches()))
            else:
                return


def save(figure: Figure, stem: Path, source: str = "", fallbacks: Sequence[str] = ()) -> tuple[Path, Path, Path]:
    """Write the figure as SVG, PDF and PNG, without date or program in their metadata; the PDF embeds its fonts.

    A character that neither the font nor a fallback has is drawn as a box. A figure whose labels leave no room for its
    axes grows. The layout is computed once, and each file drawn once, where ``Figure.savefig`` draws twice.

    Args:
        figure: to write.
        stem: path without suffix; its folder must exist.
        source: digest of the frames, for the metadata: a figure with another digest is stale.
        fallbacks: families for the characters that FONT lacks.

    Returns:
        Paths of the SVG, the PDF and the PNG.
    """
    svg, pdf, png = (stem.parent / f"{stem.name}.{kind}" for kind in ("svg", "pdf", "png"))
    with rc_context(RC), boxes_for_unknown_characters():
        shorten(figure)
        figure.set_dpi(VECTOR_DPI)
        _lay_out(figure)
        if fallbacks:
            # The labels of ticks exist only now.
            for text in figure.findobj(Text):
                if isinstance(text, Text):
                    text.set_fontfamily([FONT, *fallbacks])
            _lay_out(figure)
        figure.set_layout_engine("none")
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None, "Source": source or None})
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        figure.set_dpi(PNG_DPI)
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
    return svg, pdf, png
