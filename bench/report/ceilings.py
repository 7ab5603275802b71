"""Tables of the oracles of a run, which stand apart from all others: what each reaches, and the gap that is closed."""

from collections.abc import Mapping

import pandas as pd

from bench import stats
from bench.report.cells import (
    CEILING,
    CONFIGURATION_COLUMNS,
    N_SEEDS,
    NO_INTERVAL,
    Record,
    interval,
    limits,
    of,
    p_value,
    percent,
    percents,
    points,
    text,
    yes_no,
)
from bench.report.frames import Frames, TableSpec
from bench.report.shown import shown

UNDEFINED = "undefined"
"""The cell of a gap that cannot be closed: the oracle is not significantly above random."""

NOTE = (
    "An oracle reads the true labels of the pool. It is a ceiling and no strategy: it has no rank and takes part in no "
    "test, claim or headline, and figures show it as a dashed line. The gap closed is (method - random) / (oracle - "
    "random), of areas under the budget curve: 100% is the oracle, 0% random. The oracle is greedy: it picks what "
    "helps most in the next round, so a strategy can pass it in later ones. Differences are paired by seed and "
    "averaged over the n seeds that all three have; the interval is Fieller's for a quotient of paired means. It is "
    f"{UNDEFINED} where the oracle is not above random at 5% (paired t test over seeds, Holm's correction over the "
    f"oracles), and with fewer than {stats.VERDICT_LEAST} seeds."
)


def _closed(record: Record) -> str:
    return percent(record["closed"]) if record["is_ceiling"] else UNDEFINED


CEILINGS: Mapping[str, TableSpec] = {
    "oracle_curves": TableSpec(lambda f: stats.curves(f.oracle_seeds), "Learning curves of oracles."),
    "oracles": TableSpec(
        lambda f: stats.oracle_areas(f.areas, f.oracle_areas),
        "Area under the budget curve of oracles.",
        CEILING,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("oracle"),
                "area": of("area", percent),
                "above random, points": of("above", points),
                "95% interval": limits(interval),
                **N_SEEDS,
                "p after Holm": of("p_holm", p_value),
                "above random at 5%": lambda r: NO_INTERVAL if pd.isna(r["p_holm"]) else yes_no(r["is_ceiling"]),
            },
            "Oracles",
        ),
    ),
    "gap_closed": TableSpec(
        lambda f: stats.gap_closed(f.areas, f.oracle_areas),
        "Gap between random and an oracle that each selector closes.",
        CEILING,
        shown(
            {
                **CONFIGURATION_COLUMNS,
                **text("oracle", "selector"),
                "gap closed": _closed,
                "95% interval": limits(percents),
                **N_SEEDS,
            },
            "Gap closed",
        ),
    ),
}
"""Only in the report of a run with oracles."""


def unmeasured(frames: Frames) -> list[str]:
    """A remark where a run has an oracle and no gap."""
    if frames.oracles is None or len(frames["gap_closed"]):
        return []
    return ["No gap is measured: no configuration has the oracle, random and another selector in one seed."]
