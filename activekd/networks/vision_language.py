"""Vision-language networks of open_clip by name, and the files of their weights; open_clip is imported on first use."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from activekd.errors import InputError, unknown
from activekd.networks.checkpoints import Checkpoint, find

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the checkpoints in this package."""

OPEN_CLIP = "open_clip:"
"""Prefix of the name of any other open_clip network."""

WIDEST = 2048
"""Upper bound on the width of an image feature, where the model config gives none."""

DEFAULT_SIZE = 224
"""open_clip's default of the input size, where the model config gives none."""


@dataclass(frozen=True)
class VisionLanguageNetwork:
    """How open_clip builds a network: a model name and a tag of pretrained weights or a local checkpoint.

    Attributes:
        name: its name in specs.
        model: name of the open_clip model config.
        pretrained: one of open_clip's tags for the model, such as ``openai``, or the path of a local checkpoint.
        config: file of a model config outside open_clip, with the stem ``model``; None for open_clip's.
    """

    name: str
    model: str
    pretrained: str
    config: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether ``pretrained`` is the path of a checkpoint."""
        return "/" in self.pretrained or Path(self.pretrained).suffix in {".safetensors", ".pt", ".pth", ".bin"}

    def check_name(self) -> None:
        """Check that open_clip knows the model and the tag.

        Raises:
            InputError: the model or the tag is unknown.
        """
        if self.name in NETWORKS:
            return
        import open_clip

        if self.model not in open_clip.list_models():
            raise unknown("open_clip model", self.model, open_clip.list_models())
        if not self.is_local and not open_clip.is_pretrained_cfg(self.model, self.pretrained):
            tags = open_clip.list_pretrained_tags_by_model(self.model)
            raise unknown(f"weights of {self.model}", self.pretrained, tags)

    def weights(self, *, online: bool = True) -> Path:
        """The file of the weights: the local checkpoint, the file in ``$ACTIVEKD_WEIGHTS``, or the hub's.

        Args:
            online: whether to download a file that this machine lacks.

        Raises:
            InputError: the file is absent from this machine and cannot be downloaded.
        """
        if self.is_local:
            return Path(self.pretrained)
        config = self.tag_config()
        repository, file = os.path.split(config.get("hf_hub", ""))
        tag = self.name if self.name in NETWORKS else f"{self.model}.{self.pretrained}"
        files = (file,) if file else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        return find(Checkpoint(tag, repository or None, files, config.get("url")), online=online)

    def tag_config(self) -> Mapping[str, Any]:
        """open_clip's configuration of the tag: preprocessing, activation, origin; empty for a local checkpoint."""
        if self.is_local:
            return {}
        import open_clip

        return open_clip.get_pretrained_cfg(self.model, self.pretrained)

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
        """Hash of the configuration and of the bytes of the weights."""
        return _fingerprint(self)


@lru_cache(maxsize=8)
def _fingerprint(network: VisionLanguageNetwork) -> str:
    digest = hashlib.sha256(network.model.encode())
    if network.config is not None:
        digest.update(network.config.read_bytes())
    digest.update(network.weights().read_bytes())
    return digest.hexdigest()


def vision_language_network(name: str) -> VisionLanguageNetwork:
    """The network of that name: a key of NETWORKS, or ``open_clip:MODEL/PRETRAINED`` with a tag or a local file.

    ``check_name`` looks up the model and the tag, and imports open_clip.

    Raises:
        InputError: the name is unknown, or the local checkpoint is missing.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if not name.startswith(OPEN_CLIP):
        raise unknown("teacher network", name, [*NETWORKS, f"{OPEN_CLIP}MODEL/PRETRAINED", "features:FILE.npz"])
    model, slash, pretrained = name.removeprefix(OPEN_CLIP).partition("/")
    if not (model and slash and pretrained):
        raise InputError(f"teacher network '{name}'; expected: {OPEN_CLIP}MODEL/PRETRAINED, with a tag or a file")
    network = VisionLanguageNetwork(name, model, pretrained)
    if network.is_local and not Path(pretrained).is_file():
        raise InputError(f"teacher network '{name}': no checkpoint at {pretrained}; expected: an existing file")
    return network


NETWORKS: dict[str, VisionLanguageNetwork] = {
    network.name: network
    for network in (
        VisionLanguageNetwork("clip_rn50", "RN50-quickgelu", "openai"),
        VisionLanguageNetwork("clip_vitb16", "ViT-B-16-quickgelu", "openai"),
        VisionLanguageNetwork("siglip_vitb16", "ViT-B-16-SigLIP", "webli"),
        VisionLanguageNetwork(
            "glyphclip", "glyphclip", str(WEIGHTS / "glyphclip.safetensors"), WEIGHTS / "glyphclip.json"
        ),
    )
}
"""Networks with a short name."""
