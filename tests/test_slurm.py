"""The Slurm script: its options, what it starts, its requeue before the time limit; and two machines in soak."""

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults import MARK, WORKER, Grid, assert_whole, begun_again, processes, wait_for
from machines import Machine, machines_possible, two_machines

SCRIPT = Path(__file__).parents[1] / "docs" / "clusters" / "slurm.sh"
JOB = "4711"

SRUN = """#!/usr/bin/env bash
# srun: the command on each of the first nodes, with the words of machine-N before it, and one output file per node.
nodes=1 output=""
while [[ $1 == --* ]]; do
    case $1 in --nodes=*) nodes=${1#*=} ;; --output=*) output=${1#*=} ;; esac
    shift
done
codes=0 pids=()
for ((i = 0; i < nodes; i++)); do
    file=/dev/stdout
    [ -z "$output" ] || { file=${output/"%j"/$SLURM_JOB_ID}; file=${file/"%n"/$i}; }
    read -ra words < "$FAKE_SLURM/machine-$i" || true
    "${words[@]}" "$@" >> "$file" 2>&1 &
    pids+=($!)
done
trap 'kill "${pids[@]}"; exit 143' TERM
for pid in "${pids[@]}"; do wait "$pid" || { code=$?; ((code > codes)) && codes=$code; }; done
exit "$codes"
"""

SCONTROL = """#!/usr/bin/env bash
if [ "$1 $2" = "show hostnames" ]; then printf 'node1\\nnode2\\n'; else echo "$@" >> "$FAKE_SLURM/scontrol"; fi
"""

RAY = """#!/usr/bin/env bash
# ray symmetric-run: the words after -- on the first node; the others notice the end a minute later.
echo "$@" >> "$FAKE_SLURM/ray"
[ ! -e "$FAKE_SLURM/broken" ] || exit 0
mkdir "$FAKE_SLURM/head" 2> /dev/null || exec sleep 60
while [ "$1" != -- ]; do shift; done
shift
"$@"
"""

PYTHON = """#!{python}
import json, os, pathlib, sys, time
folder = pathlib.Path(os.environ["FAKE_SLURM"])
(folder / "grid").write_text(json.dumps({{"words": sys.argv[1:], "environment": dict(os.environ)}}))
if (folder / "sleep").exists():
    time.sleep(60)
sys.exit(int((folder / "code").read_text()))
"""


@dataclass
class Slurm:
    """A stand-in for Slurm in a folder: its commands on PATH, the script filled in, and the variables of a job."""

    folder: Path
    environment: Path

    def __post_init__(self) -> None:
        for name in ("share", "disk", "bin"):
            (self.folder / name).mkdir(exist_ok=True)
        self.command("srun", SRUN)
        self.command("scontrol", SCONTROL)
        for i in range(2):
            (self.folder / f"machine-{i}").write_text("env\n", encoding="utf-8")

    def command(self, name: str, text: str, folder: str = "bin") -> None:
        path = self.folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def use(self, machines: tuple[Machine, ...]) -> None:
        """Run tasks on these machines."""
        for i, machine in enumerate(machines):
            (self.folder / f"machine-{i}").write_text(" ".join(machine.prefix()) + "\n", encoding="utf-8")

    def filled(self) -> str:
        text = SCRIPT.read_text(encoding="utf-8")
        for name, value in (
            ("ENVIRONMENT", self.environment),
            ("SHARED_FOLDER", self.folder / "share"),
            ("LOCAL_DISK", self.folder / "disk"),
        ):
            text = text.replace(f"=FILL_IN_{name}\n", f"={value}\n")
        return text

    def start(self, *words: str, script: str = "", **more: str) -> "subprocess.Popen[str]":
        """Start the batch script as Slurm does: a copy elsewhere, in the folder of the submission."""
        copy = self.folder / "slurm_script"
        copy.write_text(script or self.filled(), encoding="utf-8")
        job = {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "FAKE_SLURM": str(self.folder),
            "SLURM_JOB_ID": JOB,
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "16",
        }
        return subprocess.Popen(
            ["bash", str(copy), *words],
            cwd=self.folder,
            env={**os.environ, **job, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def end(self, job: "subprocess.Popen[str]") -> None:
        """End a job with its tasks, as Slurm does once it is requeued."""
        os.killpg(job.pid, signal.SIGKILL)
        job.communicate(timeout=30)

    def requeued(self) -> list[str]:
        path = self.folder / "scontrol"
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    """Slurm with stand-ins for ``ray``, ``python`` and ``hostname``, too."""
    made = Slurm(tmp_path, tmp_path / "venv")
    made.command("ray", RAY, "venv/bin")
    made.command("python", PYTHON.format(python=sys.executable), "venv/bin")
    made.command("hostname", "#!/bin/sh\necho fe80::1 10.0.0.7 10.0.0.8\n")
    (tmp_path / "code").write_text("0", encoding="utf-8")
    return made


def rays(slurm: Slurm) -> list[str]:
    """The words of each ``ray`` that was started."""
    path = slurm.folder / "ray"
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def grid_of(slurm: Slurm) -> tuple[str, dict[str, str]]:
    """The words and the environment of the grid."""
    content = json.loads((slurm.folder / "grid").read_text(encoding="utf-8"))
    return " ".join(content["words"]), content["environment"]


def test_shell_accepts_the_script() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", "--severity=warning", str(SCRIPT)], check=True)


def test_options_of_the_job() -> None:
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE))
    assert {"exclusive", "requeue"} <= set(options)
    assert re.fullmatch(r"B:USR1@\d+", options["signal"])
    assert options["open-mode"] == "append"
    assert options["ntasks-per-node"] == "1"
    assert int(options["nodes"]) > 1


def test_starts_ray_on_every_node_and_the_grid_with_the_cpus_that_feed_a_gpu(slurm: Slurm) -> None:
    job = slurm.start("paper", "--log-every", "60", SLURM_GPUS_ON_NODE="4")
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 0, out
    expected = "symmetric-run --address 10.0.0.7:6379 --min-nodes 2 --num-cpus 16 --num-gpus 4 --"
    assert [words[: len(expected)] for words in rays(slurm)] == [expected, expected]
    words, seen = grid_of(slurm)
    assert words == (
        "-m bench.grid run --address auto --device cuda --gpus-per-trial 1 --cpus-per-trial 4 paper --log-every 60"
    )
    assert seen["RAY_ADDRESS"] == "10.0.0.7:6379"
    assert seen["ACTIVEKD_CACHE"] == f"{slurm.folder}/share/cache"
    assert seen["HF_HOME"] == f"{slurm.folder}/share/huggingface"
    assert seen["ACTIVEKD_NODE_CACHE"] == f"{slurm.folder}/disk/{pwd.getpwuid(os.getuid()).pw_name}/activekd"
    assert seen["RAY_AUTH_MODE"] == "token"
    assert re.fullmatch("[0-9a-f]{64}", seen["RAY_AUTH_TOKEN"])
    assert slurm.requeued() == []
    assert {path.name for path in slurm.folder.glob("activekd-*")} == {
        f"activekd-{JOB}-0.log",
        f"activekd-{JOB}-1.log",
    }


def test_without_gpus_a_trial_takes_one_cpu(slurm: Slurm) -> None:
    slurm.start("paper").communicate(timeout=30)
    assert "--num-gpus 0" in rays(slurm)[0]
    assert "--device cpu --cpus-per-trial 1 paper" in grid_of(slurm)[0]


def test_the_exit_code_is_that_of_the_grid(slurm: Slurm) -> None:
    (slurm.folder / "code").write_text("1", encoding="utf-8")
    job = slurm.start("paper")
    job.communicate(timeout=30)
    assert job.returncode == 1


def test_a_ray_that_does_not_start_is_an_error_although_its_exit_code_is_0(slurm: Slurm) -> None:
    (slurm.folder / "broken").touch()
    job = slurm.start("paper")
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 2
    assert "error: Ray did not start" in out


def test_the_signal_before_the_time_limit_requeues_once(slurm: Slurm) -> None:
    (slurm.folder / "sleep").touch()
    job = slurm.start("paper")
    assert wait_for((slurm.folder / "grid").is_file, job, patience=30)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=30) == 0
    assert slurm.requeued() == [f"requeue {JOB}"]
    slurm.end(job)


def test_a_job_that_slurm_does_not_requeue_goes_on(slurm: Slurm) -> None:
    slurm.command("scontrol", SCONTROL + "[ $1 != requeue ]\n")
    (slurm.folder / "sleep").touch()
    job = slurm.start("paper")
    assert wait_for((slurm.folder / "grid").is_file, job, patience=30)
    job.send_signal(signal.SIGUSR1)
    assert wait_for(lambda: bool(slurm.requeued()), job, patience=30)
    time.sleep(0.3)
    assert job.poll() is None
    slurm.end(job)


@pytest.mark.parametrize(
    ("words", "script", "address", "message"),
    [
        (["paper"], SCRIPT.read_text(encoding="utf-8"), "10.0.0.7", "no folder FILL_IN_ENVIRONMENT; expected:"),
        ([], "", "10.0.0.7", "no spec; expected: sbatch docs/clusters/slurm.sh SPEC"),
        (["paper"], "", "127.0.1.1", "node1 takes itself for '127.0.1.1'; expected: its name resolves"),
    ],
)
def test_what_is_wrong_is_said_before_ray_starts(
    slurm: Slurm, words: list[str], script: str, address: str, message: str
) -> None:
    slurm.command("hostname", f"#!/bin/sh\necho {address}\n")
    job = slurm.start(*words, script=script)
    out, _ = job.communicate(timeout=30)
    assert job.returncode == 2
    assert message in out
    assert rays(slurm) == []


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.skipif(not machines_possible(), reason="two machines are namespaces, which need root on Linux")
def test_a_requeued_job_on_two_machines_ends_with_the_rows_of_an_undisturbed_grid(tmp_path: Path) -> None:
    alone = ("--serial", "--device", "cpu", "--no-report")
    undisturbed = Grid(tmp_path / "undisturbed", tmp_path / "cache", options=alone, seeds=2)
    undisturbed.finish()
    short = Path("/tmp") / f"akd{os.getpid()}"  # Ray's sockets below a local disk have short paths
    short.mkdir()
    slurm = Slurm(short, Path(sys.prefix))
    grid = Grid(tmp_path / "disturbed", tmp_path / "cache", options=(), seeds=2)
    words = [str(grid.spec), "--out", str(grid.run), "--no-report"]
    more = {**grid.environment(), "SLURM_CPUS_PER_TASK": "1"}
    more = {name: more[name] for name in (MARK, "ACTIVEKD_TEST_TRACE", "PYTHONPATH", "SLURM_CPUS_PER_TASK")}

    def log() -> str:
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted(short.glob(f"activekd-{JOB}-*.log")))

    def hosts() -> set[Path]:
        """Machines on which workers train, by their namespace."""
        return {Path(f"/proc/{pid}/ns/uts").readlink() for pid in processes(grid.mark, WORKER)}

    try:
        with two_machines(short) as machines:
            slurm.use((machines[0], machines[1]))
            job = slurm.start(*words, **more)
            both = {Path(f"/proc/{machine.pid}/ns/uts").readlink() for machine in machines}
            assert wait_for(lambda: hosts() == both and grid.rows > 0, job), job.communicate()[0] + log()
            job.send_signal(signal.SIGUSR1)
            assert job.wait(timeout=60) == 0
            assert slurm.requeued() == [f"requeue {JOB}"]
            slurm.end(job)
        grid.kill_all()
        assert grid.rows < grid.n_rows
        with two_machines(short) as machines:
            slurm.use((machines[0], machines[1]))
            job = slurm.start(*words, **more)
            out, _ = job.communicate(timeout=600)
            assert job.returncode == 0, out + log()
    finally:
        grid.kill_all()
        shutil.rmtree(short, ignore_errors=True)
    assert begun_again(grid.run) >= 1
    assert_whole(grid, undisturbed)
