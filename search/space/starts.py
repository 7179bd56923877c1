"""What a search starts with (`search.start_with`): the base, settings of one's own, and what other runs won."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution

from haan.checked import RuleError
from haan.config import Config
from haan.errors import InputError
from haan.files import at_home
from haan.yamlconfig import BAD, BEST, declared, items, place, plain, read_config, shown, value_of
from search.space.model import base_values, with_values
from search.study import algorithms, rehearsal
from search.study.alike import lies_in
from search.study.conditions import Conditions, drawn

_KEY, _BASE = "search.start_with", "base"


def read_starts(
    node: yaml.Node | None,
    base: Config,
    parameters: Mapping[str, BaseDistribution],
    conditions: Conditions,
    grid: bool,
    errors: list[str],
) -> tuple[dict[str, Any], ...]:
    """Points to try first, each once, the base before all others; values by parameter.

    What an entry leaves out has the base's value. A run folder in the list becomes its values, so that a space that is
    kept with a run is whole without the other one.
    """
    own = base_values(base, parameters)
    if node is None or (isinstance(node, yaml.ScalarNode) and node.value == _BASE):
        return (own,)
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        got = "[]" if isinstance(node, yaml.SequenceNode) else shown(node)
        rule = "must be base, or a list of base, mappings of parameters to values, and run folders"
        errors.append(f"{place(node)}: {_KEY}: {rule}, got {got}")
        return ()
    if grid:
        rule = f"must be base under sampler: {{name: {algorithms.GRID}}}, which tries its points in their order"
        errors.append(f"{place(node)}: {_KEY}: {rule}, got a list")
        return ()
    points = [_point(entry, own, base, parameters, errors) for entry in node.value]
    for entry, point in zip(node.value, points, strict=True):
        had = drawn(conditions, point, own)
        for key in (key for key in point if key not in had and point[key] != own[key]):
            rule = f"must be the base's {own[key]!r} where {key} is not searched (its `when`)"
            errors.append(f"{place(entry)}: {_named(entry)}.{key}: {rule}, got {point[key]!r}")
    node.value = [
        entry if entry.value == _BASE or not isinstance(entry, yaml.ScalarNode) else _as_mapping(point)
        for entry, point in zip(node.value, points, strict=True)
    ]
    points = [own] * (own in points) + points
    return tuple(point for number, point in enumerate(points) if point not in points[:number])


def _point(
    node: yaml.Node,
    own: Mapping[str, Any],
    base: Config,
    parameters: Mapping[str, BaseDistribution],
    errors: list[str],
) -> dict[str, Any]:
    """One entry as values of all parameters."""
    before = len(errors)
    if isinstance(node, yaml.ScalarNode):
        if node.value == _BASE:
            return dict(own)
        values, where = _of_folder(node, base, parameters, errors), dict.fromkeys(parameters, node)
    else:
        values, where = _of_mapping(node, base, parameters, errors)
    for key, value in values.items():
        if not lies_in(parameters[key], value):
            rule = f"must be {rehearsal.described(parameters[key])}, as search.parameters has it"
            errors.append(f"{place(where[key])}: {_named(node)}.{key}: {rule}, got {value!r}")
    point = {**own, **values}
    if len(errors) == before:
        try:
            with_values(base, point)
        except RuleError as error:
            errors.append(f"{place(node)}: {_named(node)}.{error}")
    return point


def _named(node: yaml.Node) -> str:
    return f"{_KEY}.{node.value}" if isinstance(node, yaml.ScalarNode) else _KEY


def _of_folder(
    node: yaml.ScalarNode, base: Config, parameters: Mapping[str, BaseDistribution], errors: list[str]
) -> dict[str, Any]:
    """What a run or a training left as its configuration."""
    path = Path(at_home(node.value)) / BEST
    if not path.is_file():
        rule = f"must be base, a mapping, or the folder of a run with its {BEST}"
        errors.append(f"{place(node)}: {_KEY}: {rule}, got {node.value!r}")
        return {}
    try:
        config = read_config(path)
    except InputError as error:
        errors += [f"{place(node)}: {_KEY}: {message}" for message in error.messages]
        return {}
    if config.method != base.method:
        rule = f"must be of method: {base.method}, as the base is"
        errors.append(f"{place(node)}: {_KEY}.{node.value}: {rule}, got method: {config.method}")
        return {}
    return base_values(config, parameters)


def _of_mapping(
    node: yaml.Node, base: Config, parameters: Mapping[str, BaseDistribution], errors: list[str]
) -> tuple[dict[str, Any], dict[str, yaml.Node]]:
    """Values by parameter, and where each stands."""
    values: dict[str, Any] = {}
    where: dict[str, yaml.Node] = {}
    for key, (name, value) in items(node, _KEY, errors).items():
        if key not in parameters:
            hint = algorithms.nearest(key, parameters) or f"; searched are {', '.join(parameters)}"
            errors.append(f"{place(name)}: {_KEY}.{key}: must be a parameter that is searched{hint}")
            continue
        read = value_of(declared(type(base), key), value, f"{_KEY}.{key}", errors)
        if read is not BAD:
            values[key], where[key] = read, value
    return values, where


def _as_mapping(point: Mapping[str, Any]) -> yaml.Node:
    made = yaml.compose(yaml.safe_dump({key: plain(value) for key, value in point.items()}, sort_keys=False))
    assert made is not None
    return made
