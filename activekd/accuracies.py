"""Accuracies of predictions: over all images, and over those of each class."""

import numpy as np
from jaxtyping import Float32, Float64, Int64
from torch import Tensor


def accuracy(probabilities: Float32[Tensor, "n classes"], labels: Int64[np.ndarray, " n"]) -> float:
    """Top-1 accuracy, in [0, 1]."""
    return float(_right(probabilities, labels).mean())


def recalls(
    probabilities: Float32[Tensor, "n classes"], labels: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " tested"]:
    """Top-1 accuracy on the images of each class that has some, in [0, 1]."""
    counts = np.bincount(labels)
    return np.bincount(labels, weights=_right(probabilities, labels))[counts > 0] / counts[counts > 0]


def _right(probabilities: Tensor, labels: np.ndarray) -> np.ndarray:
    return probabilities.argmax(dim=1).cpu().numpy() == labels
