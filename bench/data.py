"""The command line of the data sets: check those on disk, list splits, download what torchvision can."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from activekd.datasets import DATASETS, Dataset, Split, banked_name, check_dataset_name, conditioned
from activekd.datasets.arrays import arrays_file
from activekd.datasets.audit import Audit, audit, audit_arrays, audit_folder
from activekd.datasets.benchmark import benchmark_listing
from activekd.datasets.catalog import CATALOG
from activekd.datasets.choices import conditions_of
from activekd.datasets.coop import PARTS
from activekd.datasets.fetch import ORIGINS, download
from activekd.datasets.folder import read_folder
from activekd.errors import InputError, unknown
from activekd.folders import data_folder
from activekd.given import ARRAYS, FOLDER, split_name
from activekd.images.survey import Survey
from bench.terminal import EXIT_FAILED, DecodingLines, Version, command_line, console, examples, say, user_errors

SHOWN = 20
"""Faults shown per data set without ``--every-fault``."""

Listed = tuple[Sequence[str], np.ndarray]
"""Paths and labels of a split."""

app = command_line(help_without_command=True)


@app.callback()
def about(version: Version = False) -> None:
    """Check, list and download data sets.

    The benchmark's eleven are under $ACTIVEKD_DATA, in CoOp's layout; image folders stand anywhere.
    """


@app.command(
    epilog=examples(
        "activekd data check",
        "activekd data check dtd eurosat --every-fault",
        "activekd data check imagenet --no-decode",
        "activekd data check folder:PATH",
        "activekd data check 'folder:PATH?imbalance=10'",
    )
)
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Data sets, folder:PATH or arrays:FILE.npz [default: all that have a folder]."
        ),
    ] = None,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Decode every image.")] = True,
    every_fault: Annotated[bool, typer.Option("--every-fault", help=f"Show every fault, not only {SHOWN}.")] = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE.json", help="Also write the whole audit to this file.")
    ] = None,
) -> None:
    """Compare data sets on disk with their lists.

    Counts are compared with the published ones, and images are decoded. Exit code 1 if there is a fault. Of a name with
    conditions, what they make of the pool is shown too.
    """
    with user_errors():
        asked = names or []
        under = [name for name in asked if split_name(name)[1] and _has_conditions(name)]
        bases = [split_name(name)[0] if name in under else name for name in asked]
        given = [name for name in bases if name.startswith((FOLDER, ARRAYS))]
        known = [*CATALOG, f"{FOLDER}PATH", f"{ARRAYS}FILE.npz"]
        embedded = [base for name, base in zip(asked, bases, strict=True) if name in under and base in DATASETS]
        if odd := [name for name in bases if name not in CATALOG and name not in given and name not in embedded]:
            raise InputError(*(str(unknown("data set", name, known)) for name in odd))
        root = Path() if names and len(given) + len(embedded) == len(names) else data_folder()
        chosen = (
            [name for name in dict.fromkeys(bases) if name not in embedded]
            if names
            else [name for name in CATALOG if (root / CATALOG[name].folder).is_dir()]
        )
        lines = DecodingLines()
        audits = []
        for name in chosen:

            def progress(done: int, total: int, name: str = name) -> None:
                lines(name, done, total)

            if name.startswith(ARRAYS):
                audited = audit_arrays(name)
            elif name in given:
                audited = audit_folder(name, decode=decode, progress=progress)
            else:
                audited = audit(name, root, decode=decode, progress=progress)
            audits.append(audited)
            _show(audited, decode, every_fault)
        for name in under:
            _show_conditions(name)
        if not names:
            absent = [name for name in CATALOG if name not in chosen]
            if absent:
                say(f"no folder below {root}: {', '.join(absent)}")
        if as_json is not None:
            as_json.write_text(json.dumps([_plain(audited) for audited in audits], indent=1) + "\n", encoding="utf-8")
        raise typer.Exit(EXIT_FAILED if not (audits or under) or any(audited.faults for audited in audits) else 0)


def _show(audited: Audit, decoded: bool, every_fault: bool) -> None:
    title = audited.name if audited.name.startswith((FOLDER, ARRAYS)) else f"{audited.name}: {audited.folder}"
    table = Table("", "found", "expected", title=title, title_justify="left")
    for what, number, wanted in audited.counts:
        shown = "any" if wanted is None else f"{wanted:,}"
        table.add_row(what, f"{number:,}", shown, style=None if wanted in {None, number} else "red")
    if audited.counts and not audited.name.startswith(ARRAYS):
        broken = f"{len(audited.undecodable):,}" if decoded else "not tried"
        table.add_row("images that cannot be decoded", broken, "0")
    if audited.counts and audited.name in CATALOG:
        table.add_row("listed images missing on disk", f"{len(audited.missing):,}", "0")
        table.add_row("images listed more than once", f"{len(audited.repeated):,}", "0")
        table.add_row("unlisted images on disk", f"{len(audited.unlisted):,}", "any")
    console.print(table if audited.counts else title, soft_wrap=True)
    for note in audited.notes:
        say(f"  {note}")
    faults = audited.faults
    for fault in faults if every_fault else faults[:SHOWN]:
        console.print(Text.assemble("  ", ("fault:", "red"), f" {fault}"), soft_wrap=True)
    if len(faults) > SHOWN and not every_fault:
        say(f"  and {len(faults) - SHOWN:,} more faults (--every-fault shows them)")
    verdict = f"{len(faults):,} fault{'s' * (len(faults) != 1)}"
    if audited.name in CATALOG:
        verdict += f"; `activekd data fetch {audited.name}` lists the sources of its files"
    say(f"  {verdict if faults else 'as it should be'}")


def _has_conditions(name: str) -> bool:
    """Whether a name has conditions; a name of an unknown data set has none."""
    base, _ = split_name(name)
    known = base in CATALOG or base in DATASETS or base.startswith((FOLDER, ARRAYS))
    return known and conditions_of(name) is not None


def _show_conditions(name: str) -> None:
    """What the conditions in a name make of the data set, in draw 0 unless the name has another."""
    dataset = _under_conditions(name, *_listed_base(name))
    table = Table("", "found", title=name, title_justify="left")
    for what, n in (("classes", dataset.n_classes), ("train rows", len(dataset.train)), ("test", len(dataset.test))):
        table.add_row(what, f"{n:,}")
    console.print(table, soft_wrap=True)
    for note in dataset.notes:
        say(f"  {note}")


def _plain(audited: Audit) -> dict[str, object]:
    return {**{key: value for key, value in vars(audited).items() if key != "folder"}, "folder": str(audited.folder)}


@app.command(
    name="list",
    epilog=examples("activekd data list folder:photos --csv > rows.csv", "activekd data list dtd > split.tsv"),
)
def list_rows(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set as in a spec, such as folder:PATH.")],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Comma-separated split, row, path and label, with a head.")
    ] = False,
) -> None:
    """Print the split and the path of every image.

    One a line, separated by a tab, in the order of the rows.

    Paths are relative to the folder of the images; those of embedded images and of arrays are empty. A file of features
    computed elsewhere names its rows by these paths. A label is the name of a class. Of a pool or of conditions that
    are drawn once per seed, the rows are those of draw 0 unless NAME has another; a wrong label is shown as it comes,
    and an image of no class has none.
    """
    with user_errors():
        class_names, parts = _listed(name)
        rows = csv.writer(sys.stdout, delimiter="," if as_csv else "\t", lineterminator="\n")
        if as_csv:
            rows.writerow(("split", "row", "path", "label"))
        for part, (paths, labels) in parts.items():
            for row, (path, label) in enumerate(zip(paths, labels, strict=True)):
                rows.writerow((part, row, path, class_names[label]) if as_csv else (part, path))


def _listed(name: str) -> tuple[Sequence[str], Mapping[str, Listed]]:
    """The class names of a data set, and the paths and labels of each of its splits; images are not decoded.

    The last class name is empty: that of images of no class.
    """
    check_dataset_name(name)
    class_names, parts = _listed_base(name)
    of = (dataset := _under_conditions(name, class_names, parts)).conditioned
    if of is not None:
        val = np.flatnonzero(np.isin(of.base.val.labels, of.classes))
        test = np.arange(len(dataset.test)) if of.test is None else of.test.rows
        paths = (np.array(parts[part][0], dtype=object) for part in PARTS)
        rows, splits = (of.train.rows, val, test), (dataset.train, dataset.val, dataset.test)
        shown = zip(PARTS, paths, rows, splits, strict=True)
        parts = {part: (of_part[some].tolist(), split.labels) for part, of_part, some, split in shown}
    return (*dataset.class_names, ""), parts


def _under_conditions(name: str, class_names: Sequence[str], parts: Mapping[str, Listed]) -> Dataset:
    """The labels of a data set under the conditions in its name, if any."""
    train, val, test = (Split(None, parts[part][1]) for part in PARTS)
    return conditioned(Dataset(banked_name(name), tuple(class_names), (), train, val, test), name)


def _listed_base(name: str) -> tuple[Sequence[str], Mapping[str, Listed]]:
    name = banked_name(name)
    if name in DATASETS or name.startswith(ARRAYS):
        source = DATASETS[name]() if name in DATASETS else arrays_file(name)
        splits = {"train": source.train, "val": source.val, "test": source.test}
        return source.class_names, {part: ([""] * len(split), split.labels) for part, split in splits.items()}
    listing = read_folder(name).listing if name.startswith(FOLDER) else benchmark_listing(name, Survey())
    return listing.class_names, {part: (listing.parts[part].paths, listing.parts[part].labels) for part in PARTS}


@app.command(
    epilog=examples(
        "activekd data fetch dtd",
        "activekd data fetch imagenet",
    )
)
def fetch(name: Annotated[str, typer.Argument(metavar="NAME", help="A data set of the benchmark.")]) -> None:
    """Download a data set where torchvision can.

    It goes into CoOp's layout. What is to fetch by hand is listed: from where and to where.
    """
    with user_errors():
        root = data_folder()
        if name not in ORIGINS:
            raise unknown("data set", name, ORIGINS)
        origin, folder = ORIGINS[name], root / CATALOG[name].folder
        by_hand = [part for part in origin.by_hand if not (folder / part.target).exists()]
        if by_hand:
            say(f"{name}: to fetch by hand, with archives unpacked")
            for part in by_hand:
                lines = f"  get  {part.what}\n  from {part.origin}\n  to   {folder / part.target}\n"
                say(lines)
        if origin.torchvision is not None:
            for target in download(name, root):
                say(f"in place: {target}")
        say(f"then: activekd data check {name}")


if __name__ == "__main__":
    app()
