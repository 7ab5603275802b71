"""The grid on real digits: with Ray and without, interrupted and resumed, and the inputs that it refuses."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from activekd.errors import InputError
from bench.checks import resolve
from bench.columns import COSTS, PICKED, PROVENANCE
from bench.report.pages import write_report
from bench.spec import read_spec
from bench.store.folder import failure_file
from bench.store.rows import stored_rows
from bench.store.table import read_run

Result = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def grid_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grid-cache")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "bench.grid", *(str(a) for a in arguments)]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "ACTIVEKD_CACHE": str(cache), "RAY_worker_niceness": "0", "COLUMNS": "200"}


def grid(cache: Path, *arguments: str | Path) -> Result:
    return subprocess.run(
        command(*arguments), env=environment(cache), capture_output=True, text=True, check=False, timeout=300
    )


def numbers(run: Path) -> list[dict[str, Any]]:
    rows = [{k: v for k, v in row.items() if k not in {*COSTS, *PROVENANCE}} for row in stored_rows(run)]
    return sorted(rows, key=lambda row: (row["trial_id"], row["round"]))


@pytest.fixture(scope="module")
def serial_run(grid_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The tiny spec run in one process: (spec, results folder)."""
    from conftest import SPEC

    folder = tmp_path_factory.mktemp("serial")
    spec = folder / "tiny.toml"
    spec.write_text(SPEC, encoding="utf-8")
    result = grid(grid_cache, spec, "--serial", "--out", folder / "run")
    assert result.returncode == 0, result.stderr
    return spec, folder / "run"


def check_lines(out: str, run: Path) -> None:
    """Check the order of what a run says, and that it is silent on Ray's node."""
    assert out.startswith("tiny: checking data and weights\n")
    steps = (
        "4 trials to do",
        "digits: zero-shot accuracy of teacher glyphclip: ",
        "12 of 12 rounds: 4 of 4 trials done",
        "tiny: 4 of 4 trials done; wall time 0:",
        "first in",
        f"report: {run / 'report.html'}",
        f"next: open {run / 'report.html'} in a browser, or activekd report {run} --subject NAME",
        f"activekd status {run} ",
    )
    places = [out.find(step) for step in steps]
    assert -1 not in places, steps[places.index(-1)]
    assert places == sorted(places)
    assert "features 3/3: complete\n" in out
    assert not re.search("object store|dashboard", out)
    assert "warning" not in out


@pytest.mark.parametrize("options", [("--serial",), ()])
def test_a_device_that_is_not_there_is_refused_before_any_work(
    options: tuple[str, ...], tiny_spec: Path, tmp_path: Path
) -> None:
    result = grid(tmp_path / "cache", tiny_spec, *options, "--device", "mps", "--out", tmp_path / "run")
    assert result.returncode == 2
    assert result.stderr.strip() == "error: --device mps: this machine has none; expected: cpu"
    assert result.stdout == "tiny: checking data and weights\n"
    assert not (tmp_path / "run").exists()


def test_only_needs_the_data_of_what_it_runs(grid_cache: Path, tiny_spec: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace('["digits"]', '["digits", "folder:/absent"]')
    tiny_spec.write_text(text, encoding="utf-8")
    out = tmp_path / "run"
    refused = grid(grid_cache, tiny_spec, "--serial", "--out", out)
    assert refused.returncode == 2
    assert "folder:/absent: no such folder" in refused.stderr
    result = grid(
        grid_cache, tiny_spec, "--serial", "--only", "dataset=digits,teacher=none", "--no-report", "--out", out
    )
    assert result.returncode == 0, result.stderr
    assert len(read_run(out).plan) == 2 * 4 * 3


def test_serial_run_fills_the_plan_and_reports(serial_run: tuple[Path, Path]) -> None:
    _, out = serial_run
    run = read_run(out)
    assert run.holes.empty
    assert len(run.rows) == 4 * 3
    assert run.rows["accuracy"].between(0.05, 0.95).all()
    assert run.rows["teacher_accuracy"].notna().equals(run.rows["teacher"] != "none")
    for name in ("report.html", "report.md", "rounds.parquet", "figures/ranks.svg", "tables/rank_table.csv"):
        assert (out / name).stat().st_size > 0
    assert len(pd.read_parquet(out / "rounds.parquet")) == 12


def test_round_zero_is_the_same_for_all_selectors(serial_run: tuple[Path, Path]) -> None:
    rows = read_run(serial_run[1]).rows
    first = rows[rows["round"] == 0].groupby("teacher")["accuracy"]
    assert (first.max() == first.min()).all()


def test_labels_grow_by_the_query_and_none_is_bought_twice(serial_run: tuple[Path, Path]) -> None:
    for _, part in pd.DataFrame(stored_rows(serial_run[1])).groupby("trial_id"):
        ordered = part.sort_values("round")
        assert ordered["n_labeled"].tolist() == [10, 20, 30]
        assert [len(p) for p in ordered[PICKED]] == [10, 10, 0]
        assert len({row for picked in ordered[PICKED] for row in picked}) == 20


def test_report_is_the_same_bytes_again(serial_run: tuple[Path, Path], tmp_path: Path) -> None:
    run = read_run(serial_run[1])
    write_report(run, tmp_path)
    for path in sorted(p for p in tmp_path.rglob("*") if p.is_file()):
        assert path.read_bytes() == (serial_run[1] / path.relative_to(tmp_path)).read_bytes(), path.name
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http:" not in page
    assert "https:" not in page


def test_ray_gives_the_rows_of_the_serial_run_and_a_second_run_has_nothing_to_do(
    serial_run: tuple[Path, Path], grid_cache: Path, tmp_path: Path
) -> None:
    """Deterministic algorithms, which the CPU has alone, change no number."""
    spec, out = serial_run
    result = grid(grid_cache, spec, "--device", "cpu", "--deterministic", "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert numbers(tmp_path / "run") == numbers(out)
    check_lines(result.stdout, tmp_path / "run")
    again = grid(grid_cache, spec, "--no-report", "--out", tmp_path / "run")
    assert again.returncode == 0, again.stderr
    assert "0 trials to do" in again.stdout
    assert len(stored_rows(tmp_path / "run")) == 12


def test_status_and_partial_report_of_an_unfinished_run(
    serial_run: tuple[Path, Path], grid_cache: Path, tmp_path: Path
) -> None:
    spec, _ = serial_run
    result = grid(grid_cache, spec, "--serial", "--only", "teacher=none", "--no-report", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    lost = str(read_run(tmp_path).holes["trial_id"].iloc[0])
    failure_file(tmp_path, lost).parent.mkdir()
    failure_file(tmp_path, lost).write_text("Traceback\nOddError: it is odd\n", encoding="utf-8")
    status = grid(grid_cache, "status", tmp_path)
    assert "2 of 4 trials, 6 of 12 rounds" in status.stdout
    names = "digits glyphclip+clap resnet6_mini@16 random seed 0"
    assert f"failed: {names}: OddError: it is odd ({failure_file(tmp_path, lost)})\n" in status.stdout
    failure_file(tmp_path, lost).unlink()
    status = grid(grid_cache, "status", tmp_path)
    home = tmp_path / "home"
    shutil.copytree(tmp_path, home / "results" / "runs" / "tiny", ignore=shutil.ignore_patterns("home"))
    env = {**environment(grid_cache), "ACTIVEKD_SPEC": str(spec)}
    for named in ([], ["tiny"]):
        again = subprocess.run(
            command("status", *named), cwd=home, env=env, capture_output=True, text=True, check=False
        )
        assert again.stdout == status.stdout, again.stderr
    report = [sys.executable, "-m", "bench.report", str(tmp_path)]
    refused = subprocess.run(report, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "6 of 12 (trial, round)s are missing" in refused.stderr
    partial = subprocess.run([*report, "--partial"], capture_output=True, text=True, check=False)
    assert partial.returncode == 0, partial.stderr
    assert "Unfinished: 6 of 12" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"pcoreset"]', '"pcorset"]', "unknown selector 'pcorset'; did you mean 'pcoreset'"),
        ("glyphclip+clap", "glyphclip+clop", "unknown teacher adaptation 'clop'; did you mean 'clap'"),
        ("resnet6_mini@16", "resnet7_mini", "unknown student 'resnet7_mini'; did you mean 'resnet6_mini'"),
        ("glyphclip+clap", "open_clip:RN50//none.pt+clap", "no checkpoint at /none.pt; expected: an existing file"),
        ('"digits"', '"folder:/none"', "folder:/none: no such folder"),
        ('"digits"', '"digit"', "unknown dataset 'digit'; did you mean 'digits'"),
        ("rounds = 3", "rounds = 3\nquery_size = 600", "2 queries of size 600 from a pool of 1068 unlabeled images"),
        ("rounds = 3", "rounds = 3\nshots = 900", "has 104 train images; expected: at least 900"),
    ],
)
def test_bad_names_are_refused_before_any_work(
    tiny_spec: Path, grid_cache: Path, old: str, new: str, message: str
) -> None:
    text = tiny_spec.read_text(encoding="utf-8")
    assert old in text
    tiny_spec.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        resolve(read_spec(str(tiny_spec)).trials, grid_cache, lambda name, done, total: None)


def test_all_bad_names_end_with_one_message_and_code_2(tiny_spec: Path, grid_cache: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8")
    for old, new in (('"pcoreset"]', '"pcorset"]'), ("glyphclip+clap", "glyphclip+clop"), ('"digits"', '"digit"')):
        text = text.replace(old, new)
    tiny_spec.write_text(text, encoding="utf-8")
    result = grid(grid_cache, tiny_spec, "--out", tmp_path / "run")
    assert result.returncode == 2
    assert result.stderr.startswith("error: 3 faults:")
    for name in ("pcorset", "clop", "digit"):
        assert f"'{name}'; did you mean" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_folders_that_cannot_be_written_are_refused_before_any_work(
    tiny_spec: Path, grid_cache: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    for result in (
        grid(grid_cache, tiny_spec, "--out", file / "run"),
        grid(grid_cache, tiny_spec, "--spill", file / "spill"),
        grid(file / "cache", tiny_spec),
    ):
        assert result.returncode == 2
        assert f"{file}/" in result.stderr
        assert "expected: a writable folder" in result.stderr
        assert "Traceback" not in result.stderr


def test_results_folder_of_another_spec_is_refused(
    serial_run: tuple[Path, Path], grid_cache: Path, tiny_spec: Path
) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace("seeds = [0]", "seeds = [1]")
    tiny_spec.write_text(text, encoding="utf-8")
    result = grid(grid_cache, tiny_spec, "--out", serial_run[1])
    assert result.returncode == 2
    assert "rows of 4 trials that spec 'tiny' does not define" in result.stderr


def test_a_selector_that_reads_the_teacher_needs_one(grid_cache: Path, tiny_spec: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace('["random", "pcoreset"]', '["random", "disagreement"]')
    tiny_spec.write_text(text, encoding="utf-8")
    result = grid(grid_cache, tiny_spec, "--serial", "--out", tmp_path / "run")
    assert result.returncode == 2
    assert "selector 'disagreement' reads teacher_probabilities; expected: " in result.stderr
