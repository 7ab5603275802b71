"""The bank in Ray's object store: one array a shard, made by tasks that read the disk cache first."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from activekd.bank.shards import Shard, read_array
from activekd.errors import InputError
from bench.cluster import READERS
from bench.spec import Share

if TYPE_CHECKING:
    from activekd.datasets import Dataset
    from activekd.teachers.text_heads import TextHead

MAX_RETRIES = 20
"""Times that a task which fills the bank may lose its worker or node."""

RESOURCE_AMOUNT = 0.001
"""Of a custom resource: enough to bind a task to the nodes that have it, too little to bound how many run."""


class BankProgress(Protocol):
    """Told as the bank fills."""

    def banked(self, done: int, total: int) -> None:
        """So many of the bank's arrays are there."""
        ...


@ray.remote(max_retries=MAX_RETRIES)
def _extract(shard: Shard, encoder: str, cache: Path, device: str, threads: int) -> None:
    """Put a shard into the disk cache if it is not there; torch is imported only then."""
    if read_array(shard.path(cache)) is None:
        from bench.trial import make_shard

        make_shard(shard, encoder, cache, device, threads)


@ray.remote(num_cpus=0, max_retries=-1, num_returns=2)
def _shard(extracted: None, shard: Shard, encoder: str, cache: Path) -> tuple[np.ndarray, None]:
    """The array from the disk cache, and a second return by which the driver learns of a fault without fetching it.

    It takes no CPU, so that a lost array can be had again while trials hold every CPU and wait for it.
    """
    found = read_array(shard.path(cache))
    if found is None:
        from bench.trial import made_shard

        found = made_shard(shard, encoder, cache)
    return np.asarray(found), None


@ray.remote(max_retries=MAX_RETRIES)
def _text_head(network: str, dataset: "Dataset", cache: Path, device: str, threads: int) -> "TextHead":
    from bench.trial import make_text_head

    return make_text_head(network, dataset, cache, device, threads)


def bank(
    shards: Mapping[Shard, str],
    heads: Sequence[tuple[str, str]],
    datasets: "Mapping[str, Dataset]",
    cache: Path,
    device: str,
    share: Share,
    progress: BankProgress,
) -> tuple[dict[str, Any], dict[tuple[str, str], "TextHead"]]:
    """Fill the object store: one array a shard, by its key, and the text heads.

    Each array is put into the disk cache by a task that looks there first, and read from there into the object store
    of the driver's node, from which every other node has its one copy: the loss of a node costs a copy, and of the
    driver's node a read, not a run of the network. Nodes of trials hold nothing that would keep them from going.
    Reading begins when all is on disk, by the processes that put it there, since starting others takes seconds.

    Args:
        shards: with the name of what encodes each.
        heads: (network, data set) of each text head.
        datasets: of the heads.
        cache: folder of the caches, on shared storage where there are several nodes.
        device: where the networks run.
        share: what a task takes; a GPU only where it runs a network.

    Returns:
        Object references by shard key, and text heads by (network, data set): from the disk cache where they are there.

    Raises:
        InputError: what a task raised, such as a checkpoint that does not fit, a full disk or a cache that the nodes do
            not share.
    """
    from bench.trial import kept_text_head, runs_network

    with_network = options(share, device)
    without = {**with_network, "num_gpus": 0}
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    made_heads, head_refs = {}, {}
    for network, name in heads:
        found = kept_text_head(network, datasets[name], cache)
        if found is None:
            task, classes = _text_head.options(**with_network), datasets[name].without_images()
            head_refs[network, name] = task.remote(network, classes, cache, device, share.cpus)
        else:
            made_heads[network, name] = found
    extracting = {}
    for shard, encoder in shards.items():
        task = _extract.options(**(with_network if runs_network(encoder) else without))
        extracting[task.remote(shard, encoder, cache, device, share.cpus)] = shard, encoder
    refs, reading, total = {}, [], len(shards) + len(head_refs)
    steps = count(1)

    def tell() -> None:
        progress.banked(total * next(steps) // (total + len(shards)), total)

    try:
        for _ in _completed([*extracting, *head_refs.values()]):
            tell()
        for made, (shard, encoder) in extracting.items():
            if len(reading) == READERS:
                (ready,), reading = ray.wait(reading)
                ray.get(ready)
                tell()
            both: Any = _shard.options(scheduling_strategy=here).remote(made, shard, encoder, cache)
            refs[shard.key], done = both
            reading.append(done)
        for _ in _completed(reading):
            tell()
    except RayTaskError as fault:
        if isinstance(fault.cause, InputError):
            raise fault.cause from None
        raise
    except RayError as fault:
        raise InputError(
            f"a task that fills the bank lost its worker more than {MAX_RETRIES} times ({type(fault).__name__}); "
            f"expected: enough memory for it (see Ray's logs under /tmp/ray)"
        ) from fault
    return refs, {**made_heads, **{key: ray.get(ref) for key, ref in head_refs.items()}}


def _completed(refs: Sequence[Any]) -> Iterator[Any]:
    """References as their tasks end; what a task raised is raised."""
    left = list(refs)
    while left:
        (ready,), left = ray.wait(left)
        ray.get(ready)
        yield ready


def options(share: Share, device: str) -> dict[str, Any]:
    """A share as the options of a Ray task; GPUs with ``cuda`` alone."""
    custom = {share.resource: RESOURCE_AMOUNT} if share.resource else {}
    return {"num_cpus": share.cpus, "num_gpus": share.gpus if device == "cuda" else 0, "resources": custom}
