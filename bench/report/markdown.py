"""Text as Markdown that shows it as it is: no name of a run is markup, mathematics or HTML."""

import re
from collections.abc import Iterable, Sequence

from bench.report.cells import Marked

_ANYWHERE = re.compile(
    r"""
    [\\`*\[\]|$~]                   # escapes, code, emphasis, links, cells, mathematics, strikethrough
    | (?<![^\W_])_ | _(?![^\W_])    # emphasis; an underscore between two letters or digits is a letter
    | <(?=[A-Za-z/!?])              # HTML and autolinks
    | &(?=\#?\w+;)                  # entities
    | (?<=\s)\#(?=\#*$)             # the end of a heading
    """,
    re.VERBOSE,
)

_AT_THE_START = re.compile(r"^(\s*)(?:(>|[#+=-](?=[\s#+=-]|$))|(\d+)([.)])(?=\s|$))")
"""Headings, quotes, lists, rules."""


def escaped(text: object) -> str:
    """A text in one line, with a backslash before each character that Markdown would read as markup."""
    return _AT_THE_START.sub(
        lambda found: (found[1] or "") + (f"\\{found[2]}" if found[2] else f"{found[3]}\\{found[4]}"), _cell(text)
    )


def _cell(text: object) -> str:
    line = re.sub(r"\s+", " ", str(text)).strip()
    return _ANYWHERE.sub(lambda found: f"\\{found[0]}", line)


def head(header: Sequence[object]) -> str:
    """The head of a Markdown table: its names and the rule below them."""
    return row(header) + "\n|" + " --- |" * len(header)


def row(cells: Iterable[object]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(map(_marked, cells)) + " |"


def _marked(cell: object) -> str:
    if not isinstance(cell, Marked):
        return _cell(cell)
    number = f"**{_cell(cell.number)}**" if cell.best else _cell(cell.number)
    number = f"<ins>{number}</ins>" if cell.tied else number
    return f"{number} {_cell(cell.rest)}".rstrip()
