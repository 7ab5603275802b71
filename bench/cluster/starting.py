"""Processes that are started before their work is known, so that they are up when it is."""

import os

import ray

from bench.cluster import READERS, TRIAL_VARIABLE

HANDED_ON = (
    "RAY_CHDIR_TO_TRIAL_DIR",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECURITY_TOKEN",
    "AWS_SESSION_TOKEN",
)
"""Variables of this process that Ray Tune sets in the processes of its trials too."""


@ray.remote(num_cpus=0)
def _nothing() -> None:
    """Its process stays for the next task."""


@ray.remote(num_cpus=0)
class _Nobody:
    """Killed before a process has started for it, which then stays for another actor."""


def start_readers() -> None:
    """Start the processes that will read the bank."""
    for _ in range(READERS):
        _nothing.remote()


def start_trial_processes(n: int) -> None:
    """Start n processes for trials, which import torch and Ray Tune by themselves (see ``preload``).

    Ray gives an actor a process that was started for another one, if it has done nothing yet and has the environment
    that the actor asks for. A process that comes to another environment than Tune asks for is not used and goes.
    Where Ray hears of the death before it has begun to start the process, there is none, and Tune's trials wait for
    their own: seconds are lost, and nothing else.
    """
    variables = {TRIAL_VARIABLE: "1", **{name: os.environ[name] for name in HANDED_ON if name in os.environ}}
    actors = [_Nobody.options(runtime_env={"env_vars": variables}).remote() for _ in range(n)]
    for actor in actors:
        ray.kill(actor)  # pyright: ignore[reportArgumentType]
