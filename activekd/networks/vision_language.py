"""Vision-language networks of open_clip by name, and the files of their weights; open_clip is imported on first use."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from activekd.errors import InputError, unknown
from activekd.networks.checkpoints import SUFFIXES, Checkpoint, find

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the checkpoints in this package."""

OPEN_CLIP = "open_clip:"
"""Prefix of the name of any other open_clip network."""

PREPROCESSING = ("mean", "std", "interpolation")
"""Preprocessing of a tag that the bank follows; views are centred squares for every network."""

WIDEST = 2048
"""Upper bound on the width of an image feature, where the model config gives none."""

DEFAULT_SIZE = 224
"""open_clip's default of the input size, where the model config gives none."""


@dataclass(frozen=True)
class VisionLanguageNetwork:
    """How open_clip builds a network: a model name, and a tag of pretrained weights, a local checkpoint, or both.

    Attributes:
        name: its name in specs.
        model: name of the open_clip model config.
        tag: one of open_clip's tags for the model, such as ``openai``: where its weights are, unless ``file`` says so,
            and their preprocessing and activation; None for open_clip's defaults.
        file: a local checkpoint; None for the weights of the tag.
        config: file of a model config outside open_clip, with the stem ``model``; None for open_clip's.
    """

    name: str
    model: str
    tag: str | None
    file: Path | None = None
    config: Path | None = None

    def check_name(self) -> None:
        """Check that open_clip knows the model and the tag, and that a checkpoint without a tag needs none.

        Raises:
            InputError: the model or the tag is unknown, or the tag is missing.
        """
        if self.name in NETWORKS:
            return
        import open_clip

        if self.model not in open_clip.list_models():
            raise unknown("open_clip model", self.model, open_clip.list_models())
        if self.tag is not None and not open_clip.is_pretrained_cfg(self.model, self.tag):
            tags = open_clip.list_pretrained_tags_by_model(self.model)
            raise unknown(f"weights of {self.model}", self.tag, tags)
        self.tag_config()

    def weights(self, *, online: bool = True) -> Path:
        """The file of the weights: the local checkpoint, the file in ``$ACTIVEKD_WEIGHTS``, or the hub's.

        Args:
            online: whether to download a file that this machine lacks.

        Raises:
            InputError: the file is absent from this machine and cannot be downloaded.
        """
        if self.file is not None:
            return self.file
        config = self.tag_config()
        repository, file = os.path.split(config.get("hf_hub", ""))
        tag = self.name if self.name in NETWORKS else f"{self.model}.{self.tag}"
        files = (file,) if file else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        return find(Checkpoint(tag, repository or None, files, config.get("url")), online=online)

    def tag_config(self) -> Mapping[str, Any]:
        """open_clip's configuration of the tag: preprocessing, activation, origin; empty without a tag.

        Raises:
            InputError: a checkpoint without a tag, of a model with tags that differ from open_clip's defaults: nothing
                in the file states which of them it was trained with.
        """
        import open_clip

        if self.tag is not None:
            return open_clip.get_pretrained_cfg(self.model, self.tag)
        tags = open_clip.list_pretrained_tags_by_model(self.model)
        other = [f"{tag} ({differs})" for tag in tags if (differs := self._differences(tag))]
        if other:
            raise InputError(
                f"teacher network '{self.name}': the inputs of {self.file} depend on its tag; open_clip's defaults do "
                f"not hold for {'; '.join(other)}; expected: {OPEN_CLIP}{self.model}/TAG={self.file}, with the tag of "
                f"the weights: {', '.join(tags)}"
            )
        return {}

    def _differences(self, tag: str) -> str:
        """The values of a tag that are not open_clip's defaults for the model."""
        import open_clip
        from open_clip.transform import PreprocessCfg

        config, default = open_clip.get_pretrained_cfg(self.model, tag), asdict(PreprocessCfg())
        out = [f"{key} {config[key]}" for key in PREPROCESSING if key in config and config[key] != default[key]]
        if config.get("quick_gelu") and not (open_clip.get_model_config(self.model) or {}).get("quick_gelu"):
            out.append("activation QuickGELU")
        return ", ".join(out)

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The mean, std and interpolation of the inputs that the tag states."""
        config = self.tag_config()
        return {key: config[key] for key in PREPROCESSING if key in config}

    @property
    def quick_gelu(self) -> bool:
        """Whether the tag asks for QuickGELU, which a model config may have by itself."""
        return bool(self.tag_config().get("quick_gelu"))

    def register(self) -> None:
        """Register a model config outside open_clip with open_clip."""
        if self.config is not None:
            import open_clip

            open_clip.add_model_config(self.config)

    @property
    def feature_width(self) -> int:
        """Width of the image features, from open_clip's model config; WIDEST where it gives none."""
        return int(self._model_config().get("embed_dim", WIDEST))

    @property
    def size(self) -> int:
        """Side of the square input in pixels, from open_clip's model config."""
        size = self._model_config().get("vision_cfg", {}).get("image_size", DEFAULT_SIZE)
        return int(size if isinstance(size, int) else max(size))

    def _model_config(self) -> Mapping[str, Any]:
        import open_clip

        self.register()
        return open_clip.get_model_config(self.model) or {}

    @property
    def fingerprint(self) -> str:
        """Hash of the configuration, the preprocessing and activation of the tag, and the bytes of the weights."""
        return _fingerprint(self)


@lru_cache(maxsize=8)
def _fingerprint(network: VisionLanguageNetwork) -> str:
    digest = hashlib.sha256(network.model.encode())
    if network.config is not None:
        digest.update(network.config.read_bytes())
    digest.update(json.dumps([network.preprocessing, network.quick_gelu]).encode())
    digest.update(network.weights().read_bytes())
    return digest.hexdigest()


def vision_language_network(name: str) -> VisionLanguageNetwork:
    """The network of that name: a key of NETWORKS, or ``open_clip:MODEL/`` and ``TAG``, ``TAG=FILE`` or ``FILE``.

    ``TAG=FILE`` is a local checkpoint with the preprocessing and activation of a tag. ``FILE`` has open_clip's
    defaults, and is refused where a tag of the model has others. ``check_name`` looks up the model and the tag, and
    imports open_clip.

    Raises:
        InputError: the name is unknown, or the local checkpoint is missing.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if not name.startswith(OPEN_CLIP):
        raise unknown("teacher network", name, [*NETWORKS, f"{OPEN_CLIP}MODEL/TAG", "features:FILE.npz"])
    model, slash, pretrained = name.removeprefix(OPEN_CLIP).partition("/")
    tag, equals, path = pretrained.partition("=")
    if not (model and slash and tag and (path or not equals)):
        raise InputError(f"teacher network '{name}'; expected: {OPEN_CLIP}MODEL/TAG, MODEL/TAG=FILE or MODEL/FILE")
    if "/" in tag or (not equals and Path(tag).suffix in SUFFIXES):
        tag, path = "", pretrained
    if path and not Path(path).is_file():
        raise InputError(f"teacher network '{name}': no checkpoint at {path}; expected: an existing file")
    return VisionLanguageNetwork(name, model, tag or None, Path(path) if path else None)


NETWORKS: dict[str, VisionLanguageNetwork] = {
    network.name: network
    for network in (
        VisionLanguageNetwork("clip_rn50", "RN50-quickgelu", "openai"),
        VisionLanguageNetwork("clip_vitb16", "ViT-B-16-quickgelu", "openai"),
        VisionLanguageNetwork("siglip_vitb16", "ViT-B-16-SigLIP", "webli"),
        VisionLanguageNetwork(
            "glyphclip", "glyphclip", None, WEIGHTS / "glyphclip.safetensors", WEIGHTS / "glyphclip.json"
        ),
    )
}
"""Networks with a short name."""
