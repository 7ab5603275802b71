"""The gallery of query strategies: what each does, needs and costs, and its learning curve, as a page."""

import importlib
import inspect
import re
from pathlib import Path

import pandas as pd
import typer
from matplotlib import rc_context
from matplotlib.figure import Figure

from activekd.recipes import NO_TEACHER
from activekd.selectors import SELECTORS, Selector
from bench.report.blocks import around_block, replace_block
from bench.report.figures.style import RC, draw_line, name_axes, panels_of, points, save, selector_styles
from bench.report.frames import Frames
from bench.report.pages import digest_of, frames_of
from bench.stats.intervals import mean_interval
from bench.store.table import Run, read_run
from bench.terminal import user_errors

ROOT = Path(__file__).parents[1]
RUN = ROOT / "results" / "field"
GROUP = "caltech-70"
"""The data whose trials with a teacher the gallery shows, since strategies that read a teacher run there too."""

PAGE = ROOT / "docs" / "selectors.md"
FIGURE = ROOT / "docs" / "selectors"
"""The figure's path without suffix."""

BLOCK = "gallery"
REFERENCE = "random"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown", help=__doc__)


def shown(run: Run) -> Run:
    """The trials of a run that the gallery shows; oracles are left out."""
    plan = run.plan
    chosen = (plan["group"] == GROUP) & (plan["teacher"] != NO_TEACHER) & ~plan["selector"].isin(list(run.oracles))
    return run.restricted_to(set(plan.loc[chosen, "trial_id"]))


def gallery(frames: Frames) -> str:
    """The generated block of the page: one section a strategy of the package, in the order of SELECTORS."""
    areas = frames["areas"].set_index("selector")
    return "\n\n".join(_section(chosen, areas) for chosen in SELECTORS.values())


def _section(chosen: Selector, areas: pd.DataFrame) -> str:
    module, _, function = str(chosen.query).partition(":")
    text = inspect.getdoc(getattr(importlib.import_module(module), function)) or ""
    text = re.sub(r"``([^`]+)``", r"`\1`", text.replace("\n\n", "\0").replace("\n", " ").replace("\0", "\n\n"))
    needs = ", ".join(f"`{name}`" for name in sorted(chosen.needs)) or "nothing but the pool"
    facts = [f"needs {needs}"]
    if chosen.name in areas.index:
        row = areas.loc[chosen.name]
        facts.append(f"{1000 * row['selection_per_pick']:.2g} ms a pick")
        if chosen.name != REFERENCE:
            low, high = 100 * row["against_random_low"], 100 * row["against_random_high"]
            facts.append(
                f"{100 * row['against_random']:+.2f} points over `random` by area under the budget curve (95% interval "
                f"over seeds {low:+.2f} to {high:+.2f}, n = {row['against_random_n_seeds']:.0f})"
            )
    return f"### {chosen.name}\n\n{text}\n\n*{'; '.join(facts)}.*"


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy minus that of ``random`` at equal seed and labels: mean and 95% interval over seeds, by labels."""
    by_seed = rows.pivot_table(index=["n_labeled", "seed"], columns="selector", values="accuracy")
    paired = by_seed.sub(by_seed[REFERENCE], axis=0).drop(columns=REFERENCE)
    long = paired.melt(ignore_index=False, value_name="difference").reset_index()
    return mean_interval(long, ["selector", "n_labeled"], "difference")


def draw(rows: pd.DataFrame) -> Figure:
    """One panel a strategy of the package: its ``differences`` over the number of labels."""
    lines, styles = differences(rows), selector_styles([*SELECTORS])
    names = [name for name in SELECTORS if name in set(lines["selector"])]
    with rc_context(RC):
        figure, panels = panels_of(len(names))
        for axes, name in zip(panels, names, strict=True):
            line = lines[(lines["selector"] == name) & (lines["n_labeled"] > lines["n_labeled"].min())]
            draw_line(axes, line, "n_labeled", "mean", styles[name], name)
            axes.axhline(0.0, color=styles[REFERENCE].color, linewidth=0.8)
            axes.set_title(name)
            axes.yaxis.set_major_formatter(points())
        name_axes(panels, "labels", f"points over {REFERENCE}")
    return figure


@app.command(epilog="Example: `python tools/gallery.py`")
def write() -> None:
    """Write the block and the figure of docs/selectors.md from the docstrings and a committed run."""
    with user_errors():
        frames = frames_of(shown(read_run(RUN)))
        around_block(PAGE, BLOCK)
        replace_block(PAGE, BLOCK, gallery(frames))
        _, *others = save(draw(frames.rows), FIGURE, digest_of(frames))
        for other in others:
            other.unlink()


if __name__ == "__main__":
    app()
