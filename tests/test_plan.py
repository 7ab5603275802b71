"""Plans: work, hours and memory worked by hand, counted without data or weights, and printed by the command line."""

import io
import re
from math import exp
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from activekd.bank.held import HELD_SHARE
from activekd.datasets import DATASETS, load_dataset
from activekd.datasets.catalog import CATALOG
from activekd.datasets.sizes import EMBEDDED, Sizes, dataset_sizes
from activekd.errors import InputError
from activekd.networks.vision_language import NETWORKS
from bench.grid import app
from bench.plan.bank import decoded_bytes
from bench.plan.count import estimate
from bench.plan.hours import hours
from bench.plan.jobs import distinct
from bench.plan.memory import Card, cohort_needs, step_needs, streams
from bench.plan.rates import FORWARD_SHARE, given_rates, rate_of, read_rates, write_rates
from bench.plan.tables import print_hours, print_plan, print_rates
from bench.plan.work import DIAGNOSTICS, PICTURE, Estimate, Task
from bench.spec import read_spec
from bench.specs.file import Share

POOL, TEST = EMBEDDED["digits"].n_pool, EMBEDDED["digits"].n_test
STUDENT = "resnet6_mini@16"
ADAPTER = "adapter:efficientnet_lite0@32"


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTIVEKD_DATA", raising=False)


@pytest.fixture
def tiny(tiny_spec: Path, tmp_path: Path) -> Estimate:
    return estimate(read_spec(str(tiny_spec)).trials, tmp_path)


@pytest.fixture
def adapters(tiny_spec: Path) -> Path:
    """The tiny spec with one cohort: an adapter without a teacher, three selectors, two seeds."""
    text = tiny_spec.read_text(encoding="utf-8").replace(STUDENT, ADAPTER).replace(', "glyphclip+clap"', "")
    text = text.replace('["random", "pcoreset"]', '["random", "entropy", "coreset"]').replace("[0]", "[0, 1]")
    tiny_spec.write_text(text, encoding="utf-8")
    return tiny_spec


def test_the_paper_has_73_settings(tmp_path: Path) -> None:
    made = estimate(read_spec("paper").trials, tmp_path)
    assert made.totals["settings (configuration, query round)"] == 73
    assert made.totals["configurations"] == 7
    assert made.totals["trials"] == (4 + 3 * 10) * 6 * 5
    assert {size.n_pool for size in made.sizes.values()} >= {100_000, CATALOG["dtd"].n_train}


def test_full_is_the_whole_product_and_its_cheap_form_has_the_same_cells() -> None:
    full, cheap = read_spec("full").trials, read_spec("full-adapter").trials
    assert len(full) == 11 * 5 * (1 + 3 * 2) * 6 * 5
    cells = {(t.dataset, t.teacher, f"adapter:{t.student}", t.selector, t.rounds, t.group) for t in full}
    assert {(t.dataset, t.teacher, t.student, t.selector, t.rounds, t.group) for t in cheap} == cells
    assert len({t.seed for t in cheap}) == 10


def test_a_small_plan_by_hand(tiny: Estimate, tiny_spec: Path, tmp_path: Path) -> None:
    # Two configurations of two trials: the fit of round 0 is shared, those of rounds 1 and 2 are not.
    assert tiny.totals["fits of round 0 that trials share"] == 2
    assert tiny.totals["optimiser steps"] == 2 * (1 + 2 * 2) * 3
    work = tiny.work
    assert work[Task("student", STUDENT, 8)] == 5 * 3 * 8
    assert work[Task("student", STUDENT, 16)] == 5 * 3 * 16
    # CLAP: three epochs over 10, 20 and 30 labels in batches of 8.
    assert work[Task("teacher", "glyphclip+clap")] == 3 * 2 + 2 * 3 * 3 + 2 * 3 * 4
    assert work[Task("predict", STUDENT)] == 4 * 3 * TEST + 2 * 2 * POOL
    # Diagnostics predict the pool where the selector does not, and ten picks and ten others after each query.
    assert work[Task("diagnose", STUDENT)] == 2 * (3 + 1) * POOL + 4 * 2 * 20
    plain = estimate(read_spec(str(tiny_spec)).trials, tmp_path, diagnostics=False)
    assert Task("diagnose", STUDENT) not in plain.work
    assert work[Task("measure", DIAGNOSTICS)] == 4 * 3 * POOL * 10
    assert work[Task("select", "random")] == 2 * 2 * POOL * 10 * 10
    assert work[Task("encode", "glyphclip", 32)] == work[Task("render", PICTURE, 32)] == 2 * POOL + TEST
    assert tiny.bank_bytes == 2 * NETWORKS["glyphclip"].feature_width * (2 * POOL + TEST)
    assert tiny.cache_bytes == 0
    assert len(tiny.jobs) == 4


def test_every_teacher_that_is_fitted_has_a_task(tiny_spec: Path, tmp_path: Path) -> None:
    """Five fits, of 10, 20, 20, 30 and 30 labels; the step of Tip-Adapter-F holds them all."""
    text = tiny_spec.read_text(encoding="utf-8")
    steps = {"zeroshot": 0, "tip_adapter": 5 * 20, "lp++": 5 * 300, "transclip": 5 * 10}
    for adaptation, amount in steps.items():
        tiny_spec.write_text(text.replace("glyphclip+clap", f"glyphclip+{adaptation}"), encoding="utf-8")
        made = estimate(read_spec(str(tiny_spec)).trials, tmp_path)
        assert made.work.get(Task("teacher", f"glyphclip+{adaptation}"), 0) == amount


def test_crops_are_rendered_once_a_worker(tiny: Estimate, tiny_spec: Path, tmp_path: Path) -> None:
    read = sum(n for task, n in tiny.work.items() if task.part in {"student", "predict", "diagnose"})
    crops = 2 * POOL + TEST
    assert tiny.work[Task("render", PICTURE, 16)] == pytest.approx(crops * (1 - exp(-read / crops)), abs=1)
    two = estimate(read_spec(str(tiny_spec)).trials, tmp_path, slots=2)
    assert two.work[Task("render", PICTURE, 16)] == pytest.approx(2 * crops * (1 - exp(-read / 2 / crops)), abs=2)
    card = estimate(read_spec(str(tiny_spec)).trials, tmp_path, device="cuda")
    assert not [task for task in card.work if task.part == "render"]


def test_distinct_items_among_draws_by_hand() -> None:
    assert distinct(1, 5) == 1
    assert distinct(2, 1) == pytest.approx(1)
    assert distinct(2, 2) == pytest.approx(1.5)


def test_a_cohort_by_hand(adapters: Path, tmp_path: Path) -> None:
    made = estimate(read_spec(str(adapters)).trials, tmp_path)
    (job,) = made.jobs
    assert (job.members, job.together) == (6, 6)
    # One fit a seed in round 0, six in rounds 1 and 2: three products, of 2, 6 and 6 students.
    assert made.totals["fits of round 0 that trials share"] == 4
    assert made.work[Task("student", ADAPTER, 8)] == (2 + 6 + 6) * 3
    assert made.examples[Task("student", ADAPTER, 8)].members == round(14 / 3)
    assert made.work[Task("predict", ADAPTER)] == 14 * TEST + (2 + 4) * POOL
    assert made.work[Task("diagnose", ADAPTER)] == (14 - 6) * POOL + 6 * 2 * 20
    assert made.widths == {ADAPTER: 1280}
    assert made.bank_bytes == 2 * 1280 * (2 * POOL + TEST)
    # On a GPU each product has the full width.
    card = estimate(read_spec(str(adapters)).trials, tmp_path, device="cuda")
    most = card.examples[Task("student", ADAPTER, 8)].members
    assert most > 6
    assert card.work[Task("student", ADAPTER, 8)] == 3 * most * 3
    needs = cohort_needs(made)[ADAPTER]
    assert (needs.cohorts, needs.members, needs.together) == (1, 6, 6)
    assert needs.feature_bytes == made.bank_bytes


def test_hours_follow_from_the_rates(tiny: Estimate) -> None:
    work = tiny.work
    known = {Task("student", STUDENT): 10.0, Task("encode", "glyphclip"): 5.0}
    spent = hours(tiny, known, 2)
    steps = work[Task("student", STUDENT, 8)] + work[Task("student", STUDENT, 16)]
    assert spent.parts["student"] == pytest.approx(steps / 10 / 3600)
    assert spent.parts["predict"] == pytest.approx(work[Task("predict", STUDENT)] * FORWARD_SHARE / 10 / 3600)
    assert spent.parts["encode"] == pytest.approx((2 * POOL + TEST) / 5 / 3600)
    assert spent.wall == pytest.approx(max(spent.total / 2, spent.longest))
    assert hours(tiny, known, 100).wall == spent.longest
    assert {task.part for task in spent.unknown} == {"render", "teacher", "select", "measure"}
    assert sum(spent.students.values()) == pytest.approx(spent.total - spent.parts["encode"])


def test_the_rate_of_a_size_is_preferred(tiny: Estimate) -> None:
    known = {Task("student", STUDENT, 8): 4.0, Task("student", STUDENT): 6.0}
    assert rate_of(Task("student", STUDENT, 8), known, tiny) == 4.0
    assert rate_of(Task("student", STUDENT, 16), known, tiny) == 6.0
    assert rate_of(Task("diagnose", STUDENT), {Task("predict", STUDENT): 9.0}, tiny) == 9.0
    assert rate_of(Task("teacher", "glyphclip+clap"), known, tiny) is None


def test_a_prediction_on_a_frozen_backbone_needs_its_own_rate(adapters: Path, tmp_path: Path) -> None:
    made = estimate(read_spec(str(adapters)).trials, tmp_path)
    assert rate_of(Task("predict", ADAPTER), {Task("student", ADAPTER, 8): 4.0}, made) is None


def test_rates_are_given_by_name(tiny: Estimate) -> None:
    made = given_rates([f"{STUDENT}=900", "glyphclip=7e3"], tiny)
    assert made == {Task("student", STUDENT): 900.0, Task("encode", "glyphclip"): 7000.0}
    with pytest.raises(InputError) as caught:
        given_rates(["resnet6=900", f"{STUDENT}=fast", "glyphclip=-1"], tiny)
    assert "3 faults" in str(caught.value)
    for part in ("unknown network in --rate 'resnet6'", "'fast'; expected: NAME=PER_SECOND", "'-1'; expected"):
        assert part in str(caught.value)


def test_rates_return_from_their_file(tmp_path: Path) -> None:
    rates = {Task("student", "a:b@1", 8): 1.5, Task("student", "a:b@1", 16): 2.5, Task("decode", "x y"): 1e6}
    write_rates(rates, tmp_path / "rates.toml")
    assert read_rates(tmp_path / "rates.toml") == rates


def test_faults_of_a_file_of_rates_come_at_once(tmp_path: Path) -> None:
    file = tmp_path / "rates.toml"
    file.write_text("[student]\na = 0\nb = { big = 3 }\nc = 12\n[predicted]\nd = 1\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_rates(file)
    for part in ("student.a is 0; expected: NAME", "student.b.big is 3", "did you mean 'predict'?"):
        assert part in str(caught.value)
    assert "student.c" not in str(caught.value)
    file.write_text("[student", encoding="utf-8")
    with pytest.raises(InputError, match="expected: a TOML file of rates"):
        read_rates(file)


def test_a_step_is_cut_where_it_exceeds_its_share_of_a_card(tiny: Estimate) -> None:
    need = step_needs(tiny, Card(80e9))[STUDENT]
    assert (need.images, need.micro_batches) == (16, 1)
    small = step_needs(tiny, Card(80e9, share=0.01))[STUDENT]
    assert small.micro_batches is None
    assert "expected: fewer trials on a card" in small.fault


def test_images_that_do_not_fit_the_card_stream(tmp_path: Path) -> None:
    made = estimate(read_spec("paper").only("student=resnet50_dino,seed=0,selector=random").trials, tmp_path)
    assert made.images["imagenet"].n_bytes == 100_000 * decoded_bytes(256)
    room = made.images["imagenet"].n_bytes / HELD_SHARE + 1e9
    assert streams(made, Card(room)) == {"imagenet": False}
    assert streams(made, Card(room, share=0.9)) == {"imagenet": True}


def test_a_plan_is_printed_with_its_counts_and_its_hours(tiny: Estimate) -> None:
    out = io.StringIO()
    console = Console(file=out, width=140)
    print_plan("tiny", tiny, Card(80e9), console)
    known = {Task("student", STUDENT): 1.0}
    spent = hours(tiny, known, 1)
    print_rates(tiny, known, console)
    print_hours(tiny, spent, Share(gpus=0.5), "cuda", console)
    cells = [[word.strip() for word in re.split("[│┃]", line)[1:-1]] for line in out.getvalue().splitlines()]
    assert ["optimiser steps", "30"] in cells
    assert ["digits", "10", "1,078", "360", "359", ""] in cells
    assert ["one slot, all in turn", f"{spent.total:.4g}"] in cells
    assert ["device-hours, 0.5 of a card a trial", f"{spent.total / 2:.4g}"] in cells
    assert "a trial has 79.2 GB of a card of 80 GB" in out.getvalue()
    assert f"assumed: a forward pass costs 0.33 of a training step ({STUDENT})" in out.getvalue()
    assert "not counted, for lack of a rate: fits of teachers, 48 trial-steps (glyphclip+clap)" in out.getvalue()


def test_choices_of_a_name_change_its_size(tmp_path: Path) -> None:
    assert dataset_sizes("imagenet", tmp_path).n_pool == 100_000
    assert dataset_sizes("imagenet?size=all", tmp_path).n_pool == 1_281_167
    assert dataset_sizes("caltech101?pool=val&size=500", tmp_path).n_pool == 500
    assert dataset_sizes("caltech101?pool=val", tmp_path).n_pool == CATALOG["caltech101"].n_val
    by_split = {
        choices: (size.n_pool, size.n_val, size.n_test)
        for choices in ("test=test", "test=val", "pool=val", "pool=val&test=train")
        if (size := dataset_sizes(f"caltech101?{choices}", tmp_path))
    }
    assert by_split == {
        "test=test": (4128, 1649, 2465),
        "test=val": (4128, 0, 1649),
        "pool=val": (1649, 0, 2465),
        "pool=val&test=train": (1649, 0, 4128),
    }
    with pytest.raises(InputError, match="ACTIVEKD_DATA is not set"):
        dataset_sizes("caltech101?classes=head.npz", tmp_path)


def test_command_line(tiny_spec: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    told = runner.invoke(app, ["plan", "paper", "--only", "seed=0,selector=random,student=resnet18"])
    assert told.exit_code == 0
    assert "fits of round 0 that trials share" in told.output
    assert "activekd speed throughput paper" in told.output
    rates = tmp_path / "rates.toml"
    write_rates({Task("student", STUDENT, 8): 3.0}, rates)
    arguments = ["plan", str(tiny_spec), "--rates", str(rates), "--rate", f"{STUDENT}=3", "--slots", "2"]
    found = runner.invoke(app, arguments)
    assert found.exit_code == 0
    assert "2 slots at a time" in found.output


@pytest.mark.parametrize("name", DATASETS)
def test_the_stated_sizes_of_embedded_data_sets_are_theirs(name: str, cache: Path) -> None:
    data = load_dataset(name, cache)
    assert dataset_sizes(name, cache) == Sizes(data.n_classes, len(data.train), len(data.val), len(data.test), False)
    assert set(EMBEDDED) == set(DATASETS)
