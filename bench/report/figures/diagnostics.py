"""Frames to figures: critical differences, wins, accuracy against cost, and diagnostics; as ``bench.plots``."""

from collections.abc import Mapping

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.figures.style import RC, Style, legend, panels_of


def diagnostics_figure(found: pd.DataFrame, names: Mapping[str, str], styles: Mapping[str, Style]) -> Figure:
    """Diagnostics over rounds, a panel a measure with an axis of its own, a line a selector.

    Args:
        found: ``stats.diagnostics``.
        names: titles by measure, in the order of the panels.
        styles: of every selector.
    """
    measures = [name for name in names if name in set(found["measure"])]
    with rc_context(RC):
        figure, panels = panels_of(len(measures), shared=False)
        for axes, measure in zip(panels, measures, strict=True):
            part = found[found["measure"] == measure]
            for selector, style in styles.items():
                own = part[part["selector"] == selector].sort_values("round")
                axes.plot(
                    own["round"],
                    own["mean"],
                    color=style.color,
                    marker=style.marker,
                    linestyle=style.line,
                    markersize=3.5,
                    label=selector,
                )
            axes.set_title(names[measure])
            axes.set_xlabel("round")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, panels)
    return figure
