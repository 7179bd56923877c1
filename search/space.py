"""spaces/*.yaml -> a base configuration, Optuna distributions and what to run; checked before anything starts."""

import difflib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from haan.config import (
    AT_LEAST_ONE,
    NON_NEGATIVE,
    Checked,
    Config,
    Detect,
    RuleError,
    field_types,
    setting,
)
from haan.errors import InputError
from haan.yamlconfig import build, child, items, join, override, parse_range, place, read_tree, unknown_key, value_of
from search import study

_MAX_CORNERS = 4096


@dataclass(frozen=True, kw_only=True)
class Resources(Checked):
    """What one trial takes. gpu: a share of one GPU, or auto: a whole one where the cluster has any."""

    cpu: int = setting(1, AT_LEAST_ONE)
    gpu: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpu != "auto" and not 0 <= self.gpu <= 1:
            raise RuleError("gpu", "must be auto, or >= 0 and <= 1 (a trial uses one GPU at most)", self.gpu)


@dataclass(frozen=True, kw_only=True)
class Plan(Checked):
    """The keys of `search:` that are plain values."""

    trials: int = setting(100, AT_LEAST_ONE)
    concurrent: int | Literal["auto"] = "auto"
    max_failures: int = setting(3, NON_NEGATIVE)
    storage: str | None = None
    objective: Literal["best", "last"] = "best"
    start_with: Literal["base"] = "base"
    resources: Resources = Resources()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.concurrent != "auto" and self.concurrent < 1:
            raise RuleError("concurrent", "must be auto or >= 1", self.concurrent)


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space, complete.

    parameters: dotted key of the configuration -> distribution. detects: the detection settings that score every epoch,
    the base's own among them. document: the space as YAML, overrides applied.
    """

    name: str
    base: Config
    plan: Plan
    sampler: study.Component
    pruner: study.Component
    parameters: Mapping[str, BaseDistribution]
    detects: tuple[Detect, ...]
    document: str


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """A configuration with some dotted keys replaced. Raises RuleError, its key dotted from the top."""
    by_section: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, _, name = key.rpartition(".")
        by_section.setdefault(section, {})[name] = value
    changes: dict[str, Any] = by_section.pop("", {})
    for section, part in by_section.items():
        try:
            changes[section] = replace(getattr(config, section), **part)
        except RuleError as error:
            raise RuleError(f"{section}.{error.key}", error.rule, error.value) from None
    return replace(config, **changes)


def base_value(config: Config, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def read_space(path: str | Path, overrides: tuple[str, ...] = (), seed: int | None = None) -> Space:
    """A space file with `KEY=VALUE` overrides applied. Raises InputError with every error found."""
    tree = read_tree(path)
    for assignment in overrides:
        key = assignment.partition("=")[0].strip()
        override(tree, assignment if key.split(".")[0] == "search" else f"base.{assignment}")
    if seed is not None:
        override(tree, f"base.seed={seed}", "--seed")
    errors: list[str] = []
    top = items(tree, "the file", errors)
    errors += [unknown_key(node, key, ["base", "search"]) for key, (node, _) in top.items() if key not in _TOP]
    errors += [f"{place(tree)}: {key}: is required and missing" for key in _TOP if key not in top]
    if errors:
        raise InputError(errors)
    base = build(Config, top["base"][1], "base", errors)
    space = _read_search(Path(path).stem, base, top["search"][1], yaml.serialize(tree, allow_unicode=True), errors)
    if errors or space is None:
        raise InputError(errors)
    return space


_TOP = ("base", "search")
_NESTED = ("sampler", "pruner", "parameters")


def _read_search(name: str, base: Config | None, node: yaml.Node, document: str, errors: list[str]) -> Space | None:
    if not isinstance(node, yaml.MappingNode):
        errors.append(f"{place(node)}: search: must be a mapping")
        return None
    found = items(node, "search", [])
    if "confirm" in found:
        errors.append(f"{place(found['confirm'][0])}: search.confirm: this version does not confirm; remove the key")
    kept = [(k, v) for k, v in node.value if k.value not in (*_NESTED, "confirm")]
    rest = yaml.MappingNode(node.tag, kept, node.start_mark, node.end_mark)
    plan = build(Plan, rest, "search", errors)
    sampler = _component(found, "sampler", study.SAMPLERS, "tpe", errors)
    pruner = _component(found, "pruner", study.PRUNERS, "none", errors)
    if base is None:
        return None
    parameters, sweeps = _parameters(child(node, "parameters"), node, base, errors)
    if errors or plan is None or sampler is None or pruner is None:
        return None
    return Space(
        name=name,
        base=base,
        plan=plan,
        sampler=sampler,
        pruner=pruner,
        parameters=parameters,
        detects=_detects(base.detect, sweeps),
        document=document,
    )


def _component(
    found: dict[str, tuple[yaml.Node, yaml.Node]], key: str, known: Mapping[str, type], default: str, errors: list[str]
) -> study.Component | None:
    """`{name: ..., argument: ...}` of a sampler or pruner, its arguments checked by building it once."""
    if key not in found:
        return study.Component(default, {})
    node = found[key][1]
    entries = items(node, f"search.{key}", errors)
    if "name" not in entries:
        errors.append(f"{place(node)}: search.{key}.name: is required and missing")
        return None
    where = place(entries["name"][1])
    try:
        values = {name: _plain(value) for name, (_, value) in entries.items()}
        component = study.component(values, known)
        study.check(component, known)
    except study.ComponentError as error:
        line = place(entries[error.argument][0]) if error.argument in entries else where
        errors.append(f"{line}: {join(f'search.{key}', error.argument)}: {error}")
        return None
    return component


def _plain(node: yaml.Node) -> Any:
    """A node as plain Python values, numbers like 1e-3 included."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: _plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value) for value in node.value]
    for kind in (int, float, bool, type(None)):
        unread: list[str] = []
        value = value_of(kind, node, "", unread)
        if not unread:
            return value
    return node.value


def _parameters(
    node: yaml.Node | None, search: yaml.Node, base: Config, errors: list[str]
) -> tuple[dict[str, BaseDistribution], dict[str, tuple[float, ...]]]:
    parameters: dict[str, BaseDistribution] = {}
    sweeps: dict[str, tuple[float, ...]] = {}
    if node is None:
        errors.append(f"{place(search)}: search.parameters: is required and missing")
        return parameters, sweeps
    before = len(errors)
    entries = items(node, "search.parameters", errors)
    for key, (name, spec) in entries.items():
        kind = _kind_of(key, name, errors)
        if kind is None:
            continue
        one = items(spec, key, errors)
        form = next((form for form in _FORMS if form in one), None)
        extra = [other for other in one if other != form and other not in ("log", "step")]
        if form is None or extra:
            errors.append(f"{place(spec)}: {key}: must be one of {{int|float|choice|sweep: ...}}, got {sorted(one)}")
        elif form == "sweep":
            _read_sweep(key, one["sweep"][1], sweeps, errors)
        else:
            distribution = _distribution(key, form, kind, one, errors)
            if distribution is not None:
                parameters[key] = distribution
                _check_base(key, distribution, base, spec, errors)
    if len(errors) == before:
        _check_corners(base, parameters, entries, errors)
    return parameters, sweeps


_FORMS = ("int", "float", "choice", "sweep")
_SEARCHABLE = ("model", "concepts", "loss", "optim", "detect")


def _kind_of(key: str, node: yaml.Node, errors: list[str]) -> Any:
    """The type of the configuration field that a parameter names."""
    section, _, name = key.partition(".")
    sections = field_types(Config)
    valid = [f"{s}.{f}" for s in _SEARCHABLE for f in field_types(sections[s])]
    if key not in valid:
        near = difflib.get_close_matches(key, valid, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"sections are {', '.join(_SEARCHABLE)}"
        errors.append(f"{place(node)}: {key}: must be a key of the configuration that can be searched; {hint}")
        return None
    return field_types(sections[section])[name]


def _distribution(
    key: str, form: str, kind: Any, one: dict[str, tuple[yaml.Node, yaml.Node]], errors: list[str]
) -> BaseDistribution | None:
    node = one[form][1]
    if not isinstance(node, yaml.SequenceNode):
        errors.append(f"{place(node)}: {key}: {form} must be a list")
        return None
    if form == "choice":
        values = [value_of(kind, element, key, errors) for element in node.value]
        if not values:
            errors.append(f"{place(node)}: {key}: choice must not be empty, got []")
            return None
        return _made(key, node, errors, lambda: CategoricalDistribution(values))
    if kind is not {"int": int, "float": float}[form]:
        wanted = "float" if kind is float else "int" if kind is int else "choice"
        errors.append(f"{place(node)}: {key}: must be searched as {wanted}, got {form}")
        return None
    count = len(errors)
    bounds = [value_of(kind, element, key, errors) for element in node.value]
    log = value_of(bool, one["log"][1], f"{key}.log", errors) if "log" in one else False
    step = value_of(kind, one["step"][1], f"{key}.step", errors) if "step" in one else None
    if len(errors) > count:
        return None
    rule = _broken_rule(bounds, log, step)
    if rule:
        errors.append(f"{place(node)}: {key}: {rule}")
        return None
    low, high = bounds
    if form == "int":
        return _made(key, node, errors, lambda: IntDistribution(low, high, log=log, step=step or 1))
    return _made(key, node, errors, lambda: FloatDistribution(low, high, log=log, step=step))


def _broken_rule(bounds: list[Any], log: bool, step: Any) -> str | None:
    if len(bounds) != 2:
        return f"must be [low, high], got {len(bounds)} values"
    low, high = bounds
    if low >= high:
        return f"low must be < high, got [{low}, {high}]"
    if log and low <= 0:
        return f"low must be > 0 on a log scale, got {low}"
    if step is not None and (log or step <= 0):
        return f"step must be > 0 and on a linear scale, got {step}"
    return None


def _made(key: str, node: yaml.Node, errors: list[str], make: Any) -> BaseDistribution | None:
    try:
        return make()
    except ValueError as error:
        errors.append(f"{place(node)}: {key}: {error}")
        return None


def _read_sweep(key: str, node: yaml.Node, sweeps: dict[str, tuple[float, ...]], errors: list[str]) -> None:
    if not key.startswith("detect."):
        errors.append(f"{place(node)}: {key}: sweep is for detect.* alone, which needs no training")
    elif isinstance(node, yaml.SequenceNode):
        sweeps[key] = tuple(value_of(float, element, key, errors) for element in node.value)
    else:
        try:
            sweeps[key] = parse_range(str(node.value))
        except ValueError as error:
            errors.append(f"{place(node)}: {key}: sweep {error}, got {node.value!r}")
    if key in sweeps and not sweeps[key]:
        errors.append(f"{place(node)}: {key}: sweep must not be empty, got []")
    for value in sweeps.get(key, ()):
        try:
            Detect(**{key.removeprefix("detect."): value})
        except (RuleError, TypeError) as error:
            errors.append(f"{place(node)}: detect.{error}")


def _check_base(key: str, distribution: BaseDistribution, base: Config, node: yaml.Node, errors: list[str]) -> None:
    """The base is trial 0, so it has to lie in the space."""
    value = base_value(base, key)
    if isinstance(distribution, CategoricalDistribution):
        if value not in distribution.choices:
            errors.append(f"{place(node)}: {key}: choice must hold the base's value, got base {value!r}")
    elif isinstance(distribution, IntDistribution | FloatDistribution):
        inside = distribution.low <= value <= distribution.high
        steps = (value - distribution.low) / distribution.step if distribution.step else 0
        if not inside or not math.isclose(steps, round(steps), abs_tol=1e-6):
            where = f"[{distribution.low}, {distribution.high}]" + (
                f" in steps of {distribution.step}" if distribution.step not in (None, 1) else ""
            )
            errors.append(f"{place(node)}: {key}: the range must hold the base's value, got base {value!r} and {where}")


def _check_corners(
    base: Config,
    parameters: Mapping[str, BaseDistribution],
    entries: dict[str, tuple[yaml.Node, yaml.Node]],
    errors: list[str],
) -> None:
    """Builds a configuration at every bound, and at every combination of bounds where these are few."""
    ends = {key: _ends(distribution) for key, distribution in parameters.items()}
    for key, values in ends.items():
        for value in values:
            try:
                with_values(base, {key: value})
            except RuleError as error:
                errors.append(f"{place(entries[key][1])}: {key}: at its bound {value!r}: {error}")
    if errors or math.prod(len(values) for values in ends.values()) > _MAX_CORNERS:
        return
    for corner in itertools.product(*ends.values()):
        values = dict(zip(ends, corner, strict=True))
        try:
            with_values(base, values)
        except RuleError as error:
            node = entries[error.key][1] if error.key in entries else next(iter(entries.values()))[1]
            errors.append(f"{place(node)}: {error}; the space allows {values}")
            return


def _ends(distribution: BaseDistribution) -> tuple[Any, ...]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return (distribution.low, distribution.high)


def _detects(own: Detect, sweeps: Mapping[str, tuple[float, ...]]) -> tuple[Detect, ...]:
    """Every combination of the swept values, and the base's own setting first unless it is among them."""
    names = [key.removeprefix("detect.") for key in sweeps]
    combinations = [
        replace(own, **dict(zip(names, values, strict=True))) for values in itertools.product(*sweeps.values())
    ]
    return tuple(combinations) if own in combinations else (own, *combinations)


def most_demanding(space: Space) -> tuple[int, float]:
    """The largest number of clusters and the smallest sample rate that a trial can have."""
    rates = _ends(space.parameters["concepts.sample_rate"]) if "concepts.sample_rate" in space.parameters else ()
    sizes = _ends(space.parameters["concepts.clusters"]) if "concepts.clusters" in space.parameters else ()
    concepts = space.base.concepts
    return max((concepts.clusters, *sizes)), min((concepts.sample_rate, *rates))
