"""Backbones that are bound by the launches of their kernels, trained as CUDA graphs."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from activekd.students.heads import Student


def is_launch_bound(backbone: nn.Module) -> bool:
    """Whether a CUDA graph pays for a backbone: it has depthwise convolutions and no linear layers.

    Such networks (MobileNets, EfficientNets) are many small kernels. Others spend their time in large products, which
    hide the launches. This is a property of the architecture, so no number depends on a stopwatch.
    """
    layers = [*backbone.modules()]
    depthwise = any(isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in layers)
    return depthwise and not any(isinstance(m, nn.Linear) for m in layers)


@contextmanager
def graphed(student: Student, batch: int, shape: tuple[int, ...], device: str) -> Iterator[None]:
    """Inside the block, train a launch-bound backbone on ``cuda`` as CUDA graphs; otherwise change nothing.

    The graphs are captured once in a process for an architecture and a batch, and keep the memory of a step until
    those of another take their place. They replay the kernels of the eager network in bfloat16; where the libraries
    choose other kernels in a capture, features agree within the rounding of bfloat16 (2^-8 of the largest feature).

    The graphs write gradients at fixed addresses, so there must be one backward pass a step, and gradients are set to
    None before it. A capture must not meet other work of this process on the card: enter the block before the batches
    of the fit begin.

    Args:
        student: on ``device``.
        batch: images of a step.
        shape: of one uint8 input.
        device: ``cpu``, ``cuda`` or ``mps``.
    """
    if device != "cuda" or not is_launch_bound(student.backbone):
        yield
        return
    key = (repr(student.backbone), batch, shape, torch.are_deterministic_algorithms_enabled())
    if key not in _CAPTURED:
        _CAPTURED.clear()
        _CAPTURED[key] = _capture(deepcopy(student.backbone).train(), batch, shape)
    with standing_in(student, _CAPTURED[key]):
        yield


_CAPTURED: dict[tuple[str, int, tuple[int, ...], bool], nn.Module] = {}
"""The backbone whose graphs this process keeps, by what its kernels depend on."""


def _capture(backbone: nn.Module, batch: int, shape: tuple[int, ...]) -> nn.Module:
    """The backbone, whose training passes now are CUDA graphs; the warm-up changes its statistics."""
    sample = torch.zeros(batch, *shape, dtype=torch.uint8, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
        return torch.cuda.make_graphed_callables(backbone, (sample,), allow_unused_input=True)  # pyright: ignore[reportReturnType]


@contextmanager
def standing_in(student: Student, kept: nn.Module) -> Iterator[None]:
    """Inside the block, the student has ``kept`` as its backbone, with its own weights; after it, its own, trained.

    Weights and statistics are copied into the tensors of ``kept`` and back, so graphs over them stay valid, and what
    ``kept`` was before reaches no student.
    """
    own = student.backbone
    _copy_state(own, kept)
    student.backbone = kept
    try:
        yield
    finally:
        student.backbone = own
        _copy_state(kept, own)


@torch.no_grad()
def _copy_state(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters and buffers into those of a module of the same architecture."""

    def state(module: nn.Module) -> list[Tensor]:
        return [*module.parameters(), *module.buffers()]

    for here, there in zip(state(source), state(target), strict=True):
        there.copy_(here)
