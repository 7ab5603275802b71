"""Image folders for tests, painted and loaded."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from activekd.datasets import Dataset, load_dataset
from activekd.errors import InputError


def paint(folder: Path, count: int, *, first: int = 0, suffix: str = ".png") -> None:
    """Noise images ``first``, ``first`` + 1, ...; equal numbers in one class are equal pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        seed = [number, *folder.name.encode()]
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}{suffix}")


def load(folder: Path) -> Dataset:
    return load_dataset(f"folder:{folder}", folder.parent / "cache")


def size(dataset: Dataset) -> int:
    return len(dataset.train) + len(dataset.val) + len(dataset.test)


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(folder)
    return str(caught.value)
