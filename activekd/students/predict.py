"""Predictions of a student from the evaluation view."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.bank.views import ViewSource
from activekd.errors import InputError
from activekd.finite import count_broken
from activekd.losses import mixture
from activekd.recipes import Distillation, Recipe
from activekd.students.heads import Student

PREDICT_BATCH = 512
"""Rows per forward pass in prediction, for features and small images."""

PREDICT_PIXELS = PREDICT_BATCH * 64 * 64
"""Pixels per forward pass in prediction; bounds its memory."""


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 autocast of backbones on ``cuda``; disabled on other devices, where it is slower or unsupported."""
    return torch.autocast("cuda" if device == "cuda" else "cpu", dtype=torch.bfloat16, enabled=device == "cuda")


def converging(recipe: Recipe) -> str:
    """The remedy for a student that is not finite, for a message."""
    return (
        f"a fit that converges: an lr below {recipe.lr:g}, a longer warmup, or moderate decay, weights and temperatures"
    )


@dataclass(frozen=True)
class Prediction:
    """Predictions from the evaluation view.

    Attributes:
        probabilities: the recipe's mixture of both heads; without distillation, the label head's softmax.
        features: pooled features; None unless requested.
        heads: the classes that the label head and the distill head predict alone.
    """

    probabilities: Float32[Tensor, "n classes"]
    features: Float32[Tensor, "n dim"] | None
    heads: Int64[Tensor, "2 n"]


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
    """Predictions for each row from its evaluation view, returned on the CPU.

    Args:
        student: the fitted student; it is set to evaluation mode.
        inputs: the student's inputs of a split; only view 0 is read.
        recipe: weights and temperature of the mixture.
        distillation: ``none`` predicts from the label head alone.
        rows: rows of the split, in the order of the output; None for all of them.
        features: whether to return the pooled features.
        device: device of the student.

    Raises:
        InputError: predictions or features are not finite; the message counts the rows.
    """
    student.eval()
    label_weight = 1.0 if distillation == "none" else recipe.label_weight
    probabilities, pooled, heads = [], [], []
    broken = 0
    pixels = inputs.shape[-1] ** 2 if len(inputs.shape) == 3 else 1
    batch = max(1, min(PREDICT_BATCH, PREDICT_PIXELS // pixels))
    rows = np.arange(inputs.n_rows) if rows is None else rows
    for start in range(0, len(rows), batch):
        some = rows[start : start + batch]
        with mixed_precision(device):
            out = student(inputs.gather(some, np.zeros_like(some)).to(device))
        heads.append(torch.stack([logits.argmax(dim=1) for logits in (out.label_logits, out.distill_logits)]).cpu())
        probabilities.append(
            mixture(
                out.label_logits,
                out.distill_logits,
                label_weight=label_weight,
                distill_temperature=recipe.distill_temperature,
            ).cpu()
        )
        if features:
            pooled.append(out.features.cpu())
        broken += max(count_broken(parts[-1]) for parts in (probabilities, pooled) if parts)
    if broken:
        raise InputError(f"predictions of {broken} of {len(rows)} rows are not finite; expected: {converging(recipe)}")
    return Prediction(torch.cat(probabilities), torch.cat(pooled) if features else None, torch.cat(heads, dim=1))
