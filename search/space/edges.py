"""Whether the best configuration lies on the edge of its space, where a better one may lie beyond."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from haan.checked import RuleError, field_types
from haan.config import Detect
from haan.words import shown
from haan.yamlconfig import METHOD
from search.space.model import Space, detects_of, with_values
from search.study.algorithms import fixed_keys

_NEAR = 0.02  # of the range, on the scale that it is searched on
_FEW = 50  # steps; in so few only the bound itself is at the edge
_BEYOND = 1e-6

Number = IntDistribution | FloatDistribution


def edge_warnings(space: Space, params: Mapping[str, Any], detect: Detect) -> list[str]:
    """One sentence for each number of the best trial that lies on a bound of its range, or within 2 % of the range.

    params: the trial's parameters by dotted key. detect: its detection setting, chosen among the swept ones. A bound
    that the configuration's own rules allow nothing beyond (a probability of 0) is no edge, nor is a fixed parameter.
    """
    fixed = fixed_keys(space.sampler)
    numbers = {key: one for key, one in space.parameters.items() if isinstance(one, Number) and key not in fixed}
    found = [_of_range(space, params, key, one) for key, one in numbers.items() if key in params]
    return [text for text in [*found, *_of_sweeps(space, params, detect)] if text]


def _of_range(space: Space, params: Mapping[str, Any], key: str, one: Number) -> str | None:
    value = params[key]
    for side, bound in (("lower", one.low), ("upper", one.high)):
        if _near(one, value, bound) and _allowed(space, {**params, key: _beyond(one, bound)}):
            where = f"[{shown(one.low)}, {shown(one.high)}]"
            return f"{key} = {shown(value)} lies at the {side} bound of its range {where}: widen it and --resume"
    return None


def _near(one: Number, value: float, bound: float) -> bool:
    if one.step is not None and (one.high - one.low) / one.step <= _FEW:
        return math.isclose(value, bound)
    low, high, at, edge = (math.log(v) if one.log else v for v in (one.low, one.high, value, bound))
    return abs(at - edge) <= _NEAR * (high - low) * (1 + 1e-9)


def _beyond(one: Number, bound: float) -> float | int:
    """A value just outside the range."""
    outward = 1 if bound == one.high else -1
    if isinstance(one, IntDistribution):
        return int(bound) + outward
    if one.log:
        return bound * (1 + outward * _BEYOND)
    return bound + outward * _BEYOND * (one.high - one.low)


def _allowed(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether the configuration's own rules allow these values."""
    try:
        with_values(space.base, values)
    except RuleError:
        return False
    return True


def _of_sweeps(space: Space, params: Mapping[str, Any], detect: Detect) -> Iterator[str]:
    method = {METHOD: params[METHOD]} if METHOD in params else {}
    detects = detects_of(space, params)
    for name in field_types(type(detect)):
        values = sorted({getattr(one, name) for one in detects})
        value = getattr(detect, name)
        if len(values) < 2 or value not in (values[0], values[-1]):
            continue
        side, outward = ("lowest", -1) if value == values[0] else ("highest", 1)
        beyond = value + outward * (1 if isinstance(value, int) else _BEYOND * (values[-1] - values[0]))
        if _allowed(space, {**method, f"detect.{name}": beyond}):
            swept = f"{shown(values[0])} to {shown(values[-1])}"
            yield f"detect.{name} = {shown(value)} is the {side} tried, of {swept}: widen the sweep in a new search"
