"""The frames of a run, each computed once, and what a table of the report is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from bench import stats
from bench.columns import ACCURACY
from bench.display import Display
from bench.report.cells import MEAN_ACCURACY, Table, rank_table
from bench.report.metrics import METRICS, Metric

Show = Callable[[pd.DataFrame, Display], list[Table]]


@dataclass(frozen=True)
class TableSpec:
    """A table of the report.

    Attributes:
        compute: the frame, from the rows or from other frames.
        caption: of the LaTeX table.
        section: title of the section that shows the table; the table is only a file without it.
        show: the frame as tables of that section, with the labels of names.
    """

    compute: Callable[["Frames"], pd.DataFrame]
    caption: str
    section: str = ""
    show: Show = lambda frame, display: []


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of a run by name, each computed once, when it is first needed.

    Attributes:
        rows: of settings that every selector has finished; checked by ``stats.check_rows``.
        picks: train rows that each row queried, under the index of ``rows``.
        control: the selector against which others are tested.
        tables: how each frame is computed.
        subject: the selector that the headline is about; None for the leader.
        budgets: numbers of labels of the main table; none for its default columns.
        display: labels of names, which stand on pages and in figures and not in the frames.
        oracles: rows of oracles in the configurations, rounds and seeds of ``rows``; None without any.
        metric: whose values are the accuracies of ``rows``.
    """

    rows: pd.DataFrame
    picks: pd.Series
    control: str
    tables: Mapping[str, TableSpec]
    subject: str | None = None
    budgets: tuple[str, ...] = ()
    display: Display = field(default_factory=Display)
    oracles: pd.DataFrame | None = None
    metric: Metric = METRICS[ACCURACY]
    _computed: dict[str, pd.DataFrame] = field(default_factory=dict, init=False, repr=False)

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._computed:
            self._computed[name] = self.tables[name].compute(self)
        return self._computed[name]

    def items(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Every table, in the order of ``tables``."""
        return ((name, self[name]) for name in self.tables)

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """``stats.seed_means``."""
        return stats.seed_means(self.rows)

    @property
    def baseline(self) -> str:
        """The selector from which curves are shown as differences: random, else the control."""
        return stats.BASELINE if stats.BASELINE in set(self.rows["selector"]) else self.control

    @property
    def headline(self) -> str:
        """First places of the subject, with its label."""
        subject = None if self.subject is None else self.display.selector(self.subject)
        places = stats.headline(self.display.applied(self["rank_table"]), subject)
        return f"{places}, {self.metric.order}" if self.metric.order else places

    @property
    def shown_ranks(self) -> Table:
        """The rank table with the intervals of its first places."""
        measure = self.metric.worded(MEAN_ACCURACY)
        return rank_table(self["rank_table"], self["first_places"], self.display, measure=measure)

    @property
    def confidence(self) -> str:
        """How certain the headline is."""
        subject = None if self.subject is None else self.display.selector(self.subject)
        ranks, intervals = (self.display.applied(self[name]) for name in ("rank_table", "first_places"))
        return stats.headline_confidence(ranks, intervals, subject)

    @cached_property
    def run_areas(self) -> pd.DataFrame:
        """``stats.run_areas``."""
        return stats.run_areas(self.rows)

    @cached_property
    def areas(self) -> pd.DataFrame:
        """``stats.seed_areas``."""
        return stats.seed_areas(self.run_areas)

    @cached_property
    def reference_seeds(self) -> pd.DataFrame:
        """``stats.reference_seeds``."""
        return stats.reference_seeds(self.rows)

    @cached_property
    def oracle_seeds(self) -> pd.DataFrame:
        """``stats.seed_means`` of the oracles; empty without any."""
        return stats.seed_means(self.rows.iloc[:0] if self.oracles is None else self.oracles)

    @cached_property
    def oracle_areas(self) -> pd.DataFrame:
        """``stats.seed_areas`` of the oracles; empty without any."""
        return stats.seed_areas(stats.run_areas(self.rows.iloc[:0] if self.oracles is None else self.oracles))

    @cached_property
    def blocks(self) -> pd.DataFrame:
        """``stats.blocks``."""
        return stats.blocks(self.rows)

    @cached_property
    def gains(self) -> pd.DataFrame:
        """``stats.seed_gains``."""
        return stats.seed_gains(self.rows)
