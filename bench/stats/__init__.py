"""Data frame in, data frame out: from one row per (trial, round) to curves, ranks, tests, gains, areas and costs.

Three rules hold in every module.

1. Unequal seeds and rounds. A comparison averages its cells within a seed, over those rounds, and of these those
   seeds, that all its cells have (``rows.alike``). Nothing is pooled over configurations of unequal rounds or seeds, so
   curves keep one population in all rounds. Every interval has its number of seeds, n, beside it.
2. Few seeds. Below VERDICT_LEAST seeds nothing is called better, worse, clear or significant, and no claim has a
   verdict. Below BOOTSTRAP_LEAST nothing is bootstrapped: the limits are NaN.
3. Families. Verdicts follow from p values after Holm's correction within a family of comparisons; each function states
   its family. Intervals are those of one comparison, without correction.
"""

from bench.columns import CONFIGURATION, SETTING
from bench.stats.areas import (
    BASELINE,
    area_table,
    compare_with,
    improvement,
    paired_areas,
    references_in,
    run_areas,
    seed_areas,
)
from bench.stats.baselines import LAST, recipe_gains, skyline_gaps
from bench.stats.compute import compute_table
from bench.stats.conditions import condition_table, conditions
from bench.stats.costs import (
    costs,
    pareto,
    pareto_overall,
    query_seconds,
    recipe_areas,
    seconds_per_pick,
    selection_share,
)
from bench.stats.facts import Facts, facts_of, joint_provenance
from bench.stats.gains import (
    FROZEN_NOTE,
    GAIN_BY_SELECTOR,
    GAIN_BY_STUDENT,
    GAIN_BY_TEACHER,
    gain,
    gain_split,
    gain_summary,
    heads,
    is_frozen,
    pooled_gains,
    query_rounds,
    seed_gains,
)
from bench.stats.hypotheses import (
    LEAST_DATASETS,
    blocks,
    critical_difference,
    enough_data_sets,
    friedman,
    mean_ranks,
    nemenyi,
    wilcoxon_holm,
)
from bench.stats.intervals import (
    BOOTSTRAP_LEAST,
    CONFIDENCE,
    VERDICT_LEAST,
    bootstrap_interval,
    holm,
    mean_interval,
    t_interval,
)
from bench.stats.main_table import main_averages, main_table
from bench.stats.oracles import gap_closed, oracle_areas
from bench.stats.picks import diagnostic_means, diagnostics, overlap
from bench.stats.power import seeds_needed
from bench.stats.published import compare_with_published, of_data_sets, published_summary
from bench.stats.ranking import (
    EARLY_ROUNDS,
    TIE,
    curve_differences,
    curves,
    extra_firsts,
    first_place_intervals,
    headline,
    headline_confidence,
    margins,
    n_settings,
    rank_table,
    rank_table_by,
    ranks,
    win_matrix,
    with_stage,
)
from bench.stats.references import has_references, main_references, reference_seeds, references
from bench.stats.rows import REQUIRED, alike, check_rows, first_rounds, last_rounds, seed_means
from bench.stats.runs import common_cells, run_differences
from bench.stats.savings import labels_saved

__all__ = [
    "BASELINE",
    "BOOTSTRAP_LEAST",
    "CONFIDENCE",
    "CONFIGURATION",
    "EARLY_ROUNDS",
    "FROZEN_NOTE",
    "GAIN_BY_SELECTOR",
    "GAIN_BY_STUDENT",
    "GAIN_BY_TEACHER",
    "LAST",
    "LEAST_DATASETS",
    "REQUIRED",
    "SETTING",
    "TIE",
    "VERDICT_LEAST",
    "Facts",
    "alike",
    "area_table",
    "blocks",
    "bootstrap_interval",
    "check_rows",
    "common_cells",
    "compare_with",
    "compare_with_published",
    "compute_table",
    "condition_table",
    "conditions",
    "costs",
    "critical_difference",
    "curve_differences",
    "curves",
    "diagnostic_means",
    "diagnostics",
    "enough_data_sets",
    "extra_firsts",
    "facts_of",
    "first_place_intervals",
    "first_rounds",
    "friedman",
    "gain",
    "gain_split",
    "gain_summary",
    "gap_closed",
    "has_references",
    "headline",
    "headline_confidence",
    "heads",
    "holm",
    "improvement",
    "is_frozen",
    "joint_provenance",
    "labels_saved",
    "last_rounds",
    "main_averages",
    "main_references",
    "main_table",
    "margins",
    "mean_interval",
    "mean_ranks",
    "n_settings",
    "nemenyi",
    "of_data_sets",
    "oracle_areas",
    "overlap",
    "paired_areas",
    "pareto",
    "pareto_overall",
    "pooled_gains",
    "published_summary",
    "query_rounds",
    "query_seconds",
    "rank_table",
    "rank_table_by",
    "ranks",
    "recipe_areas",
    "recipe_gains",
    "reference_seeds",
    "references",
    "references_in",
    "run_areas",
    "run_differences",
    "seconds_per_pick",
    "seed_areas",
    "seed_gains",
    "seed_means",
    "seeds_needed",
    "selection_share",
    "skyline_gaps",
    "t_interval",
    "wilcoxon_holm",
    "win_matrix",
    "with_stage",
]
