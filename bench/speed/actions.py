"""What is timed to know the rate of a task of a plan: the library's own functions on noise of the task's sizes."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from activekd.bank.computing import ENCODE_BATCH, ENCODE_BATCH_CUDA, compute
from activekd.bank.views import RenderedViews, Views, ViewSource
from activekd.datasets import Dataset, Labeled, Split
from activekd.devices import results_device
from activekd.diagnostics import Measured, Opinion, diagnose
from activekd.given import split_teacher
from activekd.images.decoding import SHORT_SIDE
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.recipes import ViewGeometry
from activekd.selectors import selector
from activekd.selectors.contract import declared, made_up_view
from activekd.selectors.query import select
from activekd.streams import stream
from activekd.students.cohort import MemberFit, fit_cohort
from activekd.students.fit import Guide, fit_student
from activekd.students.heads import build_student
from activekd.students.networks import StudentNetwork
from activekd.students.predict import predict
from activekd.teachers import teacher
from activekd.teachers.classifier import from_prototypes
from activekd.teachers.fixed import fit_steps
from activekd.teachers.text_heads import TextHead
from bench.plan.work import PHOTO, PHOTOGRAPH, Estimate, Example, Task
from bench.speed.untrained import untrained_encoder, untrained_student

CPU_PIXELS = 8 * 224**2
"""Most pixels of a batch on a CPU, where larger ones are no faster an image."""

FIT_PIXELS = 64 * 224**2
"""Most pixels of a timed fit on a CPU; bounds its steps."""

FIT_STEPS = 50
"""Most steps of a timed fit elsewhere."""

FIT_ROWS = 2_000_000
"""Most rows of features of a timed fit of a cohort, over its members; bounds its steps."""

WIDTH = 512
"""Numbers a feature of a student trained end to end, about."""

POOL, QUERY = 10_000, 100
"""Most images of a pool, and labels of a query, of which a selection is timed."""

PREDICTED = 2_000
"""Most images of a timed prediction from features."""

FEATURE_BYTES = 64 * 2**20
"""Most bytes of features, which a CPU does not hold in its caches."""

N_VIEWS = 2
CROPS = ViewGeometry(N_VIEWS, (0.5, 1.0), (0.75, 1.3333), 0.5)
RENDERED = 16
SMALL = (28, 28)
"""Height and width in pixels of a small picture."""

LR = 1e-4
"""Of timed fits, which do not diverge on noise."""


@dataclass(frozen=True)
class Timed:
    """An action, and the amount of its task that it does."""

    action: Callable[[], object]
    amount: float


@dataclass(frozen=True)
class Subject:
    """A task with all that its action depends on.

    Attributes:
        task: of a plan.
        example: its sizes; None for a task that is shared by all trials.
        network: the student or the encoder; None for others.
        width: numbers a feature of a student on a frozen backbone; for a query those that it sees. 0 for others.
        teacher_width: numbers a feature of the teacher; 0 without one.
        device: ``cpu``, ``cuda`` or ``mps``.
    """

    task: Task
    example: Example | None
    network: StudentNetwork | VisionLanguageNetwork | None
    width: int
    teacher_width: int
    device: str


def subject(task: Task, estimated: Estimate, device: str) -> Subject:
    """A task of a plan as it is timed."""
    example = estimated.examples.get(task)
    guide = "" if example is None else split_teacher(example.trial.teacher)[0]
    student = task.name if task.part in {"student", "predict"} else "" if example is None else example.trial.student
    network = estimated.encoders.get(task.name) if task.part == "encode" else estimated.students.get(task.name)
    width = estimated.widths.get(student, 0)
    if task.part == "select" and example is not None and estimated.students[student].trunk:
        width = example.trial.recipe.trunk_width
    return Subject(task, example, network, width, estimated.widths.get(guide, 0), device)


def timed(of: Subject) -> Timed:
    """The action that is timed for a task."""
    make: dict[str, Callable[[Subject], Timed]] = {
        "decode": _decoding,
        "render": _rendering,
        "encode": _encoding,
        "teacher": _teaching,
        "student": _training,
        "predict": _predicting,
        "select": _selecting,
        "measure": _measuring,
    }
    return make[of.task.part](of)


def photograph(rng: np.random.Generator) -> np.ndarray:
    """Noise in blocks of 5 x 5 pixels, about as hard to compress as a photograph, (height, width, 3) of PHOTO."""
    height, width = PHOTO
    noise = rng.integers(0, 256, size=(height // 5, width // 5, 3), dtype=np.uint8)
    return np.kron(noise, np.ones((5, 5, 1), dtype=np.uint8))


def _decoding(of: Subject) -> Timed:
    file = io.BytesIO()
    Image.fromarray(photograph(np.random.default_rng(0))).save(file, format="JPEG", quality=90)

    def decode() -> None:
        with Image.open(file) as image:
            image.convert("RGB")

    return Timed(decode, 1)


def _images(n: int, name: str) -> Images:
    """Black images of the size of decoded photographs, or of small pictures."""
    side = (SHORT_SIDE, SHORT_SIDE * PHOTO[1] // PHOTO[0]) if name == PHOTOGRAPH else SMALL
    shapes = np.tile(np.array([side], dtype=np.int64), (n, 1))
    return Images(shapes, np.zeros(n * 3 * side[0] * side[1], dtype=np.uint8))


def _rendering(of: Subject) -> Timed:
    images = _images(RENDERED, of.task.name)
    rows = np.arange(len(images))
    crop = partial(render, images, rows, 1, CROPS, size=of.task.size, interpolation="bicubic")
    return Timed(crop, len(images))


def _batch(of: Subject, images: int, size: int) -> int:
    """Images of a batch: as many as are asked for, on a CPU at most CPU_PIXELS."""
    return max(1, min(images, CPU_PIXELS // size**2)) if of.device == "cpu" else images


def _encoding(of: Subject) -> Timed:
    """The forward pass on a CPU, where rendering is a task of its own; elsewhere rendering too, from decoded images."""
    assert of.network is not None
    encoder = untrained_encoder(of.network, of.device)
    if of.device == "cpu":
        n = _batch(of, ENCODE_BATCH, of.task.size)
        batch = torch.randint(0, 256, (n, 3, of.task.size, of.task.size), dtype=torch.uint8)
        return Timed(torch.inference_mode()(partial(encoder.encode, batch)), n)
    images = _images(ENCODE_BATCH_CUDA, PHOTOGRAPH)
    return Timed(partial(compute, images, encoder, CROPS, [1]), len(images))


def _labeled(n: int, n_classes: int) -> Labeled:
    rows = np.arange(n)
    return Labeled(rows, rows % n_classes)


def _features(of: Subject, n: int, width: int) -> Views:
    rng = np.random.default_rng(width)
    return Views(tuple(rng.normal(size=(n, width)).astype(np.float16) for _ in range(_n_views(of))), of.device)


def _n_views(of: Subject) -> int:
    """Views of the features: those of the trial on a frozen backbone, as far as FEATURE_BYTES go; else N_VIEWS."""
    assert of.example is not None
    if not of.width:
        return N_VIEWS
    within = FEATURE_BYTES // (2 * min(of.example.n_pool, POOL) * of.width)
    return max(1, min(of.example.trial.views.count, within))


def _head(n_classes: int, width: int) -> TextHead:
    text = np.random.default_rng(1).normal(size=(n_classes, width)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return TextHead(text, text, 100.0)


def _geometry(of: Subject) -> ViewGeometry:
    assert of.example is not None
    return replace(of.example.trial.views, count=_n_views(of))


def _teaching(of: Subject) -> Timed:
    assert of.example is not None
    example, recipe, taught = of.example, of.example.trial.recipe.clap, teacher(of.example.trial.teacher)
    n, n_classes = example.n_labeled, example.n_classes
    batches = -(-n // recipe.batch)
    recipe = replace(recipe, epochs=max(1, min(recipe.epochs, 200 // batches)))
    views, head = _features(of, max(n, min(example.n_pool, POOL)), of.teacher_width), _head(n_classes, of.teacher_width)
    labeled, geometry = _labeled(n, n_classes), _geometry(of)
    adapt, members = taught.adapt, example.members

    def fit() -> None:
        rngs = [stream(member, "speed") for member in range(members)]
        adapt(head, views, geometry, [labeled] * members, recipe, rngs, of.device)

    return Timed(fit, members * fit_steps(taught.adaptation, n, recipe))


def _training(of: Subject) -> Timed:
    return _cohort(of) if _network(of).frozen else _end_to_end(of)


def _network(of: Subject) -> StudentNetwork:
    assert isinstance(of.network, StudentNetwork)
    return of.network


def _guide(of: Subject, n: int) -> Guide | None:
    """A teacher of noise for a trial with distillation."""
    assert of.example is not None
    if not of.teacher_width:
        return None
    head = _head(of.example.n_classes, of.teacher_width)
    classifier = from_prototypes(torch.from_numpy(head.text).to(of.device), head.logit_scale)
    return Guide(_features(of, n, of.teacher_width), classifier)


def _cohort(of: Subject) -> Timed:
    assert of.example is not None
    example, student = of.example, _network(of)
    n, members, n_classes, trial = max(2, min(example.n_pool, POOL)), example.members, example.n_classes, example.trial
    n_labeled = min(example.n_labeled, n - 1)
    steps = max(1, min(example.steps, FIT_ROWS // (members * of.task.size)))
    recipe = replace(trial.recipe, steps=steps, step_rule="fixed", lr=LR)
    inputs, guide = _features(of, n, of.width), _guide(of, n)
    labeled, geometry = _labeled(n_labeled, n_classes), _geometry(of)

    def fit() -> None:
        fits = []
        for member in range(members):
            rng = stream(member, "speed")
            made = build_student(student, (of.width,), n_classes, trunk_width=recipe.trunk_width, rng=rng)
            fits.append(MemberFit(made, labeled, np.arange(n_labeled, n), guide, stream(member, "speed batches")))
        fit_cohort(fits, inputs, trial.distillation, recipe, geometry, device=of.device)

    return Timed(fit, members * steps)


def _end_to_end(of: Subject) -> Timed:
    assert of.example is not None
    example, student, recipe = of.example, _network(of), of.example.trial.recipe
    made = untrained_student(student.backbone, example.n_classes)
    share = _batch(of, of.task.size, student.size) / of.task.size
    recipe = replace(
        recipe,
        batch_labeled=max(1, round(share * recipe.batch_labeled)),
        batch_unlabeled=max(1, round(share * recipe.batch_unlabeled)),
        step_rule="fixed",
        lr=LR,
    )
    images = recipe.images_a_step(example.trial.distillation)
    most = FIT_PIXELS // (images * student.size**2) if of.device == "cpu" else FIT_STEPS
    recipe = replace(recipe, steps=max(1, min(example.steps, most)))
    n = 2 * images
    inputs, guide = _pixels(of, n), _guide(of, n)
    labeled, unlabeled, geometry = _labeled(n // 2, example.n_classes), np.arange(n // 2, n), _geometry(of)

    def fit() -> None:
        arguments = made, inputs, labeled, unlabeled, guide, example.trial.distillation, recipe, geometry
        fit_student(*arguments, rng=stream(0, "speed"), device=of.device)

    return Timed(fit, recipe.steps * images)


def _pixels(of: Subject, n: int) -> ViewSource:
    """Inputs of a student: rendered before on a CPU, where rendering is a task of its own; elsewhere at each step."""
    student, rng = _network(of), np.random.default_rng(0)
    if of.device == "cpu":
        shape = (n, 3, student.size, student.size)
        return Views(tuple(rng.integers(0, 256, size=shape, dtype=np.uint8) for _ in range(N_VIEWS)))
    return RenderedViews(_images(n, PHOTOGRAPH), CROPS, student.size, student.backbone.interpolation, of.device)


def _predicting(of: Subject) -> Timed:
    assert of.example is not None
    example, student = of.example, _network(of)
    trial, n_classes = example.trial, example.n_classes
    if student.frozen:
        n, rng = min(PREDICTED, example.n_pool), stream(0, "speed")
        made = build_student(student, (of.width,), n_classes, trunk_width=trial.recipe.trunk_width, rng=rng)
        inputs = _features(of, n, of.width)
    else:
        n = _batch(of, 512, student.size)
        made, inputs = untrained_student(student.backbone, n_classes), _pixels(of, n)
    made, guide = made.to(of.device), _guide(of, n)

    def foretell() -> None:
        predict(made, inputs, trial.recipe, trial.distillation, features=True, device=of.device)
        if guide is not None:
            features = torch.from_numpy(guide.views.arrays[0])
            guide.classifier.to("cpu").logits(features).softmax(dim=1)

    return Timed(foretell, n)


def _results(of: Subject, tensor: Tensor) -> Tensor:
    """A prediction where it stays for the query."""
    return tensor.to(results_device(of.device))


def _selecting(of: Subject) -> Timed:
    assert of.example is not None
    example, chosen = of.example, selector(of.task.name)
    n_classes = example.n_classes
    n, query_size = min(example.n_pool, POOL), min(example.query_size, QUERY)
    view = declared(made_up_view(0, n, n_classes, of.width or WIDTH, min(n_classes, n - query_size)), chosen)
    view = replace(view, arrays={name: _results(of, array) for name, array in view.arrays.items()})
    query = partial(select, chosen, view, query_size)
    return Timed(lambda: query(rng=stream(0, "speed")), n * n_classes * query_size)


def _measuring(of: Subject) -> Timed:
    """The diagnostics of a round, with the teacher's predictions of the pool, which no query needs."""
    assert of.example is not None
    example = of.example
    n_classes, n, query_size = example.n_classes, min(example.n_pool, POOL), min(example.query_size, QUERY)
    view = made_up_view(0, n, n_classes, of.width or WIDTH, min(n_classes, n - query_size))
    split = Split(None, np.arange(n) % n_classes)
    dataset = Dataset("noise", tuple(map(str, range(n_classes))), (), split, split, split)
    student, features = (_results(of, array) for array in (view.student_probabilities, view.features))
    guide, picked = _guide(of, n), np.asarray(view.pool.unlabeled[:query_size])
    heads = torch.zeros(2, n, dtype=torch.int64)

    def measure() -> None:
        opinion = None
        if guide is not None:
            shown = torch.from_numpy(guide.views.arrays[0]).to(guide.classifier.device)
            top = guide.classifier.logits(shown).softmax(dim=1).max(dim=1)
            opinion = Opinion(top.indices.cpu().numpy(), top.values.cpu().numpy())
        teacher_test = None if guide is None else student
        measured = Measured(
            student, lambda rows: features[torch.from_numpy(rows)], student, opinion, teacher_test, heads
        )
        diagnose(dataset, view.pool, picked, measured, rng=stream(0, "speed"))

    return Timed(measure, n * n_classes)
