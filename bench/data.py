"""The command line of the data sets: check those on disk, download what torchvision can, list the other sources."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from activekd.datasets.audit import Audit, audit
from activekd.datasets.catalog import CATALOG
from activekd.datasets.fetch import ORIGINS, download
from activekd.errors import unknown
from activekd.folders import data_folder
from bench.terminal import EXIT_FAILED, DecodingLines, console, user_errors

SHOWN = 20
"""Faults shown per data set without ``--every-fault``."""

app = typer.Typer(
    help="The benchmark's eleven data sets under $ACTIVEKD_DATA, in CoOp's layout.",
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


@app.command(
    epilog="Examples: `python -m bench.data check` · `python -m bench.data check dtd eurosat --every-fault` · "
    "`python -m bench.data check imagenet --no-decode`"
)
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Data sets [default: all that have a folder].")
    ] = None,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Decode every image.")] = True,
    every_fault: Annotated[bool, typer.Option("--every-fault", help=f"Show every fault, not only {SHOWN}.")] = False,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write the whole audit to this file.")] = None,
) -> None:
    """Compare data sets on disk with their lists and published counts; exit with code 1 if there is a fault."""
    with user_errors():
        root = data_folder()
        for name in names or ():
            if name not in CATALOG:
                raise unknown("data set", name, CATALOG)
        chosen = names or [name for name in CATALOG if (root / CATALOG[name].folder).is_dir()]
        lines = DecodingLines()
        audits = []
        for name in chosen:
            audited = audit(name, root, decode=decode, progress=lambda done, total, name=name: lines(name, done, total))
            audits.append(audited)
            _show(audited, decode, every_fault)
        if not names:
            absent = [name for name in CATALOG if name not in chosen]
            if absent:
                console.print(f"no folder below {root}: {', '.join(absent)}", highlight=False, soft_wrap=True)
        if as_json is not None:
            as_json.write_text(json.dumps([_plain(audited) for audited in audits], indent=1) + "\n", encoding="utf-8")
        raise typer.Exit(EXIT_FAILED if not audits or any(audited.faults for audited in audits) else 0)


def _show(audited: Audit, decoded: bool, every_fault: bool) -> None:
    table = Table("", "found", "expected", title=f"{audited.name}: {audited.folder}", title_justify="left")
    for what, number, wanted in audited.counts:
        table.add_row(what, f"{number:,}", f"{wanted:,}", style=None if number == wanted else "red")
    if audited.counts:
        table.add_row("listed images missing on disk", f"{len(audited.missing):,}", "0")
        broken = f"{len(audited.undecodable):,}" if decoded else "not tried"
        table.add_row("images that cannot be decoded", broken, "0")
        table.add_row("images listed more than once", f"{len(audited.repeated):,}", "0")
        table.add_row("unlisted images on disk", f"{len(audited.unlisted):,}", "any")
    console.print(table if audited.counts else f"{audited.name}: {audited.folder}", soft_wrap=True)
    faults = audited.faults
    for fault in faults if every_fault else faults[:SHOWN]:
        console.print(Text.assemble("  ", ("fault:", "red"), f" {fault}"), soft_wrap=True)
    if len(faults) > SHOWN and not every_fault:
        console.print(f"  and {len(faults) - SHOWN:,} more faults (--every-fault shows them)", highlight=False)
    number = f"{len(faults):,} fault{'s' * (len(faults) != 1)}"
    verdict = f"{number}; `python -m bench.data fetch {audited.name}` lists the sources of its files"
    console.print(f"  {verdict if faults else 'as it should be'}", highlight=False, soft_wrap=True)


def _plain(audited: Audit) -> dict[str, object]:
    return {**{key: value for key, value in vars(audited).items() if key != "folder"}, "folder": str(audited.folder)}


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
            console.print(f"{name}: to fetch by hand, with archives unpacked", highlight=False)
            for part in by_hand:
                lines = f"  get  {part.what}\n  from {part.origin}\n  to   {folder / part.target}\n"
                console.print(lines, highlight=False, soft_wrap=True, markup=False)
        if origin.torchvision is not None:
            for target in download(name, root):
                console.print(f"in place: {target}", highlight=False, soft_wrap=True)
        console.print(f"then: python -m bench.data check {name}", highlight=False)


if __name__ == "__main__":
    app()
