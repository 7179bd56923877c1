"""When a pruner may judge trials whose network begins anew with an iteration: after one, where their curves compare."""

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import yaml
from optuna.distributions import BaseDistribution, IntDistribution

from haan.checked import RuleError
from haan.config import Config
from haan.yamlconfig import child
from search.space.model import Space, ends_of, with_values
from search.study import algorithms
from search.study.algorithms import Component

_KEYS = ("interval", "interval_steps")  # arguments by which a space says itself when its pruner judges


def follow(
    pruner: Component,
    base: Config,
    parameters: Mapping[str, BaseDistribution],
    rows: Mapping[str, Mapping[str, Any]],
) -> Component:
    """A pruner that names no interval, asked where every trial is scored at the end of an iteration.

    As it is where curves fall nowhere. Rungs begin with the first such epoch, for those before it would all fall on it.
    Raises ComponentError where there is no such epoch before the last.
    """
    if pruner.name == "none" or _is_named(pruner):
        return pruner
    lengths, keys = _iterations(base, parameters, rows)
    if not lengths:
        return pruner
    interval, epochs = math.lcm(*lengths, base.eval.every), base.optim.epochs
    if interval >= epochs:
        known = " or ".join(map(str, sorted(lengths))) if len(lengths) < 9 else f"{min(lengths)} to {max(lengths)}"
        by = f" by {', '.join(keys)}" if keys else ""
        scored = f" and is scored (base.eval.every is {base.eval.every})" if base.eval.every > 1 else ""
        rule = (
            f"must be given, for no epoch before the last ({epochs}) ends an iteration of every trial{scored}, got none"
        )
        hint = f"iterations have {known} epochs{by}: take lengths that divide one another, or pruner: {{name: none}}"
        raise algorithms.ComponentError(("interval",), f"{rule}; {hint}")
    return replace(pruner, arguments={**_rungs_from(interval, pruner).arguments, "interval": interval})


def _is_named(pruner: Component) -> bool:
    nested = [value for value in pruner.arguments.values() if isinstance(value, Component)]
    return any(key in pruner.arguments for key in _KEYS) or any(map(_is_named, nested))


def _rungs_from(least: int, pruner: Component) -> Component:
    given: dict[str, Any] = {
        key: _rungs_from(least, value) if isinstance(value, Component) else value
        for key, value in pruner.arguments.items()
    }
    if pruner.name in algorithms.HALVING and given.get("min_resource") != "auto":
        given["min_resource"] = max(given.get("min_resource", 1), least)
    return replace(pruner, arguments=given)


def _iterations(
    base: Config, parameters: Mapping[str, BaseDistribution], rows: Mapping[str, Mapping[str, Any]]
) -> tuple[set[int], list[str]]:
    """Lengths that an iteration of a trial can have, and the parameters they depend on; none where nothing restarts.

    An iteration as long as the trial is the only one.
    """
    listed = {key: one for key, one in parameters.items() if key not in next(iter(rows.values()), {})}
    restart, lengths, keys = False, set[int](), list[str]()
    for start in [with_values(base, row) for row in rows.values()] or [base]:
        restart |= start.restarts
        lengths.add(start.period)
        for key, distribution in listed.items():
            ends = _made(start, key, ends_of(distribution))
            restart |= any(end.restarts for end in ends)
            if any(end.period != start.period for end in ends):
                lengths |= {one.period for one in _made(start, key, _values(distribution))}
                keys += [key] * (key not in keys)
    return ({length for length in lengths if length < base.optim.epochs} if restart else set()), keys


def _made(start: Config, key: str, values: Iterable[Any]) -> list[Config]:
    """With each value in turn; without those that only another parameter's value allows."""
    found = list[Config]()
    for value in values:
        with suppress(RuleError):
            found.append(with_values(start, {key: value}))
    return found


def _values(distribution: BaseDistribution) -> Iterable[Any]:
    if isinstance(distribution, IntDistribution):
        return range(distribution.low, distribution.high + 1, distribution.step)
    return ends_of(distribution)


def said(tree: yaml.Node) -> bool:
    """Whether a space that a run keeps says when it judges, or has no pruner; today's runs say it where curves fall."""
    pruner = child(child(tree, "search") or tree, "pruner")
    if not isinstance(pruner, yaml.MappingNode):
        return True
    name = child(pruner, "name")
    return (isinstance(name, yaml.ScalarNode) and name.value == "none") or _is_said(pruner)


def _is_said(node: yaml.Node) -> bool:
    if not isinstance(node, yaml.MappingNode):
        return False
    return any(key.value in _KEYS or _is_said(value) for key, value in node.value)


def keep(space: Space, tree: yaml.Node) -> Space:
    """Has a space say what its pruner follows, for the run that will keep it."""
    node = child(child(tree, "search") or tree, "pruner")
    if not isinstance(node, yaml.MappingNode) or _is_said(node) or "interval" not in space.pruner.arguments:
        return space
    made = yaml.compose(yaml.safe_dump(algorithms.written(space.pruner), sort_keys=False))
    assert made is not None
    node.value = made.value
    return replace(space, document=yaml.serialize(tree, allow_unicode=True))
