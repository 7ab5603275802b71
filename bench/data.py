"""The command line of the data sets: check those on disk, list splits, download what torchvision can."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from activekd.datasets.audit import Audit, audit, audit_folder
from activekd.datasets.catalog import CATALOG
from activekd.datasets.coop import PARTS
from activekd.datasets.fetch import ORIGINS, download
from activekd.datasets.folder import FOLDER, read_folder
from activekd.errors import InputError, unknown
from activekd.folders import data_folder
from bench.terminal import EXIT_FAILED, HELP_NAMES, DecodingLines, Version, console, say, user_errors

SHOWN = 20
"""Faults shown per data set without ``--every-fault``."""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=HELP_NAMES,
)


@app.callback()
def about(version: Version = False) -> None:
    """The benchmark's eleven data sets under $ACTIVEKD_DATA, in CoOp's layout, and image folders."""


@app.command(
    epilog="Examples: `python -m bench.data check` · `python -m bench.data check dtd eurosat --every-fault` · "
    "`python -m bench.data check imagenet --no-decode` · `python -m bench.data check folder:PATH`"
)
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Data sets, or folder:PATH [default: all that have a folder]."),
    ] = None,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Decode every image.")] = True,
    every_fault: Annotated[bool, typer.Option("--every-fault", help=f"Show every fault, not only {SHOWN}.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the whole audit to this file.")] = None,
) -> None:
    """Compare data sets on disk with their lists and published counts; exit with code 1 if there is a fault."""
    with user_errors():
        folders = [name for name in names or () if name.startswith(FOLDER)]
        if odd := [name for name in names or () if name not in CATALOG and name not in folders]:
            raise InputError(*(str(unknown("data set", name, [*CATALOG, f"{FOLDER}PATH"])) for name in odd))
        root = Path() if names and len(folders) == len(names) else data_folder()
        chosen = names or [name for name in CATALOG if (root / CATALOG[name].folder).is_dir()]
        lines = DecodingLines()
        audits = []
        for name in chosen:

            def progress(done: int, total: int, name: str = name) -> None:
                lines(name, done, total)

            if name in folders:
                audited = audit_folder(name, decode=decode, progress=progress)
            else:
                audited = audit(name, root, decode=decode, progress=progress)
            audits.append(audited)
            _show(audited, decode, every_fault)
        if not names:
            absent = [name for name in CATALOG if name not in chosen]
            if absent:
                say(f"no folder below {root}: {', '.join(absent)}")
        if as_json is not None:
            as_json.write_text(json.dumps([_plain(audited) for audited in audits], indent=1) + "\n", encoding="utf-8")
        raise typer.Exit(EXIT_FAILED if not audits or any(audited.faults for audited in audits) else 0)


def _show(audited: Audit, decoded: bool, every_fault: bool) -> None:
    title = audited.name if audited.name.startswith(FOLDER) else f"{audited.name}: {audited.folder}"
    table = Table("", "found", "expected", title=title, title_justify="left")
    for what, number, wanted in audited.counts:
        shown = "any" if wanted is None else f"{wanted:,}"
        table.add_row(what, f"{number:,}", shown, style=None if wanted in {None, number} else "red")
    if audited.counts:
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
        verdict += f"; `python -m bench.data fetch {audited.name}` lists the sources of its files"
    say(f"  {verdict if faults else 'as it should be'}")


def _plain(audited: Audit) -> dict[str, object]:
    return {**{key: value for key, value in vars(audited).items() if key != "folder"}, "folder": str(audited.folder)}


@app.command(name="list", epilog="Example: `python -m bench.data list folder:PATH > split.tsv`")
def list_split(name: Annotated[str, typer.Argument(metavar="folder:PATH", help="An image folder.")]) -> None:
    """Print the split and the path of every image of a folder, separated by a tab, in the order of the rows.

    Paths are relative to the folder. A file of features computed elsewhere names its rows by these paths.
    """
    with user_errors():
        if not name.startswith(FOLDER):
            raise InputError(
                f"data set '{name}'; expected: {FOLDER}PATH (the benchmark's data sets have their splits in files)"
            )
        parts = read_folder(name).listing.parts
        rows = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
        rows.writerows((part, path) for part in PARTS for path in parts[part].paths)


@app.command(epilog="Examples: `python -m bench.data fetch dtd` · `python -m bench.data fetch imagenet`")
def fetch(name: Annotated[str, typer.Argument(metavar="NAME", help="A data set of the benchmark.")]) -> None:
    """Download what torchvision can, into CoOp's layout; list what to fetch by hand, from where and to where."""
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
        say(f"then: python -m bench.data check {name}")


if __name__ == "__main__":
    app()
