"""Every table of a report: its name, how it is computed, its caption, and where and how a page shows it."""

from collections.abc import Mapping

from bench.report.ceilings import CEILINGS
from bench.report.comparing import COMPARING
from bench.report.describing import DESCRIBING
from bench.report.frames import TableSpec

TABLES: Mapping[str, TableSpec] = {**COMPARING, **DESCRIBING}
"""In the order of the pages. A new table is one entry in one of the two."""


def tables_of(*, has_oracles: bool) -> Mapping[str, TableSpec]:
    """The tables of a run; those of CEILINGS with oracles alone."""
    return {**TABLES, **CEILINGS} if has_oracles else TABLES
