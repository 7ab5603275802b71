"""A run, or several, as files: tables, figures, one HTML page and the same as Markdown; same rows, same bytes."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pandas as pd

from activekd.errors import InputError
from bench import stats
from bench.columns import ACCURACY, CONFIGURATION, REFERENCES
from bench.display import ceiling_label, display_of, names_in
from bench.report import latex
from bench.report.contents import Page, fact_lines, missing_of, run_page, shown_names
from bench.report.figures.drawing import FIRST_SCREEN, Drawing, all_styles_of, charts_of, drawings
from bench.report.figures.fonts import fallbacks
from bench.report.figures.style import save
from bench.report.frames import Frames
from bench.report.main_table import STEM, main_latex
from bench.report.metrics import METRICS, Metric, by_metric
from bench.report.ranked import Ranked, ranked
from bench.report.reference_lines import MAIN_LINES
from bench.report.rendering import RunParts, run_html, run_markdown, side_by_side_html, side_by_side_markdown
from bench.report.sections import sections
from bench.report.side_by_side import RunSummary, common_cells, side_by_side_page
from bench.report.tables import tables_of
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
        """First places of the subject, in the paper's form."""
        return self.frames.headline


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


def contents_of(
    run: Run,
    *,
    partial: bool = False,
    subject: str | None = None,
    budgets: Sequence[str] = (),
    metric: str = ACCURACY,
) -> Contents:
    """The tables and the page of a run; nothing is drawn or written.

    Args:
        run: rows and plan.
        partial: report an unfinished run on the rows that ``ranked`` chooses.
        subject: the selector that the headline is about and others are tested against; by default the leader has the
            headline, and others are tested against that of ``claims.control_of``.
        budgets: numbers of labels of the main table; by default those of ``stats.main_table``.
        metric: what is ranked and plotted, a key of METRICS.

    Raises:
        InputError: a subject that is an oracle or took no part, rows that cannot be compared, budgets that no
            configuration has, a metric that is unknown or not measured, or an unfinished run without ``partial``.
    """
    run, ranking, remarks = by_metric(run, metric)
    if subject in run.oracles:
        others = ", ".join(sorted(set(run.plan["selector"]) - run.oracles))
        raise InputError(f"subject '{subject}' is an oracle, which is not ranked; expected: one of {others}")
    missing = missing_of(run)
    if missing.n and not partial:
        failed = f"; {len(run.failures)} trials failed (--retry-failed)" if run.failures else ""
        raise InputError(
            f"the run is unfinished: {missing.n} of {missing.n_planned} (trial, round)s are missing, such as "
            f"{'; '.join(missing.trials[:HOLES_IN_ERROR])}{failed}; expected: run the grid again to finish it, or "
            f"--partial"
        )
    chosen = ranked(run)
    frames = _frames(run, chosen, subject, budgets, ranking)
    facts = stats.facts_of(frames.rows, frames.oracles)
    drawn = drawings(frames)
    folded = {figure.stem for figure in drawn if figure.folded}
    below = sections(frames, {figure.stem: figure.section for figure in drawn}, folded)
    page = run_page(run, frames, facts, below, all_styles_of(frames))
    page.caveats[:0] = remarks
    if lacking := fallbacks(drawn_names(frames))[1]:
        page.caveats.append(
            f"Figures show {len(lacking)} characters of names as boxes, since no installed font has them: {lacking}"
        )
    parts = RunParts(
        confidence=frames.confidence,
        missing=replace(missing, left_out=chosen.left_out),
        facts=fact_lines(facts, missing.n_planned, frames.display),
        names=shown_names(frames),
        figure=next(figure.stem for figure in drawn if figure.section == FIRST_SCREEN),
        charts=charts_of(frames),
    )
    return Contents(frames, drawn, page, parts)


def frames_of(run: Run) -> Frames:
    """The frames of the rows of a run that can be compared, as ``ranked`` chooses them.

    Raises:
        InputError: rows that cannot be compared, or without a query round.
    """
    return _frames(run, ranked(run), None, (), METRICS[ACCURACY])


def _frames(run: Run, chosen: Ranked, subject: str | None, budgets: Sequence[str], metric: Metric) -> Frames:
    rows, oracles = chosen.rows, chosen.oracles
    stats.check_rows(rows)
    names = oracles["selector"].drop_duplicates().tolist()
    for name in names:
        stats.check_rows(oracles[oracles["selector"] == name])
    every = pd.concat([rows, oracles], ignore_index=True) if names else rows
    has_references = metric.is_accuracy and stats.has_references(rows)
    shown, given = names_in(every), {**run.display, **{name: ceiling_label(name, run.display) for name in names}}
    if has_references:
        shown["selector"] += REFERENCES
        given |= REFERENCES
    display = display_of(shown, given)
    return Frames(
        rows,
        run.picks,
        claims.control_of(rows, subject),
        tables_of(rows, metric, has_oracles=bool(names), has_references=has_references),
        subject,
        tuple(budgets),
        display,
        oracles if names else None,
        metric,
    )


def write_report(
    run: Run,
    out: Path,
    *,
    partial: bool = False,
    subject: str | None = None,
    budgets: Sequence[str] = (),
    metric: str = ACCURACY,
) -> Report:
    """Write report.html, report.md, figures/, tables/ and rounds.parquet from the rows alone; same rows, same bytes.

    Args:
        run: rows and plan.
        out: folder to write to.
        partial: report an unfinished run on the rows that ``ranked`` chooses.
        subject: as in ``contents_of``.
        budgets: as in ``contents_of``.
        metric: as in ``contents_of``.

    Raises:
        InputError: as ``contents_of``, or a folder that cannot be written.
    """
    contents = contents_of(run, partial=partial, subject=subject, budgets=budgets, metric=metric)
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
    """Write every table as CSV and, unless it is empty, as LaTeX; and all_tables.tex, which includes them all.

    CSV has the names of the spec, LaTeX their labels. The main table has a LaTeX file for each configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    order = frames["rank_table"]["selector"].tolist()
    lines = frames[MAIN_LINES] if MAIN_LINES in frames.tables else None
    tables = frames["main"], frames["main_averages"]
    texts = main_latex(*tables, frames.display, order, lines, frames.metric.worded)
    for name, frame in frames.items():
        if name != STEM and len(frame):
            caption = frames.metric.worded(frames.tables[name].caption)
            texts[name] = latex.table(frames.display.applied(frame), caption)
    for stem, text in texts.items():
        (folder / f"{stem}.tex").write_text(text, encoding="utf-8")
    (folder / "all_tables.tex").write_text(latex.document(list(texts)), encoding="utf-8")


def write_figures(contents: Contents, folder: Path) -> None:
    """Draw every figure as SVG, PDF and PNG, with the digest of the tables in their metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    digest, (families, _) = digest_of(contents.frames), fallbacks(drawn_names(contents.frames))
    for figure in contents.drawings:
        save(figure.draw(), folder / figure.stem, digest, families)


def drawn_names(frames: Frames) -> str:
    """The label of every name that figures show, one a line."""
    parts = [frames.rows] if frames.oracles is None else [frames.rows, frames.oracles]
    labeled = [frames.display.applied(part[[*CONFIGURATION, "selector"]]) for part in parts]
    return "\n".join(str(name) for rows in labeled for column in rows for name in rows[column].unique())


def digest_of(frames: Frames) -> str:
    """Equal tables and labels, equal digest: figures with another one are stale."""
    tables = "".join(frame.to_csv(index=False, float_format="%.6g") for _, frame in frames.items())
    metric = "" if frames.metric.is_accuracy else frames.metric.name
    return sha256(f"{tables}{drawn_names(frames)}{frames.subject or ''}{metric}".encode()).hexdigest()


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
