"""Ray's nodes: one started here on loopback, or a running cluster; the size of its object store; its slots."""

import importlib.util
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from activekd.errors import InputError
from bench.cluster.loopback import LOCAL
from bench.settings import Device, Options
from bench.spec import Share

SHARED_MEMORY = Path("/dev/shm")
STORE_LEAST = 80 * 2**20
"""Below this Ray has no object store in shared memory."""

STORE_MOST = 10 * 2**30
"""Above this much shared memory Ray's own choice fits; below, it would fall back to files on disk."""

RESOURCE_AMOUNT = 0.001
"""Of a custom resource: enough to bind a task to the nodes that have it, too little to bound how many run."""

DASHBOARD_MODULE = "aiohttp_cors"
"""Comes with ``ray[default]``, which the dashboard needs."""


@dataclass(frozen=True)
class Connection:
    """The Ray that was started or joined.

    Attributes:
        nodes: that are alive.
        cpus: of all nodes.
        gpus: of all nodes.
        store_bytes: of the smallest object store.
        spill: folder to which a local Ray moves what does not fit; None for a cluster, which has its own.
        dashboard: address; empty without one.
    """

    nodes: int
    cpus: float
    gpus: float
    store_bytes: int
    spill: Path | None
    dashboard: str

    def lines(self, bank_bytes: int) -> list[str]:
        """What a user should know of it, a line each."""
        where = f"{self.nodes} nodes" if self.nodes > 1 else "one node"
        spill = f", the rest in {self.spill}" if self.spill else ", the rest in the spill folder of the cluster"
        out = [
            f"Ray: {where}, {self.cpus:.0f} CPUs, {self.gpus:.0f} GPUs; object store of "
            f"at most {self.store_bytes / 1e9:.2f} GB a node for a bank of at most {bank_bytes / 1e9:.2f} GB{spill}"
        ]
        if self.store_bytes < bank_bytes:
            out.append(
                "the bank may not fit into the object store: what is spilled is read from disk at each trial's start; "
                "give the nodes more shared memory (docker run --shm-size, ray start --object-store-memory)"
            )
        return [*out, f"dashboard: {self.dashboard}"] if self.dashboard else out

    def device(self, wanted: Device) -> Device:
        """Where the networks run: what ``--device`` says; ``auto`` is a GPU where a node has one.

        Raises:
            InputError: ``auto`` on a cluster without a worker yet.
        """
        if wanted == "auto" and not self.cpus:
            raise InputError("--device auto on a cluster without a worker yet; expected: --device cuda or --device cpu")
        return wanted if wanted != "auto" else "cuda" if self.gpus else "cpu"


@contextmanager
def connected(options: Options) -> Iterator[Connection]:
    """Ray for the length of a block: started on this machine, its ports on loopback alone, or a cluster joined.

    Ray puts a handler of its own in the place of SIGTERM's; the command's is put back.

    Raises:
        InputError: no cluster at the address, no room for an object store, or a spill folder that cannot be written.
    """
    local = options.address == LOCAL
    try:
        spill = process_folder(options.spill) if local else None
    except OSError as fault:
        raise InputError(f"spill folder {options.spill}: {fault}; expected: a writable folder (--spill)") from fault
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        context = _start(spill, options) if spill else _join(options.address)
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
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, on_term)


def _start(spill: Path, options: Options) -> Any:
    return ray.init(
        address=LOCAL,
        num_cpus=_cpus(options),
        object_store_memory=store_bytes(),
        include_dashboard=importlib.util.find_spec(DASHBOARD_MODULE) is not None,
        dashboard_host=options.dashboard_host,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_spilling_directory=str(spill),
    )


def _cpus(options: Options) -> int | None:
    """CPUs that a local Ray may use where the trials at a time are bounded; never more than there are."""
    if options.max_concurrent is None:
        return None
    wanted = max(options.max_concurrent * options.trial.cpus, options.extraction.cpus)
    return min(wanted, os.cpu_count() or 1)


def _join(address: str) -> Any:
    try:
        return ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as fault:
        raise InputError(f"no Ray cluster at {address}: {fault}; expected: local, auto, or HOST:PORT") from fault


def process_folder(parent: Path) -> Path:
    """A folder of this process below ``parent``; those of processes that were killed are removed."""
    parent.mkdir(parents=True, exist_ok=True)
    for old in parent.iterdir():
        if old.name.isdecimal() and not Path(f"/proc/{old.name}").exists() and Path("/proc/self").exists():
            shutil.rmtree(old, ignore_errors=True)
    own = parent / str(os.getpid())
    own.mkdir(exist_ok=True)
    return own


def store_bytes() -> int | None:
    """Size of a local object store where little shared memory bounds it.

    Returns:
        Bytes; None for Ray's own choice, where there is plenty or no such folder.

    Raises:
        InputError: shared memory is too small for any object store.
    """
    if not SHARED_MEMORY.is_dir():
        return None
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < STORE_LEAST:
        raise InputError(
            f"{SHARED_MEMORY} has {free / 2**20:.0f} MB free, and Ray's object store takes at least "
            f"{STORE_LEAST / 2**20:.0f} MB of it; expected: more shared memory (docker run --shm-size=2g, or "
            f"mount -o remount,size=2G {SHARED_MEMORY}), or --serial"
        )
    return None if free > STORE_MOST else max(STORE_LEAST, int(0.9 * free))


def options_of(share: Share, device: str) -> dict[str, Any]:
    """A share as the options of a Ray task; GPUs with ``cuda`` alone."""
    custom = {share.resource: RESOURCE_AMOUNT} if share.resource else {}
    return {"num_cpus": share.cpus, "num_gpus": share.gpus if device == "cuda" else 0, "resources": custom}


def slots(share: Share, device: str) -> int:
    """Trials of a share that the nodes can run at a time."""
    total, takes = ray.cluster_resources(), options_of(share, device)
    by_cpus = int(total.get("CPU", 0) // takes["num_cpus"])
    return min(by_cpus, int(total.get("GPU", 0) / takes["num_gpus"])) if takes["num_gpus"] else by_cpus


def lacking_room(device: str, trial: Share, extraction: Share) -> list[str]:
    """What no node is large enough for now, a line each; a cluster that grows may get such a node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    available = "; ".join(f"{n.get('CPU', 0):.0f} CPUs, {n.get('GPU', 0):.0f} GPUs" for n in nodes)
    out = []
    for what, share in (("a trial", trial), ("an extraction task", extraction)):
        takes = options_of(share, device)
        wanted = {"CPU": takes["num_cpus"], "GPU": takes["num_gpus"], **takes["resources"]}
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            asked = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
            out.append(f"{what} takes {asked}, and no node has that; expected: what a node has ({available})")
    return out
