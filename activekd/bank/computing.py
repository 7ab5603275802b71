"""Computing a bank: each view of each image through an encoder, once."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from activekd.images.batched import crops_of, render_crops
from activekd.images.crops import view_boxes
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.images.streamed import stream
from activekd.recipes import ViewGeometry

ENCODE_BATCH, ENCODE_BATCH_CUDA = 64, 256
"""Images per forward pass. One pass reads one view, so that an array does not depend on its company."""

DRAIN_BYTES = 2**28
"""Bytes of features that stay on a device before they are copied to the host."""


@runtime_checkable
class Encoder(Protocol):
    """Encodes rendered views to banked features: a teacher's image tower, or a frozen backbone."""

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``mps``: where it runs."""
        ...

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        ...

    @property
    def interpolation(self) -> str:
        """``bilinear`` or ``bicubic``."""
        ...

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> Shaped[Tensor, "batch ..."]:
        """One feature per image, on its device, in the type to be banked."""
        ...


def half_precision(device: str) -> torch.autocast:
    """float16 autocast of encoders on ``cuda``; disabled on other devices, where it is slower or unsupported."""
    return torch.autocast("cuda" if device == "cuda" else "cpu", dtype=torch.float16, enabled=device == "cuda")


@torch.inference_mode()
def compute(images: Images, encoder: Encoder, geometry: ViewGeometry, views: Sequence[int]) -> list[np.ndarray]:
    """Some views of all images through the encoder, each in row order, (n, *shape).

    On the CPU torchvision renders; elsewhere the device does, and each image is copied there once for all views.

    Args:
        images: of the split.
        encoder: sets the device.
        geometry: of the views.
        views: view numbers; an array does not depend on the others.

    Raises:
        InputError: the image cache changes while it is read, or is damaged.
    """
    waiting: list[list[Tensor]] = [[] for _ in views]
    arrays: list[list[np.ndarray]] = [[] for _ in views]
    n_waiting = 0
    for k, rendered in _rendered(images, encoder, geometry, views):
        features = encoder.encode(rendered)
        waiting[k].append(features)
        n_waiting += features.nbytes
        if n_waiting > DRAIN_BYTES:
            _drain(waiting, arrays)
            n_waiting = 0
    _drain(waiting, arrays)
    return [np.concatenate(parts) for parts in arrays]


def _drain(waiting: list[list[Tensor]], arrays: list[list[np.ndarray]]) -> None:
    """Move features to the host, in one copy a view."""
    for parts, done in zip(waiting, arrays, strict=True):
        if parts:
            done.append(torch.cat(parts).cpu().numpy())
            parts.clear()


def _rendered(
    images: Images, encoder: Encoder, geometry: ViewGeometry, views: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """Batches of rendered views, in row order within a view, each with the position of its view."""
    size, interpolation = encoder.size, encoder.interpolation
    batch = ENCODE_BATCH_CUDA if encoder.device == "cuda" else ENCODE_BATCH
    batches = [np.arange(start, min(start + batch, len(images))) for start in range(0, len(images), batch)]
    if encoder.device == "cpu":
        for rows in batches:
            for k, view in enumerate(views):
                yield k, render(images, rows, view, geometry, size=size, interpolation=interpolation)
        return
    streamed = stream(images, batches, torch.device(encoder.device), threads=torch.get_num_threads())
    for rows, (pixels, starts) in zip(batches, streamed, strict=True):
        shapes = images.shapes[rows]
        for k, view in enumerate(views):
            crops = crops_of(starts, shapes, *view_boxes(rows, view, shapes, geometry))
            yield k, render_crops(pixels, crops, size=size, interpolation=interpolation)
