"""Parameters and rows of a space: how they are read, and the rules that they must keep."""

import difflib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, Literal

import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from haan.checked import RuleError, ordered
from haan.config import Config, Detect
from haan.keys import keys_of
from haan.methods.names import CONFIGS, HAAN
from haan.yamlconfig import BAD, METHOD, declared, items, kinds_of, of_another, parse_range, place, shown, value_of
from search.space.model import SEED, base_value, base_values, ends_of, points_of, with_method, with_values
from search.study import algorithms, rehearsal
from search.study.alike import lies_in
from search.study.conditions import Conditions, drawn

_MAX_CORNERS = 4096
_MAX_SWEEP = 1000
_MAX_POINTS = 10_000


_SWEEP, _WHEN = "sweep", "when"
_FORMS = ("int", "float", "choice", _SWEEP)
_PRECISION, _FIXED = "precision", ("data", "eval")  # sections of which nothing is searched
_HAAN = CONFIGS[HAAN]


def sections_of(cls: type[Config]) -> tuple[str, ...]:
    """The sections of a method's configuration that can be searched."""
    return tuple(f.name for f in ordered(cls) if f.name not in _FIXED and is_dataclass(declared(cls, f.name)))


def forms_of(key: str, grid: bool = False, cls: type[Config] = _HAAN) -> tuple[str, ...]:
    """How a key of a method's configuration may be searched, under a grid or else; no form where it may not be."""
    section, kind = key.partition(".")[0], declared(cls, key)
    if section not in (*sections_of(cls), _PRECISION, SEED) or kind is None or is_dataclass(kind):
        return ()
    if section == "detect":
        return (_SWEEP,) if _number_of(kind) else ()
    if grid or section == SEED:
        return ("list",) if grid else ()
    number = _number_of(kind)
    return ("choice",) if number is None else (number.__name__, "choice")


def _number_of(kind: Any) -> type[int] | type[float] | None:
    """Which kind of number a key takes, perhaps beside null; None where it takes none."""
    return next((one for one in kinds_of(kind) if one in (int, float)), None)


def _is_swept(key: str, cls: type[Config]) -> bool:
    return _SWEEP in forms_of(key, cls=cls)


def _num_values(distribution: BaseDistribution) -> int:
    """How many values a choice, a whole number or a number in steps can have."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    assert distribution.step is not None
    return round((distribution.high - distribution.low) / distribution.step) + 1


@dataclass(frozen=True)
class _Row:
    """A row of a grid. values: by dotted key. nodes: where each of those that it sets itself stands.

    own, sweeps: detection settings that a row of another method than the base's has for itself: what is not at its
    method's default, and what is swept.
    """

    values: dict[str, Any]
    nodes: dict[str, yaml.Node]
    own: dict[str, Any] = field(default_factory=dict)
    sweeps: dict[str, tuple[float, ...]] = field(default_factory=dict)


def read_rows(
    entry: tuple[yaml.Node, yaml.Node], base: Config | None, cls: type[Config], grid: bool, errors: list[str]
) -> dict[str, _Row]:
    """Named sets of settings. What one row leaves out of what another one sets has the base's value.

    cls: of the base, which is None where it is wrong.
    """
    name_node, node = entry
    if not grid:
        errors.append(f"{place(name_node)}: search.rows: must stand under sampler: {{name: {algorithms.GRID}}}")
        return {}
    before = len(errors)
    found = items(node, "search.rows", errors)
    if isinstance(node, yaml.MappingNode) and not found:
        errors.append(f"{place(node)}: search.rows: must hold a row, got none")
    rows = {name: _row(name, spec, cls, errors) for name, (_, spec) in found.items()}
    if len(errors) > before or base is None:
        return {}
    starts = {name: with_method(base, row.values.get(METHOD, base.method)) for name, row in rows.items()}
    keys = sorted(dict.fromkeys(key for row in rows.values() for key in row.values), key=lambda key: key != METHOD)
    if METHOD in keys:
        _check_rows(rows, base, errors)
    whole = {
        name: replace(row, values={key: row.values.get(key, base_value(starts[name], key)) for key in keys})
        for name, row in rows.items()
    }
    for name, row in whole.items():
        same = next(other for other, one in whole.items() if one.values == row.values)
        if same != name:
            rule = f"must differ from {same!r}, got the same settings"
            errors.append(f"{place(found[name][0])}: search.rows.{name}: {rule}")
    return {} if len(errors) > before else whole


def _row(name: str, spec: yaml.Node, cls: type[Config], errors: list[str]) -> _Row:
    row, given = _Row({}, {}), items(spec, f"search.rows.{name}", errors)
    if METHOD in given:
        node = given.pop(METHOD)[1]
        method = value_of(Literal[*CONFIGS], node, METHOD, errors)  # type: ignore[valid-type]
        if method is BAD:
            return row
        row.values[METHOD], row.nodes[METHOD] = method, node
        base_cls, cls = cls, CONFIGS[method]
    else:
        base_cls = cls
    for key, (key_node, value) in given.items():
        if cls is not base_cls and key.startswith("detect.") and declared(cls, key) is not None:
            _read_detect(key, value, cls, row, errors)
            continue
        if _is_swept(key, cls):
            rule = "must be swept under search.parameters, as it needs no training"
            errors.append(f"{place(key_node)}: {key}: {rule}, got it in row {name!r}")
            continue
        kind = _kind_of(key, key_node, False, cls, errors)
        if kind is not None:
            row.values[key], row.nodes[key] = value_of(kind, value, key, errors), value
    return row


def _read_detect(key: str, node: yaml.Node, cls: type[Config], row: _Row, errors: list[str]) -> None:
    """A detection setting of a row of another method than the base's: a value, or a sweep."""
    kind = declared(cls, key)
    if isinstance(node, yaml.MappingNode) and _is_swept(key, cls):
        form, one = _form(key, node, cls, errors)
        if form == _SWEEP:
            _read_sweep(key, kind, one[_SWEEP][1], cls, row.sweeps, errors)
        return
    count = len(errors)
    value = value_of(kind, node, key, errors)
    if len(errors) == count:
        _check_detect(key, value, node, cls, errors)
        row.own[key] = value


def _check_rows(rows: Mapping[str, _Row], base: Config, errors: list[str]) -> None:
    """Rows of one method share their detection settings: one of them says each."""
    said: dict[tuple[str, str], str] = {}
    for name, row in rows.items():
        for key in (*row.own, *row.sweeps):
            first = said.setdefault((row.values.get(METHOD, base.method), key), name)
            if first != name:
                rule = f"must stand in one row of a method, which are all scored alike, got it in {first!r} too"
                errors.append(f"{place(row.nodes[METHOD])}: search.rows.{name}: {key}: {rule}")


def num_points(parameters: Mapping[str, BaseDistribution], rows: Mapping[str, _Row]) -> int:
    """How many points a finite space has: each row with each combination of what is listed beside the rows."""
    in_rows = {key for row in rows.values() for key in row.values}
    return max(len(rows), 1) * math.prod(_num_values(one) for key, one in parameters.items() if key not in in_rows)


def read_parameters(
    node: yaml.Node | None,
    search: yaml.Node,
    base: Config | None,
    cls: type[Config],
    grid: bool,
    rows: Mapping[str, _Row],
    errors: list[str],
) -> tuple[dict[str, BaseDistribution], dict[str, Mapping[str, tuple[Any, ...]]], dict[str, tuple[float, ...]]]:
    """What is searched, the keys of the rows first, the conditions of some of it, and what is swept.

    cls: of the base, which is None where it is wrong.
    """
    in_rows = dict.fromkeys(key for row in rows.values() for key in row.values)
    parameters: dict[str, BaseDistribution] = {
        key: CategoricalDistribution(list(dict.fromkeys(row.values[key] for row in rows.values()))) for key in in_rows
    }
    conditions: dict[str, Mapping[str, tuple[Any, ...]]] = {}
    sweeps: dict[str, tuple[float, ...]] = {}
    if node is None and not rows:
        errors.append(f"{place(search)}: search.parameters: is required and missing")
        return parameters, conditions, sweeps
    before = len(errors)
    methods = list(dict.fromkeys(row.values[METHOD] for row in rows.values() if METHOD in row.values))
    entries = items(node, "search.parameters", errors) if node is not None else {}
    for key, (name, spec) in entries.items():
        kind = _kind_of(key, name, grid, cls, errors)
        if kind is None:
            continue
        lacking = [one for one in methods if declared(CONFIGS[one], key) is None]
        if lacking and not _is_swept(key, cls):
            rule = "must be a key of every row's method, or stand in rows"
            errors.append(f"{place(name)}: {key}: {rule}, which {lacking[0]!r} has not")
            continue
        if key in in_rows:
            errors.append(f"{place(name)}: {key}: must stand in search.rows or in search.parameters, got it in both")
            continue
        if isinstance(spec, yaml.SequenceNode) or (grid and not _is_swept(key, cls)):
            distribution = _listed(key, kind, spec, grid, cls, errors)
            if distribution is not None:
                parameters[key] = distribution
            continue
        form, one = _form(key, spec, cls, errors)
        if form == _SWEEP:
            _read_sweep(key, kind, one[_SWEEP][1], cls, sweeps, errors)
        elif form is not None:
            if _WHEN in one:
                conditions[key] = _condition(key, one[_WHEN][1], parameters, cls, errors)
            distribution = _distribution(key, form, kind, one, cls, errors)
            if distribution is not None:
                parameters[key] = distribution
                if base is not None:
                    _check_base(key, distribution, base, spec, errors)
    _check_counts(parameters, rows if grid else None, sweeps, node or search, errors)
    if len(errors) == before and base is not None and grid:
        _check_points(base, parameters, rows, entries, search, errors)
    elif len(errors) == before and base is not None:
        _check_corners(base, parameters, conditions, entries, errors)
    return parameters, conditions, sweeps


def _form(
    key: str, spec: yaml.Node, cls: type[Config], errors: list[str]
) -> tuple[str | None, dict[str, tuple[yaml.Node, yaml.Node]]]:
    """How a parameter is given, and all that is said of it; no form where that is wrong."""
    count = len(errors)
    one = items(spec, key, errors)
    if len(errors) > count:
        return None, one
    form = next((form for form in _FORMS if form in one), None)
    scaled = {"int": ("log", "step", _WHEN), "float": ("log", "step", _WHEN), "choice": (_WHEN,)}.get(form or "", ())
    extra = [other for other in one if other != form and other not in scaled]
    idle = [other for other in extra if other in ("log", "step", _WHEN)] if form else []
    if idle:
        node, fit = one[idle[0]][1], "int, float and choice" if idle[0] == _WHEN else "int and float"
        errors.append(f"{place(node)}: {key}.{idle[0]}: is for {fit} alone, got {shown(node)}")
    elif form is None or extra:
        errors.append(f"{place(spec)}: {key}: must be one of {{int|float|choice|sweep: ...}}, got {sorted(one)}")
    elif form != _SWEEP and _is_swept(key, cls):
        errors.append(f"{place(spec)}: {key}: must be swept, as it needs no training, got {form}")
    return form if len(errors) == count else None, one


def _condition(
    key: str,
    node: yaml.Node,
    parameters: Mapping[str, BaseDistribution],
    cls: type[Config],
    errors: list[str],
) -> dict[str, tuple[Any, ...]]:
    """`when:` of a parameter: for each one above it that is named, the values that it must have, several or one."""
    condition: dict[str, tuple[Any, ...]] = {}
    found = items(node, f"{key}.{_WHEN}", errors)
    if isinstance(node, yaml.MappingNode) and not found:
        errors.append(f"{place(node)}: {key}.{_WHEN}: must name a parameter and its value, got none")
    for other, (name, value) in found.items():
        said, one = f"{key}.{_WHEN}.{other}", parameters.get(other)
        if not isinstance(one, CategoricalDistribution | IntDistribution):
            rule = f"must be a choice or int parameter that stands above {key}"
            errors.append(f"{place(name)}: {said}: {rule}, got {'a float' if one else 'one that does not'}")
            continue
        count, kind = len(errors), declared(cls, other)
        nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
        values = tuple(value_of(kind, element, said, errors) for element in nodes)
        if len(errors) > count:
            continue
        if not values:
            errors.append(f"{place(value)}: {said}: must hold a value, got []")
        errors += [
            f"{place(value)}: {said}: must be {rehearsal.described(one)}, got {each!r}"
            for each in values
            if not lies_in(one, each)
        ]
        condition[other] = values
    return condition


def _check_counts(
    parameters: Mapping[str, BaseDistribution],
    rows: Mapping[str, _Row] | None,
    sweeps: Mapping[str, tuple[float, ...]],
    where: yaml.Node,
    errors: list[str],
) -> None:
    """Neither sweeps nor a grid, whose rows are given, may be too large."""
    combinations = math.prod(len(values) for values in sweeps.values())
    if combinations > _MAX_SWEEP:
        rule = f"sweeps must have at most {_MAX_SWEEP} combinations, for every epoch is scored at each"
        errors.append(f"{place(where)}: search.parameters: {rule}, got {combinations}")
    points = num_points(parameters, rows) if rows is not None else 0
    if points > _MAX_POINTS:
        rule = f"a grid must have at most {_MAX_POINTS} points"
        errors.append(f"{place(where)}: search.parameters: {rule}, got {points}")


def _listed(
    key: str, kind: Any, node: yaml.Node, grid: bool, cls: type[Config], errors: list[str]
) -> BaseDistribution | None:
    """The values of one parameter of a grid."""
    if _is_swept(key, cls):
        errors.append(f"{place(node)}: {key}: must be swept, as it needs no training, got a list")
    elif not grid:
        rule = f"must be one of {{int|float|choice|sweep: ...}}, for a list is for sampler: {{name: {algorithms.GRID}}}"
        errors.append(f"{place(node)}: {key}: {rule}, got a list")
    elif not isinstance(node, yaml.SequenceNode):
        rule = f"must be a list of values under sampler: {{name: {algorithms.GRID}}}"
        errors.append(f"{place(node)}: {key}: {rule}, got {shown(node)}")
    else:
        return _choice(key, kind, node, errors)
    return None


def _choice(key: str, kind: Any, node: yaml.SequenceNode, errors: list[str]) -> BaseDistribution | None:
    count = len(errors)
    values = [value_of(kind, element, key, errors) for element in node.value]
    if len(errors) > count:
        return None
    if not values:
        errors.append(f"{place(node)}: {key}: must hold a value, got []")
    twice = [value for number, value in enumerate(values) if value in values[:number]]
    if twice:
        errors.append(f"{place(node)}: {key}: must hold each value once, got {twice[0]!r} twice")
    return None if len(errors) > count else _made(key, node, errors, lambda: CategoricalDistribution(values))


def _kind_of(key: str, node: yaml.Node, grid: bool, cls: type[Config], errors: list[str]) -> Any:
    """The type of the configuration field that a parameter names."""
    if not forms_of(key, grid, cls):
        near = difflib.get_close_matches(key, [one.name for one in keys_of(cls) if forms_of(one.name, grid, cls)], n=1)
        others = of_another(key.partition(".")[0]) if declared(cls, key.partition(".")[0]) is None else None
        hint = f"did you mean {near[0]!r}?" if near else f"these are of {', '.join(sections_of(cls))}, or {_PRECISION}"
        rule = "must be a key of the configuration that can be searched"
        errors.append(f"{place(node)}: {key}: {rule}; {others or hint}")
        return None
    return declared(cls, key)


def _distribution(
    key: str,
    form: str,
    kind: Any,
    one: dict[str, tuple[yaml.Node, yaml.Node]],
    cls: type[Config],
    errors: list[str],
) -> BaseDistribution | None:
    node = one[form][1]
    if not isinstance(node, yaml.SequenceNode):
        errors.append(f"{place(node)}: {key}: {form} must be a list, got {shown(node)}")
        return None
    if form == "choice":
        return _choice(key, kind, node, errors)
    if form not in forms_of(key, cls=cls):
        errors.append(f"{place(node)}: {key}: must be searched as {forms_of(key, cls=cls)[0]}, got {form}")
        return None
    count, kind = len(errors), _number_of(kind)
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
    if step is not None and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        return f"step must divide high - low, got {step} and [{low}, {high}]"
    return None


def _made(key: str, node: yaml.Node, errors: list[str], make: Any) -> BaseDistribution | None:
    try:
        return make()
    except ValueError as error:
        errors.append(f"{place(node)}: {key}: {error}")
        return None


def _read_sweep(
    key: str,
    kind: Any,
    node: yaml.Node,
    cls: type[Config],
    sweeps: dict[str, tuple[float, ...]],
    errors: list[str],
) -> None:
    if not _is_swept(key, cls):
        rule = "sweep is for detect.* alone, which needs no training"
        errors.append(f"{place(node)}: {key}: {rule}, got {shown(node)}")
        return
    count = len(errors)
    if isinstance(node, yaml.SequenceNode):
        values = tuple(value_of(_number_of(kind), element, key, errors) for element in node.value)
    else:
        try:
            values = parse_range(node.value if isinstance(node, yaml.ScalarNode) else "")
        except ValueError as error:
            errors.append(f"{place(node)}: {key}: sweep {error}, got {shown(node)}")
            return
        if _number_of(kind) is int and all(value.is_integer() for value in values):
            values = tuple(map(int, values))
    if not values:
        errors.append(f"{place(node)}: {key}: sweep must not be empty, got []")
    for value in values if len(errors) == count else ():
        _check_detect(key, value, node, cls, errors)
    sweeps[key] = values


def _check_detect(key: str, value: Any, node: yaml.Node, cls: type[Config], errors: list[str]) -> None:
    try:
        declared(cls, "detect")(**{key.removeprefix("detect."): value})
    except RuleError as error:
        errors.append(f"{place(node)}: detect.{error}")


def _check_base(key: str, distribution: BaseDistribution, base: Config, node: yaml.Node, errors: list[str]) -> None:
    """The base is trial 0, so it has to lie in the space."""
    value = base_value(base, key)
    if isinstance(distribution, CategoricalDistribution):
        if value not in distribution.choices:
            errors.append(f"{place(node)}: {key}: choice must hold the base's value, got base {value!r}")
    elif isinstance(distribution, IntDistribution | FloatDistribution):
        inside = value is not None and distribution.low <= value <= distribution.high
        steps = (value - distribution.low) / distribution.step if value is not None and distribution.step else 0
        if not inside or not math.isclose(steps, round(steps), abs_tol=1e-6):
            where = f"[{distribution.low}, {distribution.high}]" + (
                f" in steps of {distribution.step}" if distribution.step not in (None, 1) else ""
            )
            errors.append(f"{place(node)}: {key}: the range must hold the base's value, got base {value!r} and {where}")


def _check_corners(
    base: Config,
    parameters: Mapping[str, BaseDistribution],
    conditions: Conditions,
    entries: dict[str, tuple[yaml.Node, yaml.Node]],
    errors: list[str],
) -> None:
    """Builds a configuration at every bound, and at every combination of bounds where these are few."""
    own = base_values(base, parameters)
    ends = {key: ends_of(distribution) for key, distribution in parameters.items()}
    for key, values in ends.items():
        for value in values:
            try:
                with_values(base, drawn(conditions, {**own, key: value}, own))
            except RuleError as error:
                shown_key = "" if error.key == key else f"{error.key}: "
                rule = f"{shown_key}{error.rule}, got {error.value!r}"
                end = "value" if isinstance(parameters[key], CategoricalDistribution) else "bound"
                errors.append(f"{place(entries[key][1])}: {key}: at its {end} {value!r}: {rule}")
    if errors or math.prod(len(values) for values in ends.values()) > _MAX_CORNERS:
        return
    for corner in itertools.product(*ends.values()):
        values = drawn(conditions, dict(zip(ends, corner, strict=True)), own)
        try:
            with_values(base, values)
        except RuleError as error:
            node = entries[error.key][1] if error.key in entries else next(iter(entries.values()))[1]
            errors.append(f"{place(node)}: {error}; the space allows {values}")
            return


def _check_points(
    base: Config,
    parameters: Mapping[str, BaseDistribution],
    rows: Mapping[str, _Row],
    entries: dict[str, tuple[yaml.Node, yaml.Node]],
    search: yaml.Node,
    errors: list[str],
) -> None:
    """Builds a configuration at every point of a grid, and at no value with the base's, which need not lie on it."""
    for name, values in points_of(parameters, {name: row.values for name, row in rows.items()}):
        try:
            with_values(base, values)
        except RuleError as error:
            own = rows[name].nodes if name is not None else {}
            listed = {key: value for key, (_, value) in entries.items()}
            places = {**listed, **own}
            node = places.get(error.key, next(iter({**own, **listed}.values()), search))
            errors.append(f"{place(node)}: {error}; the space allows {values}")
            return


def other_detects(base: Config, rows: Mapping[str, _Row]) -> dict[str, tuple[Detect, tuple[Detect, ...]]]:
    """By method, of rows of another method than the base's: the detection setting they start from, and all of them."""
    found: dict[str, Detect] = {}
    sweeps: dict[str, dict[str, tuple[float, ...]]] = {}
    for row in rows.values():
        method = row.values.get(METHOD, base.method)
        if method != base.method:
            start = found.get(method, with_method(base, method).detect)
            found[method] = replace(start, **{key.removeprefix("detect."): value for key, value in row.own.items()})
            sweeps.setdefault(method, {}).update(row.sweeps)
    return {method: (own, combined(own, sweeps[method])) for method, own in found.items()}


def combined(own: Detect, sweeps: Mapping[str, tuple[float, ...]]) -> tuple[Detect, ...]:
    """Every combination of the swept values, and the base's own setting first unless it is among them."""
    names = [key.removeprefix("detect.") for key in sweeps]
    combinations = [
        replace(own, **dict(zip(names, values, strict=True))) for values in itertools.product(*sweeps.values())
    ]
    return tuple(combinations) if own in combinations else (own, *combinations)
