"""Fits by the code of commit 18509b1, in a process that has it on PYTHONPATH; ``gpu_older`` starts and asks it.

Each line of the input is a JSON object with the name of a function below and its arguments; its answer is a line.
"""

import json
import sys
from dataclasses import fields
from pkgutil import resolve_name
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import nn


def _old(name: str) -> Any:
    """A name of the old code, which the types of this code do not know."""
    return resolve_name(f"activekd.{name}")


def _recipe(values: dict[str, Any]) -> Any:
    """A recipe, without the fields that the old code does not know."""
    kind, clap = _old("recipes:Recipe"), _old("recipes:ClapRecipe")(**values["clap"])
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in {**values, "clap": clap}.items() if name in known})


def _views(arrays: np.ndarray) -> Any:
    return _old("bank:Views")(tuple(arrays))


class _World:
    """The arrays of ``gpu_world.World`` as the old code takes them."""

    def __init__(self, path: str, recipe: dict[str, Any], geometry: dict[str, Any]) -> None:
        self.arrays = dict(np.load(path))
        split = _old("datasets:Split")
        classes = tuple(f"class {k}" for k in range(len(self.arrays["text"])))
        train, test = split(None, self.arrays["train_labels"]), split(None, self.arrays["test_labels"])
        self.dataset = _old("datasets:Dataset")("speed", classes, ("{}",), train, test, test)
        self.recipe, self.geometry = _recipe(recipe), _old("recipes:ViewGeometry")(**geometry)
        self.network = _old("students:student_network")("frozen:efficientnet_lite0")


def seconds_of_rounds(
    path: str,
    recipe: dict[str, Any],
    geometry: dict[str, Any],
    *,
    teacher: str,
    selectors: list[str],
    seed: int,
    picked: list[list[int]],
    rounds: int,
    query_size: int,
) -> list[float]:
    """CPU seconds of the next round of each selector's trial."""
    world = _World(path, recipe, geometry)
    arrays, inputs = world.arrays, None
    if teacher != "none":
        head = _old("teachers:TextHead")(arrays["zero_shot"], arrays["text"])
        adapt = _old("teachers:ADAPTATIONS")[teacher]
        inputs = _old("loop:TeacherInputs")(adapt, head, _views(arrays["teacher_train"]), arrays["teacher_test"][0])
    student = _old("loop:StudentInputs")(world.network, _views(arrays["student_train"]), _views(arrays["student_test"]))
    distillation = "none" if inputs is None else "both"
    protocol = _old("loop:Protocol")(rounds, 1, query_size, distillation, seed)
    out = []
    for name in selectors:
        selector = _old("selectors:selector")(name)
        start = process_time()
        next(
            _old("loop:run_rounds")(
                world.dataset, student, inputs, selector, world.recipe, world.geometry, protocol, picked=picked
            )
        )
        out.append(process_time() - start)
    return out


def seconds_of_fit(path: str, recipe: dict[str, Any], geometry: dict[str, Any], *, labeled: int, device: str) -> float:
    """Seconds of one fit of heads with distillation."""
    world = _World(path, recipe, geometry)
    arrays = world.arrays
    rows = np.arange(len(arrays["train_labels"]))
    some = _old("datasets:Labeled")(rows[:labeled], arrays["train_labels"][:labeled])
    guide = _old("distill:Guide")(_views(arrays["teacher_train"]), torch.from_numpy(arrays["zero_shot"]).to(device))
    inputs, stream = _views(arrays["student_train"]), _old("streams:stream")
    student = _old("students:build_student")(world.network, inputs.shape, len(arrays["text"]), rng=stream(0, "student"))
    fit = (student, inputs, some, rows[labeled:], guide, "both", world.recipe, world.geometry)
    start = _clock(device)
    _old("distill:fit_student")(*fit, rng=stream(0, "batches"), device=device)
    _wait(device)
    return _clock(device) - start


def seconds_of_pixels(
    recipe: dict[str, Any],
    geometry: dict[str, Any],
    *,
    backbone: str,
    size: int,
    height: int,
    width: int,
    images: int,
    labeled: int,
    classes: int,
    feature_width: int,
    device: str,
) -> float:
    """Seconds of one fit, trained end to end on images of one size, with random weights."""
    rng, rows = np.random.default_rng(0), np.arange(images)
    shapes = np.tile(np.array([[height, width]], dtype=np.int64), (images, 1))
    pixels = rng.integers(256, size=3 * images * height * width, dtype=np.uint8)
    chosen = _old("backbones:backbone")(backbone)
    views = _old("recipes:ViewGeometry")(**geometry)
    inputs = _old("bank:LiveViews")(_old("images:Images")(shapes, pixels), views, size, chosen.interpolation)
    body = chosen.build()
    body.reset_classifier(0)
    dim = getattr(body, "head_hidden_size", body.num_features)
    student = _old("students:Student")(nn.Sequential(_old("students:Normalise")(chosen), body), dim, classes)
    student = student.to(memory_format=torch.channels_last)
    features = _views(rng.normal(size=(views.count, images, feature_width)).astype(np.float16))
    prototypes = torch.from_numpy(rng.normal(size=(classes, feature_width)).astype(np.float32)).to(device)
    some = _old("datasets:Labeled")(rows[:labeled], rng.integers(classes, size=labeled))
    guide = _old("distill:Guide")(features, prototypes)
    fit = (student, inputs, some, rows[labeled:], guide, "both", _recipe(recipe), views)
    start = _clock(device)
    _old("distill:fit_student")(*fit, rng=np.random.default_rng(0), device=device)
    _wait(device)
    return _clock(device) - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _clock(device: str) -> float:
    """As ``gpu_world.clock``."""
    return process_time() if device == "cpu" else perf_counter()


def main() -> None:
    """Answer each line of the input."""
    functions = {f.__name__: f for f in (seconds_of_rounds, seconds_of_fit, seconds_of_pixels)}
    torch.set_num_threads(1)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(functions[asked["ask"]](*asked["given"], **asked["named"])), flush=True)


if __name__ == "__main__":
    main()
