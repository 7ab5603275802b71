"""The demo on three nodes, with one lost mid-run and one added, ends with the demo's rows.

One seed and one data set; the whole demo where the environment has ACTIVEKD_TEST_WHOLE_DEMO.
"""

import os
import random
import subprocess
import sys
import uuid
from pathlib import Path

import pandas as pd
import pytest
from faults import MARK, begun_again, kill, nodes_of, numbers, processes, wait_for

from bench.store.rows import stored_rows

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

WHOLE = "ACTIVEKD_TEST_WHOLE_DEMO"


def demo(out: Path, environment: dict[str, str], *options: str) -> "subprocess.Popen[str]":
    only = () if WHOLE in os.environ else ("--only", "seed=0,dataset=digits")
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bench.grid",
            "demo",
            *only,
            "--out",
            str(out),
            "--device",
            "cpu",
            "--no-report",
            *options,
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_demo_on_three_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mark = uuid.uuid4().hex
    environment = {**os.environ, "ACTIVEKD_CACHE": str(tmp_path / "cache"), MARK: mark, "RAY_worker_niceness": "0"}
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    process = demo(undisturbed, environment)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    n_rows = len(stored_rows(undisturbed))
    at = random.Random(20).randrange(n_rows // 3, 2 * n_rows // 3)
    try:
        with nodes_of(environment) as nodes:
            process = demo(disturbed, environment, "--address", nodes.address)
            assert wait_for(lambda: len(stored_rows(disturbed)) >= at, process, patience=900)
            assert nodes.tell("lose 0") == "lost"
            nodes.tell("add")
            out, _ = process.communicate()
            assert process.returncode == 0, out
    finally:
        for pid in processes(mark):
            kill(pid)
        process.wait()
    pd.testing.assert_frame_equal(numbers(disturbed), numbers(undisturbed))
    assert begun_again(disturbed) >= 1
    with capsys.disabled():
        print(f"\na node lost and one added at row {at} of {n_rows}: {n_rows} rows equal")
