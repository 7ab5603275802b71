"""The paper's two claims tested on a run: paired intervals over seeds, and the verdicts that follow from them.

A verdict follows from p after Holm's correction within a family; below VERDICT_LEAST seeds there is none.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from activekd.errors import unknown
from activekd.recipes import NO_TEACHER
from bench.columns import LABELS
from bench.display import Display
from bench.stats.gains import FROZEN_NOTE, GAIN_BY_STUDENT, is_frozen
from bench.stats.intervals import ALPHA, VERDICT_LEAST, holm, mean_interval, seeds_label
from bench.stats.ranking import EARLY_ROUNDS, headline, rank_table
from bench.stats.rows import alike, first_rounds, last_rounds

LEADER = "pcoreset"
HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "undecided"
NO_VERDICT = f"no verdict below {VERDICT_LEAST} seeds"
LEAD_CLAIM = (
    f"Under distillation PCoreSet is best after the first {EARLY_ROUNDS} query rounds (paper: first in 64 of 73 "
    f"settings, 87.7%)"
)
LIFT_CLAIM = "Distillation from a teacher lifts the student (paper: +29.07 points on ImageNet in the last round)"
LEAD_WORDS = (
    ("ahead of", HOLDS),
    ("not significantly different from", OPEN),
    ("behind", FAILS),
    (f"{NO_VERDICT} on", NO_VERDICT),
)
STUDENT_KEYS = ["group", "student", "recipe"]
"""A family of Holm's: the comparisons of one data set or group, student and recipe."""

TESTED = ["difference", "low", "high", "n_seeds", "p", "p_holm", "verdict"]


def control_of(rows: pd.DataFrame, wanted: str | None = None) -> str:
    """The selector against which others are tested: the wanted one, else PCoreSet, random, or the first by name.

    Raises:
        InputError: the wanted one took no part.
    """
    names = sorted(rows["selector"].unique())
    if wanted is not None and wanted not in names:
        raise unknown("subject", wanted, names)
    return wanted or next((name for name in (LEADER, "random") if name in names), names[0])


def verdict(difference: float, p: float) -> str:
    """What a comparison says about a claim that the difference is positive.

    Args:
        difference: the mean.
        p: two-sided, after Holm's correction; NaN below VERDICT_LEAST seeds.

    Returns:
        HOLDS or FAILS where p is below 5%, by the sign of the difference; else OPEN; NO_VERDICT without a p.
    """
    if np.isnan(p):
        return NO_VERDICT
    return OPEN if p >= ALPHA else HOLDS if difference > 0 else FAILS


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on a claim from those on its parts: one part that fails is enough to fail it."""
    kinds = set(verdicts)
    if FAILS in kinds:
        return FAILS
    if kinds <= {NO_VERDICT}:
        return NO_VERDICT
    return OPEN if HOLDS not in kinds else HOLDS if kinds == {HOLDS} else PARTLY


def _with_verdicts(tests: pd.DataFrame) -> pd.DataFrame:
    tests = tests.assign(p_holm=holm(tests, STUDENT_KEYS))
    verdicts = [verdict(d, p) for d, p in zip(tests["difference"], tests["p_holm"], strict=True)]
    return tests.assign(verdict=verdicts)


def lead(seeds: pd.DataFrame) -> pd.DataFrame:
    """Lead of PCoreSet over each other selector under distillation, after the first EARLY_ROUNDS query rounds.

    The cells of a comparison are the (teacher, distillation)s of a (group, student, recipe) in which both selectors
    took part. Only rounds, and of these seeds, that all cells share are averaged, within a seed. The 95% Student t
    interval of the paired difference is over seeds; a family of Holm's is the selectors of a (group, student, recipe).

    Args:
        seeds: ``rows.seed_means``.

    Returns:
        Columns group, student, recipe, selector, difference, low, high, n_seeds, p, p_holm, verdict, n_teachers (cells
        averaged); empty without PCoreSet, another selector or such rounds.
    """
    late = seeds[(seeds["teacher"] != NO_TEACHER) & (seeds["round"] > EARLY_ROUNDS)]
    cell = ["teacher", "distillation"]
    on = [*STUDENT_KEYS, *cell, "round", "seed"]
    leader = late[late["selector"] == LEADER][[*on, "accuracy"]]
    pairs = late[late["selector"] != LEADER].merge(leader, on=on, suffixes=("", "_leader"))
    pairs = pairs.assign(difference=pairs["accuracy_leader"] - pairs["accuracy"])
    keys = [*STUDENT_KEYS, "selector"]
    wanted = pairs[keys].drop_duplicates()
    same = alike(pairs, keys, cell)
    n_teachers = pairs[[*keys, *cell]].drop_duplicates().groupby(keys).size().rename("n_teachers").reset_index()
    found = mean_interval(same.groupby([*keys, "seed"])["difference"].mean().reset_index(), keys, "difference")
    found = wanted.merge(found.rename(columns={"mean": "difference"}), on=keys, how="left").merge(n_teachers, on=keys)
    found = found.assign(n_seeds=found["n_seeds"].fillna(0).astype(int)).sort_values(keys, ignore_index=True)
    return _with_verdicts(found)[[*keys, *TESTED, "n_teachers"]]


def lift(gains: pd.DataFrame) -> pd.DataFrame:
    """Gain of distillation of each student and teacher in the first and in the last round, with a verdict.

    A family of Holm's is the teachers and both rounds of a (group, student, recipe).

    Args:
        gains: ``gains.gain_summary`` by GAIN_BY_STUDENT.

    Returns:
        Columns of GAIN_BY_STUDENT, with_teacher, without, difference, low, high, n_seeds, p, p_holm, verdict.
    """
    keys = [name for name in GAIN_BY_STUDENT if name != "round"]
    chosen = first_rounds(gains, keys).index.union(last_rounds(gains, keys).index)
    ends = gains.loc[chosen].rename(columns={"gain": "difference"}).reset_index(drop=True)
    return _with_verdicts(ends)[[*GAIN_BY_STUDENT, "with_teacher", "without", *TESTED]]


def _details(lead: pd.DataFrame, display: Display) -> str:
    lead = lead.assign(selector=lead["selector"].map(display.selector).astype(object))
    parts = {words: lead["verdict"] == kind for words, kind in LEAD_WORDS}
    if not parts[LEAD_WORDS[-1][0]].any():
        parts.pop(LEAD_WORDS[-1][0])
    if len(lead[STUDENT_KEYS].drop_duplicates()) == 1:
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
    words = " / ".join(part.removesuffix(" on") for part in parts)
    return f"{words}, counted over data and students: {counted}"


def _by_student(lift: pd.DataFrame, display: Display) -> str:
    parts = []
    recipes = lift.groupby(["group", "student"])["recipe"].nunique().max()
    for (group, student, recipe), part in lift.groupby(STUDENT_KEYS):
        names = [display.of(kind, str(name)) for kind, name in zip(STUDENT_KEYS, (group, student, recipe), strict=True)]
        name = ", ".join(names if recipes > 1 else names[:2])
        low, high = 100 * part["difference"].min(), 100 * part["difference"].max()
        verdicts = part["verdict"].tolist()
        counts = f"{verdicts.count(HOLDS)} of {len(verdicts)} above 0, {verdicts.count(FAILS)} below"
        said = NO_VERDICT if NO_VERDICT in verdicts else counts
        parts.append(f"{name} {low:+.1f} to {high:+.1f} points ({seeds_label(part['n_seeds'])}; {said})")
    return "; ".join(parts)


def frozen_mark(students: Sequence[str] | pd.Series, display: Display) -> str:
    """Marks a claim that rests on students with a frozen backbone; empty without one."""
    frozen = sorted({display.of("student", name) for name in students if is_frozen(name)})
    return f" Frozen backbone, see the note: {', '.join(frozen)}." if frozen else ""


def frozen_note(students: Sequence[str] | pd.Series) -> list[str]:
    """The note to the marks of ``frozen_mark``, one line below all marked claims; empty without one."""
    return [f"Note on frozen backbones: {FROZEN_NOTE}."] if any(map(is_frozen, students)) else []


def conclusions(ranks: pd.DataFrame, lead: pd.DataFrame, lift: pd.DataFrame, display: Display) -> dict[str, str]:
    """Each claim with this run's conclusion; without claims that the run has no rows for.

    Args:
        ranks: ``ranking.ranks``.
        lead: ``lead`` of the same rows.
        lift: ``lift`` of the same rows.
        display: labels of the names.
    """
    out = {}
    if len(lead):
        table = rank_table(ranks[ranks["teacher"] != NO_TEACHER])
        leader = table[table["selector"] == LEADER].iloc[0]
        is_first = table["selector"].iloc[0] == LEADER
        instead = "" if is_first else f" ({headline(display.applied(table))})"
        out[LEAD_CLAIM] = (
            f"{overall(lead['verdict'].tolist())}: first in {leader['first']} of {leader['settings']} settings with a "
            f"teacher{instead}; in the later rounds, by paired differences over seeds after Holm's correction "
            f"({seeds_label(lead['n_seeds'])}), {_details(lead, display)}."
            f"{frozen_mark(lead['student'], display)}"
        )
    if len(lift):
        out[LIFT_CLAIM] = (
            f"{overall(lift['verdict'].tolist())}, after Holm's correction: in the first and the last round, by "
            f"{LABELS['group']} and student, {_by_student(lift, display)}.{frozen_mark(lift['student'], display)}"
        )
    return out
