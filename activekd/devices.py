"""Devices of torch: whether one is there, how much of its memory this process may use, deterministic algorithms."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from activekd.errors import InputError

CONTEXT_BYTES = 768 * 2**20
"""Device memory of one process outside torch's allocator: the CUDA context and the kernels of the libraries."""


def check_device(device: str, option: str = "device") -> None:
    """Check that this machine has a device.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
        option: where it was asked for, for the message.

    Raises:
        InputError: the device is unknown, or this machine has none.
    """
    if device == "cpu":
        return
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device, False):
        found = "this machine has none" if device in there else "unknown"
        raise InputError(f"{option} {device}: {found}; expected: {', '.join(name for name in there if there[name])}")


def results_device(device: str) -> str:
    """Where predictions of a network on ``device`` stay for the query: there, but on the CPU for ``mps``.

    Queries decide close distances in float64, which ``mps`` lacks.
    """
    return "cpu" if device == "mps" else device


def limit_memory(device: str, share: float) -> None:
    """Bound the memory of this process on ``cuda`` to a share of the card, less CONTEXT_BYTES; otherwise do nothing.

    What a trial may use then depends on the card and its share alone, not on other processes on the card.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
        share: of the card; 0, for all cards that the process sees, and 1 or more bound nothing.

    Raises:
        InputError: the share is smaller than CONTEXT_BYTES.
    """
    if device != "cuda" or not 0 < share < 1:
        return
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    if share * total <= CONTEXT_BYTES:
        raise InputError(
            f"a share of {share:g} of a card of {total / 1e9:.1f} GB; "
            f"expected: more than {CONTEXT_BYTES / 1e9:.1f} GB, which every process takes"
        )
    torch.cuda.set_per_process_memory_fraction(share - CONTEXT_BYTES / total)


def memory_bytes(device: str) -> int | None:
    """Memory that this process may use on ``cuda``, in bytes, used or free; None on other devices, without a bound.

    It is the card's memory times the fraction of ``limit_memory``, so it is the same at every time.
    """
    if device != "cuda":
        return None
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return int(total * torch.cuda.get_per_process_memory_fraction())


@contextmanager
def naming_memory(what: str) -> Iterator[None]:
    """Turns a lack of device memory inside the block into an InputError with the remedy.

    Another attempt would fail alike, since the memory that a trial may use is fixed.

    Args:
        what: needs the memory, for the message.

    Raises:
        InputError: the device is out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as fault:
        raise InputError(
            f"{what}: {str(fault).partition('. ')[0]}; expected: fewer trials on a card (a larger share of it for "
            f"each), a smaller batch, a smaller network or smaller inputs (NETWORK@PIXELS)"
        ) from fault


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread of torch on the CPU inside the block or the decorated function; the earlier number returns after it.

    With more, torch splits a batched product by the size of the whole batch, so that a member of a cohort would be
    rounded differently in other company.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def deterministic_algorithms(on: bool) -> Iterator[None]:
    """Deterministic algorithms of torch inside the block, if ``on``; the earlier settings return after it.

    On the CPU no number changes. On ``cuda`` two runs on one card give equal numbers, a network that has an operation
    without a deterministic algorithm raises RuntimeError, and cuBLAS needs ``CUBLAS_WORKSPACE_CONFIG`` before it starts
    (``bench.settings.DETERMINISTIC_ENVIRONMENT``).

    Args:
        on: whether to change anything.
    """
    if not on:
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warns, benchmark = torch.is_deterministic_algorithms_warn_only_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        torch.backends.cudnn.benchmark = benchmark
