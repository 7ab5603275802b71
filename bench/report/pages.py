"""A run, or several, as files: tables, figures, one HTML page and the same as Markdown; same rows, same bytes."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pandas as pd

from activekd.errors import InputError
from bench import stats
from bench.columns import CONFIGURATION
from bench.report import latex
from bench.report.contents import Page, fact_lines, missing_of, run_page
from bench.report.figures.curves import curve_parts
from bench.report.figures.drawing import RANKS, Drawing, drawings
from bench.report.figures.fonts import fallbacks
from bench.report.figures.panels import curve_chart
from bench.report.figures.style import save, selector_styles
from bench.report.frames import Frames
from bench.report.ranked import ranked
from bench.report.rendering import RunParts, run_html, run_markdown, side_by_side_html, side_by_side_markdown
from bench.report.sections import sections
from bench.report.side_by_side import RunSummary, common_cells, side_by_side_page
from bench.report.tables import TABLES
from bench.stats import claims
from bench.store.folder import TABLE
from bench.store.table import Run

HOLES_IN_ERROR = 3
HTML, MARKDOWN = "report.html", "report.md"


@dataclass(frozen=True)
class Report:
    """The report of a run.

    Attributes:
        html: path of the page.
        markdown: path of the same page as Markdown.
        frames: the tables of the report.
        left_out: remarks on the planned rows that are not ranked.
    """

    html: Path
    markdown: Path
    frames: Frames
    left_out: list[str]

    @property
    def headline(self) -> str:
        """First places of the leading selector, in the paper's form."""
        return stats.headline(self.frames["rank_table"])


@dataclass(frozen=True)
class Contents:
    """A report before it is written.

    Attributes:
        frames: its tables.
        drawings: its figures, not yet drawn.
        page: shared parts of its page.
        parts: the other parts of its page.
    """

    frames: Frames
    drawings: list[Drawing]
    page: Page
    parts: RunParts


def contents_of(run: Run, *, partial: bool = False, control: str | None = None) -> Contents:
    """The tables and the page of a run; nothing is drawn or written.

    Args:
        run: rows and plan.
        partial: report an unfinished run on the rows that ``ranked`` chooses.
        control: the selector against which others are tested; by default that of ``claims.control_of``.

    Raises:
        InputError: rows that cannot be compared, a control that took no part, or an unfinished run without ``partial``.
    """
    missing = missing_of(run)
    if missing.n and not partial:
        failed = f"; {len(run.failures)} trials failed (--retry-failed)" if run.failures else ""
        raise InputError(
            f"the run is unfinished: {missing.n} of {missing.n_planned} (trial, round)s are missing, such as "
            f"{'; '.join(missing.trials[:HOLES_IN_ERROR])}{failed}; expected: run the grid again to finish it, or "
            f"--partial"
        )
    chosen = ranked(run)
    frames = _frames(run, chosen.rows, control)
    facts = stats.facts_of(frames.rows)
    drawn = drawings(frames)
    page = run_page(run, frames, facts, sections(frames, {figure.stem: figure.section for figure in drawn}))
    if lacking := fallbacks(names_in(frames))[1]:
        page.caveats.append(
            f"Figures show {len(lacking)} characters of names as boxes, since no installed font has them: {lacking}"
        )
    styles = selector_styles(page.selectors)
    parts = RunParts(
        confidence=stats.headline_confidence(frames["rank_table"], frames["first_places"]),
        missing=replace(missing, left_out=chosen.left_out),
        facts=fact_lines(facts, missing.n_planned),
        figure=RANKS,
        charts={stem: curve_chart(part, styles, title) for stem, title, part in curve_parts(frames["curves"])},
    )
    return Contents(frames, drawn, page, parts)


def frames_of(run: Run, control: str | None = None) -> Frames:
    """The frames of the rows of a run that can be compared, as ``ranked`` chooses them.

    Raises:
        InputError: rows that cannot be compared, without a query round, or a control that took no part.
    """
    return _frames(run, ranked(run).rows, control)


def _frames(run: Run, rows: pd.DataFrame, control: str | None) -> Frames:
    stats.check_rows(rows)
    return Frames(rows, run.picks, claims.control_of(rows, control), TABLES)


def write_report(run: Run, out: Path, *, partial: bool = False, control: str | None = None) -> Report:
    """Write report.html, report.md, figures/, tables/ and rounds.parquet from the rows alone; same rows, same bytes.

    Args:
        run: rows and plan.
        out: folder to write to.
        partial: report an unfinished run on the rows that ``ranked`` chooses.
        control: the selector against which others are tested; by default that of ``claims.control_of``.

    Raises:
        InputError: rows that cannot be compared, a control that took no part, an unfinished run without ``partial``, or
            a folder that cannot be written.
    """
    contents = contents_of(run, partial=partial, control=control)
    with _writing(out):
        for folder in ("figures", "tables"):
            shutil.rmtree(out / folder, ignore_errors=True)
        run.rows.to_parquet(out / TABLE, index=False)
        write_tables(contents.frames, out / "tables")
        write_figures(contents, out / "figures")
        (out / MARKDOWN).write_text(run_markdown(contents.page, contents.parts), encoding="utf-8")
        (out / HTML).write_text(run_html(contents.page, contents.parts, out / "figures"), encoding="utf-8")
    return Report(out / HTML, out / MARKDOWN, contents.frames, contents.parts.missing.left_out)


def write_tables(frames: Frames, folder: Path) -> None:
    """Write every table as CSV and, unless it is empty, as LaTeX; and all_tables.tex, which includes them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    written = [folder / f"{name}.tex" for name, frame in frames.items() if len(frame)]
    for path in written:
        path.write_text(latex.table(frames[path.stem], TABLES[path.stem].caption), encoding="utf-8")
    (folder / "all_tables.tex").write_text(latex.document(written), encoding="utf-8")


def write_figures(contents: Contents, folder: Path) -> None:
    """Draw every figure as SVG and PNG, with the digest of the tables in their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    digest, (families, _) = digest_of(contents.frames), fallbacks(names_in(contents.frames))
    for figure in contents.drawings:
        save(figure.draw(), folder / figure.stem, digest, families)


def names_in(frames: Frames) -> str:
    """Every name that figures show, one a line."""
    columns = (*CONFIGURATION, "selector")
    return "\n".join(str(name) for column in columns for name in frames.rows[column].unique())


def digest_of(frames: Frames) -> str:
    """Equal tables, equal digest: figures with another one are stale."""
    tables = "".join(frame.to_csv(index=False, float_format="%.6g") for _, frame in frames.items())
    return sha256(tables.encode()).hexdigest()


def write_side_by_side(runs: Mapping[str, Run], out: Path) -> Path:
    """Write a page, the same as Markdown, and tables/common_cells.csv of several finished runs; the page's path.

    Raises:
        InputError: a run that is unfinished or cannot be compared, or a folder that cannot be written.
    """
    for name, run in runs.items():
        if len(run.holes):
            raise InputError(f"{name} is unfinished; expected: finished runs, or one RUN with --partial")
    frames = {name: frames_of(run) for name, run in runs.items()}
    summaries = {name: RunSummary(stats.facts_of(table.rows), table) for name, table in frames.items()}
    common = common_cells(summaries)
    page = side_by_side_page(summaries, common)
    with _writing(out):
        (out / "tables").mkdir(parents=True, exist_ok=True)
        common.to_csv(out / "tables" / "common_cells.csv", index=False, float_format="%.6g")
        (out / MARKDOWN).write_text(side_by_side_markdown(page), encoding="utf-8")
        (out / HTML).write_text(side_by_side_html(page), encoding="utf-8")
    return out / HTML


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as fault:
        raise InputError(f"report folder {out}: {fault}; expected: a writable folder") from fault
