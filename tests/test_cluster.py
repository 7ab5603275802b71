"""Trials that fail by themselves, placement, order, trackers, and Ray on a machine with little shared memory."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cluster.nodes import Connection
from bench.store.folder import read_failures
from bench.store.rows import LOG, stored_rows
from bench.store.table import read_run

Result = subprocess.CompletedProcess[str]

OWN = """
import os
from pathlib import Path

import torch

HERE = Path(__file__).parent


def touchy(view, query_size, *, rng):
    if (HERE / "fail").exists() and len(view.pool.labeled) > 10:
        raise RuntimeError("this selector fails on request")
    return rng.choice(view.pool.unlabeled, query_size, replace=False)


def deadly(view, query_size, *, rng):
    os._exit(1)


def threads(view, query_size, *, rng):
    with (HERE / "threads.txt").open("a") as file:
        file.write(f"{torch.get_num_threads()} {view.pool.n}\\n")
    return rng.choice(view.pool.unlabeled, query_size, replace=False)


touchy.needs = deadly.needs = threads.needs = set()
"""


@pytest.fixture
def spec(tiny_spec: Path) -> Path:
    """The tiny spec without a teacher, next to a file of selectors."""
    (tiny_spec.parent / "own.py").write_text(OWN, encoding="utf-8")
    text = tiny_spec.read_text(encoding="utf-8").replace('["none", "glyphclip+clap"]', '["none"]')
    tiny_spec.write_text(text, encoding="utf-8")
    return tiny_spec


def edit(spec: Path, *pairs: tuple[str, str]) -> Path:
    text = spec.read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text, encoding="utf-8")
    return spec


def grid(spec: Path, cache: Path, *options: str, prefix: tuple[str, ...] = ()) -> Result:
    command = [sys.executable, "-m", "bench.grid", str(spec), "--out", str(spec.parent / "run"), "--device", "cpu"]
    command.append("--no-report")
    return subprocess.run(
        [*prefix, *command, *options],
        env={**os.environ, "ACTIVEKD_CACHE": str(cache), "RAY_worker_niceness": "0"},
        cwd=spec.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def events(run: Path, kind: str) -> list[dict[str, object]]:
    lines = (run / LOG).read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.mark.soak
def test_a_trial_that_raises_is_tried_as_often_as_stated_while_the_rest_goes_on(spec: Path, cache: Path) -> None:
    run, flag = spec.parent / "run", spec.parent / "fail"
    edit(spec, ('["random", "pcoreset"]', '["random", "own:touchy"]'))
    flag.touch()
    result = grid(spec, cache, "--attempts", "2", "--max-concurrent", "1")
    assert result.returncode == 1, result.stdout + result.stderr
    assert "1 of 2 trials failed; the same command with --retry-failed tries them again" in result.stderr
    assert "own:touchy seed 0: RuntimeError: this selector fails on request" in result.stderr
    (text,) = read_failures(run).values()
    assert "Traceback" in text
    assert len(events(run, "raised")) == 2
    assert len(events(run, "given up")) == 1
    assert len(stored_rows(run)) == 3 + 1

    again = grid(spec, cache)
    assert again.returncode == 1
    assert "0 trials to do" in again.stdout
    assert "1 of 2 trials failed" in again.stderr
    assert len(events(run, "raised")) == 2

    flag.unlink()
    last = grid(spec, cache, "--retry-failed", "--max-concurrent", "1")
    assert last.returncode == 0, last.stderr
    assert read_run(run).holes.empty
    assert not read_failures(run)


@pytest.mark.soak
def test_a_trial_that_kills_its_worker_is_given_up_in_the_end(spec: Path, cache: Path) -> None:
    edit(spec, ('["random", "pcoreset"]', '["random", "own:deadly"]'))
    result = grid(spec, cache, "--max-concurrent", "1")
    assert result.returncode == 1, result.stdout + result.stderr
    (text,) = read_failures(spec.parent / "run").values()
    assert "the worker died 11 times in round 0" in text
    assert len(stored_rows(spec.parent / "run")) == 3


@pytest.mark.soak
def test_the_largest_trial_comes_first_and_torch_has_the_threads_of_its_cpus(spec: Path, cache: Path) -> None:
    block = spec.read_text(encoding="utf-8").partition("[[block]]")[2].partition("[views")[0]
    more = block.replace("rounds = 3", "rounds = 3\nshots = 2\ngroup = 'two-shots'")
    edit(
        spec,
        ('["random", "pcoreset"]', '["own:threads"]'),
        ("[views.two]", f"[[block]]{more}\n[views.two]"),
        ("[recipes.short]", "[resources.trial]\ncpus = 2\n\n[recipes.short]"),
        ('step_rule = "fixed"', 'step_rule = "per_label"'),
    )
    result = grid(spec, cache)
    assert result.returncode == 0, result.stdout + result.stderr
    written = (spec.parent / "threads.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert {line.split()[0] for line in written} == {"2"}
    rows = stored_rows(spec.parent / "run")
    assert all(str(row["device"]).endswith("2 threads") for row in rows)
    largest = max(rows, key=lambda row: row["n_labeled"])["trial_id"]
    assert events(spec.parent / "run", "begins")[0]["trial_id"] == largest


def test_a_selector_that_fails_in_one_process_shows_its_own_frames(spec: Path, cache: Path) -> None:
    (spec.parent / "fail").touch()
    result = grid(edit(spec, ('["random", "pcoreset"]', '["own:touchy"]')), cache, "--serial")
    assert result.returncode == 1
    shown = [line for line in result.stderr.splitlines() if line.startswith("  File ")]
    assert len(shown) == 1
    assert "own.py" in shown[0]
    assert result.stderr.splitlines()[-3:] == [
        "RuntimeError: this selector fails on request",
        "selector 'own:touchy'",
        "round 1",
    ]
    assert len(stored_rows(spec.parent / "run")) == 1


def test_ray_is_described_to_who_asks_and_a_bank_that_does_not_fit_to_all() -> None:
    ray = Connection(1, 4.0, 0.0, 2 * 10**9, Path("/spill"), "http://127.0.0.1:8265")
    first, second = ray.lines(10**9)
    assert first == (
        "Ray: one node, 4 CPUs, 0 GPUs; object store of at most 2.00 GB a node for a bank of at most 1.00 GB, the rest "
        "in /spill"
    )
    assert second == "dashboard: http://127.0.0.1:8265"
    assert ray.warnings(2 * 10**9) == []
    (warning,) = ray.warnings(3 * 10**9)
    assert warning.startswith("the bank of at most 3.00 GB may not fit into Ray's object store of 2.00 GB: ")


def test_a_trial_that_no_node_can_hold_is_refused(spec: Path, cache: Path) -> None:
    result = grid(spec, cache, "--cpus-per-trial", "640")
    assert result.returncode == 2
    assert "a trial takes 640 CPU, more than any node has; expected: at most the" in result.stderr


@pytest.mark.soak
def test_trackers_see_every_round(spec: Path, cache: Path) -> None:
    result = grid(spec, cache, "--track", "tensorboard", "--max-concurrent", "1")
    assert result.returncode == 0, result.stderr
    files = list((spec.parent / "run" / "tracking").rglob("events.out.tfevents.*"))
    assert len(files) == 2
    assert all(b"ray/tune/accuracy" in file.read_bytes() for file in files)


def test_a_tracker_that_is_not_installed_is_named_before_any_work(spec: Path, cache: Path, tmp_path: Path) -> None:
    result = grid(spec, cache, "--track", "wandb")
    if result.returncode == 0:
        pytest.skip("wandb is installed")
    assert result.returncode == 2
    assert "--track wandb: no module wandb; expected: pip install 'activekd-bench[wandb]' first" in result.stderr
    assert not (tmp_path / "run").exists()


def test_little_shared_memory_is_refused(spec: Path, cache: Path) -> None:
    inside = 'mount -t tmpfs -o size=64m tmpfs /dev/shm && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", inside, "sh")
    probe = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=64m tmpfs /dev/shm"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    result = grid(spec, cache, prefix=prefix)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "/dev/shm has 64 MB free, and Ray's object store takes at least 80 MB; expected: " in result.stderr
    assert not (spec.parent / "run" / "rounds").exists()
