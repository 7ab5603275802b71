"""A training step with banked teacher features against one that runs the teacher live, in the same run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from PIL import Image

from activekd.bank.views import RenderedViews, Views
from activekd.datasets import reveal
from activekd.images.cache import decode_files
from activekd.images.pixels import Images
from activekd.images.rendering import render
from activekd.inputs import compute_shard
from activekd.losses import dual_head_loss
from activekd.networks.backbones import backbone
from activekd.networks.vision_language import VisionLanguageNetwork
from activekd.pool import Pool
from activekd.recipes import ViewGeometry
from activekd.streams import stream
from activekd.students.fit import Guide, Shown, fit_student
from activekd.students.heads import build_student
from activekd.teachers.classifier import from_prototypes
from activekd.teachers.encoder import VisionLanguageEncoder, load_encoder
from bench.checks import resolve
from bench.settings import cache_folder
from bench.spec import read_spec
from bench.speed.actions import photograph
from bench.speed.untrained import untrained_student, untrained_vision_language
from bench.terminal import DecodingLines
from bench.trials.resolved import shards_of, with_shards

STEPS = 20
"""Of the demo's student in one measurement."""

N_LABELED = 50
PAPER_CLASSES = 100
CLIP = "RN50-quickgelu"
FEATURE_WIDTH = 1024
"""Of CLIP RN50."""

PAPER_STEP = "step of the paper's recipe: ResNet-18, CLIP RN50, 64 + 64 JPEG files, 224 px"


@dataclass(frozen=True)
class LiveGuide(Guide):
    """A guide that runs the teacher's image tower on every crop of every step, as the paper's released code does."""

    images: Images
    geometry: ViewGeometry
    encoder: VisionLanguageEncoder

    def batches(self, rows: np.ndarray, views: np.ndarray) -> Iterator[Shown]:
        """Crops that are rendered and encoded here, step by step."""
        return map(self._shown, rows, views)

    def _shown(self, rows: np.ndarray, views: np.ndarray) -> Shown:
        size, interpolation = self.encoder.size, self.encoder.interpolation
        crops = render(self.images, rows, views, self.geometry, size=size, interpolation=interpolation)
        with torch.no_grad():
            features = self.encoder.encode(crops)
        return Shown(features, self.classifier.logits(features))


def _median_seconds(action: Callable[[], object], repeats: int) -> float:
    """Median seconds of an action, after one uncounted call."""
    action()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return median(times)


def distillation_step(repeats: int) -> tuple[float, float]:
    """Seconds of a training step of the demo's end-to-end student: teacher features banked, and teacher run live."""
    cache = cache_folder()
    name = next(t for t in read_spec("demo").trials if t.teacher.endswith("+zeroshot"))
    (trial,) = with_shards(resolve([name], cache, DecodingLines()))
    assert trial.teacher is not None
    assert isinstance(trial.teacher.network, VisionLanguageNetwork)
    banked = {
        shard.key: compute_shard(shard, trial.split(shard.split), trial.encoder_of(shard), cache)
        for shard in shards_of([trial])
    }
    images, network = trial.dataset.train.pixels, trial.student
    inputs = RenderedViews(images, name.views, network.size, network.backbone.interpolation)
    teacher = Views(tuple(banked[shard.key] for shard in trial.banked.teacher_train))
    dataset, geometry = trial.dataset, name.views
    encoder = load_encoder(trial.teacher.network)
    prototypes = torch.from_numpy(encoder.text_head(dataset.class_names, dataset.prompts).zero_shot)
    classifier = from_prototypes(prototypes, encoder.logit_scale)
    pool = Pool(len(dataset.train), tuple(range(N_LABELED)))
    labeled = reveal(dataset, pool)
    recipe = replace(name.recipe, steps=STEPS, step_rule="fixed")
    torch.set_num_threads(1)

    def fit(guide: Guide) -> None:
        rng, batches = stream(0, "speed"), stream(0, "speed batches")
        student = build_student(
            trial.student,
            inputs.shape,
            dataset.n_classes,
            trunk_width=recipe.trunk_width,
            batch_norm=recipe.batch_norm,
            rng=rng,
        )
        fit_student(student, inputs, labeled, pool.unlabeled, guide, "both", recipe, geometry, rng=batches)

    live = LiveGuide(teacher, classifier, images, geometry, encoder)
    of_bank = _median_seconds(lambda: fit(Guide(teacher, classifier)), repeats) / STEPS
    return of_bank, _median_seconds(lambda: fit(live), repeats) / STEPS


def paper_steps(repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of the parts of one step of ``paper-ten`` with ResNet-18 and CLIP RN50, banked and live.

    Networks have random weights. Images are JPEG files of noise, decoded in every step in both ways. The live teacher
    reads the student's crops, which saves it a second rendering.
    """
    import open_clip

    recipe = next(t.recipe for t in read_spec("paper").trials if t.recipe_name == "paper-ten")
    geometry = ViewGeometry(9, (0.5, 1.0), (0.75, 1.3333), 0.5)
    chosen = backbone("resnet18")
    student = untrained_student(chosen, PAPER_CLASSES).train()
    optimiser = torch.optim.AdamW(student.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    encoder = VisionLanguageEncoder(untrained_vision_language(CLIP), open_clip.get_tokenizer(CLIP))
    n = recipe.batch_labeled + recipe.batch_unlabeled
    rows, views = np.arange(n), np.tile(np.asarray(geometry.training), n)[:n]
    rng = np.random.default_rng(0)
    bank = Views(tuple(rng.normal(size=(n, FEATURE_WIDTH)).astype(np.float16) for _ in range(geometry.count)))
    prototypes = torch.from_numpy(rng.normal(size=(PAPER_CLASSES, FEATURE_WIDTH)).astype(np.float32))
    classifier = from_prototypes(prototypes, encoder.logit_scale)
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
        images = Images(files.shapes, pixels)
        inputs = render(images, rows, views, geometry, size=224, interpolation=chosen.interpolation)
        lap("render")
        if live:
            with torch.inference_mode():
                logits = classifier.logits(encoder.encode(inputs))
        else:
            logits = next(Guide(bank, classifier).batches(rows[None], views[None])).logits
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

    with TemporaryDirectory(prefix="activekd-speed-") as folder:
        files = _photographs(Path(folder), n)
        out = {}
        for way, live in (("live", True), ("banked", False)):
            step(files, live)
            measured = [step(files, live) for _ in range(repeats)]
            out[way] = {part: median(m[part] for m in measured) for part in measured[0]}
    return out


def _photographs(folder: Path, n: int) -> Images:
    """JPEG files of noise, decoded whenever they are read."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{k}.jpg" for k in range(n)]
    for path in paths:
        Image.fromarray(photograph(rng)).save(path, quality=90)
    return decode_files(paths, folder, threads=1, keep=False)
