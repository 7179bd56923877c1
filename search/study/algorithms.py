"""Samplers and pruners by name, with their own arguments, checked before anything runs. Optuna alone, no Ray.

Every Optuna class that fits one objective over epochs has a name here; the others are refused with the reason. Beside
Optuna's arguments, samplers with a model take `startup` (qmc or random) and pruners `interval` and `min_resource`.
"""

import difflib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from search.study.adapters import Exhaustive, KnownSpace, Quasi, Reseeded, Rhythm, RhythmicHyperband, Whole
from search.study.earlier import Informed

SAMPLERS: dict[str, type[BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "qmc": optuna.samplers.QMCSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "gp": optuna.samplers.GPSampler,
    "nsgaii": optuna.samplers.NSGAIISampler,
    "nsgaiii": optuna.samplers.NSGAIIISampler,
    "brute_force": optuna.samplers.BruteForceSampler,
    "partial_fixed": optuna.samplers.PartialFixedSampler,
    "grid": optuna.samplers.GridSampler,
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
REFUSED = {
    "wilcoxon": "it compares scores per instance, not per epoch",
    "base": "it is Optuna's base class, which draws and prunes nothing",
    "base_ga": "it is Optuna's base class of genetic algorithms, which draws nothing; try nsgaii",
}
GRID = "grid"
EXHAUSTIVE = "brute_force"
FINITE = (GRID, EXHAUSTIVE)  # samplers that try every point of a finite space once
HALVING = ("successive_halving", "hyperband")  # pruners with rungs
FIXED = (*FINITE, "cmaes")  # those that can't be given parameters which their first trials lack

_NESTED: dict[str, Mapping[str, type]] = {  # arguments that are samplers or pruners themselves
    "wrapped_pruner": PRUNERS,
    "independent_sampler": SAMPLERS,
    "base_sampler": SAMPLERS,
}
_VALUES = ("fixed_params", "x0")  # arguments that map searched parameters to values
_CHOICES = {
    "min_resource": ("auto",),
    "max_resource": ("auto",),
    "qmc_type": ("sobol", "halton"),
    "startup": ("qmc", "random"),
}
_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "None": "null"}
# What Optuna needs but never checks, or checks only in the middle of a search.
_LEAST = {
    "min_resource": 1, "max_resource": 1, "reduction_factor": 2, "bootstrap_count": 0, "min_early_stopping_rate": 0,
    "interval": 1, "interval_steps": 1, "n_warmup_steps": 0, "n_min_trials": 1, "patience": 0, "min_delta": 0,
    "n_startup_trials": 0, "n_ei_candidates": 1, "population_size": 2, "popsize": 2, "dividing_parameter": 1, "seed": 0,
}  # fmt: skip
_OBJECT = "is a Python object, which YAML can't give"
_JOINT = "would never be used, for all parameters are drawn together here"
_IDLE = "has had no effect since Optuna 4.4"
_REFUSED_ARGUMENTS: dict[tuple[str, str], str] = {
    ("qmc", "independent_sampler"): _JOINT,
    ("gp", "independent_sampler"): _JOINT,
    ("cmaes", "restart_strategy"): _IDLE,
    ("cmaes", "inc_popsize"): _IDLE,
    ("brute_force", "avoid_premature_stop"): "would never be used, for search.trials says when to stop",
    ("grid", "search_space"): "is made of the lists under search.parameters",
    ("grid", "seed"): "would never be used, for a grid draws nothing",
}
_MODELS = ("tpe", "gp", "cmaes")  # those that start at random in Optuna, and quasi-random here
_LEARNERS = ("tpe", "gp")  # those that can learn from trials that they did not propose
_WHOLE = ("gp", "cmaes", "nsgaii", "nsgaiii")  # those that can't learn of a trial that lacks a parameter


@contextmanager
def silent() -> Iterator[None]:
    """Within it Optuna says nothing of studies that are made up and forgotten."""
    loud = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(loud)


class ComponentError(ValueError):
    """A sampler or pruner can't be made; `path` holds the keys that lead to what is at fault."""

    def __init__(self, path: tuple[str, ...], message: str):
        super().__init__(message)
        self.path = path


@dataclass(frozen=True)
class Component:
    """A sampler or pruner by name, with its own arguments; an argument may be a Component itself."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class _Argument:
    """What an argument accepts (int, float, bool, str, None, or what it is otherwise), and whether it must be given."""

    kinds: tuple[str, ...]
    required: bool = False


def component(values: Mapping[str, Any], known: Mapping[str, type]) -> Component:
    """A Component from `{name: ..., argument: ...}`, nested ones included. Raises ComponentError."""
    name = _name(values, known)
    takes, arguments = _takes(name, known), {}
    for argument, value in values.items():
        if argument != "name":
            arguments[argument] = _argument(name, argument, value, takes)
    for argument, one in takes.items():
        if one.required and argument not in arguments:
            raise ComponentError((argument,), "is required and missing")
    return Component(name, arguments)


def _name(values: Mapping[str, Any], known: Mapping[str, type]) -> str:
    name = values.get("name")
    if isinstance(name, str) and name in known:
        return name
    if isinstance(name, str) and name in REFUSED:
        raise ComponentError(("name",), f"{name} can't be used here: {REFUSED[name]}")
    raise ComponentError(("name",), f"must be one of {', '.join(known)}, got {name!r}{nearest(name, known)}")


def nearest(name: object, valid: Mapping[str, Any]) -> str:
    whole = [one for one in valid if isinstance(name, str) and len(name) > 2 and name in one]
    near = whole or difflib.get_close_matches(str(name).lower(), valid, n=1, cutoff=0.7)
    return f"; did you mean {near[0]!r}?" if near else ""


def _takes(name: str, known: Mapping[str, type]) -> dict[str, _Argument]:
    """What a sampler or pruner accepts: Optuna's arguments and ours, those that are refused left out."""
    parameters = list(inspect.signature(known[name].__init__).parameters.values())[1:]
    named = [one for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    own = {one.name: _Argument(_kinds(one.annotation), one.default is one.empty) for one in named}
    if name in _MODELS:
        own["startup"] = _Argument(("str",))
    if known is PRUNERS and name != "none":
        own = {"min_resource": _Argument(("int",))} | own | {"interval": _Argument(("int",))}
    return {argument: one for argument, one in own.items() if not _refusal(name, argument, one)}


def _kinds(annotation: Any) -> tuple[str, ...]:
    text = annotation if isinstance(annotation, str) else annotation.__name__
    return tuple(text.split(" | "))


def _refusal(name: str, argument: str, one: _Argument) -> str | None:
    """Why an argument of Optuna's can't be given."""
    readable = argument in _NESTED or argument in _VALUES or set(one.kinds) <= {*_WORDS, "str"}
    return _REFUSED_ARGUMENTS.get((name, argument), None if readable else _OBJECT)


def _argument(name: str, argument: str, value: Any, takes: Mapping[str, _Argument]) -> Any:
    """The value of one argument, checked."""
    if argument not in takes:
        raise ComponentError((argument,), _unknown(name, argument, takes))
    kinds = takes[argument].kinds
    if value is None and "None" in kinds:
        return None
    if argument in _NESTED:
        return _nested(argument, value)
    if argument in _VALUES:
        if not isinstance(value, dict):
            raise ComponentError((argument,), f"must map parameters to values, got {value!r}")
        return value
    if not any(_fits(value, kind, argument) for kind in kinds):
        wanted = " or ".join(_WORDS[kind] if kind in _WORDS else _choices(argument) for kind in kinds)
        raise ComponentError((argument,), f"must be {wanted}, got {value!r}")
    if argument in _LEAST and isinstance(value, int | float) and value < _LEAST[argument]:
        raise ComponentError((argument,), f"must be >= {_LEAST[argument]}, got {value!r}")
    return value


def _unknown(name: str, argument: str, takes: Mapping[str, _Argument]) -> str:
    known = SAMPLERS if name in SAMPLERS else PRUNERS
    parameter = inspect.signature(known[name].__init__).parameters.get(argument)
    refused = parameter and _refusal(name, argument, _Argument(_kinds(parameter.annotation)))
    if refused:
        return f"can't be given: it {refused}"
    hint = nearest(argument, takes) or f"; {name} takes {', '.join(takes) or 'no arguments'}"
    return f"{name} has no such argument{hint}"


def _nested(argument: str, value: Any) -> Component:
    if not isinstance(value, dict):
        raise ComponentError((argument,), f"must be a mapping with a name, got {value!r}")
    if value.get("name") in FINITE:
        rule = f"{value['name']} can't stand within another sampler, for it would try points over and over"
        raise ComponentError((argument, "name"), rule)
    try:
        return component(value, _NESTED[argument])
    except ComponentError as error:
        raise ComponentError((argument, *error.path), str(error)) from None


def _fits(value: Any, kind: str, argument: str) -> bool:
    if isinstance(value, bool):
        return kind == "bool"
    if kind == "str":
        return value in _CHOICES[argument]
    return isinstance(value, {"int": int, "float": int | float}.get(kind, ()))


def _choices(argument: str) -> str:
    return " or ".join(repr(choice) for choice in _CHOICES[argument])


def fixed_keys(sampler: Component) -> set[str]:
    """The parameters that a sampler, or one within it, holds at one value."""
    nested = [fixed_keys(value) for value in sampler.arguments.values() if isinstance(value, Component)]
    return set(sampler.arguments.get("fixed_params") or ()).union(*nested)


def names(one: Component) -> set[str]:
    """Of a sampler or pruner, and of those within it."""
    return {one.name}.union(*(names(value) for value in one.arguments.values() if isinstance(value, Component)))


def written(one: Component) -> dict[str, Any]:
    """A sampler or pruner as a space says it."""
    arguments = one.arguments.items()
    return {"name": one.name} | {key: written(v) if isinstance(v, Component) else v for key, v in arguments}


def learns(one: Component) -> bool:
    """Whether a sampler sees the trials of earlier searches."""
    return one.name in _LEARNERS


def make_sampler(
    one: Component, seed: int, parameters: Mapping[str, BaseDistribution], base: Mapping[str, Any] | None = None
) -> BaseSampler:
    """A sampler of these parameters; on a study that has trials already it goes on with other random numbers.

    base: the value that a trial has of a parameter that it doesn't name; None where every trial names all.
    """
    given = one.arguments.get("seed")
    first = seed if given is None else given
    make = partial(_sampler, one, first, parameters, base)
    if not learns(one):
        return Reseeded(make, first)
    return Reseeded(lambda drawn: Informed(make(drawn), parameters, base), first)


def _sampler(
    one: Component,
    seed: int,
    parameters: Mapping[str, BaseDistribution],
    base: Mapping[str, Any] | None,
    drawn: int,
) -> BaseSampler:
    """seed: of quasi-random sequences, which outlast a resume. drawn: of all else.

    TPE's arguments are given in full, for Optuna's defaults change between releases.
    """
    make = partial(_sampler, seed=seed, parameters=parameters, base=base, drawn=drawn)
    given: dict[str, Any] = {
        a: make(v) if isinstance(v, Component) else v for a, v in one.arguments.items() if a not in ("startup", "seed")
    }
    if one.name == "qmc":
        return _optuna(Quasi, parameters=parameters, seed=seed, **{"scramble": True} | given)
    if one.name == "partial_fixed":
        return _optuna(optuna.samplers.PartialFixedSampler, **given)
    if one.name == "brute_force":
        return _optuna(Exhaustive, seed=drawn)
    if one.name == GRID:
        return optuna.samplers.RandomSampler(seed=drawn)  # never asked: the points are enqueued
    defaults: dict[str, dict[str, Any]] = {
        "tpe": {"multivariate": True, "constant_liar": True, "group": False},
        "gp": {"warn_independent_sampling": False},
        "cmaes": {"warn_independent_sampling": False},
    }
    inner = _optuna(SAMPLERS[one.name], seed=drawn, **defaults.get(one.name, {}) | given)
    if base is not None and one.name in _WHOLE:
        inner = Whole(inner, parameters, base)
    return _known_space(one, inner, seed, parameters) if one.name in _MODELS else inner


def _known_space(
    one: Component, inner: BaseSampler, seed: int, parameters: Mapping[str, BaseDistribution]
) -> KnownSpace:
    """A model with its space and its start-up; which trials it needs for that is Optuna's to say."""
    states = [TrialState.COMPLETE]
    if one.name == "tpe" or one.arguments.get("consider_pruned_trials"):
        states.append(TrialState.PRUNED)
    varied = {key: value for key, value in sorted(parameters.items()) if not value.single()}
    joint: Mapping[str, BaseDistribution] | None = varied
    if one.name == "cmaes":
        joint = {key: value for key, value in varied.items() if not isinstance(value, CategoricalDistribution)}
    elif one.name == "tpe" and (one.arguments.get("multivariate") is False or one.arguments.get("group")):
        joint = None
    signature = inspect.signature(SAMPLERS[one.name].__init__).parameters
    start = one.arguments.get("n_startup_trials", signature["n_startup_trials"].default)
    quasi = _optuna(Quasi, parameters=parameters, seed=seed, scramble=True)
    start = 0 if one.arguments.get("startup") == "random" else start
    return KnownSpace(inner, quasi, start, tuple(states), joint, apart=one.name == "tpe" and joint is not None)


def make_pruner(one: Component, epochs: int) -> BasePruner:
    """A pruner; `max_resource` defaults to the number of epochs ("auto" prunes nothing before a trial completes)."""
    cls = PRUNERS[one.name]
    takes = inspect.signature(cls.__init__).parameters
    given: dict[str, Any] = {
        a: make_pruner(v, epochs) if isinstance(v, Component) else v for a, v in one.arguments.items()
    }
    interval = given.pop("interval", 1)
    least = 1 if "min_resource" in takes else given.pop("min_resource", 1)
    if "max_resource" in takes:
        given.setdefault("max_resource", epochs)
    if interval > 1 and one.name == "hyperband":
        return _optuna(RhythmicHyperband, interval=interval, **given)
    pruner = _optuna(cls, **given)
    return Rhythm(pruner, interval, least) if interval > 1 or least > 1 else pruner


def _optuna(cls: Callable[..., Any], **arguments: Any) -> Any:
    """An Optuna object; what Optuna marks as experimental or deprecated was chosen by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return cls(**arguments)


def pruned_epochs(pruner: Component, epochs: int) -> float | None:
    """Epochs of a mean trial where each rung lets 1 / reduction_factor go on; None where rungs aren't known before."""
    if pruner.name not in HALVING:
        return None
    parameters = inspect.signature(PRUNERS[pruner.name].__init__).parameters.values()
    given = {one.name: one.default for one in parameters} | {"interval": 1, "max_resource": epochs}
    given |= pruner.arguments
    least, most, factor, interval = (
        given[key] for key in ("min_resource", "max_resource", "reduction_factor", "interval")
    )
    if "auto" in (least, most):
        return None
    if pruner.name == "successive_halving":
        return _halved(epochs, least * factor ** given["min_early_stopping_rate"], factor, interval)
    brackets = max(math.floor(math.log(most / least, factor)) + 1, 1)
    # As Optuna shares trials out among the brackets.
    shares = [math.ceil(brackets * factor**s / (s + 1)) for s in reversed(range(brackets))]
    means = [_halved(epochs, least * factor**bracket, factor, interval) for bracket in range(brackets)]
    return sum(a * b for a, b in zip(shares, means, strict=True)) / sum(shares)


def _halved(epochs: int, rung: int, factor: int, interval: int) -> float:
    mean, done, going = 0.0, 0, 1.0
    while (end := math.ceil(rung / interval) * interval) < epochs:
        mean += going * (end - done)
        done, going, rung = end, going / factor, rung * factor
    return mean + going * (epochs - done)
