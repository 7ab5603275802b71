"""The fit of one student on the dual-head objective."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from activekd.bank.views import Views, ViewSource
from activekd.datasets import Labeled
from activekd.devices import naming_memory
from activekd.errors import InputError
from activekd.losses import dual_head_loss
from activekd.recipes import Distillation, Recipe, ViewGeometry, learning_rate
from activekd.streams import torch_seed
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
from activekd.teachers.classifier import Classifier


@dataclass(frozen=True)
class Guide:
    """The fitted teacher as the student's fit reads it: banked features of the train views, and a classifier.

    Attributes:
        views: image features of the train split.
        classifier: of the round, on the device of the fit; a stack of those of the members for a cohort.
    """

    views: Views
    classifier: Classifier

    def batches(
        self, rows: Int64[np.ndarray, "steps batch"], views: Int64[np.ndarray, "steps batch"]
    ) -> Iterator[Float32[Tensor, "*members batch classes"]]:
        """Teacher logits of the student's crops, step by step; of view 0 where the teacher has a single view.

        For a cohort, the batch of each step holds those of the members, one after the other.
        """
        if len(self.views) == 1:
            views = np.zeros_like(views)
        for features in self.views.batches(rows, views):
            yield self.classifier.logits(features.to(self.classifier.device).unflatten(0, (*self.classifier.shape, -1)))


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
    """Train the student in place on the dual-head objective (PCoreSet, Kang et al. 2025, Section 3); last iterate.

    Every step draws labeled rows, and unlabeled rows if ``distillation`` includes them, uniformly with replacement,
    each in a random training view; student and teacher see the same crop. Both batches pass through the student
    together. All draws are made before the first step, and no step waits for the device.

    A step that exceeds the memory of a trial is cut into micro-batches, each with an equal share of the labeled and of
    the unlabeled images; their losses are weighted so that the gradients add up to those of the whole batch. Departure:
    BatchNorm then normalises each micro-batch by its own statistics, as with a smaller batch (ghost batches, Hoffer et
    al. 2017); its running statistics are updated once a micro-batch, with a momentum that forgets as much in a step as
    before. For networks without BatchNorm the step is that of the whole batch up to rounding. The number follows from
    the network, the batch and the memory of the trial, so it is the same in every run on a card and a share of it.

    Args:
        student: the student at the start of the round.
        inputs: the student's inputs of the train split.
        labeled: labeled rows and their labels.
        unlabeled: the unlabeled rows.
        guide: the fitted teacher; None exactly when ``distillation`` is ``none``.
        distillation: images on which the student distils the teacher.
        recipe: hyperparameters of the fit.
        geometry: its training views are drawn from.
        rng: draws the batches, and the seed of a backbone's own draws, such as dropout; labeled and unlabeled batches
            have separate streams.
        device: where to train; on ``cuda`` a backbone runs in bfloat16 by autocast, heads and losses in float32.
        micro_batches: of a step; None for the least number that fits the memory of the trial on ``cuda``, and for 1 on
            other devices.

    Raises:
        InputError: no labeled rows, weights that are not finite after the fit, or too little device memory.
        ValueError: a teacher without distillation, or distillation without a teacher.
    """
    on_labeled, on_unlabeled = distils(guide, distillation, len(unlabeled))
    draws = draw(labeled, unlabeled, recipe, geometry, with_unlabeled=on_unlabeled, rng=rng)
    n, batch = draws.n_labeled, draws.rows.shape[1]
    parts = _parts(student, inputs.shape, n, batch - n, device) if micro_batches is None else micro_batches
    first = 0 if on_labeled else n
    with (
        naming_memory(f"a training step on {batch} images in {parts} micro-batches"),
        _seeded(torch_seed(rng.spawn(1)[0]), device),
        batch_norm_of_parts(student, parts),
    ):
        student.to(device).train()
        with graphed(student, batch, inputs.shape, device) if parts == 1 else nullcontext():
            targets = None if guide is None else guide.batches(draws.rows[:, first:], draws.views[:, first:])
            distilled = {"on_labeled": on_labeled, "on_unlabeled": on_unlabeled}
            _train(student, inputs, draws, targets, recipe, parts, device, **distilled)
    check_fitted(student, recipe, f"{draws.steps} steps on {len(labeled.rows)} labeled rows")


def _parts(student: Student, shape: tuple[int, ...], labeled: int, unlabeled: int, device: str) -> int:
    """The least number of micro-batches that fits; 1 for features, and where no memory bounds the step."""
    budget = step_budget(device)
    if budget is None or len(shape) == 1:
        return 1
    return n_micro_batches(memory_of(student.backbone, shape), labeled, unlabeled, budget)


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
    targets: Iterator[Tensor] | None,
    recipe: Recipe,
    parts: int,
    device: str,
    *,
    on_labeled: bool,
    on_unlabeled: bool,
) -> None:
    """The steps of a fit: ``targets`` are the teacher logits of the labeled images if ``on_labeled``, then the others.

    The optimiser is AdamW. A loss term of a micro-batch is weighted by its share of the images of the term.
    """
    n, batch = draws.n_labeled, draws.rows.shape[1]
    optimiser = torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    labels = torch.from_numpy(draws.labels).to(device)
    cut = parts_of_step(n, batch - n, parts)
    skipped = 0 if on_labeled else n
    for step, images in enumerate(inputs.batches(draws.rows, draws.views)):
        images = images.to(device)
        logits = None if targets is None else next(targets)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step, draws.steps)
        optimiser.zero_grad()
        for some, others in cut:
            with mixed_precision(device):
                out = student(images if parts == 1 else torch.cat([images[some], images[others]]))
            k = some.stop - some.start
            on_some, on_others = k / n, (others.stop - others.start) / max(1, batch - n)
            loss = dual_head_loss(
                out.label_logits[:k],
                labels[step, some],
                out.distill_logits[:k] if on_labeled else None,
                logits[some] if logits is not None and on_labeled else None,
                out.distill_logits[k:] if on_unlabeled else None,
                logits[others.start - skipped : others.stop - skipped] if logits is not None and on_unlabeled else None,
                weights=(
                    recipe.weight_ce * on_some,
                    recipe.weight_kd_labeled * on_some,
                    recipe.weight_kd_unlabeled * on_others,
                ),
                temperature=recipe.temperature,
            )
            loss.backward()
        optimiser.step()


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
