"""Samplers and pruners by name: each can be made, draws or prunes as it should, and is refused where it can't work."""

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search.components import (
    PRUNERS,
    SAMPLERS,
    Component,
    ComponentError,
    component,
    make_pruner,
    make_sampler,
    rehearse,
)
from search.study import Study
from tests.search.curves import CURVES, EPOCHS, PRUNER_ARGUMENTS
from tests.search.test_study import PARAMETERS, create

pytestmark = [
    # Optuna marks both so on every use; what is relied on here is pinned down by the tests below.
    pytest.mark.filterwarnings("ignore:QMCSampler is experimental:optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:PatientPruner is experimental:optuna.exceptions.ExperimentalWarning"),
]


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
