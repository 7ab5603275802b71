"""Students by name: their facts without weights, weights from a file, and the names that are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from activekd import inputs
from activekd.bank.shards import Shard
from activekd.datasets import load_dataset
from activekd.errors import InputError
from activekd.networks.backbones import NAMED, backbone
from activekd.networks.checkpoints import UnreachableError
from activekd.networks.loading import read_weights
from activekd.recipes import ViewGeometry
from activekd.streams import stream
from activekd.students import encoders
from activekd.students.encoders import FrozenFeatures, check_loads
from activekd.students.heads import Student, build_student, pretrained
from activekd.students.networks import STUDENTS, StudentNetwork, student_network
from bench.checks import check_networks, resolve
from bench.spec import read_spec
from bench.trials.resolved import computed_together

SMALL = "timm:test_resnet"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACTIVEKD_WEIGHTS", str(tmp_path))
    return tmp_path


def saved(architecture: str, file: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    network = timm.create_model(architecture)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return state


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_is_known_without_its_weights(name: str) -> None:
    network = student_network(name)
    assert not network.frozen
    assert network.size in {16, 224}
    if backbone(name).find is not None:
        heads, adapter = student_network(f"frozen:{name}"), student_network(f"adapter:{name}")
        assert (heads.frozen, heads.trunk, adapter.frozen, adapter.trunk) == (True, False, True, True)
        assert heads.encoder_name == adapter.encoder_name == f"frozen:{name}"


def test_inputs_are_made_as_the_weights_want_them() -> None:
    assert backbone("resnet18").interpolation == "bilinear"
    assert backbone("mobilenetv2_100").interpolation == "bicubic"
    assert backbone("vit_small_patch16_224").mean == (0.5, 0.5, 0.5)
    assert backbone("timm:resnet10t.c3_in1k").size == 176
    assert backbone("timm:resnet10t").size == 176


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_reach_the_student(weights: Path, suffix: str) -> None:
    state = saved("test_resnet", weights / f"test_resnet.r160_in1k{suffix}")
    network = student_network(f"{SMALL}@64")
    check_loads(network)
    backbone.cache_clear()
    student = build_student(network, (3, 64, 64), 5, trunk_width=256, rng=stream(0, "student", 0))
    own = dict(student.backbone[1].named_parameters())  # pyright: ignore[reportIndexIssue]
    assert own
    assert all(torch.equal(value, state[name]) for name, value in own.items())
    assert student(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).label_logits.shape == (2, 5)


def test_frozen_student_banks_the_features_of_its_file(weights: Path) -> None:
    saved("test_resnet", weights / "test_resnet.r160_in1k.safetensors")
    network = student_network(f"frozen:{SMALL}@32")
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.manual_seed(0))
    with torch.inference_mode():
        found = FrozenFeatures(network).encode(images)
    assert found.dtype == torch.float16
    torch.manual_seed(7)
    reference: Any = timm.create_model("test_resnet", num_classes=1000).eval()
    with torch.inference_mode():
        wanted = reference.forward_head(reference.forward_features((images / 255 - 0.5) / 0.5), pre_logits=True)
    np.testing.assert_allclose(found.float(), wanted, atol=2e-3)


def test_dino_weights_have_no_classifier(weights: Path) -> None:
    state = {k: v for k, v in timm.create_model("resnet50").state_dict().items() if not k.startswith("fc.")}
    torch.save(state, weights / "dino_resnet50_pretrain.pth")
    check_loads(student_network("resnet50_dino@64"))


def test_missing_weights_name_the_file_to_put_where(weights: Path) -> None:
    with pytest.raises(UnreachableError, match=r"as \$ACTIVEKD_WEIGHTS/resnet18.tv_in1k.safetensors"):
        student_network("resnet18").weights(online=False)
    with pytest.raises(UnreachableError, match=r"dl.fbaipublicfiles.com.*dino_resnet50_pretrain.safetensors"):
        student_network("frozen:resnet50_dino").weights(online=False)


def test_the_folder_of_weights_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACTIVEKD_WEIGHTS", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"ACTIVEKD_WEIGHTS is .*absent: no such folder"):
        student_network("resnet18").weights(online=False)


def test_weights_of_another_architecture_are_named(weights: Path) -> None:
    saved("test_resnet", weights / "resnet10t.c3_in1k.pth")
    with pytest.raises(
        InputError, match=r"resnet10t.c3_in1k.pth are of another architecture: .*unknown weights \(layer3"
    ):
        check_loads(student_network("timm:resnet10t@64"))
    (weights / "test_vit.r160_in1k.pth").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match="expected: a state dict"):
        check_loads(student_network("timm:test_vit"))


def test_weights_are_unwrapped_and_of_half_precision(weights: Path) -> None:
    state = saved("test_resnet", weights / "test_resnet.r160_in1k.pth")
    half = {f"module.{name}": value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save({"epoch": 3, "state_dict": half}, weights / "test_resnet.r160_in1k.pth")
    own = dict(pretrained("timm:test_resnet.r160_in1k")[0][1].named_parameters())  # pyright: ignore[reportIndexIssue]
    assert own
    assert all(torch.equal(value, state[name].half().float()) for name, value in own.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no weights"),
        ([torch.zeros(2)], "expected: a state dict"),
        ({"epoch": 3}, r"1 entries are no tensors \(epoch\)"),
        (torch.nn.Linear(2, 2), "expected: a state dict"),
    ],
)
def test_files_that_are_no_state_dicts_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message):
        read_weights(tmp_path / "weights.pth")


def test_features_that_fp16_cannot_hold_are_not_banked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Large:
        device, size, interpolation = "cpu", 8, "bilinear"

        def encode(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1).float().mul(1e4).half()

    monkeypatch.setattr(inputs, "_encoder", lambda encoder, device: Large())
    split = load_dataset("digits", tmp_path).test
    shard = Shard(
        "digits", "test", 0, split.pixels.fingerprint, "large", "", ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
    )
    network = student_network("frozen:efficientnet_lite0")
    with pytest.raises(
        InputError, match=r"359 of 359 features of digits, test, view 0, from large are not finite, first in row"
    ):
        inputs.compute_shard(shard, split, network, tmp_path)
    assert not shard.path(tmp_path).exists()


def test_shards_of_one_split_are_computed_together_and_only_those_that_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, geometry = load_dataset("digits", tmp_path).test, ViewGeometry(4, (0.5, 1.0), (1.0, 1.0), 0.0)
    seen: list[list[int]] = []

    def counted(images: Any, encoder: Any, geometry: ViewGeometry, views: list[int]) -> list[np.ndarray]:
        seen.append(views)
        return [np.full((len(images), 1), 1 + view, dtype=np.float16) for view in views]

    monkeypatch.setattr(inputs, "compute", counted)
    monkeypatch.setattr(inputs, "_encoder", lambda encoder, device: None)
    shards = [Shard("digits", "test", view, split.pixels.fingerprint, "net", "", geometry) for view in range(4)]
    network = student_network("frozen:efficientnet_lite0")
    inputs.compute_shard(shards[2], split, network, tmp_path)
    for _ in range(2):
        arrays = inputs.compute_shards(shards, split, network, tmp_path)
        assert [array[0, 0] for array in arrays] == [1, 2, 3, 4]
    assert seen == [[2], [0, 1, 3]]
    other = replace(shards[0], split="train")
    assert computed_together([shards[0], other, shards[1]]) == [shards[:2], [other]]


def test_a_network_is_loaded_once_for_all_grids_that_share_a_cache(
    weights: Path, tmp_path: Path, tiny_spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace(
        '"resnet6_mini@16"', '"resnet6_mini@16", "timm:test_resnet@64"'
    )
    tiny_spec.write_text(text, encoding="utf-8")
    names = [t for t in read_spec(str(tiny_spec)).trials if t.teacher == "none"]
    trials = resolve(names, tmp_path, lambda name, done, total: None)
    loaded = []

    def counted(network: StudentNetwork) -> None:
        loaded.append(network.name)
        check_loads(network)

    monkeypatch.setattr(encoders, "check_loads", counted)
    file = weights / "test_resnet.r160_in1k.safetensors"
    saved("test_resnet", file)
    for _ in range(2):
        check_networks(trials, tmp_path)
    assert sorted(loaded) == ["resnet6_mini@16", "timm:test_resnet@64"]

    saved("resnet10t", file)
    pretrained.cache_clear()
    for _ in range(2):
        with pytest.raises(InputError, match="are of another architecture"):
            check_networks(trials, tmp_path)
    assert loaded[2:] == ["timm:test_resnet@64"] * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", "unknown student 'resnet81'; did you mean 'resnet18'"),
        ("timm:resnet81", "unknown timm network 'resnet81'"),
        ("timm:resnet18.tv_in2k", "unknown weights of resnet18 'tv_in2k'; did you mean 'tv_in1k'"),
        ("resnet18@big", "size 'big'"),
        ("vit_small_patch16_224@128", "takes 224 px alone"),
        ("frozen:resnet6_mini", "no pretrained weights to freeze"),
        ("adapter:resnet6_mini", "no pretrained weights to freeze"),
    ],
)
def test_students_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        student_network(name).check_name()


def test_tags_of_named_students_exist() -> None:
    for name, tag in NAMED.items():
        assert tag in timm.list_pretrained(f"{name}.*")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet6_mini@16", (3, 16, 16)),
        ("frozen:efficientnet_lite0", (1280,)),
        ("adapter:efficientnet_lite0", (1280,)),
    ],
)
def test_students_start_from_their_stream(name: str, shape: tuple[int, ...]) -> None:
    network = student_network(name)
    first, again, other = (
        build_student(network, shape, 10, trunk_width=256, rng=stream(s, "student", 0)) for s in (0, 0, 1)
    )
    weights = [torch.cat([p.flatten() for p in s.parameters()]) for s in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    batch = torch.zeros(2, *shape, dtype=torch.float16 if network.frozen else torch.uint8)
    out = first.eval()(batch)
    assert out.label_logits.shape == out.distill_logits.shape == (2, 10)


def test_pretrained_student_is_trained_end_to_end_from_its_weights() -> None:
    network = student_network("efficientnet_lite0@32")
    first, other = (
        build_student(network, (3, 32, 32), 5, trunk_width=256, rng=stream(s, "student", 0)) for s in (0, 1)
    )
    backbones = [torch.cat([p.flatten() for p in s.backbone.parameters()]) for s in (first, other)]
    assert torch.equal(*backbones)
    assert not torch.equal(first.label_head.weight, other.label_head.weight)


def test_frozen_batch_norm_stays_as_pretrained_and_normalises_alike_in_training_and_prediction() -> None:
    network, images = student_network("efficientnet_lite0@32"), torch.randint(0, 256, (4, 3, 32, 32)).byte()

    def build(batch_norm: Literal["trained", "frozen"]) -> Student:
        rng = stream(0, "student", 0)
        return build_student(network, (3, 32, 32), 5, trunk_width=256, batch_norm=batch_norm, rng=rng)

    trained, frozen = build("trained"), build("frozen")
    with torch.no_grad():
        wanted = trained.eval()(images)
        assert torch.allclose(frozen.train()(images).label_logits, wanted.label_logits, atol=1e-4)
        assert not torch.allclose(trained.train()(images).label_logits, wanted.label_logits, atol=1e-2)
    before = dict(build("frozen").state_dict())
    optimiser = torch.optim.SGD(frozen.parameters(), lr=0.1)
    frozen.train()(images).label_logits.sum().backward()
    optimiser.step()
    changed = {name for name, value in frozen.state_dict().items() if not torch.equal(value, before[name])}
    assert "label_head.weight" in changed
    assert any(".conv" in name for name in changed)
    assert not any(".bn" in name for name in changed)
