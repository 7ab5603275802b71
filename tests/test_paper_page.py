"""The page on the paper: every object that it names exists, and it names every departure of a strategy."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from activekd.selectors import SELECTORS, selector

PAGE = Path(__file__).parents[1] / "docs" / "paper.md"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_the_table_has_four_filled_columns() -> None:
    assert len(rows()) > 20
    assert [row for row in rows() if len(row) != 4 or not all(row)] == []


@pytest.mark.parametrize("where", sorted({row[3] for row in rows()}))
def test_what_a_row_names_exists(where: str) -> None:
    names = re.findall(r"`([\w.]+)`", where)
    assert names
    for name in names:
        assert name.startswith("activekd.")
        resolve_name(name)


def departs(name: str) -> bool:
    return "Departure" in (selector(name).function.__doc__ or "")


def test_every_strategy_that_departs_from_its_paper_is_in_the_table() -> None:
    named = {name for row in rows() for name in re.findall(r"`(\w+)`", row[0])}
    assert {name for name in SELECTORS if departs(name)} <= named
    for name in named & set(SELECTORS):
        assert departs(name) or "ours" in (selector(name).function.__doc__ or "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("badge", ["first row is drawn uniformly", "largest gradient"]),
        ("badge_released", ["rounding noise", "only the picks that follow"]),
        ("typiclust", ["fewer than SMALL_CLUSTER", "min(NEIGHBOURS, n - 1)"]),
        ("coreset", ["L2-normalised", "mixed-integer"]),
        ("classbalanced", ["quotas are exact"]),
        ("maxherding", ["is sampled"]),
    ],
)
def test_departures_stand_in_the_docstring(name: str, words: list[str]) -> None:
    text = " ".join((selector(name).function.__doc__ or "").split())
    assert departs(name)
    for each in words:
        assert each in text


def test_the_readme_links_to_the_page() -> None:
    assert "(docs/paper.md)" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
