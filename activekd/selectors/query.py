"""The one call that asks a selector: its view is checked before, its rows after."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int64

from activekd.errors import InputError
from activekd.selectors.selector import Selector
from activekd.selectors.view import PoolView

SUM_TOLERANCE = 1e-3
SHOWN = 5
CHUNK = 2048
"""Rows a step of a check, which keeps them in the processor's cache."""


def select(selector: Selector, view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """The rows that a selector asks for, checked.

    Raises:
        InputError: the query is larger than the unlabeled pool.
        ValueError: arrays that no selector can use (another shape, values that are not finite, probabilities below 0
            or that do not sum to 1), or a selector that broke its contract (wrong count or type, a row twice, a
            labeled row, scores that are not finite). The message names the selector and the rows.
    """
    unlabeled = view.pool.unlabeled
    if not 1 <= query_size <= len(unlabeled):
        raise InputError(
            f"selector '{selector.name}': query size {query_size} from {len(unlabeled)} unlabeled images; "
            f"expected: 1 to {len(unlabeled)}"
        )
    for fault in view_faults(view):
        raise ValueError(f"selector '{selector.name}': {fault}")
    view = replace(view, arrays={name: array.float() for name, array in view.arrays.items()})
    try:
        with full_precision(view.device):
            answer = selector.function(view, query_size, rng=rng)
    except ValueError as fault:
        raise ValueError(f"selector '{selector.name}': {fault}") from fault
    except Exception as fault:
        fault.add_note(f"selector '{selector.name}'")
        raise
    found = np.asarray(answer.cpu() if isinstance(answer, torch.Tensor) else answer)
    wanted = f"selector '{selector.name}' must return {query_size} distinct unlabeled rows"
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"{wanted} as integers, got {found.dtype}")
    if found.shape != (query_size,):
        raise ValueError(f"{wanted}, got an array of shape {found.shape}: {found}")
    rows = found.astype(np.int64)
    once, times = np.unique(rows, return_counts=True)
    for what, bad in (
        ("rows outside of the pool", rows[(rows < 0) | (rows >= view.pool.n)]),
        ("labeled rows", rows[np.isin(rows, np.asarray(view.pool.labeled))]),
        ("rows more than once", once[times > 1]),
    ):
        if len(bad):
            raise ValueError(f"{wanted}, got {len(bad)} {what}: {bad[:SHOWN].tolist()}")
    return rows


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Matrix products in whole float32 for the length of a block, whatever the process has chosen (TF32, autocast)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def view_faults(view: PoolView) -> list[str]:
    """What makes the arrays of a view unusable: one line for each that is."""
    faults = []
    if len(view.labels) != view.pool.n:
        faults.append(f"{len(view.labels)} labels; expected: {view.pool.n}, one a train row")
    for name, array in view.arrays.items():
        if not isinstance(array, torch.Tensor) or not array.is_floating_point():
            kind = array.dtype if isinstance(array, torch.Tensor) else type(array).__name__
            faults.append(f"{name} are {kind}; expected: a tensor of floating-point numbers")
            continue
        width = array.shape[1] if array.ndim == 2 else 0
        is_wide = width == view.n_classes or (name == "features" and width > 0)
        if array.ndim != 2 or len(array) != view.pool.n or not is_wide:
            columns = "any" if name == "features" else view.n_classes
            faults.append(f"{name} have shape {tuple(array.shape)}; expected: ({view.pool.n}, {columns})")
            continue
        both = [(chunk.float().sum(dim=1), chunk.amin(dim=1)) for chunk in array.split(CHUNK)]
        sums, least = (torch.cat(parts) for parts in zip(*both, strict=True))
        tests = [("are not finite", ~sums.isfinite())]
        if name != "features":
            tests += [("do not sum to 1", (sums - 1).abs() > SUM_TOLERANCE), ("are below 0", least < 0)]
        for what, is_bad in tests:
            bad = torch.nonzero(is_bad).squeeze(1)
            if len(bad):
                faults.append(f"{name} {what} in {len(bad)} rows: {bad[:SHOWN].tolist()}")
                break
    return faults
