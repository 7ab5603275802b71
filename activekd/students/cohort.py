"""The fits of a cohort: students on one frozen backbone, trained together as one batched product."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from activekd.aligned import LANES, pad
from activekd.bank.views import ViewSource
from activekd.datasets import Labeled
from activekd.devices import one_thread
from activekd.errors import InputError
from activekd.objectives.features import TeacherFeatures, feature_loss, projection
from activekd.objectives.strong import feature_dropout, generators
from activekd.objectives.unlabeled import Running
from activekd.recipes import Distillation, Recipe, ViewGeometry, learning_rate, ramp_up
from activekd.students.draws import Draws, draw
from activekd.students.fit import Guide, check_fitted, distils
from activekd.students.heads import Student
from activekd.students.terms import Terms
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


def together(
    dim: int,
    n_classes: int,
    recipe: Recipe,
    *,
    trunk: bool,
    steps: int,
    teacher_width: int = 0,
    teacher_numbers: int = 0,
) -> int:
    """Members that are fitted together within COHORT_BYTES, 1 to MOST_TOGETHER.

    A function of shapes alone, never of the number of members: on a GPU, whose kernels may round otherwise for another
    number of members, every fit has this width.

    Args:
        dim: width of the banked features.
        n_classes: number of classes.
        recipe: sizes of the batches, width of the trunk.
        trunk: whether the students have a trunk.
        steps: of the fit.
        teacher_width: width of the teacher's features; 0 without a teacher. Terms on features read them.
        teacher_numbers: that a fit of the teacher holds, by ``activekd.teachers.fixed.fit_numbers``.
    """
    batch = recipe.batch_labeled + recipe.batch_unlabeled * (1 + recipe.has_strong_views)
    width = recipe.trunk_width if trunk else dim
    folded = dim * width if trunk else 0
    parameters = folded + 2 * dim * trunk + width * trunk + 2 * (width + 1) * n_classes
    activations = batch * (3 * dim + 4 * width * trunk + 10 * n_classes)
    if recipe.has_feature_terms:
        parameters += (width + 1) * teacher_width
        activations += 4 * batch * teacher_width
    activations += teacher_numbers
    drawn = 2 * 8 * steps * batch
    return int(np.clip(COHORT_BYTES // (4 * (4 * parameters + 6 * folded + activations) + 2 * drawn), 1, MOST_TOGETHER))


class _Stacked:
    """The parameters of equally shaped modules, each as one leaf over all members, padded to whole LANES.

    Weights have their inputs first, (members, inputs, outputs): the gradient of a batched product then has the layout
    of its weight. Inputs and the width of the trunk fill pairs of registers, as GELU's kernel reads them. Zeros stay
    zero, since their gradients are.
    """

    def __init__(self, modules: Sequence[nn.Module], device: str) -> None:
        self._modules = modules
        self.leaves: dict[str, Tensor] = {}
        for name, _ in modules[0].named_parameters():
            values = torch.stack([_inputs_first(module.get_parameter(name).detach()) for module in modules])
            if values.dim() == 3:
                values = pad(values, -2, 2 * LANES)
            values = pad(values, -1, 2 * LANES if name.startswith("backbone") else LANES)
            self.leaves[name] = values.to(device).contiguous().requires_grad_()

    def write_back(self) -> None:
        """Copy the parameters into the modules."""
        with torch.no_grad():
            for name, leaf in self.leaves.items():
                for module, value in zip(self._modules, leaf, strict=True):
                    parameter = _inputs_first(module.get_parameter(name))
                    parameter.copy_(value[tuple(map(slice, parameter.shape))])


def _inputs_first(parameter: Tensor) -> Tensor:
    return parameter.mT if parameter.dim() == 2 else parameter


def _linear(weights: Mapping[str, Tensor], name: str, inputs: Tensor, width: int) -> Tensor:
    """A linear layer of each member on its inputs, without the padding of its ``width`` outputs."""
    out = torch.baddbmm(weights[f"{name}bias"][:, None], inputs, weights[f"{name}weight"])
    return out[..., :width]


def _pooled(
    weights: Mapping[str, Tensor], features: Float32[Tensor, "members batch dim"]
) -> Float32[Tensor, "members batch padded"]:
    """Pooled features of the students, as ``Student`` computes them, padded with zeros.

    The scale and shift of the LayerNorm are folded into the linear layer, which saves the product with its weights in
    the backward pass: the normalised features need no gradient.
    """
    if "backbone.norm.weight" not in weights:
        return pad(features, -1, 2 * LANES)
    weight, scale, shift = (weights[f"backbone.{name}"] for name in ("linear.weight", "norm.weight", "norm.bias"))
    bias = torch.bmm(shift[:, None], weight) + weights["backbone.linear.bias"][:, None]
    normalised = pad(F.layer_norm(features, features.shape[-1:]), -1, 2 * LANES)
    return F.gelu(torch.baddbmm(bias, normalised, scale[:, :, None] * weight))


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
    """Train the students of a cohort in place on the objective of the recipe, as ``fit_student`` trains one.

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
        InputError: no labeled rows, or strong views of features that have one view.
        ValueError: a teacher without distillation, or distillation without a teacher.
    """
    on_labeled, on_unlabeled = distils(fits[0].guide, distillation, len(fits[0].unlabeled))
    drawn = [draw(f.labeled, f.unlabeled, recipe, geometry, distillation, features=True, rng=f.rng) for f in fits]
    steps = drawn[0].steps
    terms = Terms(recipe, on_labeled, on_unlabeled, drawn[0].n_labeled, drawn[0].n_unlabeled)
    rows = np.stack([draws.rows for draws in drawn], axis=1)
    views = np.stack([draws.views for draws in drawn], axis=1)
    labels = torch.from_numpy(np.stack([draws.labels for draws in drawn], axis=1)).to(device)
    guide, distilled = _guide(fits, device), terms.distilled
    shown = None
    if guide is not None:
        shown = guide.batches(rows[:, :, distilled].reshape(steps, -1), views[:, :, distilled].reshape(steps, -1))
    rows, views = rows.reshape(steps, -1), views.reshape(steps, -1)
    stacked = _Stacked([fit.student for fit in fits], device)
    leaves, matching = [*stacked.leaves.values()], None
    if guide is not None and recipe.has_feature_terms and terms.distils:
        matching = _matching(fits, drawn, guide.width, device)
        leaves += matching.leaves.values()
    optimiser = torch.optim.AdamW(leaves, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    n_classes = fits[0].student.label_head.out_features
    masks = generators([draws.dropout_seed for draws in drawn], device)
    running = Running.start((len(fits),), n_classes, device)
    for step, features in enumerate(inputs.batches(rows, views)):
        batch = features.to(device).float().unflatten(0, (len(fits), -1))
        if recipe.has_strong_views:
            again = feature_dropout(batch[:, terms.weak :], recipe.feature_dropout, masks)
            batch = torch.cat([batch[:, : terms.weak], again], dim=1)
        pooled = _pooled(stacked.leaves, batch)
        of_step = None if shown is None else next(shown)
        teacher_labeled = teacher_unlabeled = None
        if of_step is not None:
            n = terms.n_labeled if on_labeled else 0
            teacher_labeled = of_step.logits[:, :n] if on_labeled else None
            teacher_unlabeled = of_step.logits[:, n:] if on_unlabeled else None
        loss, running = terms.loss(
            _linear(stacked.leaves, "label_head.", pooled[:, : terms.label_images], n_classes),
            _linear(stacked.leaves, "distill_head.", pooled[:, distilled], n_classes),
            labels[step],
            teacher_labeled,
            teacher_unlabeled,
            running,
            shares=(1.0, 1.0),
            ramp=ramp_up(recipe, step, steps),
            ema=recipe.ema,
        )
        if matching is not None and of_step is not None:
            projected = _linear(matching.leaves, "", pooled[:, distilled], of_step.features.shape[-1])
            classes = terms.classes(labels[step], teacher_unlabeled)
            of_teacher = TeacherFeatures(of_step.features, classes, matching.centres)
            loss = loss + feature_loss(projected, of_teacher, recipe)
        optimiser.param_groups[0]["lr"] = learning_rate(recipe, step, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    stacked.write_back()
    return [_fault(fit, recipe, steps) for fit in fits]


def _guide(fits: Sequence[MemberFit], device: str) -> Guide | None:
    """The teachers of all members as one; None without a teacher."""
    guides = [fit.guide for fit in fits if fit.guide is not None]
    if not guides:
        return None
    return Guide(guides[0].views, Classifier.stack([guide.classifier for guide in guides]).to(device))


class _Matching(NamedTuple):
    """How features of the students are compared with the teachers': trained projections, and directions of classes."""

    leaves: Mapping[str, Tensor]
    centres: Float32[Tensor, "members classes dim"]


def _matching(fits: Sequence[MemberFit], drawn: Sequence[Draws], width: int, device: str) -> _Matching:
    """Projections and directions before the first step; ``width`` is that of the teachers' features."""
    in_features = fits[0].student.label_head.in_features
    projections = [projection(in_features, width, draws.projection_seed) for draws in drawn]
    centres = [fit.guide.centres(fit.labeled).to(device) for fit in fits if fit.guide is not None]
    return _Matching(_Stacked(projections, device).leaves, torch.stack(centres))


def _fault(fit: MemberFit, recipe: Recipe, steps: int) -> InputError | None:
    try:
        check_fitted(fit.student, recipe, f"{steps} steps on {len(fit.labeled.rows)} labeled rows")
    except InputError as fault:
        return fault
    return None
