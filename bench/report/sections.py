"""The sections of a run's page: their text, and the tables and figures that belong to each."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from math import isnan

from bench import stats
from bench.columns import DIAGNOSTICS, LABELS
from bench.report.ceilings import NOTE, unmeasured
from bench.report.cells import (
    AREAS,
    BY_RECIPE,
    CEILING,
    CLAIMS,
    CONDITIONS,
    COST,
    CURVES,
    DIAGNOSED,
    GAINS,
    MAIN,
    OVERLAP,
    PARTIAL_MARK,
    PARTS,
    PUBLISHED,
    RANKS,
    RECIPES,
    REFERENCES,
    SAVED,
    SEEDS,
    TESTS,
    WINS,
    Section,
    Table,
)
from bench.report.frames import Frames
from bench.report.main_table import main_tables, rule
from bench.report.occasional import BY_RECIPE_NOTE, CONDITIONS_NOTE
from bench.report.reference_lines import LINES, MAIN_LINES
from bench.report.reference_lines import NOTE as LINES_NOTE
from bench.stats import claims


@dataclass(frozen=True)
class SectionSpec:
    """A section of a run's page.

    Attributes:
        title: by which tables and figures name it.
        text: a paragraph above them; may be empty.
        points: a list above them.
        tables: of several frames, above those that name the section.
        empty: the text where a run has nothing to show; without it the section is left out.
    """

    title: str
    text: str | Callable[[Frames], str] = ""
    points: Callable[[Frames], list[str]] = lambda frames: []
    tables: Callable[[Frames], list[Table]] = lambda frames: []
    empty: str = ""


def ranking_note(frames: Frames) -> str:
    """Above the rank table: what a setting, a clear first place and a partial selector are."""
    ranks, margins, table = frames["ranks"], frames["margins"], frames["rank_table"]
    n, extra = stats.n_settings(ranks), stats.extra_firsts(ranks)
    tested = int(margins["p_holm"].notna().sum())
    note = (
        "A setting is a configuration (data set or group, teacher, student, recipe) at a query round; the shared "
        f"round 0 is left out. First places add up to {int(table['first'].sum())} = {n} settings + {extra} more for "
        "ties. A first place is clear where the first is better than every other selector, paired by seed, at 5% "
        f"after Holm's correction over the others: in {int(margins['clear'].sum())} of the {tested} settings with "
        f"{stats.VERDICT_LEAST} seeds or more. A first place that is not clear is no evidence of a difference. "
        "The interval is for the count that is expected with as many seeds, not for the number of settings in which a "
        f"selector is truly best; '-' stands below {stats.BOOTSTRAP_LEAST} seeds, and where every draw gives the same "
        "count."
    )
    if not table["partial"].any():
        return note
    common = int(table["common_settings"].iloc[0])
    return (
        f"{note} Selectors marked{PARTIAL_MARK} did not take part in every setting; mean ranks and accuracies are over "
        f"the {common} settings in which every selector took part."
    )


def first_tables(frames: Frames) -> list[Table]:
    """The averages of the main table; the first configuration where there is none."""
    worded = frames.metric.worded
    tables = [replace(table, note=worded(table.note)) for table in _main_tables(frames)]
    return tables[: max(1, frames["main"]["average"].max())]


def _main_tables(frames: Frames) -> list[Table]:
    order = frames["rank_table"]["selector"].tolist()
    lines = frames[MAIN_LINES] if MAIN_LINES in frames.tables else None
    return main_tables(frames["main"], frames["main_averages"], frames.display, order, lines)


def first_note(frames: Frames) -> str:
    """Below the first tables: what their numbers and marks mean."""
    return frames.metric.worded(rule(frames["main"], has_references=LINES in frames.tables))


def sections(frames: Frames, figures: Mapping[str, str], folded: Collection[str] = ()) -> list[Section]:
    """All sections below the first screen that a run has anything to show in.

    Args:
        frames: of the run.
        figures: title of the section of each figure, by its stem.
        folded: stems of the figures that the HTML page shows on a click.
    """
    out = []
    for spec in SECTIONS:
        entries = [(frames[name], entry.show) for name, entry in frames.tables.items() if entry.section == spec.title]
        worded = frames.metric.worded if spec.title in MEASURED else str
        of_entries = [
            replace(table, header=[*map(worded, table.header)])
            for frame, show in entries
            for table in show(frame, frames.display)
        ]
        shown = [table for table in (*spec.tables(frames), *of_entries) if table.rows]
        stems = [stem for stem, section in figures.items() if section == spec.title]
        points = spec.points(frames)
        text = spec.text if isinstance(spec.text, str) else spec.text(frames)
        if shown or stems or points:
            open_figures, on_click = ([s for s in stems if (s in folded) is wanted] for wanted in (False, True))
            about = [worded(text)] if text else []
            out.append(Section(worded(spec.title), about, points, open_figures, shown, on_click))
        elif spec.empty:
            out.append(Section(spec.title, [spec.empty]))
    return out


def conclusions(frames: Frames) -> list[str]:
    """Each claim of the paper with this run's conclusion, and the note on frozen backbones where one has that mark.

    The claims are about accuracy: none for another metric.
    """
    if not frames.metric.is_accuracy:
        return []
    lead, lift = frames["claim_lead"], frames["claim_lift"]
    by_claim = claims.conclusions(frames["ranks"], lead, lift, frames.display)
    note = claims.frozen_note([*lead["student"], *lift["student"]])
    return [*(f"{claim}: {conclusion}" for claim, conclusion in by_claim.items()), *note]


MEASURED = (MAIN, RANKS, CURVES, AREAS, GAINS, SAVED)
"""Sections whose title and text are about the measure that is ranked."""

CURVES_NOTE = (
    "Mean test accuracy over seeds; intervals are 95% Student t over the n seeds of a panel. On the HTML page, point "
    "at a panel to read all selectors, and click selectors in the legend to choose them and see their intervals."
)


def _share_of_queries(frames: Frames) -> list[str]:
    share, by_selector = stats.selection_share(frames.rows)
    if isnan(share):
        return []
    largest = frames.display.selector(str(by_selector.index[0]))
    return [
        f"Queries took {share:.1%} of the seconds of all rounds, at most {by_selector.iloc[0]:.1%} of those of a "
        f"selector ({largest}). A fit that several trials share counts for each of them."
    ]


def _frozen(frames: Frames) -> list[str]:
    names = {name for name in frames["gain_by_student"]["student"] if stats.is_frozen(name)}
    students = sorted(frames.display.of("student", name) for name in names)
    if not students or not frames.metric.is_accuracy:
        return []
    return [
        f"{stats.FROZEN_NOTE}: {', '.join(students)}. The table of the parts shows both heads, their mixture and the "
        "teacher."
    ]


def _left_out(frames: Frames) -> list[str]:
    known = [name for name in DIAGNOSTICS if name in frames.rows and frames.rows[name].notna().any()]
    lacking = [LABELS[name] for name in known if name not in set(frames["diagnostics"]["measure"])]
    if not lacking:
        return []
    return [f"Left out, since no round has a value in every run: {', '.join(lacking)}."]


def _notes(frames: Frames) -> list[str]:
    if not frames.metric.is_accuracy:
        return []
    sources = frames["published"][["source", "note"]].drop_duplicates()
    return [f"{source}: {note}" for source, note in sources.itertuples(index=False) if note]


SECTIONS = (
    SectionSpec(
        MAIN,
        "One table per configuration; bold and underlined as above.",
        tables=lambda frames: _main_tables(frames)[len(first_tables(frames)) :],
    ),
    SectionSpec(
        RANKS,
        ranking_note,
        tables=lambda frames: [frames.shown_ranks],
    ),
    SectionSpec(CURVES, CURVES_NOTE),
    SectionSpec(REFERENCES, lambda frames: LINES_NOTE if LINES in frames.tables else ""),
    SectionSpec(
        TESTS,
        "A block is a (configuration, data set), its seeds averaged. A bar joins selectors that are not "
        "significantly different by Nemenyi's test. With fewer than ten blocks p values are by permutation. Blocks "
        "that share data or a teacher are not independent, so p values are too small rather than too large.",
        empty=f"Friedman's, Nemenyi's and Wilcoxon's tests are left out: the run has fewer than {stats.LEAST_DATASETS} "
        "data sets. Blocks of the same images are repetitions, not independent data sets.",
    ),
    SectionSpec(
        WINS,
        f"A win is clear at 5% after Holm's correction over the pairs of a setting, with {stats.VERDICT_LEAST} seeds "
        "or more. The probability of improvement uses the seeds that all configurations of a pair share; its "
        f"interval is by a jackknife over seeds and needs {stats.BOOTSTRAP_LEAST} of them, and '-' also stands where "
        "all seeds give the same share.",
    ),
    SectionSpec(
        AREAS,
        "Mean accuracy over the label budget; paired differences, 95% interval over seeds. Intervals over seeds say "
        "how far other seeds may move a mean, intervals over data sets how far other data sets may. Better and worse "
        f"are at 5% after Holm's correction over the selectors of a configuration; below {stats.VERDICT_LEAST} seeds "
        f"there is no verdict (-), and below {stats.BOOTSTRAP_LEAST} no bootstrap. The time per pick includes the "
        "prediction of the pool, where the selector reads it: predictions of a round with a query minus those of the "
        "last round.",
    ),
    SectionSpec(CEILING, NOTE, points=unmeasured),
    SectionSpec(CONDITIONS, CONDITIONS_NOTE),
    SectionSpec(
        PARTS,
        f"First places and mean rank of each selector by teacher, in early rounds (up to round {stats.EARLY_ROUNDS}) "
        "and in late ones.",
    ),
    SectionSpec(
        GAINS,
        "Accuracy with the teacher minus accuracy without, paired by seed; 95% interval over the n seeds of each data "
        "set and student.",
        points=_frozen,
        empty="The run has no pair of configurations with and without a teacher.",
    ),
    SectionSpec(BY_RECIPE, BY_RECIPE_NOTE),
    SectionSpec(
        SAVED,
        "Labels that each selector needs to reach random's final accuracy (linear interpolation of mean curves), "
        f"with a 95% bootstrap interval over seeds from {stats.BOOTSTRAP_LEAST} seeds on. It cannot be told where "
        "random is flat: its final accuracy is not above its first or, with "
        f"{stats.VERDICT_LEAST} seeds or more, the 95% interval of its rise includes 0.",
    ),
    SectionSpec(
        DIAGNOSED,
        "Means over rounds, configurations and seeds: of each measure the configurations that have it and all "
        "selectors, the seeds that these share, and the rounds in which all have a value. Entropies are shares of "
        "the largest possible; diversity is the mean distance from the nearest other pick over that of a random "
        "draw; a mistake of the teacher is confident at 80% and above. Diagnostics read the labels of the whole "
        "pool; selectors see only queried labels.",
        points=_left_out,
        empty="The rows have no diagnostics of the networks.",
    ),
    SectionSpec(
        OVERLAP,
        "Share of the queried labels that two selectors have in common after the last query, per data set and student.",
    ),
    SectionSpec(
        COST,
        "Seconds of a query, with the prediction of the pool where the selector reads it, and area relative to the "
        "mean over the selectors of the same configuration and seed; only configurations in which every selector took "
        "part, and the seeds that these share. Bars are 95% intervals of the area over seeds.",
        _share_of_queries,
    ),
    SectionSpec(
        SEEDS, "Seeds that a paired t test at 5% needs to detect a difference of a given size with 80% probability."
    ),
    SectionSpec(
        RECIPES,
        "Areas of the same configuration under several recipes. A recipe with fixed steps spends equal compute in "
        "every round; one whose steps grow with the labels does not. Areas are over the rounds and seeds that all "
        "recipes share.",
    ),
    SectionSpec(
        PUBLISHED,
        "Published accuracies of the same data sets, student, teacher network and adaptation, selector, round and "
        "number of labels. Recipes may differ.",
        points=_notes,
    ),
    SectionSpec(CLAIMS, points=conclusions),
)
"""In the order of the page."""
