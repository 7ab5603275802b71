"""Cases of running grids: two workers of one trial, folders of processes, locks, attempts, interruptions."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from activekd.errors import InputError
from bench.cluster.processes import process_folder
from bench.columns import PICKED, Row
from bench.store.locks import exclusive, file_system, in_use
from bench.store.rows import Store, stored_rows
from bench.trials.run import run_stored

ROUNDS = 4


def row_of(index: int, picked: list[int], **more: Any) -> Row:
    return {"trial_id": "t", "round": index, "n_labeled": 10 + 2 * index, PICKED: picked, **more}


def forking(seed: int) -> Any:
    """A trial that two workers compute differently: round k buys 20 + 10 k, and another row for each seed."""

    def run(done: Sequence[Row]) -> Iterator[Row]:
        for index in range(len(done), ROUNDS):
            last = index + 1 == ROUNDS
            yield row_of(index, [] if last else [20 + 10 * index, 21 + 10 * index + seed], worker=seed)

    return run


def test_case_21_two_workers_of_a_trial_continue_one_history(tmp_path: Path) -> None:
    store = Store(tmp_path)
    started: dict[int, int] = {0: 0, 1: 0}

    def worker(seed: int) -> Iterator[Row]:
        def begin() -> list[Row]:
            started[seed] += 1
            return store.begin("t")

        return run_stored(begin, forking(seed), store.append)

    one, other = worker(0), worker(1)
    assert next(one)[PICKED] == [20, 21]
    assert next(other)["round"] == 1
    # The first computes its own round 1, gets the other's, and resumes at round 2; then the same the other way round.
    assert next(one)["round"] == 2
    assert next(other)["round"] == 3
    assert list(one) == list(other) == []
    store.close()
    rows = stored_rows(tmp_path)
    assert [(row["round"], row["worker"]) for row in rows] == [(0, 0), (1, 1), (2, 0), (3, 1)]
    assert started == {0: 3, 1: 2}


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
