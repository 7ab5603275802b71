"""A fitted student on features that are given: predictions for new rows, and the file that keeps it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from activekd.bank.views import Views
from activekd.datasets.arrays import Door
from activekd.devices import check_device
from activekd.errors import InputError, reason
from activekd.folders import unfinished_beside
from activekd.recipes import ClapRecipe, Distillation, Recipe
from activekd.streams import stream
from activekd.students.heads import Student, build_student
from activekd.students.networks import student_network
from activekd.students.predict import predict

if TYPE_CHECKING:
    from activekd.datasets.arrays import Rows

FORMAT = 1
"""Version of the files."""

KEY = "activekd"
"""Key of the metadata in a file, which are JSON."""

WEIGHTS = "student."
"""Prefix of the names of the student's tensors in a file."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """A fitted student of a ``Learner``: what prediction needs, without the pool.

    Attributes:
        class_names: one name per class, in label order.
        student: its name, ``adapter:given`` or ``frozen:given``.
        width: numbers a row of features.
        recipe: hyperparameters of its fit and of its prediction.
        distillation: mode of its fit.
        network: the fitted network.
        device: where it predicts.
    """

    class_names: tuple[str, ...]
    student: str
    width: int
    recipe: Recipe
    distillation: Distillation
    network: Student
    device: str = "cpu"

    def predict_proba(self, X: "Rows") -> Float32[np.ndarray, "n classes"]:
        """Class probabilities of rows of features: the recipe's mixture of both heads.

        Args:
            X: (n, width).

        Raises:
            InputError: the rows have another width, or values that are not finite.
        """
        door = Door("predict")
        rows = door.features("X", X, width=("X of the fit", self.width))
        door.refuse()
        assert rows is not None
        inputs = Views((rows,), self.device)
        out = predict(self.network, inputs, self.recipe, self.distillation, device=self.device)
        return out.probabilities.cpu().numpy()

    def predict(self, X: "Rows") -> Int64[np.ndarray, " n"]:
        """The class of each row of features, as a number; ``class_names`` has its name. Errors as ``predict_proba``."""
        return self.predict_proba(X).argmax(axis=1)

    def save(
        self, file: str | Path, tensors: Mapping[str, Tensor] | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Write the predictor to a safetensors file, whole or not at all.

        Args:
            file: path of the file.
            tensors: others to keep in it.
            metadata: others to keep in it, of types that JSON has.

        Raises:
            InputError: the file cannot be written.
        """
        path = Path(file).expanduser()
        weights = {f"{WEIGHTS}{name}": value.cpu().contiguous() for name, value in self.network.state_dict().items()}
        content = {
            "format": FORMAT,
            "class_names": self.class_names,
            "student": self.student,
            "width": self.width,
            "recipe": asdict(self.recipe),
            "distillation": self.distillation,
            **(metadata or {}),
        }
        unfinished = unfinished_beside(path)
        try:
            save_file({**weights, **(tensors or {})}, unfinished, metadata={KEY: json.dumps(content)})
            unfinished.replace(path)
        except (OSError, SafetensorError) as fault:
            why = reason(fault) if isinstance(fault, OSError) else str(fault)
            raise InputError(f"{path}: {why}; expected: a file in a folder that can be written") from fault
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, file: str | Path, *, device: str = "cpu") -> "Predictor":
        """The predictor in a file of ``Predictor.save`` or ``Learner.save``.

        Raises:
            InputError: the file cannot be read, or is another one.
        """
        check_device(device)
        return Saved.read(file).predictor(device)


@dataclass(frozen=True, eq=False)
class Saved:
    """The content of a file.

    Attributes:
        file: its path.
        tensors: by name.
        metadata: of the predictor, and others.
    """

    file: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, file: str | Path) -> "Saved":
        """The content of a file of ``Predictor.save``.

        Raises:
            InputError: the file cannot be read, or is another one.
        """
        path, expected = Path(file).expanduser(), "expected: a file of Learner.save"
        try:
            with safe_open(path, framework="pt") as content:
                metadata = json.loads((content.metadata() or {}).get(KEY, "{}"))
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as fault:
            raise InputError(f"{path}: {str(fault).splitlines()[0]}; {expected}") from fault
        if metadata.get("format") != FORMAT:
            raise InputError(f"{path}: format {metadata.get('format')}; {expected} of format {FORMAT}")
        return cls(path, tensors, metadata)

    @property
    def recipe(self) -> Recipe:
        """Hyperparameters of the fit."""
        numbers = self.metadata["recipe"]
        return Recipe(**{**numbers, "clap": ClapRecipe(**numbers["clap"])})

    def predictor(self, device: str) -> Predictor:
        """The predictor in the file."""
        of, recipe = self.metadata, self.recipe
        names = tuple(of["class_names"])
        network = build_student(
            student_network(of["student"]),
            (of["width"],),
            len(names),
            trunk_width=recipe.trunk_width,
            rng=stream(0, "student"),
        )
        weights = {k.removeprefix(WEIGHTS): v for k, v in self.tensors.items() if k.startswith(WEIGHTS)}
        network.load_state_dict(weights)
        return Predictor(
            names, of["student"], of["width"], recipe, of["distillation"], network.to(device).eval(), device
        )
