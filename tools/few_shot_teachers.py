"""Accuracy of the teachers alone on the 70 classes of Caltech-101 with text: the table of docs/teachers.md."""

from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import torch

from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.defaults import RECIPES, SINGLE, VIEWS
from activekd.folders import data_folder
from activekd.streams import stream
from activekd.teachers import ADAPTATIONS
from activekd.teachers.text_heads import TextHead, text_head
from bench.terminal import say, user_errors

FEATURES, HEAD = "clip_vitb32/caltech101.npz", "clip_vitb32/caltech101_zeroshot_head.npz"
"""CLIP ViT-B/32 features of the validation and test images, and text embeddings of 70 classes, in $ACTIVEKD_DATA."""

SHOTS, DRAWS = (1, 2, 4, 8, 16), 10
"""Labels a class, of the rows of the table, and draws of the labels."""


def features_of(root: Path) -> tuple[TextHead, dict[str, np.ndarray]]:
    """The text head, and features and labels of the pool (``val``) and the test images of its classes."""
    arrays, stored = np.load(root / FEATURES), np.load(root / HEAD)
    number = np.full(1 + max(arrays["val_y"].max(), arrays["test_y"].max()), -1)
    number[stored["class_idx"]] = np.arange(len(stored["class_idx"]))
    parts: dict[str, np.ndarray] = {}
    for part in ("val", "test"):
        labels = number[arrays[f"{part}_y"]]
        parts |= {f"{part}_f": arrays[f"{part}_f"][labels >= 0], f"{part}_y": labels[labels >= 0]}
    return text_head(stored["W"].astype(np.float32), 100.0), parts


def accuracies(root: Path, shots: int, draws: int, adaptations: Sequence[str] = tuple(ADAPTATIONS)) -> dict[str, float]:
    """Top-1 accuracy in [0, 1] on the test images by adaptation, a mean over draws of labels from the pool.

    Args:
        root: folder of the data.
        shots: labels a class, fewer where a class has fewer images.
        draws: of the labels.
        adaptations: keys of ADAPTATIONS.
    """
    head, parts = features_of(root)
    labels, views, tested = parts["val_y"], Views((parts["val_f"],)), torch.from_numpy(parts["test_f"])
    labeled = []
    for seed in range(draws):
        rng = stream(seed, "few-shot labels")
        of_classes = [np.flatnonzero(labels == c) for c in range(len(head.text))]
        rows = np.concatenate([rng.permutation(some)[:shots] for some in of_classes])
        labeled.append(Labeled(rows, labels[rows]))
    found = {}
    for name in adaptations:
        adapt = resolve_name(ADAPTATIONS[name])
        rngs = [stream(seed, "teacher", 0) for seed in range(draws)]
        fitted = adapt(head, views, VIEWS[SINGLE], labeled, RECIPES["adapter"].clap, rngs)
        right = [one.logits(tested).argmax(dim=1).numpy() == parts["test_y"] for one in fitted.members()]
        found[name] = float(np.mean(right))
    return found


def main() -> None:
    """Print the table."""
    with user_errors():
        root = data_folder()
        say(f"| labels a class | {' | '.join(f'`{name}`' for name in ADAPTATIONS)} |")
        for shots in SHOTS:
            found = accuracies(root, shots, DRAWS)
            say(f"| {shots} | {' | '.join(f'{100 * found[name]:.1f}' for name in ADAPTATIONS)} |")


if __name__ == "__main__":
    main()
