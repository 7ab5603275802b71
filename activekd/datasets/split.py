"""Splits of images with labels as loaders return them, before the protocol applies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256

import numpy as np
from jaxtyping import Float16, Float32, Int64

from activekd.images.pixels import Images
from activekd.streams import stream

SPLIT_SEED = 0
"""Seed of every split that no publisher fixes; all trials share it, and therefore the test images."""


@dataclass(frozen=True, eq=False)
class FeatureRows:
    """Features of each row that a data set has instead of images.

    Attributes:
        student: what students read.
        teacher: image features of a vision-language network, of unit norm; None where the data set has none.
    """

    student: Float32[np.ndarray, "n width"]
    teacher: Float16[np.ndarray, "n dim"] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the features."""
        digest = sha256()
        for array in (self.student, self.teacher):
            digest.update(b"-" if array is None else f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Text embeddings of the classes that a data set has.

    Attributes:
        text: of each class, in label order.
        logit_scale: factor from the cosine of image and text to a logit.
    """

    text: Float32[np.ndarray, "classes dim"]
    logit_scale: float

    @property
    def fingerprint(self) -> str:
        """Hash of both."""
        return sha256(self.text.tobytes() + repr(self.logit_scale).encode()).hexdigest()


@dataclass(frozen=True)
class Split:
    """Images with labels, or features with labels.

    Attributes:
        images: None where only labels are needed, and where there are features.
        labels: one class per row.
        names: path of each image in the split file; None where images have no names.
        features: None where there are images, or only labels are needed.
    """

    images: Images | None
    labels: Int64[np.ndarray, " n"]
    names: tuple[str, ...] | None = None
    features: FeatureRows | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the labels and, if present, the images or features."""
        digest = sha256(self.labels.astype("<i8").tobytes())
        if self.images is not None or self.features is not None:
            digest.update(self.content.encode())
        return digest.hexdigest()

    @property
    def content(self) -> str:
        """Hash of the images or of the features.

        Raises:
            LookupError: the split was loaded without them.
        """
        return self.pixels.fingerprint if self.features is None else self.features.fingerprint

    @property
    def pixels(self) -> Images:
        """The images.

        Raises:
            LookupError: the split was loaded without them.
        """
        if self.images is None:
            raise LookupError("this split was loaded without its images; expected: a split with images")
        return self.images

    def without_images(self) -> "Split":
        """The same split with labels alone."""
        return replace(self, images=None, names=None, features=None)


@dataclass(frozen=True)
class Source:
    """A data set as read; the fields are those of ``activekd.datasets.Dataset``.

    Attributes:
        notes: for its reader, one line each.
    """

    class_names: tuple[str, ...]
    prompts: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    notes: tuple[str, ...] = ()
    embeddings: Embeddings | None = None
    lacking: tuple[str, ...] = ()


def class_faults(name: str, class_names: Sequence[str], labels: Mapping[str, Int64[np.ndarray, " _"]]) -> list[str]:
    """Faults of the classes of a data set: fewer than two, or one without an image in a split.

    Args:
        name: of the data set, for messages.
        class_names: one per class, in label order.
        labels: of each split that must have every class, by the split's name.
    """
    faults = []
    if len(class_names) < 2:
        names = ", ".join(f"'{name}'" for name in class_names) or "none"
        faults.append(f"{name}: {len(class_names)} class ({names}); expected: at least 2")
    for part, of_part in labels.items():
        counts = np.bincount(of_part, minlength=len(class_names))
        empty = ", ".join(repr(class_names[label]) for label in np.flatnonzero(counts == 0).tolist())
        if empty:
            faults.append(f"{name}: no {part} image of class {empty}; expected: at least one per class")
    return faults


def split_rows(labels: Int64[np.ndarray, " n"], fractions: Sequence[float], name: str) -> list[np.ndarray]:
    """Disjoint row sets with about these fractions of each class, fixed by the name of the data set.

    One stream, named after the data set, shuffles the classes in label order; each class is cut at the rounded
    cumulative fractions. Rows are ascending.

    Args:
        labels: one class per row.
        fractions: share of each row set; they sum to 1.
        name: names the stream.
    """
    rng = stream(SPLIT_SEED, "split", name)
    parts: list[list[np.ndarray]] = [[] for _ in fractions]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(fractions) * len(members)).astype(int)
        for part, rows in zip(parts, np.split(members, cuts[:-1]), strict=True):
            part.append(rows)
    return [np.sort(np.concatenate(part)) for part in parts]
