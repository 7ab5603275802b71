"""A plan against the rows of its run: seconds by column, worked by hand."""

import math
from pathlib import Path

import pandas as pd
import pytest

from bench.plan.count import estimate
from bench.plan.work import PICTURE, Task
from bench.spec import read_spec
from bench.speed.planned import Compared, planned_seconds, ratio, taken_seconds

FROZEN, TRAINED = "frozen:efficientnet_lite0@48", "resnet6_mini@16"


def _row(student: str, selector: str, seed: int, index: int, *seconds: float) -> dict[str, object]:
    names = ["teacher_seconds", "train_seconds", "predict_seconds", "select_seconds"]
    identity = {"dataset": "digits", "teacher": "none", "distillation": "none", "recipe": "r"}
    trial = {"student": student, "selector": selector, "seed": seed, "round": index}
    return {**identity, **trial, **dict(zip(names, seconds, strict=True))}


def test_what_trials_share_in_round_0_is_counted_once() -> None:
    rows = pd.DataFrame(
        [
            _row(TRAINED, "random", 0, 0, 1.0, 8.0, 0.5, 0.1),
            _row(TRAINED, "entropy", 0, 0, 1.0, 8.0, 0.7, 0.2),
            _row(TRAINED, "entropy", 1, 0, 1.0, 4.0, 0.7, 0.2),
            _row(TRAINED, "entropy", 0, 1, 1.0, 9.0, 0.7, 0.3),
            _row(FROZEN, "random", 0, 0, 0.0, 2.0, 0.5, 0.1),
            _row(FROZEN, "entropy", 0, 0, 0.0, 2.0, 0.9, 0.2),
        ]
    )
    taken = taken_seconds(rows)
    assert taken["teacher_seconds"] == pytest.approx(1 + 1 + 1)
    assert taken["train_seconds"] == pytest.approx(8 + 4 + 9 + 2)
    assert taken["predict_seconds"] == pytest.approx(0.5 + 0.7 + 0.7 + 0.7 + 0.9)
    assert taken["select_seconds"] == pytest.approx(0.1 + 0.2 + 0.2 + 0.3 + 0.1 + 0.2)


def test_planned_seconds_are_those_of_the_columns(tiny_spec: Path, tmp_path: Path) -> None:
    made = estimate(read_spec(str(tiny_spec)).trials, tmp_path)
    amounts = made.work
    rates = dict.fromkeys(amounts, 2.0)
    planned = planned_seconds(made, rates)
    trained = amounts[Task("student", TRAINED, 8)] + amounts[Task("student", TRAINED, 16)]
    assert planned["train_seconds"] == pytest.approx((trained + amounts[Task("render", PICTURE, 16)]) / 2)
    assert planned["teacher_seconds"] == amounts[Task("teacher", "glyphclip+clap")] / 2
    assert planned["predict_seconds"] == amounts[Task("predict", TRAINED)] / 2
    assert planned["select_seconds"] == (amounts[Task("select", "random")] + amounts[Task("select", "pcoreset")]) / 2


def test_a_plan_passes_within_a_factor_either_way() -> None:
    assert ratio(2.0, 3.0) == ratio(3.0, 2.0) == 1.5
    assert ratio(0.0, 1.0) == math.inf
    assert Compared("it", {"a": 2.0}, {"a": 3.0}).bar.passes
    assert not Compared("it", {"a": 3.1}, {"a": 2.0}).bar.passes
