"""Pictures that stand more than once in a data set, found by their decoded pixels."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

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


def _named(split: Split, row: int) -> str:
    return f"row {row}" if split.names is None else split.names[row]
