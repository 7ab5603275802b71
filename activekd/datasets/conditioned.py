"""Data sets with conditions: which rows of the base are the pool, in which order, and which labels come wrong."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from activekd.datasets.choices import conditions_of
from activekd.datasets.conditions import Conditions, part
from activekd.datasets.dataset import Conditioned, Dataset
from activekd.datasets.row_map import RowMap
from activekd.datasets.split import Embeddings, Split, class_faults
from activekd.errors import InputError
from activekd.pool import NO_CLASS
from activekd.streams import stream

PURPOSE = "condition"
"""Purpose of the streams of conditions; each condition has its own, so that none depends on another one's presence."""


def conditioned(base: Dataset, name: str) -> Dataset:
    """A data set with the conditions of a name, which share its images, features and text embeddings.

    In this order, each from a stream of the draw's number:

    1. ``open``: classes drawn uniformly are left out. Their train images stay in the pool, as images of no class. They
       have no name, no text embedding and no test image, since neither student nor teacher has such a class.
    2. ``imbalance``: in a random order of the classes, the i-th of C keeps min(n_i, n R^(-i / (C - 1))) of its n_i
       images, drawn uniformly; n is the size of the largest class (Cui et al. 2019 for classes of one size). Departure:
       a class that is smaller than its place in the tail stays whole. Images of no class stay.
    3. ``duplicates``: rows drawn uniformly are added once more, after all others. A copy has the label of its image.
    4. ``noise``: labels drawn uniformly from those of all images with a class, copies included, are replaced by one of
       the other classes, each as likely. The oracle answers with them.

    Test images and their labels are those of the base, but for those of left-out classes.

    Args:
        base: without conditions.
        name: of the data set with them; ``base`` comes back where it has none.

    Raises:
        InputError: fewer than two classes are left, a class has no image left, or a share is none of its rows; all
            faults at once.
    """
    conditions = conditions_of(name)
    if conditions is None:
        return base
    try:
        classes = _kept_classes(conditions, base.n_classes)
    except InputError as fault:
        raise InputError(*(f"{name}: {message}" for message in fault.faults)) from fault
    label_of = np.full(base.n_classes, NO_CLASS, dtype=np.int64)
    label_of[classes] = np.arange(len(classes))
    labels, test_labels = label_of[base.train.labels], label_of[base.test.labels]
    rows = _long_tail(labels, len(classes), conditions)
    copies = _some_rows(rows, conditions.duplicates, conditions, "duplicates")
    crops = None
    if len(copies):
        crops = np.full(len(rows) + len(copies), -1.0)
        crops[len(rows) :] = stream(conditions.draw, PURPOSE, "crops").random(len(copies))
    true = labels[np.concatenate([rows, copies])]
    wrong = _some_rows(np.flatnonzero(true != NO_CLASS), conditions.noise, conditions, "noise")
    names = tuple(base.class_names[label] for label in classes.tolist())
    faults = [
        f"{name}: {key}={share:g} of {n} {what} is none; expected: a share that is at least 1"
        for key, share, n, what, found in (
            ("duplicates", conditions.duplicates, len(rows), "rows", copies),
            ("noise", conditions.noise, int((true != NO_CLASS).sum()), "labels", wrong),
        )
        if share and not len(found)
    ]
    faults += class_faults(name, names, {"train": true[true != NO_CLASS]})
    if faults:
        raise InputError(*faults)
    tested = np.flatnonzero(test_labels != NO_CLASS)
    of = Conditioned(
        base,
        classes,
        RowMap(np.concatenate([rows, copies]), crops),
        None if len(tested) == len(test_labels) else RowMap(tested),
        true,
    )
    of = replace(of, notes=tuple(_notes(conditions, base, of, len(wrong))))
    val = label_of[base.val.labels]
    return replace(
        base,
        name=name,
        class_names=names,
        train=Split(None, _noisy(true, wrong, len(classes), conditions)),
        val=Split(None, val[val != NO_CLASS]),
        test=Split(None, test_labels[tested]),
        embeddings=base.embeddings and Embeddings(base.embeddings.text[classes], base.embeddings.logit_scale),
        conditioned=of,
    )


def _kept_classes(conditions: Conditions, n_classes: int) -> Int64[np.ndarray, " kept"]:
    n_out = conditions.n_left_out(n_classes)
    out = stream(conditions.draw, PURPOSE, "open").choice(n_classes, size=n_out, replace=False)
    return np.setdiff1d(np.arange(n_classes), out)


def _long_tail(labels: Int64[np.ndarray, " n"], n_classes: int, conditions: Conditions) -> Int64[np.ndarray, " kept"]:
    """The rows that a long tail keeps, ascending; rows of no class are kept."""
    if conditions.imbalance == 1:
        return np.arange(len(labels))
    rng = stream(conditions.draw, PURPOSE, "imbalance")
    largest = int(np.bincount(labels[labels != NO_CLASS], minlength=n_classes).max())
    kept = [np.flatnonzero(labels == NO_CLASS)]
    for label, most in zip(rng.permutation(n_classes), conditions.tail(largest, n_classes), strict=True):
        members = np.flatnonzero(labels == label)
        kept.append(rng.permutation(members)[:most])
    return np.sort(np.concatenate(kept))


def _some_rows(
    rows: Int64[np.ndarray, " n"], share: float, conditions: Conditions, key: str
) -> Int64[np.ndarray, " some"]:
    """A share of rows, drawn uniformly, ascending."""
    return np.sort(stream(conditions.draw, PURPOSE, key).choice(rows, size=part(share, len(rows)), replace=False))


def _noisy(
    true: Int64[np.ndarray, " n"], wrong: Int64[np.ndarray, " wrong"], n_classes: int, conditions: Conditions
) -> Int64[np.ndarray, " n"]:
    """The labels that the oracle gives: those of the rows in ``wrong`` are uniform over the other classes."""
    labels = true.copy()
    steps = stream(conditions.draw, PURPOSE, "wrong labels").integers(1, n_classes, size=len(wrong))
    labels[wrong] = (true[wrong] + steps) % n_classes
    return labels


def _notes(conditions: Conditions, base: Dataset, of: Conditioned, n_wrong: int) -> Iterator[str]:
    n_copies = 0 if of.train.crops is None else int((of.train.crops >= 0).sum())
    if conditions.open:
        n_out, n_of_none = base.n_classes - len(of.classes), int((of.true_labels == NO_CLASS).sum())
        yield (
            f"open={conditions.open:g}: {n_out} of {base.n_classes} classes are left out; {n_of_none:,} of "
            f"{len(of.train):,} images of the pool are of no class, and {len(of.test or ()):,} test images remain"
        )
    if conditions.imbalance != 1:
        sizes = np.bincount(of.true_labels[of.true_labels != NO_CLASS])
        yield (
            f"imbalance={conditions.imbalance:g}: the largest class has {sizes.max():,} images in the pool, the "
            f"smallest {sizes.min():,}{', copies included' if n_copies else ''}"
        )
    if n_copies:
        yield f"duplicates={conditions.duplicates:g}: {n_copies:,} of {len(of.train):,} rows of the pool are copies"
    if n_wrong:
        yield f"noise={conditions.noise:g}: {n_wrong:,} labels of the pool come wrong"
