"""What to try and what to prune, without Ray: every trial ends in a state that is true."""

import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search.study import (
    PRUNERS,
    SAMPLERS,
    Component,
    ComponentError,
    Study,
    component,
    make_pruner,
    make_sampler,
    rehearse,
)
from tests.search.curves import CURVES, EPOCHS, PRUNER_ARGUMENTS

pytestmark = [
    # Optuna marks both so on every use; what is relied on here is pinned down by the tests below.
    pytest.mark.filterwarnings("ignore:QMCSampler is experimental:optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:PatientPruner is experimental:optuna.exceptions.ExperimentalWarning"),
]

PARAMETERS = {
    "optim.lr": FloatDistribution(1e-5, 1e-3, log=True),
    "concepts.clusters": IntDistribution(10, 100),
    "loss.coarse_pooling": CategoricalDistribution(["max", "mean"]),
}
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
    study.start_with(BASE)
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


def test_fail_running_leaves_no_trial_running_in_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    study = create(journal, epochs=1)
    for _ in range(4):
        study.ask()
    study.report(1, 1, 2.0)
    study.complete(1, {"node": "a"})
    study.report(2, 1, 3.0)
    assert study.fail_running("interrupted") == [0, 2, 3]
    assert study.fail_running("interrupted") == []

    storage = JournalStorage(JournalFileBackend(str(journal)))
    reopened = optuna.load_study(study_name="demo", storage=storage)
    assert [t.state for t in reopened.trials] == [
        TrialState.FAIL, TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL,
    ]  # fmt: skip
    assert [t.user_attrs.get("failure") for t in reopened.trials] == ["interrupted", None, "interrupted", "interrupted"]
    assert reopened.trials[1].user_attrs == {"node": "a"}
    assert reopened.trials[2].intermediate_values == {1: 3.0}
    assert [t.params for t in reopened.trials] == [t.params for t in study.trials()]
    assert reopened.best_trial.number == 1
    assert reopened.direction == optuna.study.StudyDirection.MAXIMIZE
    for line in journal.read_text().splitlines():
        json.loads(line)


def finished(study: Study, trials: int) -> list[dict[str, Any]]:
    """Runs trials on the recorded curves; the parameters of each."""
    params = []
    for _ in range(trials):
        suggestion = study.ask()
        params.append(dict(suggestion.params))
        for epoch, value in enumerate(CURVES[suggestion.number][: study.epochs], start=1):
            if study.report(suggestion.number, epoch, value):
                study.prune(suggestion.number, {})
                break
        else:
            study.complete(suggestion.number, {})
    return params


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_within_the_space_and_the_same_from_one_seed(name: str) -> None:
    def draw(seed: int) -> list[dict[str, Any]]:
        return finished(create(sampler=make_sampler(component({"name": name}, SAMPLERS), seed)), 16)

    first = draw(3)  # more than TPE's 10 start-up trials
    for params in first:
        assert set(params) == set(PARAMETERS)
        for key, value in params.items():
            assert PARAMETERS[key]._contains(PARAMETERS[key].to_internal_repr(value))
    assert len({params["optim.lr"] for params in first}) == len(first)
    assert draw(3) == first
    assert draw(4) != first


def test_every_pruner_has_arguments_to_be_tried_with() -> None:
    assert set(PRUNER_ARGUMENTS) == set(PRUNERS)


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_but_none_prunes_some_trials_and_spares_some(name: str) -> None:
    one = component({"name": name, **PRUNER_ARGUMENTS[name]}, PRUNERS)
    assert rehearse(Component("tpe", {}), one, PARAMETERS, EPOCHS) is None
    study = create(pruner=make_pruner(one, EPOCHS), epochs=EPOCHS)
    finished(study, len(CURVES))
    pruned, complete = len(study.trials(TrialState.PRUNED)), len(study.trials(TrialState.COMPLETE))
    assert pruned + complete == len(CURVES)
    assert complete > 0
    assert (pruned > 0) == (name != "none")


def test_tpe_gets_its_arguments_in_full_and_the_space_file_has_the_last_word() -> None:
    sampler = make_sampler(component({"name": "tpe", "multivariate": False, "n_startup_trials": 3}, SAMPLERS), 0)
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert not sampler._multivariate
    assert sampler._constant_liar
    assert sampler._n_startup_trials == 3


def test_the_pruner_within_patient_is_made_with_its_own_arguments() -> None:
    nested = {"name": "patient", "patience": 2, "wrapped_pruner": {"name": "median", "n_startup_trials": 7}}
    pruner = make_pruner(component(nested, PRUNERS), EPOCHS)
    assert isinstance(pruner, optuna.pruners.PatientPruner)
    assert isinstance(pruner._wrapped_pruner, optuna.pruners.MedianPruner)
    assert (pruner._patience, pruner._wrapped_pruner._n_startup_trials) == (2, 7)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "hyperband"}, 12),
        ({"name": "hyperband", "max_resource": 6}, 6),
        ({"name": "patient", "patience": 1, "wrapped_pruner": {"name": "hyperband"}}, 12),
    ],
)
def test_hyperband_knows_the_number_of_epochs_unless_told_otherwise(values: dict[str, Any], expected: int) -> None:
    pruner = make_pruner(component(values, PRUNERS), 12)
    hyperband = getattr(pruner, "_wrapped_pruner", pruner)
    assert hyperband._max_resource == expected


@pytest.mark.parametrize(
    ("values", "known", "argument", "valid"),
    [
        ({"name": "tpe", "n_startup": 5}, SAMPLERS, "n_startup", "n_startup_trials"),
        ({"name": "median", "warmup": 5}, PRUNERS, "warmup", "n_warmup_steps"),
        ({"name": "none", "patience": 5}, PRUNERS, "patience", "no arguments"),
        ({"name": "patient", "patience": 1, "wrapped_pruner": {"name": "median", "x": 1}}, PRUNERS, "x", "n_warmup"),
        ({"name": "patient", "patience": 1, "wrapped_pruner": {"name": "mean"}}, PRUNERS, "name", "median"),
        ({"name": "asha"}, PRUNERS, "name", "successive_halving"),
        ({"name": "median"}, SAMPLERS, "name", "tpe, random, qmc"),
        ({"seed": 0}, SAMPLERS, "name", "tpe, random, qmc"),
    ],
)
def test_an_unknown_name_is_refused_with_the_valid_ones(
    values: dict[str, Any], known: dict[str, type], argument: str, valid: str
) -> None:
    with pytest.raises(ComponentError, match=valid) as caught:
        component(values, known)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"name": "percentile"}, "is required and missing"),
        ({"name": "percentile", "percentile": 101.0}, "between 0 and 100"),
        ({"name": "threshold"}, "lower or upper"),
        ({"name": "successive_halving", "reduction_factor": 1}, "must be >= 2, got 1"),
        (
            {"name": "patient", "patience": 1, "wrapped_pruner": {"name": "median", "n_startup_trials": -1}},
            "must be >= 0, got -1",
        ),
    ],
)
def test_a_pruner_that_can_t_be_made_is_refused(values: dict[str, Any], complaint: str) -> None:
    assert complaint in refusal({"name": "tpe"}, values)[1]


def refusal(sampler: dict[str, Any], pruner: dict[str, Any]) -> tuple[str, str]:
    """What is at fault and why, found on reading a component or on rehearsing it."""
    try:
        broken = rehearse(component(sampler, SAMPLERS), component(pruner, PRUNERS), PARAMETERS, EPOCHS)
    except ComponentError as error:
        broken = error
    assert broken is not None
    return broken.argument, str(broken)


@pytest.mark.parametrize(
    ("sampler", "pruner", "argument"),
    [
        ({"name": "tpe", "n_startup_trials": "ten"}, {"name": "none"}, "n_startup_trials"),
        ({"name": "tpe", "gamma": 5}, {"name": "none"}, "sampler"),
        ({"name": "tpe"}, {"name": "hyperband", "min_resource": 0}, "min_resource"),
        ({"name": "tpe"}, {"name": "successive_halving", "reduction_factor": 2.5}, "reduction_factor"),
        ({"name": "tpe"}, {"name": "hyperband", "min_resource": EPOCHS + 1}, "pruner"),
        (
            {"name": "tpe"},
            {"name": "patient", "patience": 1, "wrapped_pruner": {"name": "hyperband", "min_resource": EPOCHS + 1}},
            "pruner",
        ),
    ],
)
def test_what_would_break_or_idle_in_mid_search_is_found_before(
    sampler: dict[str, Any], pruner: dict[str, Any], argument: str
) -> None:
    assert refusal(sampler, pruner)[0] == argument


def test_a_nested_pruner_has_to_be_a_mapping() -> None:
    with pytest.raises(ComponentError, match="must be a mapping with a name, got 'median'") as caught:
        component({"name": "patient", "patience": 2, "wrapped_pruner": "median"}, PRUNERS)
    assert caught.value.argument == "wrapped_pruner"
