"""Encoders of a student's bank: its frozen features, or the rendered pixels."""

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from activekd.bank.views import Encoder, Pixels
from activekd.errors import InputError
from activekd.students.heads import pretrained
from activekd.students.networks import StudentNetwork


class FrozenFeatures:
    """A pretrained backbone as the encoder of a bank: pooled features, fp16.

    Attributes:
        size: side of the square input in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    def __init__(self, student: StudentNetwork, device: str) -> None:
        self.size = student.size
        self.interpolation = student.backbone.interpolation
        self._device = device
        self._network = pretrained(student.base)[0].eval().to(device)

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        """Pooled features, (batch, dim), fp16."""
        return self._network(images.to(self._device)).half().cpu().numpy()


def student_encoder(student: StudentNetwork, device: str = "cpu") -> Encoder:
    """The encoder of a student's bank."""
    return FrozenFeatures(student, device) if student.frozen else Pixels(student.size, student.backbone.interpolation)


def check_loads(student: StudentNetwork) -> None:
    """Check that a student's weights fit its architecture and that it accepts inputs of its size, by loading it once.

    Raises:
        InputError: the weights are of another architecture, or the network rejects inputs of this size.
    """
    network, _ = pretrained(student.base)
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, student.size, student.size, dtype=torch.uint8))
    except (RuntimeError, ValueError, AssertionError) as fault:
        raise InputError(
            f"student '{student.name}': {student.base} rejects inputs of {student.size} px: {fault}; "
            f"expected: a size that it accepts, as {student.base}@PIXELS"
        ) from fault
