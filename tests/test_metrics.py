"""Reports of another metric: what is ranked, how it is named, what is left out, and the metrics that are refused."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_runs import make_rows, run_of
from typer.testing import CliRunner

from activekd.errors import InputError
from bench.columns import HEADS, OUTCOMES
from bench.report.__main__ import app
from bench.report.cells import CLAIMS, PUBLISHED
from bench.report.figures.drawing import charts_of
from bench.report.metrics import METRICS, by_metric
from bench.report.pages import contents_of, digest_of, write_report
from bench.report.rendering import run_html, run_markdown
from bench.store.table import Run

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "results" / "demo"
LEVEL = {"random": 0.5, "entropy": 0.52, "pcoreset": 0.54}
MACRO = {"random": 0.46, "entropy": 0.44, "pcoreset": 0.40}
WASTED = {"random": 2, "entropy": 1, "pcoreset": 3}


def level(selector: str, dataset: str, seed: int, index: int) -> float:
    return LEVEL[selector] + 0.05 * index + 0.01 * seed


def rows_of(**kind: Any) -> pd.DataFrame:
    rows = make_rows(level, rounds=4, seeds=3, **kind)
    name = rows["selector"]
    return rows.assign(
        macro_accuracy=name.map(MACRO) + 0.05 * rows["round"] + 0.01 * rows["seed"],
        worst_class_accuracy=0.1 * rows["round"],
        wasted_labels=name.map(WASTED).astype(float) * rows["round"],
        all_labels_accuracy=np.where((rows["round"] == 0) & (name == "random"), 0.9, np.nan),
        **dict.fromkeys(HEADS, 0.5),
    )


@pytest.fixture(scope="module")
def run() -> Run:
    rows = pd.concat([rows_of(), rows_of(teacher="none")], ignore_index=True)
    return run_of(rows)


def order(run: Run, metric: str) -> list[str]:
    return contents_of(run, metric=metric).frames["rank_table"]["selector"].tolist()


def test_each_metric_has_its_ranking(run: Run) -> None:
    assert order(run, "accuracy") == ["pcoreset", "entropy", "random"]
    assert order(run, "macro_accuracy") == ["random", "entropy", "pcoreset"]
    assert order(run, "wasted_labels") == ["entropy", "random", "pcoreset"]
    ranks = contents_of(run, metric="worst_class_accuracy").frames["ranks"]
    assert ranks["tied"].all()


def test_the_values_are_those_of_the_metric(run: Run) -> None:
    macro = contents_of(run, metric="macro_accuracy").frames["curves"].set_index(["teacher", "selector", "round"])
    assert macro.loc[("none", "random", 2), "accuracy"] == pytest.approx(0.46 + 0.1 + 0.01)
    wasted = contents_of(run, metric="wasted_labels").frames["curves"].set_index(["teacher", "selector", "round"])
    # In round 3 entropy has wasted 3 of 40 labels.
    assert wasted.loc[("none", "entropy", 3), "accuracy"] == pytest.approx(1 - 3 / 40)
    assert wasted.loc[("none", "entropy", 0), "accuracy"] == 1.0


def test_accuracy_is_the_report_without_a_metric(run: Run) -> None:
    plain, named = contents_of(run), contents_of(run, metric="accuracy")
    assert run_markdown(named.page, named.parts) == run_markdown(plain.page, plain.parts)
    assert digest_of(named.frames) == digest_of(plain.frames)
    assert by_metric(run, "accuracy") == (run, METRICS["accuracy"], [])


@pytest.mark.parametrize(
    ("metric", "headline", "axis", "title"),
    [
        ("macro_accuracy", "by macro accuracy", "test macro accuracy, %", "Macro accuracy by configuration"),
        (
            "worst_class_accuracy",
            "by worst-class accuracy",
            "test worst-class accuracy, %",
            "Worst-class accuracy by configuration",
        ),
        (
            "wasted_labels",
            "by wasted labels, the fewest first",
            "share of labels not wasted, %",
            "Share of labels not wasted by configuration",
        ),
    ],
)
def test_titles_and_axes_name_the_metric(run: Run, metric: str, headline: str, axis: str, title: str) -> None:
    contents = contents_of(run, metric=metric)
    assert contents.page.headline.endswith(f", {headline}")
    assert contents.page.caveats[0].startswith("Ranked")
    text = run_markdown(contents.page, contents.parts)
    assert f"\n## {title}\n" in text
    label = METRICS[metric].label
    assert f" | mean {label} |" in text
    assert f"{METRICS[metric].worded('Test accuracy')} in percent, mean ± standard deviation" in text
    assert f"final {label} of random" in text
    (drawing,) = (each for each in contents.drawings if each.stem.startswith("curves"))
    assert drawing.draw().axes[0].get_ylabel() == axis
    (chart,) = charts_of(contents.frames).values()
    assert [panel.views[0].axis for panel in chart.panels] == [axis, axis]
    assert chart.measure == label
    # What is about accuracy alone is left out; no sentence of the report calls the metric accuracy.
    assert "reference:" not in text
    assert f"## {CLAIMS}" not in text
    assert f"## {PUBLISHED}" not in text
    assert "heads" not in contents.frames.tables
    before_diagnostics = text.partition("## Diagnostics")[0].replace(contents.page.caveats[0], "")
    for found in re.finditer(r"(\S+) accurac(y|ies)\b", before_diagnostics):
        assert found[1].lower() in label.split()[:-1], found[0]


def test_the_report_is_written_with_the_rows_as_they_are(run: Run, tmp_path: Path) -> None:
    report = write_report(run, tmp_path, metric="wasted_labels")
    html = report.html.read_text(encoding="utf-8")
    assert 'aria-pressed="true">share of labels not wasted</button>' in html
    assert ": share of labels not wasted in percent over labels" in html
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rounds.parquet"), run.rows)
    caption = (tmp_path / "tables" / "main.tex").read_text(encoding="utf-8")
    assert "Share of labels not wasted in percent, mean" in caption
    contents = contents_of(run, metric="wasted_labels")
    assert html == run_html(contents.page, contents.parts, tmp_path / "figures")


def test_digests_of_metrics_differ_even_where_values_are_equal(run: Run) -> None:
    same = replace(run, rows=run.rows.assign(macro_accuracy=run.rows["worst_class_accuracy"]))
    names = ("macro_accuracy", "worst_class_accuracy")
    one, other = (digest_of(contents_of(same, metric=name).frames) for name in names)
    assert one != other


def test_configurations_without_the_metric_are_left_out_and_named(run: Run) -> None:
    taught = run.rows["teacher"] != "none"
    one_missing = run.rows["macro_accuracy"].where(run.rows.index != run.rows.index[~taught][0])
    for values in (run.rows["macro_accuracy"].where(taught), one_missing):
        some = replace(run, rows=run.rows.assign(macro_accuracy=values))
        contents = contents_of(some, metric="macro_accuracy")
        assert set(contents.frames.rows["teacher"]) == {"clip_rn50+zeroshot"}
        assert contents.page.caveats[1] == (
            "1 of 2 configurations are left out, since rows of them lack macro_accuracy: g none s none r."
        )
        assert contents.parts.missing.n == 0


def test_a_metric_that_is_unknown_or_not_measured_is_refused_with_the_list(run: Run) -> None:
    with pytest.raises(InputError, match=r"unknown metric 'macro_acuracy'; did you mean 'macro_accuracy'"):
        contents_of(run, metric="macro_acuracy")
    some = replace(run, rows=run.rows.drop(columns="wasted_labels"))
    message = (
        "--metric wasted_labels: no configuration of made has it in all of its rows; expected: one that is measured "
        "there: accuracy, macro_accuracy, worst_class_accuracy"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        contents_of(some, metric="wasted_labels")


def test_the_command_refuses_before_it_writes(tmp_path: Path) -> None:
    told = {
        ("--metric", "macro_accuracy"): "no configuration of demo has it in all of its rows; expected: one that is "
        "measured there: accuracy",
        ("--metric", "speed"): "unknown metric 'speed'; known: accuracy, macro_accuracy, wasted_labels, worst_class_",
        (str(ROOT / "results" / "field"), "--metric", "macro_accuracy"): "several RUNs with --partial, --subject, "
        "--budgets, --metric or --readme; expected: one RUN with them, or --merge",
    }
    for options, message in told.items():
        result = CliRunner().invoke(app, [str(DEMO), *options, "--out", str(tmp_path / "out")])
        assert result.exit_code == 2
        assert message in " ".join(result.output.split()), result.output
    assert not (tmp_path / "out").exists()


def test_the_report_of_another_metric_has_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[Path, str]] = []

    def write(run: Run, out: Path, *, metric: str, **more: Any) -> None:
        written.append((out, metric))
        raise InputError("enough")

    monkeypatch.setattr("bench.report.pages.write_report", write)
    for options in ([], ["--metric", "macro_accuracy"], ["--metric", "macro_accuracy", "--out", str(tmp_path)]):
        CliRunner().invoke(app, [str(DEMO), *options])
    assert written == [(DEMO, "accuracy"), (DEMO / "macro_accuracy", "macro_accuracy"), (tmp_path, "macro_accuracy")]


def test_help_and_page_name_every_metric() -> None:
    text = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "300"}).output.split())
    docs = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for name in METRICS:
        assert name in text
        assert f"| `{name}` | " in docs
    assert set(METRICS) - {"accuracy"} <= set(OUTCOMES)
