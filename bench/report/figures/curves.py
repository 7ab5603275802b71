"""Figures of learning curves: accuracy over labels."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from activekd.recipes import NO_TEACHER
from bench.columns import teacher_label
from bench.report.figures.style import MANY_LINES, RC, Style, draw_line, legend, name_axes, panels_of, points
from bench.stats.intervals import seeds_label

MANY_ROUNDS = 8
"""With more rounds the label axis has round numbers instead of one tick per round."""

MAX_NAME = 80
"""Characters of a file's name."""


def curve_parts(curves: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """The curves of every (group, student, recipe), with a name fit for a file and a title.

    Args:
        curves: ``stats.curves``.
    """
    several = curves.groupby(["group", "student"])["recipe"].nunique().max() > 1
    out: dict[str, tuple[str, pd.DataFrame]] = {}
    for (group, student, recipe), part in curves.groupby(["group", "student", "recipe"]):
        title = f"{group} · {student}" + (f" · {recipe}" if several else "")
        parts = [re.sub(r"[^A-Za-z0-9]+", "-", str(name)).strip("-") for name in (group, student, recipe)]
        stem = "curves_" + "_".join(parts)[-MAX_NAME:]
        name = stem
        while name in out:
            name = f"{stem}-{len(out)}"
        out[name] = (title, part)
    return [(name, title, part) for name, (title, part) in out.items()]


def learning_curves(curves: pd.DataFrame, styles: Mapping[str, Style], *, title: str) -> Figure:
    """Accuracy over labels: one panel per (teacher, distillation) with a shared accuracy axis, one line per selector.

    Bands are the 95% intervals over the seeds that the title of a panel counts; more than MANY_LINES selectors have the
    width of a page and no bands.

    Args:
        curves: ``stats.curves`` of one (group, student, recipe).
        styles: of at least every selector in it.
        title: of the figure.
    """
    by = ["teacher", "distillation"]
    keys = sorted(curves[by].drop_duplicates().itertuples(index=False), key=lambda key: (key[0] != NO_TEACHER, *key))
    many = curves["selector"].nunique() > MANY_LINES
    if many:
        curves, title = curves.assign(low=np.nan, high=np.nan), f"{title}\nintervals: see the tables"
    with rc_context(RC):
        figure, panels = panels_of(len(keys), wide=many)
        for axes, (teacher, distillation) in zip(panels, keys, strict=True):
            part = curves[(curves["teacher"] == teacher) & (curves["distillation"] == distillation)]
            for selector, style in styles.items():
                line = part[part["selector"] == selector].sort_values("round")
                if not line.empty:
                    draw_line(axes, line, "n_labeled", "accuracy", style, selector)
            _label_axis(axes, part)
            axes.set_title(f"{teacher_label(teacher, distillation)}\n{seeds_label(part['n_seeds'])}")
            axes.yaxis.set_major_formatter(points())
        name_axes(panels, "labels", "test accuracy, %")
        figure.suptitle(title.replace(" · ", "\n"))
        legend(figure, panels)
    return figure


def _label_axis(axes: Axes, part: pd.DataFrame) -> None:
    labels = sorted(part["n_labeled"].unique())
    if len(labels) <= MANY_ROUNDS:
        axes.set_xticks(labels, [f"{label:.4g}" for label in labels])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
