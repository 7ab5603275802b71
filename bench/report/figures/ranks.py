"""Figures of ranks: mean ranks and first places, and the diagram of critical differences."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.figures.style import PAGE_INCHES, RC, Style, legend

EDGE = 0.05
"""Of the range of an axis, on both sides."""

MOST_TICKS = 10
"""Of the axis of mean ranks, from 1 on."""

ROW_INCHES = 0.42
"""Height of a query round in the diagram of critical differences."""


def rank_figure(ranks: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Mean rank and number of first places per selector with 95% intervals over seeds, in the order of the table.

    Mean ranks are over the settings in which every selector took part; without one they have no dot.

    Args:
        ranks: ``stats.rank_table`` with the intervals of ``stats.first_place_intervals``.
        styles: of every selector in it.
    """
    names = list(ranks["selector"])
    labels = [f"{name}{' (partial)' if part else ''}" for name, part in zip(names, ranks["partial"], strict=True)]
    rows = range(len(names))
    with rc_context(RC):
        figure = Figure(figsize=(PAGE_INCHES, 0.34 * len(names) + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, value, low, high, form in (
            (left, "mean_rank", "rank_low", "rank_high", "{:.2f}"),
            (right, "first", "first_low", "first_high", "{:.0f}"),
        ):
            for row, record in zip(rows, ranks.to_dict("records"), strict=True):
                _dot(axes, row, record[value], (record[low], record[high]), styles[record["selector"]], form)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
        left.set_yticks(list(rows), labels)
        left.set_ylim(len(names) - 0.5, -0.5)
        edge = EDGE * max(1, len(names) - 1)
        left.set_xlim(1 - edge, len(names) + edge)
        left.set_xlabel("mean rank, 1 is best")
        n_settings = int(ranks["settings"].max())
        right.set_xlim(-EDGE * n_settings, (1 + EDGE) * n_settings)
        right.set_xlabel(f"first places, of {n_settings} settings")
        left.set_xticks(range(1, len(names) + 1, -(-len(names) // MOST_TICKS)))
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _dot(axes: Axes, row: int, value: float, limits: tuple[float, float], style: Style, form: str) -> None:
    """A value with its interval, and its number above."""
    if pd.isna(value):
        return
    if not pd.isna(limits[0]):
        axes.plot(limits, [row, row], color=style.color, linewidth=1.6, solid_capstyle="butt", zorder=2)
    axes.plot([value], [row], color=style.color, marker=style.marker, linestyle="", markersize=6, zorder=3)
    axes.annotate(
        form.format(value),
        (value, row),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=7,
    )


def critical_difference_figure(mean_ranks: pd.DataFrame, friedman: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Mean ranks per query round; a bar joins selectors not significantly different by Nemenyi's test (Demsar 2006).

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
            part = mean_ranks[mean_ranks["selector"] == selector]
            heights = [rounds.index(index) for index in part["round"]]
            axes.plot(
                part["mean_rank"],
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
        distance = f", critical difference {max(distances.values()):.2f} at 5%" if distances else ""
        axes.set_xlabel(f"mean rank over (configuration, data set)s, 1 is best{distance}")
        legend(figure, [axes])
    return figure


def cliques(ranks: Sequence[float], distance: float) -> list[tuple[float, float]]:
    """The longest runs of ascending ranks whose ends differ by less than a distance, at least two ranks each."""
    out: list[tuple[float, float]] = []
    for start, first in enumerate(ranks):
        last = max(rank for rank in ranks[start:] if rank == first or rank - first < distance)
        if last > first and (not out or last > out[-1][1]):
            out.append((first, last))
    return out
