"""The random draws of a fit: rows and views of every optimiser step, made at once before the first."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from activekd.datasets import Labeled
from activekd.recipes import Recipe, ViewGeometry


@dataclass(frozen=True)
class Draws:
    """What each step of a fit trains on: labeled images first, then unlabeled ones.

    Attributes:
        rows: rows of the train split.
        views: view numbers, aligned with ``rows``.
        labels: classes of the labeled images, the first of each step.
    """

    rows: Int64[np.ndarray, "steps batch"]
    views: Int64[np.ndarray, "steps batch"]
    labels: Int64[np.ndarray, "steps labeled"]

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return len(self.rows)

    @property
    def n_labeled(self) -> int:
        """Labeled images of a step."""
        return self.labels.shape[1]


def draw(
    labeled: Labeled,
    unlabeled: Int64[np.ndarray, " unlabeled"],
    recipe: Recipe,
    geometry: ViewGeometry,
    *,
    with_unlabeled: bool,
    rng: np.random.Generator,
) -> Draws:
    """Draw the batches of a fit: rows uniformly with replacement, each in a random training view.

    Labeled and unlabeled batches have separate streams, so fits with and without unlabeled images share the former.

    Args:
        labeled: labeled rows and their labels.
        unlabeled: the unlabeled rows.
        recipe: number of steps and sizes of the batches.
        geometry: its training views are drawn from.
        with_unlabeled: whether steps have unlabeled images.
        rng: the stream of the batches.

    Raises:
        InputError: no labeled rows.
    """
    steps = recipe.n_steps(len(labeled.rows), len(unlabeled))
    training = np.asarray(geometry.training)
    labeled_rng, unlabeled_rng = rng.spawn(2)

    def drawn(n: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        shape = (steps, size)
        return rng.integers(n, size=shape), rng.choice(training, size=shape)

    positions, views = drawn(len(labeled.rows), recipe.batch_labeled, labeled_rng)
    rows = labeled.rows[positions]
    if with_unlabeled and len(unlabeled) > 0:
        others, other_views = drawn(len(unlabeled), recipe.batch_unlabeled, unlabeled_rng)
        rows = np.concatenate([rows, unlabeled[others]], axis=1)
        views = np.concatenate([views, other_views], axis=1)
    return Draws(rows, views, labeled.labels[positions])
