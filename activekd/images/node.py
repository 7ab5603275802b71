"""Copies of image caches on the node's own disk, made once and shared by the workers of the node."""

import errno
import fcntl
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from activekd.errors import InputError, reason
from activekd.folders import NODE_CACHE_VARIABLE, node_cache_folder, unfinished_beside
from activekd.images.pixels import Images

SPARE_BYTES = 2**30
"""Bytes of the node's disk that a copy leaves free."""

EXPECTED = f"expected: a folder on the node's own disk that can be written (${NODE_CACHE_VARIABLE})"


def node_copy(images: Images) -> Images:
    """The same images, read from a copy of their cache in ``$ACTIVEKD_NODE_CACHE``.

    The copy is named by its content and made by the first worker of the node that asks, while others wait; every image
    is checked by its checksum meanwhile. It appears whole or not at all. Where the disk is too small, the images stay
    where they are, and a warning says so once in a process. Without the variable, and for images that are in memory or
    not cached, nothing happens.

    Raises:
        InputError: the folder cannot be written, or the cache is damaged.
    """
    folder = node_cache_folder()
    if folder is None or not isinstance(images.source, Path) or images.digest is None:
        return images
    target = folder / "images" / f"{images.digest[:32]}.bin"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.with_suffix(".lock")):
            if not _is_there(target, images) and not _copied(images, target):
                return images
    except OSError as fault:
        raise InputError(f"node cache {folder}: {reason(fault)}; {EXPECTED}") from fault
    return replace(images, source=target)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """The block runs in one process of the node at a time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_there(target: Path, images: Images) -> bool:
    try:
        return target.stat().st_size == images.n_bytes
    except FileNotFoundError:
        return False


def _copied(images: Images, target: Path) -> bool:
    """Copy the images, unless the disk is too small."""
    if shutil.disk_usage(target.parent).free < images.n_bytes + SPARE_BYTES:
        _warn_small(target.parent, images.n_bytes)
        return False
    # Only the holder of the lock writes, so what another left unfinished belongs to a process that was killed.
    for left in target.parent.glob(f"{target.name}.*.part"):
        left.unlink()
    unfinished = unfinished_beside(target)
    try:
        with unfinished.open("wb") as out:
            for row in range(len(images)):
                out.write(images[row].data)
            images.check_unchanged()
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(target)
    except OSError as fault:
        if fault.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        _warn_small(target.parent, images.n_bytes)
        return False
    finally:
        unfinished.unlink(missing_ok=True)
    return True


@cache
def _warn_small(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    warnings.warn(
        f"node cache {folder}: {free / 1e9:,.2f} GB free; {n_bytes / 1e9:,.2f} GB of decoded images stay where they "
        f"are; expected: room for them and for {SPARE_BYTES / 1e9:,.2f} GB more",
        stacklevel=2,
    )
