"""Figures of learning curves: accuracy over labels."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from activekd.recipes import NO_TEACHER
from bench.display import Display, distilled_on
from bench.report.figures.style import MANY_LINES, RC, Style, draw_line, legend, name_axes, panels_of, points
from bench.report.stems import Stems
from bench.stats.intervals import seeds_label

MANY_ROUNDS = 8
"""With more rounds the label axis has round numbers instead of one tick per round."""

TEACHERS = ["teacher", "distillation"]
"""Columns that name a panel."""


def curve_parts(curves: pd.DataFrame, display: Display) -> list[tuple[str, str, pd.DataFrame]]:
    """The curves of every (group, student, recipe), with a name fit for a file and a title.

    Args:
        curves: ``stats.curves``, or others with the columns of a setting.
        display: labels of the names, for the titles.

    Returns:
        Stem of a file, title, and the curves under the names of the run, without distillation first.
    """
    several = curves.groupby(["group", "student"])["recipe"].nunique().max() > 1
    stems, out = Stems("curves"), []
    for (group, student, recipe), part in curves.groupby(["group", "student", "recipe"]):
        names = {"group": group, "student": student} | ({"recipe": recipe} if several else {})
        title = " · ".join(display.of(kind, str(name)) for kind, name in names.items())
        part = part.assign(taught=part["teacher"] != NO_TEACHER).sort_values(["taught", *TEACHERS], kind="stable")
        out.append((stems.of(str(group), str(student), str(recipe)), title, part.drop(columns="taught")))
    return out


def most_measured(parts: list[tuple[str, str, pd.DataFrame]]) -> str:
    """Stem of the part with the most (round, seed)s; the first of several."""
    sizes = {stem: part["round"].nunique() * int(part["n_seeds"].min()) for stem, _, part in parts}
    return max(sizes, key=sizes.__getitem__)


TEST_ACCURACY = "test accuracy, %"
"""Name of the vertical axis."""


def learning_curves(
    curves: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    title: str,
    subject: str | None = None,
    axis: str = TEST_ACCURACY,
) -> Figure:
    """Accuracy over labels: one panel per (teacher, distillation) with a shared accuracy axis, one line per selector.

    Bands are the 95% intervals over the seeds that the title of a panel counts; more than MANY_LINES selectors have the
    width of a page and no bands. Reference lines do not count.

    Args:
        curves: a part of ``curve_parts``, with labels; panels are in its order.
        styles: of at least every selector in it.
        title: of the figure.
        subject: a selector whose line is stressed.
        axis: name of the vertical axis.
    """
    keys = list(curves[TEACHERS].drop_duplicates().itertuples(index=False))
    ranked = [name for name, style in styles.items() if not style.thin]
    many = curves.loc[curves["selector"].isin(ranked), "selector"].nunique() > MANY_LINES
    if many:
        curves, title = curves.assign(low=np.nan, high=np.nan), f"{title}\nintervals: see the tables"
    with rc_context(RC):
        figure, panels = panels_of(len(keys), wide=many)
        for axes, (teacher, distillation) in zip(panels, keys, strict=True):
            part = curves[(curves["teacher"] == teacher) & (curves["distillation"] == distillation)]
            for selector, style in styles.items():
                line = part[part["selector"] == selector].sort_values("round")
                if not line.empty:
                    draw_line(axes, line, "n_labeled", "accuracy", style, selector, stressed=selector == subject)
            _label_axis(axes, part)
            seeds = part.loc[part["selector"].isin(ranked), "n_seeds"]
            axes.set_title(f"{distilled_on(teacher, distillation)}\n{seeds_label(seeds)}")
            axes.yaxis.set_major_formatter(points())
        name_axes(panels, "labels", axis)
        figure.suptitle(title.replace(" · ", "\n"))
        legend(figure, panels)
    return figure


def _label_axis(axes: Axes, part: pd.DataFrame) -> None:
    labels = sorted(part["n_labeled"].unique())
    if len(labels) <= MANY_ROUNDS:
        axes.set_xticks(labels, [f"{label:.4g}" for label in labels])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
