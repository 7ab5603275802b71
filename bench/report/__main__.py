"""The command line of reports: the report of a run, a block of README, or several runs side by side."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from activekd.errors import InputError
from bench.columns import ACCURACY, LABELS
from bench.store.folder import RUNS, results_folder
from bench.terminal import Version, command_line, console, examples, say, user_errors

README_BLOCK = "report"

app = command_line()


@app.command(
    name="report",
    epilog=examples(
        "activekd report results/runs/demo",
        "activekd report results/runs/mine --subject mine:narrow --budgets 100,200",
        "activekd report results/runs/mine --metric macro_accuracy",
        "activekd report results/runs/a results/runs/b --merge",
        "activekd report results/demo results/runs/demo --out results/runs/demos",
        "activekd report results/caltech-real --readme README.md --block caltech",
    ),
)
def main(
    named: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="Results folders, names of them in results/runs, or specs; several go side by side.",
        ),
    ],
    partial: Annotated[
        bool, typer.Option("--partial", help="Report an unfinished run; the page lists what is missing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where to write [default: into RUN; several: results/runs/side-by-side, or merged]"
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            "--subject",
            "--control",
            metavar="SELECTOR",
            help="Selector that the headline is about and others are tested against [default: the leader has the "
            "headline; others are tested against pcoreset, else random]",
        ),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Numbers of labels in the main table, such as 100,200 [default: the first query round, the middle one "
            "and the last]",
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(
            metavar="METRIC",
            help="What is ranked and plotted: accuracy, macro_accuracy, worst_class_accuracy or wasted_labels, fewest "
            "first; another one than accuracy is written to the folder METRIC of RUN.",
        ),
    ] = ACCURACY,
    merge: Annotated[
        bool, typer.Option("--merge", help="Rank the union of several RUNs of one protocol, instead of side by side.")
    ] = False,
    readme: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help="Also replace a generated block of this file.")
    ] = None,
    block: Annotated[str, typer.Option(metavar="NAME", help="Name of the block, as in its markers.")] = README_BLOCK,
    show: Annotated[
        Literal["table", "ranks", "field", "baselines", "stress"], typer.Option(help="What the block shows.")
    ] = "ranks",
    version: Version = False,
) -> None:
    """Write tables, figures and page of a run from its rows.

    Of several runs, write one page with them side by side, or merged.
    """
    with user_errors():
        runs = [results_folder(name) for name in named]
        chosen = _budgets(budgets)
        if len(runs) == 1 or merge:
            target = runs[0] if len(runs) == 1 else RUNS / "merged"
            of_metric = target if metric == ACCURACY else target / metric
            _one(runs, out or of_metric, partial, subject, chosen, metric, readme, block, show)
            return
        if partial or subject or chosen or metric != ACCURACY or readme is not None:
            raise InputError(
                "several RUNs with --partial, --subject, --budgets, --metric or --readme; expected: one RUN with them, "
                "or --merge"
            )
        _several(runs, out or RUNS / "side-by-side")


def _budgets(given: str | None) -> list[str]:
    """Numbers of labels as the statistics compare them."""
    parts = [] if given is None else [part.strip() for part in given.split(",")]
    try:
        return [f"{float(part):g}" for part in parts]
    except ValueError as fault:
        raise InputError(f"--budgets '{given}'; expected: numbers of labels, such as 100,200") from fault


def _one(
    runs: list[Path],
    out: Path,
    partial: bool,
    subject: str | None,
    budgets: list[str],
    metric: str,
    readme: Path | None,
    block: str,
    show: str,
) -> None:
    from bench.report.blocks import BLOCKS, around_block, replace_block
    from bench.report.pages import write_report
    from bench.report.terminal_table import print_rank_table
    from bench.store.merging import read_merged

    if readme is not None:
        around_block(readme, block)
    report = write_report(read_merged(runs), out, partial=partial, subject=subject, budgets=budgets, metric=metric)
    if readme is not None:
        replace_block(readme, block, BLOCKS[show](report.frames))
    print_rank_table(report, console)


def _several(folders: list[Path], out: Path) -> None:
    from bench.report.pages import write_side_by_side
    from bench.store.table import read_run

    names = {folder.name for folder in folders}
    is_clear = len(names) == len(folders) and names.isdisjoint({*LABELS, *LABELS.values()})
    named = {folder.name if is_clear else str(folder.resolve()): folder for folder in folders}
    if len(named) < len(folders):
        raise InputError(f"the same RUN twice: {', '.join(map(str, folders))}; expected: different results folders")
    page = write_side_by_side({name: read_run(folder) for name, folder in named.items()}, out)
    say(f"report: {page}")


if __name__ == "__main__":
    app()
