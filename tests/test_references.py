"""Reference lines of a run: the probe and CLAP by hand, the fit with all labels, and that no other number changes."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_arrays import saved_arrays, spec_on
from test_cohorts import ADAPTER, CLASSES, COSTS, GEOMETRY, RECIPE, N, features, student_views, teacher_views, world
from typer.testing import CliRunner

from activekd import loop
from activekd.datasets import Labeled
from activekd.errors import InputError
from activekd.fitted import Taught
from activekd.loop import run_cohort
from activekd.recipes import Recipe
from activekd.references import PROBE_C, PROBE_STEPS, References, probe_accuracy
from activekd.rounds import Member, Round, TeacherViews
from activekd.selectors import Selector, selector
from activekd.starts import Start
from activekd.starts.rows import balanced
from activekd.streams import stream
from activekd.students.cohort import MemberFit, fit_cohort
from activekd.students.heads import build_student
from activekd.students.predict import predict
from activekd.teachers.clap import clap
from activekd.teachers.zeroshot import zeroshot
from bench.columns import COSTS as COST_COLUMNS
from bench.columns import Row
from bench.grid import app
from bench.plan.count import estimate
from bench.plan.work import Task
from bench.spec import read_spec
from bench.store.rows import stored_rows

NAMES = ("all_labels_accuracy", "probe_accuracy", "clap_accuracy")
SEED = 3


def rounds(
    *, references: bool, taught: TeacherViews | None, recipe: Recipe = RECIPE, picked: tuple[tuple[int, ...], ...] = ()
) -> list[Round]:
    """Three rounds of random, with entropy of the same seed beside it."""
    some = [Member(selector("random"), SEED, picked, references), Member(selector("entropy"), SEED)]
    outcomes = run_cohort(
        world(),
        student_views(),
        taught,
        some,
        recipe,
        GEOMETRY,
        rounds=3,
        start=Start(),
        query_size=4,
        distillation="none" if taught is None else "both",
        diagnostics=True,
    )
    found = [outcome.result for outcome in outcomes if outcome.member == 0]
    for result in found:
        if isinstance(result, Exception):
            raise result
    return [result for result in found if isinstance(result, Round)]


def references_of(one: Round) -> list[float | None]:
    return [getattr(one, name) for name in NAMES]


def test_the_probe_is_logistic_regression_on_features_of_unit_norm() -> None:
    """Where the gradient of .5 ||w||^2 + C sum of losses is 0, w_c = C sum_i ([c is the class of i] - p_ic) x_i."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 6))
    y, y_test = np.arange(12) % 3, np.arange(30) % 3
    x, x_test = (7 * (centres[k] + 0.9 * rng.normal(size=(len(k), 6))) for k in (y, y_test))
    unit, unit_test = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, x_test))
    probe = LogisticRegression(C=32.0, max_iter=1000).fit(unit, y)
    assert (PROBE_C, PROBE_STEPS) == (32.0, 1000)
    p = probe.predict_proba(unit)
    assert np.allclose(probe.coef_, 32.0 * (np.eye(3)[y] - p).T @ unit, atol=0.05)
    by_hand = np.mean((unit_test @ probe.coef_.T + probe.intercept_).argmax(axis=1) == y_test)
    found = probe_accuracy(x.astype(np.float16), y, x_test.astype(np.float16), y_test)
    assert found == by_hand
    assert 0.5 < found < 1.0
    # A multiple of the features is the same: they are divided by their norms.
    assert probe_accuracy(4 * x, y, x_test, y_test) == found


def test_a_probe_of_two_classes_predicts_no_third_and_one_of_one_class_always_that() -> None:
    x, x_test = np.eye(3)[[0, 1, 0, 1]], np.eye(3)[[0, 1, 1, 2]]
    assert probe_accuracy(x, np.array([0, 2, 0, 2]), x_test, np.array([0, 2, 2, 1])) == 0.75
    assert probe_accuracy(x, np.array([2, 2, 2, 2]), x_test, np.array([0, 2, 2, 1])) == 0.5


@pytest.mark.parametrize("adapt", [clap, zeroshot], ids=["clap", "zeroshot"])
def test_all_labels_is_a_fit_on_all_labels(adapt: object) -> None:
    data, views = world(), replace(teacher_views(), adapt=adapt)
    labeled = Labeled(np.arange(N), data.train.labels)
    rng = stream(SEED, "teacher", "all labels")
    (classifier,) = views.adapt(views.head, views.train, GEOMETRY, [labeled], RECIPE.clap, [rng]).members()
    student = build_student(
        ADAPTER, (37,), CLASSES, trunk_width=RECIPE.trunk_width, rng=stream(SEED, "student", "all labels")
    )
    guide = Taught(views, classifier).guide("cpu")
    fit = MemberFit(student, labeled, np.arange(N), guide, stream(SEED, "batches", "all labels"))
    inputs = student_views()
    assert fit_cohort([fit], inputs.train, "both", RECIPE, GEOMETRY) == [None]
    test = predict(student, inputs.test, RECIPE, "both").probabilities
    expected = np.mean(test.argmax(dim=1).numpy() == data.test.labels)
    first, second, third = rounds(references=True, taught=views)
    assert first.all_labels_accuracy == expected
    assert second.all_labels_accuracy is third.all_labels_accuracy is None


def test_with_passes_over_the_pool_the_fit_on_all_labels_has_them_too() -> None:
    recipe = replace(RECIPE, step_rule="per_pool", steps=2, lr=0.02)
    (first, *_) = rounds(references=True, taught=None, recipe=recipe)
    one_step = rounds(references=True, taught=None, recipe=replace(RECIPE, steps=1, lr=0.02))[0]
    assert recipe.n_steps(N, N) == 2 * 10 > recipe.n_steps(N, 0) == 1
    assert first.all_labels_accuracy != one_step.all_labels_accuracy


def test_probe_and_clap_see_the_labels_of_the_round() -> None:
    views = replace(teacher_views(), adapt=zeroshot)
    data, (first, *_) = world(), rounds(references=True, taught=views)
    rows = np.array(balanced(data, CLASSES, SEED))
    labels = data.train.labels[rows]
    assert views.test is not None
    probe = probe_accuracy(views.train.arrays[0][rows], labels, np.asarray(views.test), data.test.labels)
    assert first.probe_accuracy == probe
    # CLAP on these labels is what the teacher with this adaptation has, whose draws are the same.
    as_clap = rounds(references=True, taught=teacher_views())
    assert [one.clap_accuracy for one in as_clap] == [one.teacher_accuracy for one in as_clap]
    assert first.clap_accuracy == as_clap[0].teacher_accuracy
    rng = stream(SEED, "teacher", 0)
    (classifier,) = clap(views.head, views.train, GEOMETRY, [Labeled(rows, labels)], RECIPE.clap, [rng]).members()
    predicted = classifier.logits(torch.from_numpy(np.asarray(views.test)))
    assert first.clap_accuracy == np.mean(predicted.argmax(dim=1).numpy() == data.test.labels)


@pytest.mark.parametrize("taught", [True, False], ids=["taught", "alone"])
def test_references_change_no_other_number(taught: bool) -> None:
    def others(some: list[Round]) -> list[str]:
        return [repr({k: v for k, v in vars(one).items() if k not in {*COSTS, *NAMES}}) for one in some]

    teacher = teacher_views() if taught else None
    without, with_them = (rounds(references=wanted, taught=teacher) for wanted in (False, True))
    assert others(with_them) == others(without)
    assert {value for one in without for value in references_of(one)} == {None}
    resumed = rounds(references=True, taught=teacher, picked=(without[0].picked,))
    assert [references_of(one) for one in resumed] == [references_of(one) for one in with_them[1:]]
    for one in with_them:
        assert (one.probe_accuracy is None) is (one.clap_accuracy is None) is not taught


def test_without_test_features_of_the_teacher_there_is_all_labels_alone() -> None:
    (first, second, _) = rounds(references=True, taught=replace(teacher_views(), test=None))
    assert first.all_labels_accuracy is not None
    assert references_of(first)[1:] == [None, None]
    assert references_of(second) == [None, None, None]


def test_references_come_after_all_trials_of_a_fit_so_that_costs_exclude_them(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    ask = loop.ask

    def logged(asked: Selector, *arguments: Any, **keywords: Any) -> Sequence[int]:
        log.append(asked.name)
        return ask(asked, *arguments, **keywords)

    def of(*_: object) -> dict[str, float]:
        log.append("references")
        return {}

    monkeypatch.setattr(loop, "ask", logged)
    monkeypatch.setattr(References, "of", of)
    members = [Member(selector("random"), SEED, (), references=True), Member(selector("margin"), SEED)]
    arguments = (world(), student_views(), None, members, RECIPE, GEOMETRY)
    found = [*run_cohort(*arguments, rounds=2, start=Start(), query_size=4, distillation="none")]
    assert [outcome.member for outcome in found] == [1, 0, 1, 0]
    assert log == ["random", "margin", "references", "references"]


def test_a_reference_that_is_not_finite_is_named() -> None:
    inputs = features(37, N, 3)
    student = replace(student_views(), train=inputs)
    later = np.setdiff1d(np.arange(N), balanced(world(), CLASSES, SEED))
    for array in inputs.banked[1:]:
        array[later] = np.nan
    arguments = (world(), student, None, [Member(selector("random"), SEED, (), references=True)], RECIPE, GEOMETRY)
    (outcome,) = run_cohort(*arguments, rounds=1, start=Start(), query_size=4, distillation="none")
    assert isinstance(outcome.result, InputError)
    assert str(outcome.result).startswith(f"reference with all labels: round 0, student '{ADAPTER.name}': ")


def without_references(path: Path) -> Path:
    text = path.read_text(encoding="utf-8").replace("references = true\n", "")
    other = path.with_name("plain.toml")
    other.write_text(text, encoding="utf-8")
    return other


def grid(spec: Path, out: Path, cache: Path) -> dict[tuple[str, int], Row]:
    options = ["--serial", "--device", "cpu", "--no-report", "--out", str(out)]
    result = CliRunner().invoke(app, ["run", str(spec), *options], env={"ACTIVEKD_CACHE": str(cache)})
    assert result.exit_code == 0, result.output
    return {(row["trial_id"], row["round"]): row for row in stored_rows(out)}


def test_a_grid_stores_them_in_the_rows_of_random_alone(tmp_path: Path, cache: Path) -> None:
    """Ids and all other columns are those of the same grid without them, whose rows stay valid in its folder."""
    spec = spec_on(saved_arrays(tmp_path / "d.npz"), tmp_path, references="true")
    plain = without_references(spec)
    assert [t.id for t in read_spec(str(plain)).trials] == [t.id for t in read_spec(str(spec)).trials]
    before, after = grid(plain, tmp_path / "plain", cache), grid(spec, tmp_path / "with", cache)
    assert before.keys() == after.keys()
    for key, row in after.items():
        for column in set(row) - {*COST_COLUMNS, *NAMES}:
            assert row[column] == before[key][column], column
        random, taught = row["selector"] == "random", row["teacher"] != "none"
        assert (row["all_labels_accuracy"] is not None) is (random and row["round"] == 0)
        assert (row["probe_accuracy"] is not None) is (random and taught)
        assert (row["clap_accuracy"] is not None) is (random and taught)
    by_teacher = {(r["teacher"], r["student"], r["round"]): r for r in after.values() if r["selector"] == "random"}
    for (teacher, student, index), row in by_teacher.items():
        if teacher == "given+zeroshot" and index == 0:
            assert row["clap_accuracy"] == by_teacher["given+clap", student, index]["teacher_accuracy"]
    # The rows without references are a finished run of the spec with them.
    file = tmp_path / "plain" / "rounds" / "rounds.jsonl"
    stored = file.read_bytes()
    grid(spec, tmp_path / "plain", cache)
    assert file.read_bytes() == stored
    # A run that was started without them resumes with them.
    file.write_text("".join(f"{json.dumps(r)}\n" for r in before.values() if r["round"] == 0), encoding="utf-8")
    resumed = grid(spec, tmp_path / "plain", cache)
    assert resumed.keys() == after.keys()
    for key, row in resumed.items():
        assert row["probe_accuracy"] == (after[key]["probe_accuracy"] if key[1] else None)


def test_a_spec_with_references_needs_random(tmp_path: Path) -> None:
    spec = spec_on("digits", tmp_path, references="true", selectors='["entropy", "pcoreset"]')
    with pytest.raises(InputError, match="references = true with selectors entropy, pcoreset; expected: also random"):
        read_spec(str(spec))


def test_the_plan_counts_them(tiny_spec: Path, tmp_path: Path) -> None:
    plain = estimate(read_spec(str(tiny_spec)).trials, tmp_path)
    text = tiny_spec.read_text(encoding="utf-8").replace("[[block]]", "[[block]]\nreferences = true")
    text = text.replace('"glyphclip+clap"', '"glyphclip+clap", "glyphclip+zeroshot"')
    tiny_spec.write_text(text, encoding="utf-8")
    trials = read_spec(str(tiny_spec)).trials
    size = estimate(trials, tmp_path).sizes["digits"]
    only = [t for t in trials if t.teacher != "glyphclip+zeroshot"]
    made = estimate(only, tmp_path)
    assert made.totals["fits of reference lines, all labels"] == 2
    assert made.totals["linear probes of reference lines, in no hours"] == 3
    assert made.totals["optimiser steps"] == plain.totals["optimiser steps"] + 2 * 3
    student, teacher = "resnet6_mini@16", "glyphclip+clap"
    # 3 steps of 8 labeled images without a teacher, and of 8 and 8 with one.
    assert made.work[Task("student", student, 8)] == plain.work[Task("student", student, 8)] + 3 * 8
    assert made.work[Task("student", student, 16)] == plain.work[Task("student", student, 16)] + 3 * 16
    assert made.work[Task("predict", student)] == plain.work[Task("predict", student)] + 2 * size.n_test
    # CLAP: 3 epochs of the pool in batches of 8.
    of_pool = 3 * -(-size.n_pool // 8)
    assert made.work[Task("teacher", teacher)] == plain.work[Task("teacher", teacher)] + of_pool
    # Beside the zero-shot teacher CLAP is fitted in each round, on 10, 20 and 30 labels.
    both = estimate(trials, tmp_path)
    assert both.work[Task("teacher", teacher)] == made.work[Task("teacher", teacher)] + 3 * (2 + 3 + 4)
    assert both.examples[Task("teacher", teacher)].trial.teacher == teacher
