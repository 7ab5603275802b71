"""Round 0 of trials trained end to end: its fit depends on configuration and seed alone, and is kept for all selectors.

Fits lie below the cache folder under a content address, a folder for each (configuration, seed) and in it a file for
each kind of device and version of the libraries. They are removed once no open trial needs them.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from activekd.bank.shards import is_whole, write_whole
from activekd.errors import InputError
from activekd.rounds import FirstFit
from activekd.teachers.classifier import Classifier
from bench.spec import PROTOCOL
from bench.trials.resolved import ResolvedTrial

FOLDER = "first-fits"

FORMAT = 2
"""Version of the files, part of their address."""


def fit_folder(trial: ResolvedTrial, cache: Path, settings: Mapping[str, object]) -> Path:
    """The folder of the fit of a trial's round 0: a content address of all that changes it but library and device.

    Args:
        trial: with the images of its data set, whose fingerprint is part of the address.
        cache: folder of the caches.
        settings: of the execution that change a fit, such as its device.
    """
    names, teacher = trial.trial, trial.teacher
    content = {
        "protocol": PROTOCOL,
        "format": FORMAT,
        "data": [trial.source, trial.dataset.fingerprint],
        "student": [trial.student.name, trial.student.weights_hash()],
        "teacher": teacher and [teacher.name, teacher.network.fingerprint],
        "distillation": names.distillation,
        "recipe": asdict(names.recipe),
        "views": asdict(names.views),
        "start": asdict(names.initial),
        "seed": names.seed,
        "settings": dict(settings),
    }
    text = json.dumps(content, sort_keys=True)
    return cache / FOLDER / hashlib.sha256(text.encode()).hexdigest()[:32]


def shared_first_fits(
    trials: Sequence[ResolvedTrial], done: Mapping[str, int], cache: Path, settings: Mapping[str, object]
) -> dict[str, Path]:
    """The folder of the fit of round 0 of each trial that shares it, by trial id.

    A trial shares it if it is trained end to end, has no row yet, and another such trial differs in the selector alone
    or an earlier start has left the fit.

    Args:
        trials: as for ``fit_folder``.
        done: stored rounds of each trial, by id; 0 where a trial is absent.
        cache: folder of the caches.
        settings: as for ``fit_folder``.
    """
    sharing: dict[Path, list[str]] = {}
    for trial in trials:
        if not trial.student.frozen and not done.get(trial.id, 0):
            sharing.setdefault(fit_folder(trial, cache, settings), []).append(trial.id)
    return {i: folder for folder, ids in sharing.items() if len(ids) > 1 or has_fit(folder) for i in ids}


def has_fit(folder: Path) -> bool:
    """Whether a folder has a fit, of any device."""
    return any(folder.glob("*.pt"))


class StoredFits:
    """The fits of one folder that were made at one place.

    Args:
        folder: from ``fit_folder``.
        place: names commit, libraries, device and threads of this process, with which numbers may change.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self._folder, self._place = folder, hashlib.sha256(place.encode()).hexdigest()[:16]

    def _path(self, seed: int) -> Path:
        return self._folder / f"{seed}-{self._place}.pt"

    def read(self, seed: int) -> FirstFit | None:
        """The fit of this seed; None where it is absent, its checksum fails or another grid has just removed it."""
        path = self._path(seed)
        try:
            content = BytesIO(path.read_bytes()) if is_whole(path) else None
        except FileNotFoundError:
            return None
        if content is None:
            return None
        kept = torch.load(content, map_location="cpu", weights_only=True)
        classifier = kept.pop("classifier")
        return FirstFit(**kept, classifier=classifier and Classifier(**classifier))

    def write(self, seed: int, fit: FirstFit) -> None:
        """Write the fit of this seed to disk, unless another process has.

        A fit that cannot be written is computed again by each selector, and a warning says so.
        """
        content = BytesIO()
        torch.save({**_plain(fit), "classifier": fit.classifier and _plain(fit.classifier)}, content)
        try:
            write_whole(self._path(seed), lambda file: file.write(content.getbuffer()))
        except InputError as fault:
            warnings.warn(f"a fit of round 0 is not kept for the other selectors: {fault}", stacklevel=2)


def _plain(kept: FirstFit | Classifier) -> dict[str, Any]:
    return {f.name: getattr(kept, f.name) for f in fields(kept)}


class FitFolders:
    """Which trials still need which fits of round 0; a folder that none needs is removed.

    Args:
        shared: folders by trial id, as from ``shared_first_fits``.
    """

    def __init__(self, shared: Mapping[str, Path]) -> None:
        self._folder_of = dict(shared)
        self._waiting: dict[Path, set[str]] = {}
        for trial_id, folder in shared.items():
            self._waiting.setdefault(folder, set()).add(trial_id)

    def passed(self, trial_id: str) -> None:
        """A trial has finished round 0, or was given up."""
        folder = self._folder_of.pop(trial_id, None)
        if folder is None:
            return
        self._waiting[folder].discard(trial_id)
        if not self._waiting[folder]:
            shutil.rmtree(folder, ignore_errors=True)
