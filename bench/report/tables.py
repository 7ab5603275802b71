"""Every table of a report, by name, from the rows of a run."""

from collections.abc import Mapping

import pandas as pd

from bench import stats
from bench.report import published
from bench.report.cells import MEASURES
from bench.stats import claims

GAIN_BY = ["group", "student", "recipe", "teacher", "distillation", "round"]
GAIN_BY_SELECTOR = ["teacher", "distillation", "selector"]


def frames_of(rows: pd.DataFrame, picks: pd.Series, control: str) -> dict[str, pd.DataFrame]:
    """The frames of a report.

    Args:
        rows: of settings that every selector has finished; checked by ``stats.check_rows``.
        picks: train rows that each row bought, under the index of ``rows``.
        control: the selector against which others are tested.
    """
    ranked, curves = stats.ranks(rows), stats.curves(rows)
    return {
        "rank_table": stats.rank_table(ranked),
        "rank_table_by_teacher": stats.rank_table_by(ranked, ["teacher", "distillation"]),
        "rank_table_by_stage": stats.rank_table_by(stats.with_stage(ranked), ["stage"]),
        "first_places": stats.first_place_intervals(rows),
        "ranks": ranked,
        "margins": stats.margins(rows),
        "wins": stats.win_matrix(rows),
        "improvement": stats.improvement(rows),
        "mean_ranks": stats.mean_ranks(rows),
        "friedman": stats.friedman(rows),
        "nemenyi": stats.nemenyi(rows),
        "wilcoxon": stats.wilcoxon_holm(rows, control),
        "curves": curves,
        "areas": stats.area_table(rows),
        "paired_areas": stats.paired_areas(rows, control),
        "labels_saved": stats.labels_saved(rows),
        "gain": stats.gain(rows),
        "gain_by_student": stats.gain_summary(rows, GAIN_BY),
        "gain_by_selector": stats.gain_summary(rows[rows["round"] >= 1], GAIN_BY_SELECTOR),
        "gain_summary": stats.gain_summary(rows),
        "gain_split": stats.gain_split(rows),
        "diagnostics": stats.diagnostics(rows, list(MEASURES)),
        "overlap": stats.overlap(rows, picks),
        "costs": stats.costs(rows, ["student", "teacher", "selector"]),
        "pareto": stats.pareto(rows),
        "pareto_overall": stats.pareto_overall(rows),
        "recipes": stats.recipes_beside(rows),
        "seeds_needed": stats.seeds_needed(rows),
        "claim_lead": claims.lead(rows),
        "claim_lift": claims.lift(rows),
        "published": published.beside(curves),
    }


CAPTIONS: Mapping[str, str] = {
    "rank_table": "First places and mean ranks over all settings.",
    "rank_table_by_teacher": "First places and mean ranks by teacher.",
    "rank_table_by_stage": "First places and mean ranks in early and late rounds.",
    "first_places": "First places when seeds are drawn anew, 95 percent of draws.",
    "ranks": "The place of every selector in every setting.",
    "margins": "The first against the second of every setting, paired by seed.",
    "wins": "Settings in which a selector is ahead of another.",
    "improvement": "Probability that a run of one selector has a larger area than a run of another.",
    "mean_ranks": "Mean ranks over configurations and data sets.",
    "friedman": "Friedman's test per query round.",
    "nemenyi": "Nemenyi's test of every pair.",
    "wilcoxon": "Wilcoxon's signed-rank test against the control, Holm's correction.",
    "curves": "Learning curves.",
    "areas": "Area under the budget curve.",
    "paired_areas": "Differences in area from the control, over seeds and over data sets.",
    "labels_saved": "Labels that random needs for the same accuracy.",
    "gain": "Gain of distillation per configuration, selector and round.",
    "gain_by_student": "Gain of distillation per data set and student.",
    "gain_by_selector": "Gain of distillation per selector.",
    "gain_summary": "Gain of distillation.",
    "gain_split": "Gain of distillation by the images distilled on.",
    "diagnostics": "Diagnostics per selector and round.",
    "overlap": "Labels that two selectors have in common.",
    "costs": "Seconds and memory of a round.",
    "pareto": "Area against seconds of a run.",
    "pareto_overall": "Area against seconds, relative to the mean of a configuration.",
    "recipes": "Areas under several recipes.",
    "seeds_needed": "Seeds that a difference needs.",
    "claim_lead": "The lead of PCoreSet after the first rounds.",
    "claim_lift": "The gain of distillation in the first and the last round.",
    "published": "Published numbers beside ours.",
}
"""What the LaTeX tables say of themselves."""
