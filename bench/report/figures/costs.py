"""Figure of accuracy against cost."""

from collections.abc import Mapping

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report.figures.style import PAGE_INCHES, RC, Style, legend

WIDE_RANGE = 20.0
"""From this ratio of the longest to the shortest time on, the axis of seconds is logarithmic."""


def cost_figure(overall: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Area relative to the mean of a configuration's selectors against seconds of a query, and the Pareto front.

    Bars are 95% intervals of the area over seeds.

    Args:
        overall: ``stats.pareto_overall``.
        styles: of every selector.
    """
    seconds = overall["seconds"]
    with rc_context(RC):
        figure = Figure(figsize=(PAGE_INCHES, 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        if seconds.min() > 0 and seconds.max() > WIDE_RANGE * seconds.min():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
        front = overall[overall["on_front"]].sort_values("seconds")
        axes.step(front["seconds"], 100 * front["area"], where="post", color="#999999", linewidth=1.0, zorder=1)
        for selector, style in styles.items():
            part = overall[overall["selector"] == selector]
            for point in part[part["area_low"].notna()].to_dict("records"):
                limits = [100 * point["area_low"], 100 * point["area_high"]]
                axes.plot([point["seconds"]] * 2, limits, color=style.color, linewidth=1.0, zorder=2)
            axes.plot(
                part["seconds"],
                100 * part["area"],
                color=style.color,
                marker=style.marker,
                linestyle="",
                markersize=7,
                label=selector,
                zorder=3,
            )
        axes.set_xlabel("seconds of a query, prediction of the pool included")
        axes.set_ylabel("area under the budget curve,\npoints above the mean")
        legend(figure, [axes])
    return figure
