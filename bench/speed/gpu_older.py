"""The code of an older commit, from the history of this repository, in processes of their own."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

COMMIT = "18509b1"
"""Fits one trial at a time; renders the views of every step on the host."""

PACKAGE = "activekd"


class OlderProcess:
    """A process that runs the older code; one question at a time.

    Args:
        folder: that holds the older package.
    """

    def __init__(self, folder: Path) -> None:
        # -P keeps this folder, whose selectors.py would hide the standard library's, off the path.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("gpu_older_child.py"))],
            env={**os.environ, "PYTHONPATH": str(folder)},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, function: str, *given: Any, **named: Any) -> None:
        """Call a function of ``gpu_older_child``; ``answer`` waits for what it returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"ask": function, "given": given, "named": named}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What the function returned.

        Raises:
            RuntimeError: the process ended without an answer; its own output says why.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of commit {COMMIT} ended with code {self._process.wait()}")
        return json.loads(line)

    def ask(self, function: str, *given: Any, **named: Any) -> Any:
        """Call a function of ``gpu_older_child`` and wait for what it returns."""
        self.begin(function, *given, **named)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def older_code() -> Iterator[Path | None]:
    """A folder with the package of COMMIT, for as long as the block; None where the history lacks it."""
    root = Path(__file__).parents[2]
    packed = subprocess.run(["git", "archive", COMMIT, PACKAGE], cwd=root, capture_output=True, check=False)
    if packed.returncode:
        yield None
        return
    with TemporaryDirectory(prefix="activekd-speed-") as folder:
        with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


@contextmanager
def older_processes(folder: Path, count: int = 1) -> Iterator[list[OlderProcess]]:
    """Processes of the older code, ended after the block."""
    processes = [OlderProcess(folder) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.close()
