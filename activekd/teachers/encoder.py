"""Vision-language networks with their weights: encoders of a bank and of text heads."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float16, UInt8
from torch import Tensor
from torch.nn import functional as F

from activekd.bank.computing import half_precision
from activekd.errors import InputError
from activekd.finite import check_rows
from activekd.networks.loading import check_sizes, read_weights
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.teachers.text_heads import TextHead

LONGEST = 400
"""Letters of open_clip's error, which lists every key, that a message quotes."""


class VisionLanguageEncoder:
    """An open_clip network as the encoder of a bank: image features before normalisation, fp16.

    On ``cuda`` the image tower runs in float16 by autocast; text is encoded in float32 everywhere. View 0
    is the centred square for every network. Departure: SigLIP was trained on images squashed to a square.

    Attributes:
        device: where it runs.
        size: side of the square input in pixels.
        interpolation: ``bilinear`` or ``bicubic``.
        logit_scale: factor from the cosine of image and text to a logit, as trained: exp of the network's parameter.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str = "cpu") -> None:
        self._model = model.eval().to(device, memory_format=torch.channels_last)
        self._tokenizer = tokenizer
        self.device = device
        preprocessing = model.visual.preprocess_cfg
        size = preprocessing["size"]
        self.size: int = size if isinstance(size, int) else size[0]
        self.interpolation: str = preprocessing["interpolation"]
        self.logit_scale: float = model.logit_scale.detach().double().exp().item()
        self._mean = torch.tensor(preprocessing["mean"])[:, None, None].to(device)
        self._std = torch.tensor(preprocessing["std"])[:, None, None].to(device)

    def encode(self, images: UInt8[Tensor, "batch 3 size size"]) -> Float16[Tensor, "batch dim"]:
        """Image features before normalisation, on the device."""
        x = (images.to(self.device).float() / 255 - self._mean) / self._std
        with half_precision(self.device):
            return self._model.encode_image(x.contiguous(memory_format=torch.channels_last)).half()

    @torch.inference_mode()
    def text_head(self, class_names: Sequence[str], prompts: Sequence[str]) -> TextHead:
        """The text embeddings of each class, averaged over the prompts (Radford et al. 2021, Section 3.1.4).

        Args:
            class_names: one name per class, in label order.
            prompts: templates with one ``{}`` for the class name.

        Raises:
            InputError: a prompt has the same tokens for two classes, or an embedding is not finite or of norm 0.
        """
        tokens = [self._tokenizer([prompt.format(name) for prompt in prompts]) for name in class_names]
        _check_told_apart(tokens, class_names, prompts)
        embeddings = torch.stack([self._model.encode_text(ids.to(self.device)).float() for ids in tokens]).cpu()
        zero_shot = F.normalize(F.normalize(embeddings, dim=2).mean(dim=1), dim=1)
        text = embeddings.mean(dim=1)
        for array in (zero_shot, text):
            check_rows(array, "text embeddings of classes", "finite embeddings of a norm above 0", nonzero=True)
        return TextHead(zero_shot.numpy(), text.numpy(), self.logit_scale)


def _check_told_apart(tokens: Sequence[Tensor], class_names: Sequence[str], prompts: Sequence[str]) -> None:
    """Check that each prompt has other tokens for each class; tokenizers cut long texts off without a word."""
    faults = []
    for row, prompt in enumerate(prompts):
        first: dict[bytes, str] = {}
        equal = [
            (other, name)
            for name, ids in zip(class_names, tokens, strict=True)
            if (other := first.setdefault(ids[row].numpy().tobytes(), name)) != name
        ]
        if equal:
            faults.append(
                f"prompt '{prompt}' has the same tokens for {len(equal)} classes and an earlier one, such as "
                f"'{equal[0][0]}' and '{equal[0][1]}'; expected: a prompt that is short enough ({len(tokens[0][row])} "
                f"tokens with start and end), and class names that the tokenizer keeps apart"
            )
    if faults:
        raise InputError(*faults)


def load_encoder(network: VisionLanguageNetwork, device: str = "cpu") -> VisionLanguageEncoder:
    """The network with its weights.

    A tag sets preprocessing and activation, wherever its weights come from: the hub, ``$ACTIVEKD_WEIGHTS`` or a file.

    Raises:
        InputError: the checkpoint is missing, has weights that are not finite, does not fit, or needs a tag, or the
            tokenizer is unavailable.
    """
    import open_clip

    file = network.weights()
    network.register()
    preprocessing, quick_gelu = dict(network.preprocessing), network.quick_gelu
    try:
        saved = read_weights(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = open_clip.create_model(
                network.model,
                pretrained=str(file),
                force_quick_gelu=quick_gelu,
                force_preprocess_cfg=preprocessing,
            )
        check_sizes(model, saved, file)
    except InputError as fault:
        raise InputError(f"teacher network '{network.name}' cannot be loaded: {fault}") from fault
    except (RuntimeError, OSError, ValueError, KeyError, AssertionError) as fault:
        raise InputError(
            f"teacher network '{network.name}' cannot be loaded from {file}: {str(fault)[:LONGEST]}; "
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
