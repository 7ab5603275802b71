"""Figure of the gain of distillation over rounds."""

from itertools import cycle

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.display import distilled_on
from bench.report.figures.style import RC, Style, draw_line, legend, name_axes, panels_of, points
from bench.stats.intervals import seeds_label

TEACHER_STYLES = (
    Style("#0072b2", "o"),
    Style("#000000", "s", "--"),
    Style("#d55e00", "^", "-."),
    Style("#009e73", "D", ":"),
)


def gain_figure(gains: pd.DataFrame) -> Figure:
    """Gain of distillation over rounds: one panel per (group, student, recipe), one line per (teacher, distillation).

    Bands are the 95% intervals over the seeds that the title counts.

    Args:
        gains: ``stats.gain_summary`` by group, student, recipe, teacher, distillation and round, with labels.
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
                    draw_line(axes, line, "round", "gain", style, distilled_on(teacher, distillation))
            title = f"{group}\n{student}" + (f"\n{recipe}" if several else "")
            axes.set_title(f"{title}\n{seeds_label(part['n_seeds'])}")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.yaxis.set_major_formatter(points())
        name_axes(panels, "round", "gain of distillation, points")
        legend(figure, panels)
    return figure
