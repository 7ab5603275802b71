"""Specs: their trials, the identity of a trial, and the specs that are refused."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from activekd.datasets import DATASETS
from activekd.defaults import KINDS, RECIPES, VIEWS, default_views
from activekd.errors import InputError
from bench.settings import default_spec
from bench.spec import SPECS, read_spec


def test_demo_is_the_default_and_has_the_trials_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTIVEKD_SPEC", raising=False)
    spec = read_spec(default_spec())
    assert spec.name == "demo"
    assert len(spec.trials) == 2 * 2 * 3 * 6 * 3
    assert len({t.id for t in spec.trials}) == len(spec.trials)
    assert {(t.teacher == "none", t.distillation) for t in spec.trials} == {(True, "none"), (False, "both")}
    assert min(t.rounds for t in spec.trials) >= 5


def test_variable_names_the_default_spec(tiny_spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTIVEKD_SPEC", str(tiny_spec))
    assert read_spec(default_spec()).name == "tiny"


def test_trial_id_follows_what_defines_the_trial_alone(tiny_spec: Path) -> None:
    trial = read_spec(str(tiny_spec)).trials[0]
    assert replace(trial, group="other", recipe_name="other").id == trial.id
    changes = [
        replace(trial, seed=1),
        replace(trial, rounds=4),
        replace(trial, recipe=replace(trial.recipe, lr=0.02)),
        replace(trial, recipe=replace(trial.recipe, clap=replace(trial.recipe.clap, epochs=4))),
        replace(trial, views=replace(trial.views, count=3)),
    ]
    assert len({trial.id, *(c.id for c in changes)}) == 6


def test_only_filters(tiny_spec: Path) -> None:
    spec = read_spec(str(tiny_spec))
    assert len(spec.only("selector=random").trials) == 2
    assert len(spec.only("selector=random,selector=pcoreset,teacher=none").trials) == 2
    for wanted, message in {
        "selector": "expected: KEY=VALUE",
        "selectr=random": "unknown key in --only 'selectr'; did you mean 'selector'",
        "selector=randon": "--only selector=randon: no such trial; did you mean 'random'",
    }.items():
        with pytest.raises(InputError, match=message):
            spec.only(wanted)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rounds = 3", "round = 3", r"unknown key in block.0 'round'; did you mean 'rounds'"),
        ("lr = 0.01\nweight", "lrr = 0.01\nweight", r"unknown key in recipes.short 'lrr'; did you mean 'lr'"),
        ("momentum = 0.9", "momentun = 0.9", r"unknown key in recipes.short.clap 'momentun'; did you mean 'momentum'"),
        ("steps = 3", "steps = 0", r"Recipe.steps is 0; expected: at least 1"),
        ('recipe = "short"', 'recipe = "shirt"', r"unknown recipe 'shirt'; did you mean 'short'"),
        ('views = "two"', 'views = "tow"', r"unknown view geometry 'tow'; did you mean 'two'"),
        ("seeds = [0]", "seeds = [-1]", r"seeds.0: found -1"),
        ('schedule = "linear"', 'schedule = "liner"', r"schedule: found 'liner'"),
        ("seeds = [0]", "seeds = [0", r"is not valid TOML"),
        ('selectors = ["random", "pcoreset"]', 'selectors = ["random", "random"]', r"defined twice"),
    ],
)
def test_specs_that_are_refused(tiny_spec: Path, old: str, new: str, message: str) -> None:
    text = tiny_spec.read_text(encoding="utf-8")
    assert old in text
    tiny_spec.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_spec(str(tiny_spec))


SHORT = """
name = "hands"
datasets = ["folder:photos", "digits"]
teachers = ["none", "clip_vitb16+zeroshot"]
students = ["adapter:efficientnet_lite0", "frozen:resnet18", "resnet18"]
selectors = ["random", "badge"]
seeds = 2
rounds = 8
"""


def test_a_spec_of_eight_lines_has_the_recipes_and_views_of_its_students_and_data(tmp_path: Path) -> None:
    path = tmp_path / "hands.toml"
    path.write_text(SHORT, encoding="utf-8")
    trials = read_spec(str(path)).trials
    assert len(trials) == 2 * 2 * 3 * 2 * 2
    assert {t.seed for t in trials} == {0, 1}
    names = {"adapter:efficientnet_lite0": "adapter", "frozen:resnet18": "heads", "resnet18": "end-to-end"}
    assert {t.student: t.recipe_name for t in trials} == names
    assert all(t.recipe == RECIPES[t.recipe_name] for t in trials)
    assert {t.dataset: t.views for t in trials} == {"folder:photos": VIEWS["photos"], "digits": VIEWS["digits"]}


def test_keys_on_top_are_defaults_of_every_block(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    blocks = '[[block]]\ndatasets = ["digits"]\nrounds = 3\n\n[[block]]\nseeds = [7]\n'
    path.write_text(SHORT.replace('"folder:photos", "digits"', '"mnist5k"') + blocks, encoding="utf-8")
    kinds = {(t.dataset, t.rounds, t.seed) for t in read_spec(str(path)).trials}
    assert kinds == {("digits", 3, 0), ("digits", 3, 1), ("mnist5k", 8, 7)}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            'recipe = "heads"',
            "recipe 'heads' with student 'adapter:efficientnet_lite0'; expected: one of adapter, adapter-",
        ),
        ('recipe = "adaptr"', "unknown recipe 'adaptr'; did you mean 'adapter'"),
        ('views = "photo"', "unknown view geometry 'photo'; did you mean 'photos'"),
        ("shots = 0", "hands.toml: shots: found 0"),
        ("shots = 0\n[[block]]\n[[block]]\nshots = 1", "hands.toml: shots: found 0"),
        ("[[block]]\nshots = 0", "hands.toml: block.0.shots: found 0"),
        ("seed = 3", "unknown key 'seed'; did you mean 'seeds'"),
        ("[[block]]\nseed = 3", "unknown key in block.0 'seed'; did you mean 'seeds'"),
        ("block = 3", "hands.toml: block: found 3"),
    ],
)
def test_short_specs_that_are_refused(more: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "hands.toml"
    path.write_text(f"{SHORT}{more}\n", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        read_spec(str(path))


def test_a_short_spec_needs_its_keys_and_at_least_one_seed(tmp_path: Path) -> None:
    path = tmp_path / "hands.toml"
    path.write_text(SHORT.replace("rounds = 8\n", "").replace("seeds = 2", "seeds = 0"), encoding="utf-8")
    with pytest.raises(
        InputError, match=re.escape("seeds: found 0; expected: the number of seeds, at least 1")
    ) as told:
        read_spec(str(path))
    assert "; rounds: missing" in str(told.value)


def test_built_in_recipes_are_those_of_the_committed_runs() -> None:
    """And the default views are those of every embedded data set."""
    for trial in (*read_spec("caltech-real").trials, *read_spec("paper").trials):
        assert trial.recipe == RECIPES[trial.recipe_name]
    assert {default_views(name) for name in DATASETS} == {"digits"}
    assert set(KINDS) == set(RECIPES)


def test_unknown_spec_is_told_with_a_suggestion() -> None:
    with pytest.raises(InputError, match="unknown spec 'dmo'; did you mean 'demo'"):
        read_spec("dmo")


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.toml")), ids=lambda p: p.stem)
def test_committed_specs_are_named_as_their_files(path: Path) -> None:
    assert read_spec(path.stem).name == path.stem


def test_resources_are_read_and_are_no_part_of_the_ids(tiny_spec: Path) -> None:
    before = read_spec(str(tiny_spec))
    text = tiny_spec.read_text(encoding="utf-8")
    more = '\n[resources]\ntrial = { cpus = 2, gpus = 0.25 }\nextraction = { cpus = 4, resource = "teacher" }\n'
    tiny_spec.write_text(text + more, encoding="utf-8")
    after = read_spec(str(tiny_spec))
    assert [t.id for t in after.trials] == [t.id for t in before.trials]
    assert (before.resources.trial.cpus, after.resources.trial.cpus, after.resources.trial.gpus) == (1, 2, 0.25)
    assert after.resources.extraction.resource == "teacher"
    assert after.only("selector=random").resources == after.resources


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("trial = { cpus = 0 }", "resources.trial.cpus: found 0; Input should be greater than or equal to 1"),
        ("trial = { gpus = 1.5 }", "resources.trial.gpus: found 1.5; expected: at most 1, or a whole number"),
        ("trial = { gpu = 1 }", "unknown key in resources.trial 'gpu'; did you mean 'gpus'"),
        ("trail = { gpus = 1 }", "unknown key in resources 'trail'; did you mean 'trial'"),
    ],
)
def test_resources_that_are_refused(more: str, message: str, tiny_spec: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8")
    tiny_spec.write_text(f"{text}\n[resources]\n{more}\n", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        read_spec(str(tiny_spec))


def test_two_blocks_may_not_share_the_cells_of_a_table(tiny_spec: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8")
    block = text.partition("[[block]]")[2].partition("[views")[0]
    more = block.replace("rounds = 3", "rounds = 4")
    tiny_spec.write_text(text.replace("[views.two]", f"[[block]]{more}\n[views.two]"), encoding="utf-8")
    with pytest.raises(InputError, match="two different trials would share a cell of every table: dataset digits"):
        read_spec(str(tiny_spec))
    other = more.replace("rounds = 4", 'rounds = 4\ncompared_as = "longer"')
    tiny_spec.write_text(text.replace("[views.two]", f"[[block]]{other}\n[views.two]"), encoding="utf-8")
    assert len(read_spec(str(tiny_spec)).trials) == 8


def displayed(tiny_spec: Path, table: str) -> Path:
    path = tiny_spec.with_name("displayed.toml")
    path.write_text(f"{tiny_spec.read_text(encoding='utf-8')}\n[display]\n{table}\n", encoding="utf-8")
    return path


def test_labels_of_names_are_no_part_of_a_trial(tiny_spec: Path) -> None:
    spec = read_spec(str(displayed(tiny_spec, 'digits = "Handwritten digits"\npcoreset = "PCoreSet (ours)"')))
    assert spec.display == {"digits": "Handwritten digits", "pcoreset": "PCoreSet (ours)"}
    assert [trial.id for trial in spec.trials] == [trial.id for trial in read_spec(str(tiny_spec)).trials]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('pcorset = "ours"', r"unknown name in display 'pcorset'; did you mean 'pcoreset'\? known: "),
        (
            'pcoreset = "ours"\nrandom = "ours"',
            "display: 'ours' is the label of selector (random and pcoreset|pcoreset and random); expected: a label of",
        ),
        ('random = "pcoreset"', "display: 'pcoreset' is the label of selector "),
        ('random = ""', "display.random: found ''"),
        ("random = 3", "display.random: found 3"),
        ('random = "two\\nlines"', "display.random: found"),
        ('pcorset = "ours"\nrandom = "pcoreset"', "did you mean 'pcoreset'.*; display: 'pcoreset' is the label"),
    ],
)
def test_labels_that_name_nothing_or_two_things_are_refused(tiny_spec: Path, table: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_spec(str(displayed(tiny_spec, table)))


def test_lists_of_query_sizes_and_recipes_are_part_of_the_product(tmp_path: Path) -> None:
    path = tmp_path / "hands.toml"
    students = 'students = ["adapter:efficientnet_lite0", "frozen:resnet18", "resnet18"]'
    text = SHORT.replace(students, 'students = ["resnet18"]').replace('"folder:photos", "digits"', '"digits"')
    path.write_text(text, encoding="utf-8")
    plain = read_spec(str(path)).trials
    lists = (
        'query_size = ["classes", 35]\nrecipe = ["end-to-end", "paper-ten"]\ndisplay = { digits = "Digits (8 px)" }\n'
    )
    path.write_text(text + lists, encoding="utf-8")
    spec = read_spec(str(path))
    assert len(spec.trials) == 4 * len(plain)
    assert {t.id for t in plain} < {t.id for t in spec.trials}, "names of groups are no part of an id"
    assert {(t.query_size, t.group) for t in spec.trials} == {
        ("classes", "digits (classes a query)"),
        (35, "digits (35 a query)"),
    }
    assert {t.recipe_name: t.recipe for t in spec.trials} == {
        name: RECIPES[name] for name in ("end-to-end", "paper-ten")
    }
    assert {t.query_size for t in spec.only("query_size=35").trials} == {35}
    assert {t.recipe_name for t in spec.only("recipe=paper-ten,group=digits (35 a query)").trials} == {"paper-ten"}
    with pytest.raises(InputError, match=re.escape("--only query_size=36: no such trial; known: 35, classes")):
        spec.only("query_size=36")


def test_a_list_of_one_is_that_one(tmp_path: Path) -> None:
    path = tmp_path / "hands.toml"
    path.write_text(f"{SHORT}query_size = 35\n", encoding="utf-8")
    one = read_spec(str(path)).trials
    path.write_text(f"{SHORT}query_size = [35]\n", encoding="utf-8")
    assert read_spec(str(path)).trials == one


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "query_size = 0",
            "query_size: found 0; expected: a number of labels, at least 1, 'classes', or a list of these",
        ),
        ('query_size = [35, "class"]', "query_size: found 'class'; expected: a number of labels"),
        ("query_size = []", "query_size: found []; expected: a number of labels"),
        ("query_size = [true]", "query_size: found True; expected: a number of labels"),
        (
            "query_size = [35, 35]",
            "defined twice: dataset folder:photos, teacher none, student adapter:efficientnet_lite0, "
            "recipe adapter, query_size 35, selector random, seed 0",
        ),
        ("recipe = 3", "recipe: found 3; expected: the name of a recipe, or a list of names"),
        ("recipe = []", "recipe: found []; expected: the name of a recipe, or a list of names"),
        ('recipe = ["adapter", "heds"]', "unknown recipe 'heds'; did you mean 'heads'"),
        (
            'recipe = ["adapter", "heads"]',
            "recipe 'heads' with student 'adapter:efficientnet_lite0'; expected: one of adapter, ",
        ),
        (
            'recipe = ["adapter", "heads"]\ncompared_as = "mine"',
            "compared_as = 'mine' with the recipes adapter, heads; expected: one recipe, or no compared_as",
        ),
    ],
)
def test_lists_that_are_refused(more: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "hands.toml"
    path.write_text(f"{SHORT}{more}\n", encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        read_spec(str(path))


def test_a_label_of_a_group_counts_for_each_of_its_query_sizes(tiny_spec: Path) -> None:
    text = tiny_spec.read_text(encoding="utf-8").replace(
        "rounds = 3", 'rounds = 3\ngroup = "ten"\nquery_size = [5, 10]'
    )
    tiny_spec.write_text(text, encoding="utf-8")
    spec = read_spec(str(displayed(tiny_spec, 'ten = "Ten digits"')))
    assert spec.display == {"ten": "Ten digits"}
    assert {t.group for t in spec.trials} == {"ten (5 a query)", "ten (10 a query)"}
