"""Text embeddings of the classes: the head of a zero-shot teacher, kept on disk or given in a file."""

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


@dataclass(frozen=True)
class TextHead:
    """Text embeddings of the classes under the prompts of a data set.

    Attributes:
        zero_shot: L2-normalised mean of the normalised prompt embeddings: the zero-shot classifier.
        text: mean of the embeddings as they leave the text tower: where CLAP's prototypes start.
    """

    zero_shot: Float32[np.ndarray, "classes dim"]
    text: Float32[np.ndarray, "classes dim"]

    @classmethod
    def read(cls, path: Path) -> "TextHead | None":
        """A head from disk; None where it is absent, or is not the bytes that were written."""
        both = read_array(path)
        return None if both is None else cls(*np.array(both))

    def write(self, path: Path) -> None:
        """Put the head on disk, as one array of both embeddings."""
        write_array(path, np.stack([self.zero_shot, self.text]))


def given_text_head(given: GivenFeatures, class_names: Sequence[str], dim: int) -> TextHead:
    """The text head in a file; the stored embeddings are the start of CLAP too.

    Args:
        dim: width of its image features.

    Raises:
        InputError: a head that does not fit the classes or the width.
    """
    text = read_head(given, class_names, dim)
    return TextHead(text / np.linalg.norm(text, axis=1, keepdims=True), text)


def text_head_path(
    network: VisionLanguageNetwork, class_names: Sequence[str], prompts: Sequence[str], cache: Path
) -> Path:
    """Where the text head of a network is kept: a content address of all that changes its numbers."""
    content = [HEAD_FORMAT, network.fingerprint, list(class_names), list(prompts)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return cache / "heads" / f"{key}.npy"
