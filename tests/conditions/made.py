"""A data set of features whose rows are their numbers, for tests of conditions."""

import numpy as np

from activekd.datasets import Dataset, Split
from activekd.datasets.split import Embeddings, FeatureRows

NAMES = ("ant", "bee", "cat", "dog", "eel")


def made(*sizes: int, n_test: int = 4) -> Dataset:
    """Classes of these sizes in the pool and ``n_test`` test rows each; the feature of a row is its number."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    tested = np.repeat(np.arange(len(sizes)), n_test)

    def split(y: np.ndarray) -> Split:
        numbers = np.arange(len(y), dtype=np.float32)[:, None]
        return Split(None, y, features=FeatureRows(numbers, np.hstack([numbers, numbers + 1]).astype(np.float16)))

    text = np.eye(len(sizes), dtype=np.float32)
    nothing = Split(None, np.arange(len(sizes)))
    embeddings = Embeddings(text, 100.0)
    return Dataset("made", NAMES[: len(sizes)], (), split(labels), nothing, split(tested), embeddings=embeddings)
