"""Every figure of a report: the section that shows it, and how it is drawn from the frames of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from bench.report.cells import COST, CURVES, DIAGNOSED, GAINS, TESTS, WINS
from bench.report.figures.costs import cost_figure
from bench.report.figures.curves import curve_parts, learning_curves
from bench.report.figures.diagnostics import diagnostics_figure
from bench.report.figures.gains import gain_figure
from bench.report.figures.ranks import critical_difference_figure, rank_figure
from bench.report.figures.style import selector_styles
from bench.report.figures.wins import win_figure
from bench.report.frames import Frames

RANKS = "ranks"
"""The figure of the first screen, which belongs to no section."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a run.

    Attributes:
        stem: of its files.
        section: title of the section that shows it.
        draw: the figure.
    """

    stem: str
    section: str
    draw: Callable[[], Figure]


def drawings(frames: Frames) -> list[Drawing]:
    """The figures that a run has data for; nothing is drawn yet."""
    curves, ranks = frames["curves"], frames["rank_table"]
    styles = selector_styles(ranks["selector"].tolist())
    several = len(styles) > 1
    out = [Drawing(RANKS, "", partial(rank_figure, ranks, styles))]
    if several and len(frames["mean_ranks"]):
        draw = partial(critical_difference_figure, frames["mean_ranks"], frames["friedman"], styles)
        out.append(Drawing("ranks_cd", TESTS, draw))
    if len(frames["wins"]):
        out.append(Drawing("wins", WINS, partial(win_figure, frames["wins"], ranks["selector"].tolist())))
    if len(frames["gain_by_student"]):
        out.append(Drawing("gain", GAINS, partial(gain_figure, frames["gain_by_student"])))
    if len(frames["diagnostics"]):
        draw = partial(diagnostics_figure, frames["diagnostics"], styles)
        out.append(Drawing("diagnostics", DIAGNOSED, draw))
    if several:
        out.append(Drawing("costs", COST, partial(cost_figure, frames["pareto_overall"], styles)))
    for stem, title, part in curve_parts(curves):
        out.append(Drawing(stem, CURVES, partial(learning_curves, part, styles, title=title)))
    return out
