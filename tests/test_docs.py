"""The pages of docs/: keys and defaults as in the code, specs that parse, and generated parts that are not stale."""

import re
import shlex
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic_core import PydanticUndefined
from typer.core import TyperGroup
from typer.main import get_command

from activekd import __version__
from activekd.recipes import ClapRecipe, Recipe, ViewGeometry
from activekd.selectors import SELECTORS
from bench.__main__ import whole
from bench.report.pages import digest_of, frames_of
from bench.spec import read_spec
from bench.specs.file import Block, Resources, Share, SpecFile
from bench.store.table import read_run

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SPEC_PAGE = DOCS / "spec.md"
SECTIONS: dict[str, tuple[type, ...]] = {
    "Keys of the file": (SpecFile,),
    "Keys of a block": (Block,),
    "Recipes": (Recipe,),
    "Views": (ViewGeometry,),
    "Resources": (Resources, Share),
}
IN_WORDS = {
    "block",
    "recipes",
    "views",
    "resources",
    "recipe",
    "transfer",
    "compared_as",
    "group",
    "initial_labels",
    "resource",
    "trial",
    "extraction",
}
"""Keys whose default the page states in words."""


def defaults(owner: type) -> dict[str, Any]:
    """The default of each key; MISSING where it is required."""
    if hasattr(owner, "model_fields"):
        made = {name: field.default for name, field in owner.model_fields.items()}  # pyright: ignore[reportAttributeAccessIssue]
        return {name: MISSING if default is PydanticUndefined else default for name, default in made.items()}
    return {field.name: field.default for field in fields(owner)}


def section(page: str, title: str) -> str:
    return page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def listed(text: str) -> dict[str, str]:
    """The default, as written, of each key in the tables of a section."""
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", text, flags=re.MULTILINE)
    return {key: default for keys, default in rows for key in re.findall(r"`(\w+)`", keys)}


@pytest.mark.parametrize("title", SECTIONS)
def test_the_page_of_specs_has_every_key_with_its_default(title: str) -> None:
    there = listed(section(SPEC_PAGE.read_text(encoding="utf-8"), title))
    expected = {key: default for owner in SECTIONS[title] for key, default in defaults(owner).items()}
    assert set(there) == set(expected)
    for key in set(expected) - IN_WORDS:
        default = expected[key]
        shown = str(default).lower() if isinstance(default, bool) else repr(default).replace("'", '"')
        written = "required" if default is MISSING else f"`{shown}`"
        assert there[key] == written, key


def test_the_page_of_specs_names_the_keys_of_clap() -> None:
    (line,) = (line for line in SPEC_PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `clap`"))
    assert {field.name for field in fields(ClapRecipe)} == set(re.findall(r"`(\w+)`", line)) - {"clap"}


def toml_blocks() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
    return [
        (page.name, block)
        for page in pages
        for block in re.findall(
            r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
        )
    ]


@pytest.mark.parametrize(("page", "text"), toml_blocks())
def test_specs_in_the_pages_parse(page: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(text, encoding="utf-8")
    assert read_spec(str(tmp_path / "spec.toml")).trials


def shell_lines() -> list[tuple[str, str]]:
    pages = [*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md"))]
    blocks = [
        (page.relative_to(ROOT).as_posix(), block)
        for page in pages
        if page.name != "CHANGELOG.md"
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    ]
    found = ((page, line.partition("#")[0].strip()) for page, block in blocks for line in block.splitlines())
    return [(page, line) for page, line in found if re.match(r"(activekd|python -m bench\.\w+) ", line)]


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_commands_of_the_pages_exist_with_their_options(page: str, line: str) -> None:
    """The help of the command that a line names lists its options."""
    program, *words = shlex.split(line.removeprefix("python -m bench."))
    words = words if program in {"activekd", "grid"} else [program, *words]
    command = get_command(whole())
    while isinstance(command, TyperGroup) and words:
        found = command.commands.get(words[0])
        command, words = (found, words[1:]) if found else (command.commands["run"], words)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("-")} <= known, line


def links() -> list[tuple[str, str]]:
    pages = [*ROOT.glob("*.md"), *sorted(DOCS.rglob("*.md"))]
    found = ((page, re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))) for page in pages)
    return [(page.relative_to(ROOT).as_posix(), link) for page, each in found for link in each if "://" not in link]


@pytest.mark.parametrize(("page", "link"), links())
def test_links_of_the_pages_lead_somewhere(page: str, link: str) -> None:
    assert ((ROOT / page).parent / link).exists()


def test_the_citation_has_the_version_of_the_package() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import gallery

    assert sys.modules["gallery"] is gallery
    return gallery


def test_the_gallery_of_strategies_is_not_stale(gallery: Any) -> None:
    frames = frames_of(gallery.shown(read_run(gallery.RUN)))
    head, tail = gallery.around_block(gallery.PAGE, gallery.BLOCK)
    assert gallery.PAGE.read_text(encoding="utf-8") == f"{head}\n{gallery.gallery(frames)}\n{tail}"
    assert f"<dc:source>{digest_of(frames)}</dc:source>" in (DOCS / "selectors.svg").read_text(encoding="utf-8")
    shown = set(frames.rows["selector"]) & SELECTORS.keys()
    assert len(gallery.draw(frames.rows).axes) == len(shown) - 1
