"""Round 0 of trials trained end to end: its address, its file, who waits for it, when it goes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_trials import ADAPTER, SIX, TRAINED, trials_of

from activekd.datasets import Split
from activekd.rounds import FirstFit
from activekd.students.networks import student_network
from bench.cluster.order import InOrder
from bench.cluster.running import followers_of_first_fits
from bench.trials.cohorts import cohorts
from bench.trials.first_fits import FitFolders, StoredFits, fit_folder, has_fit, shared_first_fits
from bench.trials.run import Execution


def test_the_address_of_a_first_fit_changes_with_all_that_changes_the_fit(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, TRAINED, selectors=SIX[:2], seeds=2)
    one, settings = trials[0], Execution().of_fits
    labels = np.arange(1000) % 10
    labels[0] = 5
    changed = [
        replace(one, trial=replace(one.trial, seed=5)),
        replace(one, trial=replace(one.trial, shots=2)),
        replace(one, trial=replace(one.trial, distillation="labeled")),
        replace(one, trial=replace(one.trial, recipe=replace(one.trial.recipe, lr=0.5))),
        replace(one, trial=replace(one.trial, views=replace(one.trial.views, count=3))),
        replace(one, student=student_network("resnet6_mini@32")),
        replace(one, dataset=replace(one.dataset, train=Split(None, labels))),
    ]
    folders = [fit_folder(t, tmp_path, settings) for t in (one, *changed)]
    folders.append(fit_folder(one, tmp_path, Execution(threads=2).of_fits))
    assert len(set(folders)) == len(changed) + 2
    assert fit_folder(trials[1], tmp_path, Execution(diagnostics=False).of_fits) == folders[0]


def fit_of(value: float) -> FirstFit:
    return FirstFit({"backbone.w": torch.full((2, 3), value), "n": torch.tensor(4)}, None, 0.5, value)


def test_a_first_fit_is_read_as_it_was_written_and_a_torn_one_is_ignored(tmp_path: Path) -> None:
    fits = StoredFits(tmp_path / "fit", "here")
    assert fits.read(0) is None
    assert not has_fit(tmp_path / "fit")
    fits.write(0, fit_of(1.0))
    fits.write(0, fit_of(2.0))
    read = fits.read(0)
    assert read is not None
    assert (read.teacher_seconds, read.train_seconds, read.classifier) == (0.5, 1.0, None)
    assert read.state["backbone.w"].tolist() == [[1.0] * 3] * 2
    assert read.state["n"].item() == 4
    assert has_fit(tmp_path / "fit")
    assert StoredFits(tmp_path / "fit", "another device").read(0) is None
    (path,) = (tmp_path / "fit").glob("*.pt")
    path.write_bytes(path.read_bytes()[:-7])
    assert fits.read(0) is None
    fits.write(0, fit_of(3.0))
    again = fits.read(0)
    assert again is not None
    assert again.train_seconds == 3.0


def test_a_first_fit_that_cannot_be_kept_is_told_and_costs_no_trial(tmp_path: Path) -> None:
    (tmp_path / "fit").write_text("no folder")
    fits = StoredFits(tmp_path / "fit", "here")
    with pytest.warns(UserWarning, match="a fit of round 0 is not kept for the other selectors: cache .*fit: "):
        fits.write(0, fit_of(1.0))
    assert fits.read(0) is None


def test_first_fits_are_shared_by_selectors_and_removed_once_no_trial_needs_them(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, TRAINED, ADAPTER, selectors=SIX[:3], seeds=2)
    trained = [t for t in trials if not t.student.frozen]
    settings = Execution().of_fits
    done = {trained[0].id: 1, trained[3].id: 2, trained[4].id: 1}
    shared = shared_first_fits(trials, done, tmp_path, settings)
    assert list(shared) == [trained[1].id, trained[2].id]
    (folder,) = set(shared.values())
    last = fit_folder(trained[5], tmp_path, settings)
    for place in (folder, last):
        StoredFits(place, "here").write(0, fit_of(1.0))
    again = shared_first_fits(trials, done, tmp_path, settings)
    assert list(again) == [trained[1].id, trained[2].id, trained[5].id]
    fits = FitFolders(again)
    fits.passed(trained[1].id)
    fits.passed(trained[0].id)
    assert folder.is_dir()
    fits.passed(trained[2].id)
    fits.passed(trained[2].id)
    assert not folder.exists()
    assert last.is_dir()


def test_the_first_trial_of_a_configuration_and_seed_precedes_the_others(tmp_path: Path) -> None:
    trials = trials_of(tmp_path, TRAINED, selectors=SIX[:3], seeds=2)
    shared = shared_first_fits(trials, {}, tmp_path, Execution().of_fits)
    jobs = cohorts(trials, 2, {}, first_fits=shared)
    a, b, c, d, e, f = (job.id for job in jobs)
    follows = followers_of_first_fits(jobs, {})
    assert follows == {b: a, c: a, e: d, f: d}
    assert followers_of_first_fits(jobs, {a: 1, b: 2}) == {e: d, f: d}
    StoredFits(shared[d], "of other code").write(1, fit_of(1.0))
    assert followers_of_first_fits(jobs, {}) == follows

    order = InOrder([a, b, c, d, e, f], follows=follows)
    given = [order.suggest(f"tune{k}") for k in range(3)]
    assert given == [{"job_id": a}, {"job_id": d}, None]
    order.on_trial_result("tune1", {})
    assert [order.suggest(f"tune{k}") for k in (3, 4, 5)] == [{"job_id": e}, {"job_id": f}, None]
    order.on_trial_complete("tune0", error=True)
    order.release(a)
    assert [order.suggest(f"tune{k}") for k in (6, 7, 8)] == [{"job_id": b}, {"job_id": c}, "FINISHED"]
