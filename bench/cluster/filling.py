"""The bank while Tune runs: filled at every step of Tune's driver, which stops when it cannot be filled."""

from typing import Any, Protocol

from ray.tune import Callback, Stopper

from bench.cluster.order import TRIAL_ID


class Bank(Protocol):
    """What Tune's driver asks of the bank; see ``bench.cluster.banking.Bank``."""

    @property
    def fault(self) -> Exception | None:
        """Why the bank cannot be filled."""
        ...

    def advance(self) -> None:
        """Take in what has ended, and submit what may run next."""
        ...

    def placed(self, job: str) -> None:
        """A job that was handed out has a worker, or has ended."""
        ...


class Filler(Callback, Stopper):
    """Fills the bank step by step, and stops the grid when it cannot be filled."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its callbacks for a restore, which the grid never uses."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._bank.advance()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bank.placed(trial.config[TRIAL_ID])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bank.placed(trial.config[TRIAL_ID])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._bank.placed(trial.config[TRIAL_ID])

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._bank.fault is not None
