"""Diagnostics worked by hand on eight images of four classes, and the columns that a grid keeps of them."""

import json
from dataclasses import asdict, fields, replace
from math import isnan, log
from pathlib import Path

import numpy as np
import pytest
import torch
from cards import Card
from typer.testing import CliRunner

from activekd.datasets import Dataset, Split
from activekd.diagnostics import (
    Diagnostics,
    Measured,
    Opinion,
    calibration_error,
    diagnose,
    negative_log_likelihood,
)
from activekd.pool import Pool
from bench.columns import DIAGNOSTICS
from bench.grid import app
from bench.store.rows import stored_rows
from bench.store.table import read_run

LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])
NOTHING = Split(None, LABELS[:0])
WORLD = Dataset("eight", ("a", "b", "c", "d"), ("{}",), Split(None, LABELS), NOTHING, Split(None, LABELS[:4]))
POOL = Pool(8, (0, 4, 1, 6))
PICKED = np.array([2, 3])


def one_hot(classes: list[int], height: float = 1.0) -> torch.Tensor:
    return torch.full((len(classes), 4), (1 - height) / 3).scatter(1, torch.tensor(classes)[:, None], height)


# The student mistakes rows 3 and 6 for class 0; the teacher surely mistakes 3, 6 and 7 for class 0, and 5, unsure.
STUDENT = one_hot([0, 1, 2, 0, 0, 1, 0, 3])
TEACHER = one_hot([0, 1, 2, 0, 0, 0, 0, 0], 0.9)
TEACHER[5] = torch.tensor([0.4, 0.2, 0.2, 0.2])
MEASURED = Measured(
    student_train=STUDENT,
    features=lambda rows: torch.arange(8.0)[torch.from_numpy(rows), None],
    student_test=one_hot([0, 1, 2, 0], 0.7),
    teacher_train=Opinion(TEACHER.argmax(dim=1).numpy(), TEACHER.amax(dim=1).numpy()),
    teacher_test=one_hot([0, 1, 2, 3], 0.7),
    heads_test=torch.tensor([[0, 0, 0, 0], [0, 1, 2, 0]]),
)


def found(picked: np.ndarray = PICKED, measured: Measured = MEASURED, pool: Pool = POOL) -> Diagnostics:
    return diagnose(WORLD, pool, picked, measured, rng=np.random.default_rng(0))


def test_arrays_of_a_card_give_the_same_diagnostics() -> None:
    with Card():
        there = replace(
            MEASURED,
            student_train=STUDENT.to("cuda"),
            features=lambda rows: torch.arange(8.0).to("cuda")[torch.from_numpy(rows), None],
            student_test=MEASURED.student_test.to("cuda"),
            teacher_test=one_hot([0, 1, 2, 3], 0.7).to("cuda"),
            heads_test=MEASURED.heads_test.to("cuda"),
        )
        assert asdict(found(measured=there)) == asdict(found())


def test_classes_of_what_is_bought() -> None:
    # Labels bought: 0, 0, 1, 2, then 2 and 3: counts 2 1 2 1 of 6.
    shares = np.array([2, 1, 2, 1]) / 6
    assert found().picks_coverage == 1.0
    assert found(np.array([2])).picks_coverage == 1.0
    assert found(np.array([3, 7])).picks_coverage == 0.5
    assert found().labeled_coverage == 1.0
    assert found(np.array([5])).labeled_coverage == 0.75
    assert found().labeled_balance == pytest.approx(-(shares * np.log(shares)).sum() / log(4))


def test_uncertainty_and_teacher_on_the_picks() -> None:
    unsure = STUDENT.clone()
    unsure[2] = 0.25
    got = found(measured=replace(MEASURED, student_train=unsure))
    # Unlabeled: 2, 3, 5, 7; one of them is unsure. The teacher is right on 2 alone.
    assert (got.picks_entropy, got.pool_entropy) == pytest.approx((0.5, 0.25))
    assert (got.picks_teacher_accuracy, got.pool_teacher_accuracy) == (0.5, 0.25)


def test_diversity_is_that_of_a_random_draw_where_all_are_picked() -> None:
    everything = np.array([2, 3, 5, 7])
    assert found(everything).picks_feature_diversity == pytest.approx(1.0)
    drawn = np.random.default_rng(0).permutation(POOL.unlabeled)[:2]
    assert found(np.array([2, 7])).picks_feature_diversity == pytest.approx(5 / abs(drawn[0] - drawn[1]))
    assert isnan(found(np.array([2])).picks_feature_diversity)


def test_calibration_by_hand() -> None:
    # Four images of confidence 0.7, three of them right: 0.75 against 0.7.
    assert found().student_ece == pytest.approx(0.05)
    assert found().teacher_ece == pytest.approx(0.3)
    assert found().student_nll == pytest.approx(-(3 * log(0.7) + log(0.1)) / 4)
    assert found().teacher_nll == pytest.approx(-log(0.7))


def test_calibrated_predictions_have_a_small_error_and_impossible_ones_a_finite_loss() -> None:
    rng = np.random.default_rng(0)
    probabilities = torch.from_numpy(rng.dirichlet(np.ones(5), size=50_000)).float()
    draws = rng.uniform(size=(50_000, 1))
    labels = (draws > probabilities.double().cumsum(dim=1)[:, :-1].numpy()).sum(axis=1)
    assert calibration_error(probabilities, labels) < 0.01
    assert negative_log_likelihood(torch.tensor([[0.0, 1.0]]), np.array([0])) == pytest.approx(-log(1e-12))


def test_heads_alone() -> None:
    # Test labels 0, 1, 2, 3: the label head is right on the first, the distill head on the first three.
    assert (found().label_head_accuracy, found().distill_head_accuracy) == (0.25, 0.75)
    untaught = found(measured=replace(MEASURED, teacher_train=None, teacher_test=None))
    assert isnan(untaught.label_head_accuracy)
    assert isnan(untaught.distill_head_accuracy)


def test_images_on_which_the_teacher_misleads() -> None:
    # Misled: 3, 6, 7. Of them 6 has a label, and the student still errs; of 3 and 7 it makes the mistake on 3.
    got = found()
    assert (got.misled, got.misled_labeled) == pytest.approx((3 / 8, 1 / 3))
    assert (got.misled_learned, got.misled_mended) == (0.5, 0.0)
    mended = STUDENT.clone()
    mended[6] = one_hot([2])[0]
    assert found(measured=replace(MEASURED, student_train=mended)).misled_mended == 1.0


def test_what_a_round_does_not_have_is_not_a_number() -> None:
    last = found(PICKED[:0])
    alone = found(measured=replace(MEASURED, teacher_train=None, teacher_test=None))
    for name in ("picks_coverage", "picks_feature_diversity", "picks_entropy", "picks_teacher_accuracy"):
        assert isnan(getattr(last, name)), name
    for name in ("pool_teacher_accuracy", "teacher_ece", "teacher_nll", "misled", "misled_learned", "misled_mended"):
        assert isnan(getattr(alone, name)), name
    assert {name for name, value in asdict(found()).items() if isnan(value)} == set()


def test_columns_of_the_store_are_those_of_a_round() -> None:
    assert tuple(field.name for field in fields(Diagnostics)) == DIAGNOSTICS


def test_a_grid_keeps_them_and_no_other_number_depends_on_them(tiny_spec: Path, cache: Path, tmp_path: Path) -> None:
    environment = {"ACTIVEKD_CACHE": str(cache)}
    for name, option in (("with", "--diagnostics"), ("without", "--no-diagnostics")):
        result = CliRunner().invoke(
            app, ["run", str(tiny_spec), "--serial", "--out", str(tmp_path / name), option], env=environment
        )
        assert result.exit_code == 0, result.output
    rows, plain = (stored_rows(tmp_path / name) for name in ("with", "without"))
    assert len(rows) == len(plain)
    for row, bare in zip(rows, plain, strict=True):
        assert (row["accuracy"], row["picked"]) == (bare["accuracy"], bare["picked"])
        assert json.loads(json.dumps(row)) == row
        assert set(DIAGNOSTICS) <= set(row)
        assert not set(DIAGNOSTICS) & set(bare)
    table = read_run(tmp_path / "with").rows
    taught, last = table["teacher"] != "none", table["round"] == table["round"].max()
    assert table["student_ece"].between(0, 1).all()
    assert table.loc[taught, "teacher_ece"].between(0, 1).all()
    assert table.loc[~last, "picks_coverage"].between(0, 1).all()
    assert table.loc[last, "picks_coverage"].isna().all()
    assert read_run(tmp_path / "without").rows[list(DIAGNOSTICS)].isna().all().all()
