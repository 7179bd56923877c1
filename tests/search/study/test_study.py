"""What to try and what to prune, without Ray: every trial ends in a state that is true."""

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.study.study import Study
from tests.search.study.parameters import PARAMETERS

BASE = {"optim.lr": 3e-5, "concepts.clusters": 50, "loss.coarse_pooling": "max"}


def create(
    journal: Path | None = None, pruner: Any = None, sampler: Any = None, epochs: int = 3, objective: str = "best"
) -> Study:
    return Study.create(
        name="demo",
        journal=journal,
        sampler=sampler or optuna.samplers.RandomSampler(seed=0),
        pruner=pruner or optuna.pruners.NopPruner(),
        parameters=PARAMETERS,
        epochs=epochs,
        objective=objective,
    )


def below(lower: float) -> optuna.pruners.BasePruner:
    return optuna.pruners.ThresholdPruner(lower=lower)


def test_a_trial_that_ran_all_its_epochs_is_complete() -> None:
    study = create()
    number = study.ask().number
    assert [study.report(number, epoch, float(epoch)) for epoch in (1, 2, 3)] == [False, False, False]
    study.complete(number, {"node": "a"})
    trial = study.trials()[0]
    assert (trial.state, trial.value, trial.user_attrs) == (TrialState.COMPLETE, 3.0, {"node": "a"})
    assert trial.intermediate_values == {1: 1.0, 2: 2.0, 3: 3.0}


def test_a_pruned_trial_is_pruned_and_its_value_is_the_last_reported() -> None:
    study = create(pruner=below(2))
    number = study.ask().number
    assert not study.report(number, 1, 5.0)
    assert study.report(number, 2, 1.0)
    study.prune(number, {"epochs": 2})
    trial = study.trials()[0]
    assert (trial.state, trial.value, trial.user_attrs) == (TrialState.PRUNED, 1.0, {"epochs": 2})


def test_a_failed_trial_keeps_its_reason_and_what_is_known_of_it() -> None:
    study = create()
    number = study.ask().number
    study.report(number, 1, 5.0)
    study.fail(number, "loss mil is nan", {"node": "a"})
    trial = study.trials()[0]
    assert (trial.state, trial.value) == (TrialState.FAIL, None)
    assert trial.user_attrs == {"node": "a", "failure": "loss mil is nan"}
    assert trial.intermediate_values == {1: 5.0}


def test_a_failed_trial_may_have_reported_nothing() -> None:
    study = create()
    study.fail(study.ask().number, "out of memory", {})
    assert study.trials()[0].state == TrialState.FAIL


def test_the_last_epoch_is_never_pruned() -> None:
    study = create(pruner=below(2))
    number = study.ask().number
    assert [study.report(number, epoch, value) for epoch, value in ((1, 3.0), (2, 3.0), (3, 0.0))] == [False] * 3


@pytest.mark.parametrize(("objective", "value"), [("best", 7.0), ("last", 4.0)])
def test_the_objective_is_the_best_or_the_last_epoch(objective: str, value: float) -> None:
    study = create(objective=objective)
    number = study.ask().number
    for epoch, reported in ((1, 2.0), (2, 7.0), (3, 4.0)):
        study.report(number, epoch, reported)
    study.complete(number, {})
    assert study.trials()[0].value == value


def test_an_epoch_reported_twice_is_passed_over_in_silence() -> None:
    study = create(pruner=below(2))
    number = study.ask().number
    study.report(number, 1, 3.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not study.report(number, 1, 0.0)  # a new value below the threshold: neither kept nor pruned
    study.report(number, 2, 4.0)
    study.report(number, 3, 2.5)
    study.complete(number, {})
    trial = study.trials()[0]
    assert (trial.intermediate_values, trial.value) == ({1: 3.0, 2: 4.0, 3: 2.5}, 4.0)


def test_the_base_put_in_front_is_trial_0() -> None:
    study = create()
    study.start_with([BASE])
    first, second = study.ask(), study.ask()
    assert (first.number, first.params) == (0, BASE)
    assert second.number == 1
    assert second.params != BASE


def test_trials_are_told_apart_by_state_and_trials_under_way_interleave() -> None:
    study = create(pruner=below(2))
    a, b, c, d = (study.ask().number for _ in range(4))
    for epoch in (1, 2, 3):
        study.report(a, epoch, 3.0)
        study.report(d, epoch, 9.0)
    study.report(b, 1, 1.0)
    study.prune(b, {})
    study.complete(d, {})
    study.fail(c, "broke", {})
    assert [t.number for t in study.trials(TrialState.RUNNING)] == [a]
    study.complete(a, {})
    by_state = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]
    assert [t.state for t in study.trials()] == by_state
    assert [t.number for t in study.trials(TrialState.PRUNED, TrialState.FAIL)] == [b, c]


def test_the_best_trial_is_complete_and_the_first_of_equals() -> None:
    study = create(pruner=below(2), epochs=2)
    assert study.best() is None
    for values in ([3.0, 4.0], [4.0, 3.0], [9.0, 1.0]):
        number = study.ask().number
        pruned = [study.report(number, epoch, value) for epoch, value in enumerate(values, start=1)][-1]
        assert not pruned  # the last epoch is never pruned
        study.complete(number, {}) if values[0] < 9 else study.prune(number, {})
    best = study.best()
    assert best is not None
    assert (best.number, best.value) == (0, 4.0)


def test_an_interrupted_trial_is_taken_up_under_its_number_with_its_parameters_and_values(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    study = create(journal)
    study.start_with([BASE])
    asked = [study.ask() for _ in range(4)]
    for number, values in ((0, (1.0, 2.0)), (1, (1.0, 2.0, 3.0)), (2, (4.0,))):
        for epoch, value in enumerate(values, start=1):
            study.report(number, epoch, value)
    study.complete(1, {"node": "a"})
    study.note(2, "runs", [[5.0, None, "b"]])

    again = create(journal)
    again.start_with([BASE])
    assert again.num_left(6) == 5 and again.num_left(2) == 3
    taken = [again.ask() for _ in range(4)]
    assert [one.number for one in taken] == [0, 2, 3, 4]
    assert [one.interrupted for one in taken] == [True, True, True, False]
    assert [one.params for one in taken[:3]] == [asked[number].params for number in (0, 2, 3)]
    assert taken[1].attributes == {"runs": [[5.0, None, "b"]]}
    for epoch, value in ((1, 9.0), (2, 9.0), (3, 2.5)):  # it starts again; what was reported stands
        again.report(0, epoch, value)
    again.complete(0, {})
    trials = again.trials()
    assert trials[0].intermediate_values == {1: 1.0, 2: 2.0, 3: 2.5} and trials[0].value == 2.5
    assert (trials[1].state, trials[1].value, trials[1].user_attrs) == (TrialState.COMPLETE, 3.0, {"node": "a"})
    for line in journal.read_text().splitlines():
        json.loads(line)


def test_a_verdict_that_was_lost_is_given_again(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    study = create(journal, pruner=below(1.5))
    study.ask()
    assert not study.report(0, 1, 2.0)
    assert study.report(0, 2, 1.0)  # and the driver is killed before it can tell
    again = create(journal, pruner=below(1.5))
    again.ask()
    assert not again.report(0, 1, 2.0)
    assert again.report(0, 2, 1.0)


@pytest.mark.parametrize("kept", range(4))
def test_a_trial_whose_driver_was_killed_while_asking_gets_the_parameters_that_it_lacks(
    kept: int, tmp_path: Path
) -> None:
    journal = tmp_path / "study.journal"
    study = create(journal)
    study.start_with([BASE])
    study.ask()
    lines = journal.read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if "param_name" in line)
    journal.write_text("".join(lines[: first + kept]))  # the trial is RUNNING with so many of its parameters
    again = create(journal)
    again.start_with([BASE])
    taken = again.ask()
    assert (taken.number, taken.params) == (0, BASE)
    assert len(again.trials()) == 1


def test_what_was_put_in_front_is_not_put_there_again(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    others = [BASE | {"concepts.clusters": n} for n in (60, 70)]
    study = create(journal)
    study.start_with([BASE, others[0]])
    study.ask()
    again = create(journal)
    again.start_with([BASE, *others])
    assert [again.ask().params for _ in range(3)] == [BASE, *others]
