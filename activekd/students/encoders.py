"""The encoder of a student's bank: the features of its frozen backbone."""

import torch
from jaxtyping import Float16, UInt8
from torch import Tensor

from activekd.bank.computing import half_precision
from activekd.errors import InputError
from activekd.students.heads import pretrained
from activekd.students.networks import StudentNetwork


class FrozenFeatures:
    """A pretrained backbone as the encoder of a bank: pooled features, fp16; on ``cuda`` computed in float16 too.

    Attributes:
        device: where it runs.
        size: side of the square input in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    def __init__(self, student: StudentNetwork, device: str = "cpu") -> None:
        self.size = student.size
        self.interpolation = student.backbone.interpolation
        self.device = device
        self._network = pretrained(student.base)[0].eval().to(device)

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> Float16[Tensor, "batch dim"]:
        """Pooled features, on the device."""
        with half_precision(self.device):
            return self._network(images.to(self.device)).half()


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
