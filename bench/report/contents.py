"""What a page shows: its first screen, sections and provenance, as text and tables ready for a template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from activekd.datasets.choices import test_split
from activekd.datasets.conditions import CONDITIONS
from activekd.given import split_name
from bench.display import CONDITION_LABELS, Display, names_in
from bench.report.cells import Section, Table
from bench.report.figures.style import Style
from bench.report.frames import Frames
from bench.report.sections import first_note, first_tables
from bench.spec import PROTOCOL
from bench.stats import Facts
from bench.store.table import Run
from bench.terminal import gist

TRIALS_NAMED = 10
"""Unfinished trials that a page names."""


@dataclass(frozen=True)
class Page:
    """What the pages of one run and of several runs share.

    Attributes:
        name: of the run or runs.
        headline: the largest line.
        caveats: shown above the first table.
        tables: of the first screen.
        note: below them.
        sections: below the first screen.
        provenance: commits, versions and devices of the rows.
        styles: of each selector, by its label.
    """

    name: str
    headline: str
    caveats: list[str]
    tables: list[Table]
    note: str
    sections: list[Section]
    provenance: Mapping[str, list[str]]
    styles: Mapping[str, Style]


@dataclass(frozen=True)
class Missing:
    """What an unfinished run lacks.

    Attributes:
        n: missing (trial, round)s.
        n_planned: (trial, round)s of the plan.
        trials: one line per trial with a missing round, at most TRIALS_NAMED.
        left_out: what is not ranked for that, and why.
    """

    n: int
    n_planned: int
    trials: list[str]
    left_out: list[str] = field(default_factory=list)


def missing_of(run: Run) -> Missing:
    """The missing (trial, round)s of a run; none in a finished one."""
    lines = []
    for trial_id, part in run.holes.groupby("trial_id", sort=False):
        first = part.iloc[0]
        name = " ".join(str(first[c]) for c in ("dataset", "teacher", "student", "selector"))
        why = run.failures.get(str(trial_id))
        failed = "" if why is None else f", failed: {gist(why)}"
        lines.append(f"{name} seed {first['seed']} from round {part['round'].min()}{failed}")
    return Missing(len(run.holes), len(run.plan), lines[:TRIALS_NAMED])


def run_page(run: Run, frames: Frames, facts: Facts, sections: list[Section], styles: Mapping[str, Style]) -> Page:
    """The page of one run."""
    return Page(
        name=f"{run.name}, only {run.part}" if run.part else run.name,
        headline=frames.headline,
        caveats=[*_part_caveat(run), *caveats(facts)],
        tables=first_tables(frames),
        note=first_note(frames),
        sections=sections,
        provenance=facts.provenance,
        styles=styles,
    )


def _part_caveat(run: Run) -> list[str]:
    if not run.part:
        return []
    return [f"This is a part of {run.name}: the {run.plan['trial_id'].nunique()} trials with {run.part}."]


def caveats(facts: Facts) -> list[str]:
    """Caveats shown above the first table."""
    out = []
    if len(facts.distinct["seed"]) == 1:
        out.append("The run has one seed, so it has no intervals.")
    if len(facts.distinct["selector"]) == 1:
        out.append("The run has one selector, so it has no ranking.")
    if facts.protocol != PROTOCOL:
        out.append(
            f"The rows have protocol {facts.protocol}; this version runs protocol {PROTOCOL}, whose numbers may differ."
        )
    if chosen_on := [
        f"{name} ({split})" for name in facts.distinct["dataset"] if (split := test_split(name)) != "test"
    ]:
        out.append(
            f"Accuracy is measured on another split than test, to choose by: {', '.join(chosen_on)}. "
            f"These are no results on test images."
        )
    kinds = {"commit": "commits", "versions": "sets of versions", "device": "kinds of device"}
    mixed = [f"{len(facts.provenance[c])} {kind}" for c, kind in kinds.items() if len(facts.provenance[c]) > 1]
    if mixed:
        out.append(f"The rows come from {', '.join(mixed)}; see Provenance.")
    return out


def fact_lines(facts: Facts, n_planned: int, display: Display) -> dict[str, str]:
    """What the run consists of, by name."""
    distinct = facts.distinct

    def named(kind: str) -> str:
        return "; ".join(display.of(kind, name) for name in distinct[kind])

    return {
        "data sets": named("dataset"),
        **_conditions(distinct["dataset"]),
        "teachers": named("teacher"),
        "students": named("student"),
        "selectors": named("selector"),
        **({"oracles, not ranked": "; ".join(map(display.selector, facts.oracles))} if facts.oracles else {}),
        "seeds": ", ".join(distinct["seed"]),
        "trials": f"{facts.n_trials:,}",
        "rounds": f"{facts.n_rows:,} of {n_planned:,} planned",
        "protocol": str(facts.protocol),
        "compute": f"{facts.seconds / 60:.1f} minutes on one core in trials",
    }


def _conditions(datasets: Sequence[str]) -> dict[str, str]:
    """What the conditions of the data sets mean."""
    met = {key for name in datasets for key, _ in split_name(name)[1]}
    lines = [f"{CONDITION_LABELS[key]}: {kind.meaning}" for key, kind in CONDITIONS.items() if key in met]
    return {"conditions, one draw a seed unless the name has one": "; ".join(lines)} if lines else {}


def shown_names(frames: Frames) -> dict[str, str]:
    """The name in the spec of every label that differs from it."""
    pairs = [(frames.display.of(kind, name), name) for kind, names in names_in(frames.rows).items() for name in names]
    return {label: name for label, name in pairs if label != name}
