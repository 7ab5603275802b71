"""The command ``activekd``: the programs of bench as one command line."""

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from bench.grid import app as grid
from bench.grid import main as run_grid
from bench.terminal import Version, command_line

PROGRAMS = ("report", "data", "speed")
"""The commands beside those of a grid."""


def whole() -> typer.Typer:
    """The command line with every command."""
    from bench.data import app as data
    from bench.report.__main__ import app as report
    from bench.speed.__main__ import app as speed

    app = command_line()

    @app.callback()
    def about(version: Version = False) -> None:
        """Active learning with distillation from vision-language models: a benchmark.

        `activekd SPEC` is short for `activekd run SPEC`; `activekd COMMAND -h` explains a command.
        """

    app.registered_commands += [*grid.registered_commands, *report.registered_commands]
    app.add_typer(data, name="data")
    app.add_typer(speed, name="speed")
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``activekd``: a command of a grid loads no other program.

    Modules in the current folder can be imported, as with ``python -m``: selectors of a user's own stand there.

    Args:
        arguments: those of the process by default; its help without any.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if given[0] in {*PROGRAMS, "--help", "-h", "--version"}:
        whole()(given)
    else:
        run_grid(given, PROGRAMS)


if __name__ == "__main__":
    main()
