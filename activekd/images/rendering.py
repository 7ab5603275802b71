"""Rendering of views to squares of pixels by torchvision, on the CPU."""

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from activekd.images.crops import view_boxes
from activekd.images.pixels import Images
from activekd.recipes import ViewGeometry


def render(
    images: Images,
    rows: Int64[np.ndarray, " n"],
    views: int | Int64[np.ndarray, " n"],
    geometry: ViewGeometry,
    *,
    size: int,
    interpolation: str,
) -> UInt8[Tensor, "n 3 size size"]:
    """A view of each row as a square of ``size`` pixels, antialiased.

    Args:
        images: images of the split.
        rows: rows of the split.
        views: view numbers, at least 0: one for each row, or one for all.
        geometry: geometry of the views.
        size: side of the output in pixels.
        interpolation: ``bilinear`` or ``bicubic``, as in the training of the network that reads the view.
    """
    # Imported here: it costs 150 MB and a second, which only rendering processes pay.
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as TF

    mode = InterpolationMode(interpolation)
    images.check_unchanged()
    boxes, mirrored = view_boxes(rows, views, images.shapes[rows], geometry)
    out = torch.empty((len(rows), 3, size, size), dtype=torch.uint8)
    for k, (row, (top, left, height, width), flip) in enumerate(
        zip(rows.tolist(), boxes.tolist(), mirrored.tolist(), strict=True)
    ):
        crop = torch.from_numpy(images[row][top : top + height, left : left + width].copy())
        crop = TF.resize(crop.permute(2, 0, 1), [size, size], interpolation=mode, antialias=True)
        out[k] = crop.flip(2) if flip else crop
    return out
