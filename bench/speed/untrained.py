"""Networks with random weights, on which speed does not depend."""

import logging
from typing import Any

import torch
from torch import nn

from activekd.networks.backbones import Backbone
from activekd.students.heads import Normalise, Student


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
