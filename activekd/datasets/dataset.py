"""A data set under the protocol, and its oracle: labels are bought and revealed here alone."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from hashlib import sha256
from operator import index
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int64

from activekd.datasets.repeats import repeat_lines
from activekd.datasets.row_map import RowMap
from activekd.datasets.split import Embeddings, Source, Split
from activekd.images.decoding import SHORT_SIDE
from activekd.pool import NO_CLASS, UNLABELED, Pool


@dataclass(frozen=True, eq=False)
class Conditioned:
    """What a data set with conditions is of another one, whose images, features and text embeddings it shares.

    Attributes:
        base: the data set without conditions.
        classes: the class of the base that each class is, ascending.
        train: the base's train row that each row of the pool is.
        test: the base's test row that each test row is; None where they are the same.
        true_labels: of the pool, before noise; NO_CLASS for images of no class.
        notes: what the conditions did, one line each.
    """

    base: "Dataset"
    classes: Int64[np.ndarray, " classes"]
    train: RowMap
    test: RowMap | None
    true_labels: Int64[np.ndarray, " n"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A data set under the protocol: ``train`` is the only pool; nothing is selected on ``val`` or ``test``.

    Attributes:
        name: its name, as ``load_dataset`` takes it.
        class_names: one name per class, in label order.
        prompts: templates with one ``{}`` for the class name.
        train: the pool.
        val: held out, unused by the protocol.
        test: the split on which accuracy is measured.
        short_side: shorter side in pixels that images read from files are scaled down to, where they are larger.
        source_notes: notes from reading the source, one line each; ``notes`` has them all.
        embeddings: text embeddings of the classes; None where a network computes them from the prompts.
        lacking: arrays that a teacher ``given`` needs and that a data set of arrays does not have.
        conditioned: of a data set with conditions, which has labels alone; None of one without.
    """

    name: str
    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    short_side: int = SHORT_SIDE
    source_notes: tuple[str, ...] = ()
    embeddings: Embeddings | None = None
    lacking: tuple[str, ...] = ()
    conditioned: Conditioned | None = None

    @classmethod
    def of(cls, name: str, source: Source, *, short_side: int = SHORT_SIDE) -> "Dataset":
        """The data set of a source."""
        content = {field.name: getattr(source, field.name) for field in fields(source) if field.name != "notes"}
        return cls(name, **content, short_side=short_side, source_notes=source.notes)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def banked(self) -> "Dataset":
        """The data set whose images, features and text embeddings are encoded and banked: the base of conditions."""
        return self if self.conditioned is None else self.conditioned.base

    @property
    def true_labels(self) -> Int64[np.ndarray, " n"]:
        """The true class of each train row, for diagnostics: without noise; NO_CLASS for an image of no class."""
        return self.train.labels if self.conditioned is None else self.conditioned.true_labels

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything in the data set: names, prompts, pixels or features, and labels."""
        digest = sha256(repr((self.class_names, self.prompts)).encode())
        for split in (self.train, self.val, self.test):
            digest.update(split.fingerprint.encode())
        if self.embeddings is not None:
            digest.update(self.embeddings.fingerprint.encode())
        if self.conditioned is not None:
            of = self.conditioned
            digest.update(of.base.fingerprint.encode() + of.true_labels.astype("<i8").tobytes())
            digest.update(of.train.fingerprint.encode() + (b"" if of.test is None else of.test.fingerprint.encode()))
        return digest.hexdigest()

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the data, one line each: what is left out, and equal pictures.

        Pictures are compared where decoded images are cached (``find_repeats``).
        """
        if self.conditioned is not None:
            return (*self.conditioned.base.notes, *self.conditioned.notes)
        return (*self.source_notes, *repeat_lines(self.train, self.test))

    def without_images(self) -> "Dataset":
        """The same data set with labels alone, which is all that a trial reads once views are banked."""
        return replace(
            self,
            train=self.train.without_images(),
            val=self.val.without_images(),
            test=self.test.without_images(),
            conditioned=self.conditioned and replace(self.conditioned, base=self.conditioned.base.without_images()),
        )


@dataclass(frozen=True)
class Labeled:
    """Rows and the labels that the oracle has revealed, in order of purchase."""

    rows: Int64[np.ndarray, " labeled"]
    labels: Int64[np.ndarray, " labeled"]

    def spread(self, n: int) -> Int64[np.ndarray, " n"]:
        """One label per train row; ``UNLABELED`` on unlabeled rows. ``n`` is the number of train rows."""
        out = np.full(n, UNLABELED, dtype=np.int64)
        out[self.rows] = self.labels
        return out


def reveal(dataset: Dataset, pool: Pool) -> Labeled:
    """The oracle: the labels of the pool's labeled rows, in order of purchase."""
    rows = np.asarray(pool.labeled, dtype=np.int64)
    return Labeled(rows, dataset.train.labels[rows])


def buy(dataset: Dataset, pool: Pool, rows: Sequence[SupportsIndex]) -> Pool:
    """The pool after the oracle is asked for the labels of these rows; it has none for an image of no class.

    Such a row is paid for like any other, and then neither labeled nor unlabeled.

    Raises:
        TypeError: a row is not a whole number.
        ValueError: a row is bought already, occurs twice or lies outside the pool.
    """
    labels = dataset.train.labels
    return pool.buy(
        rows, wasted=[row for row in map(index, rows) if 0 <= row < len(labels) and labels[row] == NO_CLASS]
    )
