"""Shared by the tests of faults: a small traced grid, its processes, injections, and the check of its rows."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from conftest import SPEC

from bench.columns import COSTS, PICKED, PROVENANCE
from bench.store.rows import LOG, stored_rows
from bench.store.rows import ROUNDS as ROUNDS_FILE

MARK = "ACTIVEKD_TEST_MARK"
WORKER = "ray::ResourceTrainable"
"""The title of a worker that trains; Tune wraps the runner to declare its resources."""

STORE = "ray::GridStore"
RAYLET = "raylet/raylet"

PATIENCE_SECONDS = 240.0
ROUNDS = 5

SELECTORS = '''
"""Random and narrow queries that write a line at each call: one call per computed round."""

import hashlib
import os

import torch


def traced(rows):
    line = hashlib.sha256(repr([int(row) for row in rows]).encode()).hexdigest() + chr(10)
    trace = os.open(os.environ["ACTIVEKD_TEST_TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(trace, line.encode())
    os.close(trace)
    return rows


def draw(view, query_size, *, rng):
    return traced(rng.choice(view.pool.unlabeled, query_size, replace=False))


draw.needs = set()


def narrow(view, query_size, *, rng):
    unlabeled = torch.from_numpy(view.pool.unlabeled)
    top = view.student_probabilities[unlabeled].topk(2, dim=1).values
    order = (top[:, 0] - top[:, 1]).argsort(stable=True)
    return traced(unlabeled[order[:query_size]].numpy())


narrow.needs = {"student_probabilities"}
'''

CLOCK = """
import os, time

_real, _start, _after, _jump = time.time, time.time(), *map(float, os.environ["ACTIVEKD_TEST_CLOCK"].split(","))
time.time = lambda: _real() + (_jump if _real() - _start > _after else 0.0)
"""
"""A sitecustomize that makes Python's wall clock jump in every process of the grid; the system's clock stays."""


@dataclass
class Grid:
    """A grid in a separate folder, started any number of times.

    Attributes:
        folder: spec, selectors, trace and results.
        cache: of decoded images and banks; may be shared.
        options: of the command.
        seeds: of its trials.
        more: further environment variables.
        edits: of the text of its spec, as (old, new).
        mark: by which its processes are known.
        injected: what was done to it.
    """

    folder: Path
    cache: Path
    options: tuple[str, ...] = ("--max-concurrent", "2", "--device", "cpu", "--no-report")
    seeds: int = 6
    more: dict[str, str] = field(default_factory=dict)
    edits: tuple[tuple[str, str], ...] = ()
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    injected: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        text = SPEC.replace('["random", "pcoreset"]', '["traced:draw", "traced:narrow"]')
        for old, new in (
            ("seeds = [0]", f"seeds = {list(range(self.seeds))}"),
            ('["none", "glyphclip+clap"]', '["glyphclip+zeroshot"]'),
            ("rounds = 3", f"rounds = {ROUNDS}"),
            ("steps = 3\n", "steps = 90\n"),
            ("batch_labeled = 8\nbatch_unlabeled = 8", "batch_labeled = 16\nbatch_unlabeled = 16"),
            *self.edits,
        ):
            assert old in text, old
            text = text.replace(old, new)
        self.spec.write_text(text, encoding="utf-8")
        (self.folder / "traced.py").write_text(SELECTORS, encoding="utf-8")

    @property
    def spec(self) -> Path:
        return self.folder / "faulty.toml"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def rows(self) -> int:
        return len(stored_rows(self.run))

    @property
    def n_rows(self) -> int:
        return 2 * self.seeds * ROUNDS

    def environment(self) -> dict[str, str]:
        own = {
            "ACTIVEKD_CACHE": str(self.cache),
            "ACTIVEKD_TEST_TRACE": str(self.folder / "trace.txt"),
            MARK: self.mark,
            "RAY_worker_niceness": "0",
            "PYTHONPATH": os.pathsep.join([str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        return {**os.environ, **own, **self.more}

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "bench.grid", str(self.spec), "--out", str(self.run), *self.options]
        return subprocess.Popen(
            command,
            env=self.environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> str:
        """Run the command to its end, as a user would after a fault; return its output."""
        process = self.start()
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, out
        return out

    def kill_all(self) -> None:
        """Send SIGKILL to every process of the grid, Ray's included."""
        for pid in processes(self.mark):
            kill(pid)


def processes(mark: str, title: str = "") -> list[int]:
    """Ids of the processes started for a grid whose command line contains ``title``."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if title in line and f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue
    return sorted(found)


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal; ignore a process that has ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_for(
    condition: Callable[[], bool],
    process: "subprocess.Popen[str] | None" = None,
    patience: float = PATIENCE_SECONDS,
) -> bool:
    """Wait until a condition holds, at most ``patience`` seconds; False if the process ended before."""
    deadline = time.monotonic() + patience
    while not condition():
        if process is not None and process.poll() is not None:
            return condition()
        if time.monotonic() > deadline:
            raise TimeoutError("the condition did not come to hold")
        time.sleep(0.05)
    return True


def moments(seed: int, n: int, first: int, last: int) -> list[int]:
    """Draw ``n`` distinct numbers of stored rows at which to inject faults, ascending, by seed."""
    return sorted(random.Random(seed).sample(range(first, last), n))


def pause(seed: int) -> None:
    """Sleep for a seeded part of a round."""
    time.sleep(random.Random(seed).uniform(0.0, 0.4))


def numbers(run: Path) -> pd.DataFrame:
    """The columns of the rows that must not depend on faults."""
    table = pd.DataFrame(stored_rows(run)).drop(columns=[*COSTS, *PROVENANCE])
    return table.sort_values(["trial_id", "round"], ignore_index=True)


def assert_whole(grid: Grid, undisturbed: Grid, *, store_deaths: int = 0) -> None:
    """Check that the rows are those of an undisturbed run, stored once each, and that only rounds in flight ran again.

    A round was in flight if its trial began again at it. A store that dies after writing a row, but before confirming
    it, gets the row again and notes this.
    """
    pd.testing.assert_frame_equal(numbers(grid.run), numbers(undisturbed.run))
    rows = stored_rows(grid.run)
    assert len({(row["trial_id"], row["round"]) for row in rows}) == len(rows) == grid.n_rows
    log = [json.loads(line) for line in (grid.run / LOG).read_text(encoding="utf-8").splitlines()]
    begun = Counter((e["trial_id"], e["round"]) for e in log if e["event"] == "begins")
    assert sum(e["event"] == "came twice" for e in log) <= store_deaths
    computed = Counter((grid.folder / "trace.txt").read_text(encoding="utf-8").splitlines())
    for row in rows:
        if row["round"] == ROUNDS - 1:
            continue
        times = computed[hashlib.sha256(repr(row[PICKED]).encode()).hexdigest()]
        key = row["trial_id"], row["round"]
        assert 1 <= times <= max(1, begun[key] + (row["round"] > 0)), key


def begun_again(run: Path) -> int:
    """How often a trial began again: once for each worker lost while it ran a trial."""
    log = [json.loads(line) for line in (run / LOG).read_text(encoding="utf-8").splitlines()]
    begun = Counter(event["trial_id"] for event in log if event["event"] == "begins")
    return sum(times - 1 for times in begun.values())


def listening(pids: list[int]) -> set[str]:
    """Addresses, as in /proc/net, on which the processes listen for TCP."""
    inodes = set()
    for pid in pids:
        try:
            links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {found[1] for link in links if (found := re.match(r"socket:\[(\d+)\]", link))}
    out = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                out.add(words[1].partition(":")[0])
    return out


class Nodes:
    """Several raylets on this machine, driven through tests/nodes.py."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nodes.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if not line.startswith(("[", "20")) and line.strip():
                return line.strip()
        raise AssertionError("the cluster ended")

    def tell(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@contextmanager
def nodes_of(environment: dict[str, str]) -> Iterator[Nodes]:
    """A head without CPUs and two nodes of one CPU each; stopped at the end."""
    folder = Path("/tmp") / f"akd{os.getpid()}"
    made = Nodes({**environment, "RAY_TMPDIR": str(folder)})
    try:
        for _ in range(2):
            made.tell("add")
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Tally:
    """Injections by kind, and those that a grid survived with whole rows."""

    injected: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)

    def inject(self, grid: Grid, what: str, n: int = 1) -> None:
        """Count injections into a grid."""
        grid.injected[what] += n
        self.injected[what] += n

    def check_whole(self, grid: Grid, undisturbed: Grid, *, store_deaths: int = 0) -> None:
        """Check that a grid's rows are whole, and count all its injections as survived."""
        assert_whole(grid, undisturbed, store_deaths=store_deaths)
        self.survived.update(grid.injected)

    def lines(self) -> list[str]:
        """The tally, one line per kind."""
        n, survived = sum(self.injected.values()), sum(self.survived.values())
        kinds = (f"  {self.survived[what]:3} of {k:3} {what}" for what, k in sorted(self.injected.items()))
        return [f"{n} injections, {survived} survived, {n - survived} losses", *kinds]


def wait_for_rows(grid: Grid, n: int, process: "subprocess.Popen[str]") -> None:
    """Wait until ``n`` rows are stored; a grid that ends before fails the test with its output."""
    if not wait_for(lambda: grid.rows >= n, process):
        raise AssertionError(
            f"the grid ended with {process.returncode} at {grid.rows} rows: {process.communicate()[0]}"
        )


def wait_for_processes(grid: Grid, title: str, process: "subprocess.Popen[str]") -> list[int]:
    """Wait for processes of a grid with this title."""
    found: list[int] = []
    if not wait_for(lambda: found.extend(processes(grid.mark, title)) or bool(found), process):
        raise AssertionError(
            f"the grid ended with {process.returncode} at {grid.rows} rows: {process.communicate()[0]}"
        )
    return found


def end(process: "subprocess.Popen[str]") -> str:
    """Wait for a grid that must succeed; return its output."""
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, out
    return out


def tear_last_row(run: Path, seed: int) -> None:
    """Cut the last line of the rows short, as a power loss does."""
    path = run / ROUNDS_FILE
    content = path.read_bytes()
    last = content[:-1].rfind(b"\n") + 1
    path.write_bytes(content[: random.Random(seed).randrange(last + 1, len(content))])


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 512)


def run_into_full_disk(grid: Grid, process: "subprocess.Popen[str]") -> str:
    """Fill the disk of a grid's results folder until the grid ends, then make room again; its output."""
    filler = grid.run / "filler"
    fill(filler)
    out, _ = process.communicate(timeout=120)
    filler.unlink()
    return out


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 8 MB in a folder; False where none may be mounted, and the folder is a plain one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def heeding_interrupts() -> Iterator[None]:
    """Handle SIGINT: a shell starts background jobs with SIGINT ignored, and children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
