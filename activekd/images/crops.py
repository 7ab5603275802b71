"""The crop and the flip of each view of an image: a pure function of (row, view)."""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from activekd.recipes import ViewGeometry

ATTEMPTS = 10
"""Crops drawn for a view until one lies inside the image, as in torchvision."""


def _uniforms(rows: np.ndarray, views: np.ndarray, draws: int) -> Float64[np.ndarray, "draws n"]:
    """Uniform numbers in [0, 1) that depend on (row, view, draw) alone: SplitMix64's finaliser (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        counter = (rows.astype(np.uint64) * np.uint64(1 << 16) + views.astype(np.uint64)) * np.uint64(draws)
        x = (counter + np.arange(draws, dtype=np.uint64)[:, None] + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)) * 2.0**-53


def view_boxes(
    rows: Int64[np.ndarray, " n"],
    views: int | Int64[np.ndarray, " n"],
    shapes: Int64[np.ndarray, "n 2"],
    geometry: ViewGeometry,
) -> tuple[Int64[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
    """The crop and the flip of a view of each row, a pure function of (row, view).

    View 0 is the largest centred square, never flipped, as after resizing the shorter side and cropping the centre.
    The others follow torchvision's RandomResizedCrop (Szegedy et al. 2015): area uniform in ``scale``, logarithm of the
    aspect ratio uniform. A crop that is larger than the image is drawn again, up to ATTEMPTS times in all; the position
    is uniform. If no crop fits, the view is the largest centred crop with the aspect ratio of the image, brought into
    ``ratio``.

    Args:
        rows: rows of the split, which key the draws.
        views: view numbers, at least 0: one for each row, or one for all.
        shapes: (height, width) of these rows' images in pixels.
        geometry: scale, ratio and flip.

    Returns:
        (top, left, height, width) in pixels, and whether the crop is mirrored.
    """
    views = np.broadcast_to(np.asarray(views, dtype=np.int64), rows.shape)
    side = shapes.min(axis=1)
    boxes = np.column_stack([(shapes - side[:, None]) // 2, side, side])
    mirrored = np.zeros(len(rows), dtype=bool)
    drawn = np.flatnonzero(views)
    if len(drawn):
        boxes[drawn], mirrored[drawn] = _drawn_boxes(rows[drawn], views[drawn], shapes[drawn], geometry)
    return boxes, mirrored


def _drawn_boxes(
    rows: np.ndarray, views: np.ndarray, shapes: np.ndarray, geometry: ViewGeometry
) -> tuple[Int64[np.ndarray, "n 4"], Bool[np.ndarray, " n"]]:
    heights, widths = shapes[:, 0], shapes[:, 1]
    draws = _uniforms(rows, views, 2 * ATTEMPTS + 3)
    areas, aspects = draws[:ATTEMPTS], draws[ATTEMPTS:-3]
    vertical, horizontal, mirror = draws[-3:]
    low, high = geometry.scale
    narrow, wide = np.log(geometry.ratio)
    target = heights * widths * (low + (high - low) * areas)
    ratio = np.exp(narrow + (wide - narrow) * aspects)
    drawn_heights = np.rint(np.sqrt(target / ratio)).astype(np.int64)
    drawn_widths = np.rint(np.sqrt(target * ratio)).astype(np.int64)
    fits = (drawn_heights >= 1) & (drawn_heights <= heights) & (drawn_widths >= 1) & (drawn_widths <= widths)
    found, first, each = fits.any(axis=0), fits.argmax(axis=0), np.arange(len(rows))
    central_heights, central_widths = _central(heights, widths, geometry.ratio)
    height = np.where(found, drawn_heights[first, each], central_heights)
    width = np.where(found, drawn_widths[first, each], central_widths)
    top = np.where(found, np.floor(vertical * (heights - height + 1)).astype(np.int64), (heights - height) // 2)
    left = np.where(found, np.floor(horizontal * (widths - width + 1)).astype(np.int64), (widths - width) // 2)
    return np.stack([top, left, height, width], axis=1), mirror < geometry.flip


def _central(
    heights: np.ndarray, widths: np.ndarray, ratio: tuple[float, float]
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Height and width of the largest crop whose aspect ratio (width / height) lies in ``ratio``; at least 1 pixel."""
    narrow, wide = ratio
    height = np.where(widths < narrow * heights, np.rint(widths / narrow), heights)
    width = np.where(widths > wide * heights, np.rint(heights * wide), widths)
    return np.clip(height.astype(np.int64), 1, heights), np.clip(width.astype(np.int64), 1, widths)
