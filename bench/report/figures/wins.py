"""Figure of pairwise wins."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report.figures.style import COLUMN_INCHES, RC

CELL_INCHES = 0.46

READABLE_SHARE = 0.55
"""Cells of the win matrix above this share of wins have white letters."""

DARK_BLUE = "#08306b"
"""Of the other letters, on light cells: no black, which a dark page would turn light."""


def win_figure(wins: pd.DataFrame, order: Sequence[str]) -> Figure:
    """Settings in which the selector of the row is ahead of that of the column; in brackets the clear ones.

    ``-`` stands for those of a pair without a setting that has enough seeds for a verdict.

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
                color = "white" if share[i, j] > READABLE_SHARE else DARK_BLUE
                label = f"{cell['wins']}\n({cell['clear_wins'] if cell['tested_settings'] else '-'})"
                axes.text(j, i, label, ha="center", va="center", color=color, fontsize=6.5)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(order)), list(order), rotation=45, ha="right")
        axes.set_yticks(range(len(order)), list(order))
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("settings in which the row\nis ahead of the column (clearly)")
    return figure
