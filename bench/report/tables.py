"""Every table of a report: its name, how it is computed, its caption, and where and how a page shows it."""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from bench import stats
from bench.columns import CONFIGURATION, DIAGNOSTICS, LABELS, SECONDS
from bench.report.cells import (
    AREAS,
    CLAIMS,
    CONFIGURATION_COLUMNS,
    COST,
    DIAGNOSED,
    GAIN_COLUMNS,
    GAINS,
    OVERLAP,
    PARTS,
    PUBLISHED,
    RECIPES,
    SAVED,
    SEEDS,
    TESTS,
    WINS,
    decimals,
    interval,
    known_interval,
    limits,
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
    bounded,
    diagnostic_tables,
    difference_from,
    published_tables,
    rank_parts,
    recipe_tables,
    seeds_for,
    shown,
)
from bench.stats import claims
from bench.stats.hypotheses import DIFFERENCES

TABLES: Mapping[str, TableSpec] = {
    "rank_table": TableSpec(lambda f: stats.rank_table(f["ranks"]), "First places and mean ranks over all settings."),
    "first_places": TableSpec(
        lambda f: stats.first_place_intervals(f.seeds), "First places, 95 percent bootstrap interval over seeds."
    ),
    "ranks": TableSpec(
        lambda f: stats.ranks(f["curves"], f["margins"]), "The rank of every selector in every setting."
    ),
    "margins": TableSpec(
        lambda f: stats.margins(f["curves"], f.seeds), "The first against the second of every setting, paired by seed."
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
                **text("verdict"),
            },
            f"Rounds after the first {stats.EARLY_ROUNDS} queries, with a teacher; paired differences, 95% interval "
            "over seeds",
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
                **text("verdict"),
            },
            "First and last round",
        ),
    ),
    "mean_ranks": TableSpec(lambda f: stats.mean_ranks(f.blocks), "Mean ranks over configurations and data sets."),
    "friedman": TableSpec(
        lambda f: stats.friedman(f.blocks),
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
                "left out": of("left_out", or_none),
            },
            "Friedman's test that all selectors have equal ranks",
        ),
    ),
    "nemenyi": TableSpec(lambda f: stats.nemenyi(f.blocks), "Nemenyi's test of every pair."),
    "wilcoxon": TableSpec(
        lambda f: stats.wilcoxon_holm(f.blocks, f.run_areas, f.control),
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
                f"better than {claims.LEADER}": of("better", or_none),
                "not significantly different": of("not_different", or_none),
                "worse": of("worse", or_none),
            }
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
                "ms per pick": lambda record: f"{1000 * record['seconds_per_pick']:.2f}",
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
                "95% Student t": limits(known_interval),
                "95% bootstrap": limits(known_interval, "bootstrap_low", "bootstrap_high"),
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
    "gain_summary": TableSpec(
        lambda f: stats.gain_summary(f.gains),
        "Gain of distillation.",
        GAINS,
        shown(
            {
                "teacher": teacher,
                **text("round"),
                "with teacher": of("with_teacher", percent),
                "without": of("without", percent),
                LABELS["teacher_accuracy"]: of("teacher_accuracy", percent),
                **GAIN_COLUMNS,
            }
        ),
    ),
    "gain_by_selector": TableSpec(
        lambda f: stats.gain_summary(stats.query_rounds(f.gains), stats.GAIN_BY_SELECTOR),
        "Gain of distillation per selector.",
        GAINS,
        shown({**text("selector"), "teacher": teacher, **GAIN_COLUMNS}, "Per selector, query rounds"),
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
    "gain_by_student": TableSpec(
        lambda f: stats.gain_summary(f.gains, stats.GAIN_BY_STUDENT),
        "Gain of distillation per data set and student.",
        GAINS,
        shown({**CONFIGURATION_COLUMNS, **text("round"), **GAIN_COLUMNS}, "Per data set and student"),
    ),
    "labels_saved": TableSpec(
        lambda f: stats.labels_saved(f["curves"]),
        "Labels that random needs for the same accuracy.",
        SAVED,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("selector"),
                "labels": of("n_labeled", "{:g}".format),
                "accuracy": of("accuracy", percent),
                "labels of random": bounded("reference_labels", ".0f"),
                "saved": bounded("saved", "+.0f"),
            },
            select=partial(stats.last_rounds, by=CONFIGURATION),
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
                **text("selector", "against"),
                "labels in common": of("overlap", percent),
                "pairs of runs": of("n", str),
            },
            select=lambda frame: frame[frame["round"] == frame["round"].max()],
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
        lambda f: stats.costs(f.rows, ["student", "teacher", "selector"]),
        "Seconds and memory of a round.",
        COST,
        shown(
            {
                **text("student"),
                "teacher": teacher,
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
                "spread in points": lambda r: "one seed" if pd.isna(r["spread"]) else f"{100 * r['spread']:.2f}",
                "seeds in this run": of("n_seeds", str),
                **{f"seeds for {100 * d:g} points": seeds_for(d) for d in DIFFERENCES},
            }
        ),
    ),
    "recipes": TableSpec(lambda f: stats.recipe_areas(f.areas), "Areas under several recipes.", RECIPES, recipe_tables),
    "published_summary": TableSpec(
        lambda f: stats.published_summary(f["published"]),
        "Differences from published and other reference numbers.",
        PUBLISHED,
        shown(
            {
                **text("source", "student", "recipe"),
                "teacher": teacher,
                "this run minus reference, points": of("mean", points),
                "range over cells": limits(interval, "min", "max"),
                "cells": of("n_cells", str),
                "intervals overlap in": of("n_overlap", str),
            }
        ),
    ),
    "published": TableSpec(
        lambda f: stats.compare_with_published(f["curves"], published_cells()),
        "Published and other reference numbers, and those of this run.",
        PUBLISHED,
        published_tables,
    ),
}
"""In the order of the pages. A new table is one entry here."""
