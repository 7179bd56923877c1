"""Samplers and pruners by name, with their own arguments, checked before anything runs. Optuna alone, no Ray."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

SAMPLERS: dict[str, type[BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.QMCSampler,
}
PRUNERS: dict[str, type[BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": optuna.pruners.MedianPruner,
    "percentile": optuna.pruners.PercentilePruner,
    "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
    "hyperband": optuna.pruners.HyperbandPruner,
    "threshold": optuna.pruners.ThresholdPruner,
    "patient": optuna.pruners.PatientPruner,
}

_NESTED = ("wrapped_pruner", "independent_sampler")  # arguments that are pruners or samplers themselves
# What Optuna's annotations say, and what it needs but never checks.
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
_LEAST = {"min_resource": 1, "max_resource": 1, "reduction_factor": 2, "n_startup_trials": 0, "n_ei_candidates": 1}
_REHEARSED = 15  # made-up trials: TPE draws its first ten at random


class ComponentError(ValueError):
    """A sampler or pruner can't be made; `argument` is the one at fault."""

    def __init__(self, argument: str, message: str):
        super().__init__(message)
        self.argument = argument


@dataclass(frozen=True)
class Component:
    """A sampler or pruner by name, with its own arguments; an argument may be a Component itself."""

    name: str
    arguments: Mapping[str, Any]


def component(values: Mapping[str, Any], known: Mapping[str, type]) -> Component:
    """A Component from `{name: ..., argument: ...}`, nested ones included. Raises ComponentError."""
    name = values.get("name")
    if not isinstance(name, str) or name not in known:
        raise ComponentError("name", f"must be one of {', '.join(known)}, got {name!r}")
    signature, valid = inspect.signature(known[name].__init__).parameters, _arguments(known[name])
    arguments = {}
    for argument, value in values.items():
        if argument == "name":
            continue
        if argument not in valid:
            raise ComponentError(argument, f"{name} takes {', '.join(valid) or 'no arguments'}, got {argument!r}")
        if argument in _NESTED and not isinstance(value, dict):
            raise ComponentError(argument, f"must be a mapping with a name, got {value!r}")
        kind = str(signature[argument].annotation)
        if kind in _KINDS and (not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "bool")):
            raise ComponentError(argument, f"must be {_WORDS[kind]}, got {value!r}")
        if argument in _LEAST and isinstance(value, int | float) and value < _LEAST[argument]:
            raise ComponentError(argument, f"must be >= {_LEAST[argument]}, got {value!r}")
        arguments[argument] = component(value, known) if isinstance(value, dict) else value
    for argument in valid:
        if argument not in arguments and signature[argument].default is inspect.Parameter.empty:
            raise ComponentError(argument, "is required and missing")
    return Component(name, arguments)


def _arguments(cls: type) -> list[str]:
    """The named arguments of a class."""
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def rehearse(
    sampler: Component, pruner: Component, parameters: Mapping[str, BaseDistribution], epochs: int
) -> ComponentError | None:
    """Runs a few made-up trials through both: what would break a search in its middle breaks here.

    Returns the error, its `argument` "sampler" or "pruner", or None.
    """
    tries: tuple[tuple[str, str, Callable[[], optuna.Study]], ...] = (
        ("sampler", sampler.name, lambda: optuna.create_study(sampler=make_sampler(sampler, seed=0))),
        ("pruner", pruner.name, lambda: optuna.create_study(pruner=make_pruner(pruner, epochs))),
    )
    loud = optuna.logging.get_verbosity()
    for key, name, create in tries:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            _play(create(), parameters, epochs)
        except Exception as error:  # a sampler may raise anything at arguments it can't take
            return ComponentError(key, f"{name} can't be used: {type(error).__name__}: {error}")
        finally:
            optuna.logging.set_verbosity(loud)
    least = _least_resource(pruner)
    if least is not None and least > epochs:
        return ComponentError("pruner", f"min_resource must be <= optim.epochs ({epochs}), got {least}")
    return None


def _play(study: optuna.Study, parameters: Mapping[str, BaseDistribution], epochs: int) -> None:
    """Made-up trials of made-up values; nothing is kept."""
    for number in range(_REHEARSED):
        trial = study.ask(dict(parameters))
        for epoch in range(1, epochs + 1):
            trial.report(number % 5, epoch)
            trial.should_prune()
        study.tell(trial, number % 5)


def _least_resource(pruner: Component) -> float | None:
    """`min_resource` of a pruner or of the one it wraps."""
    for name, value in pruner.arguments.items():
        if isinstance(value, Component):
            return _least_resource(value)
        if name == "min_resource" and isinstance(value, int | float):
            return value
    return None


def make(one: Component, known: Mapping[str, type], **defaults: Any) -> Any:
    """The Optuna object; `defaults` are used where it takes such an argument and none is given."""
    takes = _arguments(known[one.name])
    given = {a: make(v, known, **defaults) if isinstance(v, Component) else v for a, v in one.arguments.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the user chose it by name
        return known[one.name](**{a: v for a, v in defaults.items() if a in takes} | given)


def make_sampler(one: Component, seed: int) -> BaseSampler:
    """A sampler; TPE's arguments are given in full, for Optuna's defaults change between releases."""
    tpe = {"multivariate": True, "constant_liar": True}
    return make(one, SAMPLERS, seed=seed, **(tpe if one.name == "tpe" else {}))


def make_pruner(one: Component, epochs: int) -> BasePruner:
    """A pruner; `max_resource` defaults to the number of epochs ("auto" prunes nothing before a trial completes)."""
    return make(one, PRUNERS, max_resource=epochs)
