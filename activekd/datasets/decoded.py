"""The listed images of a data set, decoded into the cache."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from activekd.datasets.coop import Part
from activekd.datasets.split import Split
from activekd.errors import InputError
from activekd.folders import keeps_decoded_images
from activekd.images.cache import decode_files


def decode_parts(
    folder: Path, parts: Mapping[str, Part], cache: Path, progress: Callable[[int, int], object]
) -> dict[str, Split]:
    """The splits with these files, each image decoded once.

    Args:
        folder: that the paths are relative to.
        parts: files and labels by split.
        cache: folder of the cache of decoded images.
        progress: called with the number of images decoded so far and the total.

    Raises:
        InputError: images of one or more splits cannot be decoded; every split is tried first.
    """
    total, before = sum(len(part.paths) for part in parts.values()), 0
    splits, faults = {}, []
    for key, part in parts.items():
        try:
            images = decode_files(
                [folder / path for path in part.paths],
                cache,
                threads=os.cpu_count() or 1,
                keep=keeps_decoded_images(),
                progress=lambda done, before=before: progress(before + done, total),
            )
            splits[key] = Split(images, part.labels, part.paths)
        except InputError as fault:
            faults += [f"{key}: {message}" for message in fault.faults]
        before += len(part.paths)
    if faults:
        raise InputError(*faults)
    return splits
