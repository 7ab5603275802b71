"""The main table on a page and in LaTeX: accuracy at some numbers of labels, the best in bold."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from bench import stats
from bench.columns import CONFIGURATION, LABELS, REFERENCES
from bench.display import Display, distilled_on
from bench.report.cells import Cell, Marked, Table
from bench.report.latex import escaped
from bench.report.stems import Stems
from bench.stats.intervals import seeds_label
from bench.stats.main_table import COLUMN, columns_of

STEM = "main"
"""Name of the table in files; those of other configurations begin with it."""

SHOWN_NAMES = 4
"""Names of one kind that the caption of an average lists; more are counted."""

MANY_TABLES = 2
"""More tables of configurations are folded on the HTML page."""

PLURALS = {"group": "Data", "teacher": "Teachers", "student": "Students", "recipe": "Recipes"}

UNRANKED = "The last rows are reference lines: they are neither ranked nor tested."

BETWEEN = " · "
"""Between the names of a configuration."""


def main_tables(
    table: pd.DataFrame,
    averages: pd.DataFrame,
    display: Display,
    order: Sequence[str],
    references: pd.DataFrame | None = None,
) -> list[Table]:
    """The averages, then each configuration, as tables of a page; reference lines are the last rows.

    Args:
        table: ``stats.main_table``.
        averages: ``stats.main_averages`` of the same rows.
        display: labels of the names.
        order: of the selectors.
        references: ``stats.main_references`` of the same rows; None without any.
    """
    parts, several = _parts(table, order), _several_recipes(table)
    folded = sum(not part["average"].iloc[0] for part in parts) > MANY_TABLES
    return [
        Table(
            [LABELS["selector"], *(_of_labels(header) for header in columns_of(part).values())],
            [
                [display.selector(name), *cells]
                for name, cells in (_rows(part) | _rows(_lines(references, part), part)).items()
            ],
            f"{_title(part, display, several=several)} ({seeds_label(part['n_seeds'])})",
            folded=folded and not part["average"].iloc[0],
            note=_members(part, averages, display),
        )
        for part in parts
    ]


def rule(table: pd.DataFrame, over: str = "the n seeds of a table", *, has_references: bool = False) -> str:
    """What the numbers and marks of tables mean: over which seeds, and how they are tested.

    Args:
        table: ``stats.main_table``, or some of its tables.
        over: the seeds in words.
        has_references: whether the last rows are reference lines.
    """
    lines = f" {UNRANKED}" if has_references else ""
    return f"{_rule_of_marks(table, over)}{lines}"


def _rule_of_marks(table: pd.DataFrame, over: str) -> str:
    n = table["n_seeds"]
    spread = "of one seed" if n.max() == 1 else f"mean ± standard deviation over {over}"
    marks = f"Test accuracy in percent, {spread}. Bold: the best of a column."
    none = f"Below {stats.VERDICT_LEAST} seeds no difference is tested, so nothing is underlined."
    if n.max() < stats.VERDICT_LEAST:
        return f"{marks} {none}"
    tests = (
        "Underlined: not significantly different from the best (paired t test over seeds at 5%, Holm's correction "
        "within the column)."
    )
    return f"{marks} {tests}" + ("" if n.min() >= stats.VERDICT_LEAST else f" {none}")


def main_latex(
    table: pd.DataFrame,
    averages: pd.DataFrame,
    display: Display,
    order: Sequence[str],
    references: pd.DataFrame | None = None,
    worded: Callable[[str], str] = str,
) -> dict[str, str]:
    """LaTeX of the tables by stem of their files: the averages, or the first configuration without one, in STEM.

    Args:
        table: as of ``main_tables``, like averages, display, order and references.
        averages: likewise.
        display: likewise.
        order: likewise.
        references: likewise.
        worded: a text about accuracy as one about what is ranked.
    """
    out: dict[str, str] = {}
    stems, several = Stems(STEM), _several_recipes(table)
    has_average = bool(table["average"].any())
    for index, part in enumerate(_parts(table, order)):
        number, title = int(part["average"].iloc[0]), _title(part, display, several=several)
        stem = STEM if number or (index == 0 and not has_average) else stems.of(*title.split(BETWEEN))
        label = f"{stem}-{number}" if number > 1 else stem
        lines = _lines(references, part)
        marks = rule(part, f"{seeds_label(part['n_seeds'])} seeds", has_references=len(lines) > 0)
        texts = [f"{title}.", worded(_members(part, averages, display)), worded(marks)]
        out[stem] = out.get(stem, "") + _latex(part, lines, display, " ".join(text for text in texts if text), label)
    return out


def _parts(table: pd.DataFrame, order: Sequence[str]) -> list[pd.DataFrame]:
    """The rows of each table in the order of the selectors, averages first."""
    place = {name: index for index, name in enumerate(order)}
    ordered = table.assign(place=table["selector"].map(place), is_one=table["average"] == 0)
    ordered = ordered.sort_values(["is_one", "average", "place", COLUMN], kind="stable")
    return [part for _, part in ordered.groupby(["average", *CONFIGURATION], sort=False)]


def _lines(references: pd.DataFrame | None, part: pd.DataFrame) -> pd.DataFrame:
    """The reference lines of one table, in the order of REFERENCES."""
    if references is None:
        return part.iloc[:0]
    place = {name: index for index, name in enumerate(REFERENCES)}
    found = references.merge(part[["average", *CONFIGURATION]].drop_duplicates())
    return found.assign(place=found["selector"].map(place)).sort_values("place", kind="stable")


def _rows(part: pd.DataFrame, of: pd.DataFrame | None = None) -> dict[str, list[Cell]]:
    """The cells of each selector in the columns of a table; a selector without a column has an empty one."""
    columns = list(columns_of(part if of is None else of))
    out: dict[str, list[Cell]] = {name: ["" for _ in columns] for name in part["selector"].drop_duplicates()}
    for record in part.to_dict("records"):
        out[record["selector"]][columns.index(record[COLUMN])] = _cell(record)
    return out


def _cell(record: Mapping[Hashable, Any]) -> Marked:
    spread = "" if pd.isna(record["sd"]) else f"± {100 * record['sd']:.1f}"
    return Marked(f"{100 * record['mean']:.1f}", spread, bool(record["best"]), bool(record["not_different"]))


def _of_labels(header: str) -> str:
    return header if header.startswith("round") else f"{header} labels"


def _several_recipes(table: pd.DataFrame) -> bool:
    """Whether some data and student have more than one recipe, which names must then tell apart."""
    return bool(table.groupby(["group", "student"])["recipe"].nunique().max() > 1)


def _title(part: pd.DataFrame, display: Display, *, several: bool) -> str:
    """Names a table; with the recipe if there are ``several`` of one student."""
    first = part.iloc[0]
    if first["average"]:
        return f"Average over {first['n_configurations']} configurations"
    teacher = distilled_on(display.of("teacher", first["teacher"]), first["distillation"])
    group, student, recipe = (display.of(kind, first[kind]) for kind in ("group", "student", "recipe"))
    return BETWEEN.join([group, teacher, student, *([recipe] if several else [])])


def _members(part: pd.DataFrame, averages: pd.DataFrame, display: Display) -> str:
    """What is averaged; empty for one configuration."""
    number = part["average"].iloc[0]
    if not number:
        return ""
    members = display.applied(averages[averages["average"] == number])
    pairs = zip(members["teacher"], members["distillation"], strict=True)
    members = members.assign(teacher=[distilled_on(teacher, mode) for teacher, mode in pairs])
    named = []
    for column, words in PLURALS.items():
        names = members[column].drop_duplicates().tolist()
        named.append(f"{words}: {'; '.join(names) if len(names) <= SHOWN_NAMES else len(names)}.")
    return (
        f"{' '.join(named)} Accuracies are averaged over these within a seed; the deviation is that of the average "
        "over seeds."
    )


def _latex(part: pd.DataFrame, references: pd.DataFrame, display: Display, caption: str, label: str) -> str:
    """A table of booktabs with ``\\caption`` and ``\\label``."""
    headers = list(columns_of(part).values())
    n = len(headers)
    rounds = any(header.startswith("round") for header in headers)
    top = "" if rounds else f" & \\multicolumn{{{n}}}{{c}}{{labels}} \\\\\n\\cmidrule(lr){{2-{n + 1}}}\n"
    lines, below = (
        [
            " & ".join([escaped(display.selector(name)), *map(_latex_cell, cells)]) + r" \\"
            for name, cells in _rows(some, part).items()
        ]
        for some in (part, references)
    )
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_math(escaped(caption))}}}",
            f"\\label{{tab:{label}}}",
            f"\\begin{{tabular}}{{l{'r' * n}}}",
            f"\\toprule\n{top}{' & '.join([LABELS['selector'], *map(escaped, headers)])} \\\\",
            "\\midrule",
            *lines,
            *(["\\midrule", *below] if below else []),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
            "",
        ]
    )


def _latex_cell(cell: Cell) -> str:
    if not isinstance(cell, Marked):
        return escaped(cell)
    number = f"\\textbf{{{cell.number}}}" if cell.best else cell.number
    number = f"\\underline{{{number}}}" if cell.tied else number
    return _math(f"{number} {cell.rest}".rstrip())


def _math(text: str) -> str:
    return text.replace("±", r"$\pm$").replace("·", r"$\cdot$")
