"""Which files below a folder are images: the one rule for extensions, hidden entries and links."""

import os
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib"),
    *(".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Extensions of image files, in any case. The content decides how a file is decoded."""

SYSTEM = {
    *("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "__pycache__"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
"""Entries that operating systems leave in folders, in lower case; none is part of a data set."""

HIDDEN = "hidden or system entry"
ABOVE = "link to a folder above it"
TWICE = "second link within a class"
SPECIAL = "special file"
NO_EXTENSION = "file without an extension"

SHOWN = 5
"""Examples in one fault."""
KINDS_SHOWN = 8
"""Kinds of entries in one summary of what is left out."""


@dataclass(frozen=True)
class Tree:
    """The images below a folder; every path is relative to it, with ``/``.

    Attributes:
        images: in the order of their components.
        folders: every folder that was searched, in the same order.
        twice: (path, earlier path) of the images and folders that a second path reaches; their images count once.
        left_out: paths of what is left out, by kind.
        faults: broken links, unreadable folders and names that are not UTF-8, one message each.
    """

    images: tuple[str, ...]
    folders: tuple[str, ...]
    twice: tuple[tuple[str, str], ...]
    left_out: Mapping[str, tuple[str, ...]]
    faults: tuple[str, ...]


def is_skipped(name: str) -> bool:
    """Whether an entry of that name is hidden (it begins with ``.``) or the operating system's."""
    return name.startswith(".") or name.lower() in SYSTEM


def is_image(name: str) -> bool:
    """Whether a file of that name is an image of a data set."""
    return not is_skipped(name) and os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122


def subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the folders and links to folders in a folder, sorted, without those that are skipped."""
    return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_skipped(entry.name)))


def shown(paths: Sequence[str], at_most: int = SHOWN) -> str:
    """The first of these, and how many more there are."""
    more = f" and {len(paths) - at_most:,} more" if len(paths) > at_most else ""
    return ", ".join(map(readable, paths[:at_most])) + more


def readable(path: str) -> str:
    """A path as a terminal can show it: with escapes if it has control characters or is not UTF-8."""
    return path if path.isprintable() else ascii(path)


def left_out_line(left_out: Mapping[str, Sequence[str]]) -> str:
    """One line: the number of entries of each kind that is left out, with examples; empty without any.

    >>> left_out_line({".heic": ["a/1.heic", "a/2.heic", "b/3.heic"], "hidden or system entry": ["a/.git"]})
    'left out: 3 x .heic (a/1.heic, a/2.heic and 1 more), 1 x hidden or system entry (a/.git)'
    """
    kinds = sorted(((kind, paths) for kind, paths in left_out.items() if paths), key=lambda item: -len(item[1]))
    parts = [f"{len(paths):,} x {readable(kind)} ({shown(paths, 2)})" for kind, paths in kinds[:KINDS_SHOWN]]
    if len(kinds) > KINDS_SHOWN:
        rest = sum(len(paths) for _, paths in kinds[KINDS_SHOWN:])
        parts.append(f"{rest:,} of {len(kinds) - KINDS_SHOWN} other kinds")
    return f"left out: {', '.join(parts)}" if parts else ""


def image_tree(folder: Path, within: Collection[str] | None = None) -> Tree:
    """Search a folder for images. Links are followed, after everything that is reached without one.

    Hidden and system entries (``is_skipped``) are left out with all that they contain. A link to a folder above
    itself is left out. An image or folder that a second path reaches counts under its first path.

    Args:
        folder: an existing folder.
        within: names of the sub-folders to search; None for all.
    """
    top = os.path.realpath(folder)
    reached = {top: ""}
    images: list[str] = []
    broken: list[str] = []
    unreadable: list[str] = []
    twice: list[tuple[str, str]] = []
    left_out = defaultdict[str, list[str]](list)
    todo, links = deque([("", top)]), deque[tuple[str, str, str]]()

    def take(path: str, real: str) -> None:
        if not is_image(path.rpartition("/")[2]):
            left_out[os.path.splitext(path)[1].lower() or NO_EXTENSION].append(path)  # noqa: PTH122
        elif real in reached:
            twice.append((path, reached[real]))
        else:
            reached[real] = path
            images.append(path)

    def enter(path: str, real: str) -> None:
        if "/" not in path and within is not None and path not in within:
            return
        if real in reached:
            twice.append((path, reached[real]))
        else:
            reached[real] = path
            todo.append((path, real))

    folders: list[str] = []
    while todo or links:
        if not todo:
            path, parent, real = links.popleft()
            if not os.path.exists(real):  # noqa: PTH110
                broken.append(path)
            elif os.path.isfile(real):  # noqa: PTH113
                take(path, real)
            elif not os.path.isdir(real):  # noqa: PTH112
                left_out[SPECIAL].append(path)
            elif os.path.commonpath([parent, real]) == real:
                left_out[ABOVE].append(path)
            else:
                enter(path, real)
            continue
        inside, real = todo.popleft()
        folders.append(inside)
        try:
            entries = sorted(os.scandir(real), key=lambda entry: entry.name)
        except OSError as fault:
            unreadable.append(f"{inside or folder}: {fault.strerror}")
            continue
        for entry in entries:
            path = f"{inside}/{entry.name}" if inside else entry.name
            if is_skipped(entry.name):
                left_out[HIDDEN].append(path)
            elif entry.is_symlink():
                links.append((path, real, os.path.realpath(entry.path)))
            elif entry.is_dir():
                enter(path, entry.path)
            elif entry.is_file():
                take(path, entry.path)
            else:
                left_out[SPECIAL].append(path)
    foreign = [path for path in (*folders, *images) if not _is_utf8(path)]
    faults = [
        *([f"{folder}: broken links: {shown(broken)}; expected: links to existing files"] if broken else []),
        *([f"{folder}: unreadable: {shown(unreadable)}; expected: folders that can be read"] if unreadable else []),
        *([f"{folder}: names that are not UTF-8: {shown(foreign)}; expected: UTF-8"] if foreign else []),
    ]
    return Tree(
        images=_ordered(images),
        folders=_ordered(folders),
        twice=tuple(twice),
        left_out={kind: tuple(paths) for kind, paths in left_out.items()},
        faults=tuple(faults),
    )


def _is_utf8(path: str) -> bool:
    """Whether the bytes of a path decoded; others stand in it as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in path)


def _ordered(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(paths, key=lambda path: path.split("/")))
