"""`bench.speed gpu`: the arithmetic of its rows, cases that fail or cannot be measured, and tiny runs."""

from io import StringIO
from math import isfinite
from pathlib import Path

import pytest
from rich.console import Console

from bench.speed.bars import Bar, print_bars
from bench.speed.gpu import Case, Pool, Sizes, card_cases, gpu_bars, measured, whole_card_bar
from bench.speed.gpu_frozen import Rounds
from bench.speed.gpu_older import older_code
from bench.speed.gpu_pixels import Crops, Task, interleaved, noise_images, pixel_views
from bench.speed.gpu_world import Size, World

SIZE = Size(train=60, test=20, classes=5, student=24, teacher=16, views=3)
TASK = Task("resnet6_mini", batch=2, steps=2, size=16, height=20, width=24, images=20, labeled=5, classes=3)
TINY = Sizes(
    frozen=SIZE,
    rounds=Rounds(3, 1, (0,), ("random", "badge")),
    wide=SIZE,
    members=3,
    cohort_steps=2,
    crops=Crops(batch=4, size=16, images=8, batches=2),
    pool=Pool(2000, 20, 20, 5),
    small=TASK,
    large=TASK,
    mobile=TASK,
    at_once=(1,),
    older_at_once=(1,),
    repeats=1,
)


def quiet() -> Console:
    return Console(file=StringIO(), width=200)


def shown(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(("value", "passes"), [(0.85, True), (0.84, False), (float("nan"), False)])
def test_a_bar_may_be_a_least_value(value: float, passes: bool) -> None:
    bar = Bar("it", value, 0.85, at_least=True)
    assert bar.passes is passes
    console = quiet()
    print_bars([bar], console)
    assert ">= 0.85" in shown(console)
    assert ("pass" if passes else "MISS") in shown(console)


def test_a_trial_is_its_first_round_and_the_middle_one_for_each_other() -> None:
    assert Rounds(rounds=8).of_a_trial(first=1.0, middle=2.0) == 15.0


def test_the_median_of_interleaved_measurements_leaves_out_the_first() -> None:
    one, other = iter([100.0, 1.0, 5.0, 2.0]), iter([100.0, 7.0, 8.0, 60.0])
    assert interleaved(lambda: next(one), lambda: next(other), 3) == (2.0, 8.0)


def test_the_whole_card_takes_the_best_number_of_trials_of_each() -> None:
    bar = whole_card_bar({1: 900.0, 2: 1500.0, 4: 1200.0}, {4: 400.0, 10: 500.0})
    assert bar.value == 3.0
    assert bar.passes
    assert bar.detail == "1,500 images/s of 2 trials against 500 of 10; tried 1, 2, 4 against 4, 10"


def test_a_fit_shows_both_batches_of_each_step() -> None:
    assert Task(batch=64, steps=10).images_per_fit == 1280


def test_a_case_that_fails_is_a_row_that_misses() -> None:
    def out_of_memory() -> list[Bar]:
        raise RuntimeError("out of memory")

    (row,) = measured(Case("large fit", out_of_memory), quiet())
    assert not row.passes
    assert row.detail == "failed: out of memory"


def test_a_case_without_the_older_code_is_told_and_not_counted() -> None:
    console = quiet()
    assert measured(Case("whole card", None), console) == []
    assert "whole card: not counted, since the history of this repository lacks commit 18509b1" in shown(console)
    cases = {case.what: case.measure for case in card_cases("cpu", None, Path(), TINY)}
    assert cases["the whole card against 18509b1"] is None
    assert cases["cohort of 3 adapters"] is None
    assert cases["k-center"] is not None


def test_a_world_has_every_class_and_all_views() -> None:
    world = World.drawn(SIZE)
    assert sorted(set(world.dataset.train.labels.tolist())) == [0, 1, 2, 3, 4]
    assert world.views("student_train").shape == (24,)
    assert len(world.views("teacher_train")) == 3


def test_rendered_batches_are_those_of_the_size() -> None:
    source = pixel_views(noise_images(3, 20, 24), 16, "bilinear", "cpu")
    assert (source.n_rows, source.shape) == (3, (3, 16, 16))


@pytest.mark.soak
def test_every_row_of_the_cpu_in_a_tiny_size() -> None:
    console = quiet()
    bars = gpu_bars("cpu", console, TINY)
    against_older = ["frozen part of caltech-real", "cohort of 3 adapters"]
    always = [
        "GB of a cohort of 3 adapters beyond the features",
        "rendering 4 crops of 16 px in a fit",
        "pcoreset 2",
        "pcoreset 2",
    ]
    cases = [bar.what.partition(",")[0].partition(":")[0] for bar in bars]
    assert cases == ([] if "not counted" in shown(console) else against_older) + always
    assert all(isfinite(bar.value) for bar in bars)


def test_fits_of_the_card_in_a_tiny_size() -> None:
    with older_code() as folder:
        cases = {case.what: case for case in card_cases("cpu", folder, Path(), TINY)}
        (row,) = measured(cases["fit_student resnet6_mini 2 + 2"], quiet())
        assert row.value > 0
        assert row.at_least
        if folder is not None:
            (row,) = measured(cases["the whole card against 18509b1"], quiet())
            assert row.value > 0
