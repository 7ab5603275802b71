"""Cases of a selector whose code has changed: its rows alone are replaced."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from activekd.errors import InputError
from activekd.selectors import selector
from bench.columns import PICKED, Row
from bench.launch import launch
from bench.settings import Options
from bench.spec import Trial, read_spec
from bench.store.folder import read_failures
from bench.store.replacing import drop_rows, to_replace
from bench.store.rows import ROUNDS as ROWS_FILE
from bench.store.rows import Store, rounds_done, stored_rows


def row_of(index: int, picked: list[int], **more: Any) -> Row:
    return {"trial_id": "t", "round": index, "n_labeled": 10 + 2 * index, PICKED: picked, **more}


def grid(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "bench.grid", *map(str, arguments)]


MINE = """
def mine(view, query_size, *, rng):
    return view.pool.unlabeled[{which}]


mine.needs = set()
"""


def test_case_41_a_changed_selector_is_replaced_alone(
    tiny_spec: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace('["none", "glyphclip+clap"]', '["none"]')
    text = text.replace('["random", "pcoreset"]', '["random", "own41:mine"]').replace("rounds = 3", "rounds = 2")
    tiny_spec.write_text(text, encoding="utf-8")
    spec, run, options = read_spec(str(tiny_spec)), tiny_spec.parent / "run", Options(serial=True, report=False)
    monkeypatch.syspath_prepend(str(tiny_spec.parent))
    monkeypatch.setenv("ACTIVEKD_CACHE", str(cache))

    def start(which: str, *replaced: str) -> int:
        """Run the grid as a new process would, with the selector's file edited."""
        (tiny_spec.parent / "own41.py").write_text(MINE.format(which=which), encoding="utf-8")
        sys.modules.pop("own41", None)
        selector.cache_clear()
        return launch(spec, None, run, replace(options, replace=replaced))

    assert start(":query_size") == 0
    before = stored_rows(run)
    with pytest.raises(InputError, match=r"the code of own41:mine changed since its rows were .*--replace own41:mine "):
        start("-query_size:")
    assert stored_rows(run) == before

    capsys.readouterr()
    assert start("-query_size:", "own41:mine") == 0
    (backup,) = (run / "rounds").glob("replaced-*.jsonl")
    assert f"2 rows of 1 trials dropped; they are kept in {backup}\n" in capsys.readouterr().out
    rows = stored_rows(run)
    assert [row for row in rows if row["selector"] == "random"] == [r for r in before if r["selector"] == "random"]
    mine, was = ([row for row in those if row["selector"] == "own41:mine"] for those in (rows, before))
    assert [json.loads(line) for line in backup.read_text(encoding="utf-8").splitlines()] == was
    assert [len(row[PICKED]) for row in mine] == [10, 0]
    assert min(mine[0][PICKED]) > max(was[0][PICKED])
    assert start("-query_size:") == 0
    assert stored_rows(run) == rows


@pytest.fixture
def replaceable(tmp_path: Path, tiny_spec: Path) -> tuple[Path, list[Trial]]:
    """A folder with one stored round, of three, of each trial of the tiny spec."""
    trials = list(read_spec(str(tiny_spec)).trials)
    store = Store(tmp_path / "run")
    for trial in trials:
        store.append({**row_of(0, [1, 2]), "trial_id": trial.id})
    store.give_up(trials[0].id, "it cannot be run")
    store.close()
    return tmp_path / "run", trials


def test_only_the_rows_of_the_replaced_are_dropped(replaceable: tuple[Path, list[Trial]]) -> None:
    run, trials = replaceable
    lines = (run / ROWS_FILE).read_bytes().splitlines(keepends=True)
    with (run / ROWS_FILE).open("ab") as file:
        file.write(b'{"trial_id": "torn')
    (random,) = to_replace(["random"], trials, rounds_done(run), {}, run).values()
    assert random == {trial.id for trial in trials if trial.selector == "random"}
    dropped = drop_rows(run, random, {"random": None})
    kept = [line for line, trial in zip(lines, trials, strict=True) if trial.selector != "random"]
    gone = [line for line, trial in zip(lines, trials, strict=True) if trial.selector == "random"]
    assert (run / ROWS_FILE).read_bytes().splitlines(keepends=True) == kept
    assert dropped.kept_in.read_bytes().splitlines(keepends=True) == gone
    assert (dropped.rows, dropped.trials) == (2, 2)
    assert read_failures(run) == {}
    # The same command resumes, until the trials are complete or the code is another.
    assert to_replace(["random"], trials, rounds_done(run), {}, run) == {}
    assert set(to_replace(["random"], trials, dict.fromkeys(random, 3), {}, run)) == {"random"}
    assert set(to_replace(["random"], trials, dict.fromkeys(random, 1), {"random": "new"}, run)) == {"random"}


@pytest.mark.parametrize("point", ["backup", "rest", "dropped", "noted"])
def test_the_same_command_resumes_a_replacement_after_a_crash(
    point: str, replaceable: tuple[Path, list[Trial]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends while it writes the copy or the rest, or after the rows were dropped, before the log has it."""
    run, trials = replaceable
    random = {trial.id for trial in trials if trial.selector == "random"}
    calls = {"backup": 1, "rest": 2, "dropped": 3}
    real, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append(descriptor)
        if len(synced) == calls.get(point):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        if point == "noted":
            drop_rows(run, random, {"random": None})
        else:
            with pytest.raises(KeyboardInterrupt):
                drop_rows(run, random, {"random": None})
    replaced = to_replace(["random"], trials, rounds_done(run), {}, run)
    assert replaced == ({} if point == "noted" else {"random": random})
    for trial_ids in replaced.values():
        assert drop_rows(run, trial_ids, {"random": None}).rows == (0 if point == "dropped" else 2)
    assert to_replace(["random"], trials, rounds_done(run), {}, run) == {}
    assert set(rounds_done(run)) == {trial.id for trial in trials} - random
    copies = [path.read_bytes().count(b"\n") for path in (run / "rounds").glob("replaced-*.jsonl")]
    assert copies
    assert set(copies) == {2}


def test_a_replacement_of_what_is_not_there_is_refused(replaceable: tuple[Path, list[Trial]], tiny_spec: Path) -> None:
    run, trials = replaceable
    stored = {trial.id: 1 for trial in trials if trial.selector == "random"}
    with pytest.raises(InputError, match=r"--replace pcoreset: .* has no rows of it; expected: random, or the command"):
        to_replace(["random", "pcoreset"], trials, stored, {}, run)
    with pytest.raises(InputError, match="expected: a folder with rows, or the command without --replace"):
        to_replace(["random"], trials, {}, {}, run / "elsewhere")
    done = subprocess.run(
        grid(tiny_spec, "--replace", "pcorset", "--serial"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: unknown selector in --replace 'pcorset'; did you mean 'pcoreset'? known: pcoreset, random\n"
    )


def test_nothing_is_dropped_where_the_disk_is_full(
    replaceable: tuple[Path, list[Trial]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trials = replaceable
    before = (run / ROWS_FILE).read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device; no row is dropped; expected: a writable folder"):
        drop_rows(run, {trials[0].id}, {"random": None})
    assert (run / ROWS_FILE).read_bytes() == before
    assert not list(run.rglob("*.part"))


def full(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
