"""The loss of a step from the logits of its images, for one student or a cohort: which head reads which images."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from activekd.losses import dual_head_loss
from activekd.objectives.unlabeled import Running, unlabeled_loss
from activekd.recipes import Recipe


@dataclass(frozen=True)
class Terms:
    """The terms of a step, whose images are labeled ones, then unlabeled ones, then strong views of these.

    The cross-entropy and the terms of a semi-supervised objective read the label head. The distillation reads the
    distill head, or the label head with ``single_head``, on labeled images and on unlabeled ones in their drawn views.
    All terms share the backbone or the trunk.

    Attributes:
        recipe: objective, weights and temperatures.
        on_labeled: whether the step distils on its labeled images.
        on_unlabeled: whether it distils on its unlabeled images.
        n_labeled: labeled images of the step.
        n_unlabeled: unlabeled images of the step.
    """

    recipe: Recipe
    on_labeled: bool
    on_unlabeled: bool
    n_labeled: int
    n_unlabeled: int

    @property
    def weak(self) -> int:
        """Images of the step before its strong views."""
        return self.n_labeled + self.n_unlabeled

    @property
    def distilled(self) -> slice:
        """The images on which the step distils."""
        return slice(0 if self.on_labeled else self.n_labeled, self.weak if self.on_unlabeled else self.n_labeled)

    @property
    def distils(self) -> bool:
        """Whether there are such images."""
        return self.distilled.stop > self.distilled.start

    @property
    def label_images(self) -> int:
        """The first images of the step, which the label head reads."""
        if self.recipe.has_strong_views:
            return self.weak + self.n_unlabeled
        if self.recipe.is_semi_supervised or (self.recipe.objective == "single_head" and self.on_unlabeled):
            return self.weak
        return self.n_labeled

    def loss(
        self,
        label_logits: Float[Tensor, "*members images classes"],
        distill_logits: Float[Tensor, "*members distilled classes"],
        labels: Int64[Tensor, "*members labeled"],
        teacher_labeled: Float[Tensor, "*members labeled classes"] | None,
        teacher_unlabeled: Float[Tensor, "*members unlabeled classes"] | None,
        running: Running,
        *,
        shares: tuple[float, float],
        ramp: float,
        ema: float,
    ) -> tuple[Float[Tensor, ""], Running]:
        """The loss of the step without the terms on features: ``dual_head_loss``, and ``ramp`` x ``unlabeled_loss``.

        Args:
            label_logits: of the first ``label_images`` images of the step, or of more.
            distill_logits: of the images ``distilled``; ``single_head`` leaves them alone.
            labels: classes of the labeled images.
            teacher_labeled: teacher logits of the labeled images, at T = 1; None if the step does not distil on them.
            teacher_unlabeled: teacher logits of the unlabeled images, likewise.
            running: state of the objective before the step.
            shares: of a micro-batch in the labeled and in the unlabeled images of its step, by which terms are
                weighted; (1, 1) for a whole step.
            ramp: factor on the terms of a semi-supervised objective.
            ema: momentum of the state.

        Returns:
            The loss in nats, and the state after the step.
        """
        recipe, n = self.recipe, self.n_labeled
        if recipe.objective == "single_head":
            distill_logits = label_logits[..., self.distilled, :]
        first = n if self.on_labeled else 0
        on_labeled, on_unlabeled = shares
        loss = dual_head_loss(
            label_logits[..., :n, :],
            labels,
            distill_logits[..., :first, :] if self.on_labeled else None,
            teacher_labeled,
            distill_logits[..., first:, :] if self.on_unlabeled else None,
            teacher_unlabeled,
            weights=(
                recipe.weight_ce * on_labeled,
                recipe.weight_kd_labeled * on_labeled,
                recipe.weight_kd_unlabeled * on_unlabeled,
            ),
            temperature=recipe.temperature,
        )
        if not recipe.is_semi_supervised or self.n_unlabeled == 0:
            return loss, running
        strong = label_logits[..., self.weak : self.label_images, :] if recipe.has_strong_views else None
        term, running = unlabeled_loss(label_logits[..., n : self.weak, :], strong, running, recipe, ema=ema)
        return loss + ramp * on_unlabeled * term, running

    def classes(
        self,
        labels: Int64[Tensor, "*members labeled"],
        teacher_unlabeled: Float[Tensor, "*members unlabeled classes"] | None,
    ) -> Int64[Tensor, "*members distilled"]:
        """The classes of the images ``distilled``: labels, and predictions of the teacher where the step has none."""
        parts = [labels] if self.on_labeled else []
        parts += [teacher_unlabeled.argmax(dim=-1)] if teacher_unlabeled is not None else []
        return torch.cat(parts, dim=-1)
