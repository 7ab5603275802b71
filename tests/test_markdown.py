"""Names in Markdown: a parser of CommonMark with tables reads each back as it is, as text alone."""

import html
import re

import pytest
from markdown_it import MarkdownIt
from names import NAMES

from bench.report.markdown import escaped, head, row

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
MORE = (
    "$$x$$", "![a](b)", "__x__", "a_b_c", "*x*", "`x`", "&#38;", "&copy;", "# h", "- x", "-", "---", "+ 1", "1. x",
    "1) x", "> q", ">q", "~~s~~", "===", "http://a.b", "a\\", "a\\|b", "C#", "c #", "c ##", "a\nb", "* * *", "_ _ _",
    "[x]: http://y", "+1.0 to +2.0", "< 0.0001",
)  # fmt: skip


@pytest.mark.parametrize("name", [*NAMES, *MORE])
def test_a_name_is_text(name: str) -> None:
    line = " ".join(name.split())
    for form in ("- {}\n", "# {}: h\n", "### {}\n", "**{}**\n", "{}\n"):
        (inline,) = (token for token in PARSER.parse(form.format(escaped(name))) if token.type == "inline")
        parts = inline.children or []
        assert {part.type for part in parts} <= {"text", "text_special", "strong_open", "strong_close"}, form
        assert "".join(part.content for part in parts) == line + (": h" if ": h" in form else ""), form
        assert ("strong_open" in {part.type for part in parts}) == ("**" in form)
    table = "\n".join([head(["selector", "n"]), row([name, "1"])]) + "\n"
    assert [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", PARSER.render(table))] == [line, "1"]


def test_dollars_are_escaped_for_those_who_read_mathematics() -> None:
    assert escaped("birds_$5_vs_$10") == r"birds\_\$5_vs\_\$10"


def test_ordinary_names_stay_readable() -> None:
    for name in ("frozen:efficientnet_lite0@128", "clip_vitb32/caltech101+clap", "top:entropy:350"):
        assert escaped(name) == name
