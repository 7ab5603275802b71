"""Teachers by name: a vision-language network plus an adaptation to the labels of a round.

Names resolve without torch; the function of an adaptation is imported on first use.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from activekd.bank.given import GivenByData, GivenFeatures, given_features
from activekd.errors import unknown
from activekd.given import FEATURES, GIVEN, split_teacher
from activekd.networks.vision_language import NETWORKS, VisionLanguageNetwork, vision_language_network
from activekd.recipes import NO_TEACHER


@dataclass(frozen=True)
class Teacher:
    """A vision-language network plus an adaptation.

    Attributes:
        name: ``NETWORK+ADAPTATION``, as in ``clip_rn50+clap``.
        network: a network of open_clip, or features computed elsewhere, in files or in the data set.
        adaptation: a key of ADAPTATIONS.
    """

    name: str
    network: VisionLanguageNetwork | GivenFeatures | GivenByData
    adaptation: str

    @property
    def adapt(self) -> Callable[..., Any]:
        """Fits the teachers of a round, with the arguments and the result of ``activekd.teachers.clap.clap``."""
        return resolve_name(ADAPTATIONS[self.adaptation])


def teacher(name: str) -> Teacher:
    """The teacher of that name: ``NETWORK+ADAPTATION``.

    Raises:
        InputError: the adaptation is missing or unknown, the network is unknown, or a file is missing.
    """
    network, adaptation = split_teacher(name)
    if not network:
        raise unknown("teacher", name, [NO_TEACHER, *(f"{n}+{a}" for n in NETWORKS for a in ADAPTATIONS)])
    if adaptation not in ADAPTATIONS:
        raise unknown("teacher adaptation", adaptation, ADAPTATIONS)
    if network == GIVEN:
        return Teacher(name, GivenByData("teacher"), adaptation)
    find = given_features if network.startswith(FEATURES) else vision_language_network
    return Teacher(name, find(network), adaptation)


ADAPTATIONS: dict[str, str] = {
    "zeroshot": "activekd.teachers.zeroshot:zeroshot",
    "clap": "activekd.teachers.clap:clap",
    "tip_adapter": "activekd.teachers.tip_adapter:tip_adapter",
    "lp++": "activekd.teachers.lp_plus_plus:lp_plus_plus",
    "transclip": "activekd.teachers.transclip:transclip",
}
"""The module and function of each adaptation; all take the arguments of ``clap``, and return a stack."""
