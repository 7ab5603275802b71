"""Frames to figures: critical differences, wins, accuracy against cost, and diagnostics; as ``bench.plots``."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report.figures.style import PAGE_INCHES, RC, Style, legend

ROW_INCHES = 0.42
"""Height of a query round in the diagram of critical differences."""


def critical_difference_figure(mean_ranks: pd.DataFrame, friedman: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Mean ranks per query round; a bar joins selectors that Nemenyi's test does not tell apart (Demsar 2006).

    Args:
        mean_ranks: ``stats.mean_ranks``.
        friedman: ``stats.friedman``; rounds without a test have no bars.
        styles: of every selector.
    """
    rounds = sorted(mean_ranks["round"].unique(), reverse=True)
    distances = friedman.set_index("round")["critical_difference"].to_dict()
    most = mean_ranks["mean_rank"].max()
    with rc_context(RC):
        figure = Figure(figsize=(PAGE_INCHES, ROW_INCHES * len(rounds) + 1.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for height, index in enumerate(rounds):
            part = mean_ranks[mean_ranks["round"] == index].sort_values("mean_rank")
            for depth, (first, last) in enumerate(cliques(part["mean_rank"].tolist(), distances.get(index, 0.0))):
                level = height - 0.16 - 0.07 * (depth % 3)
                axes.plot([first - 0.03, last + 0.03], [level, level], color="#555555", linewidth=2.2, zorder=1)
        for selector, style in styles.items():
            own = mean_ranks[mean_ranks["selector"] == selector]
            heights = [rounds.index(index) for index in own["round"]]
            axes.plot(
                own["mean_rank"],
                heights,
                color=style.color,
                marker=style.marker,
                linestyle="",
                label=selector,
                zorder=2,
            )
        axes.set_yticks(range(len(rounds)), [str(index) for index in rounds])
        axes.set_ylim(-0.6, len(rounds) - 0.4)
        axes.set_xlim(0.7, most + 0.3)
        axes.grid(visible=False, axis="y")
        axes.set_ylabel("query round")
        told = f", critical difference {max(distances.values()):.2f} at 5%" if distances else ""
        axes.set_xlabel(f"mean rank over (configuration, data set)s, 1 is best{told}")
        legend(figure, [axes])
    return figure


def cliques(ranks: Sequence[float], distance: float) -> list[tuple[float, float]]:
    """The longest stretches of ascending ranks whose ends differ by less than a distance, two ranks or more each."""
    out: list[tuple[float, float]] = []
    for start, first in enumerate(ranks):
        last = max(rank for rank in ranks[start:] if rank == first or rank - first < distance)
        if last > first and (not out or last > out[-1][1]):
            out.append((first, last))
    return out
