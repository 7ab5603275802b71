"""Images per second of each network of a spec on this machine, and of rendering and decoding."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from activekd.images.decoding import SHORT_SIDE
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.networks.vision_language import WIDEST, VisionLanguageNetwork, vision_language_network
from activekd.recipes import ViewGeometry
from activekd.students.heads import AsFloat, Student
from activekd.students.networks import StudentNetwork, student_network
from activekd.students.predict import mixed_precision
from bench.plan import PHOTO, Estimate, Throughput
from bench.speed.untrained import untrained_student, untrained_vision_language

BATCH = 8
"""Images per call of a network."""

N_CLASSES = 100

LEAST_SECONDS = 0.2
"""An action is repeated for at least this long in one measurement."""

AGREEMENT = 0.1
"""Largest difference of two successive measurements that agree, as a share of the larger."""

MOST_TRIES = 10


@dataclass(frozen=True)
class Rate:
    """Images per second.

    Attributes:
        value: of the last measurement.
        steady: whether the measurement before agrees.
    """

    value: float
    steady: bool


def steady_rate(action: Callable[[], object], images: int, clock: Callable[[], float] = perf_counter) -> Rate:
    """Measure an action until two successive measurements agree, at most MOST_TRIES times, after one uncounted call.

    Args:
        action: what is measured.
        images: per call of the action.
        clock: in seconds.
    """
    action()
    rate, steady = _rate(action, images, clock), False
    for _ in range(MOST_TRIES - 1):
        before, rate = rate, _rate(action, images, clock)
        steady = abs(rate - before) <= AGREEMENT * max(rate, before)
        if steady:
            break
    return Rate(rate, steady)


def _rate(action: Callable[[], object], images: int, clock: Callable[[], float]) -> float:
    start, calls, spent = clock(), 0, 0.0
    while spent < LEAST_SECONDS:
        action()
        calls += 1
        spent = clock() - start
    return images * calls / spent


def measured_throughput(estimated: Estimate, device: str, out: Console) -> Throughput:
    """Images per second of each network of a estimated, with random weights, noise as images and one thread.

    A line is printed for each rate as it is measured.
    """
    torch.set_num_threads(1)

    def measured(what: str, action: Callable[[], object], images: int = BATCH) -> float:
        rate = steady_rate(action, images)
        note = "" if rate.steady else f", not steady: {MOST_TRIES} measurements, no two in a row within {AGREEMENT:.0%}"
        out.print(f"{what}: {rate.value:,.1f} images/s{note}", highlight=False, soft_wrap=True)
        return rate.value

    trained, predicted = {}, {}
    for name in estimated.students:
        step, forward = _student_actions(student_network(name), device)
        trained[name] = measured(f"{name}, train", step)
        predicted[name] = measured(f"{name}, forward", forward)
    for name, load in estimated.teachers.items():
        if load.predicted:
            predicted[name] = measured(f"{name}, forward", _teacher_action(vision_language_network(name), device))
    rendered = measured("rendering at 224 px", _rendering(), 1)
    decoded = measured("decoding a JPEG file", _decoding(), 1)
    return Throughput(trained, predicted, rendered, decoded)


def _student_actions(student: StudentNetwork, device: str) -> tuple[Callable[[], None], Callable[[], None]]:
    """A training step and a forward pass of a student."""
    if student.frozen:
        network = Student(AsFloat(), WIDEST, N_CLASSES).to(device)
        batch = torch.zeros(BATCH, WIDEST, dtype=torch.float16, device=device)
    else:
        network = untrained_student(student.backbone, N_CLASSES).to(device)
        batch = torch.zeros(BATCH, 3, student.size, student.size, dtype=torch.uint8, device=device)
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        network.train()
        with mixed_precision(device):
            out = network(batch)
        (out.label_logits.float().sum() + out.distill_logits.float().sum()).backward()
        optimiser.step()
        optimiser.zero_grad()
        _wait(device)

    @torch.inference_mode()
    def forward() -> None:
        network.eval()
        with mixed_precision(device):
            network(batch)
        _wait(device)

    return step, forward


def _teacher_action(network: VisionLanguageNetwork, device: str) -> Callable[[], None]:
    """A forward pass of a teacher's image tower."""
    network.register()
    model = untrained_vision_language(network.model).eval().to(device, memory_format=torch.channels_last)
    size = model.visual.image_size
    side = size if isinstance(size, int) else size[0]
    batch = torch.zeros(BATCH, 3, side, side, device=device).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def forward() -> None:
        model.encode_image(batch)
        _wait(device)

    return forward


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def photograph(rng: np.random.Generator) -> np.ndarray:
    """Noise in blocks of 5 x 5 pixels, about as hard to compress as a photograph, (height, width, 3) of PHOTO."""
    height, width = PHOTO
    noise = rng.integers(0, 256, size=(height // 5, width // 5, 3), dtype=np.uint8)
    return np.kron(noise, np.ones((5, 5, 1), dtype=np.uint8))


def _decoding() -> Callable[[], None]:
    """The decoding of one photograph."""
    file = io.BytesIO()
    Image.fromarray(photograph(np.random.default_rng(0))).save(file, format="JPEG", quality=90)

    def decode() -> None:
        with Image.open(file) as image:
            image.convert("RGB")

    return decode


def _rendering() -> Callable[[], object]:
    """The rendering of one view of a decoded photograph."""
    height, width = SHORT_SIDE, SHORT_SIDE * PHOTO[1] // PHOTO[0]
    pixels = np.zeros(3 * height * width, dtype=np.uint8)
    images = Images(np.array([[height, width]], dtype=np.int64), pixels)
    geometry = ViewGeometry(2, (0.5, 1.0), (0.75, 1.3333), 0.5)
    return partial(render, images, np.zeros(1, dtype=np.int64), 1, geometry, size=224, interpolation="bicubic")
