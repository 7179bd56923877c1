"""Made-up trials, which find what would break a search in its middle before it begins."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.study.algorithms import Component, ComponentError, make_pruner, make_sampler, nearest, silent
from search.study.alike import lies_in

_REHEARSED = 15  # made-up trials; a start-up is shortened to fewer, so that the model is rehearsed, too
_REHEARSED_STARTUP = 10


def rehearse(
    sampler: Component, pruner: Component, parameters: Mapping[str, BaseDistribution], epochs: int
) -> ComponentError | None:
    """Runs a few made-up trials through both: what would break a search in its middle breaks here.

    Returns the error, its path beginning with "sampler" or "pruner", or None.
    """
    try:
        with _within("sampler"):
            _check_sampler(sampler, parameters)
            shortened = _shortened(sampler)
            _try(
                sampler.name, lambda: optuna.create_study(sampler=make_sampler(shortened, 0, parameters)), parameters, 1
            )
        with _within("pruner"):
            _check_pruner(pruner, epochs)
            _try(pruner.name, lambda: optuna.create_study(pruner=make_pruner(pruner, epochs)), parameters, epochs)
    except ComponentError as error:
        return error
    return None


@contextmanager
def _within(*path: str) -> Iterator[None]:
    """Puts keys in front of the path of a ComponentError."""
    try:
        yield
    except ComponentError as error:
        raise ComponentError((*path, *error.path), str(error)) from None


def _check_sampler(one: Component, parameters: Mapping[str, BaseDistribution]) -> None:
    """What Optuna would only warn of, or find in mid-search, in a sampler and those within it."""
    free = dict(parameters)
    if one.name == "partial_fixed":
        _check_values("fixed_params", one.arguments["fixed_params"], parameters)
        free = {key: value for key, value in parameters.items() if key not in one.arguments["fixed_params"]}
    numbers = [key for key, value in free.items() if isinstance(value, IntDistribution | FloatDistribution)]
    if one.name == "brute_force":
        endless = [key for key in numbers if getattr(free[key], "step", None) is None]
        if endless:
            raise ComponentError(
                ("name",), f"brute_force needs a finite space, but {endless[0]} is a float without step"
            )
    if one.name == "cmaes" and len(numbers) < 2:
        raise ComponentError(("name",), f"cmaes needs two int or float parameters, got {len(numbers)}")
    if one.arguments.get("x0") is not None:
        _check_values("x0", one.arguments["x0"], parameters)
        missing = [key for key in numbers if key not in one.arguments["x0"]]
        if missing:
            raise ComponentError(("x0",), f"must give every int and float parameter, but {missing[0]} is missing")
    for argument, value in one.arguments.items():
        if isinstance(value, Component):
            with _within(argument):
                _check_sampler(value, free)


def _check_values(argument: str, values: Mapping[str, Any], parameters: Mapping[str, BaseDistribution]) -> None:
    """Each value belongs to a searched parameter and lies in its range."""
    for key, value in values.items():
        if key not in parameters:
            hint = nearest(key, parameters) or f"; searched are {', '.join(parameters)}"
            raise ComponentError((argument, key), f"must be a parameter that is searched{hint}")
        if not lies_in(parameters[key], value):
            raise ComponentError((argument, key), f"must be {described(parameters[key])}, got {value!r}")


def described(distribution: BaseDistribution) -> str:
    """What `lies_in` allows, in the words of an error message."""
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {list(distribution.choices)}"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "a whole number" if isinstance(distribution, IntDistribution) else "a number"
    steps = f" in steps of {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{kind} in [{distribution.low}, {distribution.high}]{steps}"


def _check_pruner(one: Component, epochs: int) -> None:
    for argument, value in one.arguments.items():
        if isinstance(value, Component):
            with _within(argument):
                _check_pruner(value, epochs)
        elif argument in ("min_resource", "interval") and isinstance(value, int) and value > epochs:
            raise ComponentError((argument,), f"must be <= optim.epochs ({epochs}), got {value}")


def _shortened(one: Component) -> Component:
    """The same sampler with a start-up that ends within the rehearsal."""
    arguments: dict[str, Any] = {a: _shortened(v) if isinstance(v, Component) else v for a, v in one.arguments.items()}
    start = arguments.get("n_startup_trials")
    short = {"n_startup_trials": min(start, _REHEARSED_STARTUP)} if start is not None else {}
    return replace(one, arguments=arguments | short)


def _try(
    name: str, create: Callable[[], optuna.Study], parameters: Mapping[str, BaseDistribution], epochs: int
) -> None:
    """Made-up trials of made-up values; nothing is kept. Raises ComponentError."""
    try:
        with silent():
            study = create()
            for number in range(_REHEARSED):
                trial = study.ask(dict(parameters))
                for epoch in range(1, epochs + 1):
                    trial.report(number % 5, epoch)
                    trial.should_prune()
                study.tell(trial, number % 5)
    except Exception as error:  # a sampler may raise anything at arguments it can't take
        raise ComponentError((), f"{name} can't be used: {type(error).__name__}: {error}") from None
