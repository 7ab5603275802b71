"""Text heads: text embeddings of the classes, cached on disk or read from a user's file."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from activekd.bank.given import GivenFeatures, read_head
from activekd.bank.shards import read_array, write_array
from activekd.networks.vision_language import VisionLanguageNetwork

HEAD_FORMAT = 1
"""Version of the cached heads, part of their address."""


@dataclass(frozen=True)
class TextHead:
    """Text embeddings of the classes under the prompts of a data set.

    Attributes:
        zero_shot: L2-normalised mean of the normalised prompt embeddings: the zero-shot classifier.
        text: mean of the un-normalised prompt embeddings: where CLAP's prototypes start.
    """

    zero_shot: Float32[np.ndarray, "classes dim"]
    text: Float32[np.ndarray, "classes dim"]

    @classmethod
    def read(cls, path: Path) -> "TextHead | None":
        """A head from disk; None where it is absent or its checksum fails."""
        both = read_array(path)
        return None if both is None else cls(*np.array(both))

    def write(self, path: Path) -> None:
        """Write the head to disk, as one array of both embeddings, (2, classes, dim)."""
        write_array(path, np.stack([self.zero_shot, self.text]))


def given_text_head(given: GivenFeatures, class_names: Sequence[str], dim: int) -> TextHead:
    """The text head in a user's file; CLAP starts at the stored embeddings too.

    Args:
        given: the files of the teacher network.
        class_names: one name per class, in label order.
        dim: width of the image features.

    Raises:
        InputError: the head does not fit the classes or the width.
    """
    text = read_head(given, class_names, dim)
    return TextHead(text / np.linalg.norm(text, axis=1, keepdims=True), text)


def text_head_path(
    network: VisionLanguageNetwork, class_names: Sequence[str], prompts: Sequence[str], cache: Path
) -> Path:
    """Path of the text head of a network: a content address of all that changes its numbers."""
    content = [HEAD_FORMAT, network.fingerprint, list(class_names), list(prompts)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return cache / "heads" / f"{key}.npy"
