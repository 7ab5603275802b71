"""Made-up pools of any size, and what a query on one takes: seconds and memory."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from activekd.memory import forget_peak, peak_rss_bytes
from activekd.pool import UNLABELED, Pool
from activekd.selectors import selector
from activekd.selectors.query import select
from activekd.selectors.view import PoolView
from activekd.streams import stream

BLOCK = 8192
"""Rows of an array that are made, or read, at a time."""

PURPOSE = "speed"
"""Of the random streams."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """What a strategy picked, and what the query took, with the checks of its view and rows.

    Attributes:
        picks: rows.
        seconds: of the query.
        extra_bytes: growth of the process's peak memory.
    """

    picks: list[int]
    seconds: float
    extra_bytes: int


def synthetic_probabilities(n: int, classes: int, *, peaked: bool, device: str = "cpu") -> Tensor:
    """Softmax of noise; peaked ones lie around the class corners with a mean top probability of about 0.7."""
    generator = torch.Generator(device).manual_seed(0)
    out = torch.empty(n, classes, device=device)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        logits = torch.randn(m, classes, generator=generator, device=device)
        if peaked:
            top = torch.randint(classes, (m,), generator=generator, device=device)
            above = 9.0 + 2.5 * torch.randn(m, generator=generator, device=device)
            logits.scatter_add_(1, top[:, None], above[:, None])
        out[start : start + m] = logits.softmax(dim=1)
    return out


def one_hot(n: int, classes: int) -> Tensor:
    """Rows of a student that is certain of everything: all ties."""
    out = torch.zeros(n, classes)
    out[torch.arange(n), torch.randint(classes, (n,), generator=torch.Generator().manual_seed(0))] = 1.0
    return out


def synthetic_features(n: int, dim: int) -> Tensor:
    """Noise around 200 centers."""
    generator = torch.Generator().manual_seed(1)
    centers = torch.randn(200, dim, generator=generator)
    out = torch.empty(n, dim)
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        noise = torch.randn(m, dim, generator=generator)
        out[start : start + m] = centers[torch.randint(200, (m,), generator=generator)] + noise
    return out


def timed(action: Callable[[], _T]) -> tuple[_T, float, int]:
    """What an action returned, its seconds and the growth of the peak memory."""
    forget_peak()
    before = peak_rss_bytes()
    start = perf_counter()
    out = action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = perf_counter() - start
    return out, seconds, max(0, peak_rss_bytes() - before)


def labeled_rows(n: int, k: int) -> np.ndarray:
    """``k`` distinct rows of ``n``, in order."""
    return np.sort(stream(0, "speed labeled").choice(n, size=k, replace=False))


def pool_view(arrays: dict[str, Tensor], labeled: np.ndarray, classes: int) -> PoolView:
    """A view of these arrays, whose labeled rows have the classes in turn."""
    n = len(next(iter(arrays.values())))
    labels = np.full(n, UNLABELED)
    labels[labeled] = np.arange(len(labeled)) % classes
    return PoolView(Pool(n, tuple(labeled.tolist())), labels, classes, arrays)


def ask(name: str, view: PoolView, picks: int) -> Answer:
    """The answer of a selector, with what it took."""
    rows, seconds, extra = timed(lambda: select(selector(name), view, picks, rng=stream(0, PURPOSE)))
    return Answer(rows.tolist(), seconds, extra)
