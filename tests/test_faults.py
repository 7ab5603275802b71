"""One fault of each kind: the same command resumes, ends with the rows of an undisturbed run, and repeats nothing."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import (
    STORE,
    WORKER,
    Grid,
    assert_whole,
    begun_again,
    end,
    fill,
    heeding_interrupts,
    kill,
    listening,
    nodes_of,
    processes,
    small_disk,
    tear_last_row,
    wait_for_processes,
    wait_for_rows,
)

from bench.store.rows import stored_rows

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1 and ::1, as /proc/net writes them."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Grid:
    """A grid without injected faults; its ports are open to this machine alone."""
    grid = Grid(tmp_path_factory.mktemp("undisturbed"), cache)
    process = grid.start()
    wait_for_rows(grid, 1, process)
    ports = listening(processes(grid.mark))
    end(process)
    assert ports
    assert ports <= LOOPBACK
    assert_whole(grid, grid)
    return grid


@pytest.fixture
def grid(tmp_path: Path, cache: Path, undisturbed: Grid) -> Iterator[Grid]:
    """A grid to disturb; its remaining processes are killed at the end."""
    disturbed = Grid(tmp_path / "grid", cache)
    yield disturbed
    disturbed.kill_all()


def test_a_killed_worker_and_a_killed_store(grid: Grid, undisturbed: Grid) -> None:
    process = grid.start()
    for at, title in ((5, WORKER), (20, STORE)):
        wait_for_rows(grid, at, process)
        kill(wait_for_processes(grid, title, process)[0])
    end(process)
    assert_whole(grid, undisturbed, store_deaths=1)
    assert begun_again(grid.run) >= 1


def test_killed_and_interrupted_drivers_and_a_torn_row(grid: Grid, undisturbed: Grid) -> None:
    """SIGKILL to all processes, a row cut short as by a power loss, then Ctrl-C, then a run to the end."""
    process = grid.start()
    wait_for_rows(grid, 8, process)
    grid.kill_all()
    process.communicate(timeout=60)
    tear_last_row(grid.run, seed=1)
    with heeding_interrupts():
        process = grid.start()
        wait_for_rows(grid, 24, process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130, out
    assert "Resume with the same command" in out
    assert "torn line dropped" in (grid.run / "rounds" / "log.jsonl").read_text(encoding="utf-8")
    grid.finish()
    assert_whole(grid, undisturbed)


def test_a_full_disk(grid: Grid, undisturbed: Grid) -> None:
    with small_disk(grid.run):
        process = grid.start()
        wait_for_rows(grid, 10, process)
        filler = grid.run / "filler"
        fill(filler)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 2, out
        assert "No space left on device; the rows so far are kept" in out
        assert "Traceback" not in out
        assert 10 <= len(stored_rows(grid.run)) < grid.n_rows
        filler.unlink()
        grid.finish()
        assert_whole(grid, undisturbed)
        grid.kill_all()


def test_a_lost_node(grid: Grid, undisturbed: Grid) -> None:
    """One of two worker nodes is lost with its worker, and another is added."""
    with nodes_of(grid.environment()) as nodes:
        grid.options = ("--address", nodes.address, "--device", "cpu", "--no-report")
        process = grid.start()
        wait_for_rows(grid, 10, process)
        wait_for_processes(grid, WORKER, process)
        assert nodes.tell("lose 0") == "lost"
        nodes.tell("add")
        end(process)
        assert_whole(grid, undisturbed)
        assert begun_again(grid.run) >= 1
        grid.kill_all()
