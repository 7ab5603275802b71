"""Rates at which tasks are done, measured or given: a TOML file, or NAME=PER_SECOND on the command line."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any, cast, get_args

from activekd.errors import InputError, unknown
from bench.plan.work import Estimate, Part, Task

FORWARD_SHARE = 1 / 3
"""Assumed cost of a forward pass as a share of a training step, where the rate of the forward pass is unknown."""

RATED: tuple[str, ...] = tuple(part for part in get_args(Part) if part != "diagnose")
"""Parts that have rates; diagnostics predict at the rate of predictions."""

Rates = Mapping[Task, float]
"""Amounts per second of one slot, that is of one trial on its share of a device; a task of size 0 stands for all
sizes."""


def rate_of(task: Task, rates: Rates, estimated: Estimate) -> float | None:
    """The rate of a task; None where it is unknown.

    A prediction without a rate costs FORWARD_SHARE of a training step of the same student, unless its backbone is
    frozen.
    """
    part: Part = "predict" if task.part == "diagnose" else task.part
    for known in (Task(part, task.name, task.size), Task(part, task.name)):
        if known in rates:
            return rates[known]
    if part == "predict" and not estimated.students[task.name].frozen:
        trained = [rate for known, rate in rates.items() if (known.part, known.name) == ("student", task.name)]
        return max(trained, default=0.0) / FORWARD_SHARE or None
    return None


def given_rates(options: Sequence[str], estimated: Estimate) -> Rates:
    """The rates of options ``NAME=PER_SECOND``, of students in optimiser steps and of the bank's encoders.

    Raises:
        InputError: an option has another form, or the plan has neither a student nor an encoder of that name; all such
            options at once.
    """
    rates, faults = {}, []
    for option in options:
        name, _, value = option.rpartition("=")
        if name not in estimated.students and name not in estimated.encoders:
            faults.append(str(unknown("network in --rate", name or value, [*estimated.students, *estimated.encoders])))
        elif (rate := _positive(value)) is None:
            faults.append(f"--rate {option}: '{value}'; expected: NAME=PER_SECOND, more than 0")
        else:
            rates[Task("student" if name in estimated.students else "encode", name)] = rate
    if faults:
        raise InputError(*faults)
    return rates


def read_rates(file: Path) -> Rates:
    """The rates of a TOML file: a table for each of RATED, from names to a rate, or to a rate for each size.

    Raises:
        InputError: the file cannot be read or is not TOML; or all tables and values that are no rates.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise InputError(f"rates {file}: {fault}; expected: a TOML file of rates") from fault
    rates, faults = {}, []
    for part, name, size, value in _entries(content):
        where = ".".join(filter(None, (part, name, size)))
        if part not in RATED:
            faults.append(f"rates {file}: {unknown('table', part, RATED)}")
        elif (rate := _positive(value)) is None or not (size or "0").isdecimal() or not name:
            faults.append(
                f"rates {file}: {where} is {value!r}; expected: NAME = PER_SECOND or NAME = {{ SIZE = PER_SECOND }}"
            )
        else:
            rates[Task(cast(Part, part), name, int(size or 0))] = rate
    if faults:
        raise InputError(*dict.fromkeys(faults))
    return rates


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """The (part, name, size, rate) of a file; what a level lacks is empty."""
    for part, table in content.items():
        for name, value in table.items() if isinstance(table, dict) else [("", table)]:
            for size, rate in value.items() if isinstance(value, dict) else [("", value)]:
                yield part, name, size, rate


def _positive(value: Any) -> float | None:
    try:
        rate = float(value)
    except (TypeError, ValueError):
        return None
    return rate if 0 < rate < inf and not isinstance(value, bool) else None


def write_rates(rates: Rates, file: Path) -> None:
    """Write rates to a TOML file that ``read_rates`` reads.

    Raises:
        InputError: the file cannot be written.
    """
    lines = ["# Amounts per second of one trial on its share of a device, by bench.speed throughput."]
    for part, of_part in groupby(sorted(rates), key=lambda task: task.part):
        lines.append(f"\n[{part}]")
        for name, tasks in groupby(of_part, key=lambda task: task.name):
            sizes = ", ".join(f"{task.size} = {rates[task]:.6g}" for task in tasks)
            lines.append(f"{json.dumps(name)} = {{ {sizes} }}")
    try:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as fault:
        raise InputError(f"rates {file}: {fault.strerror}; expected: a file in a writable folder") from fault
