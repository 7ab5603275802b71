"""Ray's nodes: one started here on loopback, or a cluster that runs; the room of its object store."""

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
from ray._private import ray_constants
from ray._private import utils as ray_utils
from ray._private.node import Node
from ray._private.worker import BaseContext

from activekd.errors import InputError
from bench.cluster.banking import options
from bench.spec import Device, Share

LOCAL = "local"

SHARED_MEMORY = Path("/dev/shm")
STORE_LEAST = 80 * 2**20
"""Below this Ray has no object store in shared memory."""

MEMORY_SHARE = 0.5
"""Largest part of the machine's available memory that a local object store may take; it takes what is put into it."""

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


def connect(address: str, *, n_cpus: int | None, spill: Path, dashboard_host: str) -> Connection:
    """Start Ray on this machine, its ports on loopback alone, or join a running cluster.

    Args:
        address: ``local``, or the address of a cluster (``auto`` finds the one that runs here).
        n_cpus: CPUs that a local Ray may use; all without it.
        spill: folder for what does not fit.
        dashboard_host: where a local dashboard listens; it is started where ``ray[default]`` is installed.

    Raises:
        InputError: no cluster at that address, no room for an object store, or a spill folder that cannot be written.
    """
    try:
        own = process_folder(spill) if address == LOCAL else None
    except OSError as fault:
        raise InputError(f"spill folder {spill}: {fault}; expected: a writable folder (--spill)") from fault
    with _interrupts_at_the_end():
        context = _start(own, n_cpus, dashboard_host) if own else _join(address)
    alive = [node for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    return Connection(
        nodes=len(alive),
        cpus=total.get("CPU", 0),
        gpus=total.get("GPU", 0),
        store_bytes=int(min(node["Resources"].get("object_store_memory", 0) for node in alive)),
        spill=own,
        dashboard=f"http://{context.dashboard_url}" if context.dashboard_url else "",
    )


@contextmanager
def _interrupts_at_the_end() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the end of a block in which Ray starts.

    In the middle, an exception that a handler raises can be lost in a fork; and Ray would put a handler of its own in
    the place of the one that ends a grid with its rows stored.

    Raises:
        KeyboardInterrupt: at the end, if there was a signal.
    """
    seen: list[int] = []
    numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if callable(signal.getsignal(n))]
    handlers = {number: signal.signal(number, lambda n, frame: seen.append(n)) for number in numbers}
    try:
        with _replaced(ray_utils, set_sigterm_handler=lambda handler: None):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if seen:
        raise KeyboardInterrupt


@contextmanager
def _replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """Other attributes of a module or class for the length of a block."""
    kept = {name: getattr(owner, name) for name in attributes}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(owner, name, value)


def _start(spill: Path, n_cpus: int | None, dashboard_host: str) -> BaseContext:
    # Else Ray takes the machine's address in the network for its own, and listens on every interface.
    ray_constants.ENABLE_RAY_CLUSTER = False
    dashboard = importlib.util.find_spec(DASHBOARD_MODULE) is not None
    # Processes of no use here, and a second of CPU time each: one node does not scale, the driver shows no log of a
    # worker, and the dashboard's server runs without a dashboard too.
    unused = ("start_monitor", "start_log_monitor", *(() if dashboard else ("start_api_server",)))
    with _replaced(Node, **dict.fromkeys(unused, lambda node, **options: None)):
        return ray.init(
            address=LOCAL,
            num_cpus=n_cpus,
            object_store_memory=store_bytes(),
            include_dashboard=dashboard,
            dashboard_host=dashboard_host,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_spilling_directory=str(spill),
        )


def _join(address: str) -> BaseContext:
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
    """Largest size of a local object store, as shared memory and MEMORY_SHARE allow.

    Returns:
        Bytes; None, which is Ray's own choice, on a system without such a folder of shared memory.

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
    return max(STORE_LEAST, int(min(MEMORY_SHARE * ray_utils.estimate_available_memory(), 0.9 * free)))


def device_of(wanted: Device, connection: Connection) -> Device:
    """Where the networks run: what ``--device`` says, ``auto`` being a GPU where a node has one."""
    return wanted if wanted != "auto" else "cuda" if connection.gpus else "cpu"


def slots(share: Share, device: str) -> int:
    """Trials of a share that the nodes can run at a time."""
    total, takes = ray.cluster_resources(), options(share, device)
    by_cpus = int(total.get("CPU", 0) // takes["num_cpus"])
    return min(by_cpus, int(total.get("GPU", 0) / takes["num_gpus"])) if takes["num_gpus"] else by_cpus


def lacking_room(device: str, trial: Share, extraction: Share) -> list[str]:
    """What no node is large enough for now, a line each; a cluster that grows may come to have such a node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = "; ".join(f"{n.get('CPU', 0):.0f} CPUs, {n.get('GPU', 0):.0f} GPUs" for n in nodes)
    out = []
    for what, share in (("a trial", trial), ("an extraction task", extraction)):
        takes = options(share, device)
        wanted = {"CPU": takes["num_cpus"], "GPU": takes["num_gpus"], **takes["resources"]}
        if not any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            asked = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)
            out.append(f"{what} takes {asked}, and no node has that; expected: what a node has ({found})")
    return out


def disconnect() -> None:
    """Stop a local Ray, or leave the cluster."""
    ray.shutdown()
