"""The crop and the flip of each view of an image: a pure function of (row, view)."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from activekd.recipes import ViewGeometry


def _uniforms(rows: np.ndarray, view: int, draws: int) -> Float64[np.ndarray, "draws n"]:
    """Uniform numbers in [0, 1) that depend on (row, view, draw) alone: SplitMix64's finaliser (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        counter = (rows.astype(np.uint64) * np.uint64(1 << 16) + np.uint64(view)) * np.uint64(draws)
        x = (counter + np.arange(draws, dtype=np.uint64)[:, None] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)) * 2.0**-53


def view_boxes(
    rows: Int64[np.ndarray, " n"], view: int, shapes: Int64[np.ndarray, "n 2"], geometry: ViewGeometry
) -> tuple[Int64[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
    """The crop and the flip of one view of each row, a pure function of (row, view).

    View 0 is the largest centred square, never flipped, as after resizing the shorter side and cropping the centre.
    The others follow RandomResizedCrop (Szegedy et al. 2015): area uniform in ``scale``, logarithm of the aspect ratio
    uniform, position uniform. Departure: a side longer than the image is clipped to the image; torchvision redraws.

    Args:
        rows: rows of the split, which key the draws.
        view: view number, at least 0.
        shapes: (height, width) of these rows' images in pixels.
        geometry: scale, ratio and flip.

    Returns:
        (top, left, height, width) in pixels, and whether the crop is mirrored.
    """
    heights, widths = shapes[:, 0], shapes[:, 1]
    if view == 0:
        side = np.minimum(heights, widths)
        boxes = np.stack([(heights - side) // 2, (widths - side) // 2, side, side], axis=1)
        return boxes, np.zeros(len(rows), dtype=bool)
    area, aspect, vertical, horizontal, mirror = _uniforms(rows, view, 5)
    low, high = geometry.scale
    narrow, wide = np.log(geometry.ratio)
    target = heights * widths * (low + (high - low) * area)
    ratio = np.exp(narrow + (wide - narrow) * aspect)
    height = np.clip(np.rint(np.sqrt(target / ratio)).astype(np.int64), 1, heights)
    width = np.clip(np.rint(np.sqrt(target * ratio)).astype(np.int64), 1, widths)
    top = np.floor(vertical * (heights - height + 1)).astype(np.int64)
    left = np.floor(horizontal * (widths - width + 1)).astype(np.int64)
    return np.stack([top, left, height, width], axis=1), mirror < geometry.flip
