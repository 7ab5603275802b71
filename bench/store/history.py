"""The rows of a trial in order: rounds without a gap, and no label bought twice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from activekd.errors import InputError
from bench.columns import PICKED, Row

SHOWN = 10
"""Faults that a message lists; it counts the others."""


@dataclass
class History:
    """The rows of one trial from round 0 on, each of which continues the one before.

    Attributes:
        rows: by round.
        bought: rows of the train split whose labels the queries have bought.
    """

    rows: list[Row] = field(default_factory=list)
    bought: set[int] = field(default_factory=set)

    def breach(self, row: Row) -> str | None:
        """Why a row does not continue these; None if it does.

        A row continues the rows before it if it is of the next round, buys distinct labels that no earlier round has
        bought, and trains on the labels of the round before and those that this round has bought.
        """
        index, picked = row["round"], row[PICKED]
        if index != len(self.rows):
            return f"round {index} follows {len(self.rows)} stored rounds; expected: round {len(self.rows)}"
        if any(type(pick) is not int or pick < 0 for pick in picked):
            return f"round {index} buys {str(picked)[:60]}; expected: rows of the train split"
        if len(set(picked)) < len(picked):
            return f"round {index} buys a label twice; expected: distinct rows"
        again = sorted(self.bought.intersection(picked))
        if again:
            return f"round {index} buys the labels of rows {again[:5]} again; expected: unlabeled rows"
        if self.rows:
            wanted = self.rows[-1]["n_labeled"] + len(self.rows[-1][PICKED])
            if row["n_labeled"] != wanted:
                return f"n_labeled of round {index} is {row['n_labeled']}; expected: {wanted}, by the round before"
        return None

    def add(self, row: Row) -> None:
        """Add a row that continues these."""
        self.rows.append(row)
        self.bought.update(row[PICKED])


def histories(rows: Iterable[Row], path: Path) -> Mapping[str, History]:
    """The history of each trial, by id.

    Args:
        rows: in the order of their file.
        path: the file, for messages.

    Raises:
        InputError: rows that do not continue their trial, each with its line: a line was removed or edited, or two
            grids wrote into the file.
    """
    out: dict[str, History] = {}
    faults = []
    for line, row in enumerate(rows, start=1):
        history = out.setdefault(row["trial_id"], History())
        breach = history.breach(row)
        if breach is None:
            history.add(row)
        else:
            faults.append(f"line {line}, trial {row['trial_id']}: {breach}")
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise InputError(
            f"{path}: {'; '.join([*faults[:SHOWN], *more])}. These lines do not continue their trial; "
            f"expected: remove them, then run the grid again"
        )
    return out
