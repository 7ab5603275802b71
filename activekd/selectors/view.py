"""PoolView: all that a selector may see."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from activekd.pool import Pool
from activekd.selectors.selector import Need

DEVICE_ROWS = 2**14
"""Rows per step of a computation over all rows on a device other than the CPU."""

SHORT = 1e-12
"""Rows with a smaller norm are scaled before they are normalised."""


@dataclass(frozen=True)
class PoolView:
    """What a selector sees: the pool, the labels of labeled rows, and the arrays that it declares.

    Attributes:
        pool: the partition.
        labels: one label per train row; ``UNLABELED`` on unlabeled rows.
        n_classes: number of classes.
        arrays: the declared arrays by name, one row per train row, from the evaluation view.
    """

    pool: Pool
    labels: Int64[np.ndarray, " n"]
    n_classes: int
    arrays: Mapping[str, Float[Tensor, "n _"]]

    @property
    def device(self) -> torch.device:
        """Device of the arrays; the CPU for a view without arrays."""
        return next((array.device for array in self.arrays.values()), torch.device("cpu"))

    def at(self, rows: Int64[np.ndarray, " rows"]) -> Int64[Tensor, " rows"]:
        """Row numbers as an index into the arrays, on their device."""
        return torch.from_numpy(rows).to(self.device)

    def _declared(self, need: Need) -> Tensor:
        if need not in self.arrays:
            declared = ", ".join(sorted(self.arrays)) or "nothing"
            raise LookupError(
                f"the selector reads '{need}' without declaring it; declared: {declared}; "
                f"expected: '{need}' in its needs"
            )
        return self.arrays[need]

    @property
    def student_probabilities(self) -> Float32[Tensor, "n classes"]:
        """The student's predicted probabilities: the mixture of heads on which accuracy is measured."""
        return self._declared("student_probabilities")

    @property
    def teacher_probabilities(self) -> Float32[Tensor, "n classes"]:
        """The teacher's probabilities at temperature 1."""
        return self._declared("teacher_probabilities")

    @property
    def features(self) -> Float32[Tensor, "n dim"]:
        """The student's pooled features, the input of its heads."""
        return self._declared("features")


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
