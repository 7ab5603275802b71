"""Teachers: vision-language networks through open_clip, the zero-shot head, and the CLAP adaptation."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from activekd.bank import Views
from activekd.datasets import Labeled
from activekd.errors import InputError, unknown
from activekd.features import PREFIX, feature_files, read_head
from activekd.losses import clap_loss, clap_multipliers
from activekd.recipes import ClapRecipe, ViewGeometry

LOGIT_SCALE = 100.0
"""Teacher logits are this times the cosine of image and text: CLIP's trained temperature (Radford et al. 2021)."""

WEIGHTS = Path(__file__).parent / "weights"
NO_TEACHER = "none"


@dataclass(frozen=True)
class Network:
    """How open_clip builds a network: a model name and a hub tag or a local checkpoint.

    Attributes:
        model: name of the open_clip model config.
        pretrained: a hub tag such as ``openai``, or the path of a local checkpoint.
        config: a model config that is not open_clip's own; its stem is ``model``.
    """

    model: str
    pretrained: str
    config: Path | None = None


@dataclass(frozen=True)
class TextHead:
    """Text embeddings of the classes under the prompts of a data set.

    Attributes:
        zero_shot: L2-normalised mean of the normalised prompt embeddings: the zero-shot classifier.
        text: mean of the embeddings as they leave the text tower: where CLAP's prototypes start.
    """

    zero_shot: Float32[np.ndarray, "classes dim"]
    text: Float32[np.ndarray, "classes dim"]


class VisionLanguageEncoder:
    """An open_clip network as the encoder of a bank: image features before normalisation, fp16."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model.eval().to(memory_format=torch.channels_last)
        self._tokenizer = tokenizer
        preprocessing = model.visual.preprocess_cfg
        size = preprocessing["size"]
        self.size: int = size if isinstance(size, int) else size[0]
        self.interpolation: str = preprocessing["interpolation"]
        self._mean = torch.tensor(preprocessing["mean"])[:, None, None]
        self._std = torch.tensor(preprocessing["std"])[:, None, None]

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        x = ((images.float() / 255 - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        return self._model.encode_image(x).half().numpy()

    @torch.inference_mode()
    def text_head(self, class_names: Sequence[str], prompts: Sequence[str]) -> TextHead:
        """The text embeddings of each class under each prompt, averaged (Radford et al. 2021, Section 3.1.4)."""
        embeddings = torch.stack(
            [self._model.encode_text(self._tokenizer([p.format(n) for p in prompts])).float() for n in class_names]
        )
        zero_shot = F.normalize(F.normalize(embeddings, dim=2).mean(dim=1), dim=1)
        return TextHead(zero_shot.numpy(), embeddings.mean(dim=1).numpy())


def has_given_features(name: str) -> bool:
    """Whether a network's image features come from a file, for view 0 alone."""
    return name.startswith(PREFIX)


def given_text_head(name: str, class_names: Sequence[str], dim: int) -> TextHead:
    """The text head of a network whose features are given; the stored embeddings stand for CLAP's start too.

    Args:
        dim: width of its image features.

    Raises:
        InputError: a head that does not fit the classes or the width.
    """
    text = read_head(feature_files(name), class_names, dim)
    return TextHead(text / np.linalg.norm(text, axis=1, keepdims=True), text)


def network(name: str) -> Network:
    """The network of that name: a key of NETWORKS, or ``open_clip:MODEL/PRETRAINED`` with a hub tag or a local file.

    Raises:
        InputError: unknown name, or a local checkpoint that is not there.
    """
    if name.startswith("open_clip:"):
        model, slash, pretrained = name.removeprefix("open_clip:").partition("/")
        if not (model and slash and pretrained):
            raise InputError(f"teacher network '{name}'; allowed: open_clip:MODEL/PRETRAINED, a hub tag or a file")
        found = Network(model, pretrained)
    elif name in NETWORKS:
        found = NETWORKS[name]
    else:
        raise unknown("teacher network", name, [*NETWORKS, "open_clip:MODEL/PRETRAINED", "features:FILE.npz"])
    if _is_file_name(found.pretrained) and not Path(found.pretrained).is_file():
        raise InputError(f"teacher network '{name}': no checkpoint at {found.pretrained}; allowed: an existing file")
    return found


def _is_file_name(pretrained: str) -> bool:
    return "/" in pretrained or Path(pretrained).suffix in {".safetensors", ".pt", ".pth", ".bin"}


@lru_cache(maxsize=8)
def network_fingerprint(name: str) -> str:
    """Hash of a network's configuration and, for a local checkpoint, of its bytes; a hub tag stands for itself."""
    if has_given_features(name):
        return feature_files(name).fingerprint
    found = network(name)
    digest = hashlib.sha256(found.model.encode())
    if found.config is not None:
        digest.update(found.config.read_bytes())
    if _is_file_name(found.pretrained):
        digest.update(Path(found.pretrained).read_bytes())
    else:
        digest.update(found.pretrained.encode())
    return digest.hexdigest()


def load_encoder(name: str) -> VisionLanguageEncoder:
    """The network with its weights. Hub tags need a network connection; that path was not tried offline.

    Raises:
        InputError: unknown network, missing checkpoint, or a checkpoint that does not fit.
    """
    found = network(name)
    import open_clip

    if found.config is not None:
        open_clip.add_model_config(found.config)
    if found.model not in open_clip.list_models():
        raise unknown("open_clip model", found.model, open_clip.list_models())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = open_clip.create_model(found.model, pretrained=found.pretrained)
    except (RuntimeError, OSError, ValueError) as fault:
        raise InputError(f"teacher network '{name}' cannot be loaded from {found.pretrained}: {fault}") from fault
    return VisionLanguageEncoder(model, open_clip.get_tokenizer(found.model))


def teacher_logits(features: Tensor, prototypes: Float32[Tensor, "classes dim"]) -> Float32[Tensor, "batch classes"]:
    """100 x cosine of image features and class prototypes; logits before softmax at T = 1."""
    return LOGIT_SCALE * F.normalize(features.float(), dim=1) @ F.normalize(prototypes, dim=1).T


def zeroshot(
    head: TextHead, views: Views, geometry: ViewGeometry, labeled: Labeled, recipe: ClapRecipe, rng: np.random.Generator
) -> Float32[Tensor, "classes dim"]:
    """The zero-shot teacher (Radford et al. 2021): the text embeddings as they are; labels are not used."""
    return torch.from_numpy(head.zero_shot)


def clap(
    head: TextHead, views: Views, geometry: ViewGeometry, labeled: Labeled, recipe: ClapRecipe, rng: np.random.Generator
) -> Float32[Tensor, "classes dim"]:
    """The CLAP teacher (Silva-Rodriguez et al. 2024): class prototypes trained on the labeled images, near the text.

    Prototypes start at the un-normalised mean text embedding. SGD on CE + mean_c lambda_c ||w_c - t_c||^2, where
    lambda_c is the mean zero-shot probability of the true class over the labeled images in view 0, computed once.
    Each pass shows each labeled image in a random training view; fitted from the text again in every round, in fp32.
    """
    labels = torch.from_numpy(labeled.labels)
    text = torch.from_numpy(head.text)
    centred = views.gather(labeled.rows, np.zeros(len(labeled.rows), dtype=np.int64))
    zero_shot = teacher_logits(centred, torch.from_numpy(head.zero_shot)).softmax(dim=1)
    multipliers = clap_multipliers(zero_shot, labels)
    prototypes = text.clone().requires_grad_()
    optimiser = torch.optim.SGD([prototypes], lr=recipe.lr, momentum=recipe.momentum)
    batches = -(-len(labels) // recipe.batch)
    total = recipe.epochs * batches
    training = np.asarray(geometry.training)
    for epoch in range(recipe.epochs):
        order = rng.permutation(len(labels))
        chosen = rng.choice(training, size=len(labels))
        for batch in range(batches):
            step = epoch * batches + batch
            optimiser.param_groups[0]["lr"] = recipe.lr * linear_schedule(step, total, recipe.warmup)
            members = order[batch * recipe.batch : (batch + 1) * recipe.batch]
            features = views.gather(labeled.rows[members], chosen[members])
            loss = clap_loss(teacher_logits(features, prototypes), labels[members], prototypes, text, multipliers)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return prototypes.detach()


def linear_schedule(step: int, total: int, warmup: float) -> float:
    """Factor on the peak learning rate: linear growth in the first ``warmup`` share of the steps, then linear to 0."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)


def split_teacher(name: str) -> tuple[str, str]:
    """A teacher's network and adaptation: ``glyphclip+clap`` is ``("glyphclip", "clap")``.

    Raises:
        InputError: no or an unknown adaptation, an unknown network, or a missing checkpoint.
    """
    network_name, plus, adaptation = name.rpartition("+")
    if not plus:
        known = [NO_TEACHER, *(f"{n}+{a}" for n in NETWORKS for a in ADAPTATIONS)]
        raise unknown("teacher", name, known)
    if adaptation not in ADAPTATIONS:
        raise unknown("teacher adaptation", adaptation, ADAPTATIONS)
    if has_given_features(network_name):
        feature_files(network_name)
    else:
        network(network_name)
    return network_name, adaptation


Adaptation = Callable[[TextHead, Views, ViewGeometry, Labeled, ClapRecipe, np.random.Generator], Tensor]
"""Fits the class prototypes of a round from the text head and the labels bought so far."""

NETWORKS: dict[str, Network] = {
    "glyphclip": Network("glyphclip", str(WEIGHTS / "glyphclip.safetensors"), WEIGHTS / "glyphclip.json"),
}

ADAPTATIONS: dict[str, Adaptation] = {
    "zeroshot": zeroshot,
    "clap": clap,
}
