"""What a report ranks and plots: accuracy, or another measure of its rows in place of it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from activekd.errors import InputError, unknown
from bench.columns import ACCURACY, CONFIGURATION
from bench.store.table import Run

NAMED = 3
"""Configurations that a remark names."""


@dataclass(frozen=True)
class Metric:
    """A measure of rows that is ranked, the larger the better.

    Attributes:
        name: on the command line; a column of a table of rounds.
        label: as text and axes name the values.
        plural: of the label.
        of: the values of rows, as fractions; NaN where it is not measured.
        caveat: above the first table; empty for accuracy.
        order: how the headline names the ranking; empty for accuracy.
    """

    name: str
    label: str
    plural: str
    of: Callable[[pd.DataFrame], pd.Series]
    caveat: str = ""
    order: str = ""

    @property
    def is_accuracy(self) -> bool:
        """Whether it is that of every report without ``--metric``."""
        return self.name == ACCURACY

    @property
    def axis(self) -> str:
        """The name of an axis of its values in percent."""
        return self.worded("test accuracy, %")

    def worded(self, text: str) -> str:
        """A text about accuracy as one about this metric.

        >>> METRICS["macro_accuracy"].worded("Mean test accuracy; accuracies")
        'Mean test macro accuracy; macro accuracies'
        >>> METRICS["wasted_labels"].worded("Test accuracy")
        'Share of labels not wasted'
        """
        if self.is_accuracy:
            return text

        def other(found: re.Match[str]) -> str:
            test = (found[1] or "").lower() if self.label.endswith(ACCURACY) else ""
            out = test + (self.label if found[2].endswith("y") else self.plural)
            return out[0].upper() + out[1:] if found[0][0].isupper() else out

        return re.sub(r"\b([Tt]est )?([Aa]ccuracy|[Aa]ccuracies)\b", other, text)


def _column(name: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda rows: rows[name].astype("float64") if name in rows else pd.Series(float("nan"), index=rows.index)


def _not_wasted(rows: pd.DataFrame) -> pd.Series:
    """Of labels that are equally many for all selectors of a setting: the fewer wasted, the larger the share."""
    return 1 - _column("wasted_labels")(rows) / rows["n_labeled"]


_LEFT_OUT = "What is about accuracy alone is left out: reference lines, both heads, the paper's claims and numbers."

METRICS: Mapping[str, Metric] = {
    ACCURACY: Metric(ACCURACY, ACCURACY, "accuracies", _column(ACCURACY)),
    "macro_accuracy": Metric(
        "macro_accuracy",
        "macro accuracy",
        "macro accuracies",
        _column("macro_accuracy"),
        f"Ranked and plotted: macro accuracy, the mean over classes of the accuracy on their test images. {_LEFT_OUT}",
        "by macro accuracy",
    ),
    "worst_class_accuracy": Metric(
        "worst_class_accuracy",
        "worst-class accuracy",
        "worst-class accuracies",
        _column("worst_class_accuracy"),
        f"Ranked and plotted: worst-class accuracy, the accuracy on the test images of the worst class. {_LEFT_OUT}",
        "by worst-class accuracy",
    ),
    "wasted_labels": Metric(
        "wasted_labels",
        "share of labels not wasted",
        "shares of labels not wasted",
        _not_wasted,
        f"Ranked: wasted labels, the fewest first. Shown: the share of labels not wasted. {_LEFT_OUT}",
        "by wasted labels, the fewest first",
    ),
}
"""Metrics by name."""


def by_metric(run: Run, name: str) -> tuple[Run, Metric, list[str]]:
    """A run with the values of a metric as its accuracies, the metric, and caveats.

    Configurations of which a row lacks the metric are left out. The teacher's accuracy, which is no value of another
    metric, is left out too.

    Args:
        run: rows and plan.
        name: of the metric.

    Raises:
        InputError: an unknown metric, or one that no configuration has in all of its rows.
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    metric = METRICS[name]
    if metric.is_accuracy:
        return run, metric, []
    keys = list(CONFIGURATION)
    lacking = run.rows.loc[metric.of(run.rows).isna(), keys].drop_duplicates()
    n = len(run.rows[keys].drop_duplicates())
    if len(lacking) == n:
        measured = [other.name for other in METRICS.values() if other.of(run.rows).notna().any()]
        raise InputError(
            f"--metric {name}: no configuration of {run.name} has it in all of its rows; expected: one that is "
            f"measured there: {', '.join(measured)}"
        )
    is_lacking = pd.MultiIndex.from_frame(run.plan[keys]).isin(pd.MultiIndex.from_frame(lacking))
    kept = run.restricted_to(run.plan.loc[~is_lacking, "trial_id"].unique().tolist(), run.part)
    rows = kept.rows.assign(accuracy=metric.of(kept.rows), teacher_accuracy=float("nan"))
    caveats = [metric.caveat]
    if len(lacking):
        named = "; ".join(" ".join(map(str, row)) for row in lacking.head(NAMED).itertuples(index=False))
        more = "; ..." if len(lacking) > NAMED else ""
        caveats.append(
            f"{len(lacking)} of {n} configurations are left out, since rows of them lack {name}: {named}{more}."
        )
    return replace(kept, rows=rows), metric, caveats
