"""Cohorts of the library: company changes no number, equal fits are computed once, a member leaves alone."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from cards import Card, OnCard
from small_recipe import RECIPE as SMALL

from activekd.bank.views import Views
from activekd.datasets import Dataset, Labeled, Split
from activekd.errors import InputError
from activekd.fitted import Taught, naming
from activekd.loop import run_cohort, run_rounds
from activekd.recipes import ViewGeometry
from activekd.rounds import FirstFit, Member, Outcome, Round, StudentViews, TeacherViews
from activekd.selectors import selector
from activekd.selectors.selector import Selector
from activekd.selectors.view import PoolView
from activekd.starts import Start
from activekd.starts.rows import balanced
from activekd.streams import stream
from activekd.students import cohort
from activekd.students.cohort import MOST_TOGETHER, MemberFit, fit_cohort, together
from activekd.students.fit import Guide, fit_student
from activekd.students.heads import Student, build_student
from activekd.students.networks import StudentNetwork, student_network
from activekd.teachers.clap import clap
from activekd.teachers.classifier import from_prototypes
from activekd.teachers.text_heads import TextHead

N, DIM, CLASSES, WIDTH = 90, 37, 5, 16
GEOMETRY = ViewGeometry(count=3, scale=(0.5, 1.0), ratio=(1.0, 1.0), flip=0.0)
RECIPE = replace(
    SMALL,
    lr=0.01,
    weight_decay=0.01,
    steps=6,
    step_rule="fixed",
    warmup=0.1,
    batch_unlabeled=9,
    clap=replace(SMALL.clap, epochs=4, batch=4),
    trunk_width=WIDTH,
)
ADAPTER, HEADS = student_network("adapter:efficientnet_lite0"), student_network("frozen:efficientnet_lite0")
SELECTORS = ("random", "entropy", "pcoreset", "badge")
COSTS = {"teacher_seconds", "train_seconds", "predict_seconds", "select_seconds", "peak_rss_bytes"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def features(width: int, n: int, views: int, seed: int = 0) -> Views:
    rng = np.random.default_rng(seed)
    return Views(tuple(rng.normal(size=(n, width)).astype(np.float16) for _ in range(views)))


def world() -> Dataset:
    rng = np.random.default_rng(1)
    train, test = (Split(None, np.sort(rng.integers(CLASSES, size=n))) for n in (N, 40))
    names = tuple(f"class {k}" for k in range(CLASSES))
    return Dataset("world", names, ("{}",), train, Split(None, test.labels[:0]), test)


def student_views(network: StudentNetwork = ADAPTER) -> StudentViews:
    return StudentViews(network, features(DIM, N, 3), features(DIM, 40, 1))


def teacher_views() -> TeacherViews:
    text = np.random.default_rng(2).normal(size=(CLASSES, 11)).astype(np.float32)
    zero_shot = text / np.linalg.norm(text, axis=1, keepdims=True)
    test = features(11, 40, 1, seed=4).arrays[0]
    return TeacherViews("given+clap", clap, TextHead(zero_shot, text, 100.0), features(11, N, 3, seed=3), test)


def members(*wanted: tuple[str, int]) -> list[Member]:
    return [Member(selector(name), seed) for name, seed in wanted]


def run(
    some: Sequence[Member], network: StudentNetwork = ADAPTER, *, taught: bool = True, device: str = "cpu"
) -> list[Outcome]:
    return list(
        run_cohort(
            world(),
            student_views(network),
            teacher_views() if taught else None,
            some,
            RECIPE,
            GEOMETRY,
            rounds=3,
            start=Start(),
            query_size=4,
            distillation="both" if taught else "none",
            device=device,
            diagnostics=True,
        )
    )


def numbers(outcomes: Sequence[Outcome], member: int) -> list[str]:
    """The rounds of a member without what they cost; as text, in which NaN equals itself."""
    rounds = [outcome.result for outcome in outcomes if outcome.member == member]
    assert all(isinstance(one, Round) for one in rounds)
    return [repr({k: v for k, v in asdict(one).items() if k not in COSTS}) for one in rounds if isinstance(one, Round)]


@pytest.mark.parametrize("network", [ADAPTER, HEADS], ids=["adapter", "frozen"])
@pytest.mark.parametrize("taught", [True, False], ids=["taught", "alone"])
def test_company_changes_no_number(network: StudentNetwork, taught: bool) -> None:
    wanted = [(name, seed) for seed in (0, 1) for name in SELECTORS]
    together_ = run(members(*wanted), network, taught=taught)
    backwards = run(members(*wanted[::-1]), network, taught=taught)
    for k in (0, 3, 6):
        alone = numbers(run(members(wanted[k]), network, taught=taught), 0)
        assert len(alone) == 3
        assert numbers(together_, k) == alone
        assert numbers(backwards, len(wanted) - 1 - k) == alone


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("network", [ADAPTER, HEADS], ids=["adapter", "frozen"])
def test_company_changes_no_number_on_a_card(network: StudentNetwork) -> None:
    everyone = members(*((name, seed) for name in (*SELECTORS, "disagreement") for seed in (0, 1)))
    together = run(everyone, network, device="cuda")
    for position, member in enumerate(everyone):
        assert numbers(run([member], network, device="cuda"), 0) == numbers(together, position)


def test_a_device_that_is_absent_is_refused_before_any_work() -> None:
    with pytest.raises(InputError, match=r"^device mps: this machine has none; expected: cpu"):
        run(members(("random", 0)), device="mps")


def test_a_teacher_predicts_on_its_device() -> None:
    views = teacher_views()
    assert views.test is not None
    here = Taught(views, from_prototypes(torch.from_numpy(views.head.text), views.head.logit_scale))
    with Card():
        there = Taught(views, here.classifier.to("cuda"))
        found = there.probabilities(views.test)
        assert isinstance(found, OnCard)
        assert torch.equal(found.cpu(), here.probabilities(views.test))
        assert np.array_equal(there.opinion().classes, here.opinion().classes)


def test_a_full_device_names_the_round_and_the_remedy() -> None:
    told = "^round 3, somebody: a computation: CUDA out of memory; expected: fewer trials on a card"
    with pytest.raises(InputError, match=told), naming(3, "somebody"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_run_is_a_cohort_of_one() -> None:
    alone = run(members(("pcoreset", 1)))
    rounds = run_rounds(
        world(),
        student_views(),
        teacher_views(),
        selector("pcoreset"),
        RECIPE,
        GEOMETRY,
        rounds=3,
        start=Start(),
        query_size=4,
        distillation="both",
        seed=1,
        diagnostics=True,
    )
    assert numbers([Outcome(0, one) for one in rounds], 0) == numbers(alone, 0)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("dim", "n_classes"), [(511, 37), (128, 10)])
def test_stacked_fits_are_equal_bit_for_bit(count: int, dim: int, n_classes: int) -> None:
    whole = fitted(range(6), dim, n_classes)
    some = range(6 - count, 6)
    for student, other in zip(fitted(some, dim, n_classes), [whole[k] for k in some], strict=True):
        for name, value in student.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name


def fitted(seeds: Sequence[int], dim: int, n_classes: int, *, stacked: bool = True) -> list[Student]:
    inputs, teacher = features(dim, 60, 3), features(24, 60, 3, seed=9)
    rng = np.random.default_rng(5)
    labels, prototypes = rng.integers(n_classes, size=60), rng.normal(size=(6, n_classes, 24)).astype(np.float32)
    fits = []
    for seed in seeds:
        student = build_student(ADAPTER, (dim,), n_classes, trunk_width=33, rng=stream(seed, "student", 0))
        rows = np.random.default_rng(seed).permutation(60)
        labeled = Labeled(rows[:20], labels[rows[:20]])
        guide = Guide(teacher, from_prototypes(torch.from_numpy(prototypes[seed]), 100.0))
        fits.append(MemberFit(student, labeled, rows[20:], guide, stream(seed, "batches", 0)))
    if stacked:
        assert fit_cohort(fits, inputs, "both", RECIPE, GEOMETRY) == [None] * len(fits)
    else:
        for f in fits:
            arguments = (f.student, inputs, f.labeled, f.unlabeled, f.guide, "both", RECIPE, GEOMETRY)
            fit_student(*arguments, rng=f.rng)
    return [f.student for f in fits]


@pytest.mark.parametrize("threads", [1, 2])
def test_teachers_are_equal_bit_for_bit_with_any_number_of_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    views = features(1024, 120, 2)
    text = np.random.default_rng(2).normal(size=(100, 1024)).astype(np.float32)
    head = TextHead(text / np.linalg.norm(text, axis=1, keepdims=True), text, 100.0)
    draws = [np.random.default_rng(k).permutation(120)[:69] for k in range(6)]
    labeled = [Labeled(rows, rows % 100) for rows in draws]

    def taught(some: Sequence[int]) -> torch.Tensor:
        recipe = replace(RECIPE.clap, epochs=3, batch=5)
        rngs = [stream(k, "teacher", 0) for k in some]
        stack = clap(head, views, replace(GEOMETRY, count=2), [labeled[k] for k in some], recipe, rngs)
        return stack.tensors["prototypes"]

    together_ = taught(range(6))
    for k in range(6):
        assert torch.equal(taught([k])[0], together_[k])
    assert torch.get_num_threads() == threads


def test_a_stacked_fit_is_that_of_the_module() -> None:
    """The folded LayerNorm and the transposed weights compute what ``Student`` computes, to rounding."""
    for stacked, single in zip(fitted([0, 1], 40, 7), fitted([0, 1], 40, 7, stacked=False), strict=True):
        for (name, value), other in zip(stacked.named_parameters(), single.parameters(), strict=True):
            assert torch.allclose(value, other, atol=2e-4), name
        before = build_student(ADAPTER, (40,), 7, trunk_width=33, rng=stream(0, "student", 0))
        moved = stacked.get_parameter("backbone.norm.weight") - before.get_parameter("backbone.norm.weight")
        assert moved.abs().max() > 1e-3


def test_equal_fits_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    whole = cohort.fit_cohort

    def counting(fits: Sequence[MemberFit], *arguments: object, **named: object) -> object:
        counted.append(len(fits))
        return whole(fits, *arguments, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("activekd.fitting.fit_cohort", counting)
    outcomes = run(members(*((name, seed) for seed in (0, 1) for name in SELECTORS)))
    assert counted == [2, 8, 8]
    first = [numbers(outcomes, k)[0] for k in range(8)]
    assert len({text.partition("picked")[0] + text.partition("accuracy")[2][:40] for text in first[:4]}) == 1


def test_a_cohort_resumes_from_any_state_of_its_members() -> None:
    wanted = [("random", 0), ("entropy", 0), ("pcoreset", 1), ("badge", 1)]
    whole = run(members(*wanted))
    done = [0, 1, 2, 3]
    resumed = []
    for k, (member, n) in enumerate(zip(members(*wanted), done, strict=True)):
        picked = [o.result.picked for o in whole if o.member == k and isinstance(o.result, Round)][:n]
        resumed.append(replace(member, picked=picked))
    outcomes = run(resumed)
    for k, n in enumerate(done):
        assert numbers(outcomes, k) == numbers(whole, k)[n:]
    rounds = [o.result.index for o in outcomes if isinstance(o.result, Round)]
    assert rounds == sorted(rounds)


def test_a_selector_that_raises_leaves_alone() -> None:
    def broken(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        raise RuntimeError("no idea")

    some = [*members(("random", 0), ("entropy", 0)), Member(Selector("broken", broken, frozenset()), 0)]
    outcomes = run([some[0], some[2], some[1]])
    assert numbers(outcomes, 0) == numbers(run(some[:1]), 0)
    assert numbers(outcomes, 2) == numbers(run(some[1:2]), 0)
    (left,) = [o.result for o in outcomes if o.member == 1]
    assert isinstance(left, RuntimeError)
    assert left.__notes__ == ["selector 'broken'", "round 0"]


@pytest.mark.parametrize("reader", ["random", "entropy", "pcoreset", "badge"])
def test_what_a_selector_writes_into_its_view_reaches_no_other(reader: str) -> None:
    def sharpens(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        p = view.student_probabilities.numpy()
        p *= p
        p /= p.sum(axis=1, keepdims=True)
        return view.pool.unlabeled[:query_size]

    def shuffles(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
        rng.shuffle(view.pool.unlabeled)
        return view.pool.unlabeled[:query_size]

    writers = [
        Member(Selector("sharpens", sharpens, frozenset({"student_probabilities"})), 0),
        Member(Selector("shuffles", shuffles, frozenset()), 0),
    ]
    outcomes = run([*writers, *members((reader, 0))])
    assert numbers(outcomes, 2) == numbers(run(members((reader, 0))), 0)
    for k, writer in enumerate(writers):
        assert numbers(outcomes, k) == numbers(run([writer]), 0)


def test_a_fit_that_is_not_finite_leaves_alone() -> None:
    """NaN in a row that one seed alone has labeled reaches neither the other member's fit nor its numbers."""
    some = members(("random", 0), ("random", 1))
    first, second = (set(balanced(world(), CLASSES, seed)) for seed in (0, 1))
    inputs = features(DIM, N, 3)
    student = replace(student_views(HEADS), train=inputs)
    for array in inputs.banked[1:]:
        array[min(second - first)] = np.nan

    def round_0(student: StudentViews, some: Sequence[Member]) -> list[Outcome]:
        arguments = (world(), student, None, some, RECIPE, GEOMETRY)
        return list(run_cohort(*arguments, rounds=1, start=Start(), query_size=4, distillation="none"))

    healthy, broken = round_0(student, some)
    assert isinstance(broken.result, InputError)
    assert str(broken.result).startswith("round 0, student 'frozen:efficientnet_lite0': 2 of 4 tensors of weights")
    assert numbers([healthy], 0) == numbers(round_0(student_views(HEADS), some[:1]), 0)


def test_the_width_of_a_block_follows_from_shapes_and_memory() -> None:
    # 2,048 features, 1,000 classes, a trunk of 256, 64 + 64 images, 300 steps. Floats: parameters 524,288 + 4,096 +
    # 256 + 514,000 = 1,042,640, four times; folded weights 524,288, six times; activations 128 x (6,144 + 1,024 +
    # 10,000) = 2,197,504. Draws: 300 x 128 x 16 = 614,400 bytes, twice.
    recipe = replace(RECIPE, batch_labeled=64, batch_unlabeled=64, trunk_width=256)
    each = 4 * (4 * 1_042_640 + 6 * 524_288 + 2_197_504) + 2 * 614_400
    assert together(2048, 1000, recipe, trunk=True, steps=300) == 225_000_000 // each == 5
    assert together(512, 10, recipe, trunk=False, steps=300) == MOST_TOGETHER
    assert together(2048, 1000, replace(recipe, batch_unlabeled=4096), trunk=True, steps=10**6) == 1


class Memory:
    """Keeps fits of round 0 in a dictionary, and counts what is asked of it."""

    def __init__(self) -> None:
        self.kept: dict[int, FirstFit] = {}
        self.asked: list[int] = []

    def read(self, seed: int) -> FirstFit | None:
        self.asked.append(seed)
        return self.kept.get(seed)

    def write(self, seed: int, fit: FirstFit) -> None:
        assert seed not in self.kept
        self.kept[seed] = fit


def test_the_first_fit_of_an_end_to_end_student_is_kept_and_shared() -> None:
    student = student_network("resnet6_mini@16")
    rng = np.random.default_rng(0)
    images = Views(tuple(rng.integers(256, size=(N, 3, 16, 16), dtype=np.uint8) for _ in range(3)))
    test = Views((rng.integers(256, size=(40, 3, 16, 16), dtype=np.uint8),))

    def outcomes(some: list[Member], kept: Memory | None) -> list[Outcome]:
        return list(
            run_cohort(
                world(),
                StudentViews(student, images, test),
                teacher_views(),
                some,
                RECIPE,
                GEOMETRY,
                rounds=2,
                start=Start(),
                query_size=4,
                distillation="both",
                first_fits=kept,
            )
        )

    kept, some = Memory(), members(("random", 0), ("entropy", 0))
    (first, _), (second, _) = outcomes(some[:1], kept), outcomes(some[1:], kept)
    assert kept.asked == [0, 0]
    assert isinstance(first.result, Round)
    assert isinstance(second.result, Round)
    assert second.result.train_seconds == first.result.train_seconds == kept.kept[0].train_seconds > 0
    assert second.result.accuracy == first.result.accuracy
    for member in (0, 1):
        alone = outcomes([some[member]], None)
        assert numbers(outcomes([some[member]], kept), 0) == numbers(alone, 0)
        assert numbers(outcomes(some, None), member) == numbers(alone, 0)
