"""Environment variables that locate data sets and weights, and switch the image cache. Standard library only."""

import os
from pathlib import Path
from uuid import uuid4

from activekd.errors import InputError

DATA_VARIABLE = "ACTIVEKD_DATA"
"""The folder that holds the data sets in CoOp's layout."""

WEIGHTS_VARIABLE = "ACTIVEKD_WEIGHTS"
"""A folder of weight files, searched before any hub."""

PIXELS_VARIABLE = "ACTIVEKD_IMAGE_PIXELS"
"""The most pixels that an image may have; by default the limit of Pillow, ``PIL.Image.MAX_IMAGE_PIXELS``."""

CACHE_VARIABLE = "ACTIVEKD_CACHE"
"""The folder of decoded images, teacher features and frozen features; ``~/.cache/activekd`` by default."""

NODE_CACHE_VARIABLE = "ACTIVEKD_NODE_CACHE"
"""A folder on the node's own disk, to which caches of decoded images are copied once."""

IMAGE_CACHE_VARIABLE = "ACTIVEKD_IMAGE_CACHE"
"""``off`` decodes images on every read; with ``on``, the default, decoded images are cached on disk."""


def user_path(value: str, what: str) -> Path:
    """A path as a user writes it, with ``~`` and ``~USER`` expanded.

    Args:
        value: the path.
        what: what names it, for messages.

    Raises:
        InputError: there is no such user, or the user has no home folder.
    """
    try:
        return Path(value).expanduser()
    except RuntimeError as fault:
        user = Path(value).parts[0][1:]
        home = f"there is no user {user} with a home folder" if user else "this user has no home folder ($HOME)"
        raise InputError(f"{what} is {value}: {home}; expected: a path without ~") from fault


def data_folder() -> Path:
    """The folder of all data sets: ``$ACTIVEKD_DATA``.

    Raises:
        InputError: the variable is not set, or the folder does not exist.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        raise InputError(f"${DATA_VARIABLE} is not set; expected: the folder that holds the data sets")
    return _existing(DATA_VARIABLE, value, "the folder that holds the data sets")


def weights_folder() -> Path | None:
    """The user's folder of weight files, ``$ACTIVEKD_WEIGHTS``; None where the variable is not set.

    Raises:
        InputError: the folder does not exist.
    """
    value = os.environ.get(WEIGHTS_VARIABLE)
    return _existing(WEIGHTS_VARIABLE, value, "a folder of weight files") if value else None


def cache_folder() -> Path:
    """Where decoded images and banks are kept: ``$ACTIVEKD_CACHE``, else ``~/.cache/activekd``.

    Raises:
        InputError: neither the variable nor a home folder is known.
    """
    value = os.environ.get(CACHE_VARIABLE)
    if value:
        return user_path(value, f"${CACHE_VARIABLE}").resolve()
    try:
        home = Path.home()
    except RuntimeError as fault:
        raise InputError(
            f"no folder for the caches: ${CACHE_VARIABLE} and $HOME are not set; expected: {CACHE_VARIABLE}=FOLDER"
        ) from fault
    return (home / ".cache" / "activekd").resolve()


def node_cache_folder() -> Path | None:
    """The folder on this node's own disk, ``$ACTIVEKD_NODE_CACHE``; None where the variable is not set."""
    value = os.environ.get(NODE_CACHE_VARIABLE)
    return user_path(value, f"${NODE_CACHE_VARIABLE}").resolve() if value else None


def unfinished_beside(path: Path) -> Path:
    """A name beside a file for its content while it is written; no other process on any machine uses it."""
    return path.with_name(f"{path.name}.{uuid4().hex}.part")


def _existing(variable: str, value: str, expected: str) -> Path:
    folder = user_path(value, f"${variable}").resolve()
    if not folder.is_dir():
        raise InputError(f"${variable} is {value}: no such folder; expected: {expected}")
    return folder


def pixel_limit() -> int | None:
    """The most pixels that an image may have, ``$ACTIVEKD_IMAGE_PIXELS``; None for the limit of Pillow.

    Raises:
        InputError: the variable is not a positive number.
    """
    value = os.environ.get(PIXELS_VARIABLE)
    if not value:
        return None
    digits = value.replace("_", "").replace(",", "")
    if not (digits.isdecimal() and digits.isascii() and int(digits) > 0):
        raise InputError(f"${PIXELS_VARIABLE} is '{value}'; expected: a number of pixels, such as 200000000")
    return int(digits)


def keeps_decoded_images() -> bool:
    """Whether decoded images are cached on disk: True unless ``$ACTIVEKD_IMAGE_CACHE`` is ``off``.

    Raises:
        InputError: the variable is neither ``on`` nor ``off``.
    """
    value = os.environ.get(IMAGE_CACHE_VARIABLE) or "on"
    if value not in {"on", "off"}:
        raise InputError(f"${IMAGE_CACHE_VARIABLE} is '{value}'; expected: on or off")
    return value == "on"
