"""The zero-shot accuracy that a run prints, by hand and in its lines."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small_trials import TRAINED, trials_of

from activekd.bank.shards import Shard
from activekd.banked import BankedShards
from activekd.teachers import teacher
from activekd.teachers.text_heads import TextHead
from bench.trials.resolved import ResolvedTrial
from bench.trials.zeroshot import ZeroShotLines, near_chance

HEAD = TextHead(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 100.0)


def test_accuracy_is_the_share_of_largest_cosines() -> None:
    """Classes on the axes: (3, 1) and (0, 5) are right, (1, 2) is class 1 and wrong; norms do not matter."""
    features = np.array([[3, 1], [1, 2], [0, 5]], dtype=np.float16)
    assert HEAD.accuracy(features, np.array([0, 0, 1])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("accuracy", "n_classes", "near"),
    [
        (0.18, 10, True),
        (0.2, 10, False),
        (0.54, 2, True),
        (0.56, 2, False),
        (0.0019, 1000, True),
        (0.003, 1000, False),
    ],
)
def test_near_chance_is_below_twice_chance_and_below_a_tenth_of_the_way_to_one(
    accuracy: float, n_classes: int, near: bool
) -> None:
    assert near_chance(accuracy, n_classes) is near


def taught(folder: Path, n_classes: int) -> list[ResolvedTrial]:
    """Two trials with one teacher network, whose test images are class 0, 1, 0, 1, ..."""
    trials = trials_of(folder, TRAINED, selectors=("random", "pcoreset"), seeds=1, n_classes=n_classes)
    shard = Shard("digits", "test", 0, "images", "teacher:glyphclip", "weights", trials[0].trial.views)
    names = ("glyphclip+zeroshot", "glyphclip+clap")
    return [
        replace(trial, teacher=teacher(name), banked=BankedShards(teacher_test=(shard,)))
        for trial, name in zip(trials, names, strict=True)
    ]


@pytest.mark.parametrize(("order", "share", "warned"), [((0, 1), "100.0%", False), ((1, 0), "0.0%", True)])
def test_a_line_once_both_are_there_and_a_warning_near_chance(
    order: tuple[int, int], share: str, warned: bool, tmp_path: Path
) -> None:
    trials, out = taught(tmp_path, 2), io.StringIO()
    there: dict[object, object] = {}
    lines = ZeroShotLines(trials, Console(file=out, width=1000))
    labels = trials[0].dataset.test.labels
    steps = [(trials[0].head_key, HEAD), (trials[0].banked.teacher_test[0].key, np.eye(2)[np.array(order)[labels]])]
    shown = []
    for key, value in [*steps, ("another", 0)]:
        there[key] = value
        lines.look(there.__contains__, there.__getitem__)
        shown.append(len(out.getvalue().splitlines()))
    assert shown == [0, 1 + warned, 1 + warned]
    first, *more = out.getvalue().splitlines()
    assert first == f"digits: zero-shot accuracy of teacher glyphclip: {share} on 200 test images (chance 50.0%)"
    assert len(more) == warned
    assert all("near chance; check class names" in line and "logit_scale" in line for line in more)


def test_trials_without_a_teacher_have_no_line(tmp_path: Path) -> None:
    out = io.StringIO()
    trials = trials_of(tmp_path, TRAINED, selectors=("random",), seeds=1)
    ZeroShotLines(trials, Console(file=out)).look(lambda key: True, lambda key: HEAD)
    assert out.getvalue() == ""
