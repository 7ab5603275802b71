"""Teachers: vision-language networks through open_clip, the zero-shot head, and the CLAP adaptation."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from activekd.bank import Views
from activekd.checkpoints import Checkpoint, find
from activekd.datasets import Labeled
from activekd.errors import InputError, unknown
from activekd.features import PREFIX, feature_files, read_head
from activekd.losses import clap_loss, clap_multipliers
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.shards import read_array, write_array

LOGIT_SCALE = 100.0
"""Teacher logits are this times the cosine of image and text: CLIP's trained temperature (Radford et al. 2021)."""

WEIGHTS = Path(__file__).parent / "weights"
NO_TEACHER = "none"
OPEN_CLIP = "open_clip:"
HEAD_FORMAT = 1


@dataclass(frozen=True)
class Network:
    """How open_clip builds a network: a model name and a tag of pretrained weights or a local checkpoint.

    Attributes:
        model: name of the open_clip model config.
        pretrained: one of open_clip's tags for the model, such as ``openai``, or the path of a local checkpoint.
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

    @classmethod
    def read(cls, path: Path) -> "TextHead | None":
        """A head from disk; None where it is absent, or is not the bytes that were written."""
        both = read_array(path)
        return None if both is None else cls(*np.array(both))

    def write(self, path: Path) -> None:
        """Put the head on disk, as one array of both embeddings."""
        write_array(path, np.stack([self.zero_shot, self.text]))


class VisionLanguageEncoder:
    """An open_clip network as the encoder of a bank: image features before normalisation, fp16.

    View 0 is the centred square for every network; SigLIP was trained on images squashed to a square instead.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str = "cpu") -> None:
        self._model = model.eval().to(device, memory_format=torch.channels_last)
        self._tokenizer = tokenizer
        self._device = device
        preprocessing = model.visual.preprocess_cfg
        size = preprocessing["size"]
        self.size: int = size if isinstance(size, int) else size[0]
        self.interpolation: str = preprocessing["interpolation"]
        self._mean = torch.tensor(preprocessing["mean"])[:, None, None].to(device)
        self._std = torch.tensor(preprocessing["std"])[:, None, None].to(device)

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> np.ndarray:
        x = (images.to(self._device).float() / 255 - self._mean) / self._std
        return self._model.encode_image(x.contiguous(memory_format=torch.channels_last)).half().cpu().numpy()

    @torch.inference_mode()
    def text_head(self, class_names: Sequence[str], prompts: Sequence[str]) -> TextHead:
        """The text embeddings of each class under each prompt, averaged (Radford et al. 2021, Section 3.1.4)."""
        embeddings = torch.stack(
            [
                self._model.encode_text(self._tokenizer([p.format(n) for p in prompts]).to(self._device)).float()
                for n in class_names
            ]
        ).cpu()
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
    """The network of that name: a key of NETWORKS, or ``open_clip:MODEL/PRETRAINED`` with a tag or a local file.

    Raises:
        InputError: unknown name, model or tag, or a local checkpoint that is not there.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if not name.startswith(OPEN_CLIP):
        raise unknown("teacher network", name, [*NETWORKS, f"{OPEN_CLIP}MODEL/PRETRAINED", f"{PREFIX}FILE.npz"])
    model, slash, pretrained = name.removeprefix(OPEN_CLIP).partition("/")
    if not (model and slash and pretrained):
        raise InputError(f"teacher network '{name}'; allowed: {OPEN_CLIP}MODEL/PRETRAINED, a tag or a file")
    import open_clip

    if model not in open_clip.list_models():
        raise unknown("open_clip model", model, open_clip.list_models())
    if _is_file_name(pretrained):
        if not Path(pretrained).is_file():
            raise InputError(f"teacher network '{name}': no checkpoint at {pretrained}; allowed: an existing file")
    elif not open_clip.is_pretrained_cfg(model, pretrained):
        raise unknown(f"weights of {model}", pretrained, open_clip.list_pretrained_tags_by_model(model))
    return Network(model, pretrained)


def _is_file_name(pretrained: str) -> bool:
    return "/" in pretrained or Path(pretrained).suffix in {".safetensors", ".pt", ".pth", ".bin"}


def checkpoint_file(name: str, *, online: bool = True) -> Path:
    """The file of a network's weights: as given, from ``$ACTIVEKD_WEIGHTS``, or the hub's.

    Raises:
        InputError: the file is not on this machine and cannot be had.
    """
    found = network(name)
    if _is_file_name(found.pretrained):
        return Path(found.pretrained)
    config = _tag_config(found)
    repository, file = os.path.split(config.get("hf_hub", ""))
    tag = name if name in NETWORKS else f"{found.model}.{found.pretrained}"
    files = (file,) if file else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    return find(Checkpoint(tag, repository or None, files, config.get("url")), online=online)


def _tag_config(found: Network) -> Mapping[str, Any]:
    import open_clip

    return open_clip.get_pretrained_cfg(found.model, found.pretrained)


@lru_cache(maxsize=8)
def network_fingerprint(name: str) -> str:
    """Hash of a network's configuration and of the bytes of its weights, or of the files of given features."""
    if has_given_features(name):
        return feature_files(name).fingerprint
    found = network(name)
    digest = hashlib.sha256(found.model.encode())
    if found.config is not None:
        digest.update(found.config.read_bytes())
    digest.update(checkpoint_file(name).read_bytes())
    return digest.hexdigest()


def text_head_path(name: str, class_names: Sequence[str], prompts: Sequence[str], cache: Path) -> Path:
    """Where the text head of a network is kept: a content address of all that changes its numbers."""
    content = [HEAD_FORMAT, network_fingerprint(name), list(class_names), list(prompts)]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return cache / "heads" / f"{key}.npy"


def load_encoder(name: str, device: str = "cpu") -> VisionLanguageEncoder:
    """The network with its weights.

    A tag brings its own preprocessing and activation, whether the weights come from the hub or from a local file.

    Raises:
        InputError: unknown network, missing checkpoint, a checkpoint that does not fit, or a tokenizer that cannot be
            had.
    """
    found = network(name)
    file = checkpoint_file(name)
    import open_clip

    if found.config is not None:
        open_clip.add_model_config(found.config)
    tagged = {} if _is_file_name(found.pretrained) else _tag_config(found)
    preprocessing = {key: tagged[key] for key in ("mean", "std", "interpolation") if key in tagged}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = open_clip.create_model(
                found.model,
                pretrained=str(file),
                force_quick_gelu=bool(tagged.get("quick_gelu")),
                force_preprocess_cfg=preprocessing,
            )
    except (
        *(RuntimeError, OSError, ValueError, KeyError, EOFError, AssertionError),
        UnpicklingError,
        SafetensorError,
    ) as fault:
        raise InputError(f"teacher network '{name}' cannot be loaded from {file}: {fault}") from fault
    return VisionLanguageEncoder(model, _tokenizer(name, found), device)


def _tokenizer(name: str, found: Network) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(found.model)
    except ImportError as fault:
        raise InputError(
            f"teacher network '{name}': its tokenizer needs a package that is not installed ({fault}); "
            f"allowed: pip install transformers sentencepiece, the extra 'siglip' of this project"
        ) from fault
    except OSError as fault:
        raise InputError(
            f"teacher network '{name}': its tokenizer is not on this machine ({fault}); allowed: a connection to the "
            f"Hugging Face hub, or its cache ($HF_HOME) from a machine that has one"
        ) from fault


def teacher_logits(features: Tensor, prototypes: Float32[Tensor, "classes dim"]) -> Float32[Tensor, "batch classes"]:
    """100 x cosine of image features and class prototypes; logits before softmax at T = 1."""
    return LOGIT_SCALE * F.normalize(features.float(), dim=1) @ F.normalize(prototypes, dim=1).T


def zeroshot(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Labeled,
    recipe: ClapRecipe,
    rng: np.random.Generator,
    device: str = "cpu",
) -> Float32[Tensor, "classes dim"]:
    """The zero-shot teacher (Radford et al. 2021): the text embeddings as they are; labels are not used."""
    return torch.from_numpy(head.zero_shot)


def clap(
    head: TextHead,
    views: Views,
    geometry: ViewGeometry,
    labeled: Labeled,
    recipe: ClapRecipe,
    rng: np.random.Generator,
    device: str = "cpu",
) -> Float32[Tensor, "classes dim"]:
    """The CLAP teacher (Silva-Rodriguez et al. 2024): class prototypes trained on the labeled images, near the text.

    Prototypes start at the un-normalised mean text embedding. SGD on CE + mean_c lambda_c ||w_c - t_c||^2, where
    lambda_c is the mean zero-shot probability of the true class over the labeled images in view 0, computed once.
    Each pass shows each labeled image in a random training view; fitted from the text again in every round, in fp32.
    """
    labels = torch.from_numpy(labeled.labels)
    text = torch.from_numpy(head.text).to(device)
    centred = views.gather(labeled.rows, np.zeros(len(labeled.rows), dtype=np.int64))
    zero_shot = teacher_logits(centred, torch.from_numpy(head.zero_shot)).softmax(dim=1)
    multipliers = clap_multipliers(zero_shot, labels).to(device)
    labels = labels.to(device)
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
            features = views.gather(labeled.rows[members], chosen[members]).to(device)
            logits = teacher_logits(features, prototypes)
            loss = clap_loss(logits, labels[torch.from_numpy(members)], prototypes, text, multipliers)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return prototypes.detach().cpu()


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


Adaptation = Callable[[TextHead, Views, ViewGeometry, Labeled, ClapRecipe, np.random.Generator, str], Tensor]
"""Fits the class prototypes of a round, on a device, from the text head and the labels bought so far."""

NETWORKS: dict[str, Network] = {
    "clip_rn50": Network("RN50-quickgelu", "openai"),
    "clip_vitb16": Network("ViT-B-16-quickgelu", "openai"),
    "siglip_vitb16": Network("ViT-B-16-SigLIP", "webli"),
    "glyphclip": Network("glyphclip", str(WEIGHTS / "glyphclip.safetensors"), WEIGHTS / "glyphclip.json"),
}

ADAPTATIONS: dict[str, Adaptation] = {
    "zeroshot": zeroshot,
    "clap": clap,
}
