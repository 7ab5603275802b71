"""What a grid would take, from names and sizes alone: trials, fits, steps, bytes and hours; nothing is trained."""

import io
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch

from activekd.bank.views import LiveViews
from activekd.images.decoding import MAX_SHORT_SIDE
from activekd.images.pixels import Images
from activekd.networks.backbones import backbone
from activekd.networks.vision_language import network
from activekd.recipes import ViewGeometry
from activekd.students.heads import AsFloat, Normalise, Student
from activekd.students.networks import StudentNetwork, student_network
from activekd.students.predict import mixed_precision
from bench.plan import PHOTO, Plan, Throughput
from bench.trial import WIDEST

MEASURED_BATCH = 8

REPEATS = 3


def measured_throughput(plan: Plan, device: str) -> Throughput:
    """Images a second of each network on this machine, one thread, with random weights and made-up images."""
    torch.set_num_threads(1)
    trained, predicted = {}, {}
    for name in plan.students:
        trained[name], predicted[name] = _student_rates(student_network(name), device)
    for name in plan.teachers:
        predicted[name] = _teacher_rate(name, device)
    return Throughput(trained, predicted, rendered=_rate(_render_one, REPEATS), decoded=_rate(_decode_one, REPEATS))


def _rate(action: Callable[[], object], repeats: int, images: int = 1) -> float:
    action()
    start = perf_counter()
    for _ in range(repeats):
        action()
    return images * repeats / (perf_counter() - start)


def _student_rates(student: StudentNetwork, device: str) -> tuple[float, float]:
    chosen = backbone(student.backbone)
    if student.frozen:
        network, dim = Student(AsFloat(), WIDEST, 100), WIDEST
        batch = torch.zeros(MEASURED_BATCH, dim, dtype=torch.float16)
    else:
        body = chosen.build()
        body.reset_classifier(0)
        dim = getattr(body, "head_hidden_size", body.num_features)
        network = Student(torch.nn.Sequential(Normalise(chosen), body), dim, 100)
        batch = torch.zeros(MEASURED_BATCH, 3, student.size, student.size, dtype=torch.uint8)
    network.to(memory_format=torch.channels_last if chosen.channels_last else torch.contiguous_format).to(device)
    batch = batch.to(device)
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

    return _rate(step, REPEATS, MEASURED_BATCH), _rate(forward, REPEATS, MEASURED_BATCH)


def _teacher_rate(name: str, device: str) -> float:
    import open_clip

    found = network(name)
    if found.config is not None:
        open_clip.add_model_config(found.config)
    model = untrained(found.model).eval().to(memory_format=torch.channels_last).to(device)
    size = model.visual.image_size
    side = size if isinstance(size, int) else size[0]
    batch = torch.zeros(MEASURED_BATCH, 3, side, side).to(memory_format=torch.channels_last).to(device)

    @torch.inference_mode()
    def forward() -> None:
        model.encode_image(batch)
        _wait(device)

    return _rate(forward, 1, MEASURED_BATCH)


def untrained(model: str) -> Any:
    """An open_clip network with random weights, without the library's warning that it has them."""
    import open_clip

    logging.disable(logging.WARNING)
    try:
        return open_clip.create_model(model)
    finally:
        logging.disable(logging.NOTSET)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _photo() -> np.ndarray:
    height, width = PHOTO
    noise = np.random.default_rng(0).integers(0, 256, size=(height // 5, width // 5, 3), dtype=np.uint8)
    return np.kron(noise, np.ones((5, 5, 1), dtype=np.uint8))


def _decode_one() -> None:
    from PIL import Image

    if not _JPEG.getbuffer().nbytes:
        Image.fromarray(_photo()).save(_JPEG, format="JPEG", quality=90)
    with Image.open(_JPEG) as image:
        image.convert("RGB")


_JPEG = io.BytesIO()


def _render_one() -> None:
    height, width = MAX_SHORT_SIDE, MAX_SHORT_SIDE * PHOTO[1] // PHOTO[0]
    pixels = np.zeros(3 * height * width, dtype=np.uint8)
    images = Images(np.array([[height, width]], dtype=np.int64), pixels)
    live = LiveViews(images, ViewGeometry(2, (0.5, 1.0), (0.75, 1.3333), 0.5), 224, "bicubic")
    live.gather(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))
