"""Tables of a report: published cells, kinds of trials that are absent, time per pick, the heads of a student."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import ROOT, frames, make_rows, noise, page, run_of, text_of
from typer.testing import CliRunner

from bench import stats
from bench.columns import DIAGNOSTICS, HEADS
from bench.display import Display
from bench.grid import app
from bench.report.blocks import ranks_block
from bench.report.frames import Frames
from bench.report.pages import contents_of
from bench.report.published import published_cells
from bench.report.tables import TABLES
from bench.spec import SPECS
from bench.stats import claims
from bench.store.table import read_run


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
        assert all(
            len(row) == len(table.header) for table in spec.show(found[name], Display()) for row in table.rows
        ), name
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
    student, label = "frozen:efficientnet_lite0@128", "EfficientNet-Lite0 at 128 px, frozen"
    heads = dict(zip(HEADS, (0.673, 0.895), strict=True))
    taught = make_rows(lambda *cell: 0.891, student=student).assign(**heads)
    plain = make_rows(lambda *cell: 0.673, student=student, teacher="none").assign(**dict.fromkeys(HEADS, np.nan))
    rows = pd.concat([taught, plain], ignore_index=True)
    text = page(rows)
    for claim in (claims.LEAD_CLAIM, claims.LIFT_CLAIM):
        (line,) = [line for line in text.splitlines() if line.startswith(f"- {claim}")]
        assert f"Frozen backbone, see the note: {label}." in line
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
