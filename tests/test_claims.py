"""The paper's claims and published numbers against a run, worked by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import stats
from bench.display import Display
from bench.report.published import published_cells
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
    "badge": (0.60, 0.62, 0.642),
}
TEACHERS = ("none", "clip_rn50+zeroshot")


def lead(rows: pd.DataFrame) -> pd.DataFrame:
    return claims.lead(stats.seed_means(rows))


def lift(rows: pd.DataFrame) -> pd.DataFrame:
    return claims.lift(stats.gain_summary(stats.seed_gains(rows), stats.GAIN_BY_STUDENT))


def conclusions(rows: pd.DataFrame) -> dict[str, str]:
    seeds = stats.seed_means(rows)
    curves = stats.curves(seeds)
    return claims.conclusions(stats.ranks(curves, stats.margins(curves, seeds)), lead(rows), lift(rows), Display())


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    return stats.compare_with_published(stats.curves(stats.seed_means(rows)), published_cells())


def test_lead_by_hand() -> None:
    ahead = lead(make_rows("g", TEACHERS, ACCURACY, 5)).set_index("selector")
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
    gains = lift(make_rows("g", TEACHERS, ACCURACY, 4))
    assert gains["round"].tolist() == [0, 3]
    assert gains["difference"].tolist() == pytest.approx([0.2, 0.2])
    assert gains["high"].tolist() == pytest.approx([0.2 + 4.302652729911275 * 0.1 / np.sqrt(3)] * 2)
    assert gains["verdict"].tolist() == ["undecided", "undecided"]


def test_the_lead_starts_after_the_early_rounds() -> None:
    """PCoreSet is .1 behind in rounds 1 and 2 and .1 ahead in round 3: round 3 alone counts."""
    rows = make_rows("g", TEACHERS, {"pcoreset": (0.5, 0.501, 0.499), "random": (0.5, 0.5, 0.5)}, 4)
    change = np.where(rows["round"] > 2, 0.1, -0.1) * (rows["selector"] == "pcoreset")
    (ahead,) = lead(rows.assign(accuracy=rows["accuracy"] + change)).to_dict("records")
    assert ahead["difference"] == pytest.approx(0.1)
    assert ahead["verdict"] == "holds"


def test_overall_verdicts() -> None:
    assert claims.overall(["holds", "holds"]) == "holds"
    assert claims.overall(["holds", "undecided"]) == "holds in part"
    assert claims.overall(["undecided"]) == "undecided"
    assert claims.overall(["holds", "does not hold"]) == "does not hold"
    assert claims.overall(["holds", claims.NO_VERDICT]) == "holds in part"
    assert claims.overall([claims.NO_VERDICT]) == claims.NO_VERDICT
    assert claims.verdict(0.1, float("nan")) == claims.NO_VERDICT
    assert [claims.verdict(d, p) for d, p in ((0.1, 0.04), (-0.1, 0.04), (0.1, 0.06))] == [
        "holds",
        "does not hold",
        "undecided",
    ]


def test_conclusions_by_hand() -> None:
    one = conclusions(make_rows("g", TEACHERS, ACCURACY, 5))
    assert one[claims.LEAD_CLAIM].startswith(
        "does not hold: first in 0 of 4 settings with a teacher (badge first in 4 of 4"
    )
    assert one[claims.LEAD_CLAIM].endswith("ahead of random; not significantly different from entropy; behind badge.")
    both = [make_rows("g", TEACHERS, ACCURACY, 5), make_rows("h", TEACHERS, ACCURACY, 5)]
    counted = conclusions(pd.concat(both, ignore_index=True))[claims.LEAD_CLAIM]
    assert counted.endswith("counted over data and students: badge 0/0/2, entropy 0/2/0, random 2/0/0.")
    assert one[claims.LIFT_CLAIM].startswith("undecided, after Holm's correction")
    assert "g, s +20.0 to +20.0 points (n = 3; 0 of 2 above 0, 0 below)" in one[claims.LIFT_CLAIM]
    assert conclusions(make_rows("g", ("none",), ACCURACY, 5)) == {}
    without = {name: values for name, values in ACCURACY.items() if name != "pcoreset"}
    assert list(conclusions(make_rows("g", TEACHERS, without, 5))) == [claims.LIFT_CLAIM]


def test_published_numbers_are_those_of_table_1() -> None:
    table = published_cells()

    def cell(group: str, adaptation: str, selector: str, column: str) -> float:
        chosen = (table["group"] == group) & (table["adaptation"] == adaptation) & (table["selector"] == selector)
        (value,) = table.loc[chosen, column]
        return float(value)

    assert cell("imagenet", "clap", "pcoreset", "published") == pytest.approx(0.6157)
    assert cell("ten", "none", "random", "published_half_width") == pytest.approx(0.0433)
    assert set(table.loc[table["group"] == "imagenet", "round"]) == {7}
    assert set(table.loc[table["group"] == "ten", "round"]) == {15}
    zero_shot = table[(table["group"] == "imagenet") & (table["adaptation"] == "zeroshot")]
    assert zero_shot["published"].mean() == pytest.approx((60.69 + 60.58 + 61.07 + 61.16) / 400)


def test_published_numbers_are_compared_with_the_same_cells_only() -> None:
    same = make_rows("imagenet", ("none", "clip_rn50+zeroshot"), ACCURACY, 8).assign(
        student="resnet50_dino", n_labeled=lambda rows: 1_000 * (rows["round"] + 1)
    )
    pairs = compared(same)
    assert set(pairs["round"]) == {7}
    assert set(pairs["selector"]) == {"pcoreset", "random"}
    assert set(pairs["teacher"]) == {"none", "clip_rn50+zeroshot"}
    ours = pairs[(pairs["selector"] == "random") & (pairs["teacher"] == "none")].iloc[0]
    assert ours["accuracy"] == pytest.approx(0.48)
    assert ours["difference"] == pytest.approx(0.48 - 0.3336)
    assert ours["n_seeds"] == 3
    summary: Any = stats.published_summary(pairs).set_index("teacher")
    # Seeds of pcoreset without a teacher: .57, .59, .61, published .3341; of random: .47, .48, .49, published .3336.
    assert summary.loc["none", ["min", "max", "n_cells"]].tolist() == pytest.approx([0.1464, 0.2559, 2])
    assert summary.loc["none", "mean"] == pytest.approx((0.1464 + 0.2559) / 2)


@pytest.mark.parametrize(
    ("accuracy", "high", "published", "half_width", "disjoint"),
    [
        (0.50, 0.52, 0.55, 0.02, True),  # .52 is below .53
        (0.50, 0.52, 0.55, 0.04, False),  # .52 is above .51
        (0.60, 0.62, 0.55, 0.02, True),  # .58 is above .57
        (0.50, 0.52, 0.55, np.nan, True),  # a point at .55
        (0.50, 0.56, 0.55, np.nan, False),
        (0.50, np.nan, 0.51, 0.02, False),  # one seed: a point at .50
        (0.50, np.nan, 0.53, 0.02, True),
    ],
)
def test_intervals_of_this_run_and_the_published_one(
    accuracy: float, high: float, published: float, half_width: float, disjoint: bool
) -> None:
    keys = {"group": "g", "student": "s", "teacher": "n+clap", "selector": "a", "round": 1, "n_labeled": 20.0}
    run = {"recipe": "r", "distillation": "both", "low": 2 * accuracy - high, "n_seeds": 3}
    curves = pd.DataFrame([{**keys, **run, "accuracy": accuracy, "high": high}])
    cell = {"source": "paper", "note": ""}
    cells = pd.DataFrame([{**keys, **cell, "published": published, "published_half_width": half_width}])
    found = stats.compare_with_published(curves, cells)
    assert found["disjoint"].tolist() == [disjoint]
    assert stats.published_summary(found)["n_overlap"].tolist() == [int(not disjoint)]
