"""The fit of one student on the dual-head objective."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.bank.views import Views, ViewSource
from activekd.datasets import Labeled
from activekd.errors import InputError
from activekd.losses import dual_head_loss, teacher_logits
from activekd.recipes import Distillation, Recipe, ViewGeometry, learning_rate
from activekd.students.draws import draw
from activekd.students.heads import Student
from activekd.students.predict import converging, mixed_precision


@dataclass(frozen=True)
class Guide:
    """The fitted teacher as the student's fit reads it: banked features of the train views, and class prototypes.

    Attributes:
        views: image features of the train split.
        prototypes: class prototypes of the round, on the device of the fit; of each member for a cohort.
        logit_scale: the network's factor from the cosine of image and text to a logit.
    """

    views: Views
    prototypes: Float32[Tensor, "*members classes dim"]
    logit_scale: float

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Float32[Tensor, "*members batch classes"]]:
        """Teacher logits of the student's crops, step by step; of view 0 where the teacher has a single view.

        For a cohort, the batch of each step holds those of the members, one after the other.
        """
        if len(self.views) == 1:
            views = np.zeros_like(views)
        for features in self.views.batches(rows, views):
            shown = features.to(self.prototypes.device).unflatten(0, (*self.prototypes.shape[:-2], -1))
            yield teacher_logits(shown, self.prototypes, self.logit_scale)


def distils(guide: Guide | None, distillation: Distillation, n_unlabeled: int) -> tuple[bool, bool]:
    """Whether a fit distils on its labeled images, and on its unlabeled images.

    Raises:
        ValueError: a teacher without distillation, or distillation without a teacher.
    """
    if (guide is None) != (distillation == "none"):
        given = "without" if guide is None else "with"
        raise ValueError(f"distillation '{distillation}' {given} a teacher; expected: 'none' exactly without one")
    return distillation in {"labeled", "both"}, distillation in {"unlabeled", "both"} and n_unlabeled > 0


def fit_student(
    student: Student,
    inputs: ViewSource,
    labeled: Labeled,
    unlabeled: Int64[np.ndarray, " unlabeled"],
    guide: Guide | None,
    distillation: Distillation,
    recipe: Recipe,
    geometry: ViewGeometry,
    *,
    rng: np.random.Generator,
    device: str = "cpu",
) -> None:
    """Train the student in place on the dual-head objective (PCoreSet, Kang et al. 2025, Section 3); last iterate.

    Every step draws labeled rows, and unlabeled rows if ``distillation`` includes them, uniformly with replacement,
    each in a random training view; student and teacher see the same crop. Both batches pass through the student
    together.

    Args:
        student: the student at the start of the round.
        inputs: the student's inputs of the train split.
        labeled: labeled rows and their labels.
        unlabeled: the unlabeled rows.
        guide: the fitted teacher; None exactly when ``distillation`` is ``none``.
        distillation: images on which the student distils the teacher.
        recipe: hyperparameters of the fit.
        geometry: its training views are drawn from.
        rng: draws the batches; labeled and unlabeled batches have separate streams.
        device: where to train; on ``cuda`` a backbone runs in bfloat16 by autocast, heads and losses in float32.

    Raises:
        InputError: no labeled rows, or weights that are not finite after the fit.
        ValueError: a teacher without distillation, or distillation without a teacher.
    """
    on_labeled, on_unlabeled = distils(guide, distillation, len(unlabeled))
    draws = draw(labeled, unlabeled, recipe, geometry, with_unlabeled=on_unlabeled, rng=rng)
    steps, n = draws.steps, draws.n_labeled
    weights = (recipe.weight_ce, recipe.weight_kd_labeled, recipe.weight_kd_unlabeled)
    student.to(device)
    optimiser = torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    labels = torch.from_numpy(draws.labels).to(device)
    first = 0 if on_labeled else n
    targets = None if guide is None else guide.batches(draws.rows[:, first:], draws.views[:, first:])
    student.train()
    for step, images in enumerate(inputs.batches(draws.rows, draws.views)):
        with mixed_precision(device):
            out = student(images.to(device))
        teacher_labeled = teacher_unlabeled = None
        if targets is not None:
            logits = next(targets)
            teacher_labeled = logits[: n - first] if on_labeled else None
            teacher_unlabeled = logits[n - first :] if on_unlabeled else None
        loss = dual_head_loss(
            out.label_logits[:n],
            labels[step],
            out.distill_logits[:n] if on_labeled else None,
            teacher_labeled,
            out.distill_logits[n:] if on_unlabeled else None,
            teacher_unlabeled,
            weights=weights,
            temperature=recipe.temperature,
        )
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    check_fitted(student, recipe, f"{steps} steps on {len(labeled.rows)} labeled rows")


def check_fitted(student: Student, recipe: Recipe, fit: str) -> None:
    """Check, with one wait for the device, that a fit ended in finite weights and statistics.

    Args:
        student: after the fit.
        recipe: of the fit.
        fit: what was fitted, for the message.

    Raises:
        InputError: a tensor has a value that is not finite.
    """
    weights = {name: value for name, value in student.state_dict().items() if value.is_floating_point()}
    finite = torch.stack([value.isfinite().all() for value in weights.values()]).cpu().tolist()
    broken = [name for name, holds in zip(weights, finite, strict=True) if not holds]
    if broken:
        raise InputError(
            f"{len(broken)} of {len(weights)} tensors of weights are not finite after {fit}, such as {broken[0]}; "
            f"expected: {converging(recipe)}"
        )
