"""What holds for every adaptation: names, company, determinism, rounds, kept fits, and accuracy on real features."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import torch
from few_shot_teachers import DRAWS, accuracies
from real import REAL, needs_real_data
from small_recipe import CLAP, RECIPE

import activekd as ak
from activekd.bank.views import Views
from activekd.datasets import Dataset, Labeled, Split
from activekd.errors import InputError
from activekd.given import split_teacher
from activekd.loop import run_cohort
from activekd.recipes import ClapRecipe, ViewGeometry
from activekd.rounds import FirstFit, Member, Round, StudentViews, TeacherViews
from activekd.selectors import selector
from activekd.starts import Start
from activekd.streams import stream
from activekd.students.networks import student_network
from activekd.teachers import ADAPTATIONS, teacher
from activekd.teachers.classifier import Classifier
from activekd.teachers.fixed import fit_steps
from activekd.teachers.text_heads import TextHead, text_head
from bench.trials.first_fits import StoredFits

CROPS = ViewGeometry(3, (0.5, 1.0), (0.75, 1.3333), 0.5)
SINGLE = ViewGeometry(1, (1.0, 1.0), (1.0, 1.0), 0.0)
CLASSES, N, DIM = 13, 150, 37
COSTS = {"teacher_seconds", "train_seconds", "predict_seconds", "select_seconds", "peak_rss_bytes"}


def world() -> tuple[TextHead, Views, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=N)
    text = rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    features = tuple((text[labels] + 3 * rng.normal(size=(N, DIM))).astype(np.float16) for _ in range(3))
    return text_head(text, 30.0), Views(features), labels


def fitted(adaptation: str, some: Sequence[int]) -> Classifier:
    head, views, labels = world()
    draws = [np.random.default_rng(k).permutation(N)[:27] for k in some]
    labeled = [Labeled(rows, labels[rows]) for rows in draws]
    adapt = resolve_name(ADAPTATIONS[adaptation])
    return adapt(head, views, CROPS, labeled, replace(CLAP, epochs=3), [stream(k, "teacher", 0) for k in some])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_a_teacher_is_the_same_alone_and_in_company_bit_for_bit(adaptation: str, threads: int) -> None:
    torch.set_num_threads(threads)
    together, backwards = fitted(adaptation, range(5)), fitted(adaptation, range(4, -1, -1))
    for k, (one, other) in enumerate(zip(together.members(), [*backwards.members()][::-1], strict=True)):
        (alone,) = fitted(adaptation, [k]).members()
        for name, tensor in alone.tensors.items():
            assert torch.equal(one.tensors[name], tensor), name
            assert torch.equal(other.tensors[name], tensor), name
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("adaptation", [name for name in ADAPTATIONS if name != "zeroshot"])
def test_members_with_other_labels_have_other_teachers(adaptation: str) -> None:
    one, other = fitted(adaptation, range(2)).members()
    features = torch.from_numpy(world()[1].arrays[0])
    assert not torch.equal(one.logits(features), other.logits(features))


@pytest.mark.parametrize("adaptation", ["tip_adapter", "lp++", "transclip"])
def test_company_changes_no_number_of_a_round(adaptation: str) -> None:
    head, views, labels = world()
    inputs = Views(tuple(array[:, :20] for array in views.banked))
    dataset = Dataset(
        "world",
        tuple(f"class {k}" for k in range(CLASSES)),
        ("{}",),
        Split(None, labels),
        Split(None, labels[:0]),
        Split(None, labels[:40]),
    )
    adapt = resolve_name(ADAPTATIONS[adaptation])
    taught = TeacherViews(f"given+{adaptation}", adapt, head, views, views.banked[1][:40])
    students = StudentViews(student_network("adapter:given"), inputs, Views((inputs.arrays[2][:40],)))

    def rounds(*wanted: tuple[str, int]) -> list[list[str]]:
        members = [Member(selector(name), seed) for name, seed in wanted]
        out: list[list[str]] = [[] for _ in members]
        settings = {"rounds": 2, "start": Start(), "query_size": 5, "distillation": "both", "diagnostics": True}
        for outcome in run_cohort(dataset, students, taught, members, replace(RECIPE, lr=0.01), CROPS, **settings):
            assert isinstance(outcome.result, Round)
            numbers = {k: v for k, v in asdict(outcome.result).items() if k not in COSTS}
            out[outcome.member].append(repr(numbers))
        return out

    wanted = [("random", 0), ("pcoreset", 0), ("disagreement", 1)]
    together = rounds(*wanted)
    assert all(len(some) == 2 for some in together)
    for member, some in zip(wanted, together, strict=True):
        assert rounds(member) == [some]


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_a_kept_teacher_has_the_logits_it_had(adaptation: str, tmp_path: Path) -> None:
    (member,) = fitted(adaptation, [0]).members()
    fits = StoredFits(tmp_path, "here")
    fits.write(0, FirstFit({"w": torch.ones(2)}, member, 0.5, 1.0))
    kept = fits.read(0)
    assert kept is not None
    assert kept.classifier is not None
    features = torch.from_numpy(world()[1].arrays[0])
    assert torch.equal(kept.classifier.logits(features), member.logits(features))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("clip_vitb16+lp++", ("clip_vitb16", "lp++")),
        ("clip_vitb16+tip_adapter", ("clip_vitb16", "tip_adapter")),
        ("features:a+b.npz:c.npz+transclip", ("features:a+b.npz:c.npz", "transclip")),
        ("none", ("", "none")),
        ("lp++", ("", "lp++")),
    ],
)
def test_the_parts_of_a_name(name: str, parts: tuple[str, str]) -> None:
    assert split_teacher(name) == parts


def test_names_that_are_almost_right_have_a_suggestion() -> None:
    assert teacher("clip_vitb16+lp++").adaptation == "lp++"
    for name in ("lp+", "lp", "lp+++"):
        with pytest.raises(InputError, match=r"unknown teacher adaptation .*did you mean 'lp\+\+'"):
            teacher(f"clip_vitb16+{name}")


def test_steps_of_a_fit_by_hand() -> None:
    recipe = ClapRecipe(lr=0.01, momentum=0.9, epochs=3, batch=8, warmup=0.1)
    steps = {name: fit_steps(name, 257, recipe) for name in ADAPTATIONS}
    assert steps == {"zeroshot": 0, "clap": 3 * 33, "tip_adapter": 20 * 2, "lp++": 300, "transclip": 10}


@pytest.mark.parametrize("make", [ak.tip_adapter, ak.lp_plus_plus, ak.transclip])
def test_a_learner_takes_each_teacher_of_features(make: type) -> None:
    head, views, labels = world()
    X, names = views.banked[0].astype(np.float32), [f"class {k}" for k in range(CLASSES)]

    def asked() -> list[int]:
        learner = ak.Learner(X, names, teacher=make(X, head.text), selector="pcoreset", recipe=replace(RECIPE, lr=0.01))
        rows = learner.query(20)
        learner.teach(rows, labels[rows])
        return learner.query(5).tolist()

    first = asked()
    assert len(set(first)) == 5
    assert asked() == first


@needs_real_data
@pytest.mark.parametrize("adaptation", [name for name in ADAPTATIONS if name != "zeroshot"])
def test_four_labels_a_class_beat_zero_shot_on_real_features(adaptation: str) -> None:
    """CLIP ViT-B/32 on the 70 classes of Caltech-101 with text: labels from the pool, accuracy on test images."""
    found = accuracies(REAL, 4, 1, ("zeroshot", adaptation))
    assert found["zeroshot"] == pytest.approx(0.934, abs=0.001)
    assert found[adaptation] > found["zeroshot"] + 0.005


@needs_real_data
def test_the_table_of_the_page_is_not_stale() -> None:
    page = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| 1 |")]
    found = accuracies(REAL, 1, DRAWS)
    wanted = [float(cell) for cell in row.strip("| ").split(" | ")[1:]]
    assert [100 * found[name] for name in ADAPTATIONS] == pytest.approx(wanted, abs=0.15)
