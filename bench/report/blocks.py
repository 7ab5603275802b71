"""The generated blocks of README: a run's ranks and claims, or its selectors compared by area."""

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from activekd.errors import InputError
from activekd.recipes import NO_TEACHER
from bench import stats
from bench.display import Display, distilled_on
from bench.report import markdown
from bench.report.cells import interval, points, rank_table
from bench.report.frames import Frames
from bench.report.markdown import escaped
from bench.report.sections import conclusions
from bench.stats.claims import NO_VERDICT, frozen_mark, frozen_note

BY_STUDENT = [name for name in stats.GAIN_BY_STUDENT if name != "round"]


def ranks_block(frames: Frames) -> str:
    """The headline, the rank table, each student's gain from each teacher in its first round, and the claims."""
    table = rank_table(frames["rank_table"], frames["first_places"], frames.display)
    ranks = "\n".join([markdown.head(table.header), *map(markdown.row, table.rows)])
    gains = [
        f"- {_configuration(g, frames.display)}: {points(g['gain'])} points over no distillation in round {g['round']} "
        f"(95% interval over seeds {interval(g['low'], g['high'])}, n = {g['n_seeds']}"
        f"{'; frozen backbone' if stats.is_frozen(g['student']) else ''})"
        for g in stats.first_rounds(frames["gain_by_student"], BY_STUDENT).to_dict("records")
    ]
    claims = [f"- {escaped(conclusion)}" for conclusion in conclusions(frames)]
    headline = escaped(frames.headline)
    return "\n\n".join([f"**{headline}**", ranks, "\n".join([*gains, *claims])]).rstrip()


def _configuration(row: Mapping[Hashable, Any], display: Display) -> str:
    """Labels of group, student and teacher of a record, escaped."""
    names = [display.of(kind, row[kind]) for kind in ("group", "student", "teacher")]
    names[-1] = distilled_on(names[-1], row["distillation"])
    return ", ".join(map(escaped, names))


def areas_block(frames: Frames) -> str:
    """Which selectors are better or worse than the control by area under the budget curve."""
    display = frames.display
    lines, frozen = [], []
    for row in frames["area_comparison"].to_dict("records"):
        name = _configuration(row, display)
        if not row["verdict"]:
            lines.append(f"- {name}: {NO_VERDICT} (n = {row['n_seeds']}).")
            continue
        control = display.selector(row["against"])
        distilled = [row["student"]] if row["teacher"] != NO_TEACHER else []
        better, not_different, worse = (
            ", ".join(f"`{display.selector(name)}`" for name in row[group].split(", ") if name) or "none"
            for group in ("better", "not_different", "worse")
        )
        lines.append(
            f"- {name}, by area under the budget curve, paired by seed, at 5% after Holm's correction (n = "
            f"{row['n_seeds']}): better than `{control}`: **{better}**; not significantly different: {not_different}; "
            f"worse: {worse}.{frozen_mark(distilled, display)}"
        )
        frozen += distilled
    return "\n".join([*lines, *(f"- {escaped(note)}" for note in frozen_note(frozen))])


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


BLOCKS: Mapping[str, Callable[[Frames], str]] = {"ranks": ranks_block, "areas": areas_block}
