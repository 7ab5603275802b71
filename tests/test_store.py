"""The store: durable, idempotent, with one writer; it drops torn rows and refuses foreign ones."""

import gzip
import json
import resource
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from activekd.errors import InputError
from bench.columns import SECONDS
from bench.spec import PROTOCOL
from bench.store.folder import Sources, check_belongs, forget_failure, read_failures, read_plan, write_plan
from bench.store.locks import exclusive
from bench.store.rows import (
    LOG,
    PACKED,
    ROUNDS,
    HistoryError,
    StorageError,
    Store,
    last_start,
    rounds_done,
    stored_rows,
)
from bench.store.table import read_run

NAMES = ("dataset", "group", "teacher", "student", "distillation", "recipe", "selector")
IDENTITY: dict[str, Any] = {**dict.fromkeys(NAMES, "d"), "protocol": 1, "seed": 0, "query_size": 2}


def make_row(trial_id: str, index: int, **more: Any) -> dict[str, Any]:
    return {
        **IDENTITY,
        "trial_id": trial_id,
        "round": index,
        "n_labeled": 2 * (index + 1),
        "accuracy": 0.5,
        "teacher_accuracy": None,
        **dict.fromkeys(SECONDS, 1.0),
        "peak_rss_bytes": 1,
        "picked": [2 * index, 2 * index + 1],
        **more,
    }


def make_plan(run: Path, trials: dict[str, int]) -> None:
    planned = [{**IDENTITY, "trial_id": t, "rounds": n} for t, n in trials.items()]
    write_plan(run, "tiny", planned, Sources({"d": "f"}, {"m:f": "1"}))


def test_the_first_row_of_a_round_stays_and_is_the_answer_to_every_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = make_row("a", 1)
    assert store.append(make_row("a", 0)) == make_row("a", 0)
    assert store.append(first) == first
    assert store.append(make_row("a", 1, accuracy=0.9)) == first
    assert store.append(make_row("a", 0, picked=[7, 8])) == make_row("a", 0)
    assert [r["round"] for r in store.begin("a")] == [0, 1]
    assert store.begin("b") == []
    store.close()
    assert [r["accuracy"] for r in stored_rows(tmp_path)] == [0.5, 0.5]


def test_packed_rows_are_read_and_never_written(tmp_path: Path) -> None:
    with_rows = Store(tmp_path)
    for index in range(3):
        with_rows.append(make_row("a", index))
    with_rows.close()
    rows, content = stored_rows(tmp_path), (tmp_path / ROUNDS).read_bytes()
    (tmp_path / PACKED).write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=r"rounds.jsonl and .*rounds.jsonl.gz; expected: one of them"):
        stored_rows(tmp_path)
    (tmp_path / ROUNDS).unlink()
    assert stored_rows(tmp_path) == rows
    with pytest.raises(InputError, match=r"rounds.jsonl.gz is only read; expected: unpack it first"):
        Store(tmp_path)
    assert not (tmp_path / ROUNDS).exists()
    for damaged in (content, gzip.compress(content)[:-9]):
        (tmp_path / PACKED).write_bytes(damaged)
        with pytest.raises(InputError, match=r"rounds.jsonl.gz: .*; expected: a whole gzip file"):
            stored_rows(tmp_path)


BREACHES = [
    (2, {}, "round 2 follows 1 stored rounds; expected: round 1"),
    (-1, {}, "round -1 follows 1 stored rounds; expected: round 1"),
    (1, {"picked": [1, 5]}, r"round 1 buys the labels of rows \[1\] again; expected: unlabeled rows"),
    (1, {"picked": [5, 5]}, "round 1 buys a label twice; expected: distinct rows"),
    (1, {"picked": [-1, 5]}, r"round 1 buys \[-1, 5\]; expected: rows of the train split"),
    (1, {"picked": [1.5, 5]}, r"round 1 buys \[1.5, 5\]; expected: rows of the train split"),
    (1, {"n_labeled": 5}, "n_labeled of round 1 is 5; expected: 4, by the round before"),
]


@pytest.mark.parametrize(("index", "more", "message"), BREACHES)
def test_a_row_that_does_not_continue_its_trial_is_refused_and_not_stored(
    index: int, more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    store.append(make_row("a", 0))
    with pytest.raises(HistoryError, match=f"trial a: {message}"):
        store.append(make_row("a", index, **more))
    store.append(make_row("a", 1))
    store.close()
    assert rounds_done(tmp_path) == {"a": 2}


@pytest.mark.parametrize(("index", "more", "message"), BREACHES)
def test_stored_rows_that_do_not_continue_their_trial_are_refused_by_line(
    index: int, more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    make_plan(tmp_path, {"a": 3, "b": 3})
    store = Store(tmp_path)
    store.append(make_row("b", 0))
    store.append(make_row("a", 0))
    store.close()
    with (tmp_path / ROUNDS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(make_row("a", index, **more)) + "\n")
    for read in (Store, rounds_done):
        with pytest.raises(InputError, match=f"line 3, trial a: {message}. These lines do not .*expected: remove them"):
            read(tmp_path)
    with pytest.raises(InputError, match="line 3"):
        read_run(tmp_path)


def test_rows_without_the_round_before_them_are_listed_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for index in range(4):
        store.append(make_row("a", index))
    store.close()
    lines = (tmp_path / ROUNDS).read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / ROUNDS).write_text(lines[0] + lines[2] + lines[3], encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2, trial a: round 2 follows 1 .*; line 3, trial a: round 3 follows 1"):
        Store(tmp_path)
    (tmp_path / ROUNDS).write_text(lines[0] + lines[1] + lines[1], encoding="utf-8")
    with pytest.raises(InputError, match="line 3, trial a: round 1 follows 2 stored rounds"):
        Store(tmp_path)


def change(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "deleted":
        shutil.rmtree(path.parents[1])
    elif how == "replaced":
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)
    elif how == "written":
        path.write_bytes(content + content)
    else:
        path.write_bytes(content[:-3])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("deleted", "No such file or directory"),
        ("replaced", "was replaced while a grid wrote to it"),
        ("written", r"has \d+ bytes where this grid left \d+: another process wrote to it"),
        ("cut", r"has \d+ bytes where this grid left \d+"),
    ],
)
def test_a_file_of_rows_that_is_changed_during_a_run_ends_it(how: str, message: str, tmp_path: Path) -> None:
    """Else rows go into a file that no one finds, or between the rows of another grid."""
    store = Store(tmp_path / "run")
    store.append(make_row("a", 0))
    change(tmp_path / "run" / ROUNDS, how)
    with pytest.raises(StorageError, match=f"{message}.*; expected: a results folder that nothing else changes"):
        store.append(make_row("a", 1))
    store.close()


def test_a_torn_line_of_the_log_does_not_swallow_the_next(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"event": "beg\xff')
    store = Store(tmp_path, grid="g")
    store.begin("a")
    store.close()
    assert last_start(tmp_path).rounds.keys() == {"a"}
    again = Store(tmp_path, grid="g")
    assert [event["event"] for event in again.log_of_grid()] == ["opened", "begins", "opened"]
    again.close()


def test_a_torn_last_line_is_dropped_and_written_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(make_row("a", 0))
    store.append(make_row("a", 1))
    store.close()
    path = tmp_path / ROUNDS
    path.write_bytes(path.read_bytes()[:-7])
    assert len(stored_rows(tmp_path)) == 1
    store = Store(tmp_path)
    assert len(store.begin("a")) == 1
    store.append(make_row("a", 1))
    store.close()
    assert [r["round"] for r in stored_rows(tmp_path)] == [0, 1]


def test_damage_elsewhere_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(make_row("a", 0))
    store.close()
    path = tmp_path / ROUNDS
    path.write_bytes(b"oops\n" + path.read_bytes() + b"5\n")
    with pytest.raises(InputError, match=r"jsonl, line 1 is not a row .*; line 3 is not a row .*; expected: remove"):
        Store(tmp_path)


def test_two_writers_refuse_each_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(InputError, match="in use by another grid"):
        Store(tmp_path, wait_seconds=0.2)
    store.close()
    Store(tmp_path, wait_seconds=0.2).close()
    with (
        exclusive(tmp_path, "grid.lock"),
        pytest.raises(InputError, match="in use by another grid"),
        exclusive(tmp_path, "grid.lock"),
    ):
        pass


def test_unwritable_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"results folder .*file/run: .*; expected: a writable folder"):
        Store(tmp_path / "file" / "run")


def test_rows_of_another_spec_other_images_or_other_code_are_refused(tmp_path: Path) -> None:
    make_plan(tmp_path, {"a": 2})
    store = Store(tmp_path)
    store.append(make_row("a", 0))
    store.close()
    check_belongs(tmp_path, "tiny", ["a", "b"], {"a"}, Sources({"d": "f"}, {"m:f": "1", "m:g": "5"}))
    with pytest.raises(InputError, match="rows of 1 trials that spec 'tiny' does not define"):
        check_belongs(tmp_path, "tiny", ["b"], {"a"}, Sources({"d": "f"}, {}))
    with pytest.raises(InputError, match="images or labels of d changed"):
        check_belongs(tmp_path, "tiny", ["a"], {"a"}, Sources({"d": "g"}, {}))
    with pytest.raises(InputError, match="the code of m:f changed"):
        check_belongs(tmp_path, "tiny", ["a"], {"a"}, Sources({"d": "f"}, {"m:f": "2"}))


def test_a_plan_keeps_the_counts_that_it_knew(tmp_path: Path) -> None:
    """A part of the spec loads a part of the data: the counts of the others are None."""
    trial = {**IDENTITY, "trial_id": "a", "rounds": 2}
    for counts in ({"n_classes": 3, "query_size": 3}, {"n_classes": None, "query_size": None}):
        write_plan(tmp_path, "tiny", [{**trial, **counts}], Sources({}, {}))
        (kept,) = read_plan(tmp_path)["trials"]
        assert (kept["n_classes"], kept["query_size"]) == (3, 3)
    write_plan(tmp_path, "tiny", [{**trial, "n_classes": 4, "query_size": 4}], Sources({}, {}))
    assert read_plan(tmp_path)["trials"][0]["n_classes"] == 4


def test_rows_of_another_protocol_say_so(tmp_path: Path) -> None:
    make_plan(tmp_path, {"a": 2})
    with pytest.raises(InputError, match=rf"does not define \(a\); they have protocol 1, this version {PROTOCOL}; exp"):
        check_belongs(tmp_path, "tiny", ["b"], {"a"}, Sources({"d": "f"}, {}))


def test_the_labels_of_a_trial_are_those_of_the_plan(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(make_row("a", 0, group="before", recipe="before"))
    store.close()
    make_plan(tmp_path, {"a": 2})
    rows = read_run(tmp_path).rows
    assert (rows["group"].item(), rows["recipe"].item()) == ("d", "d")


def test_holes_are_the_rows_of_the_plan_without_a_measurement(tmp_path: Path) -> None:
    make_plan(tmp_path, {"a": 2, "b": 1})
    store = Store(tmp_path)
    store.append(make_row("a", 0))
    store.close()
    run = read_run(tmp_path)
    assert len(run.rows) == 1
    assert run.holes[["trial_id", "round"]].to_numpy().tolist() == [["a", 1], ["b", 0]]
    assert run.restricted_to(["a"]).holes["round"].tolist() == [1]


def test_a_folder_without_a_plan_is_no_results_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a results folder"):
        read_run(tmp_path)


def test_a_disk_that_is_full_leaves_the_last_whole_row_at_the_end(tmp_path: Path) -> None:
    """A limit on the size of files simulates a full disk; the tests of faults fill a real one."""
    store = Store(tmp_path)
    store.append(make_row("a", 0))
    size = (tmp_path / ROUNDS).stat().st_size
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1][1]))
    try:
        with pytest.raises(StorageError, match="the rows so far are kept; expected: room on its disk, then the same"):
            store.append(make_row("a", 1))
        assert (tmp_path / ROUNDS).stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
        signal.signal(signal.SIGXFSZ, before[0])
    store.append(make_row("a", 1))
    store.close()
    assert [row["round"] for row in stored_rows(tmp_path)] == [0, 1]


def test_the_log_tells_what_happened_to_a_trial(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.begin("a")
    store.append(make_row("a", 0))
    store.append(make_row("a", 0))
    store.begin("a")
    store.give_up("a", "it cannot be run")
    store.close()
    with (tmp_path / ROUNDS).open("ab") as file:
        file.write(b'{"trial_id": "a", "rou')
    Store(tmp_path).close()
    log = [json.loads(line) for line in (tmp_path / LOG).read_text(encoding="utf-8").splitlines()]
    assert [(e["event"], e.get("round")) for e in log if e["event"] != "came twice" or e["same_picks"]] == [
        ("opened", None),
        ("begins", 0),
        ("came twice", 0),
        ("begins", 1),
        ("given up", None),
        ("opened", None),
        ("torn line dropped", None),
    ]
    assert not last_start(tmp_path).rounds
    again = Store(tmp_path)
    again.begin("a")
    again.close()
    assert last_start(tmp_path).rounds.keys() == {"a"}
    assert read_failures(tmp_path) == {"a": "it cannot be run"}
    forget_failure(tmp_path, "a")
    assert read_failures(tmp_path) == {}
    assert rounds_done(tmp_path) == {"a": 1}
