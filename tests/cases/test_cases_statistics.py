"""Wrong conclusions from right rows: unequal seeds and rounds, few seeds, many comparisons."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import ROOT, ahead, frames, make_rows, noise, page
from scipy.stats import t

from bench import stats
from bench.report.blocks import ranks_block
from bench.report.pages import Contents, contents_of
from bench.stats import claims
from bench.stats.power import power, seeds_for
from bench.store.table import read_run


@pytest.fixture(scope="module")
def caltech() -> Contents:
    """The report of the committed run, which is not drawn."""
    return contents_of(read_run(ROOT / "results" / "caltech-real"))


def test_case_11_a_lead_over_teachers_with_unequal_seeds() -> None:
    x = make_rows(ahead(0.04), teacher="x+zeroshot", seeds=8)
    y = make_rows(ahead(-0.06), teacher="y+zeroshot", seeds=2)
    found = claims.lead(stats.seed_means(pd.concat([x, y], ignore_index=True)))
    assert found["difference"].to_numpy() == pytest.approx(-0.01, abs=0.006)
    assert set(found["n_seeds"]) == {2}
    assert set(found["n_teachers"]) == {2}
    assert set(found["verdict"]) == {claims.NO_VERDICT}
    # Each teacher has its own lead where all have enough seeds.
    alone = claims.lead(stats.seed_means(x))
    assert set(alone["verdict"]) == {"holds"}


def test_case_11_rounds_that_only_one_teacher_has_do_not_count() -> None:
    short = make_rows(ahead(-0.06), teacher="y+zeroshot", rounds=4)
    long = make_rows(
        lambda selector, dataset, seed, index: ahead(0.04 if index < 4 else 0.5)(selector, dataset, seed, index),
        teacher="x+zeroshot",
        rounds=9,
    )
    found = claims.lead(stats.seed_means(pd.concat([short, long], ignore_index=True)))
    assert found["difference"].to_numpy() == pytest.approx(-0.01, abs=0.01)


def test_case_12_gains_by_student_with_their_own_seeds(caltech: Contents) -> None:
    """The gain of CLAP in round 0 and its interval, worked from the rows with pandas and scipy alone."""
    found = caltech.frames["gain_by_student"]
    first = found[(found["round"] == 0) & found["teacher"].str.endswith("+clap")].set_index("student")
    rows = read_run(ROOT / "results" / "caltech-real").rows.query("round == 0")
    block = ranks_block(caltech.frames)
    assert len(first) == 2
    for student, shown in first.iterrows():
        of_student = rows[rows["student"] == student]
        taught = of_student[of_student["teacher"].str.endswith("+clap")].groupby("seed")["accuracy"].mean()
        gains = taught - of_student[of_student["teacher"] == "none"].groupby("seed")["accuracy"].mean()
        low, high = t.interval(0.95, len(gains) - 1, gains.mean(), gains.sem())
        assert [shown["gain"], shown["low"], shown["high"]] == pytest.approx([gains.mean(), low, high])
        assert shown["n_seeds"] == len(gains) == of_student["seed"].nunique()
        gain, low, high = (f"{100 * value:+.1f}" for value in (gains.mean(), low, high))
        interval = f"(95% interval over seeds {low} to {high}, n = {len(gains)}"
        assert f"{gain} points over no distillation in round 0 {interval}" in block


def test_case_12_nothing_is_pooled_over_unequal_rounds_or_seeds(caltech: Contents) -> None:
    """Of the committed run some students have eight rounds and others three: their gains are not pooled."""
    rows = read_run(ROOT / "results" / "caltech-real").rows
    ends = rows.groupby(["teacher", "student"])["round"].max().groupby("teacher").agg(["min", "max"])
    equal = ends[(ends["min"] == ends["max"]) & (ends.index != "none")]
    assert len(equal) < len(ends) - 1
    assert set(caltech.frames["gain_summary"]["teacher"]) == set(equal.index)
    long = make_rows(lambda *cell: 0.9, rounds=6)
    short = make_rows(lambda *cell: 0.5, student="small", rounds=3)
    plain = [make_rows(lambda *cell: 0.4, teacher="none", student=s, rounds=r) for s, r in (("s", 6), ("small", 3))]
    rows = pd.concat([long, short, *plain], ignore_index=True).assign(pool_entropy=lambda rows: rows["accuracy"])
    pooled = stats.gain_summary(stats.seed_gains(rows))
    assert pooled["round"].tolist() == [0, 1, 2]
    assert pooled["gain"].to_numpy() == pytest.approx(0.3)
    assert stats.pooled_gains(stats.seed_gains(rows)).empty
    entropies = stats.diagnostics(rows, ["pool_entropy"])
    assert set(entropies["round"]) == {0, 1, 2}
    assert entropies["mean"].to_numpy() == pytest.approx((0.9 + 0.5 + 0.4 + 0.4) / 4)
    assert set(entropies["n_configurations"]) == {4}


def coverage(correlation: float, n_seeds: int, n_simulations: int, rng: np.random.Generator) -> tuple[float, float]:
    """How often the intervals of first places and of improvement hold the truth: two equal selectors, six teachers.

    Accuracies of a seed correlate over configurations. The expected count is half of the settings, the probability .5.
    """
    k, rounds = 6, 5
    keys = pd.MultiIndex.from_product([range(k), ("a", "b"), range(n_seeds), range(1, rounds + 1)])
    frame = keys.to_frame(index=False, name=["teacher", "selector", "seed", "round"])
    frame = frame.assign(group="g", student="s", distillation="both", recipe="r", n_labeled=10.0 * frame["round"])
    inside = np.zeros(2)
    for _ in range(n_simulations):
        common = rng.normal(size=(1, 2, n_seeds, 1))
        own = rng.normal(size=(k, 2, n_seeds, 1)) + rng.normal(size=(k, 2, n_seeds, rounds))
        accuracy = np.sqrt(correlation) * common + np.sqrt((1 - correlation) / 2) * own
        seeds = frame.assign(accuracy=(0.5 + 0.01 * accuracy).ravel())
        first = stats.first_place_intervals(seeds).iloc[0]
        inside[0] += first["first_low"] <= k * rounds / 2 <= first["first_high"]
        areas = seeds.groupby([*stats.CONFIGURATION, "selector", "seed"])["accuracy"].mean().rename("area")
        share = stats.improvement(areas.reset_index()).iloc[0]
        inside[1] += share["low"] <= 0.5 <= share["high"]
    first_places, improvement = inside / n_simulations
    return float(first_places), float(improvement)


@pytest.mark.soak
@pytest.mark.parametrize("n_seeds", [5, 10])
@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.6])
def test_case_13_intervals_cover_the_truth_where_configurations_share_seeds(correlation: float, n_seeds: int) -> None:
    first_places, improvement = coverage(correlation, n_seeds, 1_000, np.random.default_rng(n_seeds))
    assert first_places == pytest.approx(0.95, abs=0.02)
    assert improvement == pytest.approx(0.95, abs=0.02)


def test_case_13_seeds_are_drawn_once_for_all_configurations() -> None:
    """Six configurations with the same accuracies: the count of first places moves between all and none."""
    accuracy = {"a": (0.50, 0.60, 0.50, 0.62, 0.51), "b": (0.55, 0.55, 0.56, 0.54, 0.55)}
    parts = [
        make_rows(
            lambda selector, dataset, seed, index: accuracy[selector][seed],
            selectors=("a", "b"),
            teacher=f"t{k}+zeroshot",
            rounds=2,
        )
        for k in range(6)
    ]
    found: Any = stats.first_place_intervals(stats.seed_means(pd.concat(parts, ignore_index=True)))
    limits = found[["first_low", "first_high"]].to_numpy()
    assert (limits[:, 0] < 0.5).all()
    assert (limits[:, 1] > 5.5).all()
    first_places, improvement = coverage(0.6, 5, 25, np.random.default_rng(0))
    assert min(first_places, improvement) > 0.8


def test_case_13_fewer_than_five_seeds_are_not_bootstrapped() -> None:
    rows = make_rows(lambda selector, *cell: 0.5 + noise(selector, *cell), seeds=4)
    assert stats.first_place_intervals(stats.seed_means(rows))[["first_low", "first_high"]].isna().all().all()
    areas = stats.seed_areas(stats.run_areas(rows))
    assert stats.improvement(areas)[["low", "high"]].isna().all().all()
    assert "no interval, which needs 5 seeds in every configuration (n = 4)" in page(rows)


def test_case_14_labels_that_a_selector_needs_for_the_final_accuracy_of_random(caltech: Contents) -> None:
    """Where the mean curve of each selector crosses the last accuracy of random, by hand."""
    found = caltech.frames["labels_saved"]
    frozen = found[found["student"] == "frozen:efficientnet_lite0@128"]
    rows = read_run(ROOT / "results" / "caltech-real").rows
    curves = rows.groupby(["student", "teacher", "selector", "n_labeled"])["accuracy"].mean()
    assert len(frozen) == 15
    for _, shown in frozen.iterrows():
        random, own = (curves[shown["student"], shown["teacher"], name] for name in ("random", shown["selector"]))
        goal, above = random.iloc[-1], int((own.to_numpy() >= random.iloc[-1]).argmax())
        assert own.iloc[above - 1] < goal <= own.iloc[above]
        share = (goal - own.iloc[above - 1]) / (own.iloc[above] - own.iloc[above - 1])
        assert shown["labels"] == pytest.approx(own.index[above - 1] + 70 * share)
        assert shown["reference_labels"] == 560
        assert shown["low"] < shown["labels"] < shown["high"]


def test_case_14_flat_and_unreached_curves() -> None:
    def rising(selector: str, dataset: str, seed: int, index: int) -> float:
        return 0.5 + (0.1 * index if selector == "random" else 0.01 * index) + noise(selector, seed, index)

    def flat(selector: str, dataset: str, seed: int, index: int) -> float:
        return 0.5 + noise(selector, seed, index, size=0.02)

    behind = stats.labels_saved(stats.seed_means(make_rows(rising)))
    assert behind["labels"].isna().all()
    assert not behind["flat"].any()
    assert np.isinf(behind["high"]).all()
    text = page(make_rows(rising))
    assert "| > 50 |" in text
    assert "no interval: every draw of the seeds gives the same count (n = 5)" in text
    assert "| cannot be told |" not in text
    assert "| cannot be told |" in page(make_rows(flat))


def test_case_15_seeds_that_a_difference_needs() -> None:
    assert seeds_for(0.02, 0.0027) == 3
    assert power(0.02 / 0.0027, 3) == pytest.approx(0.9997, abs=1e-4)
    for spread in (0.0001, 0.0027, 0.01, 0.05):
        needed = [seeds_for(d, spread) for d in np.geomspace(0.001, 0.5, 60)]
        known = [n for n in needed if not np.isnan(n)]
        assert known == sorted(known, reverse=True)
        assert np.isnan(needed[: len(needed) - len(known)]).all()
        assert min(known) == 3


def test_case_16_holm_within_a_family() -> None:
    """Raw p of 0.025 for the second largest of five comparisons is 0.05 after Holm: no verdict, interval or not."""
    leads = {"random": 0.02, "entropy": 0.01, "coreset": 0.008, "classbalanced": 0.0045, "badge": 0.002}

    def accuracy(selector: str, dataset: str, seed: int, index: int) -> float:
        return 0.9 - leads.get(selector, 0.0) + 0.002 * (seed - 2) * (selector != "pcoreset")

    found: Any = frames(make_rows(accuracy, selectors=("pcoreset", *leads)))["claim_lead"].set_index("selector")
    # A lead d with deviations -0.004, ..., 0.004 over five seeds: t = d / (sqrt(0.00001) / sqrt(5)).
    raw = {name: 2 * t.sf(lead / (0.00001**0.5 / 5**0.5), 4) for name, lead in leads.items()}
    holm, largest = {}, 0.0
    for rank, name in enumerate(leads):
        largest = max(largest, min(1.0, (5 - rank) * raw[name]))
        holm[name] = largest
    assert found["p"].to_dict() == pytest.approx(raw)
    assert found["p_holm"].to_dict() == pytest.approx(holm)
    assert raw["classbalanced"] < 0.05 < holm["classbalanced"]
    assert found.loc["classbalanced", "low"] > 0
    assert found.loc["classbalanced", "verdict"] == "undecided"
    assert set(found.loc[["random", "entropy", "coreset"], "verdict"]) == {"holds"}


def test_case_16_no_verdict_below_three_seeds() -> None:
    """Two equal leads of six points have an interval of +6.0 to +6.0."""
    rows = make_rows(lambda selector, *cell: 0.5 + 0.06 * (selector == "pcoreset"), seeds=2)
    plain = make_rows(lambda selector, *cell: 0.4, teacher="none", seeds=2)
    both = frames(pd.concat([rows, plain], ignore_index=True))
    assert set(both["claim_lead"]["verdict"]) == set(both["claim_lift"]["verdict"]) == {claims.NO_VERDICT}
    assert not both["margins"]["clear"].any()
    assert not both["wins"][["clear_wins", "clear_losses"]].any().any()
    assert not both["area_comparison"]["verdict"].any()
    assert (both["area_comparison"][["better", "not_different", "worse"]] == "").all().all()
    text = page(pd.concat([rows, plain], ignore_index=True))
    assert f"{claims.LEAD_CLAIM}: {claims.NO_VERDICT}: first in 4 of 4" in text
    assert "no first place is called clear below 3 seeds (n = 2)" in text
    conclusions = [line for line in text.splitlines() if line.startswith(f"- {claims.LIFT_CLAIM}")]
    assert len(conclusions) == 1
    assert "(n = 2; no verdict below 3 seeds)" in conclusions[0]


def test_case_16_equal_leads_are_not_certain() -> None:
    """Three leads of six points each may be chance: accuracies are counts of images. Six may not, by the sign test."""
    for seeds, p in ((3, 0.25), (5, 0.0625), (6, 0.03125)):
        rows = make_rows(
            lambda selector, *cell: 0.5 + 0.06 * (selector == "pcoreset"),
            selectors=("random", "pcoreset"),
            seeds=seeds,
        )
        (found,) = claims.lead(stats.seed_means(rows)).to_dict("records")
        assert (found["p_holm"], found["verdict"]) == (p, "holds" if p < 0.05 else "undecided")


def test_case_16_equal_accuracies_are_no_difference() -> None:
    """Differences of rounding alone, the same in every seed, are 0."""
    rows = make_rows(lambda selector, *cell: 0.1 + 0.2 if selector == "pcoreset" else 0.3)
    found = claims.lead(stats.seed_means(rows))
    assert set(found["verdict"]) == {"undecided"}
    assert set(found["p_holm"]) == {1.0}
