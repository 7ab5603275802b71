"""Checks that rows of numbers are finite where they leave a fit or a network."""

import torch
from torch import Tensor

from activekd.errors import InputError

CHUNK = 8192
"""Rows whose norms are computed at a time."""


def count_broken(rows: Tensor) -> int:
    """The number of rows with a value that is not finite, (n, width)."""
    return int((~rows.sum(dim=1).isfinite()).sum())


def check_rows(rows: Tensor, what: str, expected: str, *, nonzero: bool = False) -> None:
    """Check that rows are finite.

    Args:
        rows: the numbers, (n, width), of any floating-point dtype.
        what: names the rows in the message.
        expected: the remedy in the message.
        nonzero: whether a row of norm 0, which has no direction, is a fault too.

    Raises:
        InputError: rows are not finite, or of norm 0; the message counts them and gives the first.
    """
    norms = torch.cat([chunk.float().norm(dim=1) for chunk in rows.split(CHUNK)])
    for fault, wrong in (("not finite", ~norms.isfinite()), ("of norm 0", (norms == 0) & nonzero)):
        count = int(wrong.sum())
        if count:
            first = int(wrong.int().argmax())
            raise InputError(f"{count} of {len(norms)} {what} are {fault}, first in row {first}; expected: {expected}")
