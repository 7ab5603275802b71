"""The choices in the name of a data set: its conditions and, of the benchmark's, splits, classes and prompts."""

from dataclasses import dataclass

from activekd.datasets.catalog import CATALOG
from activekd.datasets.conditions import CONDITIONS, DRAW, DRAW_KEY, Conditions, Key, chosen, conditions_in
from activekd.errors import InputError, unknown
from activekd.given import split_name

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
        draw: number of the draw of the pool and of the conditions, as written; None is draw 0.
        classes: .npz file, relative to ``$ACTIVEKD_DATA``, whose array ``class_idx`` lists the classes to keep.
        prompts: ``paper`` for the paper's prompts, ``clip`` for CLIP's ensemble of templates.
        conditions: None where the name has none.
    """

    name: str
    base: str
    pool: str = "train"
    test: str = "test"
    size: str | None = None
    draw: str | None = None
    classes: str | None = None
    prompts: str = "paper"
    conditions: Conditions | None = None

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


KEYS: dict[str, Key] = {
    "pool": Key("train|val", "train or val"),
    "test": Key("train|val|test", "train, val or test"),
    "size": Key("all|[1-9][0-9]{0,11}", "a positive number of images, or all"),
    DRAW: DRAW_KEY,
    "classes": Key(r".+\.npz", "an .npz file"),
    "prompts": Key("paper|clip", "paper or clip"),
}
"""Keys of the choices that a data set of CATALOG has beside conditions, a pattern of their values, and its meaning."""


def choices_of(name: str) -> Choices:
    """A name and its choices, as in ``caltech101?pool=val&size=500``. No file is read.

    Raises:
        InputError: the data set or a key is unknown, a key stands twice, a value is missing or invalid, the pool is
            larger than its split or empty, accuracy is measured on the pool's split or on an empty one, or a draw is
            chosen where nothing is drawn; all faults at once.
    """
    base, pairs = split_name(name)
    if base not in CATALOG:
        raise unknown("data set", base, CATALOG)
    values, faults = chosen(name, pairs, {**KEYS, **CONDITIONS})
    own = {key: value for key, value in values.items() if key in KEYS}
    choices = Choices(name, base, **own, conditions=conditions_in(values))
    if not faults:
        faults = _misfits(choices)
    if faults:
        raise InputError("; ".join(faults))
    return choices


def conditions_of(name: str) -> Conditions | None:
    """The conditions in the name of any data set; None where it has none. No file is read.

    Raises:
        InputError: a choice is unknown, stands twice or is invalid, or a draw is chosen where nothing is drawn; all
            faults at once.
    """
    base, pairs = split_name(name)
    if base in CATALOG:
        return choices_of(name).conditions
    values, faults = chosen(name, pairs, {**CONDITIONS, DRAW: DRAW_KEY})
    conditions = conditions_in(values)
    if DRAW in values and conditions is None and not faults:
        faults = [f"'{name}': draw={values[DRAW]}, but nothing is drawn; expected: a condition too, or no draw"]
    if faults:
        raise InputError("; ".join(faults))
    return conditions


def banked_name(name: str) -> str:
    """The name of the data set whose images, features and text head a data set uses: itself without its conditions.

    A draw stays in the name where the pool itself is drawn.

    >>> banked_name("digits?imbalance=10&draw=3"), banked_name("imagenet?noise=0.2&draw=3")
    ('digits', 'imagenet?draw=3')
    """
    if conditions_of(name) is None:
        return name
    base, pairs = split_name(name)
    draws = base in CATALOG and choices_of(name).is_drawn
    kept = [f"{key}={value}" for key, value in pairs if key not in CONDITIONS and (draws or key != DRAW)]
    return f"{base}?{'&'.join(kept)}" if kept else base


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
    if choices.draw is not None and not choices.is_drawn and choices.conditions is None:
        return [
            f"'{choices.name}': draw={choices.draw}, but the pool is the whole {choices.pool} split; "
            f"expected: size=N with N below {choices.n_published}, or no draw"
        ]
    if choices.conditions is not None and choices.classes is None:
        try:
            choices.conditions.n_left_out(CATALOG[choices.base].n_classes)
        except InputError as fault:
            return [f"'{choices.name}': {fault}"]
    return []


def test_split(name: str) -> str:
    """The split on which a data set measures accuracy: ``test``, unless a choice in its name says otherwise.

    Args:
        name: as ``load_dataset`` takes it.

    Raises:
        InputError: a choice is invalid.
    """
    return choices_of(name).test if split_name(name)[0] in CATALOG else "test"


def drawn_for(name: str, seed: int) -> str:
    """The name of the data set that a trial of this seed runs on.

    A pool that is a random part of its split is drawn once per seed, as in the released code of PCoreSet: its
    ``draw`` is the seed, so that every selector, teacher and student of one seed has the same pool. So are conditions.
    A name with a ``draw`` of its own fixes both for all seeds; other names are unchanged.

    Args:
        name: as ``load_dataset`` takes it.
        seed: of the trial, at least 0.

    >>> drawn_for("digits?noise=0.2", 3), drawn_for("digits", 3)
    ('digits?noise=0.2&draw=3', 'digits')
    """
    base, pairs = split_name(name)
    is_drawn = conditions_of(name) is not None or (base in CATALOG and choices_of(name).is_drawn)
    if not is_drawn or any(key == DRAW for key, _ in pairs):
        return name
    return f"{name}{'&' if pairs else '?'}{DRAW}={seed}"
