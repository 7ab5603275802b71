"""Every table of a report: its name, how it is computed, its caption, and where and how a page shows it."""

from collections.abc import Mapping

import pandas as pd

from bench.report.ceilings import CEILINGS
from bench.report.cells import CLAIMS, PUBLISHED
from bench.report.comparing import COMPARING
from bench.report.describing import DESCRIBING
from bench.report.frames import TableSpec
from bench.report.metrics import Metric
from bench.report.occasional import occasional
from bench.report.reference_lines import LINE_TABLES

OF_ACCURACY = frozenset({"heads", "compute", "gain_by_recipe"})
"""Names of tables about accuracy alone, beside the sections CLAIMS and PUBLISHED."""

TABLES: Mapping[str, TableSpec] = {**COMPARING, **DESCRIBING}
"""In the order of the pages. A new table is one entry in one of the two."""


def tables_of(
    rows: pd.DataFrame, metric: Metric, *, has_oracles: bool, has_references: bool
) -> Mapping[str, TableSpec]:
    """The tables of a run, of which those of OCCASIONAL need rows for them.

    Args:
        rows: one row per (trial_id, round), without oracles.
        metric: that is ranked; tables about accuracy alone are left out for another one.
        has_oracles: whether it has oracles, which have the tables of CEILINGS.
        has_references: whether it has reference lines, which have those of LINE_TABLES.
    """
    known = {
        **TABLES,
        **(LINE_TABLES if has_references else {}),
        **(CEILINGS if has_oracles else {}),
        **occasional(rows),
    }
    if metric.is_accuracy:
        return known
    others = {CLAIMS, PUBLISHED}
    return {name: spec for name, spec in known.items() if name not in OF_ACCURACY and spec.section not in others}
