"""What the grid costs beside the work in its trials: against bare Ray Tune, and against serial processes."""

import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

TABLE_WIDTH = 140


@dataclass(frozen=True)
class Claim:
    """One row of the table.

    Attributes:
        what: is claimed.
        found: the measured value.
        bar: the largest that passes.
        detail: the figures behind it.
    """

    what: str
    found: float
    bar: float
    detail: str

    @property
    def passes(self) -> bool:
        return self.found <= self.bar


def apart(target: Callable[..., None], *arguments: Any) -> Any:
    """What a function puts into the queue that is its first argument, run in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=target, args=(answer, *arguments))
    process.start()
    while process.is_alive() and answer.empty():
        process.join(0.2)
    if answer.empty():
        raise RuntimeError(f"{target.__name__} ended with exit code {process.exitcode}")
    found = answer.get()
    process.join()
    return found


def print_claims(claims: Sequence[Claim], out: Console) -> None:
    """The table, with pass or miss a row."""
    table = Table("claim", "found", "bar", "", "figures")
    for claim in claims:
        found = f"{claim.found:.3g}"
        table.add_row(claim.what, found, f"{claim.bar:g}", "pass" if claim.passes else "MISS", claim.detail)
    Console(file=out.file, width=max(TABLE_WIDTH, out.width)).print(table)
