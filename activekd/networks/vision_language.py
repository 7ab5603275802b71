"""Vision-language networks of open_clip by name, and where their weights are; open_clip is imported when asked."""

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
"""Checkpoints that come with the package."""

OPEN_CLIP = "open_clip:"

WIDEST = 2048
"""Upper bound on the width of an image feature."""


@dataclass(frozen=True)
class VisionLanguageNetwork:
    """How open_clip builds a network: a model name and a tag of pretrained weights or a local checkpoint.

    Attributes:
        name: in specs.
        model: name of the open_clip model config.
        pretrained: one of open_clip's tags for the model, such as ``openai``, or the path of a local checkpoint.
        config: a model config that is not open_clip's own; its stem is ``model``.
    """

    name: str
    model: str
    pretrained: str
    config: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether ``pretrained`` is the path of a checkpoint and not a tag."""
        return "/" in self.pretrained or Path(self.pretrained).suffix in {".safetensors", ".pt", ".pth", ".bin"}

    def check_name(self) -> None:
        """Check that open_clip knows the model and the tag.

        Raises:
            InputError: an unknown model or tag.
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
        """The file of the weights: as given, from ``$ACTIVEKD_WEIGHTS``, or the hub's.

        Raises:
            InputError: the file is not on this machine and cannot be had.
        """
        if self.is_local:
            return Path(self.pretrained)
        config = self.tag_config()
        repository, file = os.path.split(config.get("hf_hub", ""))
        tag = self.name if self.name in NETWORKS else f"{self.model}.{self.pretrained}"
        files = (file,) if file else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
        return find(Checkpoint(tag, repository or None, files, config.get("url")), online=online)

    def tag_config(self) -> Mapping[str, Any]:
        """What open_clip knows of the tag: preprocessing, activation, origin; empty for a local checkpoint."""
        if self.is_local:
            return {}
        import open_clip

        return open_clip.get_pretrained_cfg(self.model, self.pretrained)

    def register(self) -> None:
        """Make open_clip know a model config that is not its own."""
        if self.config is not None:
            import open_clip

            open_clip.add_model_config(self.config)

    @property
    def feature_width(self) -> int:
        """Width of the image features, from open_clip's model config; WIDEST where it does not say."""
        import open_clip

        self.register()
        config = open_clip.get_model_config(self.model) or {}
        return int(config.get("embed_dim", WIDEST))

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

    The model and the tag are looked up by ``check_name``, which imports open_clip.

    Raises:
        InputError: unknown name, or a local checkpoint that is not there.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if not name.startswith(OPEN_CLIP):
        raise unknown("teacher network", name, [*NETWORKS, f"{OPEN_CLIP}MODEL/PRETRAINED", "features:FILE.npz"])
    model, slash, pretrained = name.removeprefix(OPEN_CLIP).partition("/")
    if not (model and slash and pretrained):
        raise InputError(f"teacher network '{name}'; expected: {OPEN_CLIP}MODEL/PRETRAINED, a tag or a file")
    found = VisionLanguageNetwork(name, model, pretrained)
    if found.is_local and not Path(pretrained).is_file():
        raise InputError(f"teacher network '{name}': no checkpoint at {pretrained}; expected: an existing file")
    return found


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
