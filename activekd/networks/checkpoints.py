"""Files of pretrained weights: the user's, else an earlier download, else a new download, else an error."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.error import URLError

from activekd.errors import InputError
from activekd.folders import WEIGHTS_VARIABLE, weights_folder

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""Suffixes of a user's weight file, in order of preference."""


@dataclass(frozen=True)
class Checkpoint:
    """The origin of a network's weights.

    Attributes:
        tag: stem of the user's file in ``$ACTIVEKD_WEIGHTS``; its suffix is one of SUFFIXES.
        repository: repository on the Hugging Face hub; None for weights from ``url``.
        files: names of the file in the repository, in order of preference.
        url: address of the file, where there is no repository.
    """

    tag: str
    repository: str | None = None
    files: tuple[str, ...] = ()
    url: str | None = None

    @property
    def origin(self) -> str:
        """Address for a manual download."""
        return (
            f"https://huggingface.co/{self.repository} ({' or '.join(self.files)})"
            if self.repository
            else self.url or ""
        )


def file_hash(file: Path) -> str:
    """SHA-256 of the bytes of a file, which are read once as long as its size and time stay."""
    status = file.stat()
    return _hash(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _hash(file: Path, size: int, time_ns: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


class UnreachableError(InputError):
    """Weights are absent from this machine, and their origin cannot be reached."""


def local_file(tag: str) -> Path | None:
    """``$ACTIVEKD_WEIGHTS/TAG`` with one of SUFFIXES; None where there is no such file or the variable is not set.

    Raises:
        InputError: the folder does not exist.
    """
    folder = weights_folder()
    if folder is None:
        return None
    return next((folder / f"{tag}{suffix}" for suffix in SUFFIXES if (folder / f"{tag}{suffix}").is_file()), None)


def find(checkpoint: Checkpoint, *, online: bool = True) -> Path:
    """The file of the weights: the user's, an earlier download, or a new download.

    The user's file, the earlier download and the error are tested; new downloads are untested for lack of a network.

    Args:
        checkpoint: the origin of the weights.
        online: whether to download files that this machine lacks.

    Raises:
        InputError: the folder ``$ACTIVEKD_WEIGHTS`` does not exist.
        UnreachableError: the weights are absent and cannot be downloaded; the message says which file to put where.
    """
    file = local_file(checkpoint.tag)
    if file is not None:
        return file
    try:
        return _from_hub(checkpoint, online) if checkpoint.repository else _from_url(checkpoint, online)
    except (OSError, URLError, ValueError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise UnreachableError(
            f"weights {checkpoint.tag} are not on this machine ({reason}); expected: a connection to "
            f"{checkpoint.origin}, "
            f"or that file as ${WEIGHTS_VARIABLE}/{checkpoint.tag}{SUFFIXES[0]} ({', '.join(SUFFIXES[1:])})"
        ) from fault


def _from_hub(checkpoint: Checkpoint, online: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    assert checkpoint.repository is not None
    for local_only in (True, False) if online else (True,):
        for file in checkpoint.files:
            try:
                return Path(hf_hub_download(checkpoint.repository, file, local_files_only=local_only))
            except LocalEntryNotFoundError:
                if not local_only:
                    raise
            except EntryNotFoundError:
                continue
    raise FileNotFoundError("not downloaded before" if not online else f"{checkpoint.repository} has no such file")


def _from_url(checkpoint: Checkpoint, online: bool) -> Path:
    from torch import hub

    assert checkpoint.url is not None
    target = Path(hub.get_dir()) / "checkpoints" / Path(checkpoint.url).name
    if target.is_file():
        return target
    if not online:
        raise FileNotFoundError("not downloaded before")
    target.parent.mkdir(parents=True, exist_ok=True)
    hub.download_url_to_file(checkpoint.url, str(target))
    return target
