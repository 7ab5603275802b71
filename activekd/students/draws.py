"""The random draws of a fit: rows and views of every optimiser step, made at once before the first; and seeds."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from activekd.datasets import Labeled
from activekd.errors import InputError
from activekd.objectives.strong import NUMBERS
from activekd.recipes import Distillation, Recipe, ViewGeometry, one_view
from activekd.streams import torch_seed


@dataclass(frozen=True)
class Draws:
    """What each step of a fit trains on: labeled images, then unlabeled ones, then strong views of these.

    Attributes:
        rows: rows of the train split.
        views: view numbers, aligned with ``rows``.
        labels: classes of the labeled images, the first of each step.
        n_unlabeled: unlabeled images of a step.
        numbers: in [0, 1), of the strong views of pixels; None for features, and without strong views.
        network_seed: of a backbone's draws, such as dropout.
        dropout_seed: of the dropout of strong views of features.
        projection_seed: of the projection of features.
    """

    rows: Int64[np.ndarray, "steps batch"]
    views: Int64[np.ndarray, "steps batch"]
    labels: Int64[np.ndarray, "steps labeled"]
    n_unlabeled: int
    numbers: Float32[np.ndarray, "steps unlabeled numbers"] | None
    network_seed: int
    dropout_seed: int
    projection_seed: int

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return len(self.rows)

    @property
    def n_labeled(self) -> int:
        """Labeled images of a step."""
        return self.labels.shape[1]

    @property
    def weak(self) -> int:
        """Images of a step before its strong views."""
        return self.n_labeled + self.n_unlabeled


def draw(
    labeled: Labeled,
    unlabeled: Int64[np.ndarray, " unlabeled"],
    recipe: Recipe,
    geometry: ViewGeometry,
    distillation: Distillation,
    *,
    features: bool,
    rng: np.random.Generator,
) -> Draws:
    """Draw the batches of a fit: rows uniformly with replacement, each in a random training view.

    Labeled and unlabeled batches have separate streams, so fits with and without unlabeled images share the former;
    so do those with and without strong views, of both. A strong view is made from another view than the weak one: of
    the training views where there are several, else of all views; from the same one where an image has one view.

    Args:
        labeled: labeled rows and their labels.
        unlabeled: the unlabeled rows.
        recipe: number of steps, sizes of the batches, objective.
        geometry: its training views are drawn from.
        distillation: decides with the objective whether steps have unlabeled images.
        features: whether the inputs are banked features, of which strong views take another view.
        rng: the stream of the batches.

    Raises:
        InputError: no labeled rows; or strong views of features that have one view.
    """
    steps = recipe.n_steps(len(labeled.rows), len(unlabeled), distillation)
    training = np.asarray(geometry.training)
    labeled_rng, unlabeled_rng, network_rng, strong_rng, dropout_rng, projection_rng = rng.spawn(6)

    def drawn(n: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        shape = (steps, size)
        return rng.integers(n, size=shape), rng.choice(training, size=shape)

    positions, views = drawn(len(labeled.rows), recipe.batch_labeled, labeled_rng)
    rows, numbers = labeled.rows[positions], None
    n_unlabeled = recipe.unlabeled_a_step(distillation) if len(unlabeled) > 0 else 0
    if n_unlabeled:
        others, other_views = drawn(len(unlabeled), n_unlabeled, unlabeled_rng)
        again = []
        if recipe.has_strong_views:
            if features and geometry.count == 1:
                raise InputError(one_view(recipe, "one view"))
            again = [_others(other_views, geometry, strong_rng)]
            if not features:
                numbers = strong_rng.random((steps, n_unlabeled, NUMBERS), dtype=np.float32)
        rows = np.concatenate([rows, *[unlabeled[others]] * (1 + len(again))], axis=1)
        views = np.concatenate([views, other_views, *again], axis=1)
    return Draws(
        rows,
        views,
        labeled.labels[positions],
        n_unlabeled,
        numbers,
        network_seed=torch_seed(network_rng),
        dropout_seed=torch_seed(dropout_rng),
        projection_seed=torch_seed(projection_rng),
    )


def _others(views: np.ndarray, geometry: ViewGeometry, rng: np.random.Generator) -> np.ndarray:
    """A view other than each, uniformly among the training views, or among all where there is one training view."""
    among = geometry.training if len(geometry.training) > 1 else range(geometry.count)
    if len(among) == 1:
        return views
    further = rng.integers(1, len(among), size=views.shape)
    return among[0] + (views - among[0] + further) % len(among)
