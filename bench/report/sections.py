"""The sections of a run's page: their text, and the tables and figures that belong to each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.report.cells import (
    AREAS,
    CLAIMS,
    COST,
    CURVES,
    DIAGNOSED,
    GAINS,
    OVERLAP,
    PARTS,
    PUBLISHED,
    RECIPES,
    SAVED,
    SEEDS,
    TESTS,
    WINS,
    Section,
)
from bench.report.frames import Frames
from bench.report.tables import TABLES
from bench.stats import claims


@dataclass(frozen=True)
class SectionSpec:
    """A section of a run's page.

    Attributes:
        title: by which tables and figures name it.
        text: a paragraph above them; may be empty.
        points: a list above them.
        empty: the text where a run has nothing to show; without it the section is left out.
    """

    title: str
    text: str = ""
    points: Callable[[Frames], list[str]] = lambda frames: []
    empty: str = ""


def sections(frames: Frames, figures: Mapping[str, str]) -> list[Section]:
    """All sections below the first screen that a run has anything to show in.

    Args:
        frames: of the run.
        figures: title of the section of each figure, by its stem.
    """
    out = []
    for spec in SECTIONS:
        shown = [
            table
            for name, entry in TABLES.items()
            if entry.section == spec.title
            for table in entry.show(frames[name])
            if table.rows
        ]
        stems = [stem for stem, section in figures.items() if section == spec.title]
        points = spec.points(frames)
        if shown or stems or points:
            out.append(Section(spec.title, [spec.text] if spec.text else [], points, stems, shown))
        elif spec.empty:
            out.append(Section(spec.title, [spec.empty]))
    return out


def conclusions(frames: Frames) -> list[str]:
    """Each claim of the paper with this run's conclusion."""
    by_claim = claims.conclusions(frames["ranks"], frames["claim_lead"], frames["claim_lift"])
    return [f"{claim}: {conclusion}" for claim, conclusion in by_claim.items()]


def _notes(frames: Frames) -> list[str]:
    sources = frames["published"][["source", "note"]].drop_duplicates()
    return [f"{source}: {note}" for source, note in sources.itertuples(index=False) if note]


SECTIONS = (
    SectionSpec(CLAIMS, points=conclusions),
    SectionSpec(
        CURVES,
        "Mean test accuracy over seeds; intervals are 95% Student t. On the HTML page, click a selector to see its "
        "interval.",
    ),
    SectionSpec(
        TESTS,
        "A block is a (configuration, data set), its seeds averaged. A bar joins selectors that are not significantly "
        "different by Nemenyi's test. Blocks that share data or a teacher are not independent, so p values are too "
        "small rather than too large.",
    ),
    SectionSpec(WINS),
    SectionSpec(
        AREAS,
        "Mean accuracy over the label budget; paired differences, 95% interval over seeds. Intervals over seeds say "
        "how far other seeds may move a mean, intervals over data sets how far other data sets may.",
    ),
    SectionSpec(PARTS),
    SectionSpec(
        GAINS,
        "Accuracy with the teacher minus accuracy without: mean over data sets, students and selectors, 95% interval "
        "over seeds.",
        empty="The run has no pair of configurations with and without a teacher.",
    ),
    SectionSpec(
        SAVED,
        "Labels that random needs to reach each selector's final accuracy (linear interpolation); a lower bound where "
        "random never reaches it.",
    ),
    SectionSpec(
        DIAGNOSED,
        "Means over rounds, configurations and seeds. Entropies are shares of the largest possible; diversity is the "
        "mean distance from the nearest other pick over that of a random draw; a mistake of the teacher is confident "
        "at 80% and above. Diagnostics read the labels of the whole pool; selectors see only queried labels.",
        empty="The rows have no diagnostics of the networks.",
    ),
    SectionSpec(OVERLAP, "Share of the queried labels that two selectors have in common after the last query."),
    SectionSpec(
        COST, "Seconds and areas of whole runs, relative to the mean over the selectors of the same configuration."
    ),
    SectionSpec(
        SEEDS, "Seeds that a paired t test at 5% needs to detect a difference of a given size with 80% probability."
    ),
    SectionSpec(
        RECIPES,
        "Areas of the same configuration under several recipes. A recipe with fixed steps spends equal compute in "
        "every round; one whose steps grow with the labels does not.",
    ),
    SectionSpec(PUBLISHED, points=_notes),
)
"""In the order of the page."""
