"""How long commands take: help, a wrong spec, the demo to its first row, and to its last against serial processes."""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, sleep, time

from bench.settings import CACHE_VARIABLE
from bench.spec import SPECS, read_spec
from bench.speed.bars import Bar
from bench.store.rows import ROUNDS
from bench.terminal import EXIT_INPUT, EXIT_INTERRUPTED

ROOT = Path(__file__).parents[2]
"""The repository."""

HELP: tuple[tuple[str, ...], ...] = (
    ("-m", "bench"),
    ("-m", "bench.grid"),
    *(("-m", "bench.grid", command) for command in ("init", "run", "plan", "status", "list")),
    ("-m", "bench.report"),
    ("-m", "bench.data"),
    *(("-m", "bench.data", command) for command in ("check", "list", "fetch")),
    ("-m", "bench.speed"),
    *(
        ("-m", "bench.speed", command)
        for command in ("demo", "train", "selectors", "grid", "report", "throughput", "plan")
    ),
    ("tools/glyphclip.py",),
    *(("tools/glyphclip.py", command) for command in ("train", "measure")),
)
"""Every command, as arguments of Python."""

LIMIT_HELP_SECONDS, LIMIT_WRONG_SECONDS, LIMIT_FIRST_ROW_SECONDS, LIMIT_DEMO = 1.0, 3.0, 30.0, 1.25

ORDER = ("serial", "ray", "ray", "serial")
"""In which the demo is timed: a machine that grows slower or faster in between counts for both ways alike."""

POLL_SECONDS = 0.05


def _start(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a command of this Python in the repository, with more environment variables."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _ended(process: "subprocess.Popen[str]", expected: int) -> str:
    """Wait for a command; the last line that it wrote and its exit code, where that is another than expected."""
    _, written = process.communicate()
    last = (written.splitlines() or [""])[-1]
    return "" if process.returncode == expected else f"exit code {process.returncode}; expected: {expected} ({last})"


def _timed(*arguments: str, expected: int = 0) -> tuple[float, str]:
    """Seconds of a command, infinite with another exit code than expected, and the fault."""
    start = perf_counter()
    fault = _ended(_start(*arguments), expected)
    return math.inf if fault else perf_counter() - start, fault


def command_bar(what: str, limit_seconds: float, *arguments: str, expected: int = 0) -> Bar:
    """Seconds of a ``bench.grid`` command."""
    seconds, fault = _timed("-m", "bench.grid", *arguments, expected=expected)
    return Bar(f"{what}, s", seconds, limit_seconds, fault)


def help_bar() -> Bar:
    """The slowest ``--help`` of all commands, each the faster of two calls."""
    answers = {command: min(_timed(*command, "--help") for _ in range(2)) for command in HELP}
    slowest = max(answers, key=lambda command: answers[command])
    seconds, fault = answers[slowest]
    name = " ".join(word for word in slowest if word != "-m")
    return Bar(f"--help, the slowest of {len(HELP)}, s", seconds, LIMIT_HELP_SECONDS, f"{name} {fault}".rstrip())


def wrong_spec_bar() -> Bar:
    """Seconds until the demo with a misspelt selector ends with exit code 2."""
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        spec = Path(scratch) / "misspelt.toml"
        text = (SPECS / "demo.toml").read_text(encoding="utf-8")
        spec.write_text(text.replace('"pcoreset"', '"pcorest"'), encoding="utf-8")
        run = ("run", str(spec), "--out", str(Path(scratch) / "run"))
        return command_bar("misspelt selector", LIMIT_WRONG_SECONDS, *run, expected=EXIT_INPUT)


def first_row_bar() -> Bar:
    """Seconds from the demo's command to its first row on disk: on Ray, default options, warm caches.

    A first start fills the empty cache; the figures say when its first row came.
    """
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        folder = Path(scratch)
        empty, fault = _first_row(folder / "cold", folder / "cache")
        seconds, again = _first_row(folder / "warm", folder / "cache")
    figures = fault or again or f"{empty:.0f} s with an empty cache"
    return Bar("demo: first row, s", math.inf if fault else seconds, LIMIT_FIRST_ROW_SECONDS, figures)


def _first_row(run: Path, cache: Path) -> tuple[float, str]:
    """Seconds from the demo's command to its first row, infinite where there is none, and the fault; then Ctrl-C."""
    start = perf_counter()
    process = _start("-m", "bench.grid", "demo", "--out", str(run), **{CACHE_VARIABLE: str(cache)})
    while process.poll() is None and not _has_row(run / ROUNDS):
        sleep(POLL_SECONDS)
    seconds = perf_counter() - start
    process.terminate()
    fault = _ended(process, EXIT_INTERRUPTED)
    return seconds if _has_row(run / ROUNDS) else math.inf, fault


def _has_row(file: Path) -> bool:
    return file.is_file() and b"\n" in file.read_bytes()


def demo_bar(repeats: int, show: Callable[[str], object]) -> Bar:
    """The demo on Ray against two serial processes that share its selectors; caches are warm.

    Seconds from the command to the last row on disk, so neither the report nor Ray's shutdown counts.

    Args:
        repeats: times that both ways are run in ORDER.
        show: called with a line for each run.

    Raises:
        RuntimeError: a run of the demo failed.
    """
    names = list(dict.fromkeys(t.selector for t in read_spec("demo").trials))
    halves = [",".join(f"selector={name}" for name in names[k::2]) for k in range(2)]
    commands = {
        "serial": [("demo", "--serial", "--only", half) for half in halves],
        "ray": [("demo", "--max-concurrent", "2")],
    }
    seconds: dict[str, list[float]] = {way: [] for way in commands}
    with tempfile.TemporaryDirectory(prefix="activekd-speed-") as scratch:
        folder = Path(scratch)
        _until_last_row([("demo", "--serial", "--only", "seed=0,selector=random")], folder / "warm")
        for index, way in enumerate(repeats * ORDER):
            seconds[way].append(_until_last_row(commands[way], folder / str(index)))
            show(f"demo, {way}: {seconds[way][-1]:.1f} s")
    serial, on_ray = sum(seconds["serial"]), sum(seconds["ray"])
    figures = "{} s against {} s".format(*(" ".join(f"{s:.0f}" for s in seconds[way]) for way in ("ray", "serial")))
    return Bar("demo: seconds on Ray against two serial processes", on_ray / serial, LIMIT_DEMO, figures)


def _until_last_row(commands: Sequence[Sequence[str]], folder: Path) -> float:
    """Seconds until the last row of grids that run at the same time is on disk."""
    folders = [folder / str(k) for k in range(len(commands))]
    start = time()
    running = [
        _start("-m", "bench.grid", *command, "--out", str(out)) for command, out in zip(commands, folders, strict=True)
    ]
    faults = [fault for process in running if (fault := _ended(process, expected=0))]
    if faults:
        raise RuntimeError(f"demo: {'; '.join(faults)}")
    return max((out / ROUNDS).stat().st_mtime for out in folders) - start
