"""Both fits on every objective: company, the module's numbers, micro-batches, forward passes, what is left alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_recipe import RECIPE as SMALL
from torch import Tensor, nn
from torch.nn import functional as F

from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.errors import InputError
from activekd.losses import distillation_loss
from activekd.objectives.unlabeled import Running, fixmatch
from activekd.recipes import Distillation, Recipe, ViewGeometry
from activekd.streams import stream
from activekd.students.cohort import MemberFit, fit_cohort
from activekd.students.fit import Guide, fit_student
from activekd.students.heads import Student, build_student
from activekd.students.networks import StudentNetwork, student_network
from activekd.students.predict import label_weight, predict
from activekd.students.step_memory import StepMemory, n_micro_batches
from activekd.students.terms import Terms
from activekd.teachers.classifier import from_prototypes

ADAPTER, HEADS = student_network("adapter:efficientnet_lite0"), student_network("frozen:efficientnet_lite0")
GEOMETRY = ViewGeometry(3, (0.5, 1.0), (1.0, 1.0), 0.0)
RECIPE = replace(
    SMALL,
    lr=0.01,
    weight_decay=0.01,
    steps=5,
    step_rule="fixed",
    warmup=0.0,
    batch_unlabeled=9,
    trunk_width=33,
    ema=0.8,
)
TERMS: dict[str, Recipe] = {
    "dual_head": RECIPE,
    "single_head": replace(RECIPE, objective="single_head"),
    "pseudo_label": replace(RECIPE, objective="pseudo_label", confidence=0.2, ramp=0.4),
    "uda": replace(RECIPE, objective="uda", confidence=0.2),
    "fixmatch": replace(RECIPE, objective="fixmatch", confidence=0.2),
    "freematch": replace(RECIPE, objective="freematch", weight_fairness=0.1),
    "softmatch": replace(RECIPE, objective="softmatch"),
    "feature": replace(RECIPE, weight_feature=0.5),
    "feature_direction": replace(RECIPE, objective="fixmatch", confidence=0.2, weight_feature_direction=0.5),
}
"""Recipes by the term that each test is about; the last combines it with an objective of two views."""

N, DIM, CLASSES, TEACHER_DIM = 60, 37, 7, 24


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def views(width: int, seed: int, count: int = 3) -> Views:
    rng = np.random.default_rng(seed)
    return Views(tuple(rng.normal(size=(N, width)).astype(np.float16) for _ in range(count)))


def fitted(
    seeds: Sequence[int],
    recipe: Recipe,
    distillation: Distillation,
    network: StudentNetwork = ADAPTER,
    *,
    stacked: bool = True,
    device: str = "cpu",
) -> list[Student]:
    inputs, teacher = (replace(each, device=device) for each in (views(DIM, 0), views(TEACHER_DIM, 9)))
    rng = np.random.default_rng(5)
    labels, prototypes = rng.integers(CLASSES, size=N), rng.normal(size=(6, CLASSES, TEACHER_DIM)).astype(np.float32)
    fits = []
    for seed in seeds:
        student = build_student(
            network, (DIM,), CLASSES, trunk_width=recipe.trunk_width, rng=stream(seed, "student", 0)
        )
        rows = np.random.default_rng(seed).permutation(N)
        classifier = from_prototypes(torch.from_numpy(prototypes[seed]).to(device), 10.0)
        guide = None if distillation == "none" else Guide(teacher, classifier)
        labeled = Labeled(rows[:20], labels[rows[:20]])
        fits.append(MemberFit(student, labeled, rows[20:], guide, stream(seed, "batches", 0)))
    if stacked:
        assert fit_cohort(fits, inputs, distillation, recipe, GEOMETRY, device=device) == [None] * len(fits)
    else:
        for f in fits:
            fit_student(f.student, inputs, f.labeled, f.unlabeled, f.guide, distillation, recipe, GEOMETRY, rng=f.rng)
    return [f.student for f in fits]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["fixmatch", "freematch", "softmatch", "feature_direction"])
def test_the_place_in_a_cohort_changes_no_number_on_a_card(name: str) -> None:
    forwards, backwards = (fitted(seeds, TERMS[name], "both", device="cuda") for seeds in ([3, 4, 5], [5, 4, 3]))
    for one, other in zip(forwards, backwards[::-1], strict=True):
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


MODES: tuple[Distillation, ...] = ("none", "both", "unlabeled", "labeled")


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("distillation", MODES[:2])
def test_a_cohort_of_three_has_the_numbers_of_each_alone(name: str, distillation: Distillation) -> None:
    whole = fitted([3, 4, 5], TERMS[name], distillation)
    backwards = fitted([5, 4, 3], TERMS[name], distillation)[::-1]
    for k, seed in enumerate((3, 4, 5)):
        (alone,) = fitted([seed], TERMS[name], distillation)
        for key, value in alone.state_dict().items():
            assert torch.equal(value, whole[k].state_dict()[key]), key
            assert torch.equal(value, backwards[k].state_dict()[key]), key


@pytest.mark.parametrize("network", [ADAPTER, HEADS], ids=["adapter", "frozen"])
@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("distillation", MODES)
def test_a_stacked_fit_is_that_of_the_module(name: str, distillation: Distillation, network: StudentNetwork) -> None:
    recipe = TERMS[name]
    stacked = fitted([0, 1], recipe, distillation, network)
    for one, single in zip(stacked, fitted([0, 1], recipe, distillation, network, stacked=False), strict=True):
        for (key, value), other in zip(one.named_parameters(), single.parameters(), strict=True):
            assert torch.allclose(value, other, atol=2e-4), key


@pytest.mark.parametrize("name", [name for name in TERMS if name not in {"dual_head", "single_head"}])
def test_every_term_changes_the_fit(name: str) -> None:
    """With a teacher; without one too where the objective is semi-supervised."""
    for distillation in ("none", "both"):
        (plain,), (other,) = (fitted([0], recipe, distillation) for recipe in (RECIPE, TERMS[name]))
        moved = (plain.label_head.weight - other.label_head.weight).abs().max().item()
        if distillation == "none" and name == "feature":
            assert moved == 0.0
        else:
            assert moved > 1e-4


def test_a_single_head_leaves_the_other_alone_and_predicts() -> None:
    recipe = TERMS["single_head"]
    for distillation in MODES:
        (student,) = fitted([0], recipe, distillation)
        before = build_student(ADAPTER, (DIM,), CLASSES, trunk_width=33, rng=stream(0, "student", 0))
        assert torch.equal(student.distill_head.weight, before.distill_head.weight)
        assert label_weight(recipe, distillation) == 1.0
        out = predict(student, views(DIM, 0), recipe, distillation)
        with torch.inference_mode():
            logits = student(torch.from_numpy(views(DIM, 0).arrays[0])).label_logits
        torch.testing.assert_close(out.probabilities, logits.softmax(dim=1))
        assert torch.equal(out.heads[0], out.heads[1])
    assert label_weight(RECIPE, "both") == 0.5
    assert label_weight(TERMS["fixmatch"], "both") == 0.5
    assert label_weight(TERMS["fixmatch"], "none") == 1.0


def test_without_a_teacher_an_objective_of_two_heads_trains_the_label_head_alone() -> None:
    before = build_student(ADAPTER, (DIM,), CLASSES, trunk_width=33, rng=stream(0, "student", 0))
    for name in ("pseudo_label", "freematch"):
        (student,) = fitted([0], TERMS[name], "none")
        assert torch.equal(student.distill_head.weight, before.distill_head.weight)
        assert not torch.equal(student.label_head.weight, before.label_head.weight)


class Scaled(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 128 - 1


def convolutional() -> Student:
    torch.manual_seed(3)
    layers = (Scaled(), nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Student(nn.Sequential(*layers), 8, 3)


def trained(recipe: Recipe, distillation: Distillation, micro_batches: int = 1, count: int = 2) -> tuple[Student, int]:
    """A small student trained end to end, and the images that passed through its backbone in training."""
    rng = np.random.default_rng(0)
    pixels = Views(tuple(rng.integers(0, 256, (N, 3, 8, 8), dtype=np.uint8) for _ in range(count)))
    guide = Guide(views(4, 1), from_prototypes(torch.from_numpy(rng.normal(size=(3, 4)).astype(np.float32)), 10.0))
    student, seen = convolutional(), [0]
    student.backbone.register_forward_hook(lambda _, inputs, out: seen.append(len(out)))
    fit_student(
        student,
        pixels,
        Labeled(np.arange(5), np.array([0, 1, 2, 0, 1])),
        np.arange(5, N),
        None if distillation == "none" else guide,
        distillation,
        recipe,
        replace(GEOMETRY, count=count),
        rng=np.random.default_rng(2),
        micro_batches=micro_batches,
    )
    return student, sum(seen)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("distillation", MODES)
def test_forward_passes_are_counted_as_they_are_made(name: str, distillation: Distillation) -> None:
    for rule in ("fixed", "images"):
        recipe = replace(TERMS[name], step_rule=rule)  # pyright: ignore[reportArgumentType]
        _, passes = trained(recipe, distillation)
        assert passes == recipe.forward_passes(5, N - 5, distillation)


@pytest.mark.parametrize("name", ["single_head", "pseudo_label", "uda", "fixmatch", "feature", "feature_direction"])
@pytest.mark.parametrize("distillation", MODES)
@pytest.mark.parametrize("parts", [2, 3])
def test_micro_batches_add_up_to_the_gradients_of_the_whole_batch(
    name: str, distillation: Distillation, parts: int
) -> None:
    recipe = replace(TERMS[name], steps=1, ramp=0.0)
    (whole, _), (cut, _) = (trained(recipe, distillation, k) for k in (1, parts))
    for (key, one), other in zip(whole.named_parameters(), cut.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), key
        if one.grad is not None and other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["freematch", "softmatch"])
def test_micro_batches_of_running_statistics_train_too(name: str) -> None:
    """Thresholds then follow from micro-batches, with a momentum that forgets as much in a step."""
    (whole, passes), (cut, others) = (trained(TERMS[name], "none", k) for k in (1, 3))
    assert passes == others
    moved = (whole.label_head.weight - cut.label_head.weight).abs().max().item()
    assert moved < 0.1


def test_strong_views_count_in_the_memory_of_a_step() -> None:
    memory = StepMemory(fixed=100, per_image=10)
    assert n_micro_batches(memory, 8, 8, 340, views=2) == 1
    assert n_micro_batches(memory, 8, 8, 339, views=2) == 2
    assert n_micro_batches(memory, 8, 8, 339) == 1


def test_the_loss_of_a_step_is_the_sum_of_its_terms() -> None:
    """2 labeled and 3 unlabeled images in two views, distillation on both; half of the ramp."""
    rng = np.random.default_rng(0)
    label, distill, teacher = (torch.from_numpy(rng.normal(size=(n, 4))) for n in (8, 5, 5))
    labels, recipe = torch.tensor([1, 3]), replace(TERMS["fixmatch"], weight_consistency=3.0, weight_kd_unlabeled=0.7)
    terms, running = Terms(recipe, True, True, 2, 3), Running.start((), 4, "cpu")
    assert (terms.weak, terms.label_images, terms.distilled) == (5, 8, slice(0, 5))
    given = label, distill, labels, teacher[:2], teacher[2:], running
    loss, after = terms.loss(*given, shares=(1.0, 1.0), ramp=0.5, ema=0.9)
    supervised = 0.5 * F.cross_entropy(label[:2], labels)
    kd = 0.5 * distillation_loss(distill[:2], teacher[:2], 2.0) + 0.7 * distillation_loss(distill[2:], teacher[2:], 2.0)
    consistency = fixmatch(label[2:5], label[5:], confidence=0.2)
    assert loss.item() == pytest.approx((supervised + kd + 0.5 * 3 * consistency).item())
    assert after is running
    halves, _ = terms.loss(*given, shares=(0.5, 0.25), ramp=1.0, ema=0.9)
    first = 0.5 * (supervised + 0.5 * distillation_loss(distill[:2], teacher[:2], 2.0))
    second = 0.25 * (0.7 * distillation_loss(distill[2:], teacher[2:], 2.0) + 3 * consistency)
    assert halves.item() == pytest.approx((first + second).item())
    one_head = replace(terms, recipe=TERMS["single_head"])
    assert one_head.label_images == 5
    loss, _ = one_head.loss(*given, shares=(1.0, 1.0), ramp=1.0, ema=0.9)
    kd = 0.5 * distillation_loss(label[:2], teacher[:2], 2.0) + 0.5 * distillation_loss(label[2:5], teacher[2:], 2.0)
    assert loss.item() == pytest.approx((supervised + kd).item())


def test_strong_views_of_features_need_two_views() -> None:
    student = build_student(ADAPTER, (DIM,), CLASSES, trunk_width=33, rng=stream(0, "student", 0))
    one = MemberFit(student, Labeled(np.arange(5), np.arange(5)), np.arange(5, N), None, stream(0, "batches", 0))
    alone = replace(GEOMETRY, count=1)
    told = r"objective 'softmatch' on features with one view; expected: a view geometry with count at least 2"
    with pytest.raises(InputError, match=told):
        fit_cohort([one], views(DIM, 0, 1), "none", TERMS["softmatch"], alone)
    assert fit_cohort([one], views(DIM, 0, 1), "none", TERMS["pseudo_label"], alone) == [None]


def test_features_towards_a_teacher_with_view_0_alone() -> None:
    inputs, rows = views(DIM, 0), np.arange(N)
    prototypes = torch.from_numpy(views(TEACHER_DIM, 2).arrays[0][:CLASSES]).float()
    guide = Guide(views(TEACHER_DIM, 9, 1), from_prototypes(prototypes, 10.0))
    for recipe in (TERMS["feature"], TERMS["feature_direction"]):
        student = build_student(ADAPTER, (DIM,), CLASSES, trunk_width=33, rng=stream(0, "student", 0))
        labeled = Labeled(rows[:10], rows[:10] % 4)
        fit = MemberFit(student, labeled, rows[10:], guide, stream(0, "batches", 0))
        assert fit_cohort([fit], inputs, "both", recipe, GEOMETRY) == [None]


@pytest.mark.parametrize("name", ["feature", "feature_direction"])
@pytest.mark.parametrize("stacked", [True, False], ids=["cohort", "alone"])
def test_with_the_pool_used_up_there_is_nothing_to_distil_on(name: str, stacked: bool) -> None:
    inputs, rows = views(DIM, 0), np.arange(N)
    guide = Guide(views(TEACHER_DIM, 9), from_prototypes(torch.ones(CLASSES, TEACHER_DIM), 10.0))
    students = []
    for recipe in (TERMS[name], replace(TERMS[name], weight_feature=0.0, weight_feature_direction=0.0)):
        student = build_student(ADAPTER, (DIM,), CLASSES, trunk_width=33, rng=stream(0, "student", 0))
        fit = MemberFit(student, Labeled(rows, rows % CLASSES), rows[:0], guide, stream(0, "batches", 0))
        if stacked:
            assert fit_cohort([fit], inputs, "unlabeled", recipe, GEOMETRY) == [None]
        else:
            arguments = fit.labeled, fit.unlabeled, guide, "unlabeled", recipe, GEOMETRY
            fit_student(student, inputs, *arguments, rng=fit.rng)
        students.append(student.state_dict())
    assert all(torch.equal(value, students[1][key]) for key, value in students[0].items())
