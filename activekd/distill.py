"""One fit of a student with distillation, and its predictions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.bank import Views, ViewSource
from activekd.datasets import Labeled
from activekd.losses import dual_head_loss, mixture
from activekd.recipes import Distillation, Recipe, ViewGeometry
from activekd.students import Student
from activekd.teachers import linear_schedule, teacher_logits

PREDICT_BATCH = 512
"""Rows a forward pass in prediction, where they are features or small images."""

PREDICT_PIXELS = PREDICT_BATCH * 64 * 64
"""Pixels a forward pass in prediction: what bounds its memory."""


@dataclass(frozen=True)
class Guide:
    """The fitted teacher as the student sees it: banked features of the train views, and class prototypes."""

    views: Views
    prototypes: Float32[Tensor, "classes dim"]

    def logits(self, rows: Int64[np.ndarray, " batch"], views: Int64[np.ndarray, " batch"]) -> Tensor:
        """Teacher logits of the very crops that the student is shown; of view 0 where the teacher has no other."""
        if len(self.views) == 1:
            views = np.zeros_like(views)
        return teacher_logits(self.views.gather(rows, views).to(self.prototypes.device), self.prototypes)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """The learning rate of a step, counted from 0: linear warm-up, then linear or cosine decay to 0."""
    if recipe.schedule == "linear":
        return recipe.lr * linear_schedule(step, total, recipe.warmup)
    rising = round(recipe.warmup * total)
    if step < rising:
        return recipe.lr * (step + 1) / rising
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def _batches(
    rows: np.ndarray, size: int, steps: int, geometry: ViewGeometry, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    training = np.asarray(geometry.training)
    for _ in range(steps):
        yield rng.integers(len(rows), size=size), rng.choice(training, size=size)


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

    Every step draws labeled rows, and unlabeled ones where the mode distils on them, uniformly with replacement, each
    in a random training view; student and teacher see the same crop. Both batches pass through the student together.

    Args:
        inputs: the student's banked inputs of the train split.
        labeled: the labels bought so far.
        unlabeled: the other rows.
        guide: the fitted teacher; None exactly when ``distillation`` is ``none``.
        distillation: which images the teacher's predictions are distilled on.
        device: where to train; on ``cuda`` the backbone runs in bfloat16 by autocast, the losses in float32.

    Raises:
        ValueError: a guide without distillation, or the other way round.
    """
    if (guide is None) != (distillation == "none"):
        raise ValueError(f"distillation '{distillation}' {'without' if guide is None else 'with'} a teacher")
    on_labeled = guide is not None and distillation in {"labeled", "both"}
    on_unlabeled = guide is not None and distillation in {"unlabeled", "both"} and len(unlabeled) > 0
    steps = recipe.n_steps(len(labeled.rows), len(unlabeled))
    weights = (recipe.weight_ce, recipe.weight_kd_labeled, recipe.weight_kd_unlabeled)
    student.to(device)
    optimiser = torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    labels = torch.from_numpy(labeled.labels).to(device)
    labeled_rng, unlabeled_rng = rng.spawn(2)
    labeled_batches = _batches(labeled.rows, recipe.batch_labeled, steps, geometry, labeled_rng)
    unlabeled_batches = _batches(unlabeled, recipe.batch_unlabeled, steps, geometry, unlabeled_rng)
    student.train()
    for step in range(steps):
        drawn, views = next(labeled_batches)
        rows = labeled.rows[drawn]
        n = len(rows)
        if on_unlabeled:
            other, other_views = next(unlabeled_batches)
            rows = np.concatenate([rows, unlabeled[other]])
            views = np.concatenate([views, other_views])
        with mixed_precision(device):
            out = student(inputs.gather(rows, views).to(device))
        teacher_labeled = teacher_unlabeled = None
        if guide is not None:
            first = 0 if on_labeled else n
            logits = guide.logits(rows[first:], views[first:])
            teacher_labeled = logits[: n - first] if on_labeled else None
            teacher_unlabeled = logits[n - first :] if on_unlabeled else None
        loss = dual_head_loss(
            out.label_logits[:n].float(),
            labels[torch.from_numpy(drawn)],
            out.distill_logits[:n].float() if on_labeled else None,
            teacher_labeled,
            out.distill_logits[n:].float() if on_unlabeled else None,
            teacher_unlabeled,
            weights=weights,
            temperature=recipe.temperature,
        )
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 by autocast on ``cuda``; nothing elsewhere, where it is slower or not supported."""
    return torch.autocast("cuda" if device == "cuda" else "cpu", dtype=torch.bfloat16, enabled=device == "cuda")


@dataclass(frozen=True)
class Prediction:
    """Predictions from the evaluation view.

    Attributes:
        probabilities: the recipe's mixture of both heads; of the label head alone without distillation.
        features: pooled features, where they were asked for.
    """

    probabilities: Float32[Tensor, "n classes"]
    features: Float32[Tensor, "n dim"] | None


@torch.inference_mode()
def predict(
    student: Student,
    inputs: ViewSource,
    recipe: Recipe,
    distillation: Distillation,
    *,
    rows: Int64[np.ndarray, " n"] | None = None,
    features: bool = False,
    device: str = "cpu",
) -> Prediction:
    """What the student predicts for each row in its evaluation view, on the CPU whatever the device.

    Args:
        inputs: the student's inputs of a split, of which view 0 is read.
        rows: of the split, in this order; without it all of them.
        features: whether to keep the pooled features.
        device: where the student is.
    """
    student.eval()
    label_weight = 1.0 if distillation == "none" else recipe.label_weight
    probabilities, kept = [], []
    pixels = inputs.shape[-1] ** 2 if len(inputs.shape) == 3 else 1
    batch = max(1, min(PREDICT_BATCH, PREDICT_PIXELS // pixels))
    rows = np.arange(inputs.n_rows) if rows is None else rows
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        with mixed_precision(device):
            out = student(inputs.gather(some, np.zeros_like(some)).to(device))
        probabilities.append(
            mixture(
                out.label_logits.float(),
                out.distill_logits.float(),
                label_weight=label_weight,
                distill_temperature=recipe.distill_temperature,
            ).cpu()
        )
        if features:
            kept.append(out.features.float().cpu())
    return Prediction(torch.cat(probabilities), torch.cat(kept) if features else None)
