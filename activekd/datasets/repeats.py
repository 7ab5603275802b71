"""Pictures that stand more than once in a data set, found by their decoded pixels or by the bytes of their files."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activekd.datasets.coop import Part
from activekd.datasets.image_files import readable
from activekd.datasets.split import Split


@dataclass(frozen=True)
class Repeats:
    """Equal pictures of a data set; each pair is (row, row of the first equal picture in train).

    Attributes:
        within_train: pairs of train rows.
        test_in_train: pairs of a test row and a train row.
    """

    within_train: tuple[tuple[int, int], ...]
    test_in_train: tuple[tuple[int, int], ...]


def find_repeats(train: Split, test: Split) -> Repeats:
    """The pictures with equal decoded pixels, by checksum first and then by the pixels themselves.

    Images are decoded at a bounded size, so two scaled copies of one picture count as different. Splits without
    cached pixels, whose checksums are not known, have no pairs.
    """
    first = defaultdict[tuple[int, ...], list[int]](list)
    within = []
    for row, key in enumerate(_keys(train)):
        if (earlier := _equal(train, row, train, first[key])) is not None:
            within.append((row, earlier))
        else:
            first[key].append(row)
    pairs = ((row, _equal(test, row, train, first.get(key, []))) for row, key in enumerate(_keys(test)))
    return Repeats(tuple(within), tuple((row, found) for row, found in pairs if found is not None))


def _keys(split: Split) -> list[tuple[int, ...]]:
    if split.images is None or split.images.checksums is None:
        return []
    return [tuple(key) for key in np.column_stack([split.images.shapes, split.images.checksums]).tolist()]


def _equal(split: Split, row: int, others: Split, candidates: list[int]) -> int | None:
    """The first candidate row of ``others`` whose picture equals that of a row of ``split``."""
    return next((c for c in candidates if np.array_equal(split.pixels[row], others.pixels[c])), None)


def repeat_lines(train: Split, test: Split) -> tuple[str, ...]:
    """What a reader should know of equal pictures: a line for those in train and test, one for those within train."""
    found = find_repeats(train, test)
    lines = []
    for part, split, pairs, also in (
        ("test", test, found.test_in_train, "also stand in train"),
        ("train", train, found.within_train, "repeat an earlier train image"),
    ):
        if pairs:
            row, earlier = pairs[0]
            other = sum(int(split.labels[a] != train.labels[b]) for a, b in pairs)
            relabeled = f", {other:,} of them under another class" if other else ""
            example = f", such as {_named(split, row)} = {_named(train, earlier)}"
            lines.append(f"{len(pairs):,} of {len(split):,} {part} images {also}{relabeled}{example}")
    return tuple(lines)


def equal_files_line(folder: Path, parts: Mapping[str, Part]) -> str:
    """A line on the test files that equal a train file byte for byte; empty if there are none.

    Only files of equal size are read, and none that is absent.
    """
    by_size = defaultdict[int, tuple[list[str], list[str]]](lambda: ([], []))
    for index, key in enumerate(("train", "test")):
        for path in parts[key].paths:
            if (folder / path).is_file():
                by_size[(folder / path).stat().st_size][index].append(path)
    equal = []
    for train, test in by_size.values():
        if train and test:
            first = {_hash(folder / path): path for path in reversed(train)}
            equal += [(path, first[key]) for path in test if (key := _hash(folder / path)) in first]
    if not equal:
        return ""
    example = " = ".join(map(readable, equal[0]))
    return f"{len(equal):,} of {len(parts['test'].paths):,} test images also stand in train, such as {example}"


def _hash(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def _named(split: Split, row: int) -> str:
    return f"row {row}" if split.names is None else readable(split.names[row])
