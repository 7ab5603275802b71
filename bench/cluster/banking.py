"""The bank in Ray's object store: one array per shard, read from the disk cache or computed into it by tasks."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from activekd.bank.given import GivenFeatures
from activekd.bank.shards import Shard, read_array
from activekd.errors import InputError
from bench.cluster.address import LOGS
from bench.cluster.nodes import options_of
from bench.spec import Share

if TYPE_CHECKING:
    from activekd.datasets import Dataset, Split
    from activekd.teachers.text_heads import TextHead
    from bench.trials.inputs import EncoderNetwork
    from bench.trials.resolved import ResolvedTrial

MAX_RETRIES = 20
"""Retries of a task that fills the bank, after it loses its worker or node."""

READERS = 2
"""Arrays read into the object store at a time, each in a separate process."""


class BankProgress(Protocol):
    """Receives the progress of filling the bank."""

    def banked(self, done: int, total: int) -> None:
        """``done`` of the bank's ``total`` arrays are ready."""
        ...


@lru_cache(maxsize=2)
def dataset_of(name: str, short_side: int, cache: Path) -> "Dataset":
    """A data set, loaded once per process."""
    from activekd.datasets import load_dataset

    return load_dataset(name, cache, short_side=short_side)


def _split(shard: Shard, cache: Path) -> "Split":
    dataset = dataset_of(shard.dataset, shard.short_side, cache)
    return dataset.train if shard.split == "train" else dataset.test


def _extract(shard: Shard, encoder: "EncoderNetwork", cache: Path, device: str, threads: int) -> None:
    """Compute a shard into the disk cache if it is missing; import torch only then."""
    if read_array(shard.path(cache)) is None:
        from bench.trials.inputs import compute_shard

        compute_shard(shard, _split(shard, cache), encoder, cache, device, threads)


def _text_head(network: Any, dataset: "Dataset", cache: Path, device: str, threads: int) -> "TextHead":
    from bench.trials.inputs import compute_text_head

    return compute_text_head(network, dataset, cache, device, threads)


_extract_task = ray.remote(max_retries=MAX_RETRIES)(_extract)
_text_head_task = ray.remote(max_retries=MAX_RETRIES)(_text_head)
# A worker that exits after one task releases its GPU memory.
_extract_on_gpu = ray.remote(max_retries=MAX_RETRIES, max_calls=1)(_extract)
_text_head_on_gpu = ray.remote(max_retries=MAX_RETRIES, max_calls=1)(_text_head)


@ray.remote(num_cpus=0, max_retries=-1, num_returns=2)
def _read(extracted: None, shard: Shard, encoder: "EncoderNetwork", cache: Path) -> tuple[np.ndarray, None]:
    """The array from the disk cache, and None: the driver gets the None to see faults without fetching the array.

    The task takes no CPU, so that Ray can read a lost array again while trials hold every CPU and wait for it.
    """
    cached = read_array(shard.path(cache))
    if cached is None:
        from bench.trials.inputs import compute_shard

        if not isinstance(encoder, GivenFeatures):
            raise InputError(
                f"cache {cache}: {shard.path(cache).name} was computed, but is missing on the driver's node; "
                f"expected: one folder that all nodes share ($ACTIVEKD_CACHE)"
            )
        cached = compute_shard(shard, _split(shard, cache), encoder, cache)
    return np.asarray(cached), None


def fill_bank(
    shards: "Mapping[Shard, ResolvedTrial]",
    heads: "Mapping[tuple[str, str], ResolvedTrial]",
    cache: Path,
    device: str,
    share: Share,
    progress: BankProgress,
) -> "tuple[dict[str, Any], dict[tuple[str, str], TextHead]]":
    """Fill the object store: one array per shard, by its key, and the text heads.

    A task computes each missing array into the disk cache; another reads it into the object store of the driver's node,
    from which every other node copies it once. Losing a worker node costs a copy, losing the driver's node a read;
    neither repeats a run of the network. Worker nodes hold no primary copies, so the autoscaler may remove them at any
    time.

    Args:
        shards: each with a trial that reads it.
        heads: (network, data set) of each text head, with a trial that reads it.
        cache: folder of the caches, on shared storage if there are several nodes.
        device: where the networks run.
        share: resources of a task; a GPU only if the task runs a network.
        progress: updated as arrays become ready.

    Returns:
        Object references by shard key, and text heads by (network, data set).

    Raises:
        InputError: a task raised one (a checkpoint that does not fit, a full disk, a cache that the nodes do not
            share), or lost its worker more than MAX_RETRIES times.
    """
    from bench.trials.inputs import cached_text_head, runs_network

    with_network = options_of(share, device)
    without = {**with_network, "num_gpus": 0}
    on_gpu = bool(with_network["num_gpus"])
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    ready_heads, head_refs = {}, {}
    for key, trial in heads.items():
        assert trial.teacher is not None
        network = trial.teacher.network
        cached = cached_text_head(network, trial.dataset, cache)
        if cached is None:
            task = (_text_head_on_gpu if on_gpu else _text_head_task).options(**with_network)
            head_refs[key] = task.remote(network, trial.dataset.without_images(), cache, device, share.cpus)
        else:
            ready_heads[key] = cached
    extracting: list[tuple[Any, Shard, EncoderNetwork]] = []
    for shard, trial in shards.items():
        encoder, ref = trial.encoder_of(shard), None
        if not isinstance(encoder, GivenFeatures):
            runs = runs_network(encoder)
            task = _extract_on_gpu if on_gpu and runs else _extract_task
            ref = task.options(**(with_network if runs else without)).remote(shard, encoder, cache, device, share.cpus)
        extracting.append((ref, shard, encoder))
    refs, reading, total = {}, [], len(shards) + len(head_refs)
    steps = count(1)

    def advance() -> None:
        progress.banked(total * next(steps) // (total + len(shards)), total)

    try:
        for _ in _completed([*(ref for ref, _, _ in extracting if ref is not None), *head_refs.values()]):
            advance()
        for extracted, shard, encoder in extracting:
            if len(reading) == READERS:
                (ready,), reading = ray.wait(reading)
                ray.get(ready)
                advance()
            both: Any = _read.options(scheduling_strategy=here).remote(extracted, shard, encoder, cache)
            refs[shard.key], done = both
            reading.append(done)
        for _ in _completed(reading):
            advance()
    except RayTaskError as fault:
        if isinstance(fault.cause, InputError):
            raise fault.cause from None
        raise
    except RayError as fault:
        raise InputError(
            f"a task that fills the bank lost its worker more than {MAX_RETRIES} times ({type(fault).__name__}); "
            f"expected: enough memory for it ({LOGS})"
        ) from fault
    return refs, {**ready_heads, **{key: ray.get(ref) for key, ref in head_refs.items()}}


def _completed(refs: Sequence[Any]) -> Iterator[Any]:
    """Each reference when its task ends; the exception of a task is raised."""
    left = list(refs)
    while left:
        (ready,), left = ray.wait(left)
        ray.get(ready)
        yield ready
