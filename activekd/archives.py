"""Reading of users' .npz archives: plain arrays, with every other kind of file refused by name."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from zipfile import BadZipFile, is_zipfile
from zlib import error as ZlibError

import numpy as np

from activekd.errors import InputError

EXPECTED = "an .npz file of plain arrays, as from numpy.savez"
SUFFIX = ".npy"
SINGLE_ARRAY = b"\x93NUMPY"
"""First bytes of a .npy file."""

LOGIT_SCALE = "logit_scale"
"""Name of the array with the factor from a cosine to a logit."""

DEFAULT_LOGIT_SCALE = 100.0
"""The factor where a user states none: that of OpenAI's CLIP, which caps its trained factor at 100 (Radford et al.
2021, Section 2.5)."""

LEAST_LOGIT_SCALE = 7.0
"""Least factor that a user may state: networks store its logarithm under the same name, and log 1,000 is 6.9."""


def read_archive(file: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """The arrays of an .npz archive by name; nothing is unpickled.

    Args:
        file: the archive.
        wanted: whether to read the array of that name; the others are not decompressed.

    Raises:
        InputError: the file cannot be read, is of another kind (a single array, a checkpoint of torch, another zip
            archive), is empty or damaged, or has no arrays; or every wanted array that holds Python objects.
    """
    try:
        if not is_zipfile(file):
            raise InputError(f"{file}: {_other_kind(file)}; expected: {EXPECTED}")
        with np.load(file, allow_pickle=False) as content:
            foreign = [name for name in content.zip.namelist() if not name.endswith(SUFFIX)]
            if foreign or not content.files:
                found = f"a zip archive with '{foreign[0]}'" if foreign else "no arrays"
                raise InputError(f"{file}: {found}; expected: {EXPECTED}")
            return _plain_arrays(file, content, [name for name in content.files if wanted(name)])
    except InputError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, ZlibError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise InputError(f"{file}: {reason}; expected: {EXPECTED}") from fault


def _other_kind(file: Path) -> str:
    with file.open("rb") as content:
        first = content.read(len(SINGLE_ARRAY))
    if not first:
        return "an empty file"
    return "a single array (.npy)" if first == SINGLE_ARRAY else "not a zip archive"


def _plain_arrays(file: Path, content: Mapping[str, object], names: Iterable[str]) -> dict[str, np.ndarray]:
    arrays, faults = {}, list[str]()
    for name in names:
        try:
            arrays[name] = _plain(file, name, content)
        except InputError as fault:
            faults += fault.faults
    if faults:
        raise InputError(*faults)
    return arrays


def _plain(file: Path, name: str, content: Mapping[str, object]) -> np.ndarray:
    try:
        array = content[name]
    except ValueError as fault:
        raise InputError(
            f"{file}: '{name}': {fault}; expected: {EXPECTED}; arrays of text or numbers as with .astype(str) or "
            f".astype('float32')"
        ) from fault
    if not isinstance(array, np.ndarray):
        raise InputError(f"{file}: '{name}' is not an array; expected: {EXPECTED}")
    return array


def as_text(file: Path | str, name: str, array: np.ndarray) -> list[str]:
    """An array of names as text; bytes are read as UTF-8.

    Args:
        file: of the array, or what else begins the message.
        name: of the array, for the message.
        array: one name per row.

    Raises:
        InputError: the array is not one-dimensional, or holds neither text nor UTF-8.
    """
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise InputError(
            f"{file}: {name} is {array.dtype} of shape {array.shape}; expected: one-dimensional text, one name per row"
        )
    try:
        return [item.decode("utf-8") if isinstance(item, bytes) else item for item in array.tolist()]
    except UnicodeDecodeError as fault:
        raise InputError(f"{file}: {name} holds bytes that are not UTF-8 ({fault}); expected: UTF-8 names") from fault


def as_logit_scale(file: Path | str, array: np.ndarray | None) -> float:
    """The factor from a cosine to a logit that an array states; DEFAULT_LOGIT_SCALE for None.

    Args:
        file: of the array, or what else begins the message.
        array: one number.

    Raises:
        InputError: it is not one number of at least LEAST_LOGIT_SCALE.
    """
    if array is None:
        return DEFAULT_LOGIT_SCALE
    value = float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "fiu" else float("nan")
    if not LEAST_LOGIT_SCALE <= value < float("inf"):
        raise InputError(
            f"{file}: {LOGIT_SCALE} is {array.tolist()}; expected: the factor from a cosine to a logit, one number "
            f"of at least {LEAST_LOGIT_SCALE:.0f}, such as 100 (networks store its logarithm, 4.6)"
        )
    return value
