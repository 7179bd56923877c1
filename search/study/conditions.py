"""Parameters that are drawn only where others have certain values; elsewhere a trial has the base's value."""

from collections.abc import Mapping
from typing import Any

# Of a parameter: for each other one, which stands before it, the values that it must have.
Conditions = Mapping[str, Mapping[str, tuple[Any, ...]]]


def is_drawn(conditions: Conditions, key: str, values: Mapping[str, Any]) -> bool:
    """Whether a parameter is, in a trial with these values; they hold every parameter that a condition names."""
    return all(values[other] in allowed for other, allowed in conditions.get(key, {}).items())


def drawn(conditions: Conditions, point: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial has of a point, in the order of its parameters. base: the value of each that is not drawn."""
    found: dict[str, Any] = {}
    for key, value in point.items():
        if is_drawn(conditions, key, {**base, **found}):
            found[key] = value
    return found
