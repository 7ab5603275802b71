"""Rendering on any torch device: crop, antialiased resize and flip of a whole batch as two batched products."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

SLICE_BYTES = 2**29
"""Bytes of the padded crops that are rendered at a time, which bounds the memory of a batch for images of any size."""

WEIGHT_STEP = 2.0**-11
"""Filter weights are multiples of it, or of a quarter of it for wide filters, which float16 holds."""

PARTS = 4
"""Parts of a grey level that are kept between the two products."""

SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
"""Half the width of each filter, in pixels of the larger of the two grids."""

CUBIC = -0.5
"""The parameter a of the cubic filter (Keys 1981), as Pillow and torchvision have it with antialiasing."""


def working_type(device: torch.device) -> torch.dtype:
    """The type of the products: float16 on ``cuda``, with sums in float32; float32 elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32


def crops_of(
    starts: Int64[np.ndarray, " n"],
    shapes: Int64[np.ndarray, "n 2"],
    boxes: Int64[np.ndarray, "n 4"],
    mirrored: Bool[np.ndarray, " n"],
) -> Int64[np.ndarray, "n 5"]:
    """Where the crops of images lie in one array of pixels, as ``render_crops`` reads them.

    Args:
        starts: first pixel of each image.
        shapes: (height, width) of each image in pixels.
        boxes: (top, left, height, width) of each crop.
        mirrored: whether each crop is flipped.

    Returns:
        (first pixel, pixels from one line to the next, height, width, mirrored) of each crop.
    """
    top, left, height, width = boxes.T
    stride = shapes[:, 1]
    return np.stack([starts + top * stride + left, stride, height, width, mirrored.astype(np.int64)], axis=1)


def peak_bytes(crops: Int64[np.ndarray, "n 5"], size: int, dtype: torch.dtype) -> int:
    """Bytes that ``render_crops`` needs at its peak, the output included."""
    slices = (crops[rows] for rows in _slices(crops, size, dtype))
    largest = max((len(some) * _padded_bytes(some, size, dtype) for some in slices), default=0)
    return largest + 2 * len(crops) * 3 * size * size


def _padded_bytes(crops: np.ndarray, size: int, dtype: torch.dtype) -> int:
    """Bytes of a crop in the slice of these crops: its indices, pixels, weights and products."""
    height, width = (int(side) for side in crops[:, 2:4].max(axis=0))
    item = dtype.itemsize
    weights = (height + width) * size * (4 + item)
    return height * width * (8 + 3 + 3 * item) + 2 * 3 * height * size * item + 3 * size * size * item + weights


def _slices(crops: np.ndarray, size: int, dtype: torch.dtype) -> Iterator[np.ndarray]:
    """Positions of the crops of each slice: at most SLICE_BYTES unless one crop has more, large crops together."""
    if not len(crops):
        return
    if len(crops) * _padded_bytes(crops, size, dtype) <= SLICE_BYTES:
        yield np.arange(len(crops))
        return
    order = np.argsort(crops[:, 2] * crops[:, 3], kind="stable")
    first = 0
    for end in range(1, len(order) + 1):
        more = order[first : end + 1]
        if end == len(order) or len(more) * _padded_bytes(crops[more], size, dtype) > SLICE_BYTES:
            yield order[first:end]
            first = end


def render_crops(
    pixels: UInt8[Tensor, "pixels 3"],
    crops: Int64[np.ndarray, "n 5"],
    *,
    size: int,
    interpolation: str,
) -> UInt8[Tensor, "n 3 size size"]:
    """Crops of any sizes as squares of ``size`` pixels, antialiased, on the device of the pixels.

    An antialiased resize is separable: for each channel, out = A X B^T with one pair of matrices a crop. Row i of A has
    the triangle or the cubic filter, of a width scaled by max(1, height / size), around (i + 0.5) height / size,
    normalised to sum 1; a flip reverses the rows of B. As in torchvision's resize of uint8, B comes first, and its
    result is clamped to 0 to 255. Departure: torchvision rounds it to whole grey levels, here it keeps quarters. The
    result is within 1 grey level (bilinear) or 2 (bicubic) of ``activekd.images.rendering.render``.

    The weights are rounded so that every sum is exact in float32 (for crops below 32 times ``size``); a crop is
    therefore rendered alike in any batch.

    Args:
        pixels: images end to end.
        crops: where they lie in ``pixels``, from ``crops_of``; on the host, so that no step waits for the device.
        size: side of the output in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
    """
    device, dtype = pixels.device, working_type(pixels.device)
    out = torch.empty((len(crops), 3, size, size), dtype=torch.uint8, device=device)
    for positions in _slices(crops, size, dtype):
        some = crops[positions]
        height, width = (int(side) for side in some[:, 2:4].max(axis=0))
        rendered = _render(pixels, upload(some, device), height, width, size, interpolation)
        if len(positions) == len(crops):
            return rendered
        out[upload(positions, device)] = rendered
    return out


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """A host array on a device; on ``cuda`` without a wait, from pinned memory."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _render(pixels: Tensor, crops: Tensor, height: int, width: int, size: int, interpolation: str) -> Tensor:
    start, stride, heights, widths, mirrored = crops.T[..., None]
    device, dtype, n = pixels.device, working_type(pixels.device), len(crops)
    lines = torch.arange(height, device=device).minimum(heights - 1) * stride
    columns = torch.arange(width, device=device).minimum(widths - 1)
    padded = pixels[(start + lines)[:, :, None] + columns[:, None, :]]
    outputs = torch.arange(size, device=device).expand(n, size)
    across = _filters(widths, width, torch.where(mirrored != 0, size - 1 - outputs, outputs), interpolation, PARTS)
    down = _filters(heights, height, outputs, interpolation, 1)
    x = padded.permute(0, 1, 3, 2).to(dtype, memory_format=torch.contiguous_format).view(n, height * 3, width)
    x = torch.bmm(x, across.transpose(1, 2)).round_().clamp_(0, 255 * PARTS)
    x = torch.bmm(down, x.view(n, height, 3 * size))
    x = x.mul_(1 / PARTS).add_(0.5).clamp_(0, 255).to(torch.uint8)
    return x.view(n, size, 3, size).permute(0, 2, 1, 3).contiguous()


def _filters(
    lengths: Int64[Tensor, "n 1"], longest: int, outputs: Int64[Tensor, "n size"], interpolation: str, factor: int
) -> Float[Tensor, "n size {longest}"]:
    """The matrices that resize lines, padded to the longest, to as many pixels as there are outputs.

    Args:
        lengths: of the lines.
        longest: of them.
        outputs: position of each output; reversed for a flip.
        interpolation: ``bilinear`` or ``bicubic``.
        factor: of all weights, a power of two.
    """
    size, support = outputs.shape[1], SUPPORT[interpolation]
    scale = lengths[:, :, None].float() / size
    stretch = scale.clamp(min=1.0)
    centres = (outputs[:, :, None] + 0.5) * scale
    first = (centres - support * stretch).floor_().clamp_(min=0).long()
    # Outside its taps a filter is zero, so the weights of the taps alone are computed.
    n_taps = int(2 * support * max(1.0, longest / size)) + 2
    taps = first + torch.arange(n_taps, device=lengths.device)
    away = ((taps + 0.5) - centres).abs_().div_(stretch)
    if interpolation == "bilinear":
        weights = (1 - away).clamp_(min=0)
    else:
        near = ((CUBIC + 2) * away - (CUBIC + 3)) * away.square() + 1
        far = (((away - 5) * away + 8) * away - 4) * CUBIC
        weights = torch.where(away < 1, near, torch.where(away < support, far, 0.0))
    weights = torch.where(taps < lengths[:, :, None], weights, 0.0)
    weights = weights / weights.sum(dim=2, keepdim=True)
    # Wide filters have small weights, and so finer steps.
    shift = scale.log2().floor_().clamp_(min=2).long() - 2
    step = WEIGHT_STEP / (torch.ones_like(shift) << shift)
    exact = (weights / step).round_().mul_(step)
    largest = weights.argmax(dim=2, keepdim=True) == torch.arange(n_taps, device=lengths.device)
    exact = (exact + largest * (1 - exact.sum(dim=2, keepdim=True))) * factor
    out = torch.zeros((len(lengths), size, longest + n_taps), dtype=working_type(lengths.device), device=lengths.device)
    return out.scatter_(2, taps, exact.to(out.dtype))[:, :, :longest]
