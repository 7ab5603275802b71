"""The definition of a selector: a query function, its name and the arrays that it reads. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Literal, get_args

Need = Literal["student_probabilities", "teacher_probabilities", "features"]
"""An array that a selector may declare."""

NEEDS: tuple[Need, ...] = get_args(Need)

STUDENT: frozenset[Need] = frozenset({"student_probabilities"})
TEACHER: frozenset[Need] = frozenset({"teacher_probabilities"})
FEATURES: frozenset[Need] = frozenset({"features"})

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
        needs: the arrays of the view that it reads; only these are computed for it.
    """

    name: str
    query: Query | str
    needs: frozenset[Need]

    @property
    def function(self) -> Query:
        """The query function."""
        return resolve_name(self.query) if isinstance(self.query, str) else self.query
