"""Hyperparameters of a fit, geometry of its views, and learning-rate schedules. Standard library only."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, get_args

from activekd.errors import InputError, unknown

StepRule = Literal["fixed", "per_label", "per_pool", "images"]
Schedule = Literal["linear", "cosine"]
SingleView = Literal["targets", "inputs"]
BatchNorm = Literal["trained", "frozen"]
Distillation = Literal["none", "labeled", "unlabeled", "both"]
Objective = Literal["dual_head", "single_head", "pseudo_label", "uda", "fixmatch", "freematch", "softmatch"]

SEMI_SUPERVISED: tuple[Objective, ...] = ("pseudo_label", "uda", "fixmatch", "freematch", "softmatch")
"""Objectives that train the label head on unlabeled images by its own predictions, with and without a teacher."""

TWO_VIEWS: tuple[Objective, ...] = ("uda", "fixmatch", "freematch", "softmatch")
"""Those of them that predict a weak view of an unlabeled image, and learn the prediction on a strong view."""

BEFORE_OBJECTIVES = "batch_norm"
"""The last field of a recipe without objectives; ids of trials leave out later fields with their defaults."""

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
    """Hyperparameters of one student fit and of its prediction; AdamW on the loss of an objective.

    Attributes:
        lr: peak learning rate of AdamW.
        weight_decay: decoupled weight decay.
        steps: optimiser steps, in the unit of ``step_rule``.
        step_rule: ``fixed`` (``steps`` in every round), ``per_label`` (``steps`` per full labeled batch:
            steps x ceil(n_labeled / batch_labeled)), ``per_pool`` (``steps`` passes over the unlabeled pool) or
            ``images`` (as many steps as fit into steps x (batch_labeled + batch_unlabeled) forward passes of an image,
            counted by ``images_a_step``; all objectives then spend equal compute).
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
        objective: what the student minimises; ``activekd.objectives`` has the equations. ``dual_head``: cross-entropy
            on the label head, distillation on the distill head. ``single_head``: both on the label head, which predicts
            alone. The others train the label head on unlabeled images too, and keep the distillation of ``dual_head``.
        weight_consistency: weight of the term on unlabeled images of a semi-supervised objective.
        confidence: probability from which a prediction is learned: ``pseudo_label``, ``uda``, ``fixmatch``.
        ramp: share of the steps over which the terms of a semi-supervised objective grow linearly to their weights.
        sharpening: temperature of the targets of ``uda``.
        ema: momentum of the running statistics of ``freematch`` and ``softmatch``.
        weight_fairness: weight of the fairness term of ``freematch``.
        n_sigma: ``softmatch`` divides the standard deviation of its Gaussian by it.
        feature_dropout: share of the numbers that are 0 in a strong view of banked features.
        weight_feature: weight of the cosine distance of projected student features to the teacher's features.
        weight_feature_direction: weight of the norm-and-direction loss of projected student features.

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
    objective: Objective = "dual_head"
    weight_consistency: float = 1.0
    confidence: float = 0.95
    ramp: float = 0.0
    sharpening: float = 0.4
    ema: float = 0.999
    weight_fairness: float = 0.01
    n_sigma: float = 2.0
    feature_dropout: float = 0.2
    weight_feature: float = 0.0
    weight_feature_direction: float = 0.0

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
            weight_consistency=(self.weight_consistency >= 0, "at least 0"),
            confidence=(0 <= self.confidence <= 1, "0 to 1"),
            ramp=(0 <= self.ramp <= 1, "0 to 1"),
            sharpening=(self.sharpening > 0, "more than 0"),
            ema=(0 <= self.ema < 1, "0 to below 1"),
            weight_fairness=(self.weight_fairness >= 0, "at least 0"),
            n_sigma=(self.n_sigma > 0, "more than 0"),
            feature_dropout=(0 <= self.feature_dropout < 1, "0 to below 1"),
            weight_feature=(self.weight_feature >= 0, "at least 0"),
            weight_feature_direction=(self.weight_feature_direction >= 0, "at least 0"),
        )
        if self.objective not in get_args(Objective):
            raise unknown("objective", self.objective, get_args(Objective))

    @property
    def content(self) -> dict[str, Any]:
        """All that defines its numbers, for an id; fields after BEFORE_OBJECTIVES where they are not the default."""
        names = [f.name for f in fields(self)]
        later = {f.name: f.default for f in fields(self)[names.index(BEFORE_OBJECTIVES) + 1 :]}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}

    @property
    def is_semi_supervised(self) -> bool:
        """Whether the label head is trained on unlabeled images, with or without a teacher."""
        return self.objective in SEMI_SUPERVISED

    @property
    def has_strong_views(self) -> bool:
        """Whether a step has a strong view of each unlabeled image, besides the weak one."""
        return self.objective in TWO_VIEWS

    @property
    def has_feature_terms(self) -> bool:
        """Whether the student's features are trained towards the teacher's, where there is one."""
        return self.weight_feature > 0 or self.weight_feature_direction > 0

    def unlabeled_a_step(self, distillation: Distillation) -> int:
        """Unlabeled images of a step: ``batch_unlabeled`` if the objective or the distillation reads them, else 0."""
        reads = self.is_semi_supervised or distillation in {"unlabeled", "both"}
        return self.batch_unlabeled if reads else 0

    def images_a_step(self, distillation: Distillation) -> int:
        """Images of a step that pass through the student, while some images are unlabeled.

        The labeled batch; the unlabeled batch if the objective or the distillation reads it; and the unlabeled batch
        once more in strong views if the objective has them. The teacher's features are banked and count nothing.
        """
        return self.batch_labeled + self.unlabeled_a_step(distillation) * (1 + self.has_strong_views)

    def forward_passes(self, n_labeled: int, n_unlabeled: int, distillation: Distillation) -> int:
        """Images that pass through the student in a fit, each as often as it does; predictions are not counted.

        Raises:
            InputError: no labeled images.
        """
        images = self.images_a_step(distillation) if n_unlabeled > 0 else self.batch_labeled
        return self.n_steps(n_labeled, n_unlabeled, distillation) * images

    def n_steps(self, n_labeled: int, n_unlabeled: int, distillation: Distillation = "both") -> int:
        """Optimiser steps of a fit on ``n_labeled`` and ``n_unlabeled`` images; at least 1.

        ``distillation`` decides with ``step_rule = "images"`` alone, where a step without unlabeled images is smaller.

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
            case "images":
                images = self.images_a_step(distillation) if n_unlabeled > 0 else self.batch_labeled
                return max(1, self.steps * (self.batch_labeled + self.batch_unlabeled) // images)


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


def one_view(recipe: Recipe, found: str) -> str:
    """The message for strong views of features that have one view.

    Args:
        recipe: its objective is named.
        found: what there is, such as ``one view``.
    """
    return (
        f"objective '{recipe.objective}' on features with {found}; expected: a view geometry with count at least 2, "
        f"since a strong view of features is another crop, or an objective of one view, as pseudo_label"
    )


def ramp_up(recipe: Recipe, step: int, total: int) -> float:
    """The factor on the terms of a semi-supervised objective in a step, counted from 0.

    It grows linearly to 1 over the first ``ramp`` share of the steps (Lee 2013, who begins at 0 a while later).
    """
    rising = round(recipe.ramp * total)
    return min(1.0, (step + 1) / rising) if rising else 1.0
