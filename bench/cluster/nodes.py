"""Ray's nodes: one started on this machine's loopback, or a running cluster; its object store and its slots."""

import importlib.util
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from activekd.errors import InputError, reason
from bench.cluster.address import LOCAL
from bench.cluster.processes import process_folder
from bench.settings import DETERMINISTIC_ENVIRONMENT, Device, Options
from bench.specs.file import Share

SHARED_MEMORY = Path("/dev/shm")
STORE_LEAST = 80 * 2**20
"""Bytes of the smallest object store that Ray accepts."""

STORE_MOST = 10 * 2**30
"""Bytes of free shared memory above which Ray's default size fits; below, Ray may fall back to files on disk."""

RESOURCE_AMOUNT = 0.001
"""Amount of a custom resource per task: binds the task to nodes with the resource, without limiting how many run."""

LEAST_WAITING = 16
"""Least number of trials that wait for resources on a cluster of several nodes, so that its autoscaler sees demand."""

DASHBOARD_MODULE = "aiohttp_cors"
"""Module that the dashboard needs; ``ray[default]`` installs it."""


@dataclass(frozen=True)
class Connection:
    """The Ray that was started or joined.

    Attributes:
        nodes: number alive.
        cpus: of all nodes.
        gpus: of all nodes.
        store_bytes: of the smallest object store.
        spill: folder to which a local Ray moves objects that do not fit; None for a cluster, which defines its own.
        dashboard: address; empty without a dashboard.
    """

    nodes: int
    cpus: float
    gpus: float
    store_bytes: int
    spill: Path | None
    dashboard: str

    def lines(self, bank_bytes: int) -> list[str]:
        """Nodes, object store, spill folder and dashboard, for a user who asks."""
        where = f"{self.nodes} nodes" if self.nodes > 1 else "one node"
        spill = f", the rest in {self.spill}" if self.spill else ", the rest in the spill folder of the cluster"
        ray_line = (
            f"Ray: {where}, {self.cpus:.0f} CPUs, {self.gpus:.0f} GPUs; object store of "
            f"at most {self.store_bytes / 1e9:.2f} GB a node for a bank of at most {bank_bytes / 1e9:.2f} GB{spill}"
        )
        return [ray_line, f"dashboard: {self.dashboard}"] if self.dashboard else [ray_line]

    def warnings(self, bank_bytes: int) -> list[str]:
        """What slows a grid down whose bank has at most so many bytes."""
        if self.store_bytes >= bank_bytes:
            return []
        return [
            f"the bank of at most {bank_bytes / 1e9:.2f} GB may not fit into Ray's object store of "
            f"{self.store_bytes / 1e9:.2f} GB: each trial reads spilled arrays from disk at its start; "
            f"give the nodes more shared memory (docker run --shm-size, ray start --object-store-memory)"
        ]

    def device(self, wanted: Device) -> Device:
        """Where the networks run: ``--device``, with ``auto`` resolved to cuda if a node has a GPU, else to cpu.

        Raises:
            InputError: ``auto`` on a cluster without a worker yet.
        """
        if wanted == "auto" and not self.cpus:
            raise InputError("--device auto on a cluster without a worker yet; expected: --device cuda or --device cpu")
        return wanted if wanted != "auto" else "cuda" if self.gpus else "cpu"


@contextmanager
def connected(options: Options) -> Iterator[Connection]:
    """Ray for the length of a block: started on this machine, its ports on loopback alone, or a cluster joined.

    Ray replaces the handler of SIGTERM; the command's handler is restored.

    Raises:
        InputError: no cluster at the address, no room for an object store, or a spill folder that cannot be written.
    """
    on_term = signal.getsignal(signal.SIGTERM)
    with ExitStack() as last:
        spill = None
        if options.address == LOCAL:
            try:
                spill = last.enter_context(process_folder(options.spill))
            except OSError as fault:
                raise InputError(
                    f"spill folder {options.spill}: {reason(fault)}; expected: a writable folder (--spill)"
                ) from fault
        last.callback(signal.signal, signal.SIGTERM, on_term)
        last.callback(ray.shutdown)
        context = _start(spill, options) if spill else _join(options)
        signal.signal(signal.SIGTERM, on_term)
        alive = [node for node in ray.nodes() if node["Alive"]]
        total = ray.cluster_resources()
        yield Connection(
            nodes=len(alive),
            cpus=total.get("CPU", 0),
            gpus=total.get("GPU", 0),
            store_bytes=int(min(node["Resources"].get("object_store_memory", 0) for node in alive)),
            spill=spill,
            dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
        )


def _start(spill: Path, options: Options) -> Any:
    return ray.init(
        address=LOCAL,
        runtime_env=_environment(options),
        num_cpus=_cpus(options),
        object_store_memory=store_bytes(),
        include_dashboard=importlib.util.find_spec(DASHBOARD_MODULE) is not None,
        dashboard_host=options.dashboard_host,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_spilling_directory=str(spill),
    )


def _cpus(options: Options) -> int | None:
    """CPUs of a local Ray if the trials at a time are bounded, at most those of the machine; None for all."""
    if options.max_concurrent is None:
        return None
    wanted = max(options.max_concurrent * options.trial.cpus, options.extraction.cpus)
    return min(wanted, os.cpu_count() or 1)


def _join(options: Options) -> Any:
    try:
        return ray.init(
            address=options.address,
            runtime_env=_environment(options),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as fault:
        raise InputError(
            f"no Ray cluster at {options.address}: {fault}; expected: local, auto, or HOST:PORT"
        ) from fault


def _environment(options: Options) -> dict[str, Any] | None:
    """The runtime environment of the workers; None for that of their nodes."""
    return {"env_vars": dict(DETERMINISTIC_ENVIRONMENT)} if options.deterministic else None


def store_bytes() -> int | None:
    """Size of a local object store, if little shared memory bounds it.

    Returns:
        Bytes; None for Ray's default, if shared memory is plentiful or absent.

    Raises:
        InputError: shared memory is too small for any object store.
    """
    if not SHARED_MEMORY.is_dir():
        return None
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < STORE_LEAST:
        raise InputError(
            f"{SHARED_MEMORY} has {free / 2**20:.0f} MB free, and Ray's object store takes at least "
            f"{STORE_LEAST / 2**20:.0f} MB; expected: more shared memory (docker run --shm-size=2g, or "
            f"mount -o remount,size=2G {SHARED_MEMORY}), or --serial"
        )
    return None if free > STORE_MOST else max(STORE_LEAST, int(0.9 * free))


def options_of(share: Share, device: str) -> dict[str, Any]:
    """A share as the options of a Ray task; GPUs only with ``cuda``."""
    custom = {share.resource: RESOURCE_AMOUNT} if share.resource else {}
    return {"num_cpus": share.cpus, "num_gpus": share.gpus if device == "cuda" else 0, "resources": custom}


def slots(share: Share, device: str) -> int:
    """Trials of a share that the nodes can run at a time."""
    total, takes = ray.cluster_resources(), options_of(share, device)
    by_cpus = int(total.get("CPU", 0) // takes["num_cpus"])
    return min(by_cpus, int(total.get("GPU", 0) / takes["num_gpus"])) if takes["num_gpus"] else by_cpus


def waiting_tasks(share: Share, device: str) -> int:
    """Tasks of a share to submit at a time: as many as run at once; at least LEAST_WAITING on several nodes."""
    nodes = sum(node["Alive"] for node in ray.nodes())
    return waiting_jobs(slots(share, device), nodes)


def waiting_jobs(slots_now: int, nodes: int) -> int:
    """Jobs that wait for resources at a time: the slots of a single node, at least LEAST_WAITING on several.

    Tune starts any of those that wait, so a small number keeps the order.

    Args:
        slots_now: jobs that the nodes can run at a time.
        nodes: that are alive.
    """
    return slots_now if nodes == 1 and slots_now else max(LEAST_WAITING, slots_now)


def lacking_room(device: str, trial: Share, extraction: Share) -> list[str]:
    """A message for each kind of task that no node has room for; an autoscaler may still add a larger node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    available = "; ".join(f"{n.get('CPU', 0):.0f} CPUs, {n.get('GPU', 0):.0f} GPUs" for n in nodes)
    out = []
    for what, share in (("a trial", trial), ("an extraction task", extraction)):
        takes = options_of(share, device)
        wanted = {"CPU": takes["num_cpus"], "GPU": takes["num_gpus"], **takes["resources"]}
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            asked = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
            out.append(
                f"{what} takes {asked}, more than any node has; "
                f"expected: at most the resources of one node ({available})"
            )
    return out
