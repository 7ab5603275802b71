"""Small data sets in every layout of the benchmark, for tests."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from activekd.datasets.catalog import CATALOG

PER_PART = 2
"""Images of each class in each part."""

CLASSES = ("first_kind", "second_kind", "third_kind")
WORDNET = ("n01440764", "n01443537", "n01484850")


def write_image(path: Path, seed: int, size: tuple[int, int] = (30, 24)) -> None:
    """A JPEG of noise, of (height, width) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG", quality=95)


def build(name: str, root: Path) -> Path:
    """A data set of CATALOG with three classes and two images of each in each part; returns its folder."""
    entry = CATALOG[name]
    folder = root / entry.folder
    images = folder / entry.images
    if name == "imagenet":
        for part in ("train", "val"):
            _write(images / part / wordnet / f"{part}_{k}.JPEG" for wordnet in WORDNET for k in range(PER_PART))
        lines = [f"{wordnet} {label}" for wordnet, label in zip(WORDNET, CLASSES, strict=True)]
        (folder / "classnames.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif name == "fgvc_aircraft":
        (folder / "images").mkdir(parents=True)
        (folder / "variants.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
        for number, part in enumerate(("train", "val", "test")):
            rows = [(f"{number}{label}{k}", kind) for label, kind in enumerate(CLASSES) for k in range(PER_PART)]
            _write(images / f"{stem}.jpg" for stem, _ in rows)
            text = "\n".join(f"{stem} {kind}" for stem, kind in rows) + "\n"
            (folder / f"images_variant_{part}.txt").write_text(text, encoding="utf-8")
    else:
        split = {
            part: [
                [f"{kind}/{part}_{k}.jpg", label, kind] for label, kind in enumerate(CLASSES) for k in range(PER_PART)
            ]
            for part in ("train", "val", "test")
        }
        _write(images / str(path) for items in split.values() for path, _, _ in items)
        (folder / str(entry.split)).write_text(json.dumps(split), encoding="utf-8")
    return folder


def _write(paths: Iterable[Path]) -> None:
    for seed, path in enumerate(paths):
        write_image(path, seed)


def publish(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the catalogue expect the counts of ``build``."""
    n = PER_PART * len(CLASSES)
    small = replace(
        CATALOG[name],
        n_classes=len(CLASSES),
        n_train=n,
        n_val=0 if name == "imagenet" else n,
        n_test=n,
    )
    monkeypatch.setitem(CATALOG, name, small)
