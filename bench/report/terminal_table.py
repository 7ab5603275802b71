"""The rank table of a report on a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.report import cells
from bench.report.pages import Report
from bench.terminal import say

COLUMNS = ("selector", "first", cells.INTERVAL_HEADER, "clear", "mean rank")
"""With the means of what is ranked after them."""


def print_rank_table(report: Report, out: Console) -> None:
    """Print the headline, the rank table, what it leaves out, and the path of the page."""
    ranks = report.frames.shown_ranks
    columns = (*COLUMNS, ranks.header[-1])
    kept = [ranks.header.index(name) for name in columns]
    shown = Table(title=Text(report.headline))
    for name in columns:
        is_name = name == "selector"
        shown.add_column(name, justify="left" if is_name else "right", no_wrap=is_name)
    for row in ranks.rows:
        shown.add_row(*(Text(str(row[index])) for index in kept))
    out.print(shown)
    for remark in report.left_out:
        say(remark, out)
    say(f"report: {report.html}", out)
