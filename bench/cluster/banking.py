"""The bank in Ray's object store: one array per shard, read from the disk cache or computed into it by tasks."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from activekd.bank.shards import Shard, read_array
from activekd.banked import Encoder, runs_network
from activekd.errors import InputError
from bench.cluster.address import LOGS
from bench.cluster.nodes import options_of, waiting_tasks
from bench.cluster.shelf import Key, Shelf
from bench.specs.file import Share
from bench.trials.zeroshot import ZeroShotLines

if TYPE_CHECKING:
    from activekd.datasets import Dataset, Split
    from activekd.teachers.text_heads import TextHead
    from bench.trials.resolved import ResolvedTrial

MAX_RETRIES = 20
"""Retries of a task that fills the bank, after it loses its worker or node."""

READERS = 2
"""Arrays read into the object store at a time, each in a separate process."""

WAIT_SECONDS = 1.0
"""Seconds after which ``Bank.wait`` looks around, if no task ends before, and between two looks at the shelf."""

TASK_BYTES = 2 * 10**9
"""Bytes of arrays that one task computes at most, unless a single one is larger."""

FILL_SECONDS = 60.0
"""Seconds that the bank is filled before trials start, unless it is complete sooner.

Each time that trials run out of arrays their workers end, and start anew when there are more, which costs every slot
some seconds. So a small bank is completed first, and a large one stops the trials once a minute at most."""


class BankProgress(Protocol):
    """Receives the progress of filling the bank."""

    def banked(self, done: int, total: int, now: str = "") -> None:
        """``done`` of the bank's ``total`` arrays are ready; ``now`` names those in work."""
        ...


class NotCachedError(Exception):
    """The disk cache does not have a whole array."""


def _extract(shards: Sequence[Shard], split: "Split", encoder: Encoder, cache: Path, device: str, threads: int) -> None:
    """Compute shards of one split and encoder into the disk cache if one is missing; import torch only then."""
    if any(read_array(shard.path(cache)) is None for shard in shards):
        from activekd.inputs import compute_shards

        compute_shards(shards, split, encoder, cache, device, threads)


def _text_head(network: Any, dataset: "Dataset", cache: Path, device: str, threads: int) -> "TextHead":
    from activekd.inputs import compute_text_head

    return compute_text_head(network, dataset, cache, device, threads)


_extract_task = ray.remote(max_retries=MAX_RETRIES)(_extract)
_text_head_task = ray.remote(max_retries=MAX_RETRIES)(_text_head)
# A worker that exits after one task releases its GPU memory.
_extract_on_gpu = ray.remote(max_retries=MAX_RETRIES, max_calls=1)(_extract)
_text_head_on_gpu = ray.remote(max_retries=MAX_RETRIES, max_calls=1)(_text_head)


@ray.remote(num_cpus=0, max_retries=-1, num_returns=2)
def _read(shard: Shard, split: "Split | None", encoder: Encoder, cache: Path) -> tuple[np.ndarray, None]:
    """The array from the disk cache, and None: the driver gets the None to see faults without fetching the array.

    The task takes no CPU, so that Ray can read a lost array again while trials hold every CPU and wait for it.

    Raises:
        NotCachedError: the cache does not have it, or its checksum fails.
    """
    if not runs_network(encoder):
        from activekd.inputs import compute_shard

        assert split is not None
        return compute_shard(shard, split, encoder, cache), None
    cached = read_array(shard.path(cache))
    if cached is None:
        raise NotCachedError(str(shard.path(cache)))
    return np.asarray(cached), None


@dataclass(frozen=True, order=True)
class _Item:
    """An array or a text head to be filled in.

    Attributes:
        position: in the order in which the trials need it.
        key: of it.
        trial: that reads it, with its images.
        shard: None for a text head.
        computed: whether a task of this bank has computed it.
    """

    position: int
    key: Key = field(compare=False)
    trial: "ResolvedTrial" = field(compare=False)
    shard: Shard | None = field(compare=False)
    computed: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        if self.shard is None:
            return f"text head of {self.key[0]} for {self.key[1]}"
        from bench.trials.resolved import array_name

        return array_name(self.shard)


class Bank:
    """The arrays and text heads of a grid, filled in while trials run.

    A task computes each missing array into the disk cache; another reads it into the object store of the driver's node,
    from which every other node copies it once. Losing a worker node costs a copy, losing the driver's node a read;
    neither repeats a run of the network. Worker nodes hold no primary copies, so the autoscaler may remove them at any
    time.

    An array that the cache has is read without a task that computes, and so asks for no GPU; one whose checksum fails
    is computed again. Tasks are submitted in the order in which the trials need their arrays: at most READERS that
    read, and as many that compute as the cluster can run, but none while a trial that was handed out waits for a place.

    Nothing here blocks but ``wait``, and nothing happens between calls: the driver calls ``advance`` at every step.

    Args:
        trials: in the order in which they start, with their images and shards.
        cache: folder of the caches, on shared storage if there are several nodes.
        device: where the networks run.
        share: resources of a task that computes; a GPU only if it runs a network.
        progress: updated at every step.
        given: object references of arrays that are there already, by shard key.
        at_least: seconds that ``wait`` takes, unless the bank is complete before.

    Attributes:
        shelf: handle of the actor that answers ``bench.cluster.shelf.arrays_of``.
        fault: why the bank cannot be filled; None so far.
    """

    def __init__(
        self,
        trials: "Sequence[ResolvedTrial]",
        cache: Path,
        device: str,
        share: Share,
        progress: BankProgress,
        given: Mapping[str, Any] | None = None,
        at_least: float = FILL_SECONDS,
    ) -> None:
        self._cache, self._device, self._share, self._progress = cache, device, share, progress
        self._at_least = at_least
        node = ray.get_runtime_context().get_node_id()
        self._here = NodeAffinitySchedulingStrategy(node, soft=True)
        self.shelf: Any = Shelf.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        self._handed: dict[Key, Any] = {}
        self._looking: Any = None
        self._looked = monotonic()
        self.fault: Exception | None = None
        self._refs: dict[Key, Any] = {}
        self._refs.update((given or {}).items())
        self._needs: dict[str, frozenset[Key]] = {}
        self._splits: dict[tuple[str, str, bool], Any] = {}
        self._positions = count()
        self._waiting: set[str] = set()
        self._to_compute = deque[_Item]()
        self._to_read: list[_Item] = []
        self._computing: dict[Any, list[_Item]] = {}
        self._reading: dict[Any, tuple[_Item, Any]] = {}
        self._missing: set[Key] = set()
        alike: dict[object, frozenset[Key]] = {}
        for trial in trials:
            group = tuple((t.source, t.trial.student, t.trial.teacher, t.trial.views) for t in trial.readers)
            if group not in alike:
                alike[group] = frozenset(self._note(trial))
            self._needs[trial.id] = alike[group]
        self._total = len(self._missing)
        self._zero_shot = ZeroShotLines(trials)

    def _note(self, trial: "ResolvedTrial") -> Iterable[Key]:
        """Queue what a trial reads; yield its keys."""
        keys: dict[Key, tuple[ResolvedTrial, Shard | None]] = {}
        if trial.head_key is not None:
            keys[trial.head_key] = trial, None
        for reader in trial.readers:
            keys |= {shard.key: (reader, shard) for shard in reader.shards}
        for key, (reader, shard) in keys.items():
            if key not in self._refs and key not in self._missing:
                self._queue(_Item(next(self._positions), key, reader, shard))
            yield key

    def _queue(self, item: _Item) -> None:
        self._missing.add(item.key)
        if item.shard is None:
            from activekd.inputs import cached_text_head

            assert item.trial.teacher is not None
            head = cached_text_head(item.trial.teacher.network, item.trial.dataset, self._cache)
            if head is None:
                self._to_compute.append(item)
            else:
                self._has(item, ray.put(head))
        elif not runs_network(item.trial.encoder_of(item.shard)) or item.shard.is_stored(self._cache):
            heapq.heappush(self._to_read, item)
        else:
            self._to_compute.append(item)

    @property
    def complete(self) -> bool:
        """Whether everything is there."""
        return not self._missing

    def ready(self, trial_id: str) -> bool:
        """Whether all that a trial reads is there, so that it can start without waiting."""
        return self._missing.isdisjoint(self._needs[trial_id])

    def hand_out(self, job: str, trial_id: str) -> None:
        """Put the arrays of a trial that is ready on the shelf, for the worker that will run it.

        Args:
            job: names what is handed to Tune; nothing more is computed until it is ``placed``.
            trial_id: of a trial of the job, all of which read the same arrays.
        """
        if needs := {key: self._refs[key] for key in self._needs[trial_id] if key not in self._handed}:
            self._handed |= needs
            ray.get(self.shelf.put.remote(needs))
        self._waiting.add(job)

    def placed(self, job: str) -> None:
        """A job that was handed out has a worker, or has ended."""
        self._waiting.discard(job)

    def wait(self, until: Callable[[], bool]) -> None:
        """Fill the bank, while no trial runs, until it is complete, cannot be filled, or has had its time.

        Args:
            until: what must hold, after ``at_least`` seconds, for trials to start before the bank is complete.
        """
        self._waiting.clear()
        begin = monotonic()

        def enough() -> bool:
            return self.complete or self.fault is not None or (monotonic() - begin >= self._at_least and until())

        while not enough():
            self.advance()
            if not enough():
                ray.wait([*self._computing, *self._reading], timeout=WAIT_SECONDS)

    def advance(self) -> None:
        """Take in what has ended, submit what may run next, and return without waiting."""
        self._look_at_shelf()
        if self.complete or self.fault:
            return
        try:
            self._take_in()
            self._zero_shot.look(self._refs.__contains__, lambda key: ray.get(self._refs[key]))
        except RayTaskError as fault:
            self.fault = fault.cause if isinstance(fault.cause, InputError) else fault
        except InputError as fault:
            self.fault = fault
        except RayError as fault:
            self.fault = InputError(
                f"a task that fills the bank lost its worker more than {MAX_RETRIES} times ({type(fault).__name__}); "
                f"expected: enough memory for it ({LOGS})"
            )
        if self.fault is None:
            self._submit()
            self._progress.banked(self._total - len(self._missing), self._total, self._now())

    def _look_at_shelf(self) -> None:
        """Fill the shelf again if it was restarted; one question a second, whose answer is not waited for."""
        if self._looking is None:
            if monotonic() - self._looked >= WAIT_SECONDS:
                self._looking = self.shelf.size.remote()
            return
        answered, _ = ray.wait([self._looking], timeout=0)
        if answered:
            size: Any = ray.get(self._looking)
            if size < len(self._handed):
                self.shelf.put.remote(self._handed)
            self._looking, self._looked = None, monotonic()

    def _take_in(self) -> None:
        running = [*self._computing, *self._reading]
        ended, _ = ray.wait(running, num_returns=len(running), timeout=0) if running else ([], [])
        for done in ended:
            if done in self._computing:
                items, value = self._computing.pop(done), ray.get(done)
                for item in items:
                    if item.shard is None:
                        self._has(item, ray.put(value))
                    else:
                        heapq.heappush(self._to_read, replace(item, computed=True))
                continue
            item, ref = self._reading.pop(done)
            try:
                ray.get(done)
            except RayTaskError as fault:
                if not isinstance(fault.cause, NotCachedError):
                    raise
                if item.computed:
                    raise InputError(
                        f"cache {self._cache}: {Path(str(fault.cause)).name} was computed, but is missing on the "
                        f"driver's node; expected: one folder that all nodes share ($ACTIVEKD_CACHE)"
                    ) from fault
                self._to_compute.appendleft(item)
            else:
                self._has(item, ref)

    def _has(self, item: _Item, ref: Any) -> None:
        self._refs[item.key] = ref
        self._missing.discard(item.key)

    def _submit(self) -> None:
        while self._to_read and len(self._reading) < READERS:
            item = heapq.heappop(self._to_read)
            assert item.shard is not None
            encoder = item.trial.encoder_of(item.shard)
            split = None if runs_network(encoder) else self._split(item, names=True)
            both: Any = _read.options(scheduling_strategy=self._here).remote(item.shard, split, encoder, self._cache)
            self._reading[both[1]] = item, both[0]
        if not self._to_compute or self._waiting:
            return
        room = waiting_tasks(self._share, self._device) - len(self._computing)
        for left in range(room, 0, -1):
            if self._to_compute:
                items = self._next(left)
                self._computing[self._compute(items)] = items

    def _next(self, room: int) -> list[_Item]:
        """What the next task computes: a text head, or shards of one split and encoder, for which images are read once.

        Of the shards that wait it takes its part, if ``room`` tasks may run, and no more than TASK_BYTES.
        """
        from bench.trials.resolved import banked_bytes, read_together

        first = self._to_compute.popleft()
        if first.shard is None:
            return [first]
        group = read_together(first.shard)
        alike = [item for item in self._to_compute if item.shard is not None and read_together(item.shard) == group]
        each = banked_bytes(first.trial.encoder_of(first.shard), len(first.trial.split(first.shard.split)))
        part = alike[: min(ceil((1 + len(alike)) / room), max(1, TASK_BYTES // max(1, each))) - 1]
        for item in part:
            self._to_compute.remove(item)
        return [first, *part]

    def _compute(self, items: Sequence[_Item]) -> Any:
        """Submit the task that computes arrays of one split and encoder, or a text head."""
        options = options_of(self._share, self._device)
        rest = self._cache, self._device, self._share.cpus
        item = items[0]
        if item.shard is None:
            assert item.trial.teacher is not None
            task = _text_head_on_gpu if options["num_gpus"] else _text_head_task
            dataset = item.trial.dataset.without_images()
            return task.options(**options).remote(item.trial.teacher.network, dataset, *rest)
        encoder = item.trial.encoder_of(item.shard)
        if not runs_network(encoder):
            options["num_gpus"] = 0
        task = _extract_on_gpu if options["num_gpus"] else _extract_task
        shards = [one.shard for one in items if one.shard is not None]
        return task.options(**options).remote(shards, self._split(item), encoder, *rest)

    def _split(self, item: _Item, *, names: bool = False) -> Any:
        """A split in the object store, put there once; with the names of its images for given features alone."""
        assert item.shard is not None
        key = item.shard.images, item.shard.split, names
        if key not in self._splits:
            split = item.trial.split(item.shard.split)
            self._splits[key] = ray.put(split if names else replace(split, names=None))
        return self._splits[key]

    def _now(self) -> str:
        """Names the first array in work, and counts the others."""
        items = sorted([*chain.from_iterable(self._computing.values()), *(item for item, _ in self._reading.values())])
        more = f" and {len(items) - 1} more" if len(items) > 1 else ""
        return f"{items[0].name}{more}" if items else ""
