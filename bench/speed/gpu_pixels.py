"""Work on pixels: fits that train end to end, rendering, and the extraction of teacher features."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from threading import Barrier
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from activekd.bank.computing import compute
from activekd.bank.views import RenderedViews, Views, ViewSource
from activekd.datasets import Labeled
from activekd.images.crops import view_boxes
from activekd.images.pixels import Images
from activekd.losses import dual_head_loss
from activekd.networks.backbones import backbone
from activekd.recipes import Recipe, ViewGeometry
from activekd.students.fit import Guide, fit_student
from activekd.students.predict import mixed_precision
from activekd.teachers.classifier import from_prototypes
from activekd.teachers.encoder import VisionLanguageEncoder
from bench.speed.bars import Bar
from bench.speed.gpu_older import older_processes
from bench.speed.gpu_world import HEADS, LOGIT_SCALE, clock, wait_for
from bench.speed.untrained import untrained_student, untrained_vision_language

GEOMETRY = ViewGeometry(9, (0.5, 1.0), (0.75, 1.3333), 0.5)
"""Of the paper's views."""

WARM_STEPS = 3
"""Of an uncounted fit."""


@dataclass(frozen=True)
class Task:
    """A fit that trains end to end on synthetic images, with random weights.

    Attributes:
        backbone: its name.
        batch: labeled images of a step, and as many unlabeled ones.
        steps: of a fit.
        size: side of the input in pixels.
        height: of the images in pixels.
        width: of the images in pixels.
        images: their number.
        labeled: how many of them are labeled.
        classes: number of classes.
        feature_width: of the teacher's features.
    """

    backbone: str = "resnet18"
    batch: int = 64
    steps: int = 150
    size: int = 224
    height: int = 256
    width: int = 341
    images: int = 2000
    labeled: int = 500
    classes: int = 100
    feature_width: int = 1024

    @property
    def images_per_fit(self) -> int:
        """Images that a fit passes through the network."""
        return 2 * self.batch * self.steps

    @property
    def recipe(self) -> Recipe:
        """Hyperparameters of the fit."""
        return replace(HEADS, steps=self.steps, batch_labeled=self.batch, batch_unlabeled=self.batch)

    @property
    def what(self) -> str:
        """Names the fit in the table."""
        return f"fit_student {self.backbone} {self.batch} + {self.batch}"


def pixel_views(images: Images, size: int, interpolation: str, device: str) -> ViewSource:
    """The views of images as the fit of an end-to-end student reads them."""
    return RenderedViews(images, GEOMETRY, size, interpolation, device)


def extract(images: Images, encoder: VisionLanguageEncoder, views: range) -> None:
    """The teacher features of these views of the images."""
    compute(images, encoder, GEOMETRY, views)


def noise_images(n: int, height: int, width: int) -> Images:
    """Images of noise of one size."""
    pixels = np.random.default_rng(0).integers(256, size=3 * n * height * width, dtype=np.uint8)
    return Images(np.tile(np.array([[height, width]], dtype=np.int64), (n, 1)), pixels)


class Trial:
    """A task with its arrays, on a device."""

    def __init__(self, task: Task, device: str) -> None:
        self._task, self._device = task, device
        rng, rows = np.random.default_rng(0), np.arange(task.images)
        self._chosen = backbone(task.backbone)
        images = noise_images(task.images, task.height, task.width)
        self._inputs = pixel_views(images, task.size, self._chosen.interpolation, device)
        shape = (task.images, task.feature_width)
        features = Views(tuple(rng.normal(size=shape).astype(np.float16) for _ in range(GEOMETRY.count)), device)
        prototypes = rng.normal(size=(task.classes, task.feature_width)).astype(np.float32)
        self._guide = Guide(features, from_prototypes(torch.from_numpy(prototypes).to(device), LOGIT_SCALE))
        self._labeled = Labeled(rows[: task.labeled], rng.integers(task.classes, size=task.labeled))
        self._unlabeled = rows[task.labeled :]

    def fit(self, steps: int) -> float:
        """Images per second of a fit, with its start."""
        student = untrained_student(self._chosen, self._task.classes).to(self._device)
        recipe = replace(self._task.recipe, steps=steps)
        data = (self._inputs, self._labeled, self._unlabeled, self._guide)
        rng = np.random.default_rng(0)
        wait_for(self._device)
        start = perf_counter()
        fit_student(student, *data, "both", recipe, GEOMETRY, rng=rng, device=self._device)
        wait_for(self._device)
        return 2 * self._task.batch * steps / (perf_counter() - start)

    def eager(self, steps: int) -> float:
        """Images per second of the network's own step, with pixels and teacher logits on the device."""
        task, device, n = self._task, self._device, self._task.batch
        student = untrained_student(self._chosen, task.classes).to(device).train()
        optimiser = torch.optim.AdamW(student.parameters(), lr=task.recipe.lr, fused=True)
        pixels = torch.randint(256, (2 * n, 3, task.size, task.size), dtype=torch.uint8, device=device)
        labels = torch.randint(task.classes, (n,), device=device)
        logits = torch.randn(2 * n, task.classes, device=device)
        wait_for(device)
        start = perf_counter()
        for _ in range(steps):
            with mixed_precision(device):
                out = student(pixels)
            loss = dual_head_loss(
                out.label_logits[:n],
                labels,
                out.distill_logits[:n],
                logits[:n],
                out.distill_logits[n:],
                logits[n:],
                weights=(0.5, 0.5, 0.5),
                temperature=2.0,
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        wait_for(device)
        return 2 * n * steps / (perf_counter() - start)


def step_bar(task: Task, device: str, least: float, repeats: int = 3) -> Bar:
    """A fit against the network's own eager step; they take turns, and the medians count.

    Args:
        task: of the fit.
        device: of both.
        least: ratio that passes.
        repeats: of both.
    """
    trial = Trial(task, device)
    fitted, own = interleaved(lambda: trial.fit(task.steps), lambda: trial.eager(task.steps), repeats)
    what = f"{task.what}, images of {task.height} x {task.width}, against the eager step"
    return Bar(what, fitted / own, least, f"{fitted:,.0f} against {own:,.0f} images/s", at_least=True)


def interleaved(one: Callable[[], float], other: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Medians of two measurements that take turns, after an uncounted one of each."""
    one()
    other()
    pairs = [(one(), other()) for _ in range(repeats)]
    return median(a for a, _ in pairs), median(b for _, b in pairs)


def together(task: Task, device: str, count: int) -> float:
    """Images per second of fits in ``count`` processes on one device at once, added up."""
    context = get_context("spawn")
    barrier = context.Barrier(count)
    with ProcessPoolExecutor(count, context, _set_barrier, (barrier,)) as pool:
        return sum(pool.map(_fit_at_once, [task] * count, [device] * count))


_barrier: list[Any] = []
"""Of the processes of ``together``, in each of them."""


def _set_barrier(barrier: Barrier) -> None:
    _barrier[:] = [barrier]


def _fit_at_once(task: Task, device: str) -> float:
    torch.set_num_threads(1)
    (barrier,) = _barrier
    with ExitStack() as unless_warm:
        unless_warm.callback(barrier.abort)
        trial = Trial(task, device)
        trial.fit(WARM_STEPS)
        unless_warm.pop_all()
    barrier.wait()
    return trial.fit(task.steps)


def older_together(task: Task, device: str, folder: Path, count: int) -> float:
    """The same of the older code."""
    sizes = {k: v for k, v in asdict(task).items() if k not in {"batch", "steps", "size"}}
    given = {"recipe": asdict(task.recipe), "geometry": asdict(GEOMETRY), "size": task.size, "device": device, **sizes}
    warm = {**given, "recipe": {**given["recipe"], "steps": WARM_STEPS}}
    with older_processes(folder, count) as processes:
        for named in (warm, given):
            for process in processes:
                process.begin("seconds_of_pixels", **named)
            seconds = [process.answer() for process in processes]
    return sum(task.images_per_fit / s for s in seconds)


def extraction_bar(model: str, images: Images, device: str, least: float, *, batch: int = 256, repeats: int = 3) -> Bar:
    """Teacher features of two views from decoded images, against the encoder's own half-precision forward pass.

    Args:
        model: of open_clip.
        images: of the split.
        device: of the encoder.
        least: ratio that passes.
        batch: images per forward pass of the latter.
        repeats: of both.
    """
    network = untrained_vision_language(model)
    encoder, views = VisionLanguageEncoder(network, None, device), range(2)
    shape = (batch, 3, encoder.size, encoder.size)
    normalised = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    passes = max(1, len(images) * len(views) // batch)

    def rate(action: Callable[[], object], n: int) -> float:
        wait_for(device)
        start = perf_counter()
        action()
        wait_for(device)
        return n / (perf_counter() - start)

    @torch.inference_mode()
    def forward() -> None:
        with torch.autocast(device, dtype=torch.float16 if device == "cuda" else torch.bfloat16):
            for _ in range(passes):
                network.encode_image(normalised)

    extracted, own = interleaved(
        lambda: rate(lambda: extract(images, encoder, views), len(images) * len(views)),
        lambda: rate(forward, passes * batch),
        repeats,
    )
    what = f"extraction {model} against its forward pass in half precision"
    return Bar(what, extracted / own, least, f"{extracted:,.0f} against {own:,.0f} images/s", at_least=True)


@dataclass(frozen=True)
class Crops:
    """Batches of a fit that are rendered on the CPU.

    Attributes:
        batch: crops of a batch.
        size: side of a crop in pixels.
        images: of 256 x 341 pixels.
        batches: of a fit.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    batch: int = 128
    size: int = 224
    images: int = 256
    batches: int = 16
    interpolation: str = "bicubic"


def rendering_bar(crops: Crops, repeats: int = 5) -> Bar:
    """Crops on the CPU as a fit reads them, against torchvision's functional resize of the same crops.

    CPU seconds of one thread, as of each trial where every core has one. A crop is drawn four times on average, fewer
    times than in a round of ``caltech-real``'s trials; the figures also have crops that are read for the first time.
    """
    rng = np.random.default_rng(0)
    images = noise_images(crops.images, 256, 341)
    of_view = [np.arange(crops.images)] * (GEOMETRY.count - 1)
    rows, views = np.concatenate(of_view), np.repeat(np.asarray(GEOMETRY.training), crops.images)
    order = rng.permutation(len(rows))
    shape = (min(crops.batches, len(rows) // crops.batch), crops.batch)
    n = shape[0] * shape[1]

    def measured(chosen: np.ndarray) -> tuple[float, float]:
        given = (images, rows[chosen], views[chosen], crops)
        own, plain = interleaved(lambda: _rendered(*given), lambda: _resized(*given), repeats)
        return 1000 * own / len(chosen), 1000 * plain / len(chosen)

    own, plain = measured(order[rng.integers(-(-n // 4), size=shape)])
    first, plain_first = measured(order[:n].reshape(shape))
    detail = f"ms a batch: {own:.1f} against {plain:.1f}; first reads {first:.1f} against {plain_first:.1f}"
    what = f"rendering {crops.batch} crops of {crops.size} px in a fit: time against torchvision"
    return Bar(what, own / plain, 1.0, detail)


def _rendered(images: Images, rows: np.ndarray, views: np.ndarray, crops: Crops) -> float:
    """CPU seconds of all batches, as a fit reads them; the images are new to this process."""
    source = pixel_views(replace(images, digest=uuid4().hex), crops.size, crops.interpolation, "cpu")
    start = clock("cpu")
    for _ in source.batches(rows, views):
        pass
    return clock("cpu") - start


def _resized(images: Images, rows: np.ndarray, views: np.ndarray, crops: Crops) -> float:
    """CPU seconds of torchvision's resize of the same crops, flipped and stacked to batches."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as TF

    flat_rows = rows.ravel()
    boxes, mirrored = view_boxes(flat_rows, views.ravel(), images.shapes[flat_rows], GEOMETRY)
    wanted = list(zip(flat_rows.tolist(), boxes.tolist(), mirrored.tolist(), strict=True))
    mode, size = InterpolationMode(crops.interpolation), [crops.size, crops.size]
    start = clock("cpu")
    for first in range(0, len(wanted), crops.batch):
        batch = []
        for row, (top, left, height, width), flip in wanted[first : first + crops.batch]:
            crop = torch.from_numpy(images[row][top : top + height, left : left + width]).permute(2, 0, 1)
            crop = TF.resize(crop, size, interpolation=mode, antialias=True)
            batch.append(TF.horizontal_flip(crop) if flip else crop)
        torch.stack(batch)
    return clock("cpu") - start
