"""The KubeRay job file, offline: fields against the API references, resources as Ray's autoscaler reads them.

No package ships KubeRay's schema. FIELDS lists fields that this project may use, from the API references:
https://ray-project.github.io/kuberay/reference/api and https://kubernetes.io/docs/reference/kubernetes-api.
"""

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_cluster_files import ROOT, pins_of

from bench.settings import VARIABLES
from bench.spec import SPEC_NAMES

FILE = ROOT / "docs" / "clusters" / "kuberay.yaml"

FIELDS: dict[str, dict[str, Any]] = {
    "RayJob": {"apiVersion": str, "kind": str, "metadata": "ObjectMeta", "spec": "RayJobSpec"},
    "ObjectMeta": {"name": str, "generateName": str, "namespace": str, "labels": dict, "annotations": dict},
    "RayJobSpec": {
        "entrypoint": str,
        "submissionMode": {"K8sJobMode", "HTTPMode", "InteractiveMode"},
        "backoffLimit": int,
        "activeDeadlineSeconds": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "runtimeEnvYAML": str,
        "rayClusterSpec": "RayClusterSpec",
    },
    "RayClusterSpec": {
        "rayVersion": str,
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": "AutoscalerOptions",
        "headGroupSpec": "HeadGroupSpec",
        "workerGroupSpecs": ["WorkerGroupSpec"],
    },
    "AutoscalerOptions": {"upscalingMode": {"Default", "Aggressive", "Conservative"}, "idleTimeoutSeconds": int},
    "HeadGroupSpec": {"rayStartParams": dict, "template": "PodTemplateSpec"},
    "WorkerGroupSpec": {
        "groupName": str,
        "replicas": int,
        "minReplicas": int,
        "maxReplicas": int,
        "rayStartParams": dict,
        "template": "PodTemplateSpec",
    },
    "PodTemplateSpec": {"metadata": "ObjectMeta", "spec": "PodSpec"},
    "PodSpec": {
        "securityContext": "PodSecurityContext",
        "nodeSelector": dict,
        "tolerations": ["Toleration"],
        "containers": ["Container"],
        "volumes": ["Volume"],
    },
    "PodSecurityContext": {"fsGroup": int, "runAsUser": int, "runAsGroup": int},
    "Toleration": {
        "key": str,
        "operator": {"Exists", "Equal"},
        "value": str,
        "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    },
    "Container": {
        "name": str,
        "image": str,
        "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
        "resources": "ResourceRequirements",
        "env": ["EnvVar"],
        "volumeMounts": ["VolumeMount"],
    },
    "ResourceRequirements": {"requests": dict, "limits": dict},
    "EnvVar": {"name": str, "value": str},
    "VolumeMount": {"name": str, "mountPath": str, "subPath": str, "readOnly": bool},
    "Volume": {"name": str, "persistentVolumeClaim": "Claim", "emptyDir": "EmptyDir"},
    "Claim": {"claimName": str, "readOnly": bool},
    "EmptyDir": {"medium": {"", "Memory"}, "sizeLimit": str},
}

QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


def faults(value: Any, kind: Any, where: str) -> Iterator[str]:
    """What a value of the file has that its documented kind has not."""
    if isinstance(kind, list):
        if not isinstance(value, list):
            yield f"{where}: not a list"
            return
        for i, item in enumerate(value):
            yield from faults(item, kind[0], f"{where}[{i}]")
    elif isinstance(kind, str):
        if not isinstance(value, dict):
            yield f"{where}: not a mapping"
            return
        for key, item in value.items():
            if key not in FIELDS[kind]:
                yield f"{where}.{key}: no field of {kind}"
            else:
                yield from faults(item, FIELDS[kind][key], f"{where}.{key}")
    elif isinstance(kind, set):
        if value not in kind:
            yield f"{where}: '{value}', expected: {', '.join(sorted(kind))}"
    elif type(value) is not kind:
        yield f"{where}: {type(value).__name__}, expected: {kind.__name__}"
    elif kind is dict and not all(isinstance(word, str) for item in value.items() for word in item):
        yield f"{where}: not a mapping of strings"


def job() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def groups(content: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = content["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in groups(content)]


def test_every_field_is_documented() -> None:
    content = job()
    assert (content["apiVersion"], content["kind"]) == ("ray.io/v1", "RayJob")
    assert list(faults(content, "RayJob", "job")) == []


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        (("spec", "ttlSecondsAfterFinish"), 5, "job.spec.ttlSecondsAfterFinish: no field of RayJobSpec"),
        (("spec", "ttlSecondsAfterFinished"), "5", "job.spec.ttlSecondsAfterFinished: str, expected: int"),
        (("spec", "submissionMode"), "K8s", "job.spec.submissionMode: 'K8s', expected: HTTPMode"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams"), {"num-cpus": 0}, "not a mapping of strings"),
        (("spec", "rayClusterSpec", "workerGroupSpecs"), {}, "job.spec.rayClusterSpec.workerGroupSpecs: not a list"),
    ],
)
def test_what_is_wrong_is_found(path: tuple[str, ...], value: object, found: str) -> None:
    content = job()
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert any(found in fault for fault in faults(content, "RayJob", "job"))


def test_ray_reads_a_head_without_cpus_and_workers_with_a_gpu() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    spec = copy.deepcopy(job()["spec"]["rayClusterSpec"])
    config = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "a", "namespace": "b"}, "spec": spec})
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0
    assert "GPU" not in head["resources"]
    for kind in types.values():
        assert kind["min_workers"] == 0 < kind["max_workers"]
        assert (kind["resources"]["CPU"], kind["resources"]["GPU"]) == (8, 1)
    assert config["idle_timeout_minutes"] == 5


def test_a_trial_takes_the_cpus_and_the_gpu_of_a_worker() -> None:
    words = shlex.split(job()["spec"]["entrypoint"])
    assert words[:4] == ["python", "-m", "bench.grid", "run"]
    assert words[4] in SPEC_NAMES
    options = dict(zip(words[5::2], words[6::2], strict=True))
    (worker,) = job()["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    limits = worker["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert options["--cpus-per-trial"] == options["--cpus-per-extraction"] == limits["cpu"]
    assert options["--gpus-per-trial"] == limits["nvidia.com/gpu"] == "1"
    assert options["--address"] == "auto"
    assert options["--out"] == f"/mnt/activekd/runs/{words[4]}"


def test_pods_mount_the_share_the_nodes_disk_and_shared_memory() -> None:
    for pod in pods(job()):
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert set(mounts.values()) == set(volumes)
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert "persistentVolumeClaim" in volumes[mounts["/mnt/activekd"]]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert {name for name in environment if name.startswith("ACTIVEKD_")} <= {*VARIABLES, "ACTIVEKD_NODE_CACHE"}
        assert environment["HF_HOME"].startswith("/mnt/activekd/")
        assert environment["ACTIVEKD_CACHE"].startswith("/mnt/activekd/")
        assert Path(environment["ACTIVEKD_NODE_CACHE"]).parent.as_posix() in mounts
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert all(QUANTITY.fullmatch(amount) for amount in container["resources"]["limits"].values())


def test_the_object_store_fits_into_shared_memory() -> None:
    """Ray takes 30% of a pod's memory for its object store by default."""
    for pod in pods(job()):
        memory = pod["containers"][0]["resources"]["limits"]["memory"]
        (shared,) = (v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v.get("emptyDir", {}).get("medium"))
        assert 0.3 * int(memory.removesuffix("Gi")) <= int(shared.removesuffix("Gi"))


def test_the_job_ends_its_cluster_and_each_creation_is_a_new_job() -> None:
    content = job()
    assert "name" not in content["metadata"]
    assert content["metadata"]["generateName"].endswith("-")
    assert content["spec"]["shutdownAfterJobFinishes"] is True
    assert content["spec"]["ttlSecondsAfterFinished"] > 0


def test_ray_has_the_version_of_the_other_cluster_files() -> None:
    assert job()["spec"]["rayClusterSpec"]["rayVersion"] == pins_of("cluster.yaml")["ray"]


def test_every_place_holder_is_listed_on_top() -> None:
    text = FILE.read_text(encoding="utf-8")
    listed = set(re.findall(r"^#   (FILL_IN_\w+) ", text, flags=re.MULTILINE))
    assert set(re.findall(r"FILL_IN_\w+", yaml.safe_dump(job()))) == listed
