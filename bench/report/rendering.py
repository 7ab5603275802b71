"""Pages to text: the templates of HTML and Markdown, and figures as SVG in the page."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bench.report import markdown
from bench.report.contents import Missing, Page
from bench.report.figures.panels import HEIGHT, WIDTH, Chart, color


@dataclass(frozen=True)
class RunParts:
    """What the page of one run shows in addition.

    Attributes:
        confidence: below the headline; may be empty.
        missing: of an unfinished run.
        facts: what the run consists of, by name.
        names: name in the spec by label, where they differ.
        figure: stem of the figure on the first screen.
        charts: learning curves with hover values, which take the place of the figures of these stems.
    """

    confidence: str
    missing: Missing
    facts: dict[str, str]
    names: dict[str, str]
    figure: str
    charts: dict[str, Chart] = field(default_factory=dict)


def run_markdown(page: Page, run: RunParts) -> str:
    """The page of one run as Markdown; its figures are links into figures/."""
    return _environment().get_template("run.md.j2").render(page=page, run=run)


def run_html(page: Page, run: RunParts, figures: Path) -> str:
    """The page of one run as HTML, which needs no network.

    Args:
        page: shared parts.
        run: parts of one run.
        figures: folder with the SVG files that the page embeds.
    """
    environment = _environment()
    environment.filters["embed"] = lambda stem: _embedded(stem, figures / f"{stem}.svg")
    return environment.get_template("run.html.j2").render(
        page=page, run=run, colors=_colors(page), panel_size=(WIDTH, HEIGHT)
    )


def side_by_side_markdown(page: Page) -> str:
    """The page of several runs as Markdown."""
    return _environment().get_template("side_by_side.md.j2").render(page=page)


def side_by_side_html(page: Page) -> str:
    """The page of several runs as HTML."""
    return _environment().get_template("side_by_side.html.j2").render(page=page, colors=_colors(page))


def _colors(page: Page) -> dict[str, str]:
    return {name: color(style) for name, style in page.styles.items()}


def _embedded(stem: str, file: Path) -> Markup:
    """A figure of matplotlib as part of a page: black follows the theme, white backgrounds are left out.

    Ids begin with the stem, so that those of two figures differ. A page of HTML needs no names of XML's namespaces.
    """
    svg = file.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'(<path d="[^"]*"\s+style="fill: )#ffffff', r"\1none", svg)
    svg = svg.replace("#000000", "currentColor").replace("#dddddd", "var(--line)")
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\1{stem}-", svg)
    return Markup(svg)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bench.report"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["head"] = markdown.head
    environment.filters["row"] = markdown.row
    environment.filters["plain"] = markdown.escaped
    return environment
