"""Tables that only some runs have: compute of several recipes, gains by recipe, and strategies under conditions."""

from collections.abc import Callable, Mapping

import pandas as pd

from bench import stats
from bench.columns import LABELS
from bench.display import Display
from bench.report.cells import (
    BY_RECIPE,
    CONDITIONS,
    CONFIGURATION_COLUMNS,
    GAIN_COLUMNS,
    RECIPES,
    Cell,
    Columns,
    Marked,
    Record,
    Table,
    decimals,
    interval,
    limits,
    of,
    p_value,
    percent,
    percents,
    points,
    teacher,
    text,
    yes_no,
)
from bench.report.frames import TableSpec
from bench.report.shown import shown
from bench.stats.conditions import BETTER, WORSE

EQUAL_COMPUTE = (
    "Images through the student and seconds of training are of a fit, means over rounds. Bold: the largest accuracy in "
    "the last round; underlined: not significantly below it, paired by seed, at 5% after Holm's correction over the "
    "recipes. Compute is equal where all recipes of a configuration send equally many images through the student."
)

BY_RECIPE_NOTE = (
    "What a teacher adds to each recipe: accuracy with it minus accuracy without it, paired by seed, over the "
    "selectors, rounds and seeds that all recipes of a student and teacher have. For a recipe that learns from "
    "unlabeled images without a teacher, it is what distillation adds to semi-supervised learning. Holm's correction "
    "is over the recipes of a student and teacher."
)

CONDITIONS_NOTE = (
    "Areas under the budget curve by condition: groups that share their data and differ in what is done to the pool or "
    "in the query size. Against random: paired by seed, 95% interval; better and worse at 5% after Holm's correction "
    f"over the selectors of a configuration, from {stats.VERDICT_LEAST} seeds on. Lost: the area under the plain "
    "condition minus that under the condition, paired by seed; with left-out classes there are other test images, so "
    "nothing is compared with the plain condition."
)

SIGNIFICANT = {BETTER: " better", WORSE: " worse"}
"""Behind a difference from random that is significant."""


def compute_tables(frame: pd.DataFrame, display: Display) -> list[Table]:
    """The compute of recipes, the best accuracy of a configuration in bold."""
    before: Columns = {
        **CONFIGURATION_COLUMNS,
        LABELS["forward_passes"]: of("forward_passes", "{:,.0f}".format),
        "equal compute": of("equal", yes_no),
        "training, s": of("train_seconds", decimals(2)),
        **text("round"),
    }
    after: Columns = {"95% interval": limits(percents), "n (seeds)": of("n_seeds", str)}
    rows: list[list[Cell]] = [
        [
            *(cell(record) for cell in before.values()),
            Marked(percent(record["accuracy"]), best=record["best"], tied=record["tied"]),
            *(cell(record) for cell in after.values()),
        ]
        for record in display.applied(frame).to_dict("records")
    ]
    header = [*before, LABELS["accuracy"], *after]
    return [Table(header, rows, "Compute and accuracy of a fit", note=EQUAL_COMPUTE)]


def condition_tables(frame: pd.DataFrame, display: Display) -> list[Table]:
    """Differences from random and what is lost to the plain condition: selectors by conditions, a table each."""
    differs = _by_condition("against random, points", _against_random)
    lost = _by_condition("points lost to the plain condition", _lost)
    kinds = ["base", "student", "teacher", "distillation", "recipe"]
    out = []
    for _, part in frame.groupby(kinds, sort=False):
        first = display.applied(part.head(1)).to_dict("records")[0]
        name = ", ".join([first["student"], teacher(first), first["recipe"]])
        out.append(differs(part, display, name))
        if part["lost"].notna().any():
            out.append(lost(part[part["plain"] != ""], display, name))
    return out


def _by_condition(what: str, cell: Callable[[Record], str]) -> Callable[[pd.DataFrame, Display, str], Table]:
    """A table with a row for each selector, by its mean area, and a column for each condition."""

    def built(part: pd.DataFrame, display: Display, name: str) -> Table:
        records = part.to_dict("records")
        cells = {(r["selector"], r["group"]): cell(r) for r in records}
        groups = part["group"].drop_duplicates().tolist()
        means = part.groupby("selector")["area"].mean().sort_values(ascending=False, kind="stable")
        rows: list[list[Cell]] = [
            [display.selector(str(selector)), *(cells.get((selector, group), "") for group in groups)]
            for selector in means.index
        ]
        return Table([LABELS["selector"], *(display.of("group", g) for g in groups)], rows, f"{name}: {what}")

    return built


def _against_random(record: Record) -> str:
    if pd.isna(record["against_random"]):
        return ""
    mark = SIGNIFICANT.get(record["verdict"], "")
    return f"{points(record['against_random'])} ({interval(record['low'], record['high'])}){mark}"


def _lost(record: Record) -> str:
    if pd.isna(record["lost"]):
        return ""
    return f"{points(record['lost'])} ({interval(record['lost_low'], record['lost_high'])})"


OCCASIONAL: Mapping[str, TableSpec] = {
    "compute": TableSpec(
        lambda f: stats.compute_table(f.rows),
        "Compute and accuracy of several recipes.",
        RECIPES,
        compute_tables,
    ),
    "gain_by_recipe": TableSpec(
        lambda f: stats.recipe_gains(f.rows),
        "Gain of distillation by recipe.",
        BY_RECIPE,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("measure"),
                "with teacher": of("with_teacher", percent),
                "without": of("without", percent),
                **GAIN_COLUMNS,
                "p after Holm": of("p_holm", p_value),
            }
        ),
    ),
    "conditions": TableSpec(
        lambda f: stats.condition_table(
            stats.conditions(f.rows), stats.area_table(f.areas, stats.seconds_per_pick(f.rows), f.control), f.areas
        ),
        "Area of each selector under each condition.",
        CONDITIONS,
        condition_tables,
    ),
}
"""Only in the reports of runs that they have rows in."""


def occasional(rows: pd.DataFrame) -> Mapping[str, TableSpec]:
    """The tables of OCCASIONAL that a run has.

    Args:
        rows: one row per (trial_id, round), without oracles.
    """
    has = {
        "compute": not stats.compute_table(rows).empty,
        "gain_by_recipe": not stats.recipe_gains(rows).empty,
        "conditions": not stats.conditions(rows).empty and stats.BASELINE in set(rows["selector"]),
    }
    return {name: spec for name, spec in OCCASIONAL.items() if has[name]}
