"""Random sampling and sampling by a score of each image's predicted distributions."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.errors import InputError
from activekd.selectors.query import SHOWN
from activekd.selectors.view import PoolView, rows_at_once

CHUNK = 2048
"""Rows per step of a score; bounds its temporary memory, which stays in the processor's cache."""


class Scratch:
    """Temporary buffers of a score, reused by every slice.

    A new array per slice would cost more than the score, since the system clears its pages every time.
    """

    def __init__(self) -> None:
        self._arrays: dict[int, Tensor] = {}

    def like(self, array: Tensor, number: int = 0) -> Tensor:
        """Buffer ``number`` in the shape of ``array``; its contents are undefined."""
        buffer = self._arrays.get(number)
        if buffer is None or len(buffer) < len(array):
            buffer = self._arrays[number] = torch.empty_like(array)
        return buffer[: len(array)]


Score = Callable[[PoolView, slice, Scratch], Tensor]
"""The score of a slice of the train rows; rows with larger scores are queried first."""


def random(view: PoolView, query_size: int, *, rng: np.random.Generator) -> Int64[np.ndarray, " query_size"]:
    """Rows drawn uniformly without replacement from the unlabeled rows."""
    return rng.choice(view.pool.unlabeled, size=query_size, replace=False)


def predicted(probabilities: Float32[Tensor, "n classes"]) -> Int64[Tensor, " n"]:
    """The class with the largest probability per row; ties go to the lowest. On the CPU by numpy, 4 x as fast."""
    if probabilities.is_cuda:
        return probabilities.argmax(dim=1)
    return torch.from_numpy(probabilities.cpu().numpy().argmax(axis=1)).to(probabilities.device)


def scores(view: PoolView, score: Score) -> Float32[Tensor, " n"]:
    """The score of every train row, computed in slices; no pool-sized array is copied.

    Raises:
        InputError: a score is not finite.
    """
    scratch = Scratch()
    size = rows_at_once(CHUNK, view.device)
    slices = (slice(start, start + size) for start in range(0, view.pool.n, size))
    return finite("scores", torch.cat([score(view, rows, scratch) for rows in slices]))


def finite(what: str, values: Float32[Tensor, " n"]) -> Float32[Tensor, " n"]:
    """The values, one per row, where all can be ranked.

    Raises:
        InputError: a value is not finite; the message names the rows.
    """
    bad = torch.nonzero(~values.isfinite()).squeeze(1)
    if len(bad):
        raise InputError(f"{what} are not finite in {len(bad)} rows: {bad[:SHOWN].tolist()}; expected: finite numbers")
    return values


def largest(values: Float32[Tensor, " n"], rows: Int64[np.ndarray, " rows"], k: int) -> Int64[np.ndarray, " k"]:
    """The k rows with the largest values among ``rows``, largest first; ties go to the first of ``rows``.

    Raises:
        InputError: a value is not finite.
    """
    chosen = finite("scores", values)[torch.from_numpy(rows).to(values.device)]
    least = chosen.topk(k).values[-1]
    close = torch.nonzero(chosen >= least).squeeze(1)
    order = torch.argsort(chosen[close], descending=True, stable=True)[:k]
    return rows[close[order].cpu().numpy()]


def by_score(score: Score) -> Callable[..., np.ndarray]:
    """The query function that picks the unlabeled rows with the largest scores; it is deterministic."""

    def query(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        return largest(scores(view, score), view.pool.unlabeled, query_size)

    query.__doc__ = score.__doc__
    return query


def _entropies(probabilities: Tensor, scratch: Scratch) -> Tensor:
    return torch.special.entr(probabilities, out=scratch.like(probabilities)).sum(dim=1)


def entropy(view: PoolView, rows: slice, scratch: Scratch) -> Float32[Tensor, " rows"]:
    """Entropy of the student's predicted distribution in nats (Settles 2009, Section 3.1).

    Departure: 0 log 0 is 0; PCoreSet's released code adds 1e-10 inside the logarithm.
    """
    return _entropies(view.student_probabilities[rows], scratch)


def margin(view: PoolView, rows: slice, scratch: Scratch) -> Float32[Tensor, " rows"]:
    """Minus the gap between the two largest probabilities of the student (Scheffer et al. 2001)."""
    probabilities = view.student_probabilities[rows]
    if probabilities.shape[1] == 1:
        return -probabilities[:, 0]
    top = probabilities.topk(2, dim=1).values
    return top[:, 1] - top[:, 0]


def least_confidence(view: PoolView, rows: slice, scratch: Scratch) -> Float32[Tensor, " rows"]:
    """Minus the student's largest probability (Lewis & Gale 1994; Settles 2009, Section 3.1)."""
    return -view.student_probabilities[rows].amax(dim=1)


def teacher_entropy(view: PoolView, rows: slice, scratch: Scratch) -> Float32[Tensor, " rows"]:
    """Entropy of the teacher's distribution in nats, ours: labels for the images of which the teacher is unsure."""
    return _entropies(view.teacher_probabilities[rows], scratch)


def disagreement(view: PoolView, rows: slice, scratch: Scratch) -> Float32[Tensor, " rows"]:
    """Jensen-Shannon divergence of the student's and the teacher's distributions in nats (Lin 1991).

    Query by committee (Seung et al. 1992); the divergence of McCallum & Nigam (1998). Departure: the committee is the
    student and its teacher, not several students.
    """
    student, teacher = view.student_probabilities[rows], view.teacher_probabilities[rows]
    entropies = _entropies(student, scratch) + _entropies(teacher, scratch)
    mixture = torch.add(student, teacher, out=scratch.like(student, 1)).div_(2)
    return _entropies(mixture, scratch) - entropies / 2


SCORES: dict[str, Score] = {
    "entropy": entropy,
    "margin": margin,
    "least_confidence": least_confidence,
    "teacher_entropy": teacher_entropy,
    "disagreement": disagreement,
}

by_entropy = by_score(entropy)
by_margin = by_score(margin)
by_least_confidence = by_score(least_confidence)
by_teacher_entropy = by_score(teacher_entropy)
by_disagreement = by_score(disagreement)
