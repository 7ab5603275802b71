"""The paper's two claims against a run: paired intervals over seeds, and the verdicts that follow from them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from activekd.errors import unknown
from bench.stats import EARLY_ROUNDS, NO_TEACHER, gain_summary, headline, rank_table, ranks, t_interval

LEADER = "pcoreset"
HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "undecided"
LEAD_CLAIM = (
    f"Under distillation PCoreSet is best after the first {EARLY_ROUNDS} query rounds (paper: first in 64 of 73 "
    f"settings, 87.7%)"
)
LIFT_CLAIM = "Distillation from a teacher lifts the student (paper: +29.07 points on ImageNet in the last round)"
LEAD_WORDS = (("ahead of", HOLDS), ("not told apart from", OPEN), ("behind", FAILS))
LEAD_BY = ["group", "student", "recipe"]
LIFT_BY = ["group", "student", "recipe", "teacher", "distillation", "round"]


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
    found = set(verdicts)
    if FAILS in found:
        return FAILS
    return OPEN if HOLDS not in found else HOLDS if found == {HOLDS} else PARTLY


def lead(rows: pd.DataFrame) -> pd.DataFrame:
    """How far PCoreSet is ahead of each other selector under distillation, after the first EARLY_ROUNDS query rounds.

    Accuracies are averaged over teachers, data sets of the group and rounds within a seed; the 95% Student t interval
    of the paired difference is over seeds.

    Returns:
        Columns group, student, recipe, selector, difference, low, high, n_seeds, verdict; empty without PCoreSet,
        another selector or such rounds.
    """
    late = rows[(rows["teacher"] != NO_TEACHER) & (rows["round"] > EARLY_ROUNDS)]
    out = []
    for key, part in late.groupby(LEAD_BY):
        if LEADER not in set(part["selector"]):
            continue
        index = ["teacher", "distillation", "round", "seed"]
        cells = part.pivot_table(index=index, columns="selector", values="accuracy", aggfunc="mean")
        for other in sorted(set(cells.columns) - {LEADER}):
            per_seed = (cells[LEADER] - cells[other]).groupby("seed").mean().dropna()
            n = len(per_seed)
            middle, low, high = t_interval(per_seed.to_numpy())
            names = dict(zip(LEAD_BY, key, strict=True))  # pyright: ignore[reportArgumentType]
            out.append(
                {
                    **names,
                    "selector": other,
                    "difference": middle,
                    "low": low,
                    "high": high,
                    "n_seeds": n,
                    "verdict": verdict(low, high),
                }
            )
    return pd.DataFrame(out, columns=[*LEAD_BY, "selector", "difference", "low", "high", "n_seeds", "verdict"])


def lift(rows: pd.DataFrame) -> pd.DataFrame:
    """The gain of distillation of each student and teacher in the first and in the last round, where there is one.

    Returns:
        Columns group, student, recipe, teacher, distillation, round, with_teacher, without, difference, low, high,
        n_seeds, verdict.
    """
    gains = gain_summary(rows, LIFT_BY).rename(columns={"gain": "difference"})
    rounds = gains.groupby(LIFT_BY[:-1])["round"]
    ends = gains[(gains["round"] == rounds.transform("min")) | (gains["round"] == rounds.transform("max"))]
    told = [verdict(low, high) for low, high in zip(ends["low"], ends["high"], strict=True)]
    columns = [*LIFT_BY, "with_teacher", "without", "difference", "low", "high", "n_seeds"]
    return ends[columns].assign(verdict=told).reset_index(drop=True)


def _details(ahead: pd.DataFrame) -> str:
    parts = {text: ahead["verdict"] == found for text, found in LEAD_WORDS}
    if len(ahead[LEAD_BY].drop_duplicates()) == 1:
        return "; ".join(
            f"{text} {', '.join(sorted(ahead.loc[chosen, 'selector']))}"
            for text, chosen in parts.items()
            if chosen.any()
        )
    counts = {
        selector: "/".join(str(int((chosen & (ahead["selector"] == selector)).sum())) for chosen in parts.values())
        for selector in sorted(set(ahead["selector"]))
    }
    told = ", ".join(f"{selector} {count}" for selector, count in counts.items())
    return f"{' / '.join(parts)}, counted over data and students: {told}"


def conclusions(rows: pd.DataFrame) -> dict[str, str]:
    """Each claim with what this run says of it; without those that the run cannot say anything of."""
    out = {}
    ahead = lead(rows)
    if len(ahead):
        table = rank_table(ranks(rows[rows["teacher"] != NO_TEACHER]))
        own = table[table["selector"] == LEADER].iloc[0]
        leads = table["selector"].iloc[0] == LEADER
        details = _details(ahead)
        out[LEAD_CLAIM] = (
            f"{overall(ahead['verdict'].tolist())}: first in {own['first']} of {own['settings']} settings with a "
            f"teacher{'' if leads else f' ({headline(table)})'}; in the later rounds, by paired intervals, {details}."
        )
    gains = lift(rows)
    if len(gains):
        found = gains["verdict"].tolist()
        out[LIFT_CLAIM] = (
            f"{overall(found)}: {100 * gains['difference'].min():+.1f} to {100 * gains['difference'].max():+.1f} "
            f"points in the first and the last round of each student and teacher; {found.count(HOLDS)} of {len(found)} "
            f"intervals lie above 0, {found.count(FAILS)} below."
        )
    return out
