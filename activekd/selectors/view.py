"""PoolView: all that a selector may see."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from activekd.losses import mixture
from activekd.pool import UNLABELED, Pool
from activekd.selectors.selector import Need

DEVICE_ROWS = 2**14
"""Rows per step of a computation over all rows on a device other than the CPU."""

SHORT = 1e-12
"""Rows with a smaller norm are scaled before they are normalised."""


_T = TypeVar("_T")


@dataclass(frozen=True)
class StudentHead:
    """The two heads of the fitted student on its pooled features, and their mixture (DHO, Kang et al. 2025).

    Attributes:
        weights: of the label head and of the distill head.
        biases: likewise.
        label_weight: weight of the label head in the mixture; 1 without distillation.
        distill_temperature: temperature of the distill head.
    """

    weights: Float32[Tensor, "2 classes dim"]
    biases: Float32[Tensor, "2 classes"]
    label_weight: float
    distill_temperature: float

    def probabilities(self, features: Float32[Tensor, "n dim"]) -> Float32[Tensor, "n classes"]:
        """The student's probabilities of rows with these features: ``student_probabilities`` on those of the pool."""
        label, distill = (
            torch.addmm(bias, features, weight.T) for weight, bias in zip(self.weights, self.biases, strict=True)
        )
        return mixture(label, distill, label_weight=self.label_weight, distill_temperature=self.distill_temperature)


@dataclass(frozen=True)
class PoolView:
    """What a selector sees: the pool, the labels of labeled rows, and what it declares.

    Attributes:
        pool: the partition.
        labels: one label per train row; ``UNLABELED`` on unlabeled rows and on those whose labels were wasted.
        n_classes: number of classes.
        arrays: the declared arrays by name, one row per train row, from the evaluation view.
        index: number of the round, from 0.
        head: the student's heads, where declared.
        prototypes: text embeddings of the classes, where declared.
        truth: the label of each train row that its purchase reveals, where declared: for oracles.
    """

    pool: Pool
    labels: Int64[np.ndarray, " n"]
    n_classes: int
    arrays: Mapping[str, Float[Tensor, "n _"]]
    index: int = 0
    head: StudentHead | None = None
    prototypes: Float32[Tensor, "classes dim"] | None = None
    truth: Int64[np.ndarray, " n"] | None = None

    @property
    def device(self) -> torch.device:
        """Device of the arrays; the CPU for a view without arrays."""
        return next((array.device for array in self.arrays.values()), torch.device("cpu"))

    def at(self, rows: Int64[np.ndarray, " rows"]) -> Int64[Tensor, " rows"]:
        """Row numbers as an index into the arrays, on their device."""
        return torch.from_numpy(rows).to(self.device)

    def _declared(self, need: Need, found: _T | None) -> _T:
        if found is None:
            others = {"student_head": self.head, "text_prototypes": self.prototypes, "true_labels": self.truth}
            there = {*self.arrays, *(name for name, value in others.items() if value is not None)}
            raise LookupError(
                f"the selector reads '{need}' without declaring it; declared: {', '.join(sorted(there)) or 'nothing'}; "
                f"expected: '{need}' in its needs"
            )
        return found

    def _array(self, need: Need) -> Tensor:
        return self._declared(need, self.arrays.get(need))

    @property
    def student_probabilities(self) -> Float32[Tensor, "n classes"]:
        """The student's predicted probabilities: the mixture of heads on which accuracy is measured."""
        return self._array("student_probabilities")

    @property
    def teacher_probabilities(self) -> Float32[Tensor, "n classes"]:
        """The teacher's probabilities at temperature 1."""
        return self._array("teacher_probabilities")

    @property
    def features(self) -> Float32[Tensor, "n dim"]:
        """The student's pooled features, the input of its heads."""
        return self._array("features")

    @property
    def teacher_features(self) -> Float32[Tensor, "n width"]:
        """The teacher network's image features, in the scale that they are banked in."""
        return self._array("teacher_features")

    @property
    def student_head(self) -> StudentHead:
        """The fitted student's heads, the layers on ``features``."""
        return self._declared("student_head", self.head)

    @property
    def text_prototypes(self) -> Float32[Tensor, "classes width"]:
        """The teacher network's text embeddings of the classes, of unit norm: its zero-shot classifier."""
        return self._declared("text_prototypes", self.prototypes)

    @property
    def true_labels(self) -> Int64[np.ndarray, " n"]:
        """The label of every train row as its purchase reveals it, wrong ones too: for oracles alone.

        NO_CLASS where there is none.
        """
        return self._declared("true_labels", self.truth)


def narrowed(view: PoolView, rows: Int64[np.ndarray, " rows"]) -> tuple[Int64[np.ndarray, " seen"], PoolView]:
    """The view of a smaller pool: some unlabeled rows and all labeled rows.

    Args:
        view: of the whole pool.
        rows: unlabeled rows.

    Returns:
        The rows that the smaller pool has, ascending, and its view; row i there is the i-th of them.
    """
    labeled = np.asarray(view.pool.labeled, dtype=np.int64)
    seen = np.sort(np.concatenate([labeled, rows]))
    place = np.full(view.pool.n, UNLABELED, dtype=np.int64)
    place[seen] = np.arange(len(seen))
    index = view.at(seen)
    small = replace(
        view,
        pool=Pool(len(seen), tuple(place[labeled].tolist())),
        labels=view.labels[seen],
        arrays={name: array[index] for name, array in view.arrays.items()},
        truth=None if view.truth is None else view.truth[seen],
    )
    return seen, small


def subsample(
    rows: Int64[np.ndarray, " rows"], most: int, *, rng: np.random.Generator
) -> Int64[np.ndarray, " sampled"]:
    """The rows, or a sorted uniform sample of ``most`` of them where they are more."""
    return rows if len(rows) <= most else np.sort(rng.choice(rows, size=most, replace=False))


def rows_at_once(on_cpu: int, device: torch.device) -> int:
    """Rows per step of a computation over all rows, which bound its temporary memory.

    Args:
        on_cpu: on the CPU, where they stay in the processor's cache; a launch on another device costs more than a step.
        device: of the rows.
    """
    return on_cpu if device.type == "cpu" else max(on_cpu, DEVICE_ROWS)


def unit_rows(features: Float32[Tensor, "n dim"]) -> Float32[Tensor, "n dim"]:
    """Each row divided by its Euclidean norm, also where its square leaves the range of float32; 0 stays 0."""
    norms = torch.linalg.vector_norm(features, dim=1)
    out = features / norms.clamp(min=SHORT)[:, None]
    odd = torch.nonzero((norms < SHORT) | norms.isinf()).squeeze(1)
    if len(odd):
        rows = features[odd]
        scaled = rows / rows.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        out[odd] = scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp(min=SHORT)
    return out
