"""A small data set of arrays with a teacher, and a spec of trials on it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from small_recipe import RECIPE

CLASSES = ("ant", "bee", "cat")


def made_arrays(**changed: Any) -> dict[str, Any]:
    """Arrays of three classes: 30 train and 15 test rows, 5 wide, and teacher features 4 wide; None leaves one out."""
    rng = np.random.default_rng(0)
    centres, text = rng.normal(size=(3, 5)), rng.normal(size=(3, 4))
    out: dict[str, Any] = {"class_names": np.array(CLASSES), "text": text}
    for end, n in (("", 30), ("_test", 15)):
        y = np.arange(n) % 3
        out |= {
            f"X{end}": centres[y] + 0.5 * rng.normal(size=(n, 5)),
            f"y{end}": y,
            f"teacher_features{end}": text[y] + 0.8 * rng.normal(size=(n, 4)),
        }
    return {key: value for key, value in (out | changed).items() if value is not None}


def saved_arrays(file: Path, **changed: Any) -> str:
    """The name of the data set of these arrays, saved in a file."""
    np.savez(file, **made_arrays(**changed))
    return f"arrays:{file}"


def spec_on(data: str, folder: Path, **lines: str) -> Path:
    """A spec of three rounds on a data set, with the recipe ``short``; ``lines`` replace its lines, as TOML."""
    written = {
        "name": '"arrays"',
        "datasets": f'["{data}"]',
        "teachers": '["none", "given+zeroshot", "given+clap"]',
        "students": '["adapter:given", "frozen:given"]',
        "selectors": '["random", "pcoreset"]',
        "seeds": "[3]",
        "rounds": "3",
        "query_size": "4",
    }
    path = folder / "arrays.toml"
    short, clap = asdict(RECIPE), asdict(RECIPE.clap)
    del short["clap"]
    text = "".join(f"{key} = {value}\n" for key, value in (written | lines).items())
    text += "[recipes.short]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in short.items())
    text += "[recipes.short.clap]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in clap.items())
    path.write_text(text, encoding="utf-8")
    return path
