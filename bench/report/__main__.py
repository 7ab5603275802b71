"""The report of a run, or of several side by side, from the command line; and the blocks that README shows of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from activekd.errors import InputError
from bench import plots, stats
from bench.report.cells import RANK_HEADER, interval, markdown_row, rank_cells
from bench.report.pages import Report, write_beside, write_report
from bench.store.folder import RUNS
from bench.store.table import Run, read_run
from bench.terminal import console, user_errors

README_BLOCK = "report"
TERMINAL_COLUMNS = {"selector", "first", "95% over seeds", "clear", "mean rank", "mean accuracy"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


def print_rank_table(report: Report, out: Console) -> None:
    """The rank table, the headline and where the report is, on a terminal."""
    shown = Table(title=report.headline)
    kept = [index for index, column in enumerate(RANK_HEADER) if column in TERMINAL_COLUMNS]
    for index in kept:
        shown.add_column(RANK_HEADER[index], justify="right" if index else "left", no_wrap=not index)
    for cells in rank_cells(report.rank_table, report.first_places):
        shown.add_row(*(cells[index] for index in kept))
    out.print(shown)
    out.print(f"report: {report.html}", highlight=False, soft_wrap=True)


def readme_block(report: Report) -> str:
    """The headline, the rank table, each teacher's gain in its first round and the claims as the README shows them."""
    lines = [RANK_HEADER, ["---"] * len(RANK_HEADER), *rank_cells(report.rank_table, report.first_places)]
    table = "\n".join(markdown_row(cells) for cells in lines)
    gains = [
        f"- {plots.teacher_label(g['teacher'], g['distillation'])}: {100 * g['gain']:+.1f} points over no distillation "
        f"in round {g['round']} (95% interval over seeds {interval(g['low'], g['high'])})"
        for g in report.gain.groupby(["teacher", "distillation"]).head(1).to_dict("records")
    ]
    told = [f"- {claim}: {conclusion}" for claim, conclusion in report.conclusions.items()]
    return "\n\n".join([f"**{report.headline}**", table, "\n".join([*gains, *told])]).rstrip()


def standing_block(report: Report) -> str:
    """Who is better and who is worse than PCoreSet by the area under the budget curve, as the README shows it."""
    lines = []
    for row in stats.standing(report.areas, "pcoreset").to_dict("records"):
        above, level, below = (
            ", ".join(f"`{name}`" for name in row[place].split(", ") if name) or "none"
            for place in ("above", "level", "below")
        )
        teacher = plots.teacher_label(row["teacher"], row["distillation"])
        lines.append(
            f"- {row['group']}, {row['student']}, {teacher}, by area under the budget curve and paired 95% intervals "
            f"over seeds: better than `pcoreset`: **{above}**; not told apart from it: {level}; worse: {below}."
        )
    return "\n".join(lines)


README_BLOCKS: dict[str, Callable[[Report], str]] = {"ranks": readme_block, "standing": standing_block}


def replace_block(file: Path, name: str, block: str) -> None:
    """Put a generated block between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->`` of a file.

    Raises:
        InputError: the file or its markers are not there.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as fault:
        raise InputError(f"{file}: {fault}; expected: an existing file with {begin} and {end}") from fault
    head, found, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found and found_end):
        raise InputError(f"{file} lacks the markers {begin} and {end}")
    file.write_text(f"{head}{begin}\n{block}\n{end}{tail}", encoding="utf-8")


@app.command(
    epilog="Examples: `python -m bench.report results/runs/demo` · `python -m bench.report results/demo "
    "results/runs/demo --out results/runs/beside` · `python -m bench.report results/caltech-real --readme README.md "
    "--block caltech`"
)
def main(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Results folders; several go side by side.")],
    partial: Annotated[bool, typer.Option("--partial", help="Report an unfinished run, its holes on top.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: into RUN; several: results/runs/side-by-side]")
    ] = None,
    control: Annotated[
        str | None, typer.Option(help="Selector against which others are tested [default: pcoreset, else random]")
    ] = None,
    readme: Annotated[Path | None, typer.Option(help="Also put the rank table into this file.")] = None,
    block: Annotated[str, typer.Option(help="Name of the block in it, between its markers.")] = README_BLOCK,
    show: Annotated[Literal["ranks", "standing"], typer.Option(help="What the block shows.")] = "ranks",
) -> None:
    """Write a run's tables and figures again, from its rows alone; or set several runs side by side."""
    with user_errors():
        if len(runs) > 1:
            if partial or control or readme is not None:
                raise InputError("several RUNs with --partial, --control or --readme; expected: one RUN with them")
            page = write_beside(_named(runs), out or RUNS / "side-by-side")
            console.print(f"report: {page}", highlight=False, soft_wrap=True)
            return
        report = write_report(read_run(runs[0]), out or runs[0], partial=partial, control=control)
        if readme is not None:
            replace_block(readme, block, README_BLOCKS[show](report))
        print_rank_table(report, console)


def _named(folders: list[Path]) -> dict[str, Run]:
    """Each run by the name of its folder, by the whole path where two are alike."""
    alike = len({folder.name for folder in folders}) < len(folders)
    named = {str(folder) if alike else folder.name: folder for folder in folders}
    if len(named) < len(folders):
        raise InputError(f"RUN given twice: {', '.join(map(str, folders))}; expected: different results folders")
    return {name: read_run(folder) for name, folder in named.items()}


if __name__ == "__main__":
    app()
