"""Claims about speed as ratios, each measured against the plain way in the same run."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import Annotated

import numpy as np
import torch
import typer
from rich.table import Table

from activekd.bank import Views
from activekd.datasets import load_dataset, reveal
from activekd.distill import Guide, fit_student
from activekd.images import Images, render
from activekd.pool import Pool
from activekd.recipes import ViewGeometry
from activekd.streams import stream
from activekd.students import build_student, student_network
from activekd.teachers import VisionLanguageEncoder, load_encoder, teacher_logits
from bench import trial as trials
from bench.grid import cache_folder
from bench.spec import read_spec
from bench.terminal import console, user_errors

STEPS = 20

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


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


@app.command(epilog="Example: `python -m bench.speed`")
def main(
    repeats: Annotated[int, typer.Option(min=1, help="Counted repetitions; the median is shown.")] = 5,
) -> None:
    """Measure the claims about speed on this machine, one thread."""
    with user_errors():
        banked, live = distillation_step(repeats)
        table = Table(
            "training step of the demo's end-to-end student",
            "ms",
            "ratio to live",
            title="distillation with the teacher's features banked",
        )
        table.add_row("teacher live at every step", f"{1000 * live:.1f}", "1.00")
        table.add_row("banked teacher features", f"{1000 * banked:.1f}", f"{banked / live:.2f}")
        console.print(table)
        console.print(
            f"{platform.machine()}, 1 thread, torch {torch.__version__}, median of {repeats}", highlight=False
        )


if __name__ == "__main__":
    app()
