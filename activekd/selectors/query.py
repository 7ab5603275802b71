"""The call of a selector: checks its view before the query and its rows after."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from activekd.errors import InputError
from activekd.selectors.selector import Selector
from activekd.selectors.view import PoolView, narrowed, rows_at_once

SUM_TOLERANCE = 1e-3
"""Largest deviation of a sum of probabilities from 1."""

SHOWN = 5
"""Rows that a message lists."""

FREE_WIDTH = ("features", "teacher_features")
"""Arrays that have no column per class."""

CHUNK = 2048
"""Rows per step of a check; they fit into the processor's cache."""


def select(selector: Selector, view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """The rows that a selector picks, checked, in order of preference.

    Rows whose labels were wasted are out of the pool: the selector sees a smaller one, without them.

    Args:
        selector: the query strategy.
        view: its arrays are passed on as float32.
        query_size: number of rows.
        rng: passed on to the strategy.

    Raises:
        InputError: the query is empty or larger than the unlabeled pool; an array of the view is invalid (wrong type or
            shape, values that are not finite, probabilities that are below 0 or do not sum to 1); or the selector broke
            its contract (``checked_rows``) or has scores that are not finite. The message names the selector and the
            rows.
        ValueError: the selector raised it; the message names the selector.
    """
    unlabeled = view.pool.unlabeled
    if not 1 <= query_size <= len(unlabeled):
        raise InputError(
            f"selector '{selector.name}': query size {query_size} from {len(unlabeled)} unlabeled images; "
            f"expected: 1 to {len(unlabeled)}"
        )
    for fault in view_faults(view):
        raise InputError(f"selector '{selector.name}': {fault}")
    view, seen = replace(view, arrays={name: array.float() for name, array in view.arrays.items()}), None
    if view.pool.wasted:
        seen, view = narrowed(view, unlabeled)
    try:
        with full_precision(view.device):
            answer = selector.function(view, query_size, rng=rng)
    except ValueError as fault:
        kind = InputError if isinstance(fault, InputError) else ValueError
        raise kind(f"selector '{selector.name}': {fault}") from fault
    except Exception as fault:
        fault.add_note(f"selector '{selector.name}'")
        raise
    rows = checked_rows(selector, answer, view, query_size)
    return rows if seen is None else seen[rows]


def checked_rows(selector: Selector, answer: Any, view: PoolView, query_size: int) -> Int64[np.ndarray, " k"]:
    """The answer of a selector as rows.

    Args:
        selector: the query strategy, for messages.
        answer: an array, a tensor or a sequence.
        view: what the selector saw.
        query_size: number of rows.

    Raises:
        InputError: it is not ``query_size`` distinct unlabeled rows as integers.
    """
    name, expected = f"selector '{selector.name}'", f"expected: {query_size} distinct unlabeled rows"
    try:
        returned = np.asarray(answer.cpu() if isinstance(answer, torch.Tensor) else answer)
    except (ValueError, TypeError, RuntimeError) as fault:
        raise InputError(f"{name} returned {type(answer).__name__}, not an array: {fault}; {expected}") from fault
    if not np.issubdtype(returned.dtype, np.integer):
        kind = type(answer).__name__ if returned.dtype == object else returned.dtype
        raise InputError(f"{name} returned {kind}; {expected} as integers")
    if returned.shape != (query_size,):
        raise InputError(f"{name} returned an array of shape {returned.shape}: {returned}; {expected}")
    rows = returned.astype(np.int64)
    once, times = np.unique(rows, return_counts=True)
    for what, bad in (
        ("rows outside the pool", rows[(rows < 0) | (rows >= view.pool.n)]),
        ("labeled rows", rows[np.isin(rows, np.asarray(view.pool.labeled))]),
        ("rows more than once", once[times > 1]),
    ):
        if len(bad):
            raise InputError(f"{name} returned {len(bad)} {what}: {bad[:SHOWN].tolist()}; {expected}")
    return rows


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Full float32 matrix products inside the block, overriding TF32 and autocast settings of the process."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def view_faults(view: PoolView) -> list[str]:
    """Faults of the arrays of a view, one line each."""
    faults = []
    if len(view.labels) != view.pool.n:
        faults.append(f"{len(view.labels)} labels; expected: {view.pool.n}, one per train row")
    for name, array in view.arrays.items():
        if not isinstance(array, torch.Tensor) or not array.is_floating_point():
            kind = array.dtype if isinstance(array, torch.Tensor) else type(array).__name__
            faults.append(f"{name} are {kind}; expected: a tensor of floating-point numbers")
            continue
        width = array.shape[1] if array.ndim == 2 else 0
        is_wide = width == view.n_classes or (name in FREE_WIDTH and width > 0)
        if array.ndim != 2 or len(array) != view.pool.n or not is_wide:
            columns = "any" if name in FREE_WIDTH else view.n_classes
            faults.append(f"{name} have shape {tuple(array.shape)}; expected: ({view.pool.n}, {columns})")
            continue
        size = rows_at_once(CHUNK, array.device)
        both = [(chunk.float().sum(dim=1), chunk.amin(dim=1)) for chunk in array.split(size)]
        sums, least = (torch.cat(parts) for parts in zip(*both, strict=True))
        tests = [("are not finite", ~sums.isfinite())]
        if name not in FREE_WIDTH:
            tests += [("do not sum to 1", (sums - 1).abs() > SUM_TOLERANCE), ("are below 0", least < 0)]
        for what, is_bad in tests:
            bad = torch.nonzero(is_bad).squeeze(1)
            if len(bad):
                faults.append(f"{name} {what} in {len(bad)} rows: {bad[:SHOWN].tolist()}")
                break
    return faults
