"""The bank in Ray's object store: one array a shard, made by tasks that read the disk cache first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray
from ray.exceptions import RayTaskError

from activekd.bank import Shard
from activekd.errors import InputError
from activekd.teachers import TextHead
from bench import trial as trials_module
from bench.spec import Share

RESOURCE_AMOUNT = 0.001
"""Of a custom resource: enough to bind a task to the nodes that have it, too little to bound how many run."""


class BankProgress(Protocol):
    """Told as the bank fills."""

    def banked(self, done: int, total: int) -> None:
        """So many of the bank's arrays are there."""
        ...


@ray.remote(max_retries=-1, num_returns=2)
def _shard(shard: Shard, encoder: str, cache: Path, device: str, threads: int) -> tuple[np.ndarray, None]:
    """The array, and a second return by which the driver learns of a fault without fetching the array."""
    return np.asarray(trials_module.make_shard(shard, encoder, cache, device, threads)), None


@ray.remote(max_retries=-1)
def _text_head(network: str, dataset: str, cache: Path, device: str, threads: int) -> TextHead:
    return trials_module.make_text_head(network, dataset, cache, device, threads)


def bank(
    shards: Mapping[Shard, str],
    heads: Sequence[tuple[str, str]],
    cache: Path,
    device: str,
    share: Share,
    progress: BankProgress,
) -> tuple[dict[str, Any], dict[tuple[str, str], TextHead]]:
    """Fill the object store: one array a shard, by its key, and the text heads.

    Each array is made by a task that reads the disk cache first and is retried without limit, so that the loss of a
    node costs a read and not a run of the network.

    Args:
        shards: with the name of what encodes each.
        heads: (network, data set) of each text head.
        cache: folder of the caches, on shared storage where there are several nodes.
        device: where the networks run.
        share: what a task takes; a GPU only where it runs a network.

    Returns:
        Object references by shard key, and text heads by (network, data set).

    Raises:
        InputError: what a task raised, such as a checkpoint that does not fit or a full disk.
    """
    with_network = options(share, device)
    without = {**with_network, "num_gpus": 0}
    head_refs = {key: _text_head.options(**with_network).remote(*key, cache, device, share.cpus) for key in heads}
    made: dict[str, Any] = {}
    for shard, encoder in shards.items():
        task = _shard.options(**(with_network if trials_module.runs_network(encoder) else without))
        made[shard.key] = task.remote(shard, encoder, cache, device, share.cpus)
    waiting = [*(done for _, done in made.values()), *head_refs.values()]
    total = len(waiting)
    try:
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1, timeout=None)
            ray.get(done)
            progress.banked(total - len(waiting), total)
    except RayTaskError as fault:
        if isinstance(fault.cause, InputError):
            raise fault.cause from None
        raise
    return {key: array for key, (array, _) in made.items()}, {key: ray.get(ref) for key, ref in head_refs.items()}


def options(share: Share, device: str) -> dict[str, Any]:
    """A share as the options of a Ray task; GPUs with ``cuda`` alone."""
    custom = {share.resource: RESOURCE_AMOUNT} if share.resource else {}
    return {"num_cpus": share.cpus, "num_gpus": share.gpus if device == "cuda" else 0, "resources": custom}
