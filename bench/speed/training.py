"""Claims about speed as ratios, each measured against the plain way in the same run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from torch import nn

from activekd.bank.views import LiveViews, Views
from activekd.datasets import load_dataset, reveal
from activekd.images.cache import decode_files
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.losses import dual_head_loss
from activekd.networks.backbones import backbone
from activekd.pool import Pool
from activekd.recipes import ViewGeometry
from activekd.streams import stream
from activekd.students.fit import Guide, fit_student
from activekd.students.heads import Normalise, Student, build_student
from activekd.students.networks import student_network
from activekd.teachers.encoder import VisionLanguageEncoder, load_encoder
from activekd.teachers.logits import teacher_logits
from bench import trial as trials
from bench.launch import cache_folder
from bench.spec import read_spec
from bench.speed.throughput import untrained

STEPS = 20

PAPER_CLASSES = 100

PAPER_STEP = "step of the paper's recipe: ResNet-18, CLIP RN50, 64 + 64 JPEG files, 224 px"


@dataclass(frozen=True)
class LiveGuide(Guide):
    """A guide that runs the teacher's image tower on every crop of every step, as the paper's released code does."""

    images: Images
    geometry: ViewGeometry
    encoder: VisionLanguageEncoder

    def logits(self, rows: np.ndarray, views: np.ndarray) -> torch.Tensor:
        size, interpolation = self.encoder.size, self.encoder.interpolation
        crops = [
            render(self.images, rows[k : k + 1], view, self.geometry, size=size, interpolation=interpolation)
            for k, view in enumerate(views.tolist())
        ]
        with torch.no_grad():
            features = torch.from_numpy(self.encoder.encode(torch.cat(crops)))
        return teacher_logits(features, self.prototypes)


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Median seconds of an action, after one call that is not counted."""
    action()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return median(times)


def distillation_step(repeats: int) -> tuple[float, float]:
    """Seconds of a training step of the demo's end-to-end student: teacher features banked, and teacher run live."""
    trial = next(t for t in read_spec("demo").trials if t.teacher.endswith("zeroshot"))
    dataset = load_dataset(trial.dataset, cache_folder())
    wanted = trials.needs(trial, dataset)
    shards = trials.shards_of([trial], {trial.dataset: dataset})
    banked = {shard.key: trials.make_shard(shard, encoder, cache_folder()) for shard, encoder in shards.items()}
    inputs = Views(tuple(banked[s.key] for s in wanted.student_train))
    teacher = Views(tuple(banked[s.key] for s in wanted.teacher_train))
    encoder = load_encoder(str(wanted.teacher_network))
    prototypes = torch.from_numpy(encoder.text_head(dataset.class_names, dataset.prompts).zero_shot)
    pool = Pool(len(dataset.train), tuple(range(50)))
    labeled = reveal(dataset, pool)
    recipe = replace(trial.recipe, steps=STEPS, step_rule="fixed")
    network = student_network(trial.student)
    torch.set_num_threads(1)

    def fit(guide: Guide) -> None:
        student = build_student(network, inputs.arrays[0].shape[1:], dataset.n_classes, rng=stream(0, "speed"))
        fit_student(
            student, inputs, labeled, pool.unlabeled, guide, "both", recipe, trial.views, rng=stream(0, "speed batches")
        )

    live = LiveGuide(teacher, prototypes, dataset.train.pixels, trial.views, encoder)
    of_bank = seconds(lambda: fit(Guide(teacher, prototypes)), repeats) / STEPS
    return of_bank, seconds(lambda: fit(live), repeats) / STEPS


def paper_steps(repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of the parts of one step of ``paper-ten`` with ResNet-18 and CLIP RN50, banked and live.

    Networks have random weights, since their speed does not depend on them; images are JPEG files of noise, 375 x 500,
    decoded in every step in both ways. The live teacher is shown the student's own crops, which spares it a rendering
    of its own.
    """
    import open_clip

    recipe = next(t.recipe for t in read_spec("paper").trials if t.recipe_name == "paper-ten")
    geometry = ViewGeometry(9, (0.5, 1.0), (0.75, 1.3333), 0.5)
    chosen = backbone("resnet18")
    body = chosen.build()
    body.reset_classifier(0)
    student = Student(nn.Sequential(Normalise(chosen), body), body.num_features, PAPER_CLASSES)
    student.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    name = "RN50-quickgelu"
    encoder = VisionLanguageEncoder(untrained(name), open_clip.get_tokenizer(name))
    n, width = recipe.batch_labeled + recipe.batch_unlabeled, 1024
    rows, views = np.arange(n), np.tile(np.asarray(geometry.training), n)[:n]
    rng = np.random.default_rng(0)
    bank = Views(tuple(rng.normal(size=(n, width)).astype(np.float16) for _ in range(geometry.count)))
    prototypes = torch.from_numpy(rng.normal(size=(PAPER_CLASSES, width)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(PAPER_CLASSES, size=recipe.batch_labeled))

    def step(files: Images, live: bool) -> dict[str, float]:
        clock = perf_counter()
        spent = {}

        def lap(part: str) -> None:
            nonlocal clock
            now = perf_counter()
            spent[part], clock = now - clock, now

        decoded = [files[row] for row in rows.tolist()]
        pixels = np.concatenate([image.reshape(-1) for image in decoded])
        lap("decode")
        inputs = LiveViews(Images(files.shapes, pixels), geometry, 224, chosen.interpolation).gather(rows, views)
        lap("render")
        if live:
            with torch.inference_mode():
                logits = teacher_logits(torch.from_numpy(encoder.encode(inputs)), prototypes)
        else:
            logits = Guide(bank, prototypes).logits(rows, views)
        lap("teacher")
        out = student(inputs)
        k = recipe.batch_labeled
        loss = dual_head_loss(
            out.label_logits[:k],
            labels,
            out.distill_logits[:k],
            logits[:k].clone(),
            out.distill_logits[k:],
            logits[k:].clone(),
            weights=(recipe.weight_ce, recipe.weight_kd_labeled, recipe.weight_kd_unlabeled),
            temperature=recipe.temperature,
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        lap("student")
        return spent

    with TemporaryDirectory() as folder:
        files = _photographs(Path(folder), n)
        out = {}
        for what, live in (("live", True), ("banked", False)):
            step(files, live)
            measured = [step(files, live) for _ in range(repeats)]
            out[what] = {part: median(m[part] for m in measured) for part in measured[0]}
    return out


def _photographs(folder: Path, n: int) -> Images:
    """JPEG files of noise, decoded whenever they are read."""
    from PIL import Image

    rng = np.random.default_rng(0)
    paths = []
    for k in range(n):
        noise = rng.integers(0, 256, size=(75, 100, 3), dtype=np.uint8)
        paths.append(folder / f"{k}.jpg")
        Image.fromarray(np.kron(noise, np.ones((5, 5, 1), dtype=np.uint8))).save(paths[-1], quality=90)
    return decode_files(paths, folder, threads=1, keep=False)
