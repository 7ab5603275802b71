"""The choices in the name of a benchmark data set: which split is its pool, which tests, which classes and prompts."""

import re
from collections import Counter
from dataclasses import dataclass

from activekd.datasets.catalog import CATALOG
from activekd.errors import InputError, unknown

ALL = "all"
"""As ``size``: every image of the split."""


@dataclass(frozen=True)
class Choices:
    """A name of a benchmark data set, parsed.

    Attributes:
        name: the whole name.
        base: a key of CATALOG.
        pool: the split that is the pool, ``train`` or ``val``; the latter is for copies without the train images.
        test: the split on which accuracy is measured: ``test``, or ``train`` or ``val`` where the other is the pool.
            What a study chooses, such as a recipe, it chooses there, and the test split stays unseen.
        size: images in the pool, as written: a number or ``all``; None takes the catalogue's.
        draw: number of the draw of the pool, as written; None is draw 0.
        classes: .npz file, relative to ``$ACTIVEKD_DATA``, whose array ``class_idx`` lists the classes to keep.
        prompts: ``paper`` for the paper's prompts, ``clip`` for CLIP's ensemble of templates.
    """

    name: str
    base: str
    pool: str = "train"
    test: str = "test"
    size: str | None = None
    draw: str | None = None
    classes: str | None = None
    prompts: str = "paper"

    @property
    def n_published(self) -> int:
        """Published number of images of the split that is the pool."""
        return CATALOG[self.base].n_images[self.pool]

    @property
    def held_out(self) -> str | None:
        """The split that the data set keeps as ``val``: ``val``, unless it is the pool or tests."""
        return None if "val" in {self.pool, self.test} else "val"

    @property
    def is_drawn(self) -> bool:
        """Whether the pool is a random part of its split, by published numbers."""
        return self._wanted is not None and self._wanted < self.n_published

    @property
    def _wanted(self) -> int | None:
        if self.size is None:
            return CATALOG[self.base].pool if self.pool == "train" else None
        return None if self.size == ALL else int(self.size)

    def n_pool(self, n: int) -> int:
        """Images in the pool, of ``n`` in its split.

        Raises:
            InputError: the name gives a size larger than ``n``.
        """
        if self._wanted is None:
            return n
        if self.size is not None and self._wanted > n:
            raise InputError(f"'{self.name}': a pool of {self._wanted} from {n} images; expected: at most {n}, or all")
        return min(n, self._wanted)


@dataclass(frozen=True)
class _Key:
    values: str
    expected: str


KEYS: dict[str, _Key] = {
    "pool": _Key("train|val", "train or val"),
    "test": _Key("train|val|test", "train, val or test"),
    "size": _Key("all|[1-9][0-9]{0,11}", "a positive number of images, or all"),
    "draw": _Key("0|[1-9][0-9]{0,99}", "the number of a draw, at least 0"),
    "classes": _Key(r".+\.npz", "an .npz file"),
    "prompts": _Key("paper|clip", "paper or clip"),
}
"""Keys of the choices, a pattern of their values, and its meaning."""


def choices_of(name: str) -> Choices:
    """A name and its choices, as in ``caltech101?pool=val&size=500``. No file is read.

    Raises:
        InputError: the data set or a key is unknown, a key stands twice, a value is missing or invalid, the pool is
            larger than its split or empty, accuracy is measured on the pool's split or on an empty one, or a draw is
            chosen where nothing is drawn; all faults at once.
    """
    base, mark, query = name.partition("?")
    if base not in CATALOG:
        raise unknown("data set", base, CATALOG)
    pairs = [pair.partition("=") for pair in query.split("&")] if mark else []
    faults = []
    values: dict[str, str] = {}
    for key, _, value in pairs:
        if key not in KEYS:
            faults.append(str(unknown(f"choice in '{name}'", key, KEYS)))
        elif not value:
            faults.append(f"'{name}': {key} has no value; expected: NAME?KEY=VALUE&KEY=VALUE")
        elif not re.fullmatch(KEYS[key].values, value, re.ASCII):
            faults.append(f"'{name}': {key} '{value}'; expected: {KEYS[key].expected}")
        else:
            values[key] = value
    repeated = [key for key, times in Counter(key for key, _, _ in pairs).items() if times > 1 and key in KEYS]
    faults += [f"'{name}': {key} stands more than once; expected: each key once" for key in repeated]
    choices = Choices(name, base, **values)
    if not faults:
        faults = _misfits(choices)
    if faults:
        raise InputError("; ".join(faults))
    return choices


def _misfits(choices: Choices) -> list[str]:
    """Faults of choices that do not fit together, or do not fit the data set."""
    if choices.pool == choices.test:
        other = "val" if choices.pool == "train" else "train"
        return [
            f"'{choices.name}': the {choices.pool} split is the pool and tests too; "
            f"expected: test={other}, or no test, to measure accuracy on other images"
        ]
    for key, part, other in (("pool", choices.pool, "train"), ("test", choices.test, "test")):
        if CATALOG[choices.base].n_images[part] == 0:
            return [f"'{choices.name}': {choices.base} has no {part} images; expected: {key}={other}"]
    try:
        choices.n_pool(choices.n_published)
    except InputError as fault:
        return [str(fault)]
    if choices.draw is not None and not choices.is_drawn:
        return [
            f"'{choices.name}': draw={choices.draw}, but the pool is the whole {choices.pool} split; "
            f"expected: size=N with N below {choices.n_published}, or no draw"
        ]
    return []


def test_split(name: str) -> str:
    """The split on which a data set measures accuracy: ``test``, unless a choice in its name says otherwise.

    Args:
        name: as ``load_dataset`` takes it.

    Raises:
        InputError: a choice is invalid.
    """
    return choices_of(name).test if name.partition("?")[0] in CATALOG else "test"


def drawn_for(name: str, seed: int) -> str:
    """The name of the data set that a trial of this seed runs on.

    A pool that is a random part of its split is drawn once per seed, as in the released code of PCoreSet: its
    ``draw`` is the seed, so that every selector, teacher and student of one seed has the same pool. A name with a
    ``draw`` of its own fixes it for all seeds; other names are unchanged.

    Args:
        name: as ``load_dataset`` takes it.
        seed: of the trial, at least 0.
    """
    base, mark, _ = name.partition("?")
    if base not in CATALOG:
        return name
    choices = choices_of(name)
    if choices.draw is not None or not choices.is_drawn:
        return name
    return f"{name}{'&' if mark else '?'}draw={seed}"
