"""Samplers and pruners by name: each can be made, draws or prunes as it should, and is refused where it can't work."""

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from scipy.stats import qmc

from search.study.adapters import KnownSpace, Reseeded, Rhythm
from search.study.algorithms import (
    PRUNERS,
    REFUSED,
    SAMPLERS,
    Component,
    ComponentError,
    component,
    fixed_keys,
    make_pruner,
    make_sampler,
)
from search.study.earlier import Informed
from search.study.record import SESSIONS
from search.study.rehearsal import rehearse
from search.study.study import Study
from tests.search.curves import ALIGNED, CURVES, EPOCHS, PRUNER_ARGUMENTS
from tests.search.study.parameters import PARAMETERS

FINITE: dict[str, BaseDistribution] = {
    "concepts.clusters": IntDistribution(10, 40, step=10),
    "loss.coarse_pooling": CategoricalDistribution(["max", "mean"]),
    "optim.lr": FloatDistribution(0.1, 0.3, step=0.1),
}
FIXED = {"concepts.clusters": 30}
# One setting for every name of SAMPLERS; few start-up trials, so that the models come in within 16 trials.
SAMPLER_ARGUMENTS: dict[str, Mapping[str, Any]] = {
    "tpe": {"n_startup_trials": 6},
    "random": {},
    "qmc": {},
    "cmaes": {"n_startup_trials": 4},
    "gp": {"n_startup_trials": 6},
    "nsgaii": {"population_size": 4},
    "nsgaiii": {"population_size": 4},
    "brute_force": {},
    "partial_fixed": {"base_sampler": {"name": "tpe", "n_startup_trials": 6}, "fixed_params": FIXED},
    "grid": {},
}
MODELS = ("tpe", "gp", "cmaes")


def space_of(name: str) -> dict[str, BaseDistribution]:
    return dict(FINITE if name in ("brute_force", "grid") else PARAMETERS)


def sampler_of(name: str, **arguments: Any) -> Component:
    return component({"name": name, **SAMPLER_ARGUMENTS[name], **arguments}, SAMPLERS)


def study_of(
    sampler: Component,
    seed: int = 3,
    parameters: Mapping[str, BaseDistribution] = PARAMETERS,
    journal: Path | None = None,
    pruner: Component | None = None,
) -> Study:
    return Study.create(
        name="demo",
        journal=journal,
        sampler=make_sampler(sampler, seed, parameters),
        pruner=make_pruner(pruner or Component("none", {}), EPOCHS),
        parameters=parameters,
        epochs=EPOCHS,
    )


def finished(study: Study, trials: int) -> list[dict[str, Any]]:
    """Runs trials on the recorded curves; the parameters of each."""
    params = []
    for _ in range(trials):
        suggestion = study.ask()
        params.append(dict(suggestion.params))
        for epoch, value in enumerate(CURVES[suggestion.number % len(CURVES)], start=1):
            if study.report(suggestion.number, epoch, value):
                study.prune(suggestion.number, {})
                break
        else:
            study.complete(suggestion.number, {})
    return params


def asked(study: Study, trials: int) -> list[dict[str, Any]]:
    """The parameters of so many trials that are under way at once."""
    return [dict(study.ask().params) for _ in range(trials)]


def within(params: Mapping[str, Any], parameters: Mapping[str, BaseDistribution]) -> bool:
    return set(params) == set(parameters) and all(
        one._contains(one.to_internal_repr(params[key])) for key, one in parameters.items()
    )


def named(cls: type, kind: str) -> str:
    """`SuccessiveHalvingPruner` as a space file would name it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix(kind)).lower()


@pytest.mark.parametrize(
    ("module", "known", "kind"),
    [(optuna.samplers, SAMPLERS, "Sampler"), (optuna.pruners, PRUNERS, "Pruner")],
)
def test_every_class_of_optuna_has_a_name_or_is_refused_with_the_reason(module: Any, known: dict, kind: str) -> None:
    exported = [cls for name in module.__all__ if isinstance(cls := getattr(module, name), type)]
    unknown = [cls for cls in exported if cls not in known.values()]
    assert set(known.values()) <= set(exported)
    for cls in unknown:
        name = {"BaseGASampler": "base_ga"}.get(cls.__name__, named(cls, kind))
        assert name in REFUSED, f"{cls.__name__} is new in Optuna: give it a name, or the reason why not"
        with pytest.raises(ComponentError, match=re.escape(REFUSED[name])):
            component({"name": name}, known)


def test_wilcoxon_is_refused_for_it_compares_instances() -> None:
    with pytest.raises(ComponentError, match="wilcoxon can't be used here: it compares scores per instance, not per"):
        component({"name": "wilcoxon", "p_threshold": 0.1}, PRUNERS)


def test_every_sampler_and_pruner_has_arguments_to_be_tried_with() -> None:
    assert set(SAMPLER_ARGUMENTS) == set(SAMPLERS)
    assert set(PRUNER_ARGUMENTS) == set(PRUNERS)


def test_optuna_s_arguments_are_taken_but_for_objects_and_for_those_without_effect() -> None:
    refused = {}
    for known in (SAMPLERS, PRUNERS):
        for name, cls in known.items():
            for argument in optuna_arguments(cls):
                try:
                    component({"name": name, argument: object()}, known)
                except ComponentError as error:
                    if "can't be given" in str(error):
                        refused[name, argument] = str(error)
    strategies = ["mutation", "crossover", "constraints_func", "elite_population_selection_strategy",
                  "child_generation_strategy", "after_trial_strategy"]  # fmt: skip
    objects = {
        **{("tpe", argument): "object" for argument in ("gamma", "weights", "constraints_func")},
        **{("nsgaii", argument): "object" for argument in strategies},
        **{("nsgaiii", argument): "object" for argument in [*strategies, "reference_points"]},
        ("gp", "constraints_func"): "object",
        ("cmaes", "source_trials"): "object",
    }
    idle = {("qmc", "independent_sampler"), ("gp", "independent_sampler"), ("cmaes", "restart_strategy"),
            ("cmaes", "inc_popsize"), ("brute_force", "avoid_premature_stop"), ("grid", "search_space"),
            ("grid", "seed")}  # fmt: skip
    assert {key for key, text in refused.items() if "Python object" in text} == set(objects)
    assert {key for key, text in refused.items() if "Python object" not in text} == idle


def optuna_arguments(cls: type) -> list[str]:
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_within_the_space_and_the_same_from_one_seed(name: str) -> None:
    parameters = space_of(name)

    def draw(seed: int) -> list[dict[str, Any]]:
        return finished(study_of(sampler_of(name), seed, parameters), 8)

    first = draw(3)
    assert all(within(params, parameters) for params in first)
    assert draw(3) == first
    assert draw(4) != first


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_passes_the_rehearsal(name: str) -> None:
    assert rehearse(sampler_of(name), Component("none", {}), space_of(name), EPOCHS) is None


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("brute_force", "grid")])
def test_every_sampler_goes_on_with_other_values_when_its_process_was_replaced(name: str, tmp_path: Path) -> None:
    journal = tmp_path / "study.journal"
    first = finished(study_of(sampler_of(name), journal=journal), 8)
    second = finished(study_of(sampler_of(name), journal=journal), 8)
    assert all(within(params, PARAMETERS) for params in second)
    assert second != first
    if not name.startswith("nsga"):  # a genetic algorithm takes values over from the parents
        assert len({params["optim.lr"] for params in first + second}) == 16


@pytest.mark.parametrize("name", [*MODELS, "qmc"])
def test_the_first_wave_is_quasi_random_and_spreads_better_than_random_draws(name: str) -> None:
    wide = sampler_of(name)
    wave = asked(study_of(wide), 64)  # none has ended
    random = asked(study_of(sampler_of("random")), 64)
    assert len({params["optim.lr"] for params in wave}) == 64
    assert qmc.discrepancy(unit(wave)) < 0.3 * qmc.discrepancy(unit(random))
    # A scrambled Sobol sequence of 2^6 points has as many in the lower as in the upper half of every dimension.
    assert sum(params["loss.coarse_pooling"] == "max" for params in wave) == 32


def unit(draws: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The two numbers of each draw, in the unit square: log10 of [1e-5, 1e-3], and [10, 100] in 91 whole numbers."""
    return np.array([[(np.log10(p["optim.lr"]) + 5) / 2, (p["concepts.clusters"] - 9.5) / 91] for p in draws])


@pytest.mark.parametrize("name", [*MODELS, "qmc"])
def test_the_first_wave_is_the_same_when_its_process_was_replaced_in_the_middle(name: str, tmp_path: Path) -> None:
    journal, one = tmp_path / "study.journal", sampler_of(name)
    whole = asked(study_of(one), 32)
    before = asked(study_of(one, journal=journal), 13)
    after = asked(study_of(one, journal=journal), 32)  # the 13 are taken up again first
    assert before == whole[:13]
    assert after == whole


@pytest.mark.parametrize("name", MODELS)
def test_the_model_comes_in_once_it_has_its_start_up_trials(name: str) -> None:
    draws = finished(study_of(sampler_of(name, n_startup_trials=5)), 8)
    sequence = finished(study_of(sampler_of("qmc")), 8)
    assert draws[:5] == sequence[:5]
    assert all(a["optim.lr"] != b["optim.lr"] for a, b in zip(draws[5:], sequence[5:], strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_random_start_up_can_be_asked_for(name: str) -> None:
    draws = finished(study_of(sampler_of(name, n_startup_trials=5, startup="random")), 8)
    sequence = finished(study_of(sampler_of("qmc")), 8)
    assert not {params["optim.lr"] for params in draws} & {params["optim.lr"] for params in sequence}
    assert all(within(params, PARAMETERS) for params in draws)


@pytest.mark.parametrize("high", [1000, 60])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_still_draws_a_parameter_together_with_the_others_after_its_range_changed(
    name: str, high: int, tmp_path: Path
) -> None:
    journal = tmp_path / "study.journal"
    finished(study_of(sampler_of(name), journal=journal), 10)
    changed = {**PARAMETERS, "concepts.clusters": IntDistribution(10, high)}
    study = study_of(sampler_of(name), parameters=changed, journal=journal)
    assert all(within(params, changed) for params in finished(study, 4))
    last = study.inner.ask()
    assert last.suggest_int("concepts.clusters", 10, high) == last.relative_params["concepts.clusters"]


@pytest.mark.parametrize("pruner", ["none", "hyperband"])
@pytest.mark.parametrize("name", ["random", "tpe"])
def test_what_a_driver_draws_for_a_trial_that_a_kill_left_empty_no_later_driver_draws_anew(
    name: str, pruner: str, tmp_path: Path
) -> None:
    """Each driver finds as many trials as the one before, and another of them to be taken up first."""

    def driver(number: int) -> Study:
        study = study_of(sampler_of(name), journal=tmp_path / "study.journal", pruner=Component(pruner, {}))
        study.inner.set_user_attr(SESSIONS, [{}] * number)
        return study

    first = driver(1)
    first.ask()
    first.inner.ask()  # killed before it had parameters
    second = driver(2)
    taken_up, empty = second.ask(), second.ask()
    assert [taken_up.number, empty.number] == [0, 1]
    second.report(0, 1, 1.0)
    second.complete(0, {})
    third = driver(3)
    assert third.ask().number == 1
    assert third.ask().params != empty.params


def test_brute_force_tries_every_point_once() -> None:
    draws = finished(study_of(sampler_of("brute_force"), parameters=FINITE), 24)  # 4 x 2 x 3
    assert len({tuple(sorted(params.items())) for params in draws}) == 24


def test_fixed_parameters_keep_their_values_and_the_others_vary() -> None:
    draws = finished(study_of(sampler_of("partial_fixed")), 12)
    assert {params["concepts.clusters"] for params in draws} == {30}
    assert len({params["optim.lr"] for params in draws}) == 12
    assert fixed_keys(sampler_of("partial_fixed")) == set(FIXED)
    assert fixed_keys(sampler_of("tpe")) == set()


def test_tpe_gets_its_arguments_in_full_and_the_space_file_has_the_last_word() -> None:
    study = study_of(sampler_of("tpe", multivariate=False, n_startup_trials=3))
    assert isinstance(study.inner.sampler, Reseeded)
    informed = study.inner.sampler.sampler(study.inner)
    assert isinstance(informed, Informed)
    known = informed.sampler(study.inner)
    assert isinstance(known, KnownSpace)
    assert isinstance(known.inner, optuna.samplers.TPESampler)
    assert not known.inner._multivariate
    assert known.inner._constant_liar
    assert known.inner._n_startup_trials == 3


def test_a_seed_among_the_arguments_takes_the_place_of_the_configuration_s() -> None:
    assert asked(study_of(sampler_of("random", seed=8), seed=3), 3) == asked(study_of(sampler_of("random"), 8), 3)


def test_a_sampler_within_cmaes_draws_the_choices() -> None:
    one = sampler_of("cmaes", independent_sampler={"name": "random"})
    draws = finished(study_of(one), 12)
    assert {params["loss.coarse_pooling"] for params in draws} == {"max", "mean"}


@pytest.mark.parametrize("name", PRUNERS)
def test_every_pruner_but_none_prunes_some_trials_and_spares_some(name: str) -> None:
    one = component({"name": name, **PRUNER_ARGUMENTS[name]}, PRUNERS)
    assert rehearse(Component("tpe", {}), one, PARAMETERS, EPOCHS) is None
    study = study_of(sampler_of("random"), pruner=one)
    finished(study, len(CURVES))
    pruned, complete = len(study.trials(TrialState.PRUNED)), len(study.trials(TrialState.COMPLETE))
    assert pruned + complete == len(CURVES)
    assert complete > 0
    assert (pruned > 0) == (name != "none")


def ends_of_pruned(one: Component) -> list[int]:
    """The epochs in which trials on the recorded curves were pruned."""
    study = study_of(sampler_of("random"), pruner=one)
    finished(study, len(CURVES))
    return [max(trial.intermediate_values) for trial in study.trials(TrialState.PRUNED)]


@pytest.mark.parametrize("name", ALIGNED)
def test_every_pruner_can_be_kept_in_step_with_the_clusterings(name: str) -> None:
    ends = ends_of_pruned(component({"name": name, **ALIGNED[name]}, PRUNERS))
    assert 0 < len(ends) < len(CURVES)
    assert set(ends) <= {5, 10}


@pytest.mark.parametrize("name", ["median", "percentile", "threshold", "patient"])
def test_no_trial_is_judged_before_the_least_resource(name: str) -> None:
    known = {"name": name, **PRUNER_ARGUMENTS[name]}
    assert min(ends_of_pruned(component(known, PRUNERS))) < 7
    assert min(ends_of_pruned(component({**known, "min_resource": 7}, PRUNERS))) >= 7


@pytest.mark.parametrize("name", ALIGNED)
def test_an_interval_of_1_changes_nothing(name: str) -> None:
    known = {"name": name, **PRUNER_ARGUMENTS[name]}
    one = component({**known, "interval": 1}, PRUNERS)
    assert type(make_pruner(one, EPOCHS)) is PRUNERS[name]
    assert ends_of_pruned(one) == ends_of_pruned(component(known, PRUNERS))


def test_optuna_still_sees_hyperband_s_brackets_when_it_has_a_rhythm() -> None:
    one = component({"name": "hyperband", **ALIGNED["hyperband"]}, PRUNERS)
    study = study_of(sampler_of("random"), pruner=one)
    finished(study, len(CURVES))
    bracket = optuna.pruners._filter_study(study.inner, study.trials()[0])
    of_bracket = len(bracket.get_trials(deepcopy=False))
    assert 0 < of_bracket < len(CURVES)
    plain = study_of(sampler_of("random"), pruner=Component("hyperband", PRUNER_ARGUMENTS["hyperband"]))
    finished(plain, len(CURVES))
    assert len(optuna.pruners._filter_study(plain.inner, plain.trials()[0]).get_trials()) == of_bracket


def test_the_pruner_within_patient_is_made_with_its_own_arguments() -> None:
    inner = {"name": "median", "n_startup_trials": 7, "min_resource": 4}
    pruner = make_pruner(component({"name": "patient", "patience": 2, "wrapped_pruner": inner}, PRUNERS), EPOCHS)
    assert isinstance(pruner, optuna.pruners.PatientPruner)
    assert isinstance(pruner._wrapped_pruner, Rhythm)
    assert isinstance(pruner._wrapped_pruner.inner, optuna.pruners.MedianPruner)
    assert (pruner._patience, pruner._wrapped_pruner.inner._n_startup_trials) == (2, 7)


def test_patient_may_wrap_nothing_and_then_prunes_whatever_stops_to_improve() -> None:
    ends = ends_of_pruned(component({"name": "patient", "patience": 3, "wrapped_pruner": None}, PRUNERS))
    assert len(ends) > 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "hyperband"}, 12),
        ({"name": "hyperband", "max_resource": 6}, 6),
        ({"name": "hyperband", "max_resource": "auto"}, "auto"),
        ({"name": "hyperband", "interval": 5}, 12),
        ({"name": "patient", "patience": 1, "wrapped_pruner": {"name": "hyperband"}}, 12),
    ],
)
def test_hyperband_knows_the_number_of_epochs_unless_told_otherwise(values: dict[str, Any], expected: Any) -> None:
    pruner = make_pruner(component(values, PRUNERS), 12)
    hyperband = getattr(pruner, "_wrapped_pruner", pruner)
    assert isinstance(hyperband, optuna.pruners.HyperbandPruner)
    assert hyperband._max_resource == expected


@pytest.mark.parametrize(
    ("values", "known", "path", "message"),
    [
        ({"name": "tpe", "n_startup": 5}, SAMPLERS, "n_startup", "did you mean 'n_startup_trials'?"),
        ({"name": "median", "warmup": 5}, PRUNERS, "warmup", "did you mean 'n_warmup_steps'?"),
        ({"name": "median", "x": 5}, PRUNERS, "x", "median takes min_resource, n_startup_trials, n_w"),
        ({"name": "none", "patience": 5}, PRUNERS, "patience", "none takes no arguments"),
        ({"name": "none", "interval": 5}, PRUNERS, "interval", "none takes no arguments"),
        ({"name": "random", "startup": "qmc"}, SAMPLERS, "startup", "random has no such argument; random takes seed"),
        ({"name": "asha"}, PRUNERS, "name", "must be one of none, median, percentile, successive_halving"),
        ({"name": "median"}, SAMPLERS, "name", "must be one of tpe, random, qmc, cmaes, gp, nsgaii"),
        ({"name": "TPE"}, SAMPLERS, "name", "did you mean 'tpe'?"),
        ({"name": "nsga2"}, SAMPLERS, "name", "did you mean 'nsgaii'?"),
        ({"seed": 0}, SAMPLERS, "name", "must be one of tpe, random, qmc"),
        ({"name": "tpe", "gamma": 5}, SAMPLERS, "gamma", "can't be given: it is a Python object, which YAML"),
        ({"name": "nsgaii", "crossover": "uniform"}, SAMPLERS, "crossover", "it is a Python object, which YAML"),
        ({"name": "tpe", "n_startup_trials": "ten"}, SAMPLERS, "n_startup_trials", "must be a whole number, got 'ten'"),
        ({"name": "tpe", "group": "yes"}, SAMPLERS, "group", "must be true or false, got 'yes'"),
        ({"name": "tpe", "multivariate": 1}, SAMPLERS, "multivariate", "must be true or false or null, got 1"),
        ({"name": "tpe", "startup": "sobol"}, SAMPLERS, "startup", "must be 'qmc' or 'random', got 'sobol'"),
        ({"name": "qmc", "qmc_type": "latin"}, SAMPLERS, "qmc_type", "must be 'sobol' or 'halton', got 'latin'"),
        ({"name": "cmaes", "popsize": 2.5}, SAMPLERS, "popsize", "must be a whole number or null, got 2.5"),
        ({"name": "cmaes", "x0": 3}, SAMPLERS, "x0", "must map parameters to values, got 3"),
        ({"name": "random", "seed": -1}, SAMPLERS, "seed", "must be >= 0, got -1"),
        ({"name": "median", "n_startup_trials": True}, PRUNERS, "n_startup_trials", "must be a whole number, got True"),
        ({"name": "median", "min_resource": "auto"}, PRUNERS, "min_resource", "must be a whole number, got 'auto'"),
        ({"name": "median", "interval": 0}, PRUNERS, "interval", "must be >= 1, got 0"),
        ({"name": "hyperband", "max_resource": "all"}, PRUNERS, "max_resource", "must be 'auto' or a whole number"),
        ({"name": "hyperband", "min_resource": 0}, PRUNERS, "min_resource", "must be >= 1, got 0"),
        ({"name": "successive_halving", "reduction_factor": 2.5}, PRUNERS, "reduction_factor", "must be a whole"),
        ({"name": "threshold", "lower": "3"}, PRUNERS, "lower", "must be a number or null, got '3'"),
        ({"name": "percentile"}, PRUNERS, "percentile", "is required and missing"),
        ({"name": "patient", "patience": 2, "wrapped_pruner": "median"}, PRUNERS, "wrapped_pruner",
         "must be a mapping with a name, got 'median'"),
        ({"name": "patient", "patience": 1, "wrapped_pruner": {"name": "median", "x": 1}}, PRUNERS,
         "wrapped_pruner.x", "n_warmup_steps"),
        ({"name": "patient", "patience": 1, "wrapped_pruner": {"name": "mean"}}, PRUNERS, "wrapped_pruner.name",
         "did you mean 'median'?"),
        ({"name": "patient", "patience": 1, "wrapped_pruner": {"name": "median", "n_startup_trials": -1}}, PRUNERS,
         "wrapped_pruner.n_startup_trials", "must be >= 0, got -1"),
        ({"name": "partial_fixed", "base_sampler": {"name": "tpe"}}, SAMPLERS, "fixed_params", "is required and"),
        ({"name": "partial_fixed", "base_sampler": {"name": "brute_force"}, "fixed_params": {}}, SAMPLERS,
         "base_sampler.name", "brute_force can't stand within another sampler"),
        ({"name": "grid", "seed": 1}, SAMPLERS, "seed", "can't be given: it would never be used"),
        ({"name": "grid", "search_space": {}}, SAMPLERS, "search_space", "it is made of the lists under"),
    ],
)  # fmt: skip
def test_what_is_wrong_by_itself_is_refused_on_reading(
    values: dict[str, Any], known: dict[str, type], path: str, message: str
) -> None:
    with pytest.raises(ComponentError, match=re.escape(message)) as caught:
        component(values, known)
    assert ".".join(caught.value.path) == path


NONE, TPE = {"name": "none"}, {"name": "tpe"}
ONE = {"optim.lr": PARAMETERS["optim.lr"], "loss.coarse_pooling": PARAMETERS["loss.coarse_pooling"]}


def fixing(**values: Any) -> dict[str, Any]:
    params = {key.replace("__", "."): value for key, value in values.items()}
    return {"name": "partial_fixed", "base_sampler": {"name": "random"}, "fixed_params": params}


@pytest.mark.parametrize(
    ("sampler", "pruner", "parameters", "path", "message"),
    [
        (TPE, {"name": "percentile", "percentile": 101.0}, PARAMETERS, "pruner", "between 0 and 100"),
        (TPE, {"name": "threshold"}, PARAMETERS, "pruner", "lower or upper"),
        (TPE, {"name": "hyperband", "min_resource": 13}, PARAMETERS, "pruner.min_resource", "<= optim.epochs (12)"),
        (TPE, {"name": "median", "interval": 13}, PARAMETERS, "pruner.interval", "<= optim.epochs (12), got 13"),
        (TPE, {"name": "patient", "patience": 1, "wrapped_pruner": {"name": "hyperband", "min_resource": 13}},
         PARAMETERS, "pruner.wrapped_pruner.min_resource", "must be <= optim.epochs (12), got 13"),
        ({"name": "tpe", "group": True, "multivariate": False}, NONE, PARAMETERS, "sampler", "multivariate"),
        ({"name": "brute_force"}, NONE, PARAMETERS, "sampler.name", "optim.lr is a float without step"),
        ({"name": "cmaes"}, NONE, ONE, "sampler.name", "cmaes needs two int or float parameters, got 1"),
        ({"name": "cmaes", "x0": {"optim.lr": 1e-4}}, NONE, PARAMETERS, "sampler.x0", "concepts.clusters is missing"),
        (fixing(concepts__cluster=3), NONE, PARAMETERS, "sampler.fixed_params.concepts.cluster",
         "must be a parameter that is searched; did you mean 'concepts.clusters'?"),
        (fixing(concepts__clusters=101), NONE, PARAMETERS, "sampler.fixed_params.concepts.clusters",
         "must be a whole number in [10, 100], got 101"),
        (fixing(concepts__clusters=20.0), NONE, PARAMETERS, "sampler.fixed_params.concepts.clusters",
         "must be a whole number in [10, 100], got 20.0"),
        (fixing(concepts__clusters=15), NONE, FINITE, "sampler.fixed_params.concepts.clusters",
         "must be a whole number in [10, 40] in steps of 10, got 15"),
        (fixing(optim__lr="fast"), NONE, PARAMETERS, "sampler.fixed_params.optim.lr", "must be a number in"),
        (fixing(loss__coarse_pooling="sum"), NONE, PARAMETERS, "sampler.fixed_params.loss.coarse_pooling",
         "must be one of ['max', 'mean'], got 'sum'"),
    ],
)  # fmt: skip
def test_what_would_break_or_idle_in_mid_search_is_found_before(
    sampler: dict[str, Any], pruner: dict[str, Any], parameters: dict[str, Any], path: str, message: str
) -> None:
    broken = rehearse(component(sampler, SAMPLERS), component(pruner, PRUNERS), parameters, EPOCHS)
    assert broken is not None
    assert ".".join(broken.path) == path
    assert message in str(broken)
