"""Figure of accuracy against cost."""

from collections.abc import Mapping

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report.figures.style import PAGE_INCHES, RC, Style, legend


def cost_figure(overall: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Accuracy against seconds, both relative to the mean of a configuration's selectors, and their Pareto front.

    Args:
        overall: ``stats.pareto_overall``.
        styles: of every selector.
    """
    with rc_context(RC):
        figure = Figure(figsize=(PAGE_INCHES, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        front = overall[overall["on_front"]].sort_values("seconds")
        axes.step(front["seconds"], 100 * front["area"], where="post", color="#999999", linewidth=1.0, zorder=1)
        for selector, style in styles.items():
            point = overall[overall["selector"] == selector]
            axes.plot(
                point["seconds"],
                100 * point["area"],
                color=style.color,
                marker=style.marker,
                linestyle="",
                markersize=7,
                label=selector,
            )
        axes.set_xlabel("seconds of a run, relative to the mean of its configuration")
        axes.set_ylabel("area under the budget curve,\npoints above that mean")
        legend(figure, [axes])
    return figure
