"""Every table of a report: its name, how it is computed, its caption, and where and how a page shows it."""

from collections.abc import Mapping

import pandas as pd

from bench.report.ceilings import CEILINGS
from bench.report.comparing import COMPARING
from bench.report.describing import DESCRIBING
from bench.report.frames import TableSpec
from bench.report.occasional import occasional

TABLES: Mapping[str, TableSpec] = {**COMPARING, **DESCRIBING}
"""In the order of the pages. A new table is one entry in one of the two."""


def tables_of(rows: pd.DataFrame, *, has_oracles: bool) -> Mapping[str, TableSpec]:
    """The tables of a run; those of CEILINGS with oracles alone, and those of OCCASIONAL where it has rows for them.

    Args:
        rows: one row per (trial_id, round), without oracles.
        has_oracles: whether the run has oracles.
    """
    return {**TABLES, **(CEILINGS if has_oracles else {}), **occasional(rows)}
