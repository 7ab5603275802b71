"""Frames to figures: critical differences, wins, accuracy against cost, and diagnostics; as ``bench.plots``."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.plots import COLUMN_INCHES, PAGE_INCHES, RC, Style, legend, panels_of

ROW_INCHES = 0.42
"""Height of a query round in the diagram of critical differences."""

CELL_INCHES = 0.46
READABLE_SHARE = 0.55
"""A cell of the win matrix that is filled to more than this has white letters."""


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


def win_figure(wins: pd.DataFrame, order: Sequence[str]) -> Figure:
    """In how many settings the selector of the row is ahead of that of the column; in brackets those that are clear.

    Args:
        wins: ``stats.win_matrix``.
        order: of the selectors.
    """
    cells = {(cell["selector"], cell["against"]): cell for cell in wins.to_dict("records")}
    side = CELL_INCHES * len(order)
    with rc_context(RC):
        figure = Figure(figsize=(max(COLUMN_INCHES, side + 1.6), side + 1.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        share = np.full((len(order), len(order)), np.nan)
        for i, one in enumerate(order):
            for j, other in enumerate(order):
                if (one, other) not in cells:
                    continue
                cell = cells[one, other]
                share[i, j] = cell["wins"] / max(1, cell["settings"])
                color = "white" if share[i, j] > READABLE_SHARE else "black"
                said = f"{cell['wins']}\n({cell['clear_wins']})"
                axes.text(j, i, said, ha="center", va="center", color=color, fontsize=6.5)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(order)), list(order), rotation=45, ha="right")
        axes.set_yticks(range(len(order)), list(order))
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("settings in which the row is ahead of the column (clearly)")
    return figure


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
            own = overall[overall["selector"] == selector]
            axes.plot(
                own["seconds"],
                100 * own["area"],
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
