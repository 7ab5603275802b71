"""Figures of ranks: mean ranks with first places, and the diagram of critical differences."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.figures.style import PAGE_INCHES, RC, Style, legend

ROW_INCHES = 0.42
"""Height of a query round in the diagram of critical differences."""


def rank_figure(rank_table: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    """Mean rank and number of first places per selector, in the order of the table; shared first places are hatched.

    Mean ranks are over the settings in which every selector took part; without one they have no bar.

    Args:
        rank_table: ``stats.rank_table``.
        styles: of every selector in it.
    """
    names = list(rank_table["selector"])
    labels = [f"{name}{' (partial)' if part else ''}" for name, part in zip(names, rank_table["partial"], strict=True)]
    colors = [styles[name].color for name in names]
    rows = np.arange(len(names))
    with rc_context(RC):
        figure = Figure(figsize=(PAGE_INCHES, 0.27 * len(names) + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        left.barh(rows, rank_table["mean_rank"], color=colors, height=0.7)
        _values(left, rows, rank_table["mean_rank"], "{:.2f}")
        left.set_yticks(rows, labels)
        left.invert_yaxis()
        left.set_xlabel("mean rank (lower is better)")
        alone = rank_table["first"] - rank_table["tied_first"]
        right.barh(rows, alone, color=colors, height=0.7)
        right.barh(
            rows,
            rank_table["tied_first"],
            left=alone,
            color="white",
            edgecolor=colors,
            hatch="////",
            height=0.7,
            linewidth=0.8,
        )
        _values(right, rows, rank_table["first"], "{:.0f}")
        hatched = " (hatched: shared)" if rank_table["tied_first"].any() else ""
        right.set_xlabel(f"first places, of {rank_table['settings'].max()} settings{hatched}")
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (left, right):
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
    return figure


def _values(axes: Axes, rows: np.ndarray, values: pd.Series, form: str) -> None:
    for row, value in zip(rows, values, strict=True):
        if pd.isna(value):
            continue
        axes.annotate(
            form.format(value), (value, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7.5
        )
    axes.set_xlim(0, max(1.0, float(values.fillna(0.0).max())) * 1.15)


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
