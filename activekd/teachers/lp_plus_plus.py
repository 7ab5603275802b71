"""The LP++ teacher: visual class prototypes plus text embeddings, blended by one trained number a class."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from activekd.aligned import LANES, pad
from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.devices import one_thread
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.teachers.classifier import Classifier
from activekd.teachers.fixed import LPP_ALPHA_EVERY, LPP_ALPHA_START, LPP_MOMENTUM, LPP_STEPS
from activekd.teachers.text_heads import TextHead


@one_thread()
def lp_plus_plus(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Sequence[Labeled],
    recipe: ClapRecipe,
    rngs: Sequence[np.random.Generator],
    device: str = "cpu",
) -> Classifier:
    """The LP++ teacher (Huang et al. 2024): a linear probe whose weights blend visual prototypes and text embeddings.

    The logits of an image with unit feature f are f . (w_c + alpha_c t_c), where t are the zero-shot text embeddings.
    Full-batch block descent minimises the mean cross-entropy of the N labeled images: steps on w, with momentum, of
    size 4 N / lambda_max(F^T F) (Equation 10), and with every tenth one a step on alpha, of size
    N / (4 max_c sum_i (f_i . t_c)^2) (Equation 11). w_c starts at the sum of the features of class c; all alpha start
    at the same number, in proportion to the mean over classes of the mean cosine of the class's images and its text
    (Equation 15). ``activekd.teachers.fixed`` has the numbers; every round fits anew, without randomness.

    Departures from the released code: no bias, as in the paper; the step on alpha takes the gradient at the current
    point, where the code adds up those of all earlier steps; the last iterate is used, not the one that is best on
    validation images; images are seen in view 0, not in one random crop; the start of alpha scales with the network's
    logit scale; classes without labels start at w_c = 0 and are left out of the mean; fp32, not fp16.

    The teachers of a cohort are fitted together, as one batched product; each is the same alone and in company. Only
    features of labeled rows are read. Arguments as of ``activekd.teachers.clap.clap``, whose recipe is not read.

    Returns:
        A stack of the teachers of the members, on the CPU: class weights w_c + alpha_c t_c, biases of 0.
    """
    text = torch.from_numpy(head.zero_shot)
    labels = torch.from_numpy(np.stack([some.labels for some in labeled]))
    features = torch.stack([views.gather(some.rows, np.zeros_like(some.rows)).cpu().float() for some in labeled])
    images = F.normalize(pad(features, -1, 2 * LANES), dim=-1)
    descent = BlockDescent(images.to(device), text.to(device), labels.to(device), head.logit_scale)
    for step in range(LPP_STEPS):
        descent.step(blend=(step + 1) % LPP_ALPHA_EVERY == 0)
    weights = descent.weights().cpu()
    return Classifier("linear", head.logit_scale, {"weights": weights, "bias": torch.zeros(weights.shape[:2])})


class BlockDescent:
    """The block descent of LP++ for a cohort, with the gradients in closed form.

    With r_ic = (softmax(z_i)_c - [c is the class of i]) / N the gradients are sum_i r_ic f_i for w_c and
    sum_i r_ic f_i . t_c for alpha_c.

    Args:
        images: unit features of the labeled images of each member, padded to whole pairs of LANES.
        text: unit text embeddings.
        labels: of the images of each member.
        logit_scale: of the network.
    """

    def __init__(
        self,
        images: Float32[Tensor, "members labeled padded_dim"],
        text: Float32[Tensor, "classes dim"],
        labels: Int64[Tensor, "members labeled"],
        logit_scale: float,
    ) -> None:
        members, self._n = labels.shape
        self._n_classes, self._dim = text.shape
        self._images, padded = images, pad(pad(text, -1, 2 * LANES), -2)
        self._padded_text = padded
        self._one_hot = pad(F.one_hot(labels, self._n_classes).float(), -1)
        self._cosines = torch.bmm(images, padded.repeat(members, 1, 1).mT)
        self.w = torch.bmm(self._one_hot.mT, images)
        self._velocity = torch.zeros_like(self.w)
        sizes = [step_sizes(f, c) for f, c in zip(images, self._cosines, strict=True)]
        self._step_w, self._step_alpha = (
            torch.tensor(some, device=images.device, dtype=torch.float32)[:, None, None]
            for some in zip(*sizes, strict=True)
        )
        counts = self._one_hot.sum(dim=1)
        means = (self._one_hot * self._cosines).sum(dim=1) / counts.clamp(min=1)
        start = LPP_ALPHA_START * logit_scale * means.sum(dim=1, keepdim=True) / (counts > 0).sum(dim=1, keepdim=True)
        self.alpha = start[:, None].repeat(1, 1, padded.shape[0])

    def gradients(
        self,
    ) -> tuple[Float32[Tensor, "members padded_classes padded_dim"], Float32[Tensor, "members 1 padded_classes"]]:
        """The gradients of the mean cross-entropy for w and for alpha at the current point; 0 in the padding."""
        logits = torch.baddbmm(self.alpha * self._cosines, self._images, self.w.mT)
        probabilities = pad(logits[..., : self._n_classes].softmax(dim=-1), -1)
        residuals = (probabilities - self._one_hot).div_(self._n)
        return torch.bmm(residuals.mT, self._images), (residuals * self._cosines).sum(dim=1, keepdim=True)

    def step(self, *, blend: bool) -> None:
        """One step on w and, if ``blend``, one on alpha at the w before it, as the released code orders them."""
        of_w, of_alpha = self.gradients()
        self._velocity.mul_(LPP_MOMENTUM).add_(of_w)
        self.w -= self._step_w * self._velocity
        if blend:
            self.alpha -= self._step_alpha * of_alpha

    def weights(self) -> Float32[Tensor, "members classes dim"]:
        """w_c + alpha_c t_c, without the padding."""
        return (self.w + self.alpha.mT * self._padded_text)[:, : self._n_classes, : self._dim].clone()


def step_sizes(images: Float[Tensor, "labeled dim"], cosines: Float[Tensor, "labeled classes"]) -> tuple[float, float]:
    """The step sizes for w and alpha, 4 N / lambda_max(F^T F) and N / (4 max_c sum_i (f_i . t_c)^2) (Equations 10, 11).

    Both are computed in float64 on the CPU. Images and text without a common direction have no finite step for alpha,
    whose gradient is then 0; it is 0 too.
    """
    f, c = images.cpu().double(), cosines.cpu().double()
    gram = f.mT @ f if f.shape[1] < len(f) else f @ f.mT
    largest = float(torch.linalg.eigvalsh(gram)[-1])
    most = float(c.square().sum(dim=0).max())
    return 4 * len(f) / largest, len(f) / (4 * most) if most > 0 else 0.0
