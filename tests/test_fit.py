"""A fit's micro-batches, memory, seeds and graphs; predictions and their batches; deterministic algorithms."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.devices import check_device, deterministic_algorithms, limit_memory, memory_bytes, results_device
from activekd.errors import InputError
from activekd.networks.backbones import backbone
from activekd.recipes import ClapRecipe, Distillation, Recipe, ViewGeometry
from activekd.students import fit, graphs, predict, step_memory
from activekd.students.fit import Guide, fit_student
from activekd.students.graphs import is_launch_bound, standing_in
from activekd.students.heads import Student, build_student
from activekd.students.networks import student_network
from activekd.students.predict import PREDICT_BATCH, predict_batch
from activekd.students.step_memory import StepMemory, measure, n_micro_batches, parts_of_step
from activekd.teachers.classifier import from_prototypes

GEOMETRY = ViewGeometry(2, (0.5, 1.0), (0.75, 1.33), 0.5)
LABELED = Labeled(np.arange(5), np.array([0, 1, 2, 0, 1]))
UNLABELED = np.arange(5, 40)
SHAPE = (3, 8, 8)
RECIPE = Recipe(
    lr=0.01,
    weight_decay=0.0,
    steps=1,
    step_rule="fixed",
    schedule="linear",
    warmup=0.0,
    batch_labeled=8,
    batch_unlabeled=6,
    weight_ce=0.5,
    weight_kd_labeled=0.3,
    weight_kd_unlabeled=0.7,
    temperature=2.0,
    label_weight=0.5,
    distill_temperature=1.0,
    single_view="targets",
    clap=ClapRecipe(lr=0.01, momentum=0.9, epochs=1, batch=8, warmup=0.1),
)


def pixels() -> Views:
    rng = np.random.default_rng(0)
    return Views(tuple(rng.integers(0, 256, (40, *SHAPE), dtype=np.uint8) for _ in range(2)))


def guide() -> Guide:
    rng = np.random.default_rng(1)
    features = Views(tuple(rng.normal(size=(40, 4)).astype(np.float16) for _ in range(2)))
    return Guide(features, from_prototypes(torch.from_numpy(rng.normal(size=(3, 4)).astype(np.float32)), 10.0))


class Scaled(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 128 - 1


def network(norm: nn.Module, *more: nn.Module) -> Student:
    """A small convolutional network of eight channels with a norm of choice."""
    torch.manual_seed(3)
    layers = (Scaled(), nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *more)
    return Student(nn.Sequential(*layers), 8, 3)


def trained(
    student: Student,
    micro_batches: int | None,
    distillation: Distillation = "both",
    steps: int = 1,
    device: str = "cpu",
) -> Student:
    fit_student(
        student,
        pixels(),
        LABELED,
        UNLABELED,
        None if distillation == "none" else guide(),
        distillation,
        replace(RECIPE, steps=steps),
        GEOMETRY,
        rng=np.random.default_rng(2),
        device=device,
        micro_batches=micro_batches,
    )
    return student


def gradients(student: Student) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in student.parameters()]


@pytest.mark.parametrize("distillation", ["none", "labeled", "unlabeled", "both"])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_micro_batches_add_up_to_the_gradients_of_the_whole_batch(parts: int, distillation: Distillation) -> None:
    """Also where parts have other sizes: 8 labeled and 6 unlabeled images in 3 or 5 parts."""
    whole, cut = (trained(network(nn.GroupNorm(2, 8)), k, distillation) for k in (1, parts))
    for one, other in zip(gradients(whole), gradients(cut), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
    assert max(float(g.abs().max()) for g in gradients(whole)) > 1e-3


def test_parts_of_a_step_by_hand() -> None:
    assert parts_of_step(5, 3, 2) == [(slice(0, 2), slice(5, 6)), (slice(2, 5), slice(6, 8))]
    assert parts_of_step(4, 0, 2) == [(slice(0, 2), slice(4, 4)), (slice(2, 4), slice(4, 4))]
    assert parts_of_step(4, 2, 1) == [(slice(0, 4), slice(4, 6))]


def test_batch_norm_forgets_as_much_in_two_parts_as_in_one() -> None:
    layer = nn.BatchNorm2d(1, momentum=0.19)
    batch = torch.arange(8.0).reshape(8, 1, 1, 1)
    with step_memory.batch_norm_of_parts(layer, 2):
        assert layer.momentum == pytest.approx(0.1)
        for _ in range(2):
            layer(batch)
    assert layer.momentum == 0.19
    # From mean 0 and variance 1 towards 3.5 and 6: 19 % of the way, as one update with momentum 0.19.
    assert layer.running_mean.item() == pytest.approx(0.19 * 3.5)  # pyright: ignore[reportOptionalMemberAccess]
    assert layer.running_var.item() == pytest.approx(0.81 + 0.19 * 6)  # pyright: ignore[reportOptionalMemberAccess]


def test_micro_batches_are_the_fewest_that_fit() -> None:
    memory = StepMemory(fixed=100, per_image=10)
    assert [n_micro_batches(memory, 8, 8, budget) for budget in (260, 259, 180, 179)] == [1, 2, 2, 3]
    assert n_micro_batches(memory, 8, 0, 140) == 2
    assert [memory.images_within(budget) for budget in (50, 109, 110, 125)] == [0, 0, 1, 2]
    with pytest.raises(InputError, match=r"a training step on 2 images takes .* may use .*; expected: fewer trials"):
        n_micro_batches(memory, 8, 8, 119)


def test_a_step_that_exceeds_the_memory_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    student = network(nn.GroupNorm(2, 8))
    memory = step_memory.memory_of(student.backbone, SHAPE)
    student.register_forward_hook(lambda _, inputs, out: seen.append(len(out.features)))
    monkeypatch.setattr(fit, "step_budget", lambda device: memory.of(7))
    trained(student.eval(), None)
    assert seen == [7, 7]
    assert student.training


def test_the_memory_of_a_step_by_hand() -> None:
    """A linear layer without bias keeps its input and its weights in bfloat16: 2 x 192 bytes an image."""
    linear = nn.Linear(192, 5, bias=False)
    before = linear.weight.clone()
    layer = nn.Sequential(Scaled(), nn.Flatten(), linear).eval()
    memory = measure(layer, SHAPE)
    assert memory.per_image == round(step_memory.TRANSIENT * 2 * 192)
    assert memory.fixed == step_memory.WORKSPACE + step_memory.WEIGHT_BYTES * 192 * 5
    assert not layer.training
    assert torch.equal(linear.weight, before)


def test_measuring_leaves_statistics_and_generators_alone() -> None:
    student = network(nn.BatchNorm2d(8), nn.Dropout())
    before = {name: value.clone() for name, value in student.state_dict().items()}
    state = torch.get_rng_state()
    measure(student.backbone, SHAPE)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_the_memory_of_a_student_is_known_without_its_weights() -> None:
    small = student_network("efficientnet_lite0@64")
    memory = step_memory.step_memory(small)
    with_weights = build_student(small, (3, 64, 64), 5, trunk_width=8, rng=np.random.default_rng(0))
    assert step_memory.memory_of(with_weights.backbone, (3, 64, 64)) == memory
    double = step_memory.step_memory(student_network("efficientnet_lite0@128"))
    assert memory is not None
    assert double is not None
    assert double.per_image == pytest.approx(4 * memory.per_image, rel=0.05)
    assert step_memory.step_memory(student_network("frozen:efficientnet_lite0")) is None


def test_dropout_is_drawn_from_the_stream_of_the_fit() -> None:
    fits = []
    for seed in (0, 1):
        student = network(nn.GroupNorm(2, 8), nn.Dropout(0.5))
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        fits.append(trained(student, 1, steps=3).state_dict())
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, fits[1][name]) for name, value in fits[0].items())


@dataclass(frozen=True)
class Exhausted:
    """Inputs that find the device full."""

    n_rows: int = 40
    shape: tuple[int, ...] = SHAPE
    device: str = "cpu"

    def gather(self, rows: np.ndarray, views: np.ndarray) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 8 GiB")

    def batches(self, rows: np.ndarray, views: np.ndarray) -> Iterator[Tensor]:
        yield self.gather(rows[0], views[0])


def test_a_full_device_is_an_error_with_the_remedy() -> None:
    student = network(nn.GroupNorm(2, 8))
    told = r": CUDA out of memory; expected: fewer trials on a card .*, a smaller batch, a smaller network"
    with pytest.raises(InputError, match=r"a training step on 14 images in 1 micro-batches" + told):
        fit_student(
            *(student, Exhausted(), LABELED, UNLABELED, guide(), "both", RECIPE, GEOMETRY),
            rng=np.random.default_rng(2),
        )
    with pytest.raises(InputError, match="predictions of 40 rows, 512 at a time" + told):
        predict.predict(student, Exhausted(), RECIPE, "both")


@pytest.mark.parametrize(
    ("name", "bound"),
    [("mobilenetv2_100", True), ("efficientnet_lite0", True), ("resnet18", False), ("vit_small_patch16_224", False)],
)
def test_networks_of_depthwise_convolutions_are_launch_bound(name: str, bound: bool) -> None:
    network = backbone(name).build()
    network.reset_classifier(0)
    assert is_launch_bound(network) is bound


def test_a_kept_backbone_trains_the_weights_of_its_student() -> None:
    plain, other = (network(nn.BatchNorm2d(8)) for _ in range(2))
    kept = network(nn.BatchNorm2d(8)).backbone
    for parameter in kept.parameters():
        nn.init.constant_(parameter, 7.0)
    addresses = [p.data_ptr() for p in kept.parameters()]
    own = other.backbone
    trained(plain, 1, steps=3)
    with standing_in(other, kept):
        trained(other, 1, steps=3)
    assert other.backbone is own
    assert [p.data_ptr() for p in kept.parameters()] == addresses
    states = plain.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_batches_of_predictions_are_bounded_by_pixels_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    student = network(nn.GroupNorm(2, 8))
    assert predict_batch(student, (1280,), "cuda") == PREDICT_BATCH
    assert predict_batch(student, (3, 224, 224), "cpu") == 512 * 64 * 64 // 224**2
    monkeypatch.setattr(predict, "step_budget", lambda device: None)
    assert predict_batch(student, (3, 224, 224), "cuda") == 512
    memory = step_memory.memory_of(student.backbone, SHAPE)
    for images, batch in ((100, 100), (9999, 512)):
        monkeypatch.setattr(predict, "step_budget", lambda device, images=images: memory.of(images))
        assert predict_batch(student, SHAPE, "cuda") == batch


def test_predictions_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    student = trained(network(nn.BatchNorm2d(8)), 1)
    whole = predict.predict(student, pixels(), RECIPE, "both", features=True)
    monkeypatch.setattr(predict, "PREDICT_BATCH", 7)
    parts = predict.predict(student, pixels(), RECIPE, "both", features=True)
    assert whole.features is not None
    assert parts.features is not None
    assert (whole.probabilities.shape, whole.heads.shape) == ((40, 3), (2, 40))
    torch.testing.assert_close(whole.probabilities, parts.probabilities)
    torch.testing.assert_close(whole.features, parts.features)
    assert torch.equal(whole.heads, parts.heads)


def test_deterministic_algorithms_are_restored_and_change_nothing_on_the_cpu() -> None:
    states = []
    for on in (False, True):
        with deterministic_algorithms(on):
            assert torch.are_deterministic_algorithms_enabled() is on
            states.append(trained(network(nn.BatchNorm2d(8)), 1, steps=3).state_dict())
        assert not torch.are_deterministic_algorithms_enabled()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    with pytest.raises(KeyError), deterministic_algorithms(True):
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()


def test_devices_that_are_absent_or_unknown_are_refused() -> None:
    check_device("cpu")
    with pytest.raises(InputError, match="device tpu: unknown; expected: cpu"):
        check_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device cuda: this machine has none; expected: cpu"):
            check_device("cuda")
    assert [results_device(device) for device in ("cpu", "cuda", "mps")] == ["cpu", "cuda", "cpu"]


def test_memory_is_bounded_on_cards_alone() -> None:
    limit_memory("cpu", 0.25)
    assert memory_bytes("cpu") is None


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@dataclass(frozen=True)
class OnDevice:
    """Views that are on the device before a fit begins."""

    arrays: Tensor
    device: str = "cuda"

    @property
    def n_rows(self) -> int:
        return self.arrays.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.arrays.shape[2:])

    def __len__(self) -> int:
        return len(self.arrays)

    def gather(self, rows: np.ndarray, views: np.ndarray) -> Tensor:
        rows_there, views_there = (torch.from_numpy(each).to(self.arrays.device) for each in (rows, views))
        return self.arrays[views_there, rows_there]

    def batches(self, rows: np.ndarray, views: np.ndarray) -> Iterator[Tensor]:
        rows_there, views_there = (torch.from_numpy(each).to(self.arrays.device) for each in (rows, views))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
                torch.cuda.set_sync_debug_mode("error")
            for step in range(len(rows)):
                yield self.arrays[views_there[step], rows_there[step]]
        finally:
            torch.cuda.set_sync_debug_mode("default")


def on_cuda(name: str, deterministic: bool = False) -> Student:
    """A student trained for five steps on images that are on the card; a wait of a step is an error."""
    chosen = student_network(name)
    student = build_student(chosen, (3, chosen.size, chosen.size), 3, trunk_width=8, rng=np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 40, 3, chosen.size, chosen.size), dtype=torch.uint8, generator=generator)
    with deterministic_algorithms(deterministic):
        fit_student(
            student,
            OnDevice(images.cuda()),
            LABELED,
            UNLABELED,
            None,
            "none",
            replace(RECIPE, steps=5),
            GEOMETRY,
            rng=np.random.default_rng(2),
            device="cuda",
        )
    return student


@needs_gpu
@pytest.mark.parametrize("name", ["resnet6_mini@32", "efficientnet_lite0@64"])
def test_no_step_waits_for_the_host_and_predictions_stay_on_the_card(name: str) -> None:
    student = on_cuda(name)
    out = predict.predict(student, pixels(), RECIPE, "none", features=True, device="cuda")
    assert out.features is not None
    assert {out.probabilities.device.type, out.features.device.type, out.heads.device.type} == {"cuda"}


@needs_gpu
def test_graphs_train_as_the_eager_network_and_serve_the_next_student(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (on_cuda("efficientnet_lite0@64").eval() for _ in range(2))
    monkeypatch.setattr(graphs, "is_launch_bound", lambda backbone: False)
    eager = on_cuda("efficientnet_lite0@64").eval()
    images = torch.from_numpy(pixels().arrays[0]).cuda()
    with torch.no_grad():
        outs = [student(images).features for student in (first, second, eager)]
    torch.testing.assert_close(outs[0], outs[1])
    assert float(nn.functional.cosine_similarity(outs[0], outs[2]).min()) > 0.99


@needs_gpu
def test_deterministic_fits_are_equal() -> None:
    first, again = (on_cuda("resnet6_mini@32", deterministic=True).state_dict() for _ in range(2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())


@needs_gpu
def test_a_share_of_a_card_bounds_the_memory() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        limit_memory("cuda", 0.5)
        bound = memory_bytes("cuda")
        assert bound is not None
        assert 0.3 * total < bound < 0.5 * total
        with pytest.raises(InputError, match="which every process takes"):
            limit_memory("cuda", 1e-6)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
