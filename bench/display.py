"""How names are shown to people: the labels of a spec's ``[display]``, and those of known networks and data sets."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from activekd.given import ARRAYS, FEATURES, FOLDER, GIVEN, split_name, split_teacher
from activekd.recipes import NO_TEACHER

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("dataset", "group", "teacher", "student", "recipe", "selector")
"""Kinds of names: columns of a table of rounds."""

KIND_OF: Mapping[str, str] = {
    **{kind: kind for kind in KINDS},
    "against": "selector",
    "oracle": "selector",
    "reference": "selector",
}
"""The kind of the names in a column of a frame."""

NO_DISTILLATION = "no distillation"

NETWORKS = {
    "clip_rn50": "CLIP RN50",
    "clip_vitb16": "CLIP ViT-B/16",
    "clip_vitb32": "CLIP ViT-B/32",
    "siglip_vitb16": "SigLIP ViT-B/16",
    "glyphclip": "GlyphCLIP",
    GIVEN: "given features",
}
"""Labels of teacher networks."""

ADAPTATIONS = {
    "zeroshot": "zero-shot",
    "clap": "CLAP",
    "tip_adapter": "Tip-Adapter-F",
    "lp++": "LP++",
    "transclip": "TransCLIP",
}
"""Labels of adaptations."""

BACKBONES = {
    "efficientnet_lite0": "EfficientNet-Lite0",
    "mobilenetv2_100": "MobileNetV2",
    "resnet6_mini": "ResNet-6 mini",
    "resnet18": "ResNet-18",
    "resnet50_dino": "ResNet-50 (DINO)",
    "tiny_vit_21m_224": "TinyViT-21M",
    "vit_small_patch16_224": "ViT-S/16",
    GIVEN: "given features",
}
"""Labels of student backbones."""

DATA_SETS = {
    "caltech101": "Caltech-101",
    "digits": "Digits",
    "dtd": "DTD",
    "eurosat": "EuroSAT",
    "fgvc_aircraft": "FGVC Aircraft",
    "food101": "Food-101",
    "imagenet": "ImageNet",
    "mnist5k": "MNIST-5k",
    "oxford_flowers": "Oxford Flowers",
    "oxford_pets": "Oxford Pets",
    "stanford_cars": "Stanford Cars",
    "sun397": "SUN397",
    "ucf101": "UCF101",
}

CONDITION_LABELS = {"imbalance": "imbalance", "noise": "label noise", "open": "open set", "duplicates": "duplicates"}
"""Labels of the conditions of data sets."""

PATHS = (FOLDER, ARRAYS)
"""Prefixes of data sets that are named by a path."""

OF_QUERY = re.compile(r"(?P<group>.+) \((?P<size>\d+|classes) a query\)")
"""The name of a group in a block of several query sizes, as ``group_of_query`` writes it."""


@dataclass(frozen=True)
class Display:
    """Labels of the names of a run.

    Attributes:
        labels: label by name, by kind; a name without one is shown as it is.
    """

    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])

    def of(self, kind: str, name: str) -> str:
        """The label of a name of one of KINDS."""
        return self.labels.get(kind, {}).get(name, name)

    def selector(self, name: str) -> str:
        """The label of a selector."""
        return self.of("selector", name)

    def applied(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """A frame with labels in place of names, in the columns of KIND_OF."""
        changed = {
            column: frame[column].map(lambda name, kind=kind: self.of(kind, str(name))).astype(object)
            for column, kind in KIND_OF.items()
            if column in frame
        }
        return frame.assign(**changed)


def display_of(names: Mapping[str, Iterable[str]], given: Mapping[str, str]) -> Display:
    """The labels of the names of a run: the given ones, else built-in ones.

    Names of one kind whose labels are equal are shown as they are, so that no two of them look alike.

    Args:
        names: of each kind.
        given: label by name.
    """
    labels = {}
    for kind, of_kind in names.items():
        wanted = {name: label_of(kind, name, given) for name in of_kind}
        counts = Counter(wanted.values())
        labels[kind] = {name: label if counts[label] == 1 else name for name, label in wanted.items()}
    return Display(labels)


def group_of_query(group: str, query_size: int | str) -> str:
    """The name of a group in a block of several query sizes.

    >>> group_of_query("caltech-70", 35), group_of_query("digits", "classes")
    ('caltech-70 (35 a query)', 'digits (classes a query)')
    """
    return f"{group} ({query_size} a query)"


def label_of(kind: str, name: str, given: Mapping[str, str]) -> str:
    """The given label of a name, else the built-in one.

    A group of one of several query sizes has the label of the group, and behind it the query size.

    >>> label_of("group", "digits (35 a query)", {"digits": "Handwritten digits"})
    'Handwritten digits, 35 a query'
    """
    several = OF_QUERY.fullmatch(name) if kind == "group" and name not in given else None
    if several is None:
        return given.get(name, built_in(kind, name))
    size = "one per class" if several["size"] == "classes" else several["size"]
    return f"{label_of(kind, several['group'], given)}, {size} a query"


def ceiling_label(name: str, given: Mapping[str, str]) -> str:
    """The label of an oracle, which says that it is one.

    Args:
        name: of the oracle.
        given: label by name.
    """
    return f"{given.get(name, name)} (oracle)"


def names_in(rows: "pd.DataFrame") -> dict[str, list[str]]:
    """The distinct names of each kind in a table of rounds."""
    return {kind: rows[kind].drop_duplicates().tolist() for kind in KINDS}


def distilled_on(label: str, distillation: str) -> str:
    """The label of a teacher with the distillation mode, unless it is ``both`` or there is no teacher."""
    return f"{label} ({distillation} only)" if distillation in {"labeled", "unlabeled"} else label


def built_in(kind: str, name: str) -> str:
    """The built-in label of a name; unknown names, selectors and recipes are shown as they are.

    >>> built_in("teacher", "clip_vitb16+zeroshot")
    'CLIP ViT-B/16, zero-shot'
    >>> built_in("student", "adapter:efficientnet_lite0@128")
    'EfficientNet-Lite0 at 128 px, adapter'
    >>> built_in("dataset", "caltech101?pool=val&classes=clip/head.npz")
    'Caltech-101 (pool val, classes head)'
    >>> built_in("dataset", "caltech101?pool=val&imbalance=10")
    'Caltech-101 (pool val), imbalance 10'
    """
    match kind:
        case "dataset" | "group":
            return _data_set(name)
        case "teacher":
            return _teacher(name)
        case "student":
            return _student(name)
    return name


def _data_set(name: str) -> str:
    """Choices stand in brackets, conditions after them."""
    base, pairs = split_name(name)
    prefix = next((prefix for prefix in PATHS if base.startswith(prefix)), "")
    label = (PurePath(base.removeprefix(prefix)).stem or name) if prefix else DATA_SETS.get(base)
    if label is None:
        return name
    chosen = ", ".join(f"{key} {PurePath(value).stem}" for key, value in pairs if key not in CONDITION_LABELS)
    conditions = (f", {CONDITION_LABELS[key]} {value}" for key, value in pairs if key in CONDITION_LABELS)
    return f"{label}{f' ({chosen})' if chosen else ''}{''.join(conditions)}"


def _teacher(name: str) -> str:
    """Features from a file are named after the known network in its path, else after the file."""
    if name == NO_TEACHER:
        return NO_DISTILLATION
    network, adaptation = split_teacher(name)
    if network.startswith(FEATURES):
        file = network.removeprefix(FEATURES).split(":")[0].removesuffix(".npz")
        known = [NETWORKS[part] for part in PurePath(file).parts if part in NETWORKS]
        network = known[0] if known else file
    elif network in NETWORKS:
        network = NETWORKS[network]
    else:
        return name
    return f"{network}, {ADAPTATIONS.get(adaptation, adaptation)}"


def _student(name: str) -> str:
    kind, colon, rest = name.partition(":")
    trained = kind if colon and kind in {"adapter", "frozen"} else ""
    backbone, _, pixels = (rest if trained else name).partition("@")
    if backbone not in BACKBONES:
        return name
    size = f" at {pixels} px" if pixels else ""
    return f"{BACKBONES[backbone]}{size}" + (f", {trained}" if trained else "")
