"""Rows, plans and folders that a report refuses, and rows that it reads although columns are missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from activekd.errors import InputError
from bench.columns import DIAGNOSTICS
from bench.report.__main__ import app
from bench.report.pages import (
    write_report,
)
from bench.store.table import read_run

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "results" / "demo"


def copied(tmp_path: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """The committed demo with changed rows."""
    (tmp_path / "rounds").mkdir()
    shutil.copy(DEMO / "plan.json", tmp_path)
    rows = [json.loads(line) for line in (DEMO / "rounds" / "rounds.jsonl").read_text(encoding="utf-8").splitlines()]
    change(rows)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rounds" / "rounds.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("accuracy", 1.2, r"rounds.jsonl line 3: accuracy: found 1.2; expected: less than or equal to 1"),
        ("accuracy", "0.5", r"line 3: accuracy: found '0.5'; expected: a valid number"),
        ("accuracy", float("nan"), r"line 3: accuracy: found nan"),
        ("selector", "mine", r"line 3, trial .* round .: selector is 'mine'; expected: '.*' \(plan.json\)"),
        ("round", 7, "the trial has 5 rounds"),
        ("trial_id", "0" * 16, "not a trial of plan.json"),
        ("picked", [1, 1], r"2 picks, 1 different; expected: 10"),
        ("picked", [10**30] * 10, r"line 3: picked.0: found 1000000\d+; expected: less than or equal to"),
        ("train_seconds", -1.0, r"line 3: train_seconds: found -1.0; expected: greater than or equal to 0"),
        ("protocol", 7, r"line 3, .*: protocol is 7; expected: 2 \(plan.json\)"),
        ("n_classes", 3, r"line 3, .*: n_classes is 3; expected: 10 \(plan.json\)"),
        ("student_ece", "low", r"line 3: student_ece: found 'low'; expected: a valid number"),
        ("student_nll", float("inf"), r"line 3: student_nll: found inf; expected: a finite number"),
        ("commit", 7, r"line 3: commit: found 7; expected: a valid string"),
        ("seed", True, r"line 3: seed: found True; expected: a valid integer"),
        ("n_labeled", 11, r"line 3, .*: n_labeled is 11; expected: \d+, by most rows of the trial"),
    ],
)
def test_edited_rows_are_refused_by_line(column: str, value: object, message: str, tmp_path: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        rows[2][column] = value

    with pytest.raises(InputError, match=message):
        read_run(copied(tmp_path, edit))


def test_the_edited_row_is_blamed_and_every_fault_is_named(tmp_path: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        first = next(row for row in rows if row["round"] == 0)
        first["n_labeled"] += 1
        rows.append(dict(rows[5]))
        again = next(row for row in rows if row["round"] == 1)
        before = next(row for row in rows if row["trial_id"] == again["trial_id"] and row["round"] == 0)
        again["picked"][0] = before["picked"][0]

    with pytest.raises(InputError) as caught:
        read_run(copied(tmp_path, edit))
    message = str(caught.value)
    assert "round 0: n_labeled is 11; expected: 10, by most rows of the trial" in message
    assert "line 1081, " in message
    assert "also in line 6; expected: one line per (trial, round)" in message
    assert "is also picked in line " in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan.pop("trials"), "trials: missing; expected: a value, as bench.grid writes it"),
        (lambda plan: plan["trials"].clear(), r"trials: found \[\]; .*expected: |trials: found \[\]; expected: "),
        (lambda plan: plan["trials"][3].update(rounds=0), "trials.3.rounds: found 0; expected: greater than"),
        (lambda plan: plan["trials"].append(plan["trials"][0]), "a trial stands twice; expected: a folder"),
        (lambda plan: plan.update(name=None), "name: found None; expected: a valid string"),
    ],
)
def test_an_edited_plan_is_refused(change: Callable[[dict[str, Any]], object], message: str, tmp_path: Path) -> None:
    run = copied(tmp_path, lambda rows: None)
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    change(plan)
    (run / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_run(run)


def test_rows_without_provenance_or_diagnostics_are_read(tmp_path: Path) -> None:
    def edit(rows: list[dict[str, Any]]) -> None:
        for name in ("commit", *DIAGNOSTICS):
            rows[0].pop(name, None)

    rows = read_run(copied(tmp_path, edit)).rows
    assert (rows["commit"] == "unknown").sum() == 1


@pytest.mark.parametrize("content", ["[1]", '"abc"', "3", "{}", "null", "\udcff"])
def test_lines_that_are_no_rows_are_refused_by_line(content: str, tmp_path: Path) -> None:
    run = copied(tmp_path, lambda rows: rows.clear())
    path = run / "rounds" / "rounds.jsonl"
    path.write_bytes(content.encode("utf-8", "surrogateescape") + b"\n")
    with pytest.raises(InputError, match=r"line 1 is not a row .*; expected: "):
        read_run(run)


def test_a_report_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"report folder .*file/out: .*; expected: a writable folder"):
        write_report(read_run(DEMO), tmp_path / "file" / "out")


def test_an_empty_run_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    run = copied(tmp_path, lambda rows: rows.clear())
    result = CliRunner().invoke(app, [str(run)])
    assert result.exit_code == 2
    assert "unfinished: 1080 of 1080" in result.stderr
    result = CliRunner().invoke(app, [str(run), "--partial"])
    assert result.exit_code == 2
    assert "no query round is stored: nothing to rank; expected: " in result.stderr
    result = CliRunner().invoke(app, [str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
