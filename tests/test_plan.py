"""Plans: counts worked by hand, computed without data or weights, and printed by the command line."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from activekd.datasets import DATASETS, load_dataset
from activekd.datasets.catalog import CATALOG
from activekd.datasets.sizes import EMBEDDED, Sizes, dataset_sizes
from activekd.errors import InputError
from activekd.networks.vision_language import NETWORKS
from bench import plan as planning
from bench.grid import app
from bench.spec import read_spec


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTIVEKD_DATA", raising=False)
    monkeypatch.delenv("ACTIVEKD_BANK_GB", raising=False)


def test_the_paper_has_73_settings(tmp_path: Path) -> None:
    made = planning.estimate(read_spec("paper").trials, tmp_path)
    assert made.totals["settings (configuration, query round)"] == 73
    assert made.totals["configurations"] == 7
    assert made.totals["trials"] == (4 + 3 * 10) * 6 * 5
    assert {size.n_pool for size in made.sizes.values()} >= {100_000, CATALOG["dtd"].n_train}


def test_full_is_the_whole_product(tmp_path: Path) -> None:
    made = planning.estimate(read_spec("full").trials, tmp_path)
    assert made.totals["trials"] == 11 * 5 * (1 + 3 * 2) * 6 * 5
    assert len(made.sizes) == 11
    assert len(made.students) == 5
    assert set(made.teachers) == {"clip_rn50", "clip_vitb16", "siglip_vitb16"}


def test_a_small_plan_by_hand(tiny_spec: Path, tmp_path: Path) -> None:
    made = planning.estimate(read_spec(str(tiny_spec)).trials, tmp_path)
    pool, test = made.sizes["digits"].n_pool, made.sizes["digits"].n_test
    assert made.totals["optimiser steps"] == 4 * 3 * 3
    load = made.students["resnet6_mini@16"]
    assert load.trained == 2 * 9 * 8 + 2 * 9 * 16
    # Diagnostics predict the pool in every round, and ten picks and ten others after each of the two queries.
    assert load.predicted == 4 * 3 * (test + pool) + 4 * 2 * 20
    plain = planning.estimate(read_spec(str(tiny_spec)).trials, tmp_path, diagnostics=False)
    assert plain.students["resnet6_mini@16"].predicted == 4 * 3 * test + 2 * 2 * pool
    assert load.rendered == 0
    assert made.teachers["glyphclip"].predicted == 2 * pool + test
    pixels = 3 * 16 * 16 * (2 * pool + test)
    features = 2 * NETWORKS["glyphclip"].feature_width * (2 * pool + test)
    assert made.bank_bytes == pixels + features
    assert made.cache_bytes == 0


def test_views_too_many_for_the_bank_are_rendered(
    tiny_spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIVEKD_BANK_GB", "0.0001")
    made = planning.estimate(read_spec(str(tiny_spec)).trials, tmp_path)
    load = made.students["resnet6_mini@16"]
    assert made.live == (("digits", "resnet6_mini@16"),)
    assert load.rendered == load.trained + load.predicted
    monkeypatch.setenv("ACTIVEKD_BANK_GB", "much")
    with pytest.raises(InputError, match="ACTIVEKD_BANK_GB is 'much'; expected: a number of GB"):
        planning.estimate(read_spec(str(tiny_spec)).trials, tmp_path)


def test_hours_follow_from_the_throughput(tiny_spec: Path, tmp_path: Path) -> None:
    made = planning.estimate(read_spec(str(tiny_spec)).trials, tmp_path)
    load = made.students["resnet6_mini@16"]
    teacher = made.teachers["glyphclip"]
    parts = planning.hours(made, planning.given_throughput(made, 10.0), 2)
    assert parts["trials"] == pytest.approx((load.trained / 10 + load.predicted / 30) / 3600 / 2)
    assert parts["teachers, every view once"] == pytest.approx(teacher.predicted / 30 / 3600 / 2)
    assert "decoding into the image cache" not in parts
    measured = planning.Throughput({load.name: 5.0}, {load.name: 20.0, teacher.name: 40.0}, rendered=7.0, decoded=3.0)
    parts = planning.hours(made, measured, 1)
    assert parts["trials"] == pytest.approx((load.trained / 5 + load.predicted / 20) / 3600)
    assert parts["decoding into the image cache"] == 0


def test_given_features_take_no_hours(tiny_spec: Path, tmp_path: Path) -> None:
    made = planning.estimate(read_spec(str(tiny_spec)).trials, tmp_path)
    given = replace(made, teachers={"features:a.npz": planning.Load("features:a.npz")})
    rates = planning.Throughput({"resnet6_mini@16": 1.0}, {"resnet6_mini@16": 1.0})
    assert planning.hours(given, rates, 1)["teachers, every view once"] == 0


def test_a_plan_is_printed_with_its_counts_and_its_hours(tiny_spec: Path, tmp_path: Path) -> None:
    made = planning.estimate(read_spec(str(tiny_spec)).trials, tmp_path)
    out = io.StringIO()
    console = Console(file=out, width=120)
    planning.print_plan("tiny", made, console)
    planning.print_hours(made, planning.given_throughput(made, 1.0), 1, console)
    cells = [[word.strip() for word in re.split("[│┃]", line)[1:-1]] for line in out.getvalue().splitlines()]
    assert ["optimiser steps", "36"] in cells
    assert ["digits", "10", "1,078", "360", "359"] in cells
    assert ["resnet6_mini@16", "1.0", "3.0"] in cells
    assert ["glyphclip", "", "3.0"] in cells
    hours = planning.hours(made, planning.given_throughput(made, 1.0), 1)
    assert ["total", f"{sum(hours.values()):.2f}"] in cells


def test_choices_of_a_name_change_its_size(tmp_path: Path) -> None:
    assert dataset_sizes("imagenet", tmp_path).n_pool == 100_000
    assert dataset_sizes("imagenet?size=all", tmp_path).n_pool == 1_281_167
    assert dataset_sizes("caltech101?pool=val&size=500", tmp_path).n_pool == 500
    assert dataset_sizes("caltech101?pool=val", tmp_path).n_pool == CATALOG["caltech101"].n_val
    by_split = {
        choices: (size.n_pool, size.n_val, size.n_test)
        for choices in ("test=test", "test=val", "pool=val", "pool=val&test=train")
        if (size := dataset_sizes(f"caltech101?{choices}", tmp_path))
    }
    assert by_split == {
        "test=test": (4128, 1649, 2465),
        "test=val": (4128, 0, 1649),
        "pool=val": (1649, 0, 2465),
        "pool=val&test=train": (1649, 0, 4128),
    }
    with pytest.raises(InputError, match="ACTIVEKD_DATA is not set"):
        dataset_sizes("caltech101?classes=head.npz", tmp_path)


def test_command_line(tiny_spec: Path) -> None:
    runner = CliRunner()
    told = runner.invoke(app, ["plan", "paper"])
    assert told.exit_code == 0
    assert "73" in told.output
    assert "python -m bench.speed throughput paper" in told.output
    hours = runner.invoke(app, ["plan", str(tiny_spec), "--images-per-second", "3", "--slots", "2"])
    assert hours.exit_code == 0
    assert "hours, 2 at a time" in hours.output


@pytest.mark.parametrize("name", DATASETS)
def test_the_stated_sizes_of_embedded_data_sets_are_theirs(name: str, cache: Path) -> None:
    data = load_dataset(name, cache)
    assert dataset_sizes(name, cache) == Sizes(data.n_classes, len(data.train), len(data.val), len(data.test), False)
    assert set(EMBEDDED) == set(DATASETS)
