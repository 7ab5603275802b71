"""The fits of a cohort: students on one frozen backbone, trained together as one batched product."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.aligned import LANES, pad
from activekd.bank.views import ViewSource
from activekd.datasets import Labeled
from activekd.devices import one_thread
from activekd.errors import InputError
from activekd.losses import dual_head_loss
from activekd.recipes import Distillation, Recipe, ViewGeometry, learning_rate
from activekd.students.draws import draw
from activekd.students.fit import Guide, check_fitted, distils
from activekd.students.heads import Student
from activekd.teachers.classifier import Classifier

COHORT_BYTES = 225_000_000
"""Most memory, as estimated, of the students that are fitted together.

With predictions and queries a cohort of adapters then stays within 0.25 GB beyond the banked features.
"""

MOST_TOGETHER = 16
"""Most students that are fitted together; more are no faster on a CPU."""


@dataclass(frozen=True)
class MemberFit:
    """One student of a cohort at the start of its fit.

    Attributes:
        student: with a frozen backbone; trained in place.
        labeled: labeled rows and their labels.
        unlabeled: the unlabeled rows.
        guide: the fitted teacher, with the same views for all members; None without distillation.
        rng: draws the batches.
    """

    student: Student
    labeled: Labeled
    unlabeled: Int64[np.ndarray, " unlabeled"]
    guide: Guide | None
    rng: np.random.Generator


def together(dim: int, n_classes: int, recipe: Recipe, *, trunk: bool, steps: int) -> int:
    """Members that are fitted together within COHORT_BYTES, 1 to MOST_TOGETHER.

    A function of shapes alone, never of the number of members: on a GPU, whose kernels may round otherwise for another
    number of members, every fit has this width.

    Args:
        dim: width of the banked features.
        n_classes: number of classes.
        recipe: sizes of the batches, width of the trunk.
        trunk: whether the students have a trunk.
        steps: of the fit.
    """
    batch = recipe.batch_labeled + recipe.batch_unlabeled
    width = recipe.trunk_width if trunk else dim
    folded = dim * width if trunk else 0
    parameters = folded + 2 * dim * trunk + width * trunk + 2 * (width + 1) * n_classes
    activations = batch * (3 * dim + 4 * width * trunk + 10 * n_classes)
    drawn = 2 * 8 * steps * batch
    return int(np.clip(COHORT_BYTES // (4 * (4 * parameters + 6 * folded + activations) + 2 * drawn), 1, MOST_TOGETHER))


class _Stacked:
    """The parameters of equally shaped students, each as one leaf over all members, padded to whole LANES.

    Weights have their inputs first, (members, inputs, outputs): the gradient of a batched product then has the layout
    of its weight. Inputs and the width of the trunk fill pairs of registers, as GELU's kernel reads them. Zeros stay
    zero, since their gradients are.
    """

    def __init__(self, students: Sequence[Student], device: str) -> None:
        self._students = students
        self.leaves: dict[str, Tensor] = {}
        for name, _ in students[0].named_parameters():
            values = torch.stack([_inputs_first(student.get_parameter(name).detach()) for student in students])
            if values.dim() == 3:
                values = pad(values, -2, 2 * LANES)
            values = pad(values, -1, 2 * LANES if name.startswith("backbone") else LANES)
            self.leaves[name] = values.to(device).contiguous().requires_grad_()

    def write_back(self) -> None:
        """Copy the parameters into the students."""
        with torch.no_grad():
            for name, leaf in self.leaves.items():
                for student, value in zip(self._students, leaf, strict=True):
                    parameter = _inputs_first(student.get_parameter(name))
                    parameter.copy_(value[tuple(map(slice, parameter.shape))])


def _inputs_first(parameter: Tensor) -> Tensor:
    return parameter.mT if parameter.dim() == 2 else parameter


def _forward(
    weights: Mapping[str, Tensor],
    features: Float32[Tensor, "members batch dim"],
    n_classes: int,
    *,
    n_labeled: int,
    first: int,
) -> tuple[Float32[Tensor, "members labeled classes"], Float32[Tensor, "members distilled classes"]]:
    """Logits of the label head on the labeled images, and of the distill head on those from ``first`` on.

    They are as ``Student`` computes them.

    The scale and shift of the LayerNorm are folded into the linear layer, which saves the product with its weights in
    the backward pass: the normalised features need no gradient.
    """
    if "backbone.norm.weight" in weights:
        weight, scale, shift = (weights[f"backbone.{name}"] for name in ("linear.weight", "norm.weight", "norm.bias"))
        bias = torch.bmm(shift[:, None], weight) + weights["backbone.linear.bias"][:, None]
        normalised = pad(F.layer_norm(features, features.shape[-1:]), -1, 2 * LANES)
        inputs = F.gelu(torch.baddbmm(bias, normalised, scale[:, :, None] * weight))
    else:
        inputs = pad(features, -1, 2 * LANES)

    def head(name: str, inputs: Tensor) -> Tensor:
        out = torch.baddbmm(weights[f"{name}.bias"][:, None], inputs, weights[f"{name}.weight"])
        return out[..., :n_classes]

    return head("label_head", inputs[:, :n_labeled]), head("distill_head", inputs[:, first:])


@one_thread()
def fit_cohort(
    fits: Sequence[MemberFit],
    inputs: ViewSource,
    distillation: Distillation,
    recipe: Recipe,
    geometry: ViewGeometry,
    *,
    device: str = "cpu",
) -> list[InputError | None]:
    """Train the students of a cohort in place on the dual-head objective, as ``fit_student`` trains one; last iterate.

    The members are stacked: each layer is one batched product over all, and one AdamW updates all. A member's weights
    are the same, bit for bit, alone, in any company and in any order, on one kind of device, if the number of members
    is the same (cuda) or not (cpu). What one member computes never reaches another.

    Args:
        fits: with equally many labeled and equally many unlabeled rows; at most ``together`` of them.
        inputs: banked features of the train split.
        distillation: images on which the students distil the teacher.
        recipe: hyperparameters of the fits.
        geometry: its training views are drawn from.
        device: where to train, in float32.

    Returns:
        For each member, why its fit ended in weights that are not finite; None where they are.

    Raises:
        InputError: no labeled rows.
        ValueError: a teacher without distillation, or distillation without a teacher.
    """
    on_labeled, on_unlabeled = distils(fits[0].guide, distillation, len(fits[0].unlabeled))
    drawn = [draw(f.labeled, f.unlabeled, recipe, geometry, with_unlabeled=on_unlabeled, rng=f.rng) for f in fits]
    steps, n = drawn[0].steps, drawn[0].n_labeled
    rows = np.stack([draws.rows for draws in drawn], axis=1)
    views = np.stack([draws.views for draws in drawn], axis=1)
    labels = torch.from_numpy(np.stack([draws.labels for draws in drawn], axis=1)).to(device)
    first = 0 if on_labeled else n
    targets = _targets(fits, rows[:, :, first:], views[:, :, first:], device)
    rows, views = rows.reshape(steps, -1), views.reshape(steps, -1)
    stacked = _Stacked([fit.student for fit in fits], device)
    optimiser = torch.optim.AdamW(stacked.leaves.values(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    weights = (recipe.weight_ce, recipe.weight_kd_labeled, recipe.weight_kd_unlabeled)
    n_classes = fits[0].student.label_head.out_features
    for step, features in enumerate(inputs.batches(rows, views)):
        batch = features.to(device).float().unflatten(0, (len(fits), -1))
        label_logits, distill_logits = _forward(stacked.leaves, batch, n_classes, n_labeled=n, first=first)
        teacher_labeled = teacher_unlabeled = None
        if targets is not None:
            logits = next(targets)
            teacher_labeled = logits[:, : n - first] if on_labeled else None
            teacher_unlabeled = logits[:, n - first :] if on_unlabeled else None
        loss = dual_head_loss(
            label_logits,
            labels[step],
            distill_logits[:, : n - first] if on_labeled else None,
            teacher_labeled,
            distill_logits[:, n - first :] if on_unlabeled else None,
            teacher_unlabeled,
            weights=weights,
            temperature=recipe.temperature,
        )
        optimiser.param_groups[0]["lr"] = learning_rate(recipe, step, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    stacked.write_back()
    return [_fault(fit, recipe, steps) for fit in fits]


def _targets(
    fits: Sequence[MemberFit],
    rows: Int64[np.ndarray, "steps members batch"],
    views: Int64[np.ndarray, "steps members batch"],
    device: str,
) -> Iterator[Float32[Tensor, "members batch classes"]] | None:
    """Teacher logits of each step; None without a teacher."""
    guides = [fit.guide for fit in fits if fit.guide is not None]
    if not guides:
        return None
    guide = Guide(guides[0].views, Classifier.stack([guide.classifier for guide in guides]).to(device))
    return guide.batches(rows.reshape(len(rows), -1), views.reshape(len(views), -1))


def _fault(fit: MemberFit, recipe: Recipe, steps: int) -> InputError | None:
    try:
        check_fitted(fit.student, recipe, f"{steps} steps on {len(fit.labeled.rows)} labeled rows")
    except InputError as fault:
        return fault
    return None
