"""Frames to figures: learning curves, ranks and gains of distillation; knows columns, not how a number was made.

Every function makes its own Figure (no pyplot, no global state), sized for the column or page of a paper; ``save``
writes the same bytes for the same frames.
"""

from itertools import cycle

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bench.report.figures.style import RC, Style, _line, _name_axes, legend, panels_of, teacher_label

TEACHER_STYLES = (
    Style("#0072b2", "o"),
    Style("#000000", "s", "--"),
    Style("#d55e00", "^", "-."),
    Style("#009e73", "D", ":"),
)


def gain_figure(gains: pd.DataFrame) -> Figure:
    """Gain of distillation over rounds: a panel a (group, student, recipe), a line a (teacher, distillation).

    Args:
        gains: ``stats.gain_summary`` by group, student, recipe, teacher, distillation and round.
    """
    by = ["group", "student", "recipe"]
    pairs = sorted(gains[["teacher", "distillation"]].drop_duplicates().itertuples(index=False))
    styles = dict(zip(pairs, cycle(TEACHER_STYLES), strict=False))
    several = gains.groupby(["group", "student"])["recipe"].nunique().max() > 1
    with rc_context(RC):
        parts = list(gains.groupby(by))
        figure, panels = panels_of(len(parts))
        for axes, ((group, student, recipe), part) in zip(panels, parts, strict=True):
            axes.axhline(0.0, color="#555555", linewidth=0.8)
            for (teacher, distillation), style in styles.items():
                line = part[(part["teacher"] == teacher) & (part["distillation"] == distillation)].sort_values("round")
                if not line.empty:
                    _line(axes, line, "round", "gain", style, teacher_label(teacher, distillation))
            axes.set_title(f"{group}\n{student}" + (f"\n{recipe}" if several else ""))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=""))
        _name_axes(panels, "round", "gain of distillation, points")
        legend(figure, panels)
    return figure
