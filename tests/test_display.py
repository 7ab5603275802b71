"""Labels of names: the given ones, the built-in ones, and names that would look alike."""

import pandas as pd
import pytest

from activekd.datasets import DATASETS
from activekd.datasets.catalog import CATALOG
from activekd.networks.backbones import BACKBONES, NAMED
from activekd.networks.vision_language import NETWORKS
from activekd.teachers import ADAPTATIONS
from bench import display
from bench.display import Display, built_in, display_of, distilled_on, label_of


@pytest.mark.parametrize(
    ("kind", "name", "label"),
    [
        ("teacher", "none", "no distillation"),
        ("teacher", "clip_vitb16+clap", "CLIP ViT-B/16, CLAP"),
        ("teacher", "features:clip_vitb32/caltech101.npz:clip_vitb32/head.npz+zeroshot", "CLIP ViT-B/32, zero-shot"),
        ("teacher", "clip_rn50+lp++", "CLIP RN50, LP++"),
        ("teacher", "features:mine/a+b.npz+tip_adapter", "mine/a+b, Tip-Adapter-F"),
        ("teacher", "features:mine/birds.npz+zeroshot", "mine/birds, zero-shot"),
        ("teacher", "t+zeroshot", "t+zeroshot"),
        ("student", "efficientnet_lite0@64", "EfficientNet-Lite0 at 64 px"),
        ("student", "frozen:resnet18", "ResNet-18, frozen"),
        ("student", "timm:resnet34", "timm:resnet34"),
        ("dataset", "folder:/data/birds", "birds"),
        ("dataset", "arrays:study/birds.npz", "birds"),
        ("group", "caltech101?pool=val&classes=clip/head.npz", "Caltech-101 (pool val, classes head)"),
        ("group", "ten-sets", "ten-sets"),
        ("selector", "pcoreset", "pcoreset"),
        ("recipe", "adapter", "adapter"),
    ],
)
def test_built_in_labels(kind: str, name: str, label: str) -> None:
    assert built_in(kind, name) == label


def test_a_group_of_one_of_several_query_sizes_has_the_label_of_the_group() -> None:
    assert label_of("group", "digits (35 a query)", {}) == "Digits, 35 a query"
    assert label_of("group", "ten (classes a query)", {"ten": "Ten sets"}) == "Ten sets, one per class a query"
    assert label_of("group", "ten (5 a query)", {"ten (5 a query)": "few"}) == "few"
    assert label_of("dataset", "digits (35 a query)", {}) == "digits (35 a query)"


def test_every_name_of_the_library_has_a_label() -> None:
    assert set(display.NETWORKS) >= set(NETWORKS)
    assert set(display.BACKBONES) >= {*BACKBONES, *NAMED}
    assert set(display.DATA_SETS) >= {*DATASETS, *CATALOG}
    assert set(display.ADAPTATIONS) == set(ADAPTATIONS)


def test_names_that_would_look_alike_are_shown_as_they_are() -> None:
    names = {"dataset": ["folder:a/birds", "folder:b/birds", "digits", "x", "y"], "selector": ["x"]}
    found = display_of(names, {"x": "Digits", "y": "Why"})
    assert [found.of("dataset", name) for name in names["dataset"]] == [*names["dataset"][:4], "Why"]
    assert found.selector("x") == "Digits"
    assert found.selector("unknown") == "unknown"


def test_a_frame_with_labels_in_place_of_names() -> None:
    found = Display({"selector": {"a": "A"}, "teacher": {"none": "no distillation"}})
    frame = pd.DataFrame({"selector": ["a", "b"], "against": ["b", "a"], "teacher": ["none", "t"], "first": [1, 2]})
    assert found.applied(frame).to_dict("list") == {
        "selector": ["A", "b"],
        "against": ["b", "A"],
        "teacher": ["no distillation", "t"],
        "first": [1, 2],
    }
    assert frame["selector"].tolist() == ["a", "b"]
    assert found.applied(frame.iloc[:0]).empty


def test_labels_of_teachers_name_the_distillation_mode() -> None:
    assert distilled_on("t", "both") == "t"
    assert distilled_on("no distillation", "none") == "no distillation"
    assert distilled_on("t", "unlabeled") == "t (unlabeled only)"
