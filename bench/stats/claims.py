"""The paper's two claims tested on a run: paired intervals over seeds, and the verdicts that follow from them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from activekd.errors import unknown
from activekd.recipes import NO_TEACHER
from bench.stats.gains import GAIN_BY_STUDENT
from bench.stats.intervals import t_interval
from bench.stats.ranking import EARLY_ROUNDS, headline, rank_table
from bench.stats.rows import first_rounds, last_rounds

LEADER = "pcoreset"
HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "undecided"
LEAD_CLAIM = (
    f"Under distillation PCoreSet is best after the first {EARLY_ROUNDS} query rounds (paper: first in 64 of 73 "
    f"settings, 87.7%)"
)
LIFT_CLAIM = "Distillation from a teacher lifts the student (paper: +29.07 points on ImageNet in the last round)"
LEAD_WORDS = (("ahead of", HOLDS), ("not significantly different from", OPEN), ("behind", FAILS))
LEAD_KEYS = ["group", "student", "recipe"]


def control_of(rows: pd.DataFrame, wanted: str | None = None) -> str:
    """The selector against which others are tested: the wanted one, else PCoreSet, random, or the first by name.

    Raises:
        InputError: the wanted one took no part.
    """
    names = sorted(rows["selector"].unique())
    if wanted is not None and wanted not in names:
        raise unknown("control", wanted, names)
    return wanted or next((name for name in (LEADER, "random") if name in names), names[0])


def verdict(low: float, high: float) -> str:
    """``holds`` where the interval lies above 0, ``does not hold`` where it lies below, else ``undecided``."""
    if np.isnan(low) or np.isnan(high):
        return OPEN
    return HOLDS if low > 0 else FAILS if high < 0 else OPEN


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on a claim from those on its parts: one part that fails is enough to fail it."""
    kinds = set(verdicts)
    if FAILS in kinds:
        return FAILS
    return OPEN if HOLDS not in kinds else HOLDS if kinds == {HOLDS} else PARTLY


def lead(seeds: pd.DataFrame) -> pd.DataFrame:
    """Lead of PCoreSet over each other selector under distillation, after the first EARLY_ROUNDS query rounds.

    Accuracies are averaged over teachers and rounds within a seed; the 95% Student t interval of the paired difference
    is over seeds.

    Args:
        seeds: ``rows.seed_means``.

    Returns:
        Columns group, student, recipe, selector, difference, low, high, n_seeds, verdict; empty without PCoreSet,
        another selector or such rounds.
    """
    late = seeds[(seeds["teacher"] != NO_TEACHER) & (seeds["round"] > EARLY_ROUNDS)]
    out = []
    for key, part in late.groupby(LEAD_KEYS):
        if LEADER not in set(part["selector"]):
            continue
        index = ["teacher", "distillation", "round", "seed"]
        cells = part.pivot_table(index=index, columns="selector", values="accuracy")
        names = dict(zip(LEAD_KEYS, key, strict=True))  # pyright: ignore[reportArgumentType]
        for other in sorted(set(cells.columns) - {LEADER}):
            differences = (cells[LEADER] - cells[other]).groupby("seed").mean().dropna().to_numpy()
            difference, low, high = t_interval(differences)
            limits = {"difference": difference, "low": low, "high": high, "n_seeds": len(differences)}
            out.append({**names, "selector": other, **limits, "verdict": verdict(low, high)})
    return pd.DataFrame(out, columns=[*LEAD_KEYS, "selector", "difference", "low", "high", "n_seeds", "verdict"])


def lift(gains: pd.DataFrame) -> pd.DataFrame:
    """Gain of distillation of each student and teacher in the first and in the last round, with a verdict.

    Args:
        gains: ``gains.gain_summary`` by GAIN_BY_STUDENT.

    Returns:
        Columns of GAIN_BY_STUDENT, with_teacher, without, difference, low, high, n_seeds, verdict.
    """
    keys = [name for name in GAIN_BY_STUDENT if name != "round"]
    chosen = first_rounds(gains, keys).index.union(last_rounds(gains, keys).index)
    ends = gains.loc[chosen].rename(columns={"gain": "difference"}).reset_index(drop=True)
    verdicts = [verdict(low, high) for low, high in zip(ends["low"], ends["high"], strict=True)]
    columns = [*GAIN_BY_STUDENT, "with_teacher", "without", "difference", "low", "high", "n_seeds"]
    return ends[columns].assign(verdict=verdicts)


def _details(lead: pd.DataFrame) -> str:
    parts = {words: lead["verdict"] == kind for words, kind in LEAD_WORDS}
    if len(lead[LEAD_KEYS].drop_duplicates()) == 1:
        return "; ".join(
            f"{words} {', '.join(sorted(lead.loc[chosen, 'selector']))}"
            for words, chosen in parts.items()
            if chosen.any()
        )
    counts = {
        selector: "/".join(str(int((chosen & (lead["selector"] == selector)).sum())) for chosen in parts.values())
        for selector in sorted(set(lead["selector"]))
    }
    counted = ", ".join(f"{selector} {count}" for selector, count in counts.items())
    return f"{' / '.join(parts)}, counted over data and students: {counted}"


def conclusions(ranks: pd.DataFrame, lead: pd.DataFrame, lift: pd.DataFrame) -> dict[str, str]:
    """Each claim with this run's conclusion; without claims that the run has no rows for.

    Args:
        ranks: ``ranking.ranks``.
        lead: ``lead`` of the same rows.
        lift: ``lift`` of the same rows.
    """
    out = {}
    if len(lead):
        table = rank_table(ranks[ranks["teacher"] != NO_TEACHER])
        leader = table[table["selector"] == LEADER].iloc[0]
        is_first = table["selector"].iloc[0] == LEADER
        out[LEAD_CLAIM] = (
            f"{overall(lead['verdict'].tolist())}: first in {leader['first']} of {leader['settings']} settings with a "
            f"teacher{'' if is_first else f' ({headline(table)})'}; in the later rounds, by paired intervals, "
            f"{_details(lead)}."
        )
    if len(lift):
        verdicts = lift["verdict"].tolist()
        out[LIFT_CLAIM] = (
            f"{overall(verdicts)}: {100 * lift['difference'].min():+.1f} to {100 * lift['difference'].max():+.1f} "
            f"points in the first and the last round of each student and teacher; {verdicts.count(HOLDS)} of "
            f"{len(verdicts)} intervals lie above 0, {verdicts.count(FAILS)} below."
        )
    return out
