"""The generated blocks of pages: a run's rank table, the same with gains and claims, or all in a few lines."""

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from activekd.errors import InputError
from bench import stats
from bench.display import Display, distilled_on
from bench.report import markdown
from bench.report.cells import interval, percent, points
from bench.report.frames import Frames
from bench.report.markdown import escaped
from bench.report.sections import conclusions
from bench.stats.baselines import TAUGHT
from bench.stats.compute import COMPARED
from bench.stats.conditions import NOT_DIFFERENT, WORSE
from bench.stats.intervals import ALPHA, seeds_label

SHOWN = 8
"""Selectors that a line lists, the control apart."""

BY_STUDENT = [name for name in stats.GAIN_BY_STUDENT if name != "round"]


def table_block(frames: Frames) -> str:
    """The headline and the rank table."""
    table = frames.shown_ranks
    ranks = "\n".join([markdown.head(table.header), *map(markdown.row, table.rows)])
    return f"**{escaped(frames.headline)}**\n\n{ranks}"


def ranks_block(frames: Frames) -> str:
    """``table_block``, each student's gain from each teacher in its first round, and the claims."""
    gains = [
        f"- {escaped(_configuration(g, frames.display))}: {points(g['gain'])} points over no distillation in round "
        f"{g['round']} (95% interval over seeds {interval(g['low'], g['high'])}, n = {g['n_seeds']}"
        f"{'; frozen backbone' if stats.is_frozen(g['student']) else ''})"
        for g in stats.first_rounds(frames["gain_by_student"], BY_STUDENT).to_dict("records")
    ]
    claims = [f"- {escaped(conclusion)}" for conclusion in conclusions(frames)]
    return "\n\n".join([table_block(frames), "\n".join([*gains, *claims])]).rstrip()


def _configuration(row: Mapping[Hashable, Any], display: Display) -> str:
    """Labels of group, student and teacher of a record."""
    names = [display.of(kind, row[kind]) for kind in ("group", "student", "teacher")]
    names[-1] = distilled_on(names[-1], row["distillation"])
    return ", ".join(names)


def field_block(frames: Frames) -> str:
    """Who leads, how often the control is beaten, the claims, the gap to an oracle, the labels saved: a line each."""
    lines = [f"{frames.headline}. {_place(frames)}.", _against_control(frames), *conclusions(frames)]
    lines += [line for line in (_gap(frames), _saved(frames)) if line]
    return "\n".join(f"- {escaped(line)}" for line in lines)


def _place(frames: Frames) -> str:
    """The control's first places and mean rank among the others."""
    table = frames["rank_table"]
    order = table.sort_values("mean_rank", kind="stable")["selector"].tolist()
    row = table.set_index("selector").loc[frames.control]
    return (
        f"{frames.display.selector(frames.control)} is first in {row['first']} and has place "
        f"{order.index(frames.control) + 1} of {len(order)} by mean rank ({row['mean_rank']:.2f})"
    )


def _against_control(frames: Frames) -> str:
    """How often each selector is better or worse than the control by area, over configurations."""
    compared = frames["area_comparison"]
    tested = compared[compared["verdict"].astype(bool)]
    counts: dict[str, list[int]] = {}
    for place, group in enumerate(("better", "not_different", "worse")):
        for name in (name for names in tested[group] for name in names.split(", ") if name):
            counts.setdefault(name, [0, 0, 0])[place] += 1
    control = frames.display.selector(frames.control)
    ahead = sorted((name for name in counts if counts[name][0]), key=lambda name: (-counts[name][0], name))
    shown = ", ".join(f"{frames.display.selector(name)} {'/'.join(map(str, counts[name]))}" for name in ahead)
    others = len(counts) - len(ahead)
    worse = sum(bool(counts[name][2]) for name in counts if name not in ahead)
    return (
        f"By area under the budget curve, paired by seed, at 5% after Holm's correction, in {len(tested)} "
        f"configurations: better than / not significantly different from / worse than {control}: "
        f"{shown or 'none is ever better'}. "
        f"{others} others are never better, {worse} of these worse in one configuration or more."
    )


def _gap(frames: Frames) -> str:
    """The mean share of the gap between random and each oracle that selectors close; empty without an oracle."""
    if frames.oracles is None:
        return ""
    defined = frames["gap_closed"].query("is_ceiling")
    parts = []
    for oracle, part in defined.groupby("oracle"):
        n = part.groupby("selector").size()
        means = part.groupby("selector")["closed"].mean()[n == n.max()].sort_values(ascending=False, kind="stable")
        shown = _largest(means, frames)
        parts.append(f"{frames.display.selector(str(oracle))} (mean over {n.max()} configurations): {shown}")
    return f"Gap between random and an oracle that is closed: {'; '.join(parts)}." if parts else ""


def _saved(frames: Frames) -> str:
    """The median share of random's labels that each selector saves, over the configurations in which it is known."""
    known = frames["labels_saved"].dropna(subset=["labels"])
    if known.empty:
        return ""
    share = (known["saved"] / known["reference_labels"]).groupby(known["selector"])
    medians = share.median()[share.size() == share.size().max()].sort_values(ascending=False, kind="stable")
    n = share.size().max()
    shown = _largest(medians, frames)
    return f"Labels saved against random at its last accuracy, median over {n} configurations: {shown}."


def _largest(shares: pd.Series, frames: Frames) -> str:
    """The SHOWN largest of some shares, in that order, and the control's."""
    chosen = [name for place, name in enumerate(shares.index) if place < SHOWN or name == frames.control]
    return ", ".join(f"{frames.display.selector(str(name))} {percent(shares[name])}" for name in chosen)


def baselines_block(frames: Frames) -> str:
    """Does distillation add to semi-supervised learning, which recipe is best, how far is the skyline: a line each.

    A line that the run did not measure is left out.

    Raises:
        InputError: the run has none of them.
    """
    _refuse_other_metrics("baselines", frames)
    lines = [line for line in (_by_recipe(frames), _best_recipes(frames), _skyline(frames)) if line]
    if not lines:
        raise InputError(
            "--show baselines: no student has several recipes with and without a teacher or at equal compute, and no "
            "row has the accuracy with all labels; expected: a run with one of them"
        )
    return "\n".join(f"- {escaped(line)}" for line in lines)


def _refuse_other_metrics(show: str, frames: Frames) -> None:
    if not frames.metric.is_accuracy:
        raise InputError(f"--show {show} with --metric {frames.metric.name}; expected: --metric accuracy, or none")


def _by_recipe(frames: Frames) -> str:
    """What a teacher adds to each recipe in the last round; empty without several recipes."""
    if "gain_by_recipe" not in frames.tables:
        return ""
    gains = frames["gain_by_recipe"]
    last = gains[gains["measure"] == stats.LAST]
    parts = []
    for _, part in last.groupby(TAUGHT, sort=False):
        records = part.to_dict("records")
        shown = ", ".join(
            f"{frames.display.of('recipe', r['recipe'])} {points(r['gain'])} ({interval(r['low'], r['high'])}; "
            f"{_adds(r['gain'], r['p_holm'])})"
            for r in records
        )
        parts.append(f"{_configuration(records[0], frames.display)}: {shown}")
    return (
        "Does distillation add to semi-supervised learning: points that the teacher adds to each recipe in the last "
        f"round, paired by seed ({seeds_label(last['n_seeds'])}), with 95% intervals and at 5% after Holm's correction "
        f"over recipes. {'. '.join(parts)}."
    )


def _best_recipes(frames: Frames) -> str:
    """The best recipes of comparisons at equal compute; empty without any."""
    if "compute" not in frames.tables:
        return ""
    table = frames["compute"]
    equal, parts = table[table["equal"]], []
    for _, part in equal.groupby(COMPARED, sort=False):
        best = part[part["best"]].to_dict("records")[0]
        tied = ", ".join(frames.display.of("recipe", name) for name in part[part["tied"]]["recipe"]) or "none"
        recipe = frames.display.of("recipe", best["recipe"])
        parts.append(f"{_configuration(best, frames.display)}: {recipe} {percent(best['accuracy'])} ({tied})")
    if not parts:
        return ""
    return (
        f"The most accurate recipe of the last round at equal compute ({seeds_label(equal['n_seeds'])}), in brackets "
        f"those that are not significantly below it at 5% after Holm's correction over recipes: {'. '.join(parts)}."
    )


def _adds(gain: float, p: float) -> str:
    """The verdict on a gain."""
    if pd.isna(p):
        return "no verdict"
    return "not significant" if p >= ALPHA else "adds" if gain > 0 else "takes away"


def _skyline(frames: Frames) -> str:
    """How far the best strategies are below all labels; empty where that was not measured."""
    gaps = stats.skyline_gaps(frames.rows)
    if gaps.empty:
        return ""
    n, best = len(gaps), gaps["selector"].value_counts()
    names = ", ".join(f"{frames.display.selector(str(name))} {count}" for name, count in best.items())
    spread = f"; {points(gaps['gap'].min())} to {points(gaps['gap'].max())}" if n > 1 else ""
    return (
        "How far is the skyline: with all labels of the pool the student is "
        f"{100 * gaps['gap'].mean():.1f} points above the best strategy of the last round (mean over {n} "
        f"configuration{'s' * (n != 1)}{spread}; {seeds_label(gaps['n_seeds'])}; best strategies: {names})."
    )


def stress_block(frames: Frames) -> str:
    """What breaks which strategy, in a line.

    Raises:
        InputError: the run has no conditions.
    """
    _refuse_other_metrics("stress", frames)
    if "conditions" not in frames.tables:
        raise InputError(
            "--show stress: no data set has several conditions, or random took no part; expected: groups that differ "
            "in imbalance, noise, open, duplicates or the query size, and random"
        )
    table = frames["conditions"]
    parts = [_broken(str(group), part, table, frames.display) for group, part in table.groupby("group", sort=False)]
    seeds = seeds_label(table["n_seeds"])
    return "- " + escaped(
        f"What breaks which strategy: areas under the budget curve against random, paired by seed ({seeds}), at 5% "
        f"after Holm's correction over the strategies of a configuration; all others are better. {'. '.join(parts)}."
    )


def _broken(group: str, part: pd.DataFrame, table: pd.DataFrame, display: Display) -> str:
    """Strategies not better and worse than random in a condition, and what the leader of the plain one loses."""
    n = len(part[[*stats.CONFIGURATION]].drop_duplicates())
    text = f"{display.of('group', group)}: not better {_counted(part, NOT_DIFFERENT, n, display)}; worse "
    text += _counted(part, WORSE, n, display)
    easy = table[table["group"] == part["plain"].iloc[0]]
    if easy.empty:
        return text
    leader = str(easy.groupby("selector")["area"].mean().idxmax())
    lost = part.loc[part["selector"] == leader, "lost"].mean()
    if pd.isna(lost):
        return text
    under = display.of("group", str(easy["group"].iloc[0]))
    return f"{text}; {display.selector(leader)}, first under {under}, loses {100 * lost:.1f} points"


def _counted(part: pd.DataFrame, verdict: str, n: int, display: Display) -> str:
    """The selectors of a verdict, with the number of configurations where there are several."""
    counts = part.loc[part["verdict"] == verdict, "selector"].value_counts()
    order = sorted(counts.index, key=lambda name: (-counts[name], name))
    return ", ".join(display.selector(name) + (f" {counts[name]}/{n}" if n > 1 else "") for name in order) or "none"


def around_block(file: Path, name: str) -> tuple[str, str]:
    """A file up to ``<!-- NAME:begin -->`` and from ``<!-- NAME:end -->`` on, the markers included.

    Raises:
        InputError: the file or its markers are missing.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise InputError(f"{file}: {fault}; expected: an existing text file with {begin} and {end}") from fault
    head, has_begin, rest = text.partition(begin)
    _, has_end, tail = rest.partition(end)
    if not (has_begin and has_end):
        raise InputError(f"{file} lacks the markers; expected: {begin} and {end}")
    return f"{head}{begin}", f"{end}{tail}"


def replace_block(file: Path, name: str, block: str) -> None:
    """Put a generated block between its markers in a file.

    Raises:
        InputError: the file or its markers are missing.
    """
    head, tail = around_block(file, name)
    file.write_text(f"{head}\n{block}\n{tail}", encoding="utf-8")


BLOCKS: Mapping[str, Callable[[Frames], str]] = {
    "table": table_block,
    "ranks": ranks_block,
    "field": field_block,
    "baselines": baselines_block,
    "stress": stress_block,
}
