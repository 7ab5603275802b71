"""The contract of a selector, as a check for any query strategy."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from activekd.memory import forget_peak, peak_rss_bytes
from activekd.pool import UNLABELED, Pool
from activekd.selectors import query
from activekd.selectors.own import as_selector
from activekd.selectors.selector import Selector
from activekd.selectors.view import PoolView, StudentHead
from activekd.streams import stream

ON = "on a query of"
"""Begins the note that tells an error's view."""

N, CLASSES, DIM, LABELED = 90, 5, 6, 10
LARGE, LARGE_CLASSES, LARGE_DIM = 20_000, 100, 64
MEMORY_FACTOR, MEMORY_FLOOR = 6, 256 * 2**20
"""Bound on a query's memory: a multiple of the bytes of the declared arrays, plus a floor in bytes. It is below one
float32 per row, class and feature of the large view."""


def made_up_view(seed: int = 0, n: int = N, classes: int = CLASSES, dim: int = DIM, labeled: int = LABELED) -> PoolView:
    """A pool of random predictions and features, with every array that a selector may declare.

    Args:
        seed: seed of the random numbers.
        n: number of rows.
        classes: number of classes.
        dim: width of the features.
        labeled: number of labeled rows.
    """
    rng = np.random.default_rng(seed)
    rows = rng.choice(n, size=labeled, replace=False)
    labels = np.full(n, UNLABELED)
    labels[rows] = np.arange(labeled) % classes
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(n, classes, generator=generator) for _ in range(2))
    student, teacher = (each.softmax(dim=1) for each in logits)
    arrays = {
        "student_probabilities": student,
        "teacher_probabilities": teacher,
        "features": torch.randn(n, dim, generator=generator),
        "teacher_features": torch.randn(n, dim + 1, generator=generator),
    }
    weights, biases = torch.randn(2, classes, dim, generator=generator), torch.randn(2, classes, generator=generator)
    prototypes = torch.randn(classes, dim + 1, generator=generator)
    return PoolView(
        Pool(n, tuple(rows.tolist())),
        labels,
        classes,
        arrays,
        head=StudentHead(weights, biases, label_weight=0.5, distill_temperature=1.0),
        prototypes=prototypes / prototypes.norm(dim=1, keepdim=True),
        truth=rng.integers(classes, size=n),
    )


def declared(view: PoolView, selector: Selector) -> PoolView:
    """The view with what the selector declares alone; reading anything else raises LookupError."""
    return replace(
        view,
        arrays={name: array for name, array in view.arrays.items() if name in selector.needs},
        head=view.head if "student_head" in selector.needs else None,
        prototypes=view.prototypes if "text_prototypes" in selector.needs else None,
        truth=view.truth if "true_labels" in selector.needs else None,
    )


def check(selector: Selector | Callable[..., np.ndarray]) -> None:
    """Check a selector against its contract.

    It returns exactly ``query_size`` distinct unlabeled rows, for any size from 1 to the whole unlabeled pool. Equal
    streams give equal rows. It leaves the view unchanged and reads only declared arrays. If its picks do not depend on
    the stream, shuffling the rows leaves the set of picks unchanged; a strategy that rounds its scores has ties and
    fails this. It handles equal rows, one-hot predictions, a single class and float16. Its memory is bounded; the
    check resets the peak on Linux, while elsewhere an earlier, larger peak hides a breach.

    Args:
        selector: a ``Selector``, or a function ``(view, query_size, *, rng) -> rows`` with the attribute ``needs``.

    Raises:
        InputError: the object is not a selector.
        ValueError: the selector broke the contract; the message lists every breach.
    """
    if not isinstance(selector, Selector):
        selector = as_selector(getattr(selector, "__name__", repr(selector)), selector)
    breaches = []
    for promise, test in CONTRACT.items():
        try:
            problem = next(iter(test(selector)), None)
        except Exception as fault:
            problem = _explained(fault)
        if problem:
            breaches.append(f"{promise}: {problem}")
    if breaches:
        raise ValueError("\n  - ".join([f"selector '{selector.name}' breaks its contract:", *breaches]))


def _explained(fault: Exception) -> str:
    """An error, the view that it happened on, and the line of the selector that led to it."""
    frames = traceback.extract_tb(fault.__traceback__)
    called = [at for at, frame in enumerate(frames) if frame.filename == query.__file__]
    line = next(iter(frames[called[-1] + 1 :]), None) if called else None
    where = f" (line {line.lineno} of {Path(line.filename).name}: {line.line})" if line is not None else ""
    notes = [note for note in getattr(fault, "__notes__", []) if note.startswith(ON)]
    return "".join([*(f"{note}: " for note in notes[:1]), f"{type(fault).__name__}: {fault}", where])


def _pick(selector: Selector, view: PoolView, k: int, seed: int = 0) -> list[int]:
    try:
        return query.select(selector, declared(view, selector), k, rng=stream(seed, "contract")).tolist()
    except Exception as fault:
        n = view.pool.n
        fault.add_note(f"{ON} {k} of {n - len(view.pool.labeled)} unlabeled images, {view.n_classes} classes")
        raise


def _counts(selector: Selector) -> Iterator[str]:
    for k in (1, 7, N - LABELED):
        _pick(selector, made_up_view(), k)
    yield from ()


def _repeats(selector: Selector) -> Iterator[str]:
    view = made_up_view()
    first, again = (_pick(selector, view, 9) for _ in range(2))
    if first != again:
        yield f"{first} and then {again} from equal streams"


def _leaves_alone(selector: Selector) -> Iterator[str]:
    view = made_up_view()
    before = {name: array.clone() for name, array in view.arrays.items()}
    labels, unlabeled = view.labels.copy(), view.pool.unlabeled.copy()
    _pick(selector, view, 9)
    changed = [name for name, array in view.arrays.items() if not torch.equal(array, before[name])]
    changed += [] if np.array_equal(labels, view.labels) else ["labels"]
    changed += [] if np.array_equal(unlabeled, view.pool.unlabeled) else ["pool.unlabeled"]
    if changed:
        yield f"it changed {', '.join(changed)}"


def _order(selector: Selector) -> Iterator[str]:
    view = made_up_view()
    picks = _pick(selector, view, 9)
    if picks != _pick(selector, view, 9, seed=1):
        return
    order = np.random.default_rng(3).permutation(N)
    place = np.argsort(order)
    moved = replace(
        view,
        pool=Pool(N, tuple(place[list(view.pool.labeled)].tolist())),
        labels=view.labels[order],
        arrays={name: array[torch.from_numpy(order)] for name, array in view.arrays.items()},
        truth=None if view.truth is None else view.truth[order],
    )
    again = {int(order[row]) for row in _pick(selector, moved, 9)}
    if again != set(picks):
        yield f"{sorted(picks)} and then {sorted(again)} with the rows shuffled"


def _equal(selector: Selector) -> Iterator[str]:
    yield from _with_all(selector, torch.full((N, CLASSES), 1 / CLASSES))


def _one_hot(selector: Selector) -> Iterator[str]:
    yield from _with_all(selector, torch.eye(CLASSES)[torch.arange(N) % CLASSES])


def _with_all(selector: Selector, probabilities: torch.Tensor) -> Iterator[str]:
    view = made_up_view()
    arrays = {
        name: torch.ones_like(array) if name in query.FREE_WIDTH else probabilities
        for name, array in view.arrays.items()
    }
    _pick(selector, replace(view, arrays=arrays), N - LABELED)
    yield from ()


def _one_class(selector: Selector) -> Iterator[str]:
    _pick(selector, made_up_view(classes=1), 9)
    yield from ()


def _half(selector: Selector) -> Iterator[str]:
    view = made_up_view()
    _pick(selector, replace(view, arrays={name: array.half() for name, array in view.arrays.items()}), 9)
    yield from ()


def _memory(selector: Selector) -> Iterator[str]:
    view = made_up_view(n=LARGE, classes=LARGE_CLASSES, dim=LARGE_DIM, labeled=LARGE_CLASSES)
    _pick(selector, made_up_view(), LABELED)
    size = sum(array.nbytes for name, array in view.arrays.items() if name in selector.needs)
    forget_peak()
    before = peak_rss_bytes()
    _pick(selector, view, LARGE_CLASSES)
    grown, allowed = peak_rss_bytes() - before, MEMORY_FLOOR + MEMORY_FACTOR * size
    if grown > allowed:
        yield f"{grown / 2**20:.0f} MB for a pool of {size / 2**20:.0f} MB; expected: {allowed / 2**20:.0f} MB"


CONTRACT: dict[str, Callable[[Selector], Iterator[str]]] = {
    "query_size distinct unlabeled rows": _counts,
    "the same rows from the same stream": _repeats,
    "the view is not changed": _leaves_alone,
    "the order of the rows does not matter": _order,
    "equal rows are handled": _equal,
    "one-hot predictions are handled": _one_hot,
    "a single class is handled": _one_class,
    "float16 is handled": _half,
    "memory is bounded": _memory,
}
"""The promises of a selector, each with a test that yields a breach."""
