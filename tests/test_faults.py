"""Whatever dies, the same command goes on, ends with the rows of an undisturbed run, and computes nothing twice.

Each test counts its injections, and counts them as survived when it finds the rows whole; the last test prints both.
"""

import contextlib
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import (
    CLOCK,
    PATIENCE_SECONDS,
    RAYLET,
    STORE,
    WORKER,
    Grid,
    Nodes,
    assert_whole,
    begun_again,
    kill,
    listening,
    moments,
    nodes_of,
    pause,
    processes,
    wait_for,
)

from bench.launch import LOCK
from bench.store.locks import in_use
from bench.store.rows import ROUNDS as ROUNDS_FILE
from bench.store.rows import stored_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LEAST_INJECTIONS = 25
INJECTED: Counter[str] = Counter()
SURVIVED: Counter[str] = Counter()


def survived(grid: Grid, undisturbed: Grid, *, store_deaths: int = 0) -> None:
    """Check that a grid is whole and count all that was injected so far, by this test, as survived."""
    assert_whole(grid, undisturbed, store_deaths=store_deaths)
    for what, n in grid.injected.items():
        SURVIVED[what] += n


def inject(grid: Grid, what: str, n: int = 1) -> None:
    grid.injected[what] += n
    INJECTED[what] += n


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Grid:
    """The grid that nothing happens to."""
    grid = Grid(tmp_path_factory.mktemp("undisturbed"), cache)
    grid.finish()
    assert_whole(grid, grid)
    return grid


@pytest.fixture
def grid(tmp_path: Path, cache: Path, undisturbed: Grid) -> Iterator[Grid]:
    """A grid to be disturbed; whatever is left of it in the end is killed."""
    made = Grid(tmp_path / "grid", cache)
    yield made
    made.kill_all()


@pytest.fixture(autouse=True)
def heeding_interrupts() -> Iterator[None]:
    """A shell's background jobs are started with SIGINT ignored, which children inherit; a handler they do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def wait_for_rows(grid: Grid, n: int, process: "subprocess.Popen[str]") -> None:
    """Wait until so many rows are stored; a grid that ended before fails the test with what it printed."""
    if not wait_for(lambda: grid.rows >= n, process):
        pytest.fail(f"the grid ended with {process.returncode} at {grid.rows} rows: {process.communicate()[0]}")


def wait_for_processes(grid: Grid, title: str, process: "subprocess.Popen[str]") -> list[int]:
    found: list[int] = []
    if not wait_for(lambda: found.extend(processes(grid.mark, title)) or bool(found), process):
        pytest.fail(f"the grid ended with {process.returncode} at {grid.rows} rows: {process.communicate()[0]}")
    return found


def end(process: "subprocess.Popen[str]") -> str:
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    return out


@pytest.mark.parametrize(("title", "n", "seed"), [(WORKER, 6, 1), (STORE, 4, 2)])
def test_killed_processes_of_ray(title: str, n: int, seed: int, grid: Grid, undisturbed: Grid) -> None:
    process = grid.start()
    for k, at in enumerate(moments(seed, n, 1, 40)):
        wait_for_rows(grid, at, process)
        pause(100 * seed + k)
        victims = wait_for_processes(grid, title, process)
        kill(random.Random(100 * seed + k).choice(victims))
        inject(grid, f"kill -9 of {title}")
    end(process)
    survived(grid, undisturbed, store_deaths=n if title == STORE else 0)
    assert title == STORE or begun_again(grid.run) >= n // 2


def test_stopped_drivers(grid: Grid, undisturbed: Grid) -> None:
    signals = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    for k, (number, at) in enumerate(zip(signals, moments(3, len(signals), 1, 50), strict=True)):
        process = grid.start()
        wait_for(lambda: in_use(grid.run, LOCK), process)
        wait_for_rows(grid, at, process)
        pause(300 + k)
        process.send_signal(number)
        out, _ = process.communicate(timeout=120)
        if grid.rows == grid.n_rows:
            break
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130), out
        assert number == signal.SIGKILL or "the same command goes on from there" in out
        inject(grid, f"{number.name} to the driver")
    grid.finish()
    survived(grid, undisturbed)


def test_whole_cluster_killed(grid: Grid, undisturbed: Grid) -> None:
    for k, at in enumerate(moments(4, 2, 1, 40)):
        process = grid.start()
        wait_for_rows(grid, at, process)
        pause(400 + k)
        grid.kill_all()
        process.communicate(timeout=60)
        assert not processes(grid.mark)
        inject(grid, "kill -9 of all processes")
    grid.finish()
    survived(grid, undisturbed)


def test_raylet_of_this_machine_killed(grid: Grid, undisturbed: Grid) -> None:
    """Without its raylet a local Ray is gone: the driver ends, and the same command goes on.

    Ray takes some seconds to notice; a store that stands still keeps the grid from ending before.
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
    inject(grid, "kill -9 of the local raylet")
    grid.finish()
    survived(grid, undisturbed)


def test_torn_rows(grid: Grid, undisturbed: Grid) -> None:
    """Part of the last line is missing, as after a loss of power."""
    for k, at in enumerate(moments(5, 3, 2, 40)):
        process = grid.start()
        wait_for_rows(grid, at, process)
        grid.kill_all()
        process.communicate(timeout=60)
        path = grid.run / ROUNDS_FILE
        content = path.read_bytes()
        last = content[:-1].rfind(b"\n") + 1
        torn = random.Random(500 + k).randrange(last + 1, len(content))
        path.write_bytes(content[:torn])
        inject(grid, "torn row")
    grid.finish()
    # A torn row had been computed to its end, so its round may come once more than the log of beginnings tells.
    assert len(stored_rows(grid.run)) == grid.n_rows
    assert "torn line dropped" in (grid.run / "rounds" / "log.jsonl").read_text(encoding="utf-8")
    survived(grid, undisturbed)


def test_damaged_caches(grid: Grid, undisturbed: Grid, tmp_path: Path) -> None:
    """A flipped byte, a file cut short and a lost checksum in the bank: each is made again, none is believed."""
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
    inject(grid, "damaged cache file", 3)
    grid.finish()
    survived(grid, undisturbed)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(("seed", "jump"), [(7, 5400.0), (8, -5400.0)])
def test_clock_jumps(seed: int, jump: float, grid: Grid, undisturbed: Grid) -> None:
    """Python's wall clock jumps by an hour and a half in driver, workers and store, a seeded time after their start."""
    (grid.folder / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
    after = random.Random(seed).uniform(6.0, 14.0)
    grid.more = {"ACTIVEKD_TEST_CLOCK": f"{after},{jump}"}
    grid.finish()
    inject(grid, "clock jump")
    survived(grid, undisturbed)


@pytest.fixture
def small_disk(grid: Grid) -> Iterator[Path]:
    """A file system of its own for the results folder; skipped where none may be mounted."""
    grid.run.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(grid.run)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield grid.run
    grid.kill_all()
    subprocess.run(["umount", str(grid.run)], check=True)


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)


def test_full_disks(small_disk: Path, grid: Grid, undisturbed: Grid) -> None:
    for at in moments(9, 2, 2, 40):
        process = grid.start()
        wait_for_rows(grid, at, process)
        filler = small_disk / "filler"
        fill(filler)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 2, out
        assert "No space left on device; the rows so far are kept" in out
        assert "Traceback" not in out
        rows = stored_rows(small_disk)
        assert at <= len(rows) < grid.n_rows
        filler.unlink()
        inject(grid, "full disk")
    grid.finish()
    survived(grid, undisturbed)


@pytest.fixture
def nodes(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head without CPUs and two nodes of one CPU."""
    with nodes_of(grid.environment()) as made:
        grid.options = ("--address", made.address, "--device", "cpu")
        yield made
    grid.kill_all()


def test_lost_nodes(nodes: Nodes, grid: Grid, undisturbed: Grid) -> None:
    """Of three nodes one is lost in the middle with its worker and one is added; then one loses its raylet alone."""
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
        inject(grid, what)
        nodes.tell("add")
    end(process)
    survived(grid, undisturbed)
    assert begun_again(grid.run) >= 1


def test_driver_of_a_cluster_that_stays(nodes: Nodes, grid: Grid, undisturbed: Grid) -> None:
    """The driver dies, the cluster does not; the next one gets the folder as soon as the old store is gone."""
    for k, at in enumerate(moments(11, 2, 2, 30)):
        process = grid.start()
        wait_for_rows(grid, at, process)
        pause(1100 + k)
        process.kill()
        process.communicate(timeout=60)
        inject(grid, "SIGKILL to a cluster's driver")
    grid.finish()
    survived(grid, undisturbed)


def test_soak(grid: Grid, undisturbed: Grid) -> None:
    """A kill of something every few seconds until the grid is done, the driver's included."""
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
            inject(grid, f"soak, kill -9 of {title}")
        if title == "driver":
            process.communicate(timeout=60)
        if process.poll() is not None and grid.rows < grid.n_rows:
            process = grid.start()
    process.communicate(timeout=240)
    grid.finish()
    survived(grid, undisturbed, store_deaths=store_deaths)


def test_ports_are_open_to_this_machine_alone(grid: Grid) -> None:
    process = grid.start()
    wait_for_rows(grid, 1, process)
    found = listening(processes(grid.mark))
    grid.kill_all()
    process.communicate(timeout=60)
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert found
    assert found <= loopback


def test_injections_survived(capsys: pytest.CaptureFixture[str]) -> None:
    """The tally of all injections above."""
    losses = sum(INJECTED.values()) - sum(SURVIVED.values())
    with capsys.disabled():
        print(f"\n{sum(INJECTED.values())} injections, {sum(SURVIVED.values())} survived, {losses} losses")
        for what, n in sorted(INJECTED.items()):
            print(f"  {SURVIVED[what]:3} of {n:3} {what}")
    assert losses == 0
    assert sum(SURVIVED.values()) >= LEAST_INJECTIONS
