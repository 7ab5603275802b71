"""Hyperparameters of a fit, geometry of its views, and learning-rate schedules. Standard library only."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from activekd.errors import InputError

StepRule = Literal["fixed", "per_label", "per_pool"]
Schedule = Literal["linear", "cosine"]
SingleView = Literal["targets", "inputs"]
BatchNorm = Literal["trained", "frozen"]
Distillation = Literal["none", "labeled", "unlabeled", "both"]

NO_TEACHER = "none"
"""Name of training without a teacher, in specs and tables."""

FORBID_UNKNOWN_KEYS = {"extra": "forbid"}
"""Configuration by which pydantic refuses unknown keys of a spec."""


def _require(owner: object, **bounds: tuple[bool, str]) -> None:
    for name, (holds, expected) in bounds.items():
        value = getattr(owner, name)
        if not holds or value == math.inf:
            raise InputError(f"{type(owner).__name__}.{name} is {value!r}; expected: {expected}, finite")


@dataclass(frozen=True)
class ClapRecipe:
    """Optimisation of the CLAP teacher (Silva-Rodriguez et al. 2024), SGD over the labeled images.

    Attributes:
        lr: peak learning rate.
        momentum: momentum of SGD.
        epochs: passes over the labeled images.
        batch: images per step.
        warmup: fraction of the steps with linearly growing learning rate; it then falls linearly to 0.

    Raises:
        InputError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = FORBID_UNKNOWN_KEYS

    lr: float
    momentum: float
    epochs: int
    batch: int
    warmup: float

    def __post_init__(self) -> None:
        _require(
            self,
            lr=(self.lr > 0, "more than 0"),
            momentum=(0 <= self.momentum < 1, "0 to below 1"),
            epochs=(self.epochs >= 1, "at least 1"),
            batch=(self.batch >= 1, "at least 1"),
            warmup=(0 <= self.warmup <= 1, "0 to 1"),
        )


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one student fit and of its prediction; AdamW on the dual-head loss.

    Attributes:
        lr: peak learning rate of AdamW.
        weight_decay: decoupled weight decay.
        steps: optimiser steps, in the unit of ``step_rule``.
        step_rule: ``fixed`` (``steps`` in every round), ``per_label`` (``steps`` per full labeled batch:
            steps x ceil(n_labeled / batch_labeled)) or ``per_pool`` (``steps`` passes over the unlabeled pool).
        schedule: ``linear`` or ``cosine`` decay to 0 after the warm-up.
        warmup: fraction of the steps with linearly growing learning rate.
        batch_labeled: labeled images per step, drawn uniformly with replacement.
        batch_unlabeled: unlabeled images per step, drawn uniformly with replacement.
        weight_ce: weight of the cross-entropy of the label head.
        weight_kd_labeled: weight of the distillation loss on labeled images.
        weight_kd_unlabeled: weight of the distillation loss on unlabeled images.
        temperature: temperature T of the distillation loss, which is scaled by T^2.
        label_weight: weight of the label head in the predicted mixture; the distill head has the rest.
        distill_temperature: temperature of the distill head inside the predicted mixture.
        single_view: where the teacher has features of view 0 alone: ``targets`` distils every view of the student
            towards the teacher's logits of view 0; ``inputs`` trains the student on view 0 alone.
        clap: optimisation of the CLAP teacher.
        trunk_width: width of the trunk of an ``adapter:`` student; other students have none.
        batch_norm: of a student that is trained end to end. ``trained``, as in the paper: it normalises by the
            statistics of the batch, predictions by their running mean, and trains scale and shift. ``frozen``: all of
            it stays as pretrained, which is better where few labels make poor statistics; a backbone without
            pretrained weights then has no normalisation.

    Raises:
        InputError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = FORBID_UNKNOWN_KEYS

    lr: float
    weight_decay: float
    steps: int
    step_rule: StepRule
    schedule: Schedule
    warmup: float
    batch_labeled: int
    batch_unlabeled: int
    weight_ce: float
    weight_kd_labeled: float
    weight_kd_unlabeled: float
    temperature: float
    label_weight: float
    distill_temperature: float
    single_view: SingleView
    clap: ClapRecipe
    trunk_width: int = 256
    batch_norm: BatchNorm = "trained"

    def __post_init__(self) -> None:
        _require(
            self,
            lr=(self.lr > 0, "more than 0"),
            weight_decay=(self.weight_decay >= 0, "at least 0"),
            steps=(self.steps >= 1, "at least 1"),
            warmup=(0 <= self.warmup <= 1, "0 to 1"),
            batch_labeled=(self.batch_labeled >= 1, "at least 1"),
            batch_unlabeled=(self.batch_unlabeled >= 1, "at least 1"),
            weight_ce=(self.weight_ce >= 0, "at least 0"),
            weight_kd_labeled=(self.weight_kd_labeled >= 0, "at least 0"),
            weight_kd_unlabeled=(self.weight_kd_unlabeled >= 0, "at least 0"),
            temperature=(self.temperature > 0, "more than 0"),
            label_weight=(0 <= self.label_weight <= 1, "0 to 1"),
            distill_temperature=(self.distill_temperature > 0, "more than 0"),
            trunk_width=(self.trunk_width >= 1, "at least 1"),
        )

    def n_steps(self, n_labeled: int, n_unlabeled: int) -> int:
        """Optimiser steps of a fit on ``n_labeled`` and ``n_unlabeled`` images; at least 1.

        Raises:
            InputError: no labeled images.
        """
        if n_labeled < 1:
            raise InputError(f"a fit on {n_labeled} labeled images; expected: at least 1 (shots)")
        match self.step_rule:
            case "fixed":
                return self.steps
            case "per_label":
                return self.steps * -(-n_labeled // self.batch_labeled)
            case "per_pool":
                return max(1, self.steps * -(-n_unlabeled // self.batch_unlabeled))


@dataclass(frozen=True)
class ViewGeometry:
    """The deterministic crops of an image: view 0 is the centred square; the others are random resized crops.

    Attributes:
        count: views per image, view 0 included; training draws from views 1 to count - 1 (view 0 if it is alone).
        scale: smallest and largest area of a crop as a fraction of the image.
        ratio: smallest and largest aspect ratio (width / height) of a crop.
        flip: probability of a horizontal flip, 0 where the mirror image has another meaning, as for digits.

    Raises:
        InputError: a number is out of its range.
    """

    __pydantic_config__: ClassVar = FORBID_UNKNOWN_KEYS

    count: int
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float

    def __post_init__(self) -> None:
        low, high = self.scale
        narrow, wide = self.ratio
        _require(
            self,
            count=(self.count >= 1, "at least 1"),
            scale=(0 < low <= high <= 1, "0 < smallest <= largest <= 1"),
            ratio=(0 < narrow <= wide, "0 < smallest <= largest"),
            flip=(0 <= self.flip <= 1, "0 to 1"),
        )

    @property
    def training(self) -> range:
        """The view numbers that training draws from."""
        return range(1, self.count) if self.count > 1 else range(1)


def linear_schedule(step: int, total: int, warmup: float) -> float:
    """Factor on the peak learning rate: linear growth in the first ``warmup`` share of the steps, then linear to 0.

    Args:
        step: number of the step, from 0.
        total: number of steps.
        warmup: share of the steps, in [0, 1].
    """
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """The learning rate of a step, counted from 0: linear warm-up, then linear or cosine decay to 0."""
    if recipe.schedule == "linear":
        return recipe.lr * linear_schedule(step, total, recipe.warmup)
    rising = round(recipe.warmup * total)
    if step < rising:
        return recipe.lr * (step + 1) / rising
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
