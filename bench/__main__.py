"""The command ``activekd``: the programs of bench as one command line."""

import sys

import bench.data
import bench.grid
import bench.report.__main__
import bench.speed.__main__
from bench.terminal import Version, command_line

PROGRAMS = ("report", "data", "speed")
"""The commands beside those of a grid."""

app = command_line()


@app.callback()
def about(version: Version = False) -> None:
    """Active learning with distillation from vision-language models, benchmarked: specs, runs, reports.

    `activekd SPEC` is short for `activekd run SPEC`; `activekd COMMAND -h` explains a command.
    """


app.registered_commands += [*bench.grid.app.registered_commands, *bench.report.__main__.app.registered_commands]
app.add_typer(bench.data.app, name="data")
app.add_typer(bench.speed.__main__.app, name="speed")


def main() -> None:
    """Run ``activekd`` with the arguments of the process; its help without any."""
    bench.grid.main(sys.argv[1:] or ["--help"], app, PROGRAMS)


if __name__ == "__main__":
    main()
