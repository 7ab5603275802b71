"""The zero-shot accuracy of each teacher network, printed once its arrays are there; nothing is selected by it."""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.terminal import console, say

if TYPE_CHECKING:
    from bench.trials.resolved import ResolvedTrial

CHECK = (
    "check class names and prompts, the order of the classes where W is given, and the preprocessing (the tag of "
    "open_clip); logit_scale scales the targets of distillation and does not change this figure"
)
"""What a teacher near chance calls for."""


def near_chance(accuracy: float, n_classes: int) -> bool:
    """Whether an accuracy in [0, 1] is below twice that of chance and below a tenth of the way from chance to 1.

    >>> near_chance(0.19, 10), near_chance(0.18, 10), near_chance(0.03, 100), near_chance(0.54, 2)
    (False, True, False, True)
    """
    chance = 1 / n_classes
    return accuracy < min(2 * chance, chance + 0.1 * (1 - chance))


class ZeroShotLines:
    """Prints a line for each (data set, teacher network), and a warning where its accuracy is near chance.

    Data sets that differ in conditions have one line, that of their base.

    Args:
        trials: with their shards.
        out: where to print.
    """

    def __init__(self, trials: "Sequence[ResolvedTrial]", out: Console = console) -> None:
        self._out = out
        self._left: dict[tuple[str, str], ResolvedTrial] = {}
        for trial in trials:
            if trial.head_key is not None and trial.banked.teacher_test:
                self._left.setdefault(trial.head_key, trial)

    def look(self, has: Callable[[Any], bool], read: Callable[[Any], Any]) -> None:
        """Print the lines of the teachers whose text head and features of the test split are there.

        Args:
            has: whether an array is there, by the key of its shard, or a text head by ``head_key``.
            read: reads one.
        """
        for head_key, trial in [*self._left.items()]:
            keys: list[Hashable] = [head_key, trial.banked.teacher_test[0].key]
            if all(map(has, keys)):
                del self._left[head_key]
                head, features = map(read, keys)
                self._print(trial, head.accuracy(features, trial.dataset.banked.test.labels))

    def _print(self, trial: "ResolvedTrial", accuracy: float) -> None:
        network, dataset = trial.head_key or ("", "")
        n, n_classes = len(trial.dataset.banked.test), trial.dataset.banked.n_classes
        line = f"{dataset}: zero-shot accuracy of teacher {network}: {accuracy:.1%} on {n:,} test images"
        say(f"{line} (chance {1 / n_classes:.1%})", self._out)
        if near_chance(accuracy, n_classes):
            say(f"warning: {dataset}, teacher {network}: its zero-shot accuracy is near chance; {CHECK}", self._out)
