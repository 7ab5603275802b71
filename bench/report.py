"""The report of a run: rank table, gains, curves and costs as Markdown, one HTML page, figures, CSV and Parquet."""

import base64
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import typer
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from activekd.errors import InputError
from bench import areas, claims, plots, published, stats
from bench.cells import RANK_HEADER, content, interval, markdown_row, rank_cells
from bench.store import TABLE, Run, read_run
from bench.terminal import console, user_errors

README_BLOCK = "report"
GAIN_BY = ["group", "student", "recipe", "teacher", "distillation", "round"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        html: the page.
        markdown: the same as Markdown.
        headline: first places of the leading selector, in the paper's form.
        rank_table: as ``stats.rank_table``.
        gain: as ``stats.gain_summary``.
        areas: as ``areas.area_table``.
        conclusions: as ``claims.conclusions``.
    """

    html: Path
    markdown: Path
    headline: str
    rank_table: pd.DataFrame
    gain: pd.DataFrame
    areas: pd.DataFrame
    conclusions: dict[str, str]


def write_report(run: Run, out: Path, *, partial: bool = False) -> Report:
    """Write report.html, report.md, figures/, tables/ and rounds.parquet from the rows alone; same rows, same bytes.

    Args:
        run: rows and plan.
        out: folder to write to.
        partial: report an unfinished run on the settings that every selector has finished.

    Raises:
        InputError: rows that cannot be compared, or an unfinished run without ``partial``.
    """
    holes = _hole_lines(run)
    if holes and not partial:
        raise InputError(
            f"the run is unfinished: {len(run.holes)} of {len(run.plan)} (trial, round)s are missing, such as "
            f"{'; '.join(holes[:3])}; allowed: run the grid again to finish it, or --partial"
        )
    rows = run.rows if not holes else _complete_cells(run)
    stats.check_rows(rows)
    if rows["round"].max() < 1:
        raise InputError("no query round yet: nothing to rank; allowed: at least 2 rounds")
    ranked = stats.ranks(rows)
    frames = {
        "rank_table": stats.rank_table(ranked),
        "rank_table_by_teacher": stats.rank_table_by(ranked, ["teacher", "distillation"]),
        "rank_table_by_stage": stats.rank_table_by(stats.with_stage(ranked), ["stage"]),
        "ranks": ranked,
        "margins": stats.margins(rows),
        "curves": stats.curves(rows),
        "gain": stats.gain(rows),
        "gain_by_student": stats.gain_summary(rows, GAIN_BY),
        "gain_summary": stats.gain_summary(rows),
        "costs": stats.costs(rows, ["student", "teacher", "selector"]),
        "areas": areas.area_table(rows),
        "claim_lead": claims.lead(rows),
        "claim_lift": claims.lift(rows),
    }
    frames["published"] = published.beside(frames["curves"])
    figures = _figures(frames)
    try:
        for folder in ("figures", "tables"):
            shutil.rmtree(out / folder, ignore_errors=True)
            (out / folder).mkdir(parents=True)
        run.rows.to_parquet(out / TABLE, index=False)
        for name, frame in frames.items():
            frame.to_csv(out / "tables" / f"{name}.csv", index=False, float_format="%.6g")
        for stem, figure in figures.items():
            plots.save(figure, out / "figures" / stem)
        said = content(run, rows, frames, list(figures), holes)
        for template, name in (("report.md.j2", "report.md"), ("report.html.j2", "report.html")):
            text = _environment(out).get_template(template).render(said)
            (out / name).write_text(text, encoding="utf-8")
    except OSError as fault:
        raise InputError(f"report folder {out}: {fault}; allowed: a writable folder") from fault
    table = frames["rank_table"]
    return Report(
        out / "report.html",
        out / "report.md",
        stats.headline(table),
        table,
        frames["gain_summary"],
        frames["areas"],
        claims.conclusions(rows),
    )


def _hole_lines(run: Run) -> list[str]:
    cells = run.holes.groupby("trial_id", sort=False)
    out = []
    for _, part in cells:
        first = part.iloc[0]
        name = " ".join(str(first[c]) for c in ("dataset", "teacher", "student", "selector"))
        out.append(f"{name} seed {first['seed']} from round {part['round'].min()}")
    return out


def _complete_cells(run: Run) -> pd.DataFrame:
    keys = list(stats.SETTING)
    missing = pd.MultiIndex.from_frame(run.holes[keys])
    kept = run.rows[~pd.MultiIndex.from_frame(run.rows[keys]).isin(missing)]
    return kept.reset_index(drop=True)


def _figures(frames: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    curves = frames["curves"]
    styles = plots.selector_styles(curves["selector"].unique().tolist())
    out = {"ranks": plots.rank_figure(frames["rank_table"], styles)}
    if len(frames["gain_by_student"]):
        out["gain"] = plots.gain_figure(frames["gain_by_student"])
    for key, part in curves.groupby(["group", "student", "recipe"], sort=True):
        names = [str(k) for k in key]  # pyright: ignore[reportGeneralTypeIssues]
        stem = "curves_" + "_".join("".join(c if c.isalnum() else "-" for c in name) for name in names)
        out[stem] = plots.learning_curves(part, styles, title=f"{names[0]} · {names[1]}")
    return out


def _environment(out: Path) -> Environment:
    environment = Environment(
        loader=PackageLoader("bench"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    embed: Callable[[str], str] = lambda stem: (  # noqa: E731
        "data:image/svg+xml;base64," + base64.b64encode((out / "figures" / f"{stem}.svg").read_bytes()).decode()
    )
    environment.filters["embed"] = embed
    environment.filters["row"] = markdown_row
    return environment


def print_rank_table(report: Report, out: Console) -> None:
    """The rank table, the headline and where the report is, on a terminal."""
    shown = Table(title=report.headline)
    for column in RANK_HEADER:
        is_name = column == "selector"
        shown.add_column(column, justify="left" if is_name else "right", no_wrap=is_name)
    for cells in rank_cells(report.rank_table):
        shown.add_row(*cells)
    out.print(shown)
    out.print(f"report: {report.html}", highlight=False, soft_wrap=True)


def readme_block(report: Report) -> str:
    """The headline, the rank table, each teacher's gain in its first round and the claims as the README shows them."""
    lines = [RANK_HEADER, ["---"] * len(RANK_HEADER), *rank_cells(report.rank_table)]
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
    for row in areas.standing(report.areas, "pcoreset").to_dict("records"):
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
        raise InputError(f"{file}: {fault}; allowed: an existing file with {begin} and {end}") from fault
    head, found, rest = text.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not (found and found_end):
        raise InputError(f"{file} lacks the markers {begin} and {end}")
    file.write_text(f"{head}{begin}\n{block}\n{end}{tail}", encoding="utf-8")


@app.command(
    epilog="Examples: `python -m bench.report results/runs/demo` · "
    "`python -m bench.report results/caltech-real --readme README.md --block caltech`"
)
def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A results folder.")],
    partial: Annotated[bool, typer.Option("--partial", help="Report an unfinished run, its holes on top.")] = False,
    readme: Annotated[Path | None, typer.Option(help="Also put the rank table into this file.")] = None,
    block: Annotated[str, typer.Option(help="Name of the block in it, between its markers.")] = README_BLOCK,
    show: Annotated[Literal["ranks", "standing"], typer.Option(help="What the block shows.")] = "ranks",
) -> None:
    """Write a run's tables and figures again, from its rows alone."""
    with user_errors():
        report = write_report(read_run(run), run, partial=partial)
        if readme is not None:
            replace_block(readme, block, README_BLOCKS[show](report))
        print_rank_table(report, console)


if __name__ == "__main__":
    app()
