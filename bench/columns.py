"""The columns of a table of rounds: name, kind and display label of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["identity", "measured", "outcome", "seconds", "memory", "diagnostic", "provenance"]

Row = dict[str, Any]
"""One (trial, round): the columns by name, and PICKED."""


@dataclass(frozen=True)
class Column:
    """A column of a table of rounds.

    Attributes:
        name: in files and frames.
        kind: its use.
        label: as displayed.
    """

    name: str
    kind: Kind
    label: str


def _of(kind: Kind, **labels: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, label) for name, label in labels.items())


TABLE_COLUMNS: tuple[Column, ...] = (
    *_of(
        "identity",
        trial_id="trial",
        round="round",
        protocol="protocol",
        dataset="data set",
        group="data",
        teacher="teacher",
        student="student",
        distillation="distilled on",
        recipe="recipe",
        selector="selector",
        seed="seed",
        n_labeled="labels",
        n_classes="classes",
        query_size="query size",
    ),
    *_of("measured", accuracy="accuracy", teacher_accuracy="teacher alone"),
    *_of(
        "outcome",
        macro_accuracy="macro accuracy",
        worst_class_accuracy="worst-class accuracy",
        wasted_labels="wasted labels",
        transfer_accuracy="transfer accuracy",
        all_labels_accuracy="all labels",
        probe_accuracy="linear probe of the teacher's features",
        clap_accuracy="CLAP on the teacher's features",
        forward_passes="images through the student",
    ),
    *_of(
        "seconds",
        teacher_seconds="teacher, s",
        train_seconds="train, s",
        predict_seconds="predict, s",
        select_seconds="select, s",
    ),
    *_of("memory", peak_rss_bytes="peak MB"),
    *_of(
        "diagnostic",
        picks_coverage="classes among the picks",
        labeled_coverage="classes with a label",
        labeled_balance="balance of the labels",
        picks_feature_diversity="feature diversity of the picks",
        picks_probability_diversity="probability diversity of the picks",
        picks_entropy="entropy of the picks",
        pool_entropy="entropy of the pool",
        picks_teacher_accuracy="teacher accuracy on the picks",
        pool_teacher_accuracy="teacher accuracy on the pool",
        student_ece="calibration error of the student",
        student_nll="negative log-likelihood of the student",
        teacher_ece="calibration error of the teacher",
        teacher_nll="negative log-likelihood of the teacher",
        label_head_accuracy="label head alone",
        distill_head_accuracy="distill head alone",
        misled="confident mistakes of the teacher",
        misled_learned="of these, unlabeled: learned by the student",
        misled_labeled="of these: labeled",
        misled_mended="of these, labeled: corrected",
    ),
    *_of("provenance", commit="commit", versions="versions", device="device"),
)
"""Columns in the order of the table. Outcomes and diagnostics are empty in the rows of a grid that ran without them."""

LABELS: Mapping[str, str] = {column.name: column.label for column in TABLE_COLUMNS}


def names(*kinds: Kind) -> tuple[str, ...]:
    """Names of the columns of these kinds, in the order of the table."""
    return tuple(column.name for column in TABLE_COLUMNS if column.kind in kinds)


COLUMNS = tuple(LABELS)
IDENTITY = names("identity")
MEASURED = names("measured")
OUTCOMES = names("outcome")
SECONDS = names("seconds")
COSTS = names("seconds", "memory")
DIAGNOSTICS = names("diagnostic")
PROVENANCE = names("provenance")

ACCURACY = "accuracy"
"""The column that reports rank by default."""

HEADS = ("label_head_accuracy", "distill_head_accuracy")
"""Diagnostics of the two heads of a student that is distilled; its accuracy is that of their mixture."""

REFERENCES: Mapping[str, str] = {
    "all_labels_accuracy": "reference: all labels",
    "teacher_accuracy": "reference: teacher alone",
    "probe_accuracy": "reference: linear probe",
    "clap_accuracy": "reference: CLAP",
}
"""Columns that are reference lines, with their labels in figures and in the main table."""

FIRST_DIAGNOSTICS = ("picks_coverage", "picks_feature_diversity", "picks_entropy", "student_ece")
"""Diagnostics that a report shows first."""

CONFIGURATION = ("group", "teacher", "student", "distillation", "recipe")
"""Columns held fixed while selectors are compared; the data sets of a group are averaged."""

SETTING = (*CONFIGURATION, "round")
"""A configuration at a query round (round >= 1, since all selectors share round 0): the cell that is ranked."""

PICKED = "picked"
"""Key of the train rows bought at the end of a round: in the rows on disk only."""


def seconds_of(row: Row) -> float:
    """Seconds of a round: the sum over its parts."""
    return sum(row.get(name) or 0.0 for name in SECONDS)
