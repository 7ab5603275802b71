"""The listed images of a data set, decoded into the cache."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from activekd.datasets.coop import Part
from activekd.datasets.split import Split
from activekd.folders import keeps_decoded_images, pixel_limit
from activekd.images.cache import decode_splits
from activekd.images.survey import Survey


def decode_parts(
    folder: Path,
    parts: Mapping[str, Part],
    cache: Path,
    progress: Callable[[int, int], object],
    survey: Survey,
    *,
    short_side: int,
) -> dict[str, Split]:
    """The splits with these files, each image decoded once.

    Args:
        folder: that the paths are relative to.
        parts: files and labels by split.
        cache: folder of the cache of decoded images.
        progress: called with the number of images decoded so far and the total.
        survey: what is known of the files.
        short_side: shorter side in pixels that larger images are scaled down to.

    Raises:
        InputError: images cannot be decoded, those of all splits in one message; or a variable on images is wrong.
    """
    pixel_limit()
    decoded = decode_splits(
        [[folder / path for path in part.paths] for part in parts.values()],
        cache,
        threads=os.cpu_count() or 1,
        short_side=short_side,
        keep=keeps_decoded_images(),
        progress=progress,
        survey=survey,
    )
    return {
        key: Split(images, part.labels, part.paths) for (key, part), images in zip(parts.items(), decoded, strict=True)
    }
