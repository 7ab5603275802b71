"""Networks with random weights, on which speed does not depend."""

import logging
from typing import Any

import torch
from jaxtyping import Float16, UInt8
from torch import Tensor, nn

from activekd.bank.computing import Encoder, half_precision
from activekd.networks.backbones import Backbone
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.students.heads import Normalise, Student
from activekd.students.networks import StudentNetwork
from activekd.teachers.encoder import VisionLanguageEncoder


def untrained_student(backbone: Backbone, n_classes: int) -> Student:
    """A student on a backbone, trained end to end."""
    body = backbone.build()
    body.reset_classifier(0)
    dim = getattr(body, "head_hidden_size", body.num_features)
    student = Student(nn.Sequential(Normalise(backbone), body), dim, n_classes)
    return student.to(memory_format=torch.channels_last if backbone.channels_last else torch.contiguous_format)


def untrained_vision_language(model: str) -> Any:
    """An open_clip model, without the library's warning that its weights are random."""
    import open_clip

    logging.disable(logging.WARNING)
    try:
        return open_clip.create_model(model)
    finally:
        logging.disable(logging.NOTSET)


def untrained_encoder(network: StudentNetwork | VisionLanguageNetwork, device: str) -> Encoder:
    """The encoder of a bank: a frozen backbone, or a teacher's image tower."""
    if isinstance(network, StudentNetwork):
        return _Frozen(network, device)
    network.register()
    return VisionLanguageEncoder(untrained_vision_language(network.model), None, device)


class _Frozen:
    """As ``activekd.students.encoders.FrozenFeatures``, without weights."""

    def __init__(self, student: StudentNetwork, device: str) -> None:
        self.device, self.size, self.interpolation = device, student.size, student.backbone.interpolation
        self._network = untrained_student(student.backbone, 1).backbone.eval().to(device)

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> Float16[Tensor, "batch dim"]:
        with half_precision(self.device):
            return self._network(images.to(self.device)).half()
