"""Initial strategies: rows worked by hand, equal for all selectors, the same in runs, grids and learners."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_arrays import CLASSES, made_arrays, saved_arrays, spec_on
from small_recipe import RECIPE

import activekd as ak
from activekd.bank.computing import compute
from activekd.bank.views import RenderedViews, Views
from activekd.datasets import Dataset
from activekd.datasets.arrays import arrays_source
from activekd.defaults import VIEWS
from activekd.errors import InputError
from activekd.images.pixels import Images
from activekd.inputs import computed_inputs
from activekd.loop import run_cohort
from activekd.pool import Pool
from activekd.rounds import Member, Round, StudentViews, TeacherViews
from activekd.selectors import SELECTORS, selector
from activekd.selectors.view import PoolView
from activekd.starts import STARTS, Start
from activekd.starts.rows import (
    balanced,
    by_class,
    class_counts,
    confident,
    drawn_rows,
    pretrained_features,
    typical,
    uniform,
)
from activekd.streams import stream
from activekd.students.encoders import FrozenFeatures
from activekd.students.networks import student_network
from activekd.teachers import teacher
from activekd.teachers.text_heads import TextHead
from activekd.teachers.zeroshot import zeroshot
from bench.checks import check_resumable, resolve
from bench.launch import launch
from bench.plan.count import estimate
from bench.settings import Options
from bench.spec import Trial, read_spec
from bench.store.history import History
from bench.store.rows import ROUNDS, stored_rows

KEYS = ("X", "y", "X_test", "y_test")
TRUTH = made_arrays()["y"]


def a_run(**options: Any) -> ak.Run:
    arrays = made_arrays()
    return ak.run(*(arrays[key] for key in KEYS), **{"recipe": RECIPE, "rounds": 2, "query_size": 4} | options)


def a_teacher(adapt: Callable[..., ak.FeatureTeacher] = ak.zeroshot) -> ak.FeatureTeacher:
    arrays = made_arrays()
    return adapt(arrays["teacher_features"], arrays["text"], features_test=arrays["teacher_features_test"])


def of_labels(labels: list[int]) -> Dataset:
    """A data set that has these labels."""
    y = np.array(labels)
    rows = np.arange(float(2 * len(y))).reshape(-1, 2)
    return Dataset.of("made", arrays_source("made", {"X": rows, "y": y, "X_test": rows, "y_test": y}))


def test_what_is_left_over_goes_to_random_classes_one_each() -> None:
    # 11 labels of 4 classes: 2 each, and 3 of the classes get one more.
    drawn = [class_counts(4, 11, np.random.default_rng(seed)).tolist() for seed in range(200)]
    assert {tuple(sorted(counts)) for counts in drawn} == {(2, 3, 3, 3)}
    assert min(Counter(counts.index(2) for counts in drawn).values()) > 30
    assert class_counts(3, 2, np.random.default_rng(0)).sum() == 2
    assert class_counts(3, 2, np.random.default_rng(0)).max() == 1
    assert class_counts(3, 6, np.random.default_rng(0)).tolist() == [2, 2, 2]


def test_balanced_draws_each_class_in_turn_from_the_stream_of_the_initial_labels() -> None:
    labels = [2, 0, 1, 1, 0, 2, 2, 0, 1]
    rng = stream(5, "initial")
    members = [[1, 4, 7], [2, 3, 8], [0, 5, 6]]
    expected = [row for rows in members for row in rng.choice(rows, size=2, replace=False).tolist()]
    assert list(balanced(of_labels(labels), 6, 5)) == expected
    left_over = [np.bincount(np.array(labels)[list(balanced(of_labels(labels), 4, s))]).argmax() for s in range(40)]
    assert set(left_over) == {0, 1, 2}
    few = [np.array(labels)[list(balanced(of_labels(labels), 2, s))].tolist() for s in range(40)]
    assert {tuple(classes) for classes in few} == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(InputError, match="class '0' has 3 train images; expected: at least 4, its initial labels"):
        balanced(of_labels(labels), 12, 0)


def test_classes_take_turns_and_give_their_most_confident_rows() -> None:
    # Class 0 has rows 1 (0.9), 3 (0.8), 0 (0.5), 5 (0.5); class 2 row 4; class 3 rows 2 (0.7), 6 (0.6); class 1 none.
    classes = np.array([0, 0, 3, 0, 2, 0, 3])
    confidence = np.array([0.5, 0.9, 0.7, 0.8, 0.1, 0.5, 0.6], dtype=np.float32)
    # Turns: 0, 2, 3; then 0, 3, as class 2 has no row left; then class 0 alone, of equal rows the lowest first.
    assert by_class(classes, confidence, 7).tolist() == [1, 4, 2, 3, 6, 0, 5]
    assert by_class(classes, confidence, 2).tolist() == [1, 4]


def test_turns_are_those_of_picking_the_class_with_the_fewest_picks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        n, n_classes = int(rng.integers(2, 40)), int(rng.integers(1, 8))
        classes = rng.integers(n_classes, size=n)
        confidence = (rng.integers(5, size=n) / 5).astype(np.float32)
        picks: list[int] = []
        while len(picks) < n:
            left = [row for row in range(n) if row not in picks]
            chosen = min({classes[row] for row in left}, key=lambda c: ((classes[picks] == c).sum() if picks else 0, c))
            picks.append(min((row for row in left if classes[row] == chosen), key=lambda row: (-confidence[row], row)))
        assert by_class(classes, confidence, n).tolist() == picks


def test_a_teacher_counts_by_its_zero_shot_head() -> None:
    # Cosines with class 0 and class 1: row 0 (1, 0), row 1 (0.6, 0.8), row 2 (0.8, 0.6), row 3 (0, 1).
    features = np.array([[1, 0], [0.6, 0.8], [0.8, 0.6], [0, 1]], dtype=np.float16)
    head = TextHead(np.eye(2, dtype=np.float32), np.array([[0, 9], [9, 0]], dtype=np.float32), 10.0)
    taught = TeacherViews("given+clap", zeroshot, head, Views((features,)), None)
    assert confident(taught, 4) == (0, 3, 2, 1)


def test_typical_rows_are_the_centres_of_clusters() -> None:
    # Eleven directions around 0 degrees and eleven around 90: the middle one of each is nearest to the others.
    degrees = np.concatenate([np.linspace(-2, 2, 11), np.linspace(88, 92, 11)])
    features = torch.from_numpy(np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)).float()
    for seed in range(3):
        assert sorted(typical(features, 2, seed)) == [5, 16]
    view = PoolView(Pool(22), np.full(22, -1), 1, {"features": features})
    asked = selector("typiclust").function(view, 5, rng=stream(1, "initial", "typiclust"))
    assert typical(features, 5, 1) == tuple(asked.tolist())
    with pytest.raises(InputError, match="start 'typiclust': features are not finite in 1 rows"):
        typical(features.index_fill(0, torch.tensor([3]), torch.nan), 2, 0)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("n", [None, 2, 7])
def test_initial_labels_are_equal_for_all_selectors(start: str, n: int | None) -> None:
    options = {"start": start, "initial_labels": n, "teacher": a_teacher(ak.clap)}
    first, second = a_run(**options, selector="random"), a_run(**options, selector="pcoreset")
    assert first.initial == second.initial
    assert len(set(first.initial)) == (n or 3)
    assert first.rounds[0].accuracy == second.rounds[0].accuracy
    assert first.curve["labels"].tolist() == [n or 3, (n or 3) + 4]
    assert set(first.initial).isdisjoint(first.picked[0])
    other = a_run(**options, selector="random", seed=1)
    if start in {"balanced", "random"}:
        assert other.initial != first.initial
    if start == "teacher":
        assert other.initial == first.initial


def test_the_default_is_balanced_with_one_label_of_each_class() -> None:
    plain = a_run()
    assert sorted(TRUTH[list(plain.initial)]) == [0, 1, 2]
    assert plain.initial == a_run(start="balanced", initial_labels=3).initial
    assert len(a_run(start="random", shots=2).initial) == 6


def world(adapt: str, student: str = "adapter:given") -> tuple[Dataset, StudentViews, TeacherViews | None]:
    dataset = Dataset.of("arrays:made", arrays_source("made", made_arrays()))
    views = computed_inputs(
        dataset, student_network(student), teacher(f"given+{adapt}") if adapt else None, VIEWS["single"], Path()
    )
    return dataset, *views


@pytest.mark.parametrize("adapt", ["zeroshot", "clap"])
def test_classes_without_labels_are_borne_by_teachers_students_selectors_and_diagnostics(adapt: str) -> None:
    names = [name for name in SELECTORS if not selector(name).is_oracle]
    outcomes = run_cohort(
        *world(adapt),
        [Member(selector(name), 0) for name in names],
        RECIPE,
        VIEWS["single"],
        rounds=2,
        start=Start("random", labels=1),
        query_size=2,
        distillation="both",
        diagnostics=True,
    )
    done = [outcome.result for outcome in outcomes]
    assert [one for one in done if not isinstance(one, Round)] == []
    assert len(done) == 2 * len(names)
    rounds = [one for one in done if isinstance(one, Round)]
    assert {one.n_labeled for one in rounds} == {1, 3}
    for one in rounds:
        assert one.diagnostics is not None
        assert one.diagnostics.labeled_coverage <= 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"start": "typclust"}, "unknown start 'typclust'; did you mean 'typiclust'?"),
        ({"start": "teacher"}, "start 'teacher' without a teacher; expected: a teacher, or another start"),
        (
            {"start": "random", "initial_labels": 31},
            "31 initial labels (initial_labels = 31) of 30 images; expected: at most 30",
        ),
        ({"start": "random", "initial_labels": 28}, "1 queries of size 4 from a pool of 2 unlabeled images"),
        ({"initial_labels": 29}, "1 queries of size 4 from a pool of 1 unlabeled images"),
        ({"initial_labels": 31}, "class '0' has 10 train images; expected: at least 11 (initial_labels = 31)"),
        ({"shots": 2, "initial_labels": 3}, "shots = 2 and initial_labels = 3; expected: one of them"),
        ({"initial_labels": 0}, "initial_labels is 0; expected: a whole number, at least 1"),
    ],
)
def test_a_start_that_cannot_be_is_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as refused:
        a_run(**options)
    assert told in str(refused.value)


def test_a_learner_begins_as_a_run_with_the_same_start() -> None:
    for start in ("random", "typiclust", "teacher"):
        done = a_run(start=start, initial_labels=5, teacher=a_teacher(), selector="pcoreset", seed=4)
        learner = ak.Learner(
            made_arrays()["X"], CLASSES, start=start, teacher=a_teacher(), recipe=RECIPE, selector="pcoreset", seed=4
        )
        rows = learner.query(5)
        assert tuple(rows.tolist()) == done.initial
        assert learner.query(5).tolist() == rows.tolist()
        learner.teach(rows, TRUTH[rows])
        assert tuple(learner.query(4).tolist()) == done.picked[0]
    for start, told in (
        ("balanced", "unknown start 'balanced'; known: random, teacher, typiclust"),
        ("teacher", "start 'teacher' without a teacher"),
    ):
        with pytest.raises(InputError, match=told):
            ak.Learner(made_arrays()["X"], CLASSES, recipe=RECIPE, start=start)


PLAIN = "db3f0a2ff5c2e78e"
"""The id of the plain trial before starts had names."""


def one_trial(folder: Path, **lines: str) -> Trial:
    chosen = {"teachers": '["none"]', "students": '["adapter:given"]', "selectors": '["random"]'}
    return read_spec(str(spec_on("arrays:absent.npz", folder, **chosen | lines))).trials[0]


def test_ids_depend_on_a_start_that_differs_from_the_default(tmp_path: Path) -> None:
    plain = one_trial(tmp_path)
    assert plain.id == one_trial(tmp_path, start='"balanced"').id == PLAIN
    others = [
        one_trial(tmp_path, start='"random"').id,
        one_trial(tmp_path, start='"typiclust"').id,
        one_trial(tmp_path, initial_labels="3").id,
        one_trial(tmp_path, initial_labels="4").id,
        one_trial(tmp_path, start='"random"', initial_labels="4").id,
    ]
    assert len({plain.id, *others}) == 6


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ({"start": '"typclust"'}, "start: unknown start 'typclust'; did you mean 'typiclust'?"),
        ({"initial_labels": "0"}, "initial_labels: found 0"),
        ({"initial_labels": "4", "shots": "2"}, "shots = 2 and initial_labels = 4; expected: one of them"),
    ],
)
def test_a_spec_with_a_faulty_start_is_refused(lines: dict[str, str], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        one_trial(tmp_path, **lines)
    assert told in str(refused.value)


def test_a_grid_names_starts_that_cannot_be_before_any_work(tmp_path: Path, cache: Path, tiny_spec: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace("rounds = 3", 'rounds = 3\nstart = "typiclust"')
    tiny_spec.write_text(text, encoding="utf-8")
    told = "start 'typiclust' with student 'resnet6_mini@16', whose backbone has no pretrained weights"
    without = spec_on(saved_arrays(tmp_path / "a.npz"), tmp_path, start='"teacher"')
    for spec, message in ((tiny_spec, told), (without, "start 'teacher' without a teacher")):
        trials = read_spec(str(spec)).trials
        for check in (lambda t=trials: resolve(t, cache, lambda *_: None), lambda t=trials: estimate(t, cache)):
            with pytest.raises(InputError, match=message):
                check()
    many = spec_on(saved_arrays(tmp_path / "a.npz"), tmp_path, start='"random"', initial_labels="25")
    with pytest.raises(InputError, match="2 queries of size 4 from a pool of 5 unlabeled images"):
        resolve(read_spec(str(many)).trials, cache, lambda *_: None)


def test_a_plan_counts_the_initial_labels(tmp_path: Path, cache: Path) -> None:
    # 4 steps for every 8 labels: rounds of 9, 13 and 17 labels take 8 + 8 + 12 steps; of 3, 7 and 11, 4 + 4 + 8.
    name = saved_arrays(tmp_path / "a.npz")
    lines = {"teachers": '["none"]', "students": '["adapter:given"]', "selectors": '["random"]', "recipe": '"short"'}
    steps = []
    for more in ({"initial_labels": "9"}, {}):
        spec = spec_on(name, tmp_path, **lines | more)
        trials = read_spec(str(spec)).trials
        steps.append(estimate(trials, cache).totals["optimiser steps"])
        (resolved,) = resolve(trials, cache, lambda *_: None)
        assert resolved.work() == steps[-1] * RECIPE.batch_labeled
    assert steps == [28, 16]


@pytest.mark.parametrize("start", ["random", "typiclust", "teacher"])
def test_a_grid_resumes_and_has_the_numbers_of_the_library(
    start: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIVEKD_CACHE", str(cache))
    torch.set_num_threads(1)
    name = saved_arrays(tmp_path / "a.npz")
    lines = {"teachers": '["given+clap"]', "students": '["adapter:given"]', "recipe": '"short"'}
    spec = read_spec(str(spec_on(name, tmp_path, start=f'"{start}"', initial_labels="5", **lines)))
    options, folder = Options(serial=True, report=False, device="cpu"), tmp_path / "run"
    assert launch(spec, None, folder, options) == 0
    rows = stored_rows(folder)
    assert {(row["round"], row["n_labeled"]) for row in rows} == {(0, 5), (1, 9), (2, 13)}
    assert len({row["accuracy"] for row in rows if row["round"] == 0}) == 1
    done = a_run(start=start, initial_labels=5, teacher=a_teacher(ak.clap), selector="pcoreset", rounds=3, seed=3)
    of_grid = {row["round"]: (row["accuracy"], tuple(row["picked"])) for row in rows if row["selector"] == "pcoreset"}
    assert of_grid == {one.index: (one.accuracy, one.picked) for one in done.rounds}
    file = folder / ROUNDS
    text = file.read_text(encoding="utf-8")
    file.write_text("".join(text.splitlines(keepends=True)[:3]), encoding="utf-8")
    assert launch(spec, None, folder, options) == 0
    assert {(r["trial_id"], r["round"], r["accuracy"], *r["picked"]) for r in stored_rows(folder)} == {
        (r["trial_id"], r["round"], r["accuracy"], *r["picked"]) for r in rows
    }


def test_picks_of_initial_labels_are_refused_where_they_are_known(tmp_path: Path, cache: Path) -> None:
    name = saved_arrays(tmp_path / "a.npz")
    for start, refused in (("random", True), ("typiclust", False)):
        lines = {"teachers": '["none"]', "students": '["adapter:given"]', "start": f'"{start}"'}
        trials = resolve(read_spec(str(spec_on(name, tmp_path, **lines))).trials[:1], cache, lambda *_: None)
        stored = {trials[0].id: History(bought={uniform(30, 3, 3)[0]})}
        assert (drawn_rows(trials[0].dataset, trials[0].trial.initial, 3) is not None) is refused
        if refused:
            with pytest.raises(
                InputError, match="a row is labeled twice; expected: distinct rows, initial labels included"
            ):
                check_resumable(trials, stored, tmp_path)
        else:
            check_resumable(trials, stored, tmp_path)


def test_a_student_trained_end_to_end_has_the_features_of_its_pretrained_backbone() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(70, 32, 32, 3), dtype=np.uint8)
    images = Images(np.full((70, 2), 32), pixels.ravel())
    network = student_network("efficientnet_lite0@32")
    views = RenderedViews(images, VIEWS["photos"], 32, network.backbone.interpolation)
    found = pretrained_features(StudentViews(network, views, views))
    (banked,) = compute(images, FrozenFeatures(network), VIEWS["photos"], [0])
    assert found.numpy().tolist() == banked.astype(np.float32).tolist()
    frozen = StudentViews(student_network("frozen:efficientnet_lite0@32"), Views((banked,)), Views((banked,)))
    assert torch.equal(pretrained_features(frozen), found)
