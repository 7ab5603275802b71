"""Frames as LaTeX tables in the style of booktabs.

pdfLaTeX sets names in Latin letters; other scripts need LuaLaTeX or XeLaTeX with a font that has them.
"""

import re
from collections.abc import Sequence

import pandas as pd

LONG = 40
"""Tables with more rows break over pages."""

PREAMBLE = r"""\documentclass{article}
\usepackage[a3paper,landscape,margin=1cm]{geometry}
\usepackage{iftex}
\ifPDFTeX\usepackage[T1]{fontenc}\else\usepackage{fontspec}\fi
\usepackage{booktabs,longtable}
\begin{document}
\scriptsize
"""

ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        **{mark: f"{{{mark}}}" for mark in "[]*"},
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
        **dict.fromkeys("\n\r\t", " "),
    }
)


def escaped(text: str) -> str:
    """A text whose characters are no commands, no options (``[`` after the end of a row) and no ligatures (``--``)."""
    return re.sub(r"([-,])(?=\1)", r"\1{}", text.translate(ESCAPED))


def table(frame: pd.DataFrame, caption: str) -> str:
    """A frame as a table: spaces for underscores in column names, numbers with four significant digits.

    The document needs the packages booktabs and, for more than LONG rows, longtable. A pandas Styler would take longer
    for the tables of a large grid than all their statistics.
    """
    numeric = [_is_number(frame.iloc[:, i]) for i in range(frame.shape[1])]
    columns = [_cells(frame.iloc[:, i], is_number) for i, is_number in enumerate(numeric)]
    head = " & ".join(escaped(str(name).replace("_", " ")) for name in frame.columns) + r" \\"
    body = "\n".join(" & ".join(cells) + r" \\" for cells in zip(*columns, strict=True))
    align = "".join("r" if is_number else "l" for is_number in numeric)
    title = f"\\caption{{{escaped(caption)}}}"
    if len(frame) > LONG:
        top = ["\\toprule", head, "\\midrule"]
        lines = [f"\\begin{{longtable}}{{{align}}}", title + r" \\", *top, "\\endfirsthead", *top, "\\endhead"]
        return "\n".join([*lines, "\\bottomrule", "\\endfoot", body, "\\end{longtable}", ""])
    lines = ["\\begin{table}", title, f"\\begin{{tabular}}{{{align}}}", "\\toprule", head, "\\midrule", body]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _cells(column: pd.Series, is_number: bool) -> list[str]:
    if is_number:
        values = column.tolist()
        return [str(v) if isinstance(v, int) else "" if pd.isna(v) else f"{v:.4g}" for v in values]
    return ["" if pd.isna(value) else escaped(str(value)) for value in column.tolist()]


def document(stems: Sequence[str]) -> str:
    """A document that includes the files of these stems."""
    return PREAMBLE + "".join(f"\\input{{{stem}.tex}}\n\\clearpage\n" for stem in stems) + "\\end{document}\n"
