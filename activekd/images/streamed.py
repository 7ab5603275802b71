"""Images on their way to a device: host threads copy them into pinned buffers ahead of the batches that need them."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from activekd.images.pixels import Images

AHEAD = 2
"""Least number of batches that are copied ahead of the one in use."""

UPLOAD_BYTES = 2**26
"""Bytes of images that are uploaded at a time."""

Packed = tuple[UInt8[Tensor, "pixels 3"], Int64[np.ndarray, " n"]]
"""Images end to end, and the first pixel of each."""


def stream(
    images: Images, batches: Iterable[Int64[np.ndarray, " _"]], device: torch.device, *, threads: int
) -> Generator[Packed]:
    """The images of each batch of rows, end to end on a device, in order.

    Threads read them AHEAD or more batches ahead; on ``cuda`` into pinned memory, which a stream beside the current
    one copies, so that neither the host nor the running kernels wait.

    Args:
        images: of the split; each is checked by its checksum at its first read.
        batches: rows of each batch.
        device: of the batches.
        threads: that read images.

    Raises:
        InputError: the image cache changes while it is read, or is damaged.
    """
    copy = _copier(device)
    for pixels, starts in _packed(images, batches, threads, pin=device.type == "cuda"):
        yield copy(pixels), starts


def upload_images(images: Images, device: torch.device, *, threads: int) -> UInt8[Tensor, "pixels 3"]:
    """All images end to end on a device; each is checked by its checksum.

    Raises:
        InputError: the image cache changes while it is read, or is damaged.
    """
    out = torch.empty((images.n_bytes // 3, 3), dtype=torch.uint8, device=device)
    ends = images.offsets[1:]
    cuts = np.searchsorted(ends, np.arange(UPLOAD_BYTES, images.n_bytes, UPLOAD_BYTES))
    batches = [rows for rows in np.split(np.arange(len(images)), np.unique(cuts)) if len(rows)]
    first, pinned = 0, device.type == "cuda"
    for pixels, _ in _packed(images, batches, threads, pin=pinned):
        out[first : first + len(pixels)].copy_(pixels, non_blocking=pinned)
        first += len(pixels)
    return out


def _copier(device: torch.device) -> Callable[[Tensor], Tensor]:
    if device.type != "cuda":
        return lambda host: host.to(device)
    side = torch.cuda.Stream(device)

    def copy(host: Tensor) -> Tensor:
        current = torch.cuda.current_stream(device)
        with torch.cuda.stream(side):
            out = host.to(device, non_blocking=True)
        current.wait_stream(side)
        out.record_stream(current)
        return out

    return copy


def _packed(images: Images, batches: Iterable[np.ndarray], threads: int, *, pin: bool) -> Generator[Packed]:
    """The images of each batch in host memory, read ahead by threads."""
    pool = ThreadPoolExecutor(threads)
    waiting, ahead = iter(batches), deque[Future[Packed]]()
    try:
        while True:
            while len(ahead) <= max(AHEAD, threads) and (rows := next(waiting, None)) is not None:
                ahead.append(pool.submit(_pack, images, rows, pin))
            if not ahead:
                return
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _pack(images: Images, rows: np.ndarray, pin: bool) -> Packed:
    images.check_unchanged()
    ends = np.cumsum(images.shapes[rows].prod(axis=1))
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    pixels = torch.empty((int(ends[-1]), 3), dtype=torch.uint8, pin_memory=pin)
    out = pixels.numpy()
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        out[start:end] = images[row].reshape(-1, 3)
    return pixels, starts
