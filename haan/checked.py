"""What makes a dataclass check itself: rules and types of its fields, and the words of an error."""

import math
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


class RuleError(ValueError):
    """A value breaks a rule. `key` is the dotted key inside the dataclass that was being built."""

    def __init__(self, key: str, rule: str, value: object):
        super().__init__(f"{key}: {rule}, got {value!r}")
        self.key, self.rule, self.value = key, rule, value


@dataclass(frozen=True)
class Rule:
    """A predicate on one value, and the words an error uses for it."""

    text: str
    holds: Callable[[Any], bool]


POSITIVE = Rule("must be > 0", lambda v: v > 0)
NON_NEGATIVE = Rule("must be >= 0", lambda v: v >= 0)
AT_LEAST_ONE = Rule("must be >= 1", lambda v: v >= 1)
PROBABILITY = Rule("must be >= 0 and < 1", lambda v: 0 <= v < 1)
SHARE = Rule("must be > 0 and <= 1", lambda v: 0 < v <= 1)
PART_OR_ALL = Rule("must be >= 0 and <= 1", lambda v: 0 <= v <= 1)
PART = Rule("must be > 0 and < 1", lambda v: 0 < v < 1)
NOT_EMPTY = Rule("must not be empty", lambda v: len(v) > 0)
TIOU = Rule("must hold tIoU thresholds > 0 and <= 1", lambda v: len(v) > 0 and all(0 < t <= 1 for t in v))
SEED = Rule("must be >= 0 and < 2**31", lambda v: 0 <= v < 2**31)


def setting(default: Any, rule: Rule | None = None, path: bool = False, what: str = "", source: str = "") -> Any:
    """A dataclass field with a default and a rule on its value.

    path: `~` before it is the home folder. what, source: what it means and where that is from (see haan.keys).
    """
    return field(default=default, metadata={"rule": rule, "path": path, "what": what, "source": source})


def required(rule: Rule, path: bool = False, what: str = "", source: str = "") -> Any:
    """A dataclass field without a default, as `setting` else."""
    return field(metadata={"rule": rule, "path": path, "what": what, "source": source})


def added(default: Any, rule: Rule | None = None, what: str = "", source: str = "") -> Any:
    """The same of a key that came later: `haan.yamlconfig.plain` leaves it out while it has its default.

    So configurations and checkpoints of before stay what they were.
    """
    return field(default=default, metadata={"rule": rule, "added": True, "what": what, "source": source})


def redefault(cls: type, key: str, default: Any, source: str, what: str | None = None) -> Any:
    """A field of a dataclass once more, with a default of its own, for a subclass. what: where that differs."""
    known = next(f.metadata for f in fields(cls) if f.name == key)
    said = {name: value for name, value in known.items() if name != "added"}
    return field(default=default, metadata={**said, "source": source, "what": what or known["what"]})


def section(cls: type) -> Any:
    """A field with a method's own section, a dataclass whose fields all have defaults; see `ordered`."""
    return field(default_factory=cls, metadata={"section": True})


def ordered(cls: type) -> list[Field[Any]]:
    """The fields of a dataclass as they are written out: own sections of a method behind the first required field."""
    own, rest = [], []
    for f in fields(cls):
        (own if f.metadata.get("section") else rest).append(f)
    required = [f.default is MISSING and f.default_factory is MISSING for f in rest]
    behind = required.index(True) + 1 if own else 0
    return [*rest[:behind], *own, *rest[behind:]]


@cache
def field_types(cls: type) -> dict[str, Any]:
    """The type of every field of a dataclass."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _fits(value: object, kind: Any) -> bool:
    """Whether a value has the type that a field declares."""
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(v, get_args(kind)[0]) for v in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def describe(kind: Any) -> str:
    """A type in the words of an error message."""
    if kind is type(None):
        return "null"
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        return " or ".join(describe(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list of {describe(get_args(kind)[0]).removeprefix('a ')}s"
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}
    return names.get(kind, "a mapping")


class Checked:
    """A dataclass that refuses a value of the wrong type or one that breaks its field's rule."""

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value, kind = getattr(self, f.name), field_types(type(self))[f.name]
            if not _fits(value, kind):
                raise RuleError(f.name, f"must be {describe(kind)}", value)
            rule = f.metadata.get("rule")
            if rule and value is not None and not rule.holds(value):
                raise RuleError(f.name, rule.text, value)
