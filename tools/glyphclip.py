"""The embedded teacher: train a small CLIP on rendered glyphs with captions, and measure it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from activekd.errors import InputError
from activekd.networks.vision_language import WEIGHTS, vision_language_network
from bench.terminal import console, user_errors

NAME = "glyphclip"
CHECKPOINT = f"{NAME}.safetensors"
CARD = WEIGHTS / f"{NAME}.md"
BLOCK = "measured"
MEASURED_ON = ("digits", "mnist5k")
MISTAKES = 3
"""Pairs of classes that the card names for each data set."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown", help=__doc__)


@app.command(epilog="Example: `python tools/glyphclip.py train --out /tmp/glyphclip`")
def train(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = WEIGHTS,
    steps: Annotated[int, typer.Option(min=20, help="Optimiser steps.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of every random stream.")] = 0,
) -> None:
    """Train the teacher from random weights and write glyphclip.safetensors."""
    with user_errors():
        import torch
        from glyphclip_training import fit
        from safetensors.torch import save_file

        file = out / CHECKPOINT
        try:
            out.mkdir(parents=True, exist_ok=True)
            file.open("ab").close()
        except OSError as fault:
            raise InputError(f"--out {out}: {fault}; expected: a writable folder") from fault
        torch.set_num_threads(threads)
        save_file({name: weight.contiguous() for name, weight in fit(steps, seed).items()}, file)
        console.print(f"wrote {file}", soft_wrap=True)


@dataclass(frozen=True)
class ZeroShotFigures:
    """How well a teacher classifies a whole data set without a label.

    Attributes:
        dataset: its name.
        n: its images.
        accuracy: top-1, in [0, 1].
        confidence: mean top probability, in [0, 1].
        wrong_confidence: mean top probability of the mistakes, in [0, 1].
        mistakes: the most frequent (true class, predicted class, count).
    """

    dataset: str
    n: int
    accuracy: float
    confidence: float
    wrong_confidence: float
    mistakes: tuple[tuple[str, str, int], ...]


def zero_shot_figures(names: Sequence[str], cache: Path) -> list[ZeroShotFigures]:
    """Accuracy and confidence of the committed teacher on all images of each data set."""
    import numpy as np
    import torch

    from activekd.bank.computing import compute
    from activekd.datasets import load_dataset
    from activekd.losses import teacher_logits
    from activekd.recipes import ViewGeometry
    from activekd.teachers.encoder import load_encoder

    encoder = load_encoder(vision_language_network(NAME))
    geometry = ViewGeometry(count=1, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    out = []
    for name in names:
        dataset = load_dataset(name, cache)
        head = encoder.text_head(dataset.class_names, dataset.prompts)
        splits = (dataset.train, dataset.val, dataset.test)
        features = np.concatenate([compute(split.pixels, encoder, geometry, [0])[0] for split in splits])
        labels = np.concatenate([split.labels for split in splits])
        logits = teacher_logits(torch.from_numpy(features), torch.from_numpy(head.zero_shot), head.logit_scale)
        probabilities = logits.softmax(dim=1)
        top, predicted = (t.numpy() for t in probabilities.max(dim=1))
        wrong = predicted != labels
        pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:MISTAKES]
        mistakes = tuple(
            (dataset.class_names[pairs[0, k]], dataset.class_names[pairs[1, k]], int(counts[k])) for k in order
        )
        confidence, wrong_confidence = float(top.mean()), float(top[wrong].mean())
        accuracy = float(1 - wrong.mean())
        out.append(ZeroShotFigures(name, len(labels), accuracy, confidence, wrong_confidence, mistakes))
    return out


def card_table(figures: Sequence[ZeroShotFigures]) -> str:
    """The generated table of the model card."""
    lines = [
        "| data set | images | zero-shot accuracy | mean confidence | confidence of mistakes | frequent mistakes |",
        "|---|---|---|---|---|---|",
    ]
    for f in figures:
        mistakes = ", ".join(f"{true} read as {read} ({count})" for true, read, count in f.mistakes)
        lines.append(
            f"| {f.dataset} | {f.n:,} | {f.accuracy:.1%} | {f.confidence:.2f} | {f.wrong_confidence:.2f} | {mistakes} |"
        )
    return "\n".join(lines)


@app.command(epilog="Example: `python tools/glyphclip.py measure --write`")
def measure(write: Annotated[bool, typer.Option("--write", help="Put the table into the model card.")] = False) -> None:
    """Measure the committed teacher, zero-shot, on the embedded data sets."""
    with user_errors():
        from bench.settings import cache_folder

        table = card_table(zero_shot_figures(MEASURED_ON, cache_folder()))
        console.print(table, soft_wrap=True)
        if write:
            from bench.report.blocks import replace_block

            replace_block(CARD, BLOCK, table)


if __name__ == "__main__":
    app()
