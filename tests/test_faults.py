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
    heeding_interrupts,
    kill,
    listening,
    nodes_of,
    processes,
    run_into_full_disk,
    small_disk,
    tear_last_row,
    wait_for_processes,
    wait_for_rows,
)

from bench.store.rows import logged, stored_rows

SEEDS = 4
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1 and ::1, as /proc/net writes them."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Grid:
    """The same grid in one process, without Ray and without faults."""
    grid = Grid(
        tmp_path_factory.mktemp("undisturbed"),
        cache,
        options=("--serial", "--device", "cpu", "--no-report"),
        seeds=SEEDS,
    )
    grid.finish()
    assert_whole(grid, grid)
    return grid


@pytest.fixture
def grid(tmp_path: Path, cache: Path, undisturbed: Grid) -> Iterator[Grid]:
    """A grid to disturb; its remaining processes are killed at the end."""
    disturbed = Grid(tmp_path / "grid", cache, seeds=SEEDS)
    yield disturbed
    disturbed.kill_all()


def test_one_grid_through_a_fault_of_each_kind(grid: Grid, undisturbed: Grid) -> None:
    """A killed worker, a killed store, a full disk, a SIGKILL to all processes, a torn row, Ctrl-C.

    The ports of the grid's own Ray are open to this machine alone.
    """
    with small_disk(grid.run) as is_small:
        process = grid.start()
        wait_for_rows(grid, 3, process)
        ports = listening(processes(grid.mark))
        kill(wait_for_processes(grid, WORKER, process)[0])
        wait_for_rows(grid, 8, process)
        kill(wait_for_processes(grid, STORE, process)[0])
        wait_for_rows(grid, 13, process)
        if is_small:
            out = run_into_full_disk(grid, process)
            assert process.returncode == 2, out
            (error,) = (line for line in out.splitlines() if line.startswith("error: "))
            assert "No space left on device; the rows so far are kept" in error
            assert 13 <= len(stored_rows(grid.run)) < grid.n_rows
            process = grid.start()
        wait_for_rows(grid, 20, process)
        grid.kill_all()
        process.communicate(timeout=60)
        tear_last_row(grid.run, seed=1)
        with heeding_interrupts():
            process = grid.start()
            wait_for_rows(grid, 28, process)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=120)
        assert process.returncode == 130, out
        assert "Resume with the same command" in out
        grid.finish()
        assert_whole(grid, undisturbed, store_deaths=1)
        assert begun_again(grid.run) >= 1
        assert "torn line dropped" in (grid.run / "rounds" / "log.jsonl").read_text(encoding="utf-8")
        grid.kill_all()
    assert ports
    assert ports <= LOOPBACK
    if not is_small:
        pytest.skip("no file system can be mounted here: the full disk was left out")


COHORTS = (
    ("resnet6_mini@16", "adapter:efficientnet_lite0@32"),
    ('["glyphclip+zeroshot"]', '["none"]'),
    ("steps = 90\n", "steps = 200\n"),
)
"""Edits of the spec: two cohorts of two trials with two seeds."""


@pytest.fixture
def cohorts(tmp_path: Path, ok: Path) -> Iterator[tuple[Grid, Grid]]:
    """A grid of cohorts to disturb, and the same grid in one process, without Ray and without faults."""
    named = {"cache": tmp_path / "cache", "seeds": 2, "edits": (*COHORTS, ('"digits"', f'"folder:{ok}"'))}
    undisturbed = Grid(tmp_path / "undisturbed", options=("--serial", "--device", "cpu", "--no-report"), **named)
    undisturbed.finish()
    assert_whole(undisturbed, undisturbed)
    disturbed = Grid(tmp_path / "grid", **named)
    yield disturbed, undisturbed
    disturbed.kill_all()


@pytest.mark.soak
def test_a_killed_worker_of_a_cohort(cohorts: tuple[Grid, Grid]) -> None:
    """It repeats the round in flight of its trials at most."""
    grid, undisturbed = cohorts
    process = grid.start()
    wait_for_rows(grid, 3, process)
    kill(wait_for_processes(grid, WORKER, process)[0])
    end(process)
    assert_whole(grid, undisturbed)
    assert begun_again(grid.run) >= 1
    assert 1 <= sum(event["event"] == "died" for event in logged(grid.run)) <= 2


def test_a_lost_node(cohorts: tuple[Grid, Grid]) -> None:
    """One of two worker nodes is lost with its worker, which runs a cohort, and another is added."""
    grid, undisturbed = cohorts
    with nodes_of(grid.environment()) as nodes:
        grid.options = ("--address", nodes.address, "--device", "cpu", "--no-report")
        process = grid.start()
        wait_for_rows(grid, 3, process)
        wait_for_processes(grid, WORKER, process)
        assert nodes.tell("lose 0") == "lost"
        nodes.tell("add")
        end(process)
        assert_whole(grid, undisturbed)
        assert begun_again(grid.run) >= 1
        grid.kill_all()
