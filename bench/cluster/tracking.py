"""Experiment trackers beside the store, each by Ray Tune's own callback; the store stays the truth."""

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
"""The module that a tracker needs, and what makes its callback from a folder and the name of the run."""


def check_tracker(name: str) -> None:
    """Check that a tracker is installed, and that weights and biases knows its user.

    Raises:
        InputError: it is not; says what to install or to set.
    """
    module, make = TRACKERS[name]
    if importlib.util.find_spec(module) is None:
        raise InputError(f"--track {name}: no module {module}; expected: after pip install 'activekd-bench[{name}]'")
    if make is _wandb:
        try:
            make(Path(), "").setup()
        except ValueError as fault:
            raise InputError(
                "--track wandb: no API key; expected: after wandb login, with WANDB_API_KEY, or with WANDB_MODE=offline"
            ) from fault


def tracker(name: str, run: Path) -> Callback:
    """The callback of a tracker that writes below ``run``/tracking."""
    folder = run / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return TRACKERS[name][1](folder, run.name)
