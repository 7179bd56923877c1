"""Epochs that come together are judged as those that come one by one; without Ray."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from search.results.checkpoints import Checkpoints
from search.study.algorithms import PRUNERS, make_pruner
from search.study.record import Summary
from search.trials.bridge import Bridge, Events, Running
from tests.search.curves import CURVES, EPOCHS, TRIALS, outcomes, result
from tests.search.trials.oracle import create, setting, through_optuna

pytestmark = pytest.mark.filterwarnings("ignore:PatientPruner is experimental:optuna.exceptions.ExperimentalWarning")


class Noted(Events):
    """Keeps the epochs that it is told of."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, int]] = []
        self.messages = 0

    def epoch(self, trial: Running, result: Any) -> None:
        self.epochs.append((trial.number, result["epoch"]))

    def reported(self, under_way: Any) -> None:
        self.messages += 1


def told(curve: tuple[float, ...]) -> list[dict[str, Any]]:
    """A trial's epochs as its process reports them."""
    found, summary = [], Summary()
    for epoch, value in enumerate(curve, start=1):
        summary.add(known := result(epoch, value))
        found.append(known | {"summary": replace(summary)})
    return found


@pytest.mark.parametrize("at_once", [1, 4, EPOCHS])
@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_decides_as_through_plain_optuna_however_epochs_come(
    name: str, at_once: int, tmp_path: Path
) -> None:
    study, noted = create(setting(name)), Noted()
    bridge = Bridge(
        study, TRIALS, lambda one: {"number": one.number, "epochs": EPOCHS}, noted, Checkpoints(str(tmp_path))
    )
    for number in range(TRIALS):
        bridge.ask(str(number))
        epochs = told(CURVES[number])
        for first in range(0, EPOCHS, at_once):
            if bridge.judge(str(number), {"epochs": epochs[first : first + at_once]}):
                break
        bridge.end(str(number))
    expected = through_optuna(make_pruner(setting(name), EPOCHS), TRIALS)
    assert outcomes(study.inner) == expected
    ran = [(number, epoch) for number, _, count, _ in expected for epoch in range(1, count + 1)]
    assert noted.epochs == ran, "nothing is heard of what a trial trained beyond the epoch that ended it"
    for trial in study.trials():
        assert trial.user_attrs["epochs"] == len(trial.intermediate_values)
        assert trial.user_attrs["best_epoch"] == max(
            trial.intermediate_values, key=trial.intermediate_values.__getitem__
        )
    if at_once == EPOCHS:
        assert noted.messages == TRIALS


def test_a_failure_comes_after_the_epochs_before_it(tmp_path: Path) -> None:
    study, noted = create(setting("none")), Noted()
    bridge = Bridge(study, 1, lambda one: {"number": 0, "epochs": EPOCHS}, noted, Checkpoints(str(tmp_path)))
    bridge.ask("a")
    assert bridge.judge("a", {"failure": "loss is nan", "epochs": told(CURVES[0])[:2]})
    bridge.end("a")
    (trial,) = study.trials()
    assert noted.epochs == [(0, 1), (0, 2)] and list(trial.intermediate_values) == [1, 2]
    assert (trial.state, trial.user_attrs["failure"]) == (optuna.trial.TrialState.FAIL, "loss is nan")


def test_a_trial_that_was_pruned_before_it_failed_is_pruned(tmp_path: Path) -> None:
    study = create(setting("threshold"))  # below 2.5 after 4 epochs
    bridge = Bridge(study, 1, lambda one: {"number": 0, "epochs": EPOCHS}, Events(), Checkpoints(str(tmp_path)))
    bridge.ask("a")
    assert bridge.judge("a", {"failure": "loss is nan", "epochs": told((1.0,) * 6)})
    bridge.end("a")
    (trial,) = study.trials()
    assert trial.state == optuna.trial.TrialState.PRUNED and len(trial.intermediate_values) == 4
