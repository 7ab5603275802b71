"""The settings of a grid outside its spec: environment variables, caches, the device, the command's options."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from activekd.folders import (
    CACHE_VARIABLE,
    DATA_VARIABLE,
    IMAGE_CACHE_VARIABLE,
    NODE_CACHE_VARIABLE,
    PIXELS_VARIABLE,
    WEIGHTS_VARIABLE,
)
from activekd.folders import cache_folder as cache_folder
from bench.specs.file import Share

Device = Literal["auto", "cpu", "cuda", "mps"]

SPEC_VARIABLE = "ACTIVEKD_SPEC"
ADDRESS_VARIABLE = "ACTIVEKD_RAY"
DEVICE_VARIABLE = "ACTIVEKD_DEVICE"

VARIABLES: Mapping[str, str] = {
    DATA_VARIABLE: "the folder of the data sets, in CoOp's layout",
    WEIGHTS_VARIABLE: "a folder of weight files, searched before any hub",
    IMAGE_CACHE_VARIABLE: "`off` decodes images at every use, after one check; `on`, the default, caches them decoded",
    PIXELS_VARIABLE: "the most pixels that an image may have; Pillow's limit of 89,478,485 by default",
    CACHE_VARIABLE: "decoded images, teacher features and frozen features; `~/.cache/activekd` by default",
    NODE_CACHE_VARIABLE: "a folder on each node's own disk, to which decoded images are copied once; none by default",
    SPEC_VARIABLE: "the spec that `activekd run` runs; `demo` by default",
    ADDRESS_VARIABLE: "the Ray cluster, as `--address`; `local` by default",
    DEVICE_VARIABLE: "where networks run, as `--device`; `auto` by default",
}
"""Every environment variable that the library and the bench read, and its meaning."""

DEFAULT_SPEC = "demo"

DETERMINISTIC_ENVIRONMENT: Mapping[str, str] = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""What a process needs for ``--deterministic`` before it first uses ``cuda``: the workspaces with which cuBLAS adds up
in the same order in every run. Processes on other devices ignore it."""

LOCK = "grid.lock"
"""Lock file of the results folder, held while a grid runs on it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a grid (see ``activekd run -h``); the trials come from the spec.

    Attributes:
        serial: in this process, without Ray.
        address: of the Ray cluster; ``local`` starts one here.
        max_concurrent: trials at a time; None for as many as fit.
        device: where networks run.
        trial: resources of a trial.
        extraction: resources of a task that fills the bank.
        attempts: for each round of a trial that raises an error.
        retry_failed: also retry trials that were given up.
        replace: selectors whose stored rows are dropped first.
        log_every: seconds between progress lines when the output is not a terminal.
        verbose: also show Ray's nodes, object store and dashboard.
        track: name of a tracker that gets every round too.
        dashboard_host: where a local Ray's dashboard listens.
        spill: folder for objects that do not fit into a local Ray's memory.
        diagnostics: measure them in every round.
        deterministic: only deterministic algorithms, so that two runs on one card give equal rows.
        report: write it at the end.
    """

    serial: bool = False
    address: str = "local"
    max_concurrent: int | None = None
    device: Device = "auto"
    trial: Share = field(default_factory=Share)
    extraction: Share = field(default_factory=Share)
    attempts: int = 3
    retry_failed: bool = False
    replace: tuple[str, ...] = ()
    log_every: float = 10.0
    verbose: bool = False
    track: str | None = None
    dashboard_host: str = "127.0.0.1"
    spill: Path = Path("spill")
    diagnostics: bool = True
    deterministic: bool = False
    report: bool = True


def default_spec() -> str:
    """The spec of a command that names none: ``$ACTIVEKD_SPEC``, else DEFAULT_SPEC."""
    return os.environ.get(SPEC_VARIABLE) or DEFAULT_SPEC


def local_device(device: Device) -> str:
    """The device of this machine that ``--device`` selects.

    Raises:
        InputError: this machine has no such device.
    """
    if device == "cpu":
        return device
    import torch

    from activekd.devices import check_device

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device, "--device")
    return device


def default_slots() -> int:
    """Default number of trials at a time: one per CPU of this machine."""
    return os.cpu_count() or 1


def local_slots(share: Share, device: str) -> int:
    """Trials that this machine runs at a time: by its CPUs and, on ``cuda``, by its cards; at least 1.

    Args:
        share: of a trial.
        device: where the trials run.
    """
    of_cpus = default_slots() // share.cpus
    if device != "cuda" or not share.gpus:
        return max(1, of_cpus)
    import torch

    return max(1, min(of_cpus, int(torch.cuda.device_count() / share.gpus)))
