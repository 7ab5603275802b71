"""Every figure of a report: the section that shows it, and how it is drawn from the frames of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bench import stats
from bench.columns import CONFIGURATION, FIRST_DIAGNOSTICS, SETTING
from bench.report.cells import COST, CURVES, DIAGNOSED, GAINS, RANKS, TESTS, WINS, with_intervals
from bench.report.figures.costs import cost_figure
from bench.report.figures.curves import curve_parts, learning_curves, most_measured
from bench.report.figures.diagnostics import diagnostics_figure
from bench.report.figures.gains import gain_figure
from bench.report.figures.panels import Chart, curve_chart
from bench.report.figures.ranks import critical_difference_figure, rank_figure
from bench.report.figures.style import REFERENCE_STYLES, Style, oracle_styles, selector_styles
from bench.report.figures.wins import win_figure
from bench.report.frames import Frames
from bench.report.reference_lines import LINES

FIRST_SCREEN = ""
"""Instead of a section: the figure of the first screen."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a run.

    Attributes:
        stem: of its files.
        section: title of the section that shows it, or FIRST_SCREEN.
        draw: the figure.
        folded: the HTML page shows it on a click.
    """

    stem: str
    section: str
    draw: Callable[[], Figure]
    folded: bool = False


def styles_of(frames: Frames) -> dict[str, Style]:
    """The style of each selector of a run, by its label."""
    styles = selector_styles(frames["rank_table"]["selector"].tolist())
    return {frames.display.selector(name): style for name, style in styles.items()}


def all_styles_of(frames: Frames) -> dict[str, Style]:
    """``styles_of`` and, after them, the style of each oracle and of each reference line, by its label."""
    oracles = [] if frames.oracles is None else frames.oracles["selector"].unique().tolist()
    lines = REFERENCE_STYLES if LINES in frames.tables else {}
    others = oracle_styles(oracles) | lines
    return styles_of(frames) | {frames.display.selector(name): style for name, style in others.items()}


def _with_others(frames: Frames) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Learning curves, and their differences from the baseline, with oracles and reference lines.

    Neither have bands, and reference lines no differences.
    """
    curves, differences = frames["curves"], frames["curve_differences"]
    bare = {"low": np.nan, "high": np.nan}
    if LINES in frames.tables:
        curves = pd.concat([curves, _lines(frames[LINES]).assign(**bare)], ignore_index=True)
    if frames.oracles is None:
        return curves, differences
    base = frames.seeds[frames.seeds["selector"] == frames.baseline]
    above = stats.curve_differences(pd.concat([base, frames.oracle_seeds], ignore_index=True), frames.baseline)
    return (
        pd.concat([curves, frames["oracle_curves"].assign(**bare)], ignore_index=True),
        pd.concat([differences, above.assign(**bare)], ignore_index=True),
    )


def _lines(references: pd.DataFrame) -> pd.DataFrame:
    """The reference lines as curves, without that of CLAP where the teacher is CLAP, and so has the same line."""
    cells = [*SETTING]
    of_teacher, of_clap = (
        references[references["reference"] == name].set_index(cells)["accuracy"]
        for name in ("teacher_accuracy", "clap_accuracy")
    )
    differs = (of_clap - of_teacher).abs().groupby(list(CONFIGURATION)).max()
    same = differs.index[differs == 0]
    doubled = pd.MultiIndex.from_frame(references[[*CONFIGURATION]]).isin(same)
    kept = references[~(doubled & (references["reference"] == "clap_accuracy"))]
    return kept.rename(columns={"reference": "selector"})


def drawings(frames: Frames) -> list[Drawing]:
    """The figures that a run has data for; nothing is drawn yet."""
    labeled = frames.display.applied
    ranks = labeled(with_intervals(frames["rank_table"], frames["first_places"]))
    styles = styles_of(frames)
    several = len(styles) > 1
    out = [Drawing("ranks", RANKS, partial(rank_figure, ranks, styles))]
    if several and len(frames["mean_ranks"]):
        draw = partial(critical_difference_figure, labeled(frames["mean_ranks"]), frames["friedman"], styles)
        out.append(Drawing("ranks_cd", TESTS, draw))
    if len(frames["wins"]):
        out.append(Drawing("wins", WINS, partial(win_figure, labeled(frames["wins"]), ranks["selector"].tolist())))
    if len(frames["gain_by_student"]):
        out.append(Drawing("gain", GAINS, partial(gain_figure, labeled(frames["gain_by_student"]))))
    out += _diagnostics(frames, styles)
    if several and len(frames["pareto_overall"]):
        out.append(Drawing("costs", COST, partial(cost_figure, labeled(frames["pareto_overall"]), styles)))
    first, subject = most_measured(curve_parts(frames["curves"], frames.display)), subject_of(frames)
    axis = frames.metric.axis
    for stem, title, part in curve_parts(_with_others(frames)[0], frames.display):
        draw = partial(learning_curves, labeled(part), all_styles_of(frames), title=title, subject=subject, axis=axis)
        out.append(Drawing(stem, FIRST_SCREEN if stem == first else CURVES, draw))
    return out


def _diagnostics(frames: Frames, styles: Mapping[str, Style]) -> list[Drawing]:
    """The first diagnostics, and the others in a folded figure; all panels have one axis of rounds."""
    diagnostics = frames.display.applied(frames["diagnostics"])
    if diagnostics.empty:
        return []
    rounds = int(diagnostics["round"].min()), int(diagnostics["round"].max())
    measures = diagnostics["measure"].drop_duplicates().tolist()
    out = []
    for stem, shown, folded in (
        ("diagnostics", measures[: len(FIRST_DIAGNOSTICS)], False),
        ("diagnostics_others", measures[len(FIRST_DIAGNOSTICS) :], True),
    ):
        part = diagnostics[diagnostics["measure"].isin(shown)]
        if len(part):
            out.append(Drawing(stem, DIAGNOSED, partial(diagnostics_figure, part, rounds, styles), folded))
    return out


def subject_of(frames: Frames) -> str | None:
    """The label of the subject of a report."""
    return None if frames.subject is None else frames.display.selector(frames.subject)


def charts_of(frames: Frames) -> dict[str, Chart]:
    """The learning curves of the HTML page, by stem of the figure whose place they take."""
    labeled, styles, subject = frames.display.applied, all_styles_of(frames), subject_of(frames) or ""
    keys = ["group", "student", "recipe"]
    curves, differences = _with_others(frames)
    names = frames.metric.axis, frames.metric.label
    by_part, nothing = dict(iter(differences.groupby(keys))), differences.iloc[:0]
    out = {}
    for stem, title, part in curve_parts(curves, frames.display):
        of_part = by_part.get(tuple(part[keys].iloc[0]), nothing)
        out[stem] = curve_chart(labeled(part), labeled(of_part), styles, title, subject, *names)
    return out
