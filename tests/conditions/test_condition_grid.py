"""Grids under conditions: one bank, one draw a seed, equal numbers after a stop, and what commands show."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from small_arrays import saved_arrays, spec_on
from typer.testing import CliRunner

from activekd.datasets import drawn_for, load_dataset
from activekd.errors import InputError
from bench.checks import resolve
from bench.data import app as data_app
from bench.grid import app
from bench.launch import launch
from bench.plan.count import estimate
from bench.settings import Options
from bench.spec import read_spec
from bench.store.rows import ROUNDS, stored_rows
from bench.trials.resolved import shards_of, text_heads_of, with_shards

CHOICES = ("imbalance=5", "noise=0.2", "open=0.2", "duplicates=0.3", "open=0.2&imbalance=3&noise=0.1&duplicates=0.1")
OPTIONS = Options(serial=True, report=False, device="cpu")


@pytest.fixture
def digits_spec(tiny_spec: Path) -> Path:
    """The tiny spec on digits and on digits under each condition, taught, for two seeds."""
    names = json.dumps(["digits", *(f"digits?{choices}" for choices in CHOICES)])
    text = tiny_spec.read_text(encoding="utf-8")
    for old, new in (
        ('["digits"]', names),
        ('["none", "glyphclip+clap"]', '["glyphclip+clap"]'),
        ('["random", "pcoreset"]', '["random"]'),
        ("seeds = [0]", "seeds = [0, 1]"),
        ("rounds = 3", "rounds = 2"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    tiny_spec.write_text(text, encoding="utf-8")
    return tiny_spec


def test_a_grid_on_digits_under_each_condition(digits_spec: Path, tmp_path: Path) -> None:
    environment = {"ACTIVEKD_CACHE": str(tmp_path / "cache")}
    command = ["run", str(digits_spec), "--serial", "--device", "cpu", "--only", "seed=1"]
    command += ["--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, command, env=environment)
    assert done.exit_code == 0, done.output
    # Two views of the train split and one of the test split, for all data sets, and one text head.
    assert len(list((tmp_path / "cache" / "bank").glob("*.npy"))) == 3
    assert len(list((tmp_path / "cache" / "heads").glob("*.npy"))) == 1
    rows = stored_rows(tmp_path / "run")
    assert len(rows) == 12
    for row in rows:
        assert 0 <= row["worst_class_accuracy"] <= row["macro_accuracy"] <= 1
        n_classes = 8 if "open" in row["dataset"] else 10
        assert (row["n_classes"], row["n_labeled"]) == (n_classes, n_classes * (row["round"] + 1))
        assert (
            row["wasted_labels"] == 0
            if row["round"] == 0 or "open" not in row["dataset"]
            else row["wasted_labels"] >= 0
        )
    assert sum(row["wasted_labels"] for row in rows) > 0
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "Digits, open set 0.2, imbalance 3, label noise 0.1, duplicates 0.1" in report
    assert "open set: this share of the classes is left out" in report
    for choices in CHOICES:
        lines = [line for line in done.output.splitlines() if f"digits?{choices}&draw=1: {choices[:4]}" in line]
        assert lines, choices


def numbers(folder: Path) -> dict[tuple[str, str, int], tuple[object, ...]]:
    kept = ("picked", "accuracy", "teacher_accuracy", "macro_accuracy", "wasted_labels", "n_labeled", "query_size")
    return {
        (row["trial_id"], row["selector"], row["round"]): tuple(map(str, (row[name] for name in kept)))
        for row in stored_rows(folder)
    }


def test_a_grid_that_stops_has_the_rows_of_one_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_CACHE", str(tmp_path / "cache"))
    data = saved_arrays(tmp_path / "a.npz")
    names = json.dumps([f"{data}?open=0.34", f"{data}?noise=0.2&duplicates=0.5"])
    lines = {"datasets": names, "start": '"random"', "shots": "3", "seeds": "[3, 4]", "recipe": '"short"'}
    lines |= {"students": '["adapter:given"]', "teachers": '["none", "given+clap"]'}
    spec = spec_on(data, tmp_path, **lines)
    assert launch(read_spec(str(spec)), None, tmp_path / "whole", OPTIONS) == 0
    whole = numbers(tmp_path / "whole")
    assert len(whole) == 2 * 2 * 2 * 2 * 3
    assert launch(read_spec(str(spec)), None, tmp_path / "stopped", OPTIONS) == 0
    file = tmp_path / "stopped" / ROUNDS
    # What a grid had stored before it stopped: each trial is cut after its first or second round, or has none.
    kept = [line for line in file.read_text("utf-8").splitlines() if json.loads(line)["round"] <= cut_of(line)]
    assert 0 < len(kept) < len(whole)
    file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    assert launch(read_spec(str(spec)), None, tmp_path / "stopped", OPTIONS) == 0
    assert numbers(tmp_path / "stopped") == whole


def cut_of(line: str) -> int:
    return int(json.loads(line)["trial_id"], 16) % 3 - 1


def test_conditions_share_what_is_loaded_banked_and_planned(digits_spec: Path, cache: Path) -> None:
    trials = read_spec(str(digits_spec)).trials
    resolved = with_shards(resolve(trials, cache, lambda *_: None))
    assert len({id(trial.dataset.banked) for trial in resolved}) == 1
    assert len(shards_of(resolved)) == 3
    assert list(text_heads_of(resolved)) == [("glyphclip", "digits")]
    assert {trial.dataset.name for trial in resolved} == {drawn_for(t.dataset, t.seed) for t in trials}
    under, alone = (
        estimate(some, cache) for some in (trials, [trial for trial in trials if trial.dataset == "digits"])
    )
    assert under.bank_bytes == alone.bank_bytes
    assert under.draws["digits?noise=0.2"] == 2
    assert under.draws["digits"] == 1


def test_every_fault_of_a_grid_comes_before_any_work(tmp_path: Path, cache: Path) -> None:
    data = saved_arrays(tmp_path / "a.npz")
    names = [f"{data}?{choices}" for choices in ("open=0.7", "imbalance=100", "noise=0.01", "imbalance=4")]
    spec = spec_on(data, tmp_path, datasets=json.dumps(names), shots="5", query_size="20")
    with pytest.raises(InputError) as refused:
        resolve(read_spec(str(spec)).trials, cache, lambda *_: None)
    faults = "\n".join(refused.value.faults)
    for message in (
        "open=0.7 leaves 1 of 3 classes",
        "no train image of class",
        "noise=0.01 of 30 labels is none",
        "train images; expected: at least 5 (shots = 5)",
    ):
        assert message in faults


def test_commands_show_what_conditions_make_of_a_data_set(tmp_path: Path, cache: Path) -> None:
    data = saved_arrays(tmp_path / "a.npz")
    checked = CliRunner().invoke(data_app, ["check", f"{data}?open=0.34&draw=2", "digits?imbalance=10"])
    assert checked.exit_code == 0, checked.output
    assert "open=0.34: 1 of 3 classes are left out; 10 of 30 images of the pool are of no class" in checked.output
    assert "imbalance=10: the largest class has" in checked.output
    assert re.search(r"train rows *│ *30", checked.output)
    refused = CliRunner().invoke(data_app, ["check", "digits?imbalance=0"])
    assert refused.exit_code != 0
    listed = CliRunner().invoke(data_app, ["list", f"{data}?open=0.34&draw=2&noise=0.5", "--csv"])
    rows = list(csv.DictReader(io.StringIO(listed.output)))
    dataset = load_dataset(f"{data}?open=0.34&draw=2&noise=0.5", cache)
    names = (*dataset.class_names, "")
    assert [row["label"] for row in rows if row["split"] == "train"] == [names[y] for y in dataset.train.labels]
    assert [row["label"] for row in rows if row["split"] == "test"] == [names[y] for y in dataset.test.labels]
    assert sum(row["label"] == "" for row in rows) == 10
