"""Predictions of a student from the evaluation view."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.bank.views import ViewSource
from activekd.devices import naming_memory, results_device
from activekd.errors import InputError
from activekd.finite import count_broken
from activekd.losses import mixture
from activekd.recipes import Distillation, Recipe
from activekd.students.heads import Student
from activekd.students.step_memory import memory_of, step_budget

PREDICT_BATCH = 512
"""Rows per forward pass in prediction, for features and small images."""

PREDICT_PIXELS = PREDICT_BATCH * 64 * 64
"""Pixels per forward pass in prediction on the CPU and ``mps``; bounds its memory."""

PREDICT_PIXELS_CUDA = PREDICT_BATCH * 224 * 224
"""Pixels per forward pass in prediction on ``cuda``, at most; fewer where a training step on them would not fit."""


def mixed_precision(device: str) -> torch.autocast:
    """bfloat16 autocast of backbones on ``cuda``; disabled on other devices, where it is slower or unsupported.

    It caches no weights: each is used once in a block, and CUDA graphs allow no cache.
    """
    kind = "cuda" if device == "cuda" else "cpu"
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=device == "cuda", cache_enabled=False)


def converging(recipe: Recipe) -> str:
    """The remedy for a student that is not finite, for a message."""
    return (
        f"a fit that converges: an lr below {recipe.lr:g}, a longer warmup, or moderate decay, weights and temperatures"
    )


@dataclass(frozen=True)
class Prediction:
    """Predictions from the evaluation view.

    Attributes:
        probabilities: the recipe's mixture of both heads; without distillation, or with the objective ``single_head``,
            the label head's softmax.
        features: pooled features; None unless requested.
        heads: the classes that the label head and the distill head predict alone; with ``single_head``, whose label
            head learns both, those of the label head twice.
    """

    probabilities: Float32[Tensor, "n classes"]
    features: Float32[Tensor, "n dim"] | None
    heads: Int64[Tensor, "2 n"]


def predict_batch(student: Student, shape: tuple[int, ...], device: str) -> int:
    """Rows per forward pass in prediction: a function of the network, the inputs, the device and its memory.

    Args:
        student: the student.
        shape: of one input.
        device: of the student.
    """
    if len(shape) == 1:
        return PREDICT_BATCH
    pixels = PREDICT_PIXELS_CUDA if device == "cuda" else PREDICT_PIXELS
    batch = min(PREDICT_BATCH, pixels // shape[-1] ** 2)
    budget = step_budget(device)
    if budget is not None:
        batch = min(batch, memory_of(student.backbone, shape).images_within(budget))
    return max(1, batch)


def label_weight(recipe: Recipe, distillation: Distillation) -> float:
    """The weight of the label head in the mixture: 1 without distillation, and with ``single_head``."""
    return 1.0 if distillation == "none" or recipe.objective == "single_head" else recipe.label_weight


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
    """Predictions for each row from its evaluation view.

    On ``cuda`` the backbone runs in bfloat16 by autocast, the heads in float32.

    Args:
        student: the fitted student; it is set to evaluation mode.
        inputs: the student's inputs of a split; only view 0 is read.
        recipe: weights and temperature of the mixture.
        distillation: ``none`` predicts from the label head alone.
        rows: rows of the split, in the order of the output; None for all of them.
        features: whether to return the pooled features.
        device: device of the student.

    Returns:
        Predictions on ``activekd.devices.results_device(device)``: they stay on ``cuda`` until something small is left.

    Raises:
        InputError: predictions or features are not finite, and the message counts the rows; or the device is out of
            memory.
    """
    student.eval()
    rows = np.arange(inputs.n_rows) if rows is None else rows
    batch, kept_on = predict_batch(student, inputs.shape, device), results_device(device)
    heads: Tensor | None = None
    probabilities: Tensor | None = None
    pooled: Tensor | None = None

    def filled(array: Tensor | None, part: Tensor, start: int) -> Tensor:
        """The array of all rows, with those of a part set."""
        if array is None:
            array = torch.empty((len(rows), *part.shape[1:]), dtype=part.dtype, device=kept_on)
        array[start : start + len(part)] = part
        return array

    with naming_memory(f"predictions of {len(rows)} rows, {batch} at a time"):
        for start in range(0, len(rows), batch):
            some = rows[start : start + batch]
            with mixed_precision(device):
                out = student(inputs.gather(some, np.zeros_like(some)).to(device))
            second = out.label_logits if recipe.objective == "single_head" else out.distill_logits
            chosen = torch.stack([logits.argmax(dim=1) for logits in (out.label_logits, second)], dim=1)
            mixed = mixture(
                out.label_logits,
                out.distill_logits,
                label_weight=label_weight(recipe, distillation),
                distill_temperature=recipe.distill_temperature,
            )
            heads, probabilities = filled(heads, chosen, start), filled(probabilities, mixed, start)
            if features:
                pooled = filled(pooled, out.features, start)
    assert heads is not None
    assert probabilities is not None
    sums = [array.sum(dim=1) for array in (probabilities, pooled) if array is not None]
    if broken := count_broken(torch.stack(sums, dim=1)):
        raise InputError(f"predictions of {broken} of {len(rows)} rows are not finite; expected: {converging(recipe)}")
    return Prediction(probabilities, pooled, heads.T)
