"""Frames as LaTeX tables in the style of booktabs, which compile as they are."""

from pathlib import Path

import pandas as pd

LONG = 40
"""Tables of more rows break over pages."""

PREAMBLE = r"""\documentclass{article}
\usepackage[a3paper,landscape,margin=1cm]{geometry}
\usepackage[T1]{fontenc}
\usepackage{booktabs,longtable}
\begin{document}
\scriptsize
"""


def table(frame: pd.DataFrame, caption: str) -> str:
    """A frame as a table; its column names with spaces for underscores.

    It needs the packages booktabs and, for more than LONG rows, longtable.
    """
    shown = frame.rename(columns=lambda name: str(name).replace("_", " "))
    rest = len(shown.columns) - 1
    first_is_name = bool(len(shown.columns)) and not pd.api.types.is_numeric_dtype(shown.dtypes.iloc[0])
    return shown.to_latex(
        index=False,
        escape=True,
        float_format="%.4g",
        na_rep="",
        longtable=len(shown) > LONG,
        caption=caption.replace("_", " "),
        column_format=("l" if first_is_name else "r") + "".join(_align(shown.iloc[:, i + 1]) for i in range(rest)),
    )


def _align(column: pd.Series) -> str:
    return "r" if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) else "l"


def document(tables: list[Path]) -> str:
    """A document that takes in each of the files."""
    return PREAMBLE + "".join(f"\\input{{{path.name}}}\n\\clearpage\n" for path in tables) + "\\end{document}\n"
