"""What the file system says of image files: names, sizes and times, each asked once for all data sets of a command."""

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from errno import EISDIR
from pathlib import Path
from typing import Any, TypeVar

THREADS = 16
"""Folders that are read at a time: a network's file system answers many at once."""

Status = tuple[int, int] | str
"""Bytes and modification time in ns of a file, or why it cannot be read."""

T = TypeVar("T")


class Survey:
    """One look at the files of data sets, which draws of a pool and splits share.

    A folder is read with ``scandir``, many at a time, and the size and time of a wanted file come with its entry: on
    NFS they are in the answer that lists the folder. No file is asked for twice. Changes after that look are not
    noticed, so a survey lasts no longer than the loading of the data sets of one command. None is kept on disk: a file
    that is rewritten in place, as Pillow's ``save`` does, leaves the time of its folder as it was, and only a look at
    each file shows it.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Status]] = defaultdict(dict)
        self._answers: dict[Hashable, Any] = {}

    def once(self, what: Hashable, look: Callable[[], T]) -> T:
        """The answer of the first call with this key."""
        if what not in self._answers:
            self._answers[what] = look()
        return self._answers[what]

    def statuses(self, files: Iterable[str | Path]) -> list[Status]:
        """Size and modification time of each file, links followed, or why it cannot be read."""
        places = [os.path.split(file) for file in files]
        wanted = defaultdict[str, set[str]](set)
        for folder, name in places:
            if name not in self._known[folder]:
                wanted[folder].add(name)
        for folder, found in zip(wanted, _in_threads(_look, [*wanted.items()]), strict=True):
            self._known[folder].update(found)
        return [self._known[folder][name] for folder, name in places]

    def names(self, folders: Sequence[str], wanted: Callable[[str], bool]) -> list[list[str]]:
        """The sorted names of the files in each folder that ``wanted`` takes, links followed.

        Raises:
            OSError: a folder cannot be read.
        """
        return _in_threads(lambda folder: _names(folder, wanted), folders)


def _in_threads(work: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, items))


def _names(folder: str, wanted: Callable[[str], bool]) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if wanted(entry.name) and entry.is_file())


def _look(place: tuple[str, set[str]]) -> dict[str, Status]:
    """The status of each wanted name in a folder.

    A name that the folder does not list is asked for by its path: a file system may ignore capitals.
    """
    folder, names = place
    found: dict[str, Status] = {}
    with suppress(OSError), os.scandir(folder or ".") as entries:
        found = {entry.name: _status(entry.stat) for entry in entries if entry.name in names}
    for name in names - found.keys():
        found[name] = _status(Path(folder, name).stat)
    return found


def _status(ask: Callable[[], os.stat_result]) -> Status:
    try:
        answer = ask()
    except OSError as fault:
        return fault.strerror or str(fault)
    if not stat.S_ISREG(answer.st_mode):
        return os.strerror(EISDIR) if stat.S_ISDIR(answer.st_mode) else "not a regular file"
    return answer.st_size, answer.st_mtime_ns
