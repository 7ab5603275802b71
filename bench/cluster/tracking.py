"""Experiment trackers, through Ray Tune's callbacks: they get every round too; the results folder is authoritative."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from ray.tune import Callback

from activekd.errors import InputError

FOLDER = "tracking"


def _tensorboard(folder: Path, name: str) -> Callback:
    from ray.tune.logger import TBXLoggerCallback

    return TBXLoggerCallback()


def _mlflow(folder: Path, name: str) -> Callback:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    return MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name=name)


def _wandb(folder: Path, name: str) -> Callback:
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project="activekd-bench", group=name, dir=str(folder))


TRACKERS: dict[str, tuple[str, Callable[[Path, str], Callback]]] = {
    "tensorboard": ("tensorboardX", _tensorboard),
    "mlflow": ("mlflow", _mlflow),
    "wandb": ("wandb", _wandb),
}
"""Per tracker: the module that it needs, and a function from its folder and the name of the run to its callback."""


def check_tracker(name: str) -> None:
    """Check that a tracker is installed, and that Weights & Biases has an API key or a mode without one.

    Raises:
        InputError: the module or the key is missing; the message gives the command.
    """
    module, make = TRACKERS[name]
    if importlib.util.find_spec(module) is None:
        raise InputError(f"--track {name}: no module {module}; expected: pip install 'activekd-bench[{name}]' first")
    if make is _wandb:
        try:
            make(Path(), "").setup()
        except ValueError as fault:
            raise InputError(
                "--track wandb: no API key; expected: wandb login first, WANDB_API_KEY, or WANDB_MODE=offline"
            ) from fault


def tracker(name: str, run: Path) -> Callback:
    """The callback of a tracker, which writes below ``run``/tracking."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return TRACKERS[name][1](folder, run.name)
