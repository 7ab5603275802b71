"""The shelf of the bank: an actor of which workers ask the arrays of their trial."""

from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

if TYPE_CHECKING:
    from activekd.teachers.text_heads import TextHead
    from bench.trials.resolved import ResolvedTrial

SHELF_SECONDS = 120.0
"""Seconds that a worker waits for a shelf that was restarted."""

WAIT_SECONDS = 1.0
"""Seconds after which a worker asks again."""

Key = str | tuple[str, str]
"""The key of a shard, or (network, data set) of a text head."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Shelf:
    """Object references of the arrays of the trials that were handed out, by key: workers ask it for theirs.

    It is empty after a restart, until the bank has filled it again.
    """

    def __init__(self) -> None:
        self._refs: dict[Key, Any] = {}

    def put(self, refs: Mapping[Key, Any]) -> None:
        self._refs.update(refs)

    def get(self, keys: Sequence[Key]) -> list[Any] | None:
        """The references of these keys; None where one is absent."""
        return [self._refs[key] for key in keys] if self._refs.keys() >= set(keys) else None

    def size(self) -> int:
        return len(self._refs)


def arrays_of(shelf: Any, trial: "ResolvedTrial") -> "tuple[dict[str, np.ndarray], TextHead | None]":
    """The banked arrays of a trial that was handed out, by the key of their shard, and its text head.

    Args:
        shelf: of the bank.
        trial: whose worker this is.
    """
    keys: list[Key] = [shard.key for reader in trial.readers for shard in reader.shards]
    if trial.head_key is not None:
        keys.append(trial.head_key)
    if not keys:
        return {}, None
    until = monotonic() + SHELF_SECONDS
    while (refs := ray.get(shelf.get.remote(keys))) is None:
        if monotonic() > until:
            raise LookupError(f"the shelf of the bank lacks the arrays of trial {trial.id} for {SHELF_SECONDS:.0f} s")
        sleep(WAIT_SECONDS)
    values = dict(zip(keys, ray.get(refs), strict=True))
    head = values.pop(trial.head_key) if trial.head_key is not None else None
    return values, head  # pyright: ignore[reportReturnType]
