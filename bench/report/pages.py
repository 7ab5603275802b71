"""A run as files: tables, figures, one HTML page and the same as Markdown; same rows, same bytes."""

import base64
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from activekd.errors import InputError
from bench import diagrams, plots, stats
from bench.report import latex
from bench.report import side_by_side as beside
from bench.report.cells import MEASURES, RANK_HEADER, markdown_row, rank_cells
from bench.report.figures import panels as charts
from bench.report.sections import sections
from bench.report.tables import CAPTIONS, frames_of
from bench.spec import PROTOCOL
from bench.stats import claims
from bench.store.folder import TABLE
from bench.store.table import Run

HOLES_SHOWN = 10


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        html: the page.
        markdown: the same as Markdown.
        headline: first places of the leading selector, in the paper's form.
        rank_table: as ``stats.rank_table``.
        first_places: as ``stats.first_place_intervals``.
        gain: as ``stats.gain_summary``.
        areas: as ``stats.area_table``.
        conclusions: as ``claims.conclusions``.
    """

    html: Path
    markdown: Path
    headline: str
    rank_table: pd.DataFrame
    first_places: pd.DataFrame
    gain: pd.DataFrame
    areas: pd.DataFrame
    conclusions: dict[str, str]


def write_report(run: Run, out: Path, *, partial: bool = False, control: str | None = None) -> Report:
    """Write report.html, report.md, figures/, tables/ and rounds.parquet from the rows alone; same rows, same bytes.

    Args:
        run: rows and plan.
        out: folder to write to.
        partial: report an unfinished run on the settings that every selector has finished.
        control: the selector against which others are tested; without it as ``claims.control_of`` says.

    Raises:
        InputError: rows that cannot be compared, a control that took no part, or an unfinished run without ``partial``.
    """
    holes = _hole_lines(run)
    if holes and not partial:
        raise InputError(
            f"the run is unfinished: {len(run.holes)} of {len(run.plan)} (trial, round)s are missing, such as "
            f"{'; '.join(holes[:3])}; expected: run the grid again to finish it, or --partial"
        )
    rows = run.rows if not holes else _complete_cells(run)
    stats.check_rows(rows)
    if rows["round"].max() < 1:
        raise InputError("no query round yet: nothing to rank; expected: at least 2 rounds")
    control = claims.control_of(rows, control)
    frames = frames_of(rows, run.picks, control)
    conclusions = claims.conclusions(rows)
    parts = plots.curve_parts(frames["curves"])
    styles = plots.selector_styles(frames["curves"]["selector"].unique().tolist())
    figures = _figures(frames, parts, styles)
    try:
        for folder in ("figures", "tables"):
            shutil.rmtree(out / folder, ignore_errors=True)
            (out / folder).mkdir(parents=True)
        run.rows.to_parquet(out / TABLE, index=False)
        _write_tables(frames, out / "tables")
        digest = digest_of(frames)
        for stem, figure in figures.items():
            plots.save(figure, out / "figures" / stem, digest)
        said = {
            **_first_screen(run, rows, frames, holes, styles),
            "sections": sections(frames, conclusions, list(figures), control),
            "charts": {stem: charts.curve_chart(part, styles, title) for stem, title, part in parts},
            "provenance": {c: sorted(rows[c].unique()) for c in ("commit", "versions", "device")},
            "panel": (charts.WIDTH, charts.HEIGHT),
        }
        _render(said, out)
    except OSError as fault:
        raise InputError(f"report folder {out}: {fault}; expected: a writable folder") from fault
    table = frames["rank_table"]
    return Report(
        out / "report.html",
        out / "report.md",
        stats.headline(table),
        table,
        frames["first_places"],
        frames["gain_summary"],
        frames["areas"],
        conclusions,
    )


def write_beside(runs: Mapping[str, Run], out: Path) -> Path:
    """Write a page, the same as Markdown, and tables/common_cells.csv of several finished runs; the page's path.

    Raises:
        InputError: a run that is unfinished or cannot be compared.
    """
    for name, run in runs.items():
        if len(run.holes):
            raise InputError(
                f"{name} is unfinished; expected: finished runs side by side, or one of them with --partial"
            )
        stats.check_rows(run.rows)
    rows = {name: run.rows for name, run in runs.items()}
    protocols = sorted({int(table["protocol"].iloc[0]) for table in rows.values()})
    one = len(protocols) == 1
    limitation = f"The runs are of protocols {', '.join(map(str, protocols))}: no cell of one is set beside another's."
    common = beside.common_cells(rows) if one else pd.DataFrame()
    everything = pd.concat(rows.values(), ignore_index=True)
    standings = {name: beside.standing_of(table) for name, table in rows.items()}
    styles = plots.selector_styles(everything["selector"].unique().tolist())
    try:
        (out / "tables").mkdir(parents=True, exist_ok=True)
        common.to_csv(out / "tables" / "common_cells.csv", index=False, float_format="%.6g")
        said = {
            "name": ", ".join(rows),
            "headline": f"{len(rows)} runs side by side",
            "confidence": "",
            "facts": {},
            "rank_header": beside.OVERVIEW_HEADER,
            "rank_cells": beside.overview(standings),
            "colors": {name: charts.color(style) for name, style in styles.items()},
            "counts": "Each run is ranked by itself; a setting is a configuration at a query round.",
            "limitations": [] if one else [limitation],
            "figure": "",
            "holes": [],
            "n_holes": 0,
            "n_planned": 0,
            "sections": beside.beside_sections(standings, common),
            "charts": {},
            "provenance": {c: sorted(everything[c].unique()) for c in ("commit", "versions", "device")},
            "panel": (charts.WIDTH, charts.HEIGHT),
        }
        _render(said, out)
    except OSError as fault:
        raise InputError(f"report folder {out}: {fault}; expected: a writable folder") from fault
    return out / "report.html"


def _render(said: Mapping[str, Any], out: Path) -> None:
    for template, name in (("report.md.j2", "report.md"), ("report.html.j2", "report.html")):
        text = _environment(out).get_template(template).render(said)
        (out / name).write_text(text, encoding="utf-8")


def digest_of(frames: Mapping[str, pd.DataFrame]) -> str:
    """A name for what figures were made from: equal tables, equal name."""
    tables = "".join(frame.to_csv(index=False, float_format="%.6g") for frame in frames.values())
    return sha256(tables.encode()).hexdigest()


def _write_tables(frames: Mapping[str, pd.DataFrame], folder: Path) -> None:
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    written = [folder / f"{name}.tex" for name, frame in frames.items() if len(frame)]
    for path in written:
        path.write_text(latex.table(frames[path.stem], CAPTIONS[path.stem]), encoding="utf-8")
    (folder / "all_tables.tex").write_text(latex.document(written), encoding="utf-8")


def _first_screen(
    run: Run,
    rows: pd.DataFrame,
    frames: Mapping[str, pd.DataFrame],
    holes: list[str],
    styles: Mapping[str, plots.Style],
) -> dict[str, Any]:
    ranked, table, margins, spread = (frames[name] for name in ("ranks", "rank_table", "margins", "first_places"))
    n, extra = stats.n_settings(ranked), stats.extra_firsts(ranked)
    seconds = list(stats.COSTS)
    return {
        "name": run.name,
        "headline": stats.headline(table),
        "confidence": stats.headline_confidence(table, spread),
        "facts": {
            "data sets": ", ".join(sorted(rows["dataset"].unique())),
            "teachers": ", ".join(plots.teacher_label(t, "both") for t in sorted(rows["teacher"].unique())),
            "students": ", ".join(sorted(rows["student"].unique())),
            "selectors": ", ".join(sorted(rows["selector"].unique())),
            "seeds": ", ".join(str(s) for s in sorted(rows["seed"].unique())),
            "trials": f"{rows['trial_id'].nunique():,}",
            "rounds": f"{len(rows):,} of {len(run.plan):,} planned",
            "protocol": str(rows["protocol"].iloc[0]),
            "compute": f"{rows[seconds].to_numpy().sum() / 60:.1f} minutes of one core in trials",
        },
        "rank_header": RANK_HEADER,
        "rank_cells": rank_cells(table, spread),
        "colors": {name: charts.color(style) for name, style in styles.items()},
        "counts": (
            f"A setting is a configuration (data set or group, teacher, student, recipe) at a query round; the shared "
            f"round 0 is left out. First places add up to {int(table['first'].sum())} = {n} settings + {extra} more "
            f"for ties. A first place is clear where the paired 95% interval over seeds of the first minus the second "
            f"lies above 0: in {int(margins['clear'].sum())} of {len(margins)} settings. A first place elsewhere is no "
            f"proof of a difference."
        ),
        "limitations": _limitations(rows),
        "figure": "ranks",
        "holes": holes[:HOLES_SHOWN],
        "n_holes": len(run.holes),
        "n_planned": len(run.plan),
    }


def _limitations(rows: pd.DataFrame) -> list[str]:
    """What the reader must know before he trusts a number."""
    out = []
    if len(rows["seed"].unique()) == 1:
        out.append("There is one seed, so there are no intervals.")
    if len(rows["selector"].unique()) == 1:
        out.append("There is one selector, so there is nothing to rank.")
    protocol = int(rows["protocol"].iloc[0])
    if protocol != PROTOCOL:
        out.append(
            f"The rows are of protocol {protocol}; this version makes protocol {PROTOCOL}, whose numbers may differ."
        )
    kinds = {"commit": "commits", "versions": "sets of versions", "device": "kinds of device"}
    versions = [(rows[column].nunique(), named) for column, named in kinds.items()]
    mixed = [f"{count} {named}" for count, named in versions if count > 1]
    if mixed:
        out.append(f"The rows were made by {', '.join(mixed)}; see Provenance.")
    return out


def _figures(
    frames: Mapping[str, pd.DataFrame],
    parts: list[tuple[str, str, pd.DataFrame]],
    styles: Mapping[str, plots.Style],
) -> dict[str, Figure]:
    out = {"ranks": plots.rank_figure(frames["rank_table"], styles)}
    if len(frames["mean_ranks"]) and len(styles) > 1:
        out["ranks_cd"] = diagrams.critical_difference_figure(frames["mean_ranks"], frames["friedman"], styles)
    if len(frames["wins"]):
        out["wins"] = diagrams.win_figure(frames["wins"], frames["rank_table"]["selector"].tolist())
    if len(frames["gain_by_student"]):
        out["gain"] = plots.gain_figure(frames["gain_by_student"])
    if len(frames["diagnostics"]):
        out["diagnostics"] = diagrams.diagnostics_figure(frames["diagnostics"], MEASURES, styles)
    if len(styles) > 1:
        out["costs"] = diagrams.cost_figure(frames["pareto_overall"], styles)
    for stem, title, part in parts:
        out[stem] = plots.learning_curves(part, styles, title=title)
    return out


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
    return run.rows[~pd.MultiIndex.from_frame(run.rows[keys]).isin(missing)]


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
