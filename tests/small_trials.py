"""Trials of the tiny spec on a stand-in data set that has labels alone."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from conftest import SPEC

from activekd.datasets import Dataset, Split
from activekd.selectors import selector
from activekd.students.networks import student_network
from bench.spec import read_spec
from bench.trials.resolved import ResolvedTrial

ADAPTER, TRAINED = "adapter:efficientnet_lite0@32", "resnet6_mini@16"
SIX = ("random", "entropy", "coreset", "badge", "classbalanced", "pcoreset")


def spec_of(folder: Path, *pairs: tuple[str, str]) -> Path:
    """The tiny spec without a teacher, edited."""
    text = SPEC
    for old, new in (('["none", "glyphclip+clap"]', '["none"]'), *pairs):
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "jobs.toml"
    path.write_text(text, encoding="utf-8")
    return path


def trials_of(
    folder: Path, *students: str, selectors: Sequence[str] = SIX, seeds: int = 4, n_classes: int = 10
) -> list[ResolvedTrial]:
    """Trials on a stand-in data set that has labels alone."""
    spec = spec_of(
        folder,
        (f'"{TRAINED}"', ", ".join(f'"{student}"' for student in students)),
        ('["random", "pcoreset"]', str(list(selectors)).replace("'", '"')),
        ("seeds = [0]", f"seeds = {list(range(seeds))}"),
    )
    split = Split(None, np.arange(100 * n_classes) % n_classes)
    dataset = Dataset("digits", tuple(map(str, range(n_classes))), (), split, split, split)
    return [
        ResolvedTrial(t, dataset, student_network(t.student), None, selector(t.selector))
        for t in read_spec(str(spec)).trials
    ]
