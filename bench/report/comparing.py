"""Tables that compare selectors: how each is computed, its caption, and where and how a page shows it."""

from collections.abc import Mapping

from bench import stats
from bench.report.cells import (
    AREAS,
    CLAIMS,
    CONFIGURATION_COLUMNS,
    N_SEEDS,
    PARTS,
    TESTS,
    WINS,
    decimals,
    interval,
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
from bench.report.shown import against_control, area_tables, comparison_tables, part_tables, shown
from bench.stats import claims

TESTED = {**N_SEEDS, "p after Holm": of("p_holm", p_value), **text("verdict")}

COMPARING: Mapping[str, TableSpec] = {
    "rank_table": TableSpec(lambda f: stats.rank_table(f["ranks"]), "First places and mean ranks over all settings."),
    "first_places": TableSpec(
        lambda f: stats.first_place_intervals(f.seeds),
        "First places and mean ranks, 95 percent intervals over seeds of what is expected.",
    ),
    "ranks": TableSpec(
        lambda f: stats.ranks(f["curves"], f["margins"]), "The rank of every selector in every setting."
    ),
    "margins": TableSpec(
        lambda f: stats.margins(f["curves"], f.seeds), "The first against every other of every setting, paired by seed."
    ),
    "curves": TableSpec(lambda f: stats.curves(f.seeds), "Learning curves."),
    "curve_differences": TableSpec(
        lambda f: stats.curve_differences(f.seeds, f.baseline), "Learning curves as differences from a reference."
    ),
    "main": TableSpec(lambda f: stats.main_table(f.seeds, f.budgets), "Accuracy at some numbers of labels."),
    "main_averages": TableSpec(
        lambda f: stats.main_averages(f.seeds, f.budgets), "Configurations in the averages of the main table."
    ),
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
        lambda f: stats.compare_with(f["areas"], f.control),
        "Selectors compared with the control by area.",
        AREAS,
        comparison_tables,
    ),
    "areas": TableSpec(
        lambda f: stats.area_table(f.areas, stats.seconds_per_pick(f.rows), f.control),
        "Area under the budget curve.",
        AREAS,
        area_tables,
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
    "rank_table_by_teacher_and_stage": TableSpec(
        lambda f: stats.rank_table_by(stats.with_stage(f["ranks"]), ["teacher", "distillation", "stage"]),
        "First places and mean ranks by teacher, in early and late rounds.",
        PARTS,
        part_tables,
    ),
}
