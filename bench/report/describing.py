"""Tables of gains, labels saved, diagnostics, costs, recipes and published numbers, likewise."""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from bench import stats
from bench.columns import CONFIGURATION, DIAGNOSTICS, FIRST_DIAGNOSTICS, HEADS, LABELS, SECONDS
from bench.report.cells import (
    CONFIGURATION_COLUMNS,
    COST,
    DIAGNOSED,
    GAIN_COLUMNS,
    GAINS,
    N_SEEDS,
    NO_INTERVAL,
    OVERLAP,
    PUBLISHED,
    RECIPES,
    SAVED,
    SEEDS,
    decimals,
    interval,
    limits,
    of,
    percent,
    points,
    teacher,
    text,
    yes_no,
)
from bench.report.frames import TableSpec
from bench.report.published import published_cells
from bench.report.shown import (
    diagnostic_tables,
    labels_limits,
    labels_needed,
    labels_saved,
    measured,
    overlapping,
    published_tables,
    recipe_tables,
    seeds_for,
    shown,
)
from bench.stats.power import DIFFERENCES

ORDERED_DIAGNOSTICS = tuple(dict.fromkeys([*FIRST_DIAGNOSTICS, *DIAGNOSTICS]))

DESCRIBING: Mapping[str, TableSpec] = {
    "gain": TableSpec(lambda f: stats.gain(f.gains), "Gain of distillation per configuration, selector and round."),
    "gain_by_student": TableSpec(
        lambda f: stats.gain_summary(f.gains, stats.GAIN_BY_STUDENT),
        "Gain of distillation per data set and student.",
        GAINS,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("round"),
                "with teacher": of("with_teacher", percent),
                "without": of("without", percent),
                LABELS["teacher_accuracy"]: of("teacher_accuracy", percent),
                **GAIN_COLUMNS,
            },
            "Per data set and student, mean over selectors",
        ),
    ),
    "heads": TableSpec(
        lambda f: stats.heads(f.rows, f.gains),
        "Accuracy of the parts of a distilled student, first and last round.",
        GAINS,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("round"),
                "no distillation": of("without", percent),
                **{LABELS[name]: measured(name) for name in HEADS},
                "mixture of both": of("with_teacher", percent),
                LABELS["teacher_accuracy"]: of("teacher_accuracy", percent),
                **N_SEEDS,
                **text("backbone"),
            },
            "Parts of the student, mean over selectors, first and last round",
        ),
    ),
    "gain_summary": TableSpec(
        lambda f: stats.pooled_gains(f.gains),
        "Gain of distillation over data sets, students and selectors.",
        GAINS,
        shown(
            {
                "teacher": teacher,
                **text("round"),
                "with teacher": of("with_teacher", percent),
                "without": of("without", percent),
                LABELS["teacher_accuracy"]: of("teacher_accuracy", percent),
                **GAIN_COLUMNS,
            },
            "Mean over data sets, students and selectors, where all of them have the same rounds and seeds",
        ),
    ),
    "gain_by_selector": TableSpec(
        lambda f: stats.gain_summary(stats.query_rounds(f.gains), stats.GAIN_BY_SELECTOR),
        "Gain of distillation per selector.",
        GAINS,
        shown(
            {**CONFIGURATION_COLUMNS, **text("selector"), **GAIN_COLUMNS},
            "Per selector, mean over query rounds",
        ),
    ),
    "gain_split": TableSpec(
        lambda f: stats.gain_split(f.gains),
        "Gain of distillation by the images distilled on.",
        GAINS,
        shown(
            {
                **text("group", "student"),
                LABELS["teacher"]: of("teacher", str),
                **text("recipe", "selector", "distillation"),
                **GAIN_COLUMNS,
            },
            "By the images distilled on",
        ),
    ),
    "labels_saved": TableSpec(
        lambda f: stats.labels_saved(f.seeds),
        "Labels that each selector needs for the final accuracy of random.",
        SAVED,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("selector"),
                "final accuracy of random": of("accuracy", percent),
                "labels of random": of("reference_labels", "{:g}".format),
                "labels needed": labels_needed,
                "95% over seeds": labels_limits,
                **N_SEEDS,
                "saved": labels_saved,
            },
        ),
    ),
    "diagnostics": TableSpec(
        lambda f: stats.diagnostics(f.rows, ORDERED_DIAGNOSTICS),
        "Diagnostics per selector and round.",
    ),
    "diagnostic_means": TableSpec(
        lambda f: stats.diagnostic_means(f["diagnostics"]),
        "Diagnostics per selector, means over rounds.",
        DIAGNOSED,
        diagnostic_tables,
    ),
    "overlap": TableSpec(
        lambda f: stats.overlap(f.rows, f.picks),
        "Queried labels that two selectors have in common.",
        OVERLAP,
        shown(
            {
                **text("group", "student", "selector", "against"),
                "labels in common": of("overlap", percent),
                "pairs of runs": of("n", str),
                **N_SEEDS,
            },
            select=partial(stats.last_rounds, by=["group", "student", "recipe"]),
        ),
    ),
    "pareto": TableSpec(
        lambda f: stats.pareto(f.areas, stats.query_seconds(f.rows)), "Area against seconds of a query."
    ),
    "pareto_overall": TableSpec(
        lambda f: stats.pareto_overall(f.areas, stats.query_seconds(f.rows)),
        "Area relative to the mean of a configuration, against seconds of a query.",
        COST,
        shown(
            {
                **text("selector"),
                "seconds of a query": of("seconds", decimals(4)),
                "area, points above the mean": of("area", points),
                "95% interval": limits(interval, "area_low", "area_high"),
                **N_SEEDS,
                "on the Pareto front": of("on_front", yes_no),
            }
        ),
    ),
    "costs": TableSpec(
        lambda f: stats.costs(f.rows, [*CONFIGURATION, "selector"]),
        "Seconds and memory of a round.",
        COST,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("selector"),
                **{LABELS[name]: of(name, decimals(3)) for name in SECONDS},
                LABELS["peak_rss_bytes"]: lambda record: f"{record['peak_rss_bytes'] / 1e6:.0f}",
            },
            "Seconds and memory of a round",
        ),
    ),
    "seeds_needed": TableSpec(
        lambda f: stats.seeds_needed(f.areas, f.seeds),
        "Seeds that a difference needs.",
        SEEDS,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("measure"),
                "spread in points": lambda r: NO_INTERVAL if pd.isna(r["spread"]) else f"{100 * r['spread']:.2f}",
                "seeds in this run": of("n_seeds", str),
                **{f"seeds for {100 * d:g} points": seeds_for(d) for d in DIFFERENCES},
            }
        ),
    ),
    "recipes": TableSpec(lambda f: stats.recipe_areas(f.rows), "Areas under several recipes.", RECIPES, recipe_tables),
    "published_summary": TableSpec(
        lambda f: stats.published_summary(f["published"]),
        "Differences from published numbers.",
        PUBLISHED,
        shown(
            {
                **text("source", "student", "recipe"),
                "teacher": teacher,
                "this run minus published, points": of("mean", points),
                "range over cells": limits(interval, "min", "max"),
                "cells": of("n_cells", str),
                **N_SEEDS,
                "intervals overlap in": overlapping,
            }
        ),
    ),
    "published": TableSpec(
        lambda f: stats.compare_with_published(f["curves"], stats.of_data_sets(published_cells(), f.rows)),
        "Published numbers, and those of this run.",
        PUBLISHED,
        published_tables,
    ),
}
