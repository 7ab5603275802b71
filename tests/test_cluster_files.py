"""The cluster files, offline: against the schemas of Ray and EC2, and the versions and variables of the bench."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from bench.settings import ADDRESS_VARIABLE, DEVICE_VARIABLE, SPEC_VARIABLE
from bench.spec import SPECS, read_spec

ROOT = Path(__file__).parents[1]
FILES = ["cluster.yaml", "docs/clusters/cluster-local.yaml"]
PLACE_HOLDER = re.compile(r"FILL_IN_[A-Z]+(?:_[A-Z]+)*")
SETUPS = ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands")
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def pins_of(name: str) -> dict[str, str]:
    """The versions that a cluster file installs, by library."""
    (install,) = (command for command in read(name)["setup_commands"] if "pip install" in command)
    pins = [Requirement(word) for word in shlex.split(install) if "==" in word]
    return {pin.name: next(iter(pin.specifier)).version for pin in pins}


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", FILES)
def test_ray_refuses_what_is_misspelt(name: str) -> None:
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuts"):
        validate_config(prepare_config({**read(name), "idle_timeout_minuts": 5}))


@pytest.mark.parametrize("name", FILES)
def test_every_command_is_there_and_starts_what_it_should(name: str) -> None:
    config = read(name)
    assert set(SETUPS) | set(STARTS) <= set(config)
    head, worker = (" ".join(config[key]) for key in STARTS)
    assert "ray start --head" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head
    assert "--dashboard-host=127.0.0.1" in head
    assert "ray start --address=$RAY_HEAD_IP:6379" in worker
    for key in (*SETUPS, *STARTS):
        for command in config[key]:
            subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.parametrize("name", FILES)
def test_what_is_mounted_exists(name: str) -> None:
    config = read(name)
    assert config["file_mounts"]
    for source in config["file_mounts"].values():
        assert (ROOT / source / "pyproject.toml").is_file()
    assert ".venv" in config["rsync_exclude"]


@pytest.mark.parametrize("name", FILES)
def test_every_place_holder_is_listed_on_top(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    top = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    listed = set(re.findall(r"^#   (FILL_IN_\w+) ", top, flags=re.MULTILINE))
    used = set(PLACE_HOLDER.findall(yaml.safe_dump(read(name), width=10**6)))
    assert used == listed


@pytest.mark.parametrize("name", FILES)
def test_the_head_runs_the_papers_spec_on_the_cluster(name: str) -> None:
    commands = " ".join(read(name)["head_setup_commands"])
    assert (SPECS / "paper.toml").is_file()
    assert f"export {SPEC_VARIABLE}=paper" in commands
    assert f"export {ADDRESS_VARIABLE}=auto" in commands
    everywhere = " ".join(read(name)["setup_commands"])
    for variable in ("ACTIVEKD_DATA", "ACTIVEKD_WEIGHTS", "ACTIVEKD_CACHE", "HF_HOME"):
        assert f"export {variable}=" in everywhere


@pytest.mark.parametrize("name", FILES)
def test_versions_are_pinned_within_what_the_project_allows(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = {r.name: r for r in map(Requirement, project["dependencies"])}
    pins = pins_of(name)
    assert {"ray", "torch", "torchvision", "timm", "open_clip_torch"} <= set(pins)
    for library, version in pins.items():
        assert allowed[library].specifier.contains(version), library
    assert f"ray[default,tune]=={pins['ray']}" in " ".join(read(name)["setup_commands"])


@pytest.mark.parametrize("name", FILES)
def test_what_the_papers_spec_and_the_provider_need_is_installed(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (install,) = (command for command in read(name)["setup_commands"] if "pip install" in command)
    found = re.search(r"-e ~/activekd-bench\[([a-z,]+)\]", install)
    assert found
    extras = set(found[1].split(","))
    assert extras <= set(project["optional-dependencies"])
    teachers = {trial.teacher for trial in read_spec("paper").trials}
    assert any(teacher.startswith("siglip") for teacher in teachers) == ("siglip" in extras)
    assert "cluster" in extras
    assert any(need.startswith("boto3") for need in project["optional-dependencies"]["cluster"])


def test_aws_heads_run_no_trial_and_workers_are_spot_machines_with_a_gpu() -> None:
    config = read("cluster.yaml")
    types = config["available_node_types"]
    head = types[config["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    workers = [kind for name, kind in types.items() if name != config["head_node_type"]]
    assert workers
    for kind in workers:
        assert kind["resources"]["GPU"] >= 1
        assert kind["min_workers"] == 0 < kind["max_workers"] <= config["max_workers"]
        assert kind["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert config["idle_timeout_minutes"] <= 10
    assert f"export {DEVICE_VARIABLE}=cuda" in " ".join(config["head_setup_commands"])


def test_aws_node_config_has_the_fields_of_ec2() -> None:
    """Check the keys of node_config against botocore's model of EC2's RunInstances; Ray's schema leaves them open."""
    loaders = pytest.importorskip("botocore.loaders")
    model = loaders.Loader().load_service_model("ec2", "service-2")
    known = set(model["shapes"]["RunInstancesRequest"]["members"])
    of_ray = {"SubnetIds"}
    for kind in read("cluster.yaml")["available_node_types"].values():
        assert set(kind["node_config"]) <= known | of_ray


def test_an_aws_trial_takes_the_cpus_of_a_worker() -> None:
    """Of the machine type's cores, which Ray's schema does not know, as its resources state them."""
    (worker,) = (k for k in read("cluster.yaml")["available_node_types"].values() if k["resources"]["GPU"])
    cpus = worker["resources"]["CPU"]
    command = f"python -m bench.grid --cpus-per-trial {cpus} --cpus-per-extraction {cpus}'"
    for file in ("cluster.yaml", "README.md"):
        assert command in (ROOT / file).read_text(encoding="utf-8"), file


@pytest.mark.parametrize(
    ("mounted", "disk", "done"),
    [
        (["/mnt/nvme"], True, []),
        (["/opt/dlami/nvme"], True, ["mount --bind /opt/dlami/nvme /mnt/nvme"]),
        ([], True, ["mkfs.ext4 -q -F -E nodiscard /dev/nvme1n1", "mount /dev/nvme1n1 /mnt/nvme"]),
        ([], False, None),
    ],
)
def test_aws_workers_mount_their_nvme_disk(
    tmp_path: Path, mounted: list[str], disk: bool, done: list[str] | None
) -> None:
    """Run the commands with stand-ins for those of the system: mounted already, mounted by the image, raw, absent."""
    listed = "/dev/nvme0n1 Amazon Elastic Block Store\n" + "/dev/nvme1n1 Amazon EC2 NVMe Instance Storage\n" * disk
    stand_ins = {
        "sudo": f'echo "$@" >> {tmp_path}/done',
        "mountpoint": f"case ' {' '.join(mounted)} ' in *\" $2 \"*) exit 0 ;; *) exit 1 ;; esac",
        "lsblk": f"printf '{listed}'",
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    commands = read("cluster.yaml")["worker_setup_commands"]
    ran = [
        subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
        for command in commands
    ]
    if done is None:
        assert "error: no NVMe instance store; expected: an InstanceType" in "".join(r.stdout for r in ran)
        assert any(r.returncode for r in ran)
        return
    assert not any(r.returncode for r in ran)
    before, *between, after = (tmp_path / "done").read_text(encoding="utf-8").splitlines()
    assert before == "mkdir -p /mnt/nvme"
    assert between == done
    assert after == "install -d -o ubuntu /mnt/nvme/activekd"
    assert (tmp_path / "activekd.env").read_text(encoding="utf-8") == "export ACTIVEKD_NODE_CACHE=/mnt/nvme/activekd\n"


def test_readme_has_the_line_that_brings_results_home() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "ray up cluster.yaml" in readme
    assert "ray rsync-down cluster.yaml '/mnt/activekd/runs/' results/runs/" in readme
