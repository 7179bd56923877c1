"""How alike two trials are, by their parameters, and what values these can have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.study import internals


@dataclass(frozen=True)
class Scale:
    """Parameters to points whose Euclidean distance says how alike two trials are.

    base: the values that a trial has of parameters that it doesn't name.
    """

    parameters: Mapping[str, BaseDistribution]
    base: Mapping[str, Any]

    def point(self, params: Mapping[str, Any]) -> Float[np.ndarray, " axes"]:
        """A number gives one coordinate in [0, 1]; a choice gives one for each of its values, two of them 1 apart."""
        parts = [_coordinates(one, params.get(key, self.base.get(key))) for key, one in self.parameters.items()]
        return np.array([coordinate for part in parts for coordinate in part], dtype=float)


def _coordinates(distribution: BaseDistribution, value: Any) -> list[float]:
    if isinstance(distribution, CategoricalDistribution):
        chosen = int(distribution.to_internal_repr(value))
        return [np.sqrt(0.5) * (number == chosen) for number in range(len(distribution.choices))]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, at = distribution.low, distribution.high, value
    if distribution.log:
        low, high, at = np.log(low), np.log(high), np.log(at)
    return [float((at - low) / (high - low)) if high > low else 0.0]


def lies_in(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a parameter can have a value, its type included."""
    if isinstance(distribution, CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in distribution.choices)
    kinds = int if isinstance(distribution, IntDistribution) else int | float
    if isinstance(value, bool) or not isinstance(value, kinds):
        return False
    return internals.contains(distribution, float(value))
