"""Cases of running grids: two workers of one trial, folders of processes, locks, attempts, interruptions."""

import errno
import fcntl
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from faults import heeding_interrupts
from ray.exceptions import RayTaskError

from activekd.bank.shards import read_array, write_array
from activekd.errors import InputError
from activekd.folders import data_folder, unfinished_beside
from activekd.selectors import Selector
from activekd.selectors.view import PoolView
from activekd.starts.rows import balanced
from bench.checks import check_resumable, resolve
from bench.cluster import address
from bench.cluster.address import LOCAL, check_address
from bench.cluster.attempts import may_pass
from bench.cluster.processes import process_folder
from bench.cluster.storing import MAX_DEATHS, MAX_LONG_LIVES, SHORT_LIFE_SECONDS, GridStore
from bench.columns import PICKED, Row
from bench.settings import cache_folder
from bench.spec import read_spec
from bench.store.history import History
from bench.store.locks import exclusive, file_system, in_use
from bench.store.rows import Store, logged, stored_histories, stored_rows
from bench.trials.cohorts import Cohort
from bench.trials.run import Execution, run_cohort_rows, run_stored

ROUNDS = 4


def row_of(index: int, picked: list[int], **more: Any) -> Row:
    return {"trial_id": "t", "round": index, "n_labeled": 10 + 2 * index, PICKED: picked, **more}


def forking(seed: int) -> Any:
    """A trial that two workers compute differently: round k buys 20 + 10 k, and another row for each seed."""

    def run(done: Mapping[str, Sequence[Row]]) -> Iterator[Row]:
        for index in range(len(done["t"]), ROUNDS):
            last = index + 1 == ROUNDS
            yield row_of(index, [] if last else [20 + 10 * index, 21 + 10 * index + seed], worker=seed)

    return run


def test_case_21_two_workers_of_a_trial_continue_one_history(tmp_path: Path) -> None:
    store = Store(tmp_path)
    started: dict[int, int] = {0: 0, 1: 0}

    def worker(seed: int) -> Iterator[Any]:
        def begin() -> dict[str, list[Row]]:
            started[seed] += 1
            return {"t": store.begin("t")}

        return run_stored(begin, forking(seed), store.append)

    one, other = worker(0), worker(1)
    assert next(one)[PICKED] == [20, 21]
    assert next(other)["round"] == 1
    # The first computes its own round 1, gets the other's, and resumes at round 2; then the same the other way round.
    assert [(row["round"], row["worker"]) for row in (next(one), next(one))] == [(1, 1), (2, 0)]
    assert [(row["round"], row["worker"]) for row in (next(other), next(other))] == [(2, 0), (3, 1)]
    assert [(row["round"], row["worker"]) for row in one] == [(3, 1)]
    assert list(other) == []
    store.close()
    rows = stored_rows(tmp_path)
    assert [(row["round"], row["worker"]) for row in rows] == [(0, 0), (1, 1), (2, 0), (3, 1)]
    assert started == {0: 2, 1: 2}


def test_case_21_two_workers_that_train_continue_one_history(tiny_spec: Path, cache: Path, tmp_path: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace('["none", "glyphclip+clap"]', '["none"]')
    tiny_spec.write_text(text.replace('["random", "pcoreset"]', '["random"]'), encoding="utf-8")
    (trial,) = resolve(read_spec(str(tiny_spec)).trials, cache, lambda name, done, total: None)
    store = Store(tmp_path / "run")
    execution = Execution(diagnostics=False)

    def worker(place: int) -> Iterator[Any]:
        def some(view: PoolView, query_size: int, *, rng: np.random.Generator) -> np.ndarray:
            return view.pool.unlabeled[place : place + query_size]

        own = Cohort((replace(trial, selector=Selector("random", some, frozenset())),))
        run = partial(run_cohort_rows, own, {}, None, execution=execution)
        return run_stored(lambda: {trial.id: store.begin(trial.id)}, run, store.append)

    one, other = worker(0), worker(7)
    assert [next(worker)["round"] for worker in (one, other, one, one)] == [0, 1, 1, 2]
    assert list(one) == []
    assert [row["round"] for row in other] == [2]
    store.close()
    stored = stored_histories(tmp_path / "run")
    check_resumable([trial], stored, tmp_path / "run")
    assert len(stored[trial.id].rows) == 3
    assert len(stored[trial.id].bought) == 20


def test_rows_that_differ_in_costs_alone_continue_one_history(tmp_path: Path) -> None:
    """A worker with the stored picks goes on without a new beginning, and yields the stored row."""
    store = Store(tmp_path)

    def worker(device: str) -> Iterator[Any]:
        def run(done: Mapping[str, Sequence[Row]]) -> Iterator[Row]:
            return ({**row, "worker": device} for row in forking(0)(done))

        return run_stored(lambda: {"t": store.begin("t")}, run, store.append)

    one, other = worker("cpu"), worker("cuda")
    rows = [next(worker) for worker in (one, other, one, one, other, other)]
    assert [(row["round"], row["worker"]) for row in rows] == [
        (0, "cpu"), (1, "cuda"), (1, "cuda"), (2, "cpu"), (2, "cpu"), (3, "cuda"),
    ]  # fmt: skip
    store.close()
    assert [event["round"] for event in logged(tmp_path) if event["event"] == "begins"] == [0, 1]


@pytest.mark.parametrize("torn", [False, True])
def test_an_append_that_is_tried_again_after_the_store_died_is_stored_once(tmp_path: Path, torn: bool) -> None:
    """The store dies after the row was written, or in the midst of it, and before it answers."""
    row = row_of(0, [1, 2], accuracy=0.1 + 0.2, train_seconds=1e-9, teacher_accuracy=None)
    first = GridStore(tmp_path, 3, "g")
    assert first.append(row) == row
    first.close()
    if torn:
        path = tmp_path / "rounds" / "rounds.jsonl"
        path.write_bytes(path.read_bytes()[:-9])
    again = GridStore(tmp_path, 3, "g")
    assert again.append(row) == row
    assert again.append({**row, "train_seconds": 2.0}) == row
    again.close()
    assert stored_rows(tmp_path) == [row]


def test_stored_picks_outside_of_the_pool_are_refused_before_any_work(
    tiny_spec: Path, cache: Path, tmp_path: Path
) -> None:
    trials = resolve(read_spec(str(tiny_spec)).trials, cache, lambda name, done, total: None)
    initial = balanced(trials[0].dataset, 10, 0)
    outside, labeled = History(bought={5000}), History(bought={initial[0]})
    with pytest.raises(InputError, match=r"2 faults:") as refused:
        check_resumable(trials, {trials[0].id: outside, trials[1].id: labeled}, tmp_path)
    assert f"rounds.jsonl, trial {trials[0].id}: rows [5000] are outside of the pool" in str(refused.value)
    assert f"rounds.jsonl, trial {trials[1].id}: a row is labeled twice" in str(refused.value)


def test_case_22_folders_of_other_machines_are_left_alone(tmp_path: Path) -> None:
    with process_folder(tmp_path) as own:
        here, pid, began = own.name.rsplit("-", 2)
    assert pid == str(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = [f"{here}-{ended.pid}-{began}", f"{here}-{os.getpid()}-1", f"{here}-{os.getppid()}-1"]
    kept = [f"other{here}-{ended.pid}-{began}", f"{here}0-{ended.pid}-{began}", str(ended.pid), "unrelated"]
    for name in (*gone, *kept):
        (tmp_path / name).mkdir()
    with process_folder(tmp_path) as again:
        assert again == own
        assert {path.name for path in tmp_path.iterdir()} == {own.name, *kept}
        with process_folder(tmp_path / "inner"):
            pass
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "inner"}


def test_a_live_process_of_this_machine_keeps_its_folder(tmp_path: Path) -> None:
    code = (
        f"from pathlib import Path; from bench.cluster.processes import process_folder\n"
        f"with process_folder(Path({str(tmp_path)!r})) as own: print(own, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().decode().strip())
        with process_folder(tmp_path) as own:
            assert theirs.is_dir()
            assert theirs != own
        other.stdin.close()
    assert not theirs.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EROFS, errno.EINVAL])
def test_case_35_a_file_system_without_locks_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for take in (lambda: exclusive(tmp_path, "grid.lock").__enter__(), lambda: Store(tmp_path)):
        with pytest.raises(InputError) as refused:
            take()
        message = str(refused.value)
        assert message.startswith(f"results folder {tmp_path}: the ")
        assert " file system at /" in message
        assert f"cannot lock files ({os.strerror(number)}); expected: a folder on a local disk (--out)" in message
    assert in_use(tmp_path, "grid.lock") is None


def test_the_file_system_of_a_path_is_that_of_the_longest_mount_point() -> None:
    assert file_system(Path("/proc/self")) == "the proc file system at /proc"


def test_a_folder_in_use_names_who_uses_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with exclusive(run, "grid.lock"):
        assert in_use(run, "grid.lock")
        with pytest.raises(InputError, match=rf"in use by another grid \(process {os.getpid()} on .*, since 20"):
            exclusive(run, "grid.lock").__enter__()
    assert in_use(run, "grid.lock") is False
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as refused:
        exclusive(tmp_path / "file", "grid.lock").__enter__()
    assert str(refused.value) == (
        f"results folder {tmp_path / 'file'}: File exists; expected: a writable folder with free space (--out)"
    )


def test_case_39_each_round_has_its_own_attempts(tmp_path: Path) -> None:
    """The trial raises an error once in rounds 0, 2 and 4; then as often as it may in round 5."""
    store = GridStore(tmp_path, 2, "g")
    for index in range(5):
        assert store.begin("t")[1]
        if index % 2 == 0:
            assert store.fault("t", "an error")
            assert store.begin("t") == ([row_of(k, [2 * k, 2 * k + 1]) for k in range(index)], True)
        row = row_of(index, [2 * index, 2 * index + 1])
        assert store.append(row) == row
    assert store.fault("t", "an error")
    store.close()
    again = GridStore(tmp_path, 2, "g")
    assert again.begin("t")[1]
    assert not again.fault("t", "the last error")
    assert again.failures() == {"t": "the last error"}
    assert again.begin("t") == ([], False)
    again.close()
    raised = [(event["round"], event["attempt"]) for event in logged(tmp_path) if event["event"] == "raised"]
    assert raised == [(0, 1), (2, 1), (4, 1), (5, 1), (5, 2)]


def test_an_error_that_cannot_pass_gives_the_trial_up_at_once(tmp_path: Path) -> None:
    of_task = RayTaskError("f", "", InputError("x")).as_instanceof_cause()
    assert [may_pass(e) for e in (InputError("x"), RuntimeError("x"), of_task)] == [False, True, True]
    store = GridStore(tmp_path, 3, "g")
    assert store.begin("t")[1]
    assert not store.fault("t", "a fit that diverges", may_pass=False)
    assert store.failures() == {"t": "a fit that diverges"}
    store.close()


def test_a_worker_that_dies_in_one_round_again_and_again_is_given_up_and_in_many_rounds_it_is_not(
    tmp_path: Path,
) -> None:
    """Deaths after a short life count, those after a longer one hardly; and only those of trials that were running."""
    store = GridStore(tmp_path, 3, "g")
    for index in range(3):
        for _ in range(MAX_DEATHS):
            assert store.begin("t")[1]
            store.died(["t", "u"], 1.0)
        store.died(["t"], 1.0)
        assert store.begin("t")[1]
        assert store.deaths(["t", "u"]) == {"t": MAX_DEATHS, "u": 0}
        store.append(row_of(index, [2 * index, 2 * index + 1]))
    store.close()
    store = GridStore(tmp_path, 3, "g")
    assert store.deaths(["t"]) == {"t": 0}
    for _ in range(MAX_DEATHS):
        assert store.begin("t")[1]
        store.died(["t"], 1.0)
    for _ in range(MAX_DEATHS):
        assert store.begin("t")[1]
        store.died(["t"], SHORT_LIFE_SECONDS)
    store.close()
    store = GridStore(tmp_path, 3, "g")
    assert store.begin("t")[1]
    assert store.fault("u", "an error of another trial")
    store.died(["t"], SHORT_LIFE_SECONDS - 1)
    assert not store.begin("t")[1]
    assert f"the worker died {2 * MAX_DEATHS + 1} times in round 3" in store.failures()["t"]
    store.close()


def test_a_round_that_outlives_every_worker_is_given_up_in_the_end(tmp_path: Path) -> None:
    store = GridStore(tmp_path, 3, "g")
    for _ in range(MAX_LONG_LIVES + 1):
        assert store.begin("t")[1]
        store.died(["t"], 2 * SHORT_LIFE_SECONDS)
    assert not store.begin("t")[1]
    store.close()


def test_no_death_counts_against_a_trial_that_has_ended_or_raised_an_error(tmp_path: Path) -> None:
    store = GridStore(tmp_path, 3, "g")
    for trial_id in ("t", "u"):
        assert store.begin(trial_id)[1]
    store.append({**row_of(0, []), "trial_id": "t"})
    assert store.fault("u", "an error")
    store.died(["t", "u"], 1.0)
    assert store.deaths(["t", "u"]) == {"t": 0, "u": 0}
    store.close()


def grid(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "bench.grid", *map(str, arguments)]


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_case_36_a_long_temporary_folder_is_refused_before_any_work(
    variable: str, tiny_spec: Path, tmp_path: Path
) -> None:
    long = tmp_path / ("x" * (95 - len(str(tmp_path)) - 1))
    long.mkdir()
    environment = {**os.environ, variable: str(long)}
    done = subprocess.run(
        grid(tiny_spec, "--out", tmp_path / "run"), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: ${variable} is {long}, 95 bytes long; expected: at most ")
    assert line.endswith("(RAY_TMPDIR=/tmp, or --serial)")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["/dev/null/absent", "", "relative", "/dev/null"])
def test_a_temporary_folder_that_ray_cannot_use_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", value)
    with pytest.raises(InputError, match=rf"\$RAY_TMPDIR is '{value}': .*; expected: a writable folder"):
        check_address(LOCAL)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    check_address(LOCAL)


def test_case_42_an_interrupt_while_no_cluster_answers_ends_with_130_at_once(tiny_spec: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, heeding_interrupts():
        at = f"127.0.0.1:{silent.getsockname()[1]}"
        command = grid(tiny_spec, "--address", at, "--out", tmp_path / "run")
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
            connection.close()
    assert process.returncode == 130
    assert errors == "interrupted: the rows so far are stored. Resume with the same command.\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("answer", "message"),
    [(None, "silence for 0 s"), (b"", "the connection is closed at once"), (b"SSH-2.0", "another service is there")],
)
def test_an_address_without_a_cluster_is_refused(
    answer: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "ANSWER_SECONDS", 0.2 if answer is None else 60)
    with socket.create_server(("127.0.0.1", 0)) as server:
        at = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                if answer is not None:
                    connection.recv(1000)
                    connection.sendall(answer)
                else:
                    connection.recv(1000)
                    connection.recv(1000)

        thread = Thread(target=serve)
        thread.start()
        with pytest.raises(InputError, match=rf"--address {at}: no Ray cluster answers \({message}\)"):
            check_address(at)
        thread.join()
    monkeypatch.setenv("RAY_ADDRESS", at)
    with pytest.raises(InputError, match=rf"auto: \$RAY_ADDRESS is {at}: no Ray cluster answers \(Connection refused"):
        check_address("auto")


@pytest.mark.parametrize("wrong", ["nonsense", "ray://127.0.0.1:1", ":6379", "host:99999", "host:x", "http://a:1"])
def test_an_address_of_another_form_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=f"--address {wrong}; expected: local, auto, or HOST:PORT"):
        check_address(wrong)


def test_case_43_without_a_home_folder_one_line_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(user: int) -> None:
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("ACTIVEKD_CACHE", raising=False)
    with pytest.raises(InputError) as refused:
        cache_folder()
    assert str(refused.value) == (
        "no folder for the caches: $ACTIVEKD_CACHE and $HOME are not set; expected: ACTIVEKD_CACHE=FOLDER"
    )
    for value, home in (("~/a", r"this user has no home folder \(\$HOME\)"), ("~no-one/a", "there is no user no-one")):
        monkeypatch.setenv("ACTIVEKD_CACHE", value)
        monkeypatch.setenv("ACTIVEKD_DATA", value)
        for variable, read in (("ACTIVEKD_CACHE", cache_folder), ("ACTIVEKD_DATA", data_folder)):
            with pytest.raises(InputError, match=rf"\${variable} is {value}: {home}.*; expected: a path without ~"):
                read()


def test_a_cache_with_a_tilde_is_below_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ACTIVEKD_CACHE", "~/mine")
    assert cache_folder() == (tmp_path / "mine").resolve()


def test_machines_that_share_a_cache_do_not_write_into_each_others_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    assert unfinished_beside(path) != unfinished_beside(path)
    write_array(path, np.zeros(3))
    write_array(path, np.ones(3))
    first = read_array(path)
    assert first is not None
    assert first.tolist() == [0, 0, 0]
    path.write_bytes(b"torn")
    write_array(path, np.ones(3))
    second = read_array(path)
    assert second is not None
    assert second.tolist() == [1, 1, 1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "a.sha256"]
