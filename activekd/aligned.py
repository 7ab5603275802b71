"""Padding of stacked arrays, by which a member of a cohort is rounded alike wherever it stands in the stack."""

from torch import Tensor
from torch.nn import functional as F

LANES = 16
"""Floats of a cache line, and of the widest vector register.

On a CPU, a matrix product rounds arrays otherwise that do not start on a cache line, and elementwise functions and the
fused AdamW the last, partial register of an array. Zeros that fill whole registers keep every member to the first case.
"""


def pad(values: Tensor, dim: int, lanes: int = LANES) -> Tensor:
    """Pad the last (-1) or last but one (-2) dimension with zeros to a multiple of ``lanes``."""
    missing = -values.shape[dim] % lanes
    return F.pad(values, (0, 0) * (-1 - dim) + (0, missing)) if missing else values
