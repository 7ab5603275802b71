"""Text heads: text embeddings of the classes, cached on disk or read from a user's file."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from activekd.bank.given import GivenFeatures, read_head, read_logit_scale
from activekd.bank.shards import read_array, write_array
from activekd.networks.vision_language import VisionLanguageNetwork

HEAD_FORMAT = 2
"""Version of the cached heads, part of their address."""

CHUNK = 8192
"""Images whose cosines are computed at a time."""

FIELDS, SCALE = ("zero_shot", "text"), "logit_scale"
"""Fields of a stored head."""


@dataclass(frozen=True)
class TextHead:
    """Text embeddings of the classes under the prompts of a data set.

    Attributes:
        zero_shot: L2-normalised mean of the normalised prompt embeddings: the zero-shot classifier.
        text: mean of the un-normalised prompt embeddings: where CLAP's prototypes start.
        logit_scale: the network's factor from the cosine of image and text to a logit.
    """

    zero_shot: Float32[np.ndarray, "classes dim"]
    text: Float32[np.ndarray, "classes dim"]
    logit_scale: float

    def of_classes(self, classes: Int64[np.ndarray, " kept"]) -> "TextHead":
        """The head of some of the classes, in this order."""
        return TextHead(self.zero_shot[classes], self.text[classes], self.logit_scale)

    def accuracy(self, features: np.ndarray, labels: Int64[np.ndarray, " n"]) -> float:
        """Top-1 accuracy in [0, 1] of the zero-shot classifier: the class of the largest cosine.

        Args:
            features: image features of any norm, (n, dim).
            labels: one class per image.
        """
        chunks = range(0, len(features), CHUNK)
        logits = (features[start : start + CHUNK].astype(np.float32) @ self.zero_shot.T for start in chunks)
        return float(np.mean(np.concatenate([chunk.argmax(axis=1) for chunk in logits]) == labels))

    @classmethod
    def read(cls, path: Path) -> "TextHead | None":
        """A head from disk; None where it is absent or its checksum fails."""
        stored = read_array(path)
        if stored is None:
            return None
        return cls(*(np.array(stored[name][0]) for name in FIELDS), logit_scale=float(stored[SCALE][0]))

    def write(self, path: Path) -> None:
        """Write the head to disk, as one record of both embeddings and the factor."""
        kinds = [*((name, np.float32, self.text.shape) for name in FIELDS), (SCALE, np.float64)]
        write_array(path, np.array([(self.zero_shot, self.text, self.logit_scale)], dtype=kinds))


def given_text_head(given: GivenFeatures, class_names: Sequence[str], dim: int) -> TextHead:
    """The text head in a user's file, with the factor that it states.

    Departure: CLAP starts at the un-normalised mean of the text embeddings (Silva-Rodriguez et al. 2024). A file has
    one embedding per class; CLAP starts there, and so at unit norm where the file has normalised it, as most do. The
    norm is then no part of the start, and its penalty weighs a step away from the text otherwise than for a network of
    open_clip.

    Args:
        given: the files of the teacher network.
        class_names: one name per class, in label order.
        dim: width of the image features.

    Raises:
        InputError: the head does not fit the classes or the width, an embedding is not finite or of norm 0, or the
            factor is not one.
    """
    return text_head(read_head(given, class_names, dim), read_logit_scale(given))


def text_head(text: Float32[np.ndarray, "classes dim"], logit_scale: float) -> TextHead:
    """The text head of embeddings that are given, in any scale; ``given_text_head`` has the departure.

    Args:
        text: one embedding per class, of a norm above 0.
        logit_scale: factor from the cosine of image and text to a logit.
    """
    norms = np.linalg.norm(text.astype(np.float64), axis=1, keepdims=True)
    return TextHead((text / norms).astype(np.float32), text, logit_scale)


def text_head_path(
    network: VisionLanguageNetwork, class_names: Sequence[str], prompts: Sequence[str], cache: Path
) -> Path:
    """Path of the text head of a network: a content address of all that changes its numbers."""
    content = [HEAD_FORMAT, network.fingerprint, list(class_names), list(prompts)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return cache / "heads" / f"{key}.npy"
