"""spaces/*.yaml -> a base configuration, Optuna distributions and what to run; checked before anything starts."""

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from haan.yamlconfig import (
    build,
    child,
    items,
    join,
    naming_places,
    override,
    parse_range,
    place,
    plain,
    read_tree,
    shown,
    unknown_key,
    value_of,
)
from search import components
from search.tablespec import Table, read_table

_MAX_CORNERS = 4096
_MAX_SWEEP = 1000
_MAX_POINTS = 10_000


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
class Confirm(Checked):
    """How many of the best configurations are trained again, with how many new seeds each."""

    top: int = setting(5, AT_LEAST_ONE)
    seeds: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 2:
            raise RuleError("seeds", "must be >= 2, for one seed shows no spread", self.seeds)


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
    confirm: Confirm | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.concurrent != "auto" and self.concurrent < 1:
            raise RuleError("concurrent", "must be auto or >= 1", self.concurrent)
        scheme, mark, rest = (self.storage or "").partition("://")
        if mark and ("@" in rest.partition("/")[0] or "secret" in rest.lower()):
            rule = "must not hold a key, for it would stand in run folders; AWS_SECRET_ACCESS_KEY or a role has it"
            raise RuleError("storage", rule, f"{scheme}://...")


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space, complete.

    parameters: dotted key of the configuration -> distribution. detects: the detection settings that score every epoch,
    the base's own among them. document: the space as YAML, overrides applied. rows: of a grid, named sets of values;
    each has a value for every key that any of them sets, and these keys are parameters, too. table: what it makes.
    """

    name: str
    base: Config
    plan: Plan
    sampler: components.Component
    pruner: components.Component
    parameters: Mapping[str, BaseDistribution]
    detects: tuple[Detect, ...]
    document: str
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    table: Table | None = None


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


def differences(old: Space, new: Space) -> list[str]:
    """What keeps `new` from going on with a study made with `old`: one message a key, as `KEY: rule, got value`.

    The data may have moved (their fingerprint is compared elsewhere), and everything that only says how much is run,
    where, or by which sampler and pruner, may change; so may the range of a number.
    """
    before, after = _flat(plain(old.base)), _flat(plain(new.base))
    found = [
        f"{key}: must stay {before.get(key)!r} under --resume, got {after.get(key)!r}"
        for key in before | after
        if key not in ("data.root", "device") and before.get(key) != after.get(key)
    ]
    if old.plan.objective != new.plan.objective:
        rule = f"must stay {old.plan.objective!r} under --resume"
        found.append(f"search.objective: {rule}, got {new.plan.objective!r}")
    for key in dict.fromkeys([*old.parameters, *new.parameters]):
        was, now = (_form(space.parameters.get(key)) for space in (old, new))
        if was != now:
            found.append(f"{key}: must stay {was} in search.parameters under --resume, got {now}")
    if old.detects != new.detects:
        rule = f"must stay the {len(old.detects)} of before under --resume"
        found.append(f"search.parameters: swept detection settings {rule}, got {len(new.detects)} that differ")
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _form(distribution: BaseDistribution | None) -> str:
    """What an Optuna study can't change about a parameter: its kind and scale, and the list of choices."""
    if distribution is None:
        return "unsearched"
    if isinstance(distribution, CategoricalDistribution):
        return f"a choice of {list(distribution.choices)}"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "an int" if isinstance(distribution, IntDistribution) else "a float"
    return f"{kind} on a log scale" if distribution.log else kind


def base_value(config: Config, key: str) -> Any:
    """The value of a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def read_space(path: str | Path, overrides: tuple[str, ...] = (), seed: int | None = None) -> Space:
    """A space file with `KEY=VALUE` overrides applied. Raises InputError with every error found."""
    return space_of(space_tree(path, overrides, seed), Path(path).stem)


def space_of(tree: yaml.MappingNode, name: str) -> Space:
    """The space of a node tree. Raises InputError with every error found."""
    errors: list[str] = []
    top = items(tree, "", errors)
    errors += [unknown_key(node, key, [*_TOP, _TABLE]) for key, (node, _) in top.items() if key not in (*_TOP, _TABLE)]
    errors += [f"{place(tree)}: {key}: is required and missing" for key in _TOP if key not in top]
    if errors:
        raise InputError(errors)
    base = build(Config, top["base"][1], "base", errors)
    space = _read_search(name, base, top["search"][1], yaml.serialize(tree, allow_unicode=True), errors)
    if space is not None and _TABLE in top:
        table = read_table(top[_TABLE][1], errors)
        if table is not None:
            _check_table(table, space, top[_TABLE][1], top["search"][1], errors)
            space = replace(space, table=table)
    if errors or space is None:
        raise InputError(errors)
    return space


def _check_table(table: Table, space: Space, node: yaml.Node, search: yaml.Node, errors: list[str]) -> None:
    """A table is a grid without pruning, its lines and columns are of that grid, and every line is its own."""
    nodes = {key: value for key, (_, value) in items(search, "search", []).items()}
    for key, rule, good in (
        ("sampler", f"must be {{name: {components.GRID}}} for a table", space.sampler.name == components.GRID),
        ("pruner", "must be {name: none} for a table, which compares whole trials", space.pruner.name == "none"),
        ("confirm", "must be null for a table, whose seeds are of its grid", space.plan.confirm is None),
    ):
        if not good:
            where = nodes.get(key, search)
            errors.append(f"{place(where)}: search.{key}: {rule}, got {shown(where) if key in nodes else 'none'}")
    form, listed = table.form, listed_keys(space)
    if form.across is not None and form.across not in listed:
        rule = f"must be a parameter of the grid ({', '.join(listed) or 'none is listed'})"
        errors.append(f"{place(child(node, 'across') or node)}: table.across: {rule}, got {form.across!r}")
    if form.map_at is not None and form.map_at not in space.base.eval.tiou:
        rule = "must be among eval.tiou"
        errors.append(f"{place(child(node, 'map_at') or node)}: table.map_at: {rule}, got {form.map_at}")
    lines = child(child(node, "published") or node, "lines")
    for key, (name, _) in (items(lines, "", []) if lines is not None and space.rows else {}).items():
        if key not in space.rows:
            errors.append(unknown_key(name, f"table.published.lines.{key}", list(space.rows)))


def space_tree(path: str | Path, overrides: tuple[str, ...] = (), seed: int | None = None) -> yaml.MappingNode:
    """The node tree of a space file, overrides applied. Raises InputError."""
    tree = read_tree(path)
    for assignment in overrides:
        key = assignment.partition("=")[0].strip()
        under = None if key.split(".")[0] == "search" else "base"
        override(tree, assignment, under=under, splits=2 if key.startswith("search.parameters.") else -1)
    if seed is not None:
        override(tree, f"seed={seed}", "--seed", under="base")
    return tree


@contextmanager
def naming_lines(tree: yaml.MappingNode) -> Iterator[None]:
    """`naming_places` for messages about a key: at the parameter that searches it, or the base's, or the space's."""
    base = child(tree, "base") or tree
    with naming_places(tree), naming_places(base), naming_places(_search_parameters(tree)):
        yield


def _search_parameters(tree: yaml.MappingNode) -> yaml.Node:
    """The parameters as nested mappings, as a configuration's keys are."""
    sections: dict[str, list[tuple[yaml.Node, yaml.Node]]] = {}
    plain_keys: list[tuple[yaml.Node, yaml.Node]] = []  # the seed of a grid
    parameters = child(child(tree, "search") or tree, "parameters")
    for key, value in parameters.value if isinstance(parameters, yaml.MappingNode) else []:
        section, _, name = key.value.partition(".")
        if name:
            sections.setdefault(section, []).append((yaml.ScalarNode(key.tag, name, key.start_mark), value))
        else:
            plain_keys.append((key, value))
    made = [(yaml.ScalarNode("", name), yaml.MappingNode("", entries)) for name, entries in sections.items()]
    return yaml.MappingNode("", plain_keys + made)


_TOP, _TABLE = ("base", "search"), "table"
_NESTED = ("sampler", "pruner", "parameters", "rows")


def _read_search(name: str, base: Config | None, node: yaml.Node, document: str, errors: list[str]) -> Space | None:
    before = len(errors)
    found = items(node, "search", errors)
    if not isinstance(node, yaml.MappingNode):
        return None
    kept = [(k, v) for key, (k, v) in found.items() if key not in _NESTED]
    rest = yaml.MappingNode(node.tag, kept, node.start_mark, node.end_mark)
    plan = build(Plan, rest, "search", errors)
    sampler = _component(found, "sampler", components.SAMPLERS, "tpe", errors)
    pruner = _component(found, "pruner", components.PRUNERS, "none", errors)
    grid = _is_grid(found)
    rows = _rows(found["rows"], base, grid, errors) if "rows" in found else {}
    parameters, sweeps = _parameters(found.get("parameters", (None, None))[1], node, base, grid, rows, errors)
    if base is None or len(errors) > before or plan is None or sampler is None or pruner is None:
        return None
    if base.eval.epoch != "best" and plan.objective == "best":
        node_of = found["objective"][1] if "objective" in found else node
        errors.append(f"{place(node_of)}: search.objective: must be last where base.eval.epoch is, got best")
        return None
    broken = components.rehearse(sampler, pruner, parameters, base.optim.epochs)
    if broken is not None:
        errors.append(f"{place(_nearest(node, broken.path))}: search.{'.'.join(broken.path)}: {broken}")
        return None
    if sampler.name in components.FINITE:
        points = _num_points(parameters, rows)
        plan = replace(plan, trials=points if grid and "trials" not in found else min(plan.trials, points))
    return Space(
        name=name,
        base=base,
        plan=plan,
        sampler=sampler,
        pruner=pruner,
        parameters=parameters,
        detects=_detects(base.detect, sweeps),
        document=document,
        rows={name: row.values for name, row in rows.items()},
    )


def _component(
    found: dict[str, tuple[yaml.Node, yaml.Node]], key: str, known: Mapping[str, type], default: str, errors: list[str]
) -> components.Component | None:
    """`{name: ..., argument: ...}` of a sampler or pruner."""
    if key not in found:
        return components.Component(default, {})
    node, before = found[key][1], len(errors)
    entries = items(node, f"search.{key}", errors)
    values = _plain(node, f"search.{key}", errors)
    if len(errors) > before:
        return None
    if "name" not in entries:
        errors.append(f"{place(node)}: search.{key}.name: is required and missing")
        return None
    try:
        return components.component(values, known)
    except components.ComponentError as error:
        where = _nearest(node, error.path)
        errors.append(f"{place(where)}: {'.'.join(('search', key, *error.path))}: {error}")
        return None


def _nearest(node: yaml.Node, path: tuple[str, ...]) -> yaml.Node:
    """The key at the end of a path of keys below a node, or of as much of the path as there is."""
    where = node
    for name in path:
        entry = items(node, "", []).get(name)
        if entry is None:
            break
        where, node = entry
    return where


def _is_grid(found: dict[str, tuple[yaml.Node, yaml.Node]]) -> bool:
    name = child(found["sampler"][1], "name") if "sampler" in found else None
    return name is not None and name.value == components.GRID


def _num_values(distribution: BaseDistribution) -> int:
    """How many values a choice, a whole number or a number in steps can have."""
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    assert distribution.step is not None
    return round((distribution.high - distribution.low) / distribution.step) + 1


@dataclass(frozen=True)
class _Row:
    """A row of a grid. values: by dotted key. nodes: where each of those that it sets itself stands."""

    values: dict[str, Any]
    nodes: dict[str, yaml.Node]


def _rows(entry: tuple[yaml.Node, yaml.Node], base: Config | None, grid: bool, errors: list[str]) -> dict[str, _Row]:
    """Named sets of settings. What one row leaves out of what another one sets has the base's value."""
    name_node, node = entry
    if not grid:
        errors.append(f"{place(name_node)}: search.rows: must stand under sampler: {{name: {components.GRID}}}")
        return {}
    before = len(errors)
    found = items(node, "search.rows", errors)
    if isinstance(node, yaml.MappingNode) and not found:
        errors.append(f"{place(node)}: search.rows: must hold a row, got none")
    rows = {name: _row(name, spec, errors) for name, (_, spec) in found.items()}
    if len(errors) > before or base is None:
        return {}
    keys = list(dict.fromkeys(key for row in rows.values() for key in row.values))
    whole = {
        name: _Row({key: row.values.get(key, base_value(base, key)) for key in keys}, row.nodes)
        for name, row in rows.items()
    }
    for name, row in whole.items():
        same = next(other for other, one in whole.items() if one.values == row.values)
        if same != name:
            rule = f"must differ from {same!r}, got the same settings"
            errors.append(f"{place(found[name][0])}: search.rows.{name}: {rule}")
    return {} if len(errors) > before else whole


def _row(name: str, spec: yaml.Node, errors: list[str]) -> _Row:
    row = _Row({}, {})
    for key, (key_node, value) in items(spec, f"search.rows.{name}", errors).items():
        if key.startswith("detect."):
            rule = "must be swept under search.parameters, as it needs no training"
            errors.append(f"{place(key_node)}: {key}: {rule}, got it in row {name!r}")
            continue
        kind = _kind_of(key, key_node, False, errors)
        if kind is not None:
            row.values[key], row.nodes[key] = value_of(kind, value, key, errors), value
    return row


def _num_points(parameters: Mapping[str, BaseDistribution], rows: Mapping[str, _Row]) -> int:
    """How many points a finite space has: each row with each combination of what is listed beside the rows."""
    in_rows = {key for row in rows.values() for key in row.values}
    return max(len(rows), 1) * math.prod(_num_values(one) for key, one in parameters.items() if key not in in_rows)


def _points(
    parameters: Mapping[str, BaseDistribution], rows: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Every point of a grid with the name of its row, row by row, the last parameter varying fastest."""
    named: list[tuple[str | None, Mapping[str, Any]]] = [*rows.items()] or [(None, {})]
    listed = {key: _ends(one) for key, one in parameters.items() if key not in named[0][1]}
    for name, row in named:
        for point in itertools.product(*listed.values()):
            yield name, {**row, **dict(zip(listed, point, strict=True))}


def _plain(node: yaml.Node, key: str, errors: list[str]) -> Any:
    """A node as plain Python values, numbers like 1e-3 included."""
    if isinstance(node, yaml.MappingNode):
        return {name: _plain(value, join(key, name), errors) for name, (_, value) in items(node, key, errors).items()}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value, key, errors) for value in node.value]
    for kind in (int, float, bool, type(None)):
        unread: list[str] = []
        value = value_of(kind, node, "", unread)
        if not unread:
            return value
    return node.value


def _parameters(
    node: yaml.Node | None,
    search: yaml.Node,
    base: Config | None,
    grid: bool,
    rows: Mapping[str, _Row],
    errors: list[str],
) -> tuple[dict[str, BaseDistribution], dict[str, tuple[float, ...]]]:
    """What is searched, the keys of the rows first, and what is swept."""
    in_rows = dict.fromkeys(key for row in rows.values() for key in row.values)
    parameters: dict[str, BaseDistribution] = {
        key: CategoricalDistribution(list(dict.fromkeys(row.values[key] for row in rows.values()))) for key in in_rows
    }
    sweeps: dict[str, tuple[float, ...]] = {}
    if node is None and not rows:
        errors.append(f"{place(search)}: search.parameters: is required and missing")
        return parameters, sweeps
    before = len(errors)
    entries = items(node, "search.parameters", errors) if node is not None else {}
    for key, (name, spec) in entries.items():
        kind = _kind_of(key, name, grid, errors)
        if kind is None:
            continue
        if key in in_rows:
            errors.append(f"{place(name)}: {key}: must stand in search.rows or in search.parameters, got it in both")
            continue
        if isinstance(spec, yaml.SequenceNode) or (grid and not key.startswith("detect.")):
            distribution = _listed(key, kind, spec, grid, errors)
            if distribution is not None:
                parameters[key] = distribution
            continue
        count = len(errors)
        one = items(spec, key, errors)
        if len(errors) > count:
            continue
        form = next((form for form in _FORMS if form in one), None)
        scaled = ("log", "step") if form in ("int", "float") else ()
        extra = [other for other in one if other != form and other not in scaled]
        idle = [other for other in extra if other in ("log", "step")] if form else []
        if idle:
            node_of = one[idle[0]][1]
            errors.append(f"{place(node_of)}: {key}.{idle[0]}: is for int and float alone, got {shown(node_of)}")
        elif form is None or extra:
            errors.append(f"{place(spec)}: {key}: must be one of {{int|float|choice|sweep: ...}}, got {sorted(one)}")
        elif key.startswith("detect.") and form != "sweep":
            errors.append(f"{place(spec)}: {key}: must be swept, as it needs no training, got {form}")
        elif form == "sweep":
            _read_sweep(key, one["sweep"][1], sweeps, errors)
        else:
            distribution = _distribution(key, form, kind, one, errors)
            if distribution is not None:
                parameters[key] = distribution
                if base is not None:
                    _check_base(key, distribution, base, spec, errors)
    combinations = math.prod(len(values) for values in sweeps.values())
    if combinations > _MAX_SWEEP:
        rule = f"sweeps must have at most {_MAX_SWEEP} combinations, for every epoch is scored at each"
        errors.append(f"{place(node or search)}: search.parameters: {rule}, got {combinations}")
    points = _num_points(parameters, rows) if grid else 0
    if points > _MAX_POINTS:
        rule = f"a grid must have at most {_MAX_POINTS} points"
        errors.append(f"{place(node or search)}: search.parameters: {rule}, got {points}")
    if len(errors) == before and base is not None and grid:
        _check_points(base, parameters, rows, entries, search, errors)
    elif len(errors) == before and base is not None:
        _check_corners(base, parameters, entries, errors)
    return parameters, sweeps


def _listed(key: str, kind: Any, node: yaml.Node, grid: bool, errors: list[str]) -> BaseDistribution | None:
    """The values of one parameter of a grid."""
    if key.startswith("detect."):
        errors.append(f"{place(node)}: {key}: must be swept, as it needs no training, got a list")
    elif not grid:
        rule = f"must be one of {{int|float|choice|sweep: ...}}, for a list is for sampler: {{name: {components.GRID}}}"
        errors.append(f"{place(node)}: {key}: {rule}, got a list")
    elif not isinstance(node, yaml.SequenceNode):
        rule = f"must be a list of values under sampler: {{name: {components.GRID}}}"
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


_FORMS = ("int", "float", "choice", "sweep")
_SEARCHABLE = ("model", "concepts", "loss", "optim", "detect")


def _kind_of(key: str, node: yaml.Node, grid: bool, errors: list[str]) -> Any:
    """The type of the configuration field that a parameter names."""
    section, _, name = key.partition(".")
    sections = field_types(Config)
    valid = [f"{s}.{f}" for s in _SEARCHABLE for f in field_types(sections[s])] + ["seed"] * grid
    if key not in valid:
        near = difflib.get_close_matches(key, valid, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"sections are {', '.join(_SEARCHABLE)}"
        errors.append(f"{place(node)}: {key}: must be a key of the configuration that can be searched; {hint}")
        return None
    if key == "optim.epochs":
        errors.append(f"{place(node)}: {key}: can't be searched, for the pruner compares trials epoch by epoch")
        return None
    return field_types(sections[section])[name] if name else sections[section]


def _distribution(
    key: str, form: str, kind: Any, one: dict[str, tuple[yaml.Node, yaml.Node]], errors: list[str]
) -> BaseDistribution | None:
    node = one[form][1]
    if not isinstance(node, yaml.SequenceNode):
        errors.append(f"{place(node)}: {key}: {form} must be a list, got {shown(node)}")
        return None
    if form == "choice":
        return _choice(key, kind, node, errors)
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
    if step is not None and not math.isclose((high - low) / step, round((high - low) / step), abs_tol=1e-9):
        return f"step must divide high - low, got {step} and [{low}, {high}]"
    return None


def _made(key: str, node: yaml.Node, errors: list[str], make: Any) -> BaseDistribution | None:
    try:
        return make()
    except ValueError as error:
        errors.append(f"{place(node)}: {key}: {error}")
        return None


def _read_sweep(key: str, node: yaml.Node, sweeps: dict[str, tuple[float, ...]], errors: list[str]) -> None:
    if not key.startswith("detect."):
        rule = "sweep is for detect.* alone, which needs no training"
        errors.append(f"{place(node)}: {key}: {rule}, got {shown(node)}")
        return
    count = len(errors)
    if isinstance(node, yaml.SequenceNode):
        values = tuple(value_of(float, element, key, errors) for element in node.value)
    else:
        try:
            values = parse_range(node.value if isinstance(node, yaml.ScalarNode) else "")
        except ValueError as error:
            errors.append(f"{place(node)}: {key}: sweep {error}, got {shown(node)}")
            return
    if not values:
        errors.append(f"{place(node)}: {key}: sweep must not be empty, got []")
    for value in values if len(errors) == count else ():
        try:
            Detect(**{key.removeprefix("detect."): value})
        except RuleError as error:
            errors.append(f"{place(node)}: detect.{error}")
    sweeps[key] = values


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
                shown_key = "" if error.key == key else f"{error.key}: "
                rule = f"{shown_key}{error.rule}, got {error.value!r}"
                end = "value" if isinstance(parameters[key], CategoricalDistribution) else "bound"
                errors.append(f"{place(entries[key][1])}: {key}: at its {end} {value!r}: {rule}")
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


def _check_points(
    base: Config,
    parameters: Mapping[str, BaseDistribution],
    rows: Mapping[str, _Row],
    entries: dict[str, tuple[yaml.Node, yaml.Node]],
    search: yaml.Node,
    errors: list[str],
) -> None:
    """Builds a configuration at every point of a grid, and at no value with the base's, which need not lie on it."""
    for name, values in _points(parameters, {name: row.values for name, row in rows.items()}):
        try:
            with_values(base, values)
        except RuleError as error:
            own = rows[name].nodes if name is not None else {}
            listed = {key: value for key, (_, value) in entries.items()}
            places = {**listed, **own}
            node = places.get(error.key, next(iter({**own, **listed}.values()), search))
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


def grid_points(space: Space) -> list[dict[str, Any]]:
    """Every point of a grid once, row by row, the last parameter varying fastest; none unless the sampler is `grid`."""
    if space.sampler.name != components.GRID:
        return []
    return [point for _, point in _points(space.parameters, space.rows)]


def listed_keys(space: Space) -> list[str]:
    """The parameters that no row sets."""
    in_rows = next(iter(space.rows.values()), {})
    return [key for key in space.parameters if key not in in_rows]


def row_of(space: Space, params: Mapping[str, Any]) -> str | None:
    """The name of the row that a trial's parameters are of; None in a space without rows."""
    return next((name for name, row in space.rows.items() if all(params.get(k) == v for k, v in row.items())), None)


def named_params(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters as a user knows them: the row's name in place of what it sets."""
    row = row_of(space, params)
    if row is None:
        return dict(params)
    return {"row": row} | {key: value for key, value in params.items() if key not in space.rows[row]}


def front(space: Space) -> list[dict[str, Any]]:
    """What is tried before the sampler is asked: the base, or the points of a grid, the base first if it is among them.

    A grid without its base has no base to compare with.
    """
    base = {key: base_value(space.base, key) for key in space.parameters}
    points = grid_points(space)
    return [base, *(point for point in points if point != base)] if not points or base in points else points


def base_number(space: Space) -> int | None:
    """Which trial is the base: the first, but for a grid that leaves it out."""
    return 0 if front(space)[0] == {key: base_value(space.base, key) for key in space.parameters} else None


def most_demanding(space: Space) -> tuple[int, float]:
    """The largest number of clusters and the smallest sample rate that a trial can have."""
    rates = _ends(space.parameters["concepts.sample_rate"]) if "concepts.sample_rate" in space.parameters else ()
    sizes = _ends(space.parameters["concepts.clusters"]) if "concepts.clusters" in space.parameters else ()
    concepts = space.base.concepts
    return max((concepts.clusters, *sizes)), min((concepts.sample_rate, *rates))
