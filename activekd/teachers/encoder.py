"""Vision-language networks with their weights: encoders of a bank and of text heads."""

import warnings
from collections.abc import Sequence
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F

from activekd.errors import InputError
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.teachers.text_heads import TextHead


class VisionLanguageEncoder:
    """An open_clip network as the encoder of a bank: image features before normalisation, fp16.

    View 0 is the centred square for every network. Departure: SigLIP was trained on images squashed to a square.

    Attributes:
        size: side of the square input in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
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
        """Image features before normalisation, (batch, dim), fp16."""
        x = (images.to(self._device).float() / 255 - self._mean) / self._std
        return self._model.encode_image(x.contiguous(memory_format=torch.channels_last)).half().cpu().numpy()

    @torch.inference_mode()
    def text_head(self, class_names: Sequence[str], prompts: Sequence[str]) -> TextHead:
        """The text embeddings of each class, averaged over the prompts (Radford et al. 2021, Section 3.1.4).

        Args:
            class_names: one name per class, in label order.
            prompts: templates with one ``{}`` for the class name.
        """
        embeddings = torch.stack(
            [
                self._model.encode_text(self._tokenizer([p.format(n) for p in prompts]).to(self._device)).float()
                for n in class_names
            ]
        ).cpu()
        zero_shot = F.normalize(F.normalize(embeddings, dim=2).mean(dim=1), dim=1)
        return TextHead(zero_shot.numpy(), embeddings.mean(dim=1).numpy())


def load_encoder(network: VisionLanguageNetwork, device: str = "cpu") -> VisionLanguageEncoder:
    """The network with its weights.

    A tag sets preprocessing and activation, whether its weights come from the hub or from ``$ACTIVEKD_WEIGHTS``.

    Raises:
        InputError: the checkpoint is missing or does not fit, or the tokenizer is unavailable.
    """
    import open_clip

    file = network.weights()
    network.register()
    tagged = network.tag_config()
    preprocessing = {key: tagged[key] for key in ("mean", "std", "interpolation") if key in tagged}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = open_clip.create_model(
                network.model,
                pretrained=str(file),
                force_quick_gelu=bool(tagged.get("quick_gelu")),
                force_preprocess_cfg=preprocessing,
            )
    except (
        *(RuntimeError, OSError, ValueError, KeyError, EOFError, AssertionError),
        UnpicklingError,
        SafetensorError,
    ) as fault:
        raise InputError(
            f"teacher network '{network.name}' cannot be loaded from {file}: {fault}; "
            f"expected: a checkpoint of open_clip's {network.model}"
        ) from fault
    return VisionLanguageEncoder(model, _tokenizer(network), device)


def _tokenizer(network: VisionLanguageNetwork) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(network.model)
    except ImportError as fault:
        raise InputError(
            f"teacher network '{network.name}': its tokenizer needs a package that is not installed ({fault}); "
            f"expected: pip install transformers sentencepiece, the extra 'siglip' of this project"
        ) from fault
    except OSError as fault:
        raise InputError(
            f"teacher network '{network.name}': its tokenizer is not on this machine ({fault}); expected: a connection "
            f"to the Hugging Face hub, or its cache ($HF_HOME) copied from a machine with one"
        ) from fault
