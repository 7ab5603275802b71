"""Wrong conclusions from right rows: unequal seeds and rounds, few seeds, many comparisons."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from typer.testing import CliRunner

from bench import stats
from bench.columns import DIAGNOSTICS, HEADS
from bench.grid import app
from bench.report.blocks import ranks_block
from bench.report.frames import Frames
from bench.report.pages import Contents, contents_of, frames_of
from bench.report.published import published_cells
from bench.report.rendering import run_markdown
from bench.report.tables import TABLES
from bench.spec import PROTOCOL, SPECS
from bench.stats import claims
from bench.stats.power import power, seeds_for
from bench.store.table import Run, read_run

ROOT = Path(__file__).parents[2]
SELECTORS = ("random", "entropy", "pcoreset")
TEACHER = "clip_rn50+zeroshot"


def make_rows(
    accuracy: Any,
    *,
    selectors: tuple[str, ...] = SELECTORS,
    teacher: str = TEACHER,
    student: str = "s",
    group: str = "g",
    datasets: tuple[str, ...] = ("d",),
    seeds: int = 5,
    rounds: int = 5,
) -> pd.DataFrame:
    """Rows of one configuration; ``accuracy(selector, dataset, seed, round)`` is a fraction."""
    rows = []
    for dataset in datasets:
        for selector in selectors:
            for seed, index in [(s, r) for s in range(seeds) for r in range(rounds)]:
                rows.append(
                    {
                        "trial_id": f"{group}/{dataset}/{teacher}/{student}/{selector}/{seed}",
                        "round": index,
                        "protocol": PROTOCOL,
                        "dataset": dataset,
                        "group": group,
                        "teacher": teacher,
                        "student": student,
                        "distillation": "none" if teacher == "none" else "both",
                        "recipe": "r",
                        "selector": selector,
                        "seed": seed,
                        "n_labeled": 10 * (index + 1),
                        "n_classes": 10,
                        "query_size": 10,
                        "accuracy": accuracy(selector, dataset, seed, index),
                        "teacher_accuracy": np.nan if teacher == "none" else 0.9,
                        "teacher_seconds": 0.0,
                        "train_seconds": 1.0,
                        "predict_seconds": 0.5,
                        "select_seconds": 0.1,
                        "peak_rss_bytes": 10**9,
                        "commit": "0" * 12,
                        "versions": "python 3",
                        "device": "cpu",
                    }
                )
    return pd.DataFrame(rows)


def run_of(rows: pd.DataFrame) -> Run:
    last = rows.groupby("trial_id")["round"].transform("max")
    picks = pd.Series(
        [
            np.arange(10 * index, 10 * index + 10 * (index < end), dtype=np.int64)
            for index, end in zip(rows["round"], last, strict=True)
        ],
        dtype=object,
    )
    columns = ["trial_id", "dataset", *stats.CONFIGURATION, "selector", "seed", "round"]
    return Run("made", rows, rows[columns], picks)


def frames(rows: pd.DataFrame) -> Frames:
    return frames_of(run_of(rows.reset_index(drop=True)))


def text_of(contents: Contents) -> str:
    return run_markdown(contents.page, contents.parts)


def page(rows: pd.DataFrame) -> str:
    return text_of(contents_of(run_of(rows.reset_index(drop=True))))


def noise(*key: Any, size: float = 0.005) -> float:
    """A fixed number of mean 0 for a cell."""
    return float(np.random.default_rng(_seed(key)).normal(0, size))


def _seed(key: tuple[Any, ...]) -> int:
    return sum((i + 1) * ord(letter) for i, letter in enumerate(str(key))) % 2**32


@pytest.fixture(scope="module")
def caltech() -> Contents:
    """The report of the committed run, which is not drawn."""
    return contents_of(read_run(ROOT / "results" / "caltech-real"))


def ahead(lead: float) -> Any:
    return lambda selector, dataset, seed, index: 0.5 + lead * (selector == "pcoreset") + noise(selector, seed, index)


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
    assert "no interval below 5 seeds in every configuration (n = 4)" in page(rows)


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


def test_case_17_permutation_p_of_few_blocks() -> None:
    """Three blocks of six selectors, from real runs."""
    selectors = ["badge", "classbalanced", "coreset", "entropy", "pcoreset", "random"]
    accuracies = [
        [0.912281, 0.917750, 0.908978, 0.906811, 0.919401, 0.892054],
        [0.913829, 0.907946, 0.913622, 0.911662, 0.913725, 0.893086],
        [0.875851, 0.868111, 0.839422, 0.858720, 0.874200, 0.807843],
    ]
    index = pd.MultiIndex.from_tuples(
        [(3, "g", teacher, "s", "both", "r", "d") for teacher in ("none", "zeroshot", "clap")],
        names=["round", "group", "teacher", "student", "distillation", "recipe", "dataset"],
    )
    found = stats.friedman(pd.DataFrame(accuracies, index, selectors)).set_index("round")
    assert found.loc[3, "n_blocks"] == 3
    assert found.loc[3, "f_p"] == pytest.approx(0.0086, abs=0.001)
    assert found["permuted"].all()


def test_case_17_tests_are_left_out_for_fewer_than_five_data_sets() -> None:
    def accuracy(selector: str, dataset: str, seed: int, index: int) -> float:
        return 0.5 + 0.1 * (selector == "pcoreset") + noise(selector, dataset, seed, index, size=0.02)

    few = make_rows(accuracy, datasets=("a", "b", "c", "d"))
    for name in ("friedman", "nemenyi", "wilcoxon", "mean_ranks"):
        assert frames(few)[name].empty, name
    assert "tests are left out: the run has fewer than 5 data sets" in page(few)
    five = frames(make_rows(accuracy, datasets=("a", "b", "c", "d", "e")))
    assert five["friedman"]["permuted"].all()
    # Five blocks: of 2^5 changes of signs two are as extreme.
    assert five["wilcoxon"]["p"].min() == 2 / 2**5
    assert (five["nemenyi"]["p"] <= 1).all()


def test_case_18_selectors_are_ranked_on_the_same_settings() -> None:
    """``entropy`` ran in the easy block alone: its mean accuracy is not that of easier settings."""
    easy = make_rows(lambda selector, *cell: {"random": 0.9, "entropy": 0.85, "pcoreset": 0.8}[selector], group="easy")
    hard = make_rows(lambda selector, *cell: 0.3, group="hard", selectors=("random", "pcoreset"))
    rows = pd.concat([easy, hard], ignore_index=True)
    table = frames(rows)["rank_table"].set_index("selector")
    assert table["mean_accuracy"].to_dict() == pytest.approx({"random": 0.9, "entropy": 0.85, "pcoreset": 0.8})
    assert table["mean_rank"].to_dict() == {"random": 1.0, "entropy": 2.0, "pcoreset": 3.0}
    assert table["partial"].to_dict() == {"random": False, "entropy": True, "pcoreset": False}
    assert table["settings"].to_dict() == {"random": 8, "entropy": 4, "pcoreset": 8}
    text = page(rows)
    assert "| entropy (partial) |" in text
    assert "over the 4 settings in which every selector took part" in text


def test_case_18_selectors_without_a_common_setting() -> None:
    one = make_rows(lambda *cell: 0.5, group="one", selectors=("random", "entropy"))
    other = make_rows(lambda *cell: 0.5, group="other", selectors=("badge", "pcoreset"))
    rows = pd.concat([one, other], ignore_index=True)
    table = frames(rows)["rank_table"]
    assert table["partial"].all()
    assert table["mean_rank"].isna().all()
    contents = contents_of(run_of(rows))
    next(drawing for drawing in contents.drawings if drawing.stem == "ranks").draw()


def test_case_19_clearly_first_is_clear_of_every_other() -> None:
    shift = {"a": (0, 0, 0, 0, 0), "b": (0.001, -0.001, 0, 0.001, -0.001), "c": (0.04, -0.04, 0.03, -0.03, 0)}
    middle = {"a": 0.700, "b": 0.690, "c": 0.683}
    rows = make_rows(
        lambda selector, dataset, seed, index: middle[selector] + shift[selector][seed],
        selectors=("a", "b", "c"),
        rounds=2,
    )
    (lead,) = frames(rows)["margins"].to_dict("records")
    assert (lead["first"], lead["second"]) == ("a", "b")
    assert lead["low"] > 0
    assert not lead["clear"]
    narrow = rows.assign(accuracy=rows["accuracy"].where(rows["selector"] != "c", 0.683 + 0.001 * (rows["seed"] % 2)))
    assert frames(narrow)["margins"]["clear"].all()


def test_case_20_only_the_same_cells_are_compared_with_published_ones() -> None:
    def published(**identity: Any) -> pd.DataFrame:
        chosen = {"student": "resnet50_dino", "group": "imagenet", "datasets": ("imagenet",), **identity}
        rows = make_rows(lambda *cell: 0.6, rounds=8, seeds=3, **chosen)
        rows = rows.assign(n_labeled=1_000 * (rows["round"] + 1))
        curves = stats.curves(stats.seed_means(rows))
        return stats.compare_with_published(curves, stats.of_data_sets(published_cells(), rows))

    same = published()
    assert set(same["selector"]) == {"random", "pcoreset"}
    assert same["published"].max() == pytest.approx(0.6116)
    assert published(student="mobilenetv2_100").empty
    assert published(teacher="siglip_vitb16+zeroshot").empty
    assert published(datasets=("imagenet?size=all",)).empty, "another pool"
    assert set(published_cells()["source"]) == {"PCoreSet paper, Table 1 (arXiv 2506.00910), 5 runs"}


ABSENT = {
    "a run without teacher": lambda rows: rows[rows["teacher"] == "none"],
    "no distillation": lambda rows: rows[rows["teacher"] != "none"],
    "random": lambda rows: rows[rows["selector"] != "random"],
    "pcoreset": lambda rows: rows[rows["selector"] != "pcoreset"],
    "other selectors": lambda rows: rows[rows["selector"] == "pcoreset"],
    "other seeds": lambda rows: rows[rows["seed"] == 0],
    "query rounds": lambda rows: rows[rows["round"] == 0],
    "late rounds": lambda rows: rows[rows["round"] <= 1],
    "diagnostics": lambda rows: rows.drop(columns=list(DIAGNOSTICS)),
    "both kinds of images": lambda rows: rows[rows["teacher"] != "none"].assign(distillation="unlabeled"),
    "any row": lambda rows: rows.iloc[:0],
}


@pytest.mark.parametrize("kind", ABSENT)
def test_case_32_every_table_is_built_where_a_kind_is_absent(kind: str) -> None:
    taught = make_rows(lambda selector, *cell: 0.5 + noise(selector, *cell), seeds=2, rounds=4)
    plain = make_rows(lambda selector, *cell: 0.4 + noise(selector, *cell), teacher="none", seeds=2, rounds=4)
    rows = pd.concat([taught, plain], ignore_index=True)
    rows = rows.assign(**dict.fromkeys(DIAGNOSTICS, 0.1))
    rows = ABSENT[kind](rows).reset_index(drop=True)
    control = claims.control_of(rows) if len(rows) else "random"
    found = Frames(rows, run_of(rows).picks, control, TABLES)
    for name, spec in TABLES.items():
        assert isinstance(found[name], pd.DataFrame), name
        assert all(len(row) == len(table.header) for table in spec.show(found[name]) for row in table.rows), name
    assert isinstance(ranks_block(found), str)


def test_case_51_time_per_pick_includes_the_prediction_of_the_pool() -> None:
    rows = make_rows(lambda *cell: 0.5, rounds=3)
    # The last round predicts the test split alone, .5 s; the others the pool too, 2 s more where the selector reads it.
    reads = (rows["selector"] != "random") & (rows["round"] < 2)
    rows = rows.assign(predict_seconds=np.where(reads, 2.5, 0.5))
    found: Any = stats.seconds_per_pick(rows).set_index("selector")
    assert found["seconds_per_pick"].to_dict() == pytest.approx({"random": 0.01, "entropy": 0.21, "pcoreset": 0.21})
    assert found["selection_per_pick"].to_numpy() == pytest.approx(0.01)
    # A round of random takes 0.4 s less for the test split by chance: random reads no prediction.
    slow = rows.assign(predict_seconds=np.where(rows["round"] < 2, 2.5, 0.1))
    assert stats.seconds_per_pick(slow).set_index("selector")["seconds_per_pick"]["random"] == pytest.approx(0.01)
    assert "ms per pick, pool prediction included" in page(rows)


def test_case_54_a_frozen_student_is_said_to_have_two_heads_that_share_nothing() -> None:
    student = "frozen:efficientnet_lite0@128"
    heads = dict(zip(HEADS, (0.673, 0.895), strict=True))
    taught = make_rows(lambda *cell: 0.891, student=student).assign(**heads)
    plain = make_rows(lambda *cell: 0.673, student=student, teacher="none").assign(**dict.fromkeys(HEADS, np.nan))
    rows = pd.concat([taught, plain], ignore_index=True)
    text = page(rows)
    for claim in (claims.LEAD_CLAIM, claims.LIFT_CLAIM):
        (line,) = [line for line in text.splitlines() if line.startswith(f"- {claim}")]
        assert f"Frozen backbone, see the note: {student}." in line
    (note,) = [line for line in text.splitlines() if line.startswith("- Note on frozen backbones")]
    assert "the label head and the distill head share nothing" in note
    assert "share nothing" in ranks_block(frames(rows))
    assert "| 67.3% | 67.3% | 89.5% | 89.1% | 90.0% | 5 | frozen |" in text
    trained = pd.concat([taught, plain], ignore_index=True).assign(student="efficientnet_lite0")
    assert "share nothing" not in page(trained)


def test_case_54_rows_without_the_heads_say_so() -> None:
    run = read_run(ROOT / "results" / "demo")
    before, after = (contents_of(r) for r in (run, replace(run, rows=run.rows.drop(columns=list(HEADS)))))
    assert "not measured" not in text_of(before)
    shown = after.frames["heads"].iloc[0]
    parts = [f"{100 * shown[name]:.1f}%" for name in ("without", "with_teacher", "teacher_accuracy")]
    assert f"| {parts[0]} | not measured | not measured | {parts[1]} | {parts[2]} | 3 |" in text_of(after)


@pytest.mark.soak
def test_case_54_the_label_head_of_a_frozen_student_is_that_of_no_distillation(cache: Path, tmp_path: Path) -> None:
    """Random queries do not depend on the student, so all rounds have the same labels with and without a teacher."""
    demo = (SPECS / "demo.toml").read_text(encoding="utf-8")
    spec = tmp_path / "frozen.toml"
    spec.write_text(demo.replace("adapter:", "frozen:"), encoding="utf-8")
    only = "dataset=digits,student=frozen:efficientnet_lite0@48,selector=random,seed=0"
    options = ["--serial", "--device", "cpu", "--no-report", "--only", only, "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, ["run", str(spec), *options], env={"ACTIVEKD_CACHE": str(cache)})
    assert result.exit_code == 0, result.output
    rows: Any = read_run(tmp_path / "run").rows.set_index(["teacher", "round"])
    plain = rows.loc["none", "accuracy"]
    for teacher in set(rows.index.get_level_values("teacher")) - {"none"}:
        assert rows.loc[teacher, "label_head_accuracy"].tolist() == plain.tolist(), teacher
