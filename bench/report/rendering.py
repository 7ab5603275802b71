"""Pages to text: the templates of HTML and Markdown, and figures embedded as SVG."""

import base64
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from bench.report import markdown
from bench.report.contents import Missing, Page
from bench.report.figures.panels import HEIGHT, WIDTH, Chart, color
from bench.report.figures.style import selector_styles


@dataclass(frozen=True)
class RunParts:
    """What the page of one run shows in addition.

    Attributes:
        confidence: below the headline; may be empty.
        missing: of an unfinished run.
        facts: what the run consists of, by name.
        figure: stem of the figure on the first screen.
        charts: learning curves with hover values, which take the place of the figures of these stems.
    """

    confidence: str
    missing: Missing
    facts: dict[str, str]
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
    environment.filters["embed"] = lambda stem: _embedded(figures / f"{stem}.svg")
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
    return {name: color(style) for name, style in selector_styles(page.selectors).items()}


def _embedded(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


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
