"""The paper's claims and published numbers against a run, worked by hand."""

import numpy as np
import pandas as pd
import pytest

from bench import stats
from bench.report import published
from bench.report.sections import published_section
from bench.stats import claims

SEEDS = (0, 1, 2)


def make_rows(
    group: str, teachers: tuple[str, ...], accuracy: dict[str, tuple[float, ...]], rounds: int
) -> pd.DataFrame:
    """Accuracies of each selector by seed; the teacher lifts them by 0.1, 0.2 and 0.3, later rounds by 0.01 each."""
    rows = []
    for teacher in teachers:
        lift = (0.0, 0.0, 0.0) if teacher == "none" else (0.1, 0.2, 0.3)
        for selector, values in accuracy.items():
            for seed, index in [(s, r) for s in SEEDS for r in range(rounds)]:
                rows.append(
                    {
                        "trial_id": f"{teacher}/{selector}/{seed}",
                        "round": index,
                        "protocol": 1,
                        "dataset": group,
                        "group": group,
                        "teacher": teacher,
                        "student": "s",
                        "distillation": "none" if teacher == "none" else "both",
                        "recipe": "r",
                        "selector": selector,
                        "seed": seed,
                        "n_labeled": 10 * (index + 1),
                        "accuracy": values[seed] + lift[seed] + 0.01 * index,
                        "teacher_accuracy": np.nan,
                    }
                )
    return pd.DataFrame(rows)


ACCURACY = {
    "pcoreset": (0.50, 0.52, 0.54),
    "random": (0.40, 0.41, 0.42),
    "entropy": (0.50, 0.53, 0.53),
    "badge": (0.60, 0.62, 0.64),
}
TEACHERS = ("none", "clip_rn50+zeroshot")


def test_lead_by_hand() -> None:
    ahead = claims.lead(make_rows("g", TEACHERS, ACCURACY, 5)).set_index("selector")
    # Against random the seeds differ by .10, .11, .12: mean .11, standard error .01 / sqrt(3), t(.975, 2) = 4.3027.
    half = 4.302652729911275 * 0.01 / np.sqrt(3)
    assert ahead.loc["random", "difference"] == pytest.approx(0.11)
    assert ahead.loc["random", "low"] == pytest.approx(0.11 - half)
    assert ahead.loc["random", "high"] == pytest.approx(0.11 + half)
    assert ahead["verdict"].to_dict() == {
        "random": "holds",
        "entropy": "undecided",
        "badge": "does not hold",
    }


def test_lift_by_hand() -> None:
    gains = claims.lift(make_rows("g", TEACHERS, ACCURACY, 4))
    assert gains["round"].tolist() == [0, 3]
    assert gains["difference"].tolist() == pytest.approx([0.2, 0.2])
    assert gains["high"].tolist() == pytest.approx([0.2 + 4.302652729911275 * 0.1 / np.sqrt(3)] * 2)
    assert gains["verdict"].tolist() == ["undecided", "undecided"]


def test_overall_verdicts() -> None:
    assert claims.overall(["holds", "holds"]) == "holds"
    assert claims.overall(["holds", "undecided"]) == "holds in part"
    assert claims.overall(["undecided"]) == "undecided"
    assert claims.overall(["holds", "does not hold"]) == "does not hold"
    assert claims.verdict(float("nan"), float("nan")) == "undecided"


def test_conclusions_say_what_was_found() -> None:
    told = claims.conclusions(make_rows("g", TEACHERS, ACCURACY, 5))
    lead, lift = told[claims.LEAD_CLAIM], told[claims.LIFT_CLAIM]
    assert lead.startswith("does not hold: first in 0 of 4 settings with a teacher (badge first in 4 of 4")
    assert lead.endswith("ahead of random; not told apart from entropy; behind badge.")
    both = [make_rows("g", TEACHERS, ACCURACY, 5), make_rows("h", TEACHERS, ACCURACY, 5)]
    counted = claims.conclusions(pd.concat(both, ignore_index=True))[claims.LEAD_CLAIM]
    assert counted.endswith("counted over data and students: badge 0/0/2, entropy 0/2/0, random 2/0/0.")
    assert lift.startswith("undecided: +20.0 to +20.0 points")
    assert claims.conclusions(make_rows("g", ("none",), ACCURACY, 5)) == {}
    without = {name: values for name, values in ACCURACY.items() if name != "pcoreset"}
    assert list(claims.conclusions(make_rows("g", TEACHERS, without, 5))) == [claims.LIFT_CLAIM]


def test_published_numbers_are_those_of_table_1() -> None:
    table = published.published()

    def cell(group: str, adaptation: str, selector: str, column: str) -> float:
        chosen = (table["group"] == group) & (table["adaptation"] == adaptation) & (table["selector"] == selector)
        (value,) = table.loc[chosen, column]
        return float(value)

    assert cell("imagenet", "clap", "pcoreset", "theirs") == pytest.approx(0.6157)
    assert cell("ten", "none", "random", "their_half_width") == pytest.approx(0.0433)
    assert set(table.loc[table["group"] == "imagenet", "round"]) == {7}
    assert set(table.loc[table["group"] == "ten", "round"]) == {15}
    zero_shot = table[(table["group"] == "imagenet") & (table["adaptation"] == "zeroshot")]
    assert zero_shot["theirs"].mean() == pytest.approx((60.69 + 60.58 + 61.07 + 61.16) / 400)


def test_published_numbers_stand_beside_the_same_cells_alone() -> None:
    rows = make_rows("imagenet", TEACHERS, ACCURACY, 8)
    pairs = published.beside(stats.curves(rows))
    assert set(pairs["round"]) == {7}
    assert set(pairs["selector"]) == {"pcoreset", "random"}
    ours = pairs[(pairs["selector"] == "random") & (pairs["teacher"] == "none")].iloc[0]
    assert ours["accuracy"] == pytest.approx(0.48)
    assert ours["difference"] == pytest.approx(0.48 - 0.3336)
    assert ours["apart"]
    told = published_section(pairs)
    assert told is not None
    source = pairs["source"].iloc[0]
    assert [line.removeprefix(f"{source}, ").partition(": ")[0] for line in told.points] == [
        "s, r, clip_rn50+zeroshot",
        "s, r, no distillation",
    ]
    assert "over 2 cells" in told.points[0]
    assert published.beside(stats.curves(make_rows("other", TEACHERS, ACCURACY, 8))).empty
    assert published.beside(stats.curves(make_rows("caltech-70", TEACHERS, ACCURACY, 8))).empty
