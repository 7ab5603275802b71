"""Tables of the reference lines of a run, which are not ranked."""

from collections.abc import Mapping

from bench import stats
from bench.report.cells import CONFIGURATION_COLUMNS, N_SEEDS, REFERENCES, limits, of, percent, percents, text
from bench.report.frames import TableSpec
from bench.report.shown import shown

LINES, MAIN_LINES = "references", "main_references"
"""Names of the tables."""

NOTE = (
    "Accuracies to compare the strategies with, neither ranked nor tested. All labels: the student, with "
    "its teacher where it has one, fitted once a seed with every label of the pool. Teacher alone: the fitted teacher. "
    "Linear probe and CLAP: fitted on the teacher's image features. The last three have the labels of random's rounds, "
    "whose trials measure all four; mean over seeds."
)

LINE_TABLES: Mapping[str, TableSpec] = {
    LINES: TableSpec(
        lambda f: stats.references(f.reference_seeds),
        "Reference lines per configuration and round.",
        REFERENCES,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("round", "reference"),
                "accuracy": of("accuracy", percent),
                "95% interval": limits(percents),
                **N_SEEDS,
            }
        ),
    ),
    MAIN_LINES: TableSpec(
        lambda f: stats.main_references(f.reference_seeds, f.seeds, f.budgets),
        "Reference lines at the numbers of labels of the main table.",
    ),
}
"""Only in the report of a run that has measured them."""
