"""Trials that lack a parameter, as it was not searched yet or its condition doesn't hold: they had the base's value."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState

from search.study.algorithms import SAMPLERS, Component, component, make_pruner, make_sampler
from search.study.conditions import Conditions, drawn
from search.study.record import RUNS
from search.study.study import Study
from tests.search.study.parameters import PARAMETERS

BASE = {"optim.lr": 3e-5, "concepts.clusters": 50, "loss.coarse_pooling": "max", "concepts.top_k": 5}
NEW = "loss.coarse_pooling"
FEWER = {key: one for key, one in PARAMETERS.items() if key != NEW}
# The driver refuses these: see search.space.resume.
UNABLE = {"grid", "brute_force", "cmaes"}
SLOW = {"gp": pytest.mark.slow}  # a second a trial
ARGUMENTS: dict[str, dict[str, Any]] = {
    "tpe": {"n_startup_trials": 4},
    "gp": {"n_startup_trials": 4},
    "nsgaii": {"population_size": 4},
    "nsgaiii": {"population_size": 4},
    "partial_fixed": {"base_sampler": {"name": "nsgaii", "population_size": 4}, "fixed_params": {"optim.lr": 1e-4}},
}


def named(samplers: Collection[str]) -> list[Any]:
    """They as parameters of a test."""
    return [pytest.param(name, marks=SLOW.get(name, ())) for name in sorted(samplers)]


def opened(
    journal: Path | None,
    parameters: Any,
    sampler: str = "random",
    pruner: str = "none",
    conditions: Conditions | None = None,
) -> Study:
    base = {key: BASE[key] for key in parameters}
    one = component({"name": sampler, **ARGUMENTS.get(sampler, {})}, SAMPLERS)
    return Study.create(
        name="x",
        journal=journal,
        sampler=make_sampler(one, 5, parameters, base),
        pruner=make_pruner(Component(pruner, {}), 3),
        parameters=parameters,
        epochs=3,
        base=base,
        conditions=conditions,
    )


def run(study: Study, trials: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(trials):
        asked = study.ask()
        found.append(dict(asked.params))
        pruned = any(
            study.report(asked.number, epoch, asked.params["concepts.clusters"] * epoch) for epoch in (1, 2, 3)
        )
        (study.prune if pruned else study.complete)(asked.number, {})
    return found


@pytest.mark.parametrize("pruner", ["none", "hyperband"])
@pytest.mark.parametrize("sampler", named(SAMPLERS.keys() - UNABLE))
def test_every_sampler_goes_on_over_more_parameters(tmp_path: Path, sampler: str, pruner: str) -> None:
    run(opened(tmp_path / "j", FEWER, sampler, pruner), 6)
    study = opened(tmp_path / "j", PARAMETERS, sampler, pruner)
    found = run(study, 6)
    assert all(one.keys() == PARAMETERS.keys() for one in found)
    assert [one.params.keys() for one in study.trials()[:6]] == [FEWER.keys()] * 6, "what has ended stays as it was"


def test_a_model_learns_from_the_trials_before(tmp_path: Path) -> None:
    """More clusters were better: without those trials TPE's next would lie anywhere in 10 to 100, 55 on average.

    What is new is drawn all the same: all 40 had the base's value of it.
    """
    run(opened(tmp_path / "j", FEWER), 40)
    found = run(opened(tmp_path / "j", PARAMETERS, "tpe"), 12)
    assert [one[NEW] for one in found].count("mean") >= 2
    assert sum(one["concepts.clusters"] for one in found) / 12 > 80


def test_a_trial_that_has_trained_goes_on_without_them_and_one_that_has_not_gets_them(tmp_path: Path) -> None:
    before = opened(tmp_path / "j", FEWER)
    trained, begun = before.ask(), before.ask()
    before.note(trained.number, RUNS, [[0.0, None, "a"]])
    study = opened(tmp_path / "j", PARAMETERS)
    assert study.ask().params == trained.params
    assert dict(study.ask().params).items() > begun.params.items()


def test_a_start_that_waits_has_the_base_value_of_them_and_none_is_tried_twice(tmp_path: Path) -> None:
    few = {key: BASE[key] for key in FEWER}
    before = opened(tmp_path / "j", FEWER)
    before.start_with([few, few | {"concepts.clusters": 60}])
    before.complete(_reported(before, before.ask().number), {})
    study = opened(tmp_path / "j", PARAMETERS)
    base = {key: BASE[key] for key in PARAMETERS}
    study.start_with([base, base | {"concepts.clusters": 60}, base | {NEW: "mean"}])
    assert len(study.trials(TrialState.WAITING)) == 2
    assert [study.ask().params for _ in range(2)] == [base | {"concepts.clusters": 60}, base | {NEW: "mean"}]


@pytest.mark.parametrize("sampler", named(SAMPLERS.keys() - {"grid", "brute_force"}))
def test_every_sampler_draws_a_conditional_parameter_where_its_condition_holds(tmp_path: Path, sampler: str) -> None:
    journal, others = tmp_path / "j", {"concepts.top_k": IntDistribution(1, 9), **PARAMETERS}
    parameters = {NEW: PARAMETERS[NEW], **{key: one for key, one in others.items() if key != NEW}}
    for _ in range(2):  # the second time the study is resumed
        study = opened(journal, parameters, sampler, conditions={"optim.lr": {NEW: ("mean",)}})
        found = run(study, 8)
        assert all(("optim.lr" in one) == (one[NEW] == "mean") for one in found)
        assert {key for one in found for key in one} >= {NEW, "concepts.clusters", "concepts.top_k"}


def test_a_condition_on_one_that_is_not_drawn_is_of_the_base_value() -> None:
    """The chain: lr where clusters is 50, clusters where pooling is mean; else clusters is the base's 50."""
    conditions = {"concepts.clusters": {NEW: ("mean",)}, "optim.lr": {"concepts.clusters": (50,)}}
    base, point = BASE, {NEW: "max", "concepts.clusters": 60, "optim.lr": 1e-4}
    assert drawn(conditions, point, base) == {NEW: "max", "optim.lr": 1e-4}
    assert drawn(conditions, point | {NEW: "mean"}, base) == {NEW: "mean", "concepts.clusters": 60}


def test_a_start_is_drawn_as_far_as_its_conditions_hold(tmp_path: Path) -> None:
    order = {NEW: PARAMETERS[NEW], "optim.lr": PARAMETERS["optim.lr"]}
    study = opened(tmp_path / "j", order, conditions={"optim.lr": {NEW: ("mean",)}})
    own = {key: BASE[key] for key in order}
    study.start_with([own, own | {NEW: "mean", "optim.lr": 1e-4}])
    assert [study.ask().params for _ in range(2)] == [{NEW: "max"}, {NEW: "mean", "optim.lr": 1e-4}]
    again = opened(tmp_path / "j", order, conditions={"optim.lr": {NEW: ("mean",)}})
    again.start_with([own])
    assert again.trials(TrialState.WAITING) == []


def _reported(study: Study, number: int) -> int:
    study.report(number, 1, 1.0)
    return number
