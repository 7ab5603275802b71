"""The memory of a training step, and the micro-batches into which a step is cut that exceeds it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from activekd.devices import memory_bytes
from activekd.errors import InputError
from activekd.students.heads import Normalise
from activekd.students.networks import StudentNetwork

PROBE = (2, 4)
"""Images of the two probe batches; the difference of their memory is that of PROBE[1] - PROBE[0] images."""

WEIGHT_BYTES = 18
"""Bytes of a weight in a step: float32 weight, gradient and two moments of AdamW, and a copy in bfloat16."""

TRANSIENT = 1.25
"""Memory of a step over the activations that it saves: gradients of activations, and outputs that are not saved."""

WORKSPACE = 2**30
"""Bytes of a step besides: workspaces of the libraries, the batch itself, and what the allocator cannot use."""

STEP_SHARE = 0.75
"""Share of a trial's device memory that a step may use; images, teacher features and predictions take the rest."""


@dataclass(frozen=True)
class StepMemory:
    """The memory of a training step of a network with AdamW and a backbone in bfloat16.

    Attributes:
        fixed: bytes for any batch: WORKSPACE, and WEIGHT_BYTES for each weight.
        per_image: bytes of an image: the activations saved for the backward pass, times TRANSIENT.
    """

    fixed: int
    per_image: int

    def of(self, images: int) -> int:
        """Bytes of a step on this number of images."""
        return self.fixed + self.per_image * images

    def images_within(self, budget: int) -> int:
        """The most images of a step within a number of bytes, at least 0."""
        return max(0, budget - self.fixed) // self.per_image


def measure(backbone: nn.Module, shape: tuple[int, ...]) -> StepMemory:
    """Measure the memory of a step on the CPU, by two small forward passes of a copy of the network.

    The network is left as it is, its BatchNorm statistics too. The result depends on the architecture and the inputs
    alone, so it is the same on every machine. It is an estimate for ``cuda``: autocast on the CPU and on ``cuda``
    choose bfloat16 for the same convolutions and products, but differ in some other operations.

    Args:
        backbone: the network, on the CPU.
        shape: of one uint8 input.
    """
    copy = deepcopy(backbone).train()
    with torch.random.fork_rng(devices=[]):
        small, large = (_saved_bytes(copy, torch.zeros(n, *shape, dtype=torch.uint8)) for n in PROBE)
    per_image = (large - small) / (PROBE[1] - PROBE[0])
    weights = sum(parameter.numel() for parameter in copy.parameters())
    return StepMemory(WORKSPACE + WEIGHT_BYTES * weights, max(1, round(TRANSIENT * per_image)))


def _saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes of the distinct arrays that a forward pass keeps for the backward pass."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        out = network(images)
    total = sum(saved.values())
    del out
    return total


@lru_cache(maxsize=64)
def step_memory(student: StudentNetwork) -> StepMemory | None:
    """The memory of a step of a student that is trained end to end, without its weights; None on a frozen backbone."""
    if student.frozen:
        return None
    chosen = student.backbone
    with torch.random.fork_rng(devices=[]):
        network = chosen.build()
    if chosen.find is not None:
        network.reset_classifier(0)
    return measure(nn.Sequential(Normalise(chosen), network), (3, student.size, student.size))


_MEASURED: dict[tuple[str, tuple[int, ...]], StepMemory] = {}
"""What this process has measured, by architecture and shape of an input."""


def memory_of(backbone: nn.Module, shape: tuple[int, ...]) -> StepMemory:
    """As ``measure``, once in a process for networks of one architecture."""
    key = (repr(backbone), shape)
    if key not in _MEASURED:
        _MEASURED[key] = measure(deepcopy(backbone).cpu(), shape)
    return _MEASURED[key]


def step_budget(device: str) -> int | None:
    """Bytes that a step may use on ``cuda``: STEP_SHARE of the memory of this process; None without a bound."""
    total = memory_bytes(device)
    return None if total is None else int(STEP_SHARE * total)


def n_micro_batches(memory: StepMemory, labeled: int, unlabeled: int, budget: int, *, views: int = 1) -> int:
    """The least number of micro-batches of a step such that each fits.

    Args:
        memory: of a step.
        labeled: labeled images of a step.
        unlabeled: unlabeled images of a step.
        budget: bytes that a step may use.
        views: of each unlabeled image in a step: 2 where the objective has strong views.

    Raises:
        InputError: a micro-batch of the fewest images does not fit.

    >>> memory = StepMemory(fixed=100, per_image=10)
    >>> [n_micro_batches(memory, 8, 8, budget) for budget in (260, 259, 180, 179)]
    [1, 2, 2, 3]
    """
    most = min(n for n in (labeled, unlabeled) if n)

    def images(parts: int) -> int:
        return -(-labeled // parts) - views * (-unlabeled // parts)

    fitting = next((parts for parts in range(1, most + 1) if memory.of(images(parts)) <= budget), None)
    if fitting is None:
        raise InputError(
            f"a training step on {images(most)} images takes {memory.of(images(most)) / 1e9:.2f} GB of device memory, "
            f"and this trial may use {budget / 1e9:.2f} GB for it; expected: fewer trials on a card (a larger share of "
            f"it for each), a smaller network or smaller inputs (NETWORK@PIXELS)"
        )
    return fitting


def parts_of_step(labeled: int, unlabeled: int, parts: int) -> Sequence[tuple[slice, slice]]:
    """The micro-batches of a step, each with an equal share of its labeled and of its unlabeled images.

    Args:
        labeled: labeled images of the step, which come first.
        unlabeled: unlabeled images of the step.
        parts: micro-batches, at most the smaller number of images that is not 0.

    Returns:
        Positions in the step of the labeled and of the unlabeled images of each micro-batch.

    >>> parts_of_step(4, 2, 2)
    [(slice(0, 2, None), slice(4, 5, None)), (slice(2, 4, None), slice(5, 6, None))]
    """

    def cut(first: int, n: int) -> list[slice]:
        return [slice(first + part * n // parts, first + (part + 1) * n // parts) for part in range(parts)]

    return list(zip(cut(0, labeled), cut(labeled, unlabeled), strict=True))


@contextmanager
def batch_norm_of_parts(network: nn.Module, parts: int) -> Iterator[None]:
    """Inside the block, BatchNorm's running statistics forget as much in ``parts`` updates as in one before.

    Momentum m becomes 1 - (1 - m)^(1 / parts); a cumulative average (momentum None) needs no change.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    before = [(m, m.momentum) for m in network.modules() if isinstance(m, kinds) and m.momentum is not None]
    try:
        for layer, momentum in before if parts > 1 else []:
            layer.momentum = 1 - (1 - momentum) ** (1 / parts)
        yield
    finally:
        for layer, momentum in before:
            layer.momentum = momentum
