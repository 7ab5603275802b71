"""The fit of one student on the objective of its recipe."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from activekd.bank.views import Views, ViewSource
from activekd.datasets import Labeled
from activekd.devices import naming_memory
from activekd.errors import InputError
from activekd.objectives.features import TeacherFeatures, class_centres, feature_loss, projection
from activekd.objectives.strong import feature_dropout, generators, strong
from activekd.objectives.unlabeled import Running
from activekd.recipes import Distillation, Recipe, ViewGeometry, learning_rate, ramp_up
from activekd.students.draws import Draws, draw
from activekd.students.graphs import graphed
from activekd.students.heads import Student
from activekd.students.predict import converging, mixed_precision
from activekd.students.step_memory import (
    batch_norm_of_parts,
    memory_of,
    n_micro_batches,
    parts_of_step,
    step_budget,
)
from activekd.students.terms import Terms
from activekd.teachers.classifier import Classifier


class Shown(NamedTuple):
    """What the teacher shows the student of the images of a step: features, and logits before softmax."""

    features: Tensor
    logits: Float32[Tensor, "*members batch classes"]


@dataclass(frozen=True)
class Guide:
    """The fitted teacher as the student's fit reads it: banked features of the train views, and a classifier.

    Attributes:
        views: image features of the train split.
        classifier: of the round, on the device of the fit; a stack of those of the members for a cohort.
    """

    views: Views
    classifier: Classifier

    @property
    def width(self) -> int:
        """Numbers of a feature."""
        return self.views.shape[0]

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Shown]:
        """The student's crops as the teacher sees them, step by step; view 0 where the teacher has a single view.

        For a cohort, the batch of each step holds those of the members, one after the other.
        """
        if len(self.views) == 1:
            views = np.zeros_like(views)
        for features in self.views.batches(rows, views):
            shown = features.to(self.classifier.device).unflatten(0, (*self.classifier.shape, -1))
            yield Shown(shown, self.classifier.logits(shown))

    def centres(self, labeled: Labeled) -> Float32[Tensor, "classes dim"]:
        """The unit direction of each class among the labeled images, as ``class_centres``; on the device of the fit."""
        features = self.views.gather(labeled.rows, np.zeros_like(labeled.rows)).cpu().numpy()
        return class_centres(features, labeled.labels, self.classifier.n_classes).to(self.classifier.device)


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
    micro_batches: int | None = None,
) -> None:
    """Train the student in place on the objective of the recipe; last iterate.

    Every step draws labeled rows, and unlabeled rows if the objective or ``distillation`` includes them, uniformly with
    replacement, each in a random training view; student and teacher see the same crop. All images of a step pass
    through the student together, strong views of the unlabeled rows too if the objective has them; the teacher's terms
    read none of these. All draws are made before the first step, and no step waits for the device.
    ``activekd.students.terms`` has the loss.

    A step that exceeds the memory of a trial is cut into micro-batches, each with an equal share of the labeled and of
    the unlabeled images; their losses are weighted so that the gradients add up to those of the whole batch. Departure:
    BatchNorm then normalises each micro-batch by its own statistics, as with a smaller batch (ghost batches, Hoffer et
    al. 2017); its running statistics are updated once a micro-batch, with a momentum that forgets as much in a step as
    before. So are the running statistics of FreeMatch and SoftMatch, whose thresholds then follow from micro-batches,
    as does the fairness term. For other objectives and networks without BatchNorm the step is that of the whole batch
    up to rounding. The number follows from the network, the batch and the memory of the trial, so it is the same in
    every run on a card and a share of it.

    Args:
        student: the student at the start of the round.
        inputs: the student's inputs of the train split.
        labeled: labeled rows and their labels.
        unlabeled: the unlabeled rows.
        guide: the fitted teacher; None exactly when ``distillation`` is ``none``.
        distillation: images on which the student distils the teacher.
        recipe: hyperparameters of the fit.
        geometry: its training views are drawn from.
        rng: draws the batches, and the seed of a backbone's own draws, such as dropout; labeled, unlabeled and strong
            batches have separate streams.
        device: where to train; on ``cuda`` a backbone runs in bfloat16 by autocast, heads and losses in float32.
        micro_batches: of a step; None for the least number that fits the memory of the trial on ``cuda``, and for 1 on
            other devices.

    Raises:
        InputError: no labeled rows, strong views of features that have one view, weights that are not finite after the
            fit, or too little device memory.
        ValueError: a teacher without distillation, or distillation without a teacher.
    """
    on_labeled, on_unlabeled = distils(guide, distillation, len(unlabeled))
    draws = draw(labeled, unlabeled, recipe, geometry, distillation, features=len(inputs.shape) == 1, rng=rng)
    terms = Terms(recipe, on_labeled, on_unlabeled, draws.n_labeled, draws.n_unlabeled)
    batch = draws.rows.shape[1]
    parts = _parts(student, inputs.shape, terms, device) if micro_batches is None else micro_batches
    with (
        naming_memory(f"a training step on {batch} images in {parts} micro-batches"),
        _seeded(draws.network_seed, device),
        batch_norm_of_parts(student, parts),
    ):
        student.to(device).train()
        with graphed(student, batch, inputs.shape, device) if parts == 1 else nullcontext():
            shown, matching = None, None
            if guide is not None:
                shown = guide.batches(draws.rows[:, terms.distilled], draws.views[:, terms.distilled])
                if recipe.has_feature_terms and terms.distils:
                    linear = projection(student.label_head.in_features, guide.width, draws.projection_seed)
                    matching = Matching(linear.to(device), guide.centres(labeled))
            _train(student, inputs, draws, shown, matching, terms, parts, device)
    check_fitted(student, recipe, f"{draws.steps} steps on {len(labeled.rows)} labeled rows")


class Matching(NamedTuple):
    """How features of the student are compared with the teacher's: a trained projection, and directions of classes."""

    projection: nn.Linear
    centres: Float32[Tensor, "classes dim"]


def _parts(student: Student, shape: tuple[int, ...], terms: Terms, device: str) -> int:
    """The least number of micro-batches that fits; 1 for features, and where no memory bounds the step."""
    budget = step_budget(device)
    if budget is None or len(shape) == 1:
        return 1
    memory, views = memory_of(student.backbone, shape), 1 + terms.recipe.has_strong_views
    return n_micro_batches(memory, terms.n_labeled, terms.n_unlabeled, budget, views=views)


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Torch's generators start from a seed inside the block and go on after it as if it had not been."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _train(
    student: Student,
    inputs: ViewSource,
    draws: Draws,
    shown: Iterator[Shown] | None,
    matching: Matching | None,
    terms: Terms,
    parts: int,
    device: str,
) -> None:
    """The steps of a fit: ``shown`` are the images on which it distils.

    The optimiser is AdamW. A loss term of a micro-batch is weighted by its share of the images of the term.
    """
    recipe = terms.recipe
    n, u = terms.n_labeled, terms.n_unlabeled
    trained = [*student.parameters(), *(matching.projection.parameters() if matching is not None else ())]
    optimiser = torch.optim.AdamW(trained, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    labels = torch.from_numpy(draws.labels).to(device)
    cut = parts_of_step(n, u, parts)
    skipped = terms.distilled.start
    running = Running.start((), student.label_head.out_features, device)
    for step, images in enumerate(_images(inputs, draws, recipe, device)):
        of_step = None if shown is None else next(shown)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step, draws.steps)
        optimiser.zero_grad()
        for some, others in cut:
            again = slice(others.start + u, others.stop + u)
            with mixed_precision(device):
                out = student(images if parts == 1 else torch.cat([images[some], images[others], images[again]]))
            part = replace(terms, n_labeled=some.stop - some.start, n_unlabeled=others.stop - others.start)
            teacher_labeled = teacher_unlabeled = None
            if of_step is not None:
                teacher_labeled = of_step.logits[some] if terms.on_labeled else None
                teacher_unlabeled = (
                    of_step.logits[others.start - skipped : others.stop - skipped] if terms.on_unlabeled else None
                )
            loss, running = part.loss(
                out.label_logits,
                out.distill_logits[part.distilled],
                labels[step, some],
                teacher_labeled,
                teacher_unlabeled,
                running,
                shares=(part.n_labeled / n, part.n_unlabeled / max(1, u)),
                ramp=ramp_up(recipe, step, draws.steps),
                ema=recipe.ema ** (1 / parts),
            )
            if matching is not None and of_step is not None:
                chosen = of_step.features
                if parts > 1:
                    pieces = [some] if terms.on_labeled else []
                    pieces += [slice(others.start - skipped, others.stop - skipped)] if terms.on_unlabeled else []
                    chosen = torch.cat([chosen[piece] for piece in pieces])
                classes = part.classes(labels[step, some], teacher_unlabeled)
                projected = matching.projection(out.features[part.distilled])
                of_teacher = TeacherFeatures(chosen, classes, matching.centres)
                loss = loss + len(chosen) / len(of_step.features) * feature_loss(projected, of_teacher, recipe)
            loss.backward()
        optimiser.step()


def _images(inputs: ViewSource, draws: Draws, recipe: Recipe, device: str) -> Iterator[Tensor]:
    """The images of each step on the device: labeled, unlabeled, and strong views of the unlabeled ones."""
    weak, masks = draws.weak, generators([draws.dropout_seed], device)
    numbers = None if draws.numbers is None else torch.from_numpy(draws.numbers).to(device)
    for step, images in enumerate(inputs.batches(draws.rows, draws.views)):
        images = images.to(device)
        if images.shape[0] > weak:
            if numbers is None:
                images = images.float()
                others = feature_dropout(images[weak:], recipe.feature_dropout, masks)
            else:
                others = strong(images[weak:], numbers[step])
            images = torch.cat([images[:weak], others])
        yield images


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
