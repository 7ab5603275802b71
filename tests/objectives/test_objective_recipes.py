"""Objectives in recipes: equal compute, ids, built-in recipes, refusals before any work, forward passes of rounds."""

import re
from copy import copy
from dataclasses import MISSING, fields, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import get_args

import numpy as np
import pytest
from small_recipe import RECIPE

import activekd as ak
from activekd.banked import objective_faults
from activekd.defaults import KINDS, RECIPES, default_recipe
from activekd.errors import InputError
from activekd.recipes import BEFORE_OBJECTIVES, SEMI_SUPERVISED, Objective, Recipe, ViewGeometry, ramp_up
from activekd.students.networks import student_network
from activekd.teachers import teacher
from bench.spec import read_spec
from bench.specs.listing import listed
from bench.trials.resolved import misfits

VIEWS = ViewGeometry(5, (0.5, 1.0), (0.75, 1.33), 0.5)
ADAPTER, HEADS, WHOLE = (student_network(f"{kind}efficientnet_lite0") for kind in ("adapter:", "frozen:", ""))
CLIP, GIVEN = teacher("clip_vitb16+zeroshot"), teacher("given+zeroshot")


@pytest.mark.parametrize(
    ("field", "wrong", "expected"),
    [
        ("weight_consistency", -1.0, "at least 0"),
        ("confidence", 1.5, "0 to 1"),
        ("confidence", float("nan"), "0 to 1"),
        ("ramp", -0.1, "0 to 1"),
        ("sharpening", 0.0, "more than 0"),
        ("ema", 1.0, "0 to below 1"),
        ("weight_fairness", -0.1, "at least 0"),
        ("n_sigma", 0.0, "more than 0"),
        ("feature_dropout", 1.0, "0 to below 1"),
        ("weight_feature", float("inf"), "at least 0"),
        ("weight_feature_direction", -1.0, "at least 0"),
    ],
)
def test_numbers_out_of_their_range_are_refused(field: str, wrong: float, expected: str) -> None:
    with pytest.raises(InputError, match=rf"^Recipe\.{field} is {wrong!r}; expected: {expected}, finite$"):
        replace(RECIPE, **{field: wrong})


def test_an_unknown_objective_is_refused() -> None:
    odd = copy(RECIPE)
    object.__setattr__(odd, "objective", "fixmach")
    with pytest.raises(InputError, match=r"unknown objective 'fixmach'.*did you mean 'fixmatch'"):
        odd.__post_init__()


def test_steps_of_equal_compute_by_hand() -> None:
    """10 steps of 8 labeled and 16 unlabeled images are 240 passes: 30 of 8, 10 of 24, 6 of 40."""
    recipe = replace(RECIPE, steps=10, step_rule="images")
    cases = {
        ("dual_head", "none"): (8, 30),
        ("dual_head", "labeled"): (8, 30),
        ("dual_head", "both"): (24, 10),
        ("single_head", "none"): (8, 30),
        ("single_head", "unlabeled"): (24, 10),
        ("pseudo_label", "none"): (24, 10),
        ("pseudo_label", "both"): (24, 10),
        ("uda", "labeled"): (40, 6),
        ("softmatch", "none"): (40, 6),
    }
    for (objective, distillation), (images, steps) in cases.items():
        chosen = replace(recipe, objective=objective)  # pyright: ignore[reportArgumentType]
        assert chosen.images_a_step(distillation) == images  # pyright: ignore[reportArgumentType]
        assert chosen.n_steps(100, 50, distillation) == steps  # pyright: ignore[reportArgumentType]
        assert chosen.forward_passes(100, 50, distillation) == 240  # pyright: ignore[reportArgumentType]
    nothing_left = replace(recipe, objective="softmatch")
    assert nothing_left.n_steps(100, 0, "none") == 30
    assert nothing_left.forward_passes(100, 0, "none") == 240
    assert replace(nothing_left, steps=1).n_steps(100, 50, "none") == 1
    assert replace(recipe, step_rule="fixed", objective="uda").forward_passes(100, 50, "none") == 400


def test_a_ramp_by_hand() -> None:
    assert [ramp_up(replace(RECIPE, ramp=0.4), step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert [ramp_up(replace(RECIPE, ramp=0.0), step, 10) for step in (0, 9)] == [1.0, 1.0]
    assert ramp_up(replace(RECIPE, ramp=1.0), 9, 10) == 1.0


def test_an_id_has_the_fields_of_objectives_where_they_differ_from_their_defaults() -> None:
    names = [f.name for f in fields(Recipe)]
    later = names[names.index(BEFORE_OBJECTIVES) + 1 :]
    assert [*RECIPE.content] == names[: names.index(BEFORE_OBJECTIVES) + 1]
    assert all(f.default is not MISSING for f in fields(Recipe) if f.name in later)
    changed = replace(RECIPE, objective="uda", ramp=0.5)
    assert changed.content == {**RECIPE.content, "objective": "uda", "ramp": 0.5}


def test_ids_of_trials_of_before_are_the_same() -> None:
    """The first and the last trial of the shipped spec of the paper, as before recipes had objectives."""
    trials = read_spec("paper").trials
    assert (trials[0].id, trials[-1].id) == ("410af37c682be72f", "3b712d41099ed02e")


@pytest.mark.parametrize("kind", ["adapter", "end-to-end"])
def test_built_in_recipes_of_a_kind_make_equally_many_forward_passes(kind: str) -> None:
    names = [name for name in RECIPES if name.startswith(f"{kind}-")]
    assert len(names) == 9
    assert {RECIPES[name].objective for name in names} >= {*SEMI_SUPERVISED, "single_head", "dual_head"}
    usual = RECIPES[kind]
    budget = usual.forward_passes(100, 1000, "both")
    for name in names:
        recipe = RECIPES[name]
        assert KINDS[name] == kind
        assert recipe.step_rule == "images"
        for distillation in ("none", "both"):
            assert recipe.forward_passes(100, 1000, distillation) == budget
        if not recipe.is_semi_supervised and recipe.objective == "dual_head" and not recipe.has_feature_terms:
            assert recipe == replace(usual, step_rule="images", weight_consistency=usual.weight_ce)
    lines = dict(line.split(": ", 1) for line in listed("recipes"))
    assert lines[f"{kind}-freematch"].endswith("; objective freematch.")
    assert lines[f"{kind}-feature"].endswith("; feature 0.5.")
    assert lines[default_recipe("frozen:resnet18")].endswith("weighs 0.5.")


def test_strong_views_of_features_with_one_view_are_refused() -> None:
    two_views, alone = replace(RECIPE, objective="freematch"), replace(VIEWS, count=1)
    for student in (ADAPTER, HEADS):
        (fault,) = objective_faults(student, CLIP, alone, two_views)
        assert fault.startswith(
            f"student '{student.name}': objective 'freematch' on features with one view; expected: "
        )
        assert objective_faults(student, None, alone, two_views) == [fault]
        assert objective_faults(student, CLIP, VIEWS, two_views) == []
        assert objective_faults(student, None, alone, replace(RECIPE, objective="pseudo_label")) == []
    assert objective_faults(WHOLE, None, alone, two_views) == []


def test_a_teacher_of_one_view_on_which_the_student_trains_leaves_one_view() -> None:
    inputs = replace(RECIPE, objective="freematch", single_view="inputs")
    (fault,) = objective_faults(ADAPTER, GIVEN, VIEWS, inputs)
    assert "on features with view 0 alone, as the teacher 'given+zeroshot' has no other" in fault
    assert fault.endswith("or single_view = 'targets'")
    assert objective_faults(ADAPTER, GIVEN, VIEWS, replace(inputs, single_view="targets")) == []
    assert objective_faults(ADAPTER, CLIP, VIEWS, inputs) == []


def test_terms_on_features_need_features_that_are_trained() -> None:
    recipe = replace(RECIPE, weight_feature=0.5)
    (fault,) = objective_faults(HEADS, CLIP, VIEWS, recipe)
    assert fault.startswith(
        "student 'frozen:efficientnet_lite0' with weight_feature 0.5 and weight_feature_direction 0"
    )
    assert objective_faults(HEADS, None, VIEWS, recipe) == []
    for student in (ADAPTER, WHOLE):
        assert objective_faults(student, CLIP, VIEWS, recipe) == []


SPEC = """
name = "wrong"
datasets = ["digits"]
teachers = ["none", "glyphclip+zeroshot"]
students = ["adapter:efficientnet_lite0@48"]
selectors = ["random"]
seeds = 1
rounds = 2
recipe = "adapter-fixmatch"
views = "single"
"""


def test_a_grid_refuses_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC, encoding="utf-8")
    trials = read_spec(str(tmp_path / "spec.toml")).trials
    students = {t.student: student_network(t.student) for t in trials}
    (fault,) = misfits(trials, students, {"glyphclip+zeroshot": teacher("glyphclip+zeroshot")})
    assert "objective 'fixmatch' on features with one view" in fault
    wrong = SPEC.replace('recipe = "adapter-fixmatch"', 'recipe = "adapter-flexmatch"')
    (tmp_path / "spec.toml").write_text(wrong, encoding="utf-8")
    with pytest.raises(InputError, match=r"adapter-flexmatch.*did you mean 'adapter-fixmatch'"):
        read_spec(str(tmp_path / "spec.toml"))


def test_the_page_of_objectives_names_what_exists() -> None:
    page = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
    named = re.findall(r"`(activekd\.[\w.]+)`", page)
    assert len(named) >= 10
    for name in named:
        resolve_name(name)
    assert all(f"`{objective}`" in page for objective in get_args(Objective))
    assert all(f"`{name.removeprefix('adapter-')}`" in page for name in RECIPES if name.startswith("adapter-"))
    later = [f.name for f in fields(Recipe)][[f.name for f in fields(Recipe)].index(BEFORE_OBJECTIVES) + 1 :]
    assert all(f"`{name}`" in page for name in later)


def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    return np.eye(3)[y] + 0.3 * rng.normal(size=(60, 3)), y


def test_arrays_have_one_view() -> None:
    X, y = arrays()
    with pytest.raises(InputError, match=r"objective 'fixmatch' on features with one view"):
        ak.run(X, y, X, y, recipe="adapter-fixmatch", selector="random", rounds=1)
    with pytest.raises(InputError, match=r"objective 'softmatch' on features with one view"):
        ak.Learner(X, ["a", "b", "c"], recipe="adapter-softmatch", selector="random")


def test_rounds_count_their_forward_passes() -> None:
    X, y = arrays()
    recipe = replace(RECIPE, lr=0.01, step_rule="fixed", objective="pseudo_label", trunk_width=8)
    done = ak.run(X, y, X, y, recipe=recipe, selector="random", rounds=2, query_size=3)
    assert [one.forward_passes for one in done.rounds] == [4 * (8 + 16)] * 2
    done = ak.run(X, y, X, y, recipe=replace(recipe, objective="dual_head"), selector="random", rounds=1)
    assert [one.forward_passes for one in done.rounds] == [4 * 8]


def test_a_learner_keeps_its_objective_in_its_file(tmp_path: Path) -> None:
    X, y = arrays()
    recipe = replace(RECIPE, lr=0.01, objective="pseudo_label", confidence=0.6, trunk_width=8)
    learner = ak.Learner(X, ["a", "b", "c"], recipe=recipe, selector="random")
    learner.teach([0, 1, 2, 3], y[:4])
    learner.save(tmp_path / "learner.safetensors")
    again = ak.Learner.load(tmp_path / "learner.safetensors", X)
    assert again.predictor.recipe == recipe
    assert np.array_equal(again.predict_proba(X), learner.predict_proba(X))
