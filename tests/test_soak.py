"""Every fault many times: the same command resumes, ends with the rows of an undisturbed run, and repeats nothing.

Each test counts its injections, and counts them as survived if the rows are whole; the last test prints both counts.
"""

import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import faults
import pytest
from faults import (
    CLOCK,
    PATIENCE_SECONDS,
    RAYLET,
    STORE,
    WORKER,
    Grid,
    Nodes,
    Tally,
    assert_whole,
    begun_again,
    end,
    kill,
    moments,
    nodes_of,
    pause,
    processes,
    run_into_full_disk,
    small_disk,
    tear_last_row,
    wait_for,
    wait_for_processes,
    wait_for_rows,
)

from bench.settings import LOCK
from bench.store.locks import in_use
from bench.store.rows import stored_rows

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

LEAST_INJECTIONS = 25
TALLY = Tally()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Grid:
    """A grid without injected faults."""
    grid = Grid(tmp_path_factory.mktemp("undisturbed"), cache)
    grid.finish()
    assert_whole(grid, grid)
    return grid


@pytest.fixture
def grid(tmp_path: Path, cache: Path, undisturbed: Grid) -> Iterator[Grid]:
    """A grid to disturb; its remaining processes are killed at the end."""
    made = Grid(tmp_path / "grid", cache)
    yield made
    made.kill_all()


@pytest.fixture(autouse=True)
def heeding_interrupts() -> Iterator[None]:
    with faults.heeding_interrupts():
        yield


@pytest.mark.parametrize(("title", "n", "seed"), [(WORKER, 6, 1), (STORE, 4, 2)])
def test_killed_processes_of_ray(title: str, n: int, seed: int, grid: Grid, undisturbed: Grid) -> None:
    process = grid.start()
    for k, at in enumerate(moments(seed, n, 1, 40)):
        wait_for_rows(grid, at, process)
        pause(100 * seed + k)
        victims = wait_for_processes(grid, title, process)
        kill(random.Random(100 * seed + k).choice(victims))
        TALLY.inject(grid, f"kill -9 of {title}")
    end(process)
    TALLY.check_whole(grid, undisturbed, store_deaths=n if title == STORE else 0)
    assert title == STORE or begun_again(grid.run) >= n // 2


def test_stopped_drivers(grid: Grid, undisturbed: Grid) -> None:
    signals = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    for k, (number, at) in enumerate(zip(signals, moments(3, len(signals), 1, 50), strict=True)):
        process = grid.start()
        wait_for(lambda: in_use(grid.run, LOCK) is True, process)
        wait_for_rows(grid, at, process)
        pause(300 + k)
        process.send_signal(number)
        out, _ = process.communicate(timeout=120)
        if grid.rows == grid.n_rows:
            break
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), out
        assert number == signal.SIGKILL or "Resume with the same command" in out
        TALLY.inject(grid, f"{number.name} to the driver")
    grid.finish()
    TALLY.check_whole(grid, undisturbed)


def test_whole_cluster_killed(grid: Grid, undisturbed: Grid) -> None:
    for k, at in enumerate(moments(4, 2, 1, 40)):
        process = grid.start()
        wait_for_rows(grid, at, process)
        pause(400 + k)
        grid.kill_all()
        process.communicate(timeout=60)
        assert not processes(grid.mark)
        TALLY.inject(grid, "kill -9 of all processes")
    grid.finish()
    TALLY.check_whole(grid, undisturbed)


def test_raylet_of_this_machine_killed(grid: Grid, undisturbed: Grid) -> None:
    """Without its raylet a local Ray is lost: the driver ends, and the same command resumes.

    Ray takes some seconds to notice; a stopped store keeps the grid from ending before.
    """
    process = grid.start()
    wait_for_rows(grid, 6, process)
    stores = wait_for_processes(grid, STORE, process)
    for pid in stores:
        kill(pid, signal.SIGSTOP)
    for pid in wait_for_processes(grid, RAYLET, process):
        kill(pid)
    process.communicate(timeout=PATIENCE_SECONDS)
    for pid in stores:
        kill(pid)
    assert process.returncode != 0
    assert grid.rows < grid.n_rows
    TALLY.inject(grid, "kill -9 of the local raylet")
    grid.finish()
    TALLY.check_whole(grid, undisturbed)


def test_torn_rows(grid: Grid, undisturbed: Grid) -> None:
    """Part of the last line is missing, as after a power loss."""
    for k, at in enumerate(moments(5, 3, 2, 40)):
        process = grid.start()
        wait_for_rows(grid, at, process)
        grid.kill_all()
        process.communicate(timeout=60)
        tear_last_row(grid.run, 500 + k)
        TALLY.inject(grid, "torn row")
    grid.finish()
    # A torn row had been computed to its end, so its round may run once more than the log has beginnings.
    assert len(stored_rows(grid.run)) == grid.n_rows
    assert "torn line dropped" in (grid.run / "rounds" / "log.jsonl").read_text(encoding="utf-8")
    TALLY.check_whole(grid, undisturbed)


def test_damaged_caches(grid: Grid, undisturbed: Grid, tmp_path: Path) -> None:
    """A flipped byte, a file cut short and a lost checksum in the bank: each array is recomputed."""
    grid.cache = tmp_path / "cache"
    shutil.copytree(undisturbed.cache, grid.cache)
    arrays = sorted((grid.cache / "bank").glob("*.npy"))
    rng = random.Random(6)
    flipped, cut, lost = rng.sample(arrays, 3)
    before = {path: path.read_bytes() for path in (flipped, cut, lost)}
    damaged = bytearray(before[flipped])
    damaged[rng.randrange(200, len(damaged))] ^= 0xFF
    flipped.write_bytes(damaged)
    cut.write_bytes(before[cut][: rng.randrange(1, len(before[cut]))])
    lost.with_suffix(".sha256").unlink()
    TALLY.inject(grid, "damaged cache file", 3)
    grid.finish()
    TALLY.check_whole(grid, undisturbed)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(("seed", "jump"), [(7, 5400.0), (8, -5400.0)])
def test_clock_jumps(seed: int, jump: float, grid: Grid, undisturbed: Grid) -> None:
    """Python's wall clock jumps by an hour and a half in driver, workers and store, a seeded time after their start."""
    (grid.folder / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    after = random.Random(seed).uniform(6.0, 14.0)
    grid.more = {"ACTIVEKD_TEST_CLOCK": f"{after},{jump}"}
    grid.finish()
    TALLY.inject(grid, "clock jump")
    TALLY.check_whole(grid, undisturbed)


def test_full_disks(grid: Grid, undisturbed: Grid) -> None:
    with small_disk(grid.run) as is_small:
        if not is_small:
            pytest.skip("no file system can be mounted here")
        for at in moments(9, 2, 2, 40):
            process = grid.start()
            wait_for_rows(grid, at, process)
            out = run_into_full_disk(grid, process)
            assert process.returncode == 2, out
            assert "No space left on device; the rows so far are kept" in out
            assert "Traceback" not in out
            assert at <= len(stored_rows(grid.run)) < grid.n_rows
            TALLY.inject(grid, "full disk")
        grid.finish()
        TALLY.check_whole(grid, undisturbed)
        grid.kill_all()


@pytest.fixture
def nodes(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head without CPUs and two nodes of one CPU each."""
    with nodes_of(grid.environment()) as made:
        grid.options = ("--address", made.address, "--device", "cpu", "--no-report")
        yield made
    grid.kill_all()


def test_lost_nodes(nodes: Nodes, grid: Grid, undisturbed: Grid) -> None:
    """One of three nodes is lost mid-run with its worker, and one is added; then one loses its raylet alone."""
    process = grid.start()
    for k, (at, how, said, what) in enumerate(
        [
            (moments(10, 1, 3, 20)[0], "lose", "lost", "kill -9 of all of a node"),
            (moments(11, 1, 25, 40)[0], "kill", "killed", "kill -9 of a raylet"),
        ]
    ):
        wait_for_rows(grid, at, process)
        wait_for_processes(grid, WORKER, process)
        pause(1000 + k)
        assert nodes.tell(f"{how} {k}") == said
        TALLY.inject(grid, what)
        nodes.tell("add")
    end(process)
    TALLY.check_whole(grid, undisturbed)
    assert begun_again(grid.run) >= 1


def test_driver_of_a_cluster_that_stays(nodes: Nodes, grid: Grid, undisturbed: Grid) -> None:
    """The driver dies and the cluster lives; the next driver gets the folder once the old store has ended."""
    for k, at in enumerate(moments(11, 2, 2, 30)):
        process = grid.start()
        wait_for_rows(grid, at, process)
        pause(1100 + k)
        process.kill()
        process.communicate(timeout=60)
        TALLY.inject(grid, "SIGKILL to a cluster's driver")
    grid.finish()
    TALLY.check_whole(grid, undisturbed)


def test_soak(grid: Grid, undisturbed: Grid) -> None:
    """A process is killed every few seconds, the driver included, until the grid is done."""
    rng = random.Random(12)
    store_deaths = 0
    process = grid.start()
    deadline = time.monotonic() + 600
    while grid.rows < grid.n_rows:
        assert time.monotonic() < deadline, f"{grid.rows} of {grid.n_rows} rows after ten minutes"
        before = grid.rows
        wait_for(lambda before=before: grid.rows >= min(grid.n_rows, before + rng.randint(2, 6)), process)
        time.sleep(rng.uniform(0.0, 2.0))
        title = rng.choice([WORKER, WORKER, STORE, "driver"])
        victims = [process.pid] if title == "driver" else processes(grid.mark, title)
        if victims and process.poll() is None:
            kill(rng.choice(victims))
            store_deaths += title == STORE
            TALLY.inject(grid, f"soak, kill -9 of {title}")
        if title == "driver":
            process.communicate(timeout=60)
        if process.poll() is not None and grid.rows < grid.n_rows:
            process = grid.start()
    process.communicate(timeout=240)
    grid.finish()
    TALLY.check_whole(grid, undisturbed, store_deaths=store_deaths)


def test_injections_survived(capsys: pytest.CaptureFixture[str]) -> None:
    """The tally of all injections above."""
    with capsys.disabled():
        print("\n" + "\n".join(TALLY.lines()))
    assert TALLY.survived == TALLY.injected
    assert sum(TALLY.survived.values()) >= LEAST_INJECTIONS
