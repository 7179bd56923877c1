"""spaces/*.yaml -> Space. All errors come at once, each with its line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from optuna.distributions import BaseDistribution

from haan.config import Config
from haan.errors import InputError
from haan.yamlconfig import (
    METHOD,
    Option,
    assigned,
    build,
    build_config,
    child,
    config_class,
    declared,
    items,
    join,
    naming_places,
    override,
    place,
    plant_only_at_home,
    read_tree,
    shown,
    unknown_key,
    value_of,
)
from search.space import confirmkeys
from search.space.model import EPOCHS, SEED, Plan, Space, listed_keys
from search.space.parameters import combined, num_points, other_detects, read_parameters, read_rows
from search.space.starts import read_starts
from search.space.tableform import Table, read_table
from search.study import algorithms, rehearsal

STORAGE = Option("HAAN_STORAGE")  # the environment's default for search.storage
COMPARE = "compare"  # the key of a file that compares searches; see search.space.comparisons


def read_space(path: str | Path, overrides: tuple[str, ...] = (), seed: int | None = None) -> Space:
    """A space file with `KEY=VALUE` overrides applied. Raises InputError with every error found."""
    return space_of(space_tree(path, overrides, seed), Path(path).stem)


def read_kept(path: str | Path) -> Space:
    """The space that a run keeps, as that run means it. Raises InputError with every error found."""
    return space_of(read_tree(path), Path(path).stem, kept=True)


def space_of(tree: yaml.MappingNode, name: str, kept: bool = False) -> Space:
    """The space of a node tree. Raises InputError with every error found.

    kept: as a run means it that keeps it, whose sampler and pruner made-up trials tried when it began.
    """
    errors: list[str] = []
    top = items(tree, "", errors)
    if COMPARE in top:
        rule = "is of a file for search/table.py; a space has base: and search:"
        raise InputError(f"{place(top[COMPARE][0])}: {COMPARE}: {rule}")
    errors += [unknown_key(node, key, [*_TOP, _TABLE]) for key, (node, _) in top.items() if key not in (*_TOP, _TABLE)]
    errors += [f"{place(tree)}: {key}: is required and missing" for key in _TOP if key not in top]
    if errors:
        raise InputError(errors)
    cls, base = config_class(top["base"][1]), build_config(top["base"][1], "base", errors)
    space = _read_search(name, base, cls, top["search"][1], tree, errors, rehearse=not kept)
    if space is not None and _TABLE in top:
        table = read_table(top[_TABLE][1], errors)
        if table is not None:
            _check_table(table, space, top[_TABLE][1], top["search"][1], errors)
            space = replace(space, table=table)
    if space is not None and space.table is None and not kept and space.plan.confirm and SEED in space.parameters:
        where = _nearest(top["search"][1], ("confirm",))
        rule = "must be null where the seed is searched, for new seeds would be those that chose"
        errors.append(f"{place(where)}: search.confirm: {rule}, got {shown(child(top['search'][1], 'confirm'))}")
    if errors or space is None:
        raise InputError(errors)
    if kept and space.plan.confirm is not None and not confirmkeys.said(tree):
        space = replace(space, plan=replace(space.plan, confirm=confirmkeys.older(space.plan.confirm)))
    return space


def _check_table(table: Table, space: Space, node: yaml.Node, search: yaml.Node, errors: list[str]) -> None:
    """A table is a grid without pruning, its lines and columns are of that grid, and every line is its own."""
    nodes = {key: value for key, (_, value) in items(search, "search", []).items()}
    for key, rule, good in (
        ("sampler", f"must be {{name: {algorithms.GRID}}} for a table", space.sampler.name == algorithms.GRID),
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


def space_tree(
    path: str | Path, overrides: tuple[str, ...] = (), seed: int | None = None, storage: str | None = None
) -> yaml.MappingNode:
    """The node tree of a space file, overrides applied. Raises InputError.

    storage: what the environment says for `search.storage`.
    """
    tree, given = read_tree(path), {}
    for key, text in map(assigned, overrides):
        top, _, rest = key.partition(".")
        if top == _SEARCH:
            _override_search(tree, rest, text)
        else:
            given[rest if top == _BASE and rest else key] = text
    keys = sorted(given, key=lambda key: key != METHOD)  # which says what the other keys are
    for key in keys:
        override(tree, [_BASE, *key.split(".")], given[key], declared(config_class(child(tree, _BASE)), key))
    if seed is not None:
        override(tree, [_BASE, "seed"], str(seed), int, Option("--seed"))
    if storage is not None:
        override(tree, [_SEARCH, "storage"], storage, str, STORAGE)
    plant_only_at_home(child(tree, _BASE) or tree, keys)
    return tree


def _override_search(tree: yaml.MappingNode, key: str, text: str) -> None:
    """Parameters' names hold dots themselves; what samplers, pruners, parameters and rows take has no declared type."""
    parts = key.split(".", 1 if key.startswith("parameters.") else -1) if key else []
    kind = declared(Plan, key) if parts and parts[0] not in _NESTED else Any
    override(tree, [_SEARCH, *parts], text, kind)


@contextmanager
def naming_lines(tree: yaml.MappingNode) -> Iterator[None]:
    """`naming_places` for messages about a key: at the parameter that searches it, or the base's, or the space's."""
    base = child(tree, "base") or tree
    with naming_places(tree), naming_places(base, nearest=True), naming_places(_search_parameters(tree)):
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


_BASE, _SEARCH, _TABLE, _START = "base", "search", "table", "start_with"
_TOP = (_BASE, _SEARCH)
_NESTED = ("sampler", "pruner", "parameters", "rows", _START)


def _read_search(
    name: str,
    base: Config | None,
    cls: type[Config],
    node: yaml.Node,
    tree: yaml.Node,
    errors: list[str],
    rehearse: bool,
) -> Space | None:
    before = len(errors)
    found = items(node, "search", errors)
    if not isinstance(node, yaml.MappingNode):
        return None
    kept = [(k, v) for key, (k, v) in found.items() if key not in _NESTED]
    rest = yaml.MappingNode(node.tag, kept, node.start_mark, node.end_mark)
    plan = build(Plan, rest, "search", errors)
    sampler = _component(found, "sampler", algorithms.SAMPLERS, "tpe", errors)
    pruner = _component(found, "pruner", algorithms.PRUNERS, "none", errors)
    grid = _is_grid(found)
    rows = read_rows(found["rows"], base, cls, grid, errors) if "rows" in found else {}
    given = found.get("parameters", (None, None))[1]
    parameters, conditions, sweeps = read_parameters(given, node, base, cls, grid, rows, errors)
    if base is None or len(errors) > before or plan is None or sampler is None or pruner is None:
        return None
    several = any(METHOD in row.values for row in rows.values())
    errors += _at_odds(node, base, plan, sampler, pruner, parameters, conditions, several)
    if len(errors) > before:
        return None
    first = found[_START][1] if _START in found else None
    starts = read_starts(first, base, parameters, conditions, grid, errors)
    if len(errors) > before:
        return None
    broken = rehearsal.rehearse(sampler, pruner, parameters, base.optim.epochs) if rehearse else None
    if broken is not None:
        errors.append(f"{place(_nearest(node, broken.path))}: search.{'.'.join(broken.path)}: {broken}")
        return None
    if sampler.name in algorithms.FINITE:
        points = num_points(parameters, rows)
        plan = replace(plan, trials=points if grid and "trials" not in found else min(plan.trials, points))
    others = other_detects(base, rows)
    return Space(
        name=name,
        base=base,
        plan=plan,
        sampler=sampler,
        pruner=pruner,
        parameters=parameters,
        conditions=conditions,
        starts=starts,
        detects=combined(base.detect, sweeps),
        own_detects={method: own for method, (own, _) in others.items()},
        other_detects={method: every for method, (_, every) in others.items()},
        document=yaml.serialize(tree, allow_unicode=True),
        rows={name: row.values for name, row in rows.items()},
    )


def _at_odds(
    node: yaml.Node,
    base: Config,
    plan: Plan,
    sampler: algorithms.Component,
    pruner: algorithms.Component,
    parameters: Mapping[str, BaseDistribution],
    conditions: Mapping[str, Any],
    several: bool,
) -> Iterator[str]:
    """What is right by itself and doesn't go with something else. several: whether rows are of several methods."""
    grid = sampler.name == algorithms.GRID

    def said(path: tuple[str, ...], rule: str) -> str:
        key = ".".join(path[1:] if path[0] == "parameters" else ("search", *path))
        return f"{place(_nearest(node, path))}: {key}: {rule}"

    if base.eval.epoch != "best" and plan.objective == "best":
        yield said(("objective",), "must be last or recent where base.eval.epoch is last, got best")
    if grid and plan.objective == "recent":
        rule = f"must be best or last under {algorithms.GRID}, for a table's cells are of one epoch, got recent"
        yield said(("objective",), rule)
    every, interval = base.eval.every, pruner.arguments.get("interval", 1)
    if interval > 1 and interval % every:
        rule = f"must be a multiple of base.eval.every ({every}), for no other epoch has a score, got {interval}"
        yield said(("pruner", "interval"), rule)
    if EPOCHS in parameters and pruner.name != "none":
        rule = "can be searched under pruner: {name: none} alone, for the others compare trials epoch by epoch"
        yield said(("parameters", EPOCHS), f"{rule}, got {pruner.name}")
    if plan.confirm is not None and several:
        yield said(("confirm",), "must be null where rows are of several methods")
    if conditions and algorithms.EXHAUSTIVE in algorithms.names(sampler):
        rule = f"can't stand under {algorithms.EXHAUSTIVE}, which tries every value with every other one"
        yield said(("parameters", next(iter(conditions)), "when"), rule)
    if plan.learn_from and sampler.name in algorithms.FINITE:
        rule = f"must be [] under {sampler.name}, which tries its own points, got {list(plan.learn_from)}"
        yield said(("learn_from",), rule)
    if plan.stop is not None and grid:
        yield said(("stop",), f"must be null under {algorithms.GRID}, all of whose points are asked for")


def _component(
    found: dict[str, tuple[yaml.Node, yaml.Node]], key: str, known: Mapping[str, type], default: str, errors: list[str]
) -> algorithms.Component | None:
    """`{name: ..., argument: ...}` of a sampler or pruner."""
    if key not in found:
        return algorithms.Component(default, {})
    node, before = found[key][1], len(errors)
    entries = items(node, f"search.{key}", errors)
    values = _plain(node, f"search.{key}", errors)
    if len(errors) > before:
        return None
    if "name" not in entries:
        errors.append(f"{place(node)}: search.{key}.name: is required and missing")
        return None
    try:
        return algorithms.component(values, known)
    except algorithms.ComponentError as error:
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
    return name is not None and name.value == algorithms.GRID


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
