"""Every table of a report: its name, how it is computed, its caption, and where and how a page shows it."""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from bench import stats
from bench.columns import CONFIGURATION, DIAGNOSTICS, HEADS, LABELS, SECONDS
from bench.report.cells import (
    AREAS,
    CLAIMS,
    CONFIGURATION_COLUMNS,
    COST,
    DIAGNOSED,
    GAIN_COLUMNS,
    GAINS,
    N_SEEDS,
    NO_INTERVAL,
    OVERLAP,
    PARTS,
    PUBLISHED,
    RECIPES,
    SAVED,
    SEEDS,
    TESTS,
    WINS,
    Columns,
    decimals,
    interval,
    limits,
    milliseconds,
    of,
    or_none,
    p_value,
    percent,
    percents,
    points,
    teacher,
    text,
    yes_no,
)
from bench.report.frames import TableSpec
from bench.report.published import published_cells
from bench.report.shown import (
    against_control,
    compared,
    diagnostic_tables,
    difference_from,
    labels_limits,
    labels_needed,
    labels_saved,
    measured,
    overlapping,
    published_tables,
    rank_parts,
    recipe_tables,
    seeds_for,
    shown,
)
from bench.stats import claims
from bench.stats.power import DIFFERENCES

TESTED: Columns = {**N_SEEDS, "p after Holm": of("p_holm", p_value), **text("verdict")}

TABLES: Mapping[str, TableSpec] = {
    "rank_table": TableSpec(lambda f: stats.rank_table(f["ranks"]), "First places and mean ranks over all settings."),
    "first_places": TableSpec(
        lambda f: stats.first_place_intervals(f.seeds),
        "First places, 95 percent interval over seeds of the expected count.",
    ),
    "ranks": TableSpec(
        lambda f: stats.ranks(f["curves"], f["margins"]), "The rank of every selector in every setting."
    ),
    "margins": TableSpec(
        lambda f: stats.margins(f["curves"], f.seeds), "The first against every other of every setting, paired by seed."
    ),
    "curves": TableSpec(lambda f: stats.curves(f.seeds), "Learning curves."),
    "claim_lead": TableSpec(
        lambda f: claims.lead(f.seeds),
        "The lead of PCoreSet after the first rounds.",
        CLAIMS,
        shown(
            {
                **text("group", "student"),
                "PCoreSet against": of("selector", str),
                "difference in points": of("difference", points),
                "95% interval": limits(interval),
                **TESTED,
            },
            f"Rounds after the first {stats.EARLY_ROUNDS} queries, with a teacher; paired differences, 95% interval "
            "over seeds; Holm's correction over the selectors of a student",
        ),
    ),
    "claim_lift": TableSpec(
        lambda f: claims.lift(f["gain_by_student"]),
        "The gain of distillation in the first and the last round.",
        CLAIMS,
        shown(
            {
                **text("group", "student"),
                "teacher": teacher,
                **text("round"),
                "with teacher": of("with_teacher", percent),
                "without": of("without", percent),
                "gain in points": of("difference", points),
                "95% interval": limits(interval),
                **TESTED,
            },
            "First and last round; Holm's correction over the teachers and both rounds of a student",
        ),
    ),
    "mean_ranks": TableSpec(
        lambda f: stats.mean_ranks(stats.enough_data_sets(f.blocks)), "Mean ranks over configurations and data sets."
    ),
    "friedman": TableSpec(
        lambda f: stats.friedman(stats.enough_data_sets(f.blocks)),
        "Friedman's test per query round.",
        TESTS,
        shown(
            {
                **text("round"),
                "blocks": of("n_blocks", str),
                "data sets": of("n_datasets", str),
                "selectors": of("n_selectors", str),
                "chi-squared": of("statistic", decimals(2)),
                "p": of("p", p_value),
                "p of Iman and Davenport": of("f_p", p_value),
                "critical difference": of("critical_difference", decimals(2)),
                "by permutation": of("permuted", yes_no),
                "left out": of("left_out", or_none),
            },
            "Friedman's test that all selectors have equal ranks",
        ),
    ),
    "nemenyi": TableSpec(lambda f: stats.nemenyi(stats.enough_data_sets(f.blocks)), "Nemenyi's test of every pair."),
    "wilcoxon": TableSpec(
        lambda f: stats.wilcoxon_holm(stats.enough_data_sets(f.blocks), stats.enough_data_sets(f.run_areas), f.control),
        "Wilcoxon's signed-rank test against the control, Holm's correction.",
        TESTS,
        against_control(
            {
                **text("measure", "selector"),
                "blocks": of("n_blocks", str),
                "median difference": of("median_difference", points),
                "W": of("statistic", "{:g}".format),
                "p": of("p", p_value),
                "p after Holm": of("p_holm", p_value),
                "significant at 5%": of("significant", yes_no),
            },
            "Wilcoxon's signed-rank test against {control}, Holm's correction; differences in points",
        ),
    ),
    "wins": TableSpec(lambda f: stats.win_matrix(f.seeds), "Settings in which a selector is ahead of another."),
    "improvement": TableSpec(
        lambda f: stats.improvement(f.areas),
        "Probability that a run of one selector has a larger area than a run of another.",
        WINS,
        shown(
            {
                **text("selector", "against"),
                "probability": of("probability", percent),
                "95% over seeds": limits(percents),
                **N_SEEDS,
                "configurations": of("n_configurations", str),
            },
            "Probability that a run of the selector has a larger area than a run of the other",
        ),
    ),
    "area_comparison": TableSpec(
        lambda f: stats.compare_with(f["areas"], claims.LEADER),
        "Selectors compared with PCoreSet by area.",
        AREAS,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **N_SEEDS,
                f"better than {claims.LEADER}": compared("better"),
                "not significantly different": compared("not_different"),
                "worse": compared("worse"),
            },
            "After Holm's correction over the selectors of a configuration",
        ),
    ),
    "areas": TableSpec(
        lambda f: stats.area_table(f.areas, stats.seconds_per_pick(f.rows)),
        "Area under the budget curve.",
        AREAS,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("selector"),
                "area": of("area", percent),
                **{f"against {name}, points (95% interval)": difference_from(name) for name in stats.REFERENCES},
                "ms per pick, pool prediction included": of("seconds_per_pick", milliseconds),
                "of these selection": of("selection_per_pick", milliseconds),
            },
            "Per configuration and selector",
        ),
    ),
    "paired_areas": TableSpec(
        lambda f: stats.paired_areas(f.run_areas, f.control),
        "Differences in area from the control, over seeds and over data sets.",
        AREAS,
        against_control(
            {
                **CONFIGURATION_COLUMNS,
                **text("selector", "over", "n"),
                "difference": of("difference", points),
                "95% Student t": limits(interval),
                "95% bootstrap": limits(interval, "bootstrap_low", "bootstrap_high"),
            },
            "Differences from {control} in points: over seeds, and over data sets",
        ),
    ),
    "rank_table_by_teacher": TableSpec(
        lambda f: stats.rank_table_by(f["ranks"], ["teacher", "distillation"]),
        "First places and mean ranks by teacher.",
        PARTS,
        rank_parts(["teacher", "distillation"], teacher),
    ),
    "rank_table_by_stage": TableSpec(
        lambda f: stats.rank_table_by(stats.with_stage(f["ranks"]), ["stage"]),
        "First places and mean ranks in early and late rounds.",
        PARTS,
        rank_parts(["stage"], lambda record: f"{record['stage']} rounds"),
    ),
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
            {**text("group", "student", "teacher", "recipe", "selector", "distillation"), **GAIN_COLUMNS},
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
    "diagnostics": TableSpec(lambda f: stats.diagnostics(f.rows, DIAGNOSTICS), "Diagnostics per selector and round."),
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
    "pareto": TableSpec(lambda f: stats.pareto(f.areas, f.rows), "Area against seconds of a run."),
    "pareto_overall": TableSpec(
        lambda f: stats.pareto_overall(f["pareto"]),
        "Area against seconds, relative to the mean of a configuration.",
        COST,
        shown(
            {
                **text("selector"),
                "relative seconds": of("seconds", decimals(2)),
                "area, points above the mean": of("area", points),
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
"""In the order of the pages. A new table is one entry here."""
