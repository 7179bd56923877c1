"""`compare:` of a file: a search of each method, all with one budget, on the same data, scored alike; for one table."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from haan.checked import AT_LEAST_ONE, NOT_EMPTY, Checked, RuleError, required, setting
from haan.config import Holdout
from haan.errors import InputError
from haan.yamlconfig import build, child, items, place, read_tree, shown, unknown_key
from search.space.model import Space, base_number
from search.space.read import COMPARE as KEY
from search.space.read import read_space

_SEARCHES, _SET = "searches", "set"
_SPACE, _TEACHER = "space", "teacher"
TAUGHT = "student"  # the method that needs a teacher
_BUDGET = "is said by compare.epochs and compare.official_seeds"


@dataclass(frozen=True, kw_only=True)
class Form(Checked):
    """The plain values of `compare:`.

    epochs: that the trials of each search train in all, after which none begins. official_seeds: with how many each
    winner and each base is trained on all training videos.
    """

    title: str = required(NOT_EMPTY)
    epochs: int = required(AT_LEAST_ONE)
    official_seeds: int = setting(5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.official_seeds < 2:
            raise RuleError("official_seeds", "must be >= 2, for one seed shows no spread", self.official_seeds)


@dataclass(frozen=True)
class Entry:
    """One search.

    line: its name in the table. run: of its run folder. overrides: `KEY=VALUE` each, to its file. teacher: the run
    whose winner, trained anew without the holdout, tells a student what the training videos show.
    """

    line: str
    run: str
    file: Path
    overrides: tuple[str, ...]
    space: Space
    teacher: str | None = None


@dataclass(frozen=True)
class Comparison:
    """What a file asks for, checked."""

    form: Form
    entries: tuple[Entry, ...]


def is_comparison(path: Path) -> bool:
    """Whether a file asks for one. Raises InputError where it is no YAML."""
    return child(read_tree(path), KEY) is not None


def read_comparison(path: Path, overrides: Sequence[str] = ()) -> Comparison:
    """A file with `compare:`; `KEY=VALUE` overrides hold for every search. Raises InputError with every error found."""
    tree, errors = read_tree(path), list[str]()
    top = items(tree, "", errors)
    errors += [unknown_key(node, key, [KEY]) for key, (node, _) in top.items() if key != KEY]
    node = top[KEY][1]
    found = items(node, KEY, errors)
    plain = [pair for key, pair in found.items() if key not in (_SEARCHES, _SET)]
    form = build(Form, yaml.MappingNode(node.tag, plain, node.start_mark, node.end_mark), KEY, errors)
    shared = _settings(found[_SET][1], f"{KEY}.{_SET}", errors) if _SET in found else []
    asked = items(found[_SEARCHES][1], f"{KEY}.{_SEARCHES}", errors) if _SEARCHES in found else {}
    if not errors and len(asked) < 2:
        where = found[_SEARCHES][1] if _SEARCHES in found else node
        errors.append(f"{place(where)}: {KEY}.{_SEARCHES}: must name two searches or more, got {len(asked)}")
    errors += [f"--set {one}: {_BUDGET}" for one in overrides if _of_budget(one)]
    if errors or form is None:
        raise InputError(errors)
    entries = list[Entry]()
    for line, (_, value) in asked.items():
        own = _search(path, line, value, errors)
        entry = None if own is None else _entry(own, line, (*shared, *own.overrides, *overrides), form, entries, errors)
        entries += [] if entry is None else [entry]
    errors += _unlike(entries, asked)
    if errors:
        raise InputError(errors)
    return Comparison(form, tuple(entries))


def _entry(
    own: "_Search", line: str, given: tuple[str, ...], form: Form, before: Sequence[Entry], errors: list[str]
) -> Entry | None:
    """One search with the budget of all. before: those above it."""
    budget = f"search.trials={form.epochs}", f"search.stop={{epochs: {form.epochs}}}"
    given = (*given, *budget, f"search.confirm.official_seeds={form.official_seeds}")
    try:
        space = read_space(own.file, given)
    except InputError as error:
        errors += [f"{place(own.at)}: {own.key}: {one}" for one in error.messages]
        return None
    return Entry(line, _folder(line), own.file, given, space, _teacher(own, space, before, errors))


@dataclass(frozen=True)
class _Search:
    """What stands under a search's name. teacher: as it stands there."""

    key: str
    file: Path
    overrides: tuple[str, ...]
    teacher: yaml.Node | None
    at: yaml.Node


def _search(path: Path, line: str, node: yaml.Node, errors: list[str]) -> _Search | None:
    """One search, whose file stands beside the comparison's."""
    key, before = f"{KEY}.{_SEARCHES}.{line}", len(errors)
    found = items(node, key, errors)
    known = [_SPACE, _SET, _TEACHER]
    unknown = [unknown_key(name, f"{key}.{one}", known) for one, (name, _) in found.items() if one not in known]
    errors += unknown
    file = found[_SPACE][1] if _SPACE in found else None
    if not isinstance(file, yaml.ScalarNode) and not unknown:
        errors.append(f"{place(file or node)}: {key}.{_SPACE}: must name a space file, got {shown(file)}")
    more = _settings(found[_SET][1], f"{key}.{_SET}", errors) if _SET in found else []
    if len(errors) > before or not isinstance(file, yaml.ScalarNode):
        return None
    teacher = found[_TEACHER][1] if _TEACHER in found else None
    return _Search(key, path.parent / file.value, tuple(more), teacher, node)


def _teacher(own: _Search, space: Space, before: Sequence[Entry], errors: list[str]) -> str | None:
    """The run of the search that teaches another, one of those before it; none unless that is a student."""
    if space.base.method != TAUGHT:
        if own.teacher is not None:
            rule = f"must stand with method {TAUGHT}, got method {space.base.method}"
            errors.append(f"{place(own.teacher)}: {own.key}.{_TEACHER}: {rule}")
        return None
    weak = {one.line: one.run for one in before if one.space.base.supervision == "weak" and one.teacher is None}
    named = own.teacher.value if isinstance(own.teacher, yaml.ScalarNode) else None
    if named not in weak:
        rule = f"must be a search above it of a method that is told no segments ({', '.join(weak) or 'none is'})"
        errors.append(f"{place(own.teacher or own.at)}: {own.key}.{_TEACHER}: {rule}, got {shown(own.teacher)}")
        return None
    return weak[named]


def _of_budget(override: str) -> bool:
    """Whether it changes what all searches have alike."""
    return re.match(r"search\.(trials|stop|confirm\.official_seeds)\b", override) is not None


def _settings(node: yaml.Node, key: str, errors: list[str]) -> list[str]:
    """`KEY=VALUE` of each entry of a mapping, as `--set` takes them."""
    found = items(node, key, errors)
    errors += [f"{place(name)}: {key}.{one}: {_BUDGET}" for one, (name, _) in found.items() if _of_budget(one)]
    return [f"{name}={_text(value)}" for name, (_, value) in found.items()]


def _folder(line: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", line.lower()).strip("-") or "search"


def _text(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else yaml.serialize(node, width=10**6).strip()


def _unlike(entries: Sequence[Entry], asked: Mapping[str, tuple[yaml.Node, yaml.Node]]) -> list[str]:
    """What keeps searches from being compared."""
    wrong = list[str]()
    for i, one in enumerate(entries):
        where = f"{place(asked[one.line][1])}: {KEY}.{_SEARCHES}.{one.line}"
        validation = one.space.base.data.validation
        if not isinstance(validation, Holdout):  # a confirmation there is always: the budget says its official seeds
            wrong.append(f"{where}: data.validation must be by holdout, got {validation}")
        if base_number(one.space) is None:
            wrong.append(f"{where}: search.start_with must have the base in front, got another")
        if one.space.plan.learn_from:
            wrong.append(f"{where}: search.learn_from must be empty, for others learn of no earlier run")
        twin = next((other for other in entries[:i] if other.run == one.run), None)
        if twin is not None:
            wrong.append(f"{where}: must have a name of its own for a folder, got {one.run}, as {twin.line}")
        first, own = (_shared(each.space) for each in (entries[0], one))
        for key, value in own.items():
            if value != first[key]:
                wrong.append(f"{where}: {key} must be that of {entries[0].line}, {first[key]}, got {value}")
    return wrong


def _shared(space: Space) -> dict[str, object]:
    """What all searches must have in common; the type in which features are kept is a method's own."""
    base, confirm = space.base, space.plan.confirm
    return {
        "data": replace(base.data, dtype="float32"),
        "eval": base.eval,
        "seed": base.seed,
        "search.objective": space.plan.objective,
        **{f"search.confirm.{key}": getattr(confirm, key) for key in ("top", "seeds", "race")},
    }
