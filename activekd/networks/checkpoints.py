"""Pretrained weights on disk: a file that the user put there, else the hub's copy, else a message with the remedy."""

from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from activekd.errors import InputError
from activekd.folders import WEIGHTS_VARIABLE, weights_folder

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class Checkpoint:
    """Where the weights of a network are to be had.

    Attributes:
        tag: stem of the file that a user may put into ``$ACTIVEKD_WEIGHTS``, with one of SUFFIXES.
        repository: on the Hugging Face hub; None where the weights are elsewhere.
        files: names of the file in the repository, the preferred one first.
        url: of the file, where there is no repository.
    """

    tag: str
    repository: str | None = None
    files: tuple[str, ...] = ()
    url: str | None = None

    @property
    def origin(self) -> str:
        """Where a person fetches the file."""
        return (
            f"https://huggingface.co/{self.repository} ({' or '.join(self.files)})"
            if self.repository
            else self.url or ""
        )


class UnreachableError(InputError):
    """Weights that are not on this machine, and no connection to where they are."""


def local_file(tag: str) -> Path | None:
    """``$ACTIVEKD_WEIGHTS/TAG`` with one of SUFFIXES; None where there is no such file or the variable is not set.

    Raises:
        InputError: the variable names no folder.
    """
    folder = weights_folder()
    if folder is None:
        return None
    return next((folder / f"{tag}{suffix}" for suffix in SUFFIXES if (folder / f"{tag}{suffix}").is_file()), None)


def find(checkpoint: Checkpoint, *, online: bool = True) -> Path:
    """The file of the weights: the user's, the copy that was downloaded before, or a download.

    Downloads were not tried: no network was at hand. The local file, the cached copy and the message were.

    Args:
        online: whether to ask for files that are not on this machine.

    Raises:
        InputError: ``$ACTIVEKD_WEIGHTS`` names no folder.
        UnreachableError: the weights are not on this machine and cannot be had; says which file to put where.
    """
    found = local_file(checkpoint.tag)
    if found is not None:
        return found
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
