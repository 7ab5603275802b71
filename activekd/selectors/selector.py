"""The definition of a selector: a query function, its name and the arrays that it reads. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal, get_args

Need = Literal[
    "student_probabilities",
    "teacher_probabilities",
    "features",
    "teacher_features",
    "student_head",
    "text_prototypes",
    "true_labels",
]
"""What a selector may declare: attributes of ``PoolView``."""

NEEDS: tuple[Need, ...] = get_args(Need)

STUDENT: frozenset[Need] = frozenset({"student_probabilities"})
TEACHER: frozenset[Need] = frozenset({"teacher_probabilities"})
FEATURES: frozenset[Need] = frozenset({"features"})
HEAD: frozenset[Need] = frozenset({"student_head"})
TEACHER_FEATURES: frozenset[Need] = frozenset({"teacher_features"})
TRUTH: frozenset[Need] = frozenset({"true_labels"})

PROTOTYPES: frozenset[Need] = frozenset({"text_prototypes"})
OF_TEACHER: frozenset[Need] = TEACHER | TEACHER_FEATURES | PROTOTYPES
"""What only a round with a teacher has."""

SCORE_NEEDS: dict[str, frozenset[Need]] = {
    "entropy": STUDENT,
    "margin": STUDENT,
    "least_confidence": STUDENT,
    "teacher_entropy": TEACHER,
    "disagreement": STUDENT | TEACHER,
}
"""The scores of ``activekd.selectors.uncertainty`` by name, and what each reads."""

Query = Callable[..., Any]
"""``(view, query_size, *, rng) -> rows``: ``query_size`` distinct unlabeled rows in order of preference."""


@dataclass(frozen=True)
class Selector:
    """A query strategy with the arrays that it reads.

    Attributes:
        name: its name in specs and tables.
        query: the function, ``(view, query_size, *, rng) -> rows``, or ``MODULE:FUNCTION``, which is imported on first
            use. It returns ``query_size`` distinct unlabeled rows in order of preference, the same for an
            equal view and generator, and leaves the view unchanged.
        needs: what it reads of the view; only this is computed for it. One that reads the true labels is an oracle: a
            ceiling for strategies, which is not ranked with them.
    """

    name: str
    query: Query | str
    needs: frozenset[Need]

    @property
    def is_oracle(self) -> bool:
        """Whether it reads the labels of unlabeled rows."""
        return "true_labels" in self.needs

    @property
    def function(self) -> Query:
        """The query function."""
        return resolve_name(self.query) if isinstance(self.query, str) else self.query
