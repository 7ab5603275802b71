"""Figure of diagnostics over rounds."""

import textwrap
from collections.abc import Mapping

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.columns import LABELS
from bench.report.figures.style import RC, Style, legend, panels_of

TITLE_CHARACTERS = 32
"""Of a line in the title of a panel."""

MARGIN = 0.25
"""Of the axis of rounds, on both sides."""


def diagnostics_figure(diagnostics: pd.DataFrame, rounds: tuple[int, int], styles: Mapping[str, Style]) -> Figure:
    """Diagnostics over rounds, one panel per measure with its vertical axis, one line per selector.

    Args:
        diagnostics: ``stats.diagnostics``, or some of its measures.
        rounds: the first and the last one of every panel.
        styles: of every selector.
    """
    measures = list(diagnostics["measure"].unique())
    with rc_context(RC):
        figure, panels = panels_of(len(measures), shared=False)
        for axes, measure in zip(panels, measures, strict=True):
            part = diagnostics[diagnostics["measure"] == measure]
            for selector, style in styles.items():
                line = part[part["selector"] == selector].sort_values("round")
                axes.plot(
                    line["round"],
                    line["mean"],
                    color=style.color,
                    marker=style.marker,
                    linestyle=style.line,
                    markersize=3.5,
                    label=selector,
                )
            axes.set_title(textwrap.fill(LABELS[measure], TITLE_CHARACTERS))
            axes.set_xlabel("round")
            axes.set_xlim(rounds[0] - MARGIN, rounds[1] + MARGIN)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, panels)
    return figure
