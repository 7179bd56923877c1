"""YAML to dataclasses: all errors at once, each with file, line and key.

The field's type decides how a value is read, for plain YAML reads `1e-3` as text, `no` as False, and keeps the last of
two equal keys.
"""

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import MISSING, Field, is_dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from haan.checked import RuleError, describe, field_types, ordered
from haan.config import Config
from haan.errors import InputError
from haan.files import at_home, read_text
from haan.methods.names import CONFIGS, HAAN
from haan.words import plain_number

BEST = "best.yaml"  # in the folder of a training, or of a search: its configuration
T = TypeVar("T")
BAD = object()  # a value that could not be read; its error is in the list already
_INT = re.compile(r"[+-]?[0-9]+")
_MAX_STEPS = 100_000
METHOD = "method"
_MAP, _STR, _NULL = (f"tag:yaml.org,2002:{name}" for name in ("map", "str", "null"))


def parse_range(text: str) -> tuple[float, ...]:
    """`low:high:step` with both ends, in decimal arithmetic ("0.5:0.95:0.05" gives ten values), or one number.

    Raises ValueError, its text the rule that is broken.
    """
    try:
        parts = [Decimal(part.strip()) for part in text.split(":")] if text.isascii() and "_" not in text else []
    except InvalidOperation:
        raise ValueError("must be a number or low:high:step") from None
    if len(parts) not in (1, 3) or not all(part.is_finite() for part in parts):
        raise ValueError("must be a number or low:high:step")
    if len(parts) == 1:
        return (float(parts[0]),)
    low, high, step = parts
    if step <= 0 or high < low:
        raise ValueError("must have step > 0 and high >= low")
    if (high - low) / step > _MAX_STEPS:
        raise ValueError(f"must have at most {_MAX_STEPS} steps")
    return tuple(float(low + i * step) for i in range(int((high - low) / step) + 1))


def read_tree(path: str | Path) -> yaml.MappingNode:
    """The node tree of a YAML file, its marks naming the file and line. Raises InputError."""
    try:
        node = _compose(read_text(path), str(path))
    except _YAMLError as error:
        where = path if error.line is None else f"{path}:{error.line}"
        raise InputError(f"{where}: {error}") from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path}: must be a mapping of keys to values, got {shown(node)}")
    return node


class _YAMLError(ValueError):
    """A text that is no YAML: why, and on which line where that is known."""

    def __init__(self, why: str, line: int | None = None):
        super().__init__(why)
        self.line = line


def _compose(text: str, name: str) -> yaml.Node | None:
    """The node of a text. Raises _YAMLError."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.YAMLError as error:
        raise _YAMLError(f"is not valid YAML: {' '.join(str(error).split())}") from None
    loader.name = name
    try:
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise _YAMLError(f"is not valid YAML: {error.problem}", line) from None
    except yaml.YAMLError as error:
        raise _YAMLError(f"is not valid YAML: {error}") from None
    except RecursionError:
        raise _YAMLError("is nested too deeply") from None
    finally:
        loader.dispose()


class Option(str):
    """The name of what a value came from in place of a file's, such as an option: it has no lines."""


SET = Option("--set")


def assigned(assignment: str) -> tuple[str, str]:
    """Key and value of `KEY=VALUE`. Raises InputError."""
    key, equals, text = assignment.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise InputError(f"{SET}: must be KEY=VALUE with a dotted key, got {assignment!r}")
    return key.strip(), text.strip()


def declared(cls: type, key: str) -> Any:
    """The type of a dotted key of a dataclass; None where it has no such key."""
    kind: Any = cls
    for part in key.split("."):
        nested = next((one for one in kinds_of(kind) if is_dataclass(one)), None)
        kind = None if nested is None else field_types(nested).get(part)  # type: ignore[arg-type]  # a dataclass type
    return kind


def override(tree: yaml.MappingNode, path: Sequence[str], text: str, kind: Any, option: Option = SET) -> None:
    """Puts what a user wrote for a key into the tree, read as its type is: only lists and mappings are YAML.

    path: the key's parts. kind: as `declared` has it; `Any` for what takes every YAML. Raises InputError.
    """
    node = tree
    for part in path[:-1]:
        below = child(node, part)
        if not isinstance(below, yaml.MappingNode):
            below = yaml.MappingNode(_MAP, [], *_marks(option))
            _put(node, part, below, option)
        node = below
    value = _nested_node(text, ".".join(path), option) if _is_nested(kind) else _scalar_node(text, kind, option)
    _put(node, path[-1], value, option)


def kinds_of(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of another type it alone."""
    return get_args(kind) if isinstance(kind, types.UnionType) or get_origin(kind) is Union else (kind,)


def _is_nested(kind: Any) -> bool:
    return kind is Any or any(is_dataclass(one) or get_origin(one) is tuple for one in kinds_of(kind))


def _is_text(kind: Any) -> bool:
    """Whether every value of a type but null is text."""
    words = [one for one in kinds_of(kind) if one not in (str, type(None))]
    return all(get_origin(one) is Literal and all(isinstance(word, str) for word in get_args(one)) for one in words)


def _nested_node(text: str, key: str, option: Option) -> yaml.Node:
    try:
        return _compose(text, option) or yaml.ScalarNode(_NULL, "", *_marks(option))
    except _YAMLError as error:
        raise InputError(f"{option}: {key}: must be YAML, got {text!r}, which {error}") from None


def _scalar_node(text: str, kind: Any, option: Option) -> yaml.Node:
    """Text as it stands, but `null` and nothing are null where the type has it, and quotes around it are YAML's."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        with suppress(_YAMLError):
            quoted = _compose(text, option)
            if isinstance(quoted, yaml.ScalarNode):
                return quoted
    if not _is_text(kind):
        tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False))
    else:
        tag = _NULL if type(None) in kinds_of(kind) and text in ("", "null") else _STR
    return yaml.ScalarNode(tag, text, *_marks(option))


def _marks(name: Option) -> tuple[yaml.Mark, yaml.Mark]:
    mark = yaml.Mark(name, 0, 0, 0, None, 0)
    return mark, mark


def _put(node: yaml.MappingNode, key: str, value: yaml.Node, option: Option) -> None:
    """In the place of what stood there, for the order of a grid's parameters is that of its points."""
    entry = (yaml.ScalarNode(_STR, key, *_marks(option)), value)
    first = next((i for i, (k, _) in enumerate(node.value) if k.value == key), len(node.value))
    node.value = [*node.value[:first], entry, *((k, v) for k, v in node.value[first:] if k.value != key)]


def child(node: yaml.Node, key: str) -> yaml.Node | None:
    """The value under one key of a mapping node."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((v for k, v in node.value if k.value == key), None)


def place(node: yaml.Node) -> str:
    """`file:line` of a node, or the option it came from."""
    mark = node.start_mark
    return mark.name if isinstance(mark.name, Option) else f"{mark.name}:{mark.line + 1}"


def items(node: yaml.Node, key: str, errors: list[str]) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Key and value nodes of a mapping by key; a repeated key and a node of another kind go into `errors`."""
    if not isinstance(node, yaml.MappingNode):
        errors.append(f"{place(node)}: {key or 'the file'}: must be a mapping, got {shown(node)}")
        return {}
    found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for name, value in node.value:
        if not isinstance(name, yaml.ScalarNode):
            errors.append(f"{place(name)}: {key or 'the file'}: keys must be text, got {shown(name)}")
        elif name.value in found:
            first = found[name.value][0].start_mark.line + 1
            errors.append(f"{place(name)}: {join(key, name.value)}: stands twice, first on line {first}")
        else:
            found[name.value] = (name, value)
    return found


def unknown_key(node: yaml.Node, key: str, valid: list[str]) -> str:
    """The error text of an unknown key, with the nearest valid one."""
    name = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"valid keys here: {', '.join(sorted(valid))}"
    return f"{place(node)}: {key}: unknown key; {hint}"


def join(prefix: str, key: str) -> str:
    """A dotted key."""
    return f"{prefix}.{key}" if prefix else key


def shown(node: yaml.Node | None) -> str:
    """A node's value in the words of an error message."""
    if node is None:
        return "nothing"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    text = str(node.value)
    return repr(text if len(text) <= 80 else text[:77] + "...")


def build(cls: type[T], node: yaml.Node, key: str, errors: list[str]) -> T | None:
    """A dataclass from a mapping node; None when anything below it was wrong (said in `errors`)."""
    before = len(errors)
    found = items(node, key, errors)
    kinds = field_types(cls)
    for name, (name_node, _) in found.items():
        if name not in kinds:
            whole = join(key, name)
            errors.append(_of_another(cls, name_node, whole) or unknown_key(name_node, whole, list(kinds)))
    values = {}
    for f in ordered(cls):
        if f.name in found:
            rule, value = f.metadata.get("rule"), value_of(kinds[f.name], found[f.name][1], join(key, f.name), errors)
            values[f.name] = at_home(value) if f.metadata.get("path") and isinstance(value, str) else value
            if rule and value is not BAD and value is not None and not rule.holds(value):
                errors.append(f"{place(found[f.name][1])}: {join(key, f.name)}: {rule.text}, got {_plain(value)}")
        elif f.default is MISSING and f.default_factory is MISSING:
            errors.append(f"{place(node)}: {join(key, f.name)}: is required and missing")
    if len(errors) > before:
        return None
    try:
        return cls(**values)
    except RuleError as error:
        where = found.get(error.key, (node, node))[1]
        errors.append(f"{place(where)}: {join(key, error.key)}: {error.rule}, got {error.value!r}")
        return None


def _of_another(cls: type, node: yaml.Node, key: str) -> str | None:
    """The error text of a section that another method than a configuration's has."""
    if not issubclass(cls, Config):
        return None
    hint = of_another(key.rpartition(".")[2])
    return hint and f"{place(node)}: {key}: is a section of another method; {hint}"


def of_another(section: str) -> str | None:
    """Which methods have a section of this name, as a question; None where none has."""
    have = [f"method: {name}" for name, config in CONFIGS.items() if section in field_types(config)]
    return f"did you mean {' or '.join(have)}?" if have else None


def _plain(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)


def value_of(kind: Any, node: yaml.Node, key: str, errors: list[str]) -> Any:
    """One value of a declared type; `BAD` after an error."""
    if is_dataclass(kind):
        built = build(kind, node, key, errors)  # type: ignore[arg-type]  # a dataclass type
        return BAD if built is None else built
    if isinstance(kind, types.UnionType) or get_origin(kind) is Union:
        return _union(get_args(kind), node, key, errors)
    value = _leaf(kind, node)
    if value is BAD:
        errors.append(f"{place(node)}: {key}: must be {describe(kind)}, got {shown(node)}")
    return value


def _union(kinds: tuple[Any, ...], node: yaml.Node, key: str, errors: list[str]) -> Any:
    nested = next((kind for kind in kinds if is_dataclass(kind)), None)
    if nested and isinstance(node, yaml.MappingNode):
        return value_of(nested, node, key, errors)
    for kind in kinds:
        value = BAD if is_dataclass(kind) else _leaf(kind, node)
        if value is not BAD:
            return value
    wanted = " or ".join(describe(kind) for kind in kinds)
    errors.append(f"{place(node)}: {key}: must be {wanted}, got {shown(node)}")
    return BAD


def _leaf(kind: Any, node: yaml.Node) -> Any:
    return _tuple(get_args(kind)[0], node) if get_origin(kind) is tuple else _scalar(kind, node)


def _tuple(kind: type, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        values = tuple(_scalar(kind, element) for element in node.value)
        return BAD if any(value is BAD for value in values) else values
    try:
        return parse_range(str(node.value)) if kind is float and isinstance(node, yaml.ScalarNode) else BAD
    except ValueError:
        return BAD


def _scalar(kind: Any, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        return BAD
    text, quoted = node.value, node.style in ("'", '"')
    if get_origin(kind) is Literal:
        readings = [_scalar(type(choice), node) for choice in get_args(kind)]
        return next((c for c, r in zip(get_args(kind), readings, strict=True) if c == r and r is not BAD), BAD)
    if kind is str:
        return BAD if node.tag.endswith(":null") and not quoted else text
    if kind is type(None):
        return None if node.tag.endswith(":null") else BAD
    if quoted:
        return BAD
    if kind is bool:
        return {"true": True, "false": False}.get(text, BAD)
    if kind is int:
        return int(text) if _INT.fullmatch(text) and len(text) < 20 else BAD
    if kind is float:
        value = plain_number(text)
        return BAD if value is None or abs(value) == float("inf") else value
    raise TypeError(f"{kind} is not a type that a configuration can hold")


def _overridden(path: str | Path, overrides: tuple[str, ...]) -> yaml.MappingNode:
    tree = _base_of(read_tree(path))
    given = [assigned(assignment) for assignment in overrides]
    for key, text in sorted(given, key=lambda one: one[0] != METHOD):  # which says what the other keys are
        override(tree, key.split("."), text, declared(config_class(tree), key))
    plant_only_at_home(tree, [key for key, _ in given])
    return tree


def _base_of(tree: yaml.MappingNode) -> yaml.MappingNode:
    """The base of a search space; a configuration itself."""
    base = child(tree, "base")
    return base if isinstance(base, yaml.MappingNode) and child(tree, "search") is not None else tree


def plant_only_at_home(config: yaml.Node, keys: Iterable[str]) -> None:
    """Takes `data.plant` out of a configuration whose `data.root` an option gives: that folder is to be there already.

    keys: those that options give. One that gives `data.plant` keeps it.
    """
    keys, data = list(keys), child(config, "data")
    own = any(key == "data.plant" or key.startswith("data.plant.") for key in keys)
    if "data.root" in keys and not own and isinstance(data, yaml.MappingNode):
        data.value = [(key, value) for key, value in data.value if key.value != "plant"]


def config_class(node: yaml.Node | None) -> type[Config]:
    """The class of the configuration in a node, by the method that it names; HAAN's where it names none there is."""
    named = child(node, METHOD) if node is not None else None
    return CONFIGS.get(named.value if isinstance(named, yaml.ScalarNode) else HAAN, CONFIGS[HAAN])


def build_config(node: yaml.Node, key: str, errors: list[str]) -> Config | None:
    """`build` of the configuration in a node, whose method says which sections it has."""
    named = child(node, METHOD)
    if named is not None and value_of(Literal[*CONFIGS], named, join(key, METHOD), errors) is BAD:  # type: ignore[valid-type]
        return None
    return build(config_class(node), node, key, errors)


def read_config(path: str | Path, overrides: tuple[str, ...] = ()) -> Config:
    """A configuration, or a search space's base, with `KEY=VALUE` overrides applied.

    Raises InputError with every error found.
    """
    tree = _overridden(path, overrides)
    errors: list[str] = []
    config = build_config(tree, "", errors)
    if config is None:
        raise InputError(errors)
    return config


@contextmanager
def naming_places(tree: yaml.Node, nearest: bool = False) -> Iterator[None]:
    """Puts `file:line` before those messages of an InputError that begin with a key of the tree.

    For what only the data can tell: that `concepts.clusters` is too large, say. nearest: a key that has its default,
    and so no line, gets that of its section.
    """
    try:
        yield
    except InputError as error:
        raise type(error)([_placed(message, tree, nearest) for message in error.messages]) from None


def naming_lines(path: str | Path, overrides: tuple[str, ...] = ()) -> AbstractContextManager[None]:
    """`naming_places` of a configuration file."""
    return naming_places(_overridden(path, overrides), nearest=True)


def _placed(message: str, tree: yaml.Node, nearest: bool) -> str:
    key = message.partition(": ")[0]
    node: yaml.Node = tree
    for part in key.split("."):
        below = child(node, part)
        if below is None:
            is_key = nearest and declared(config_class(tree), key) is not None
            return f"{place(node)}: {message}" if is_key else message
        node = below
    return f"{place(node)}: {message}"


def plain(value: Any, whole: bool = False) -> Any:
    """A configuration as plain mappings, lists and scalars, in the order of its fields.

    whole: also keys that came with a later version (see haan.checked.added) and have their default.
    """
    if is_dataclass(value):
        said = {f.name: getattr(value, f.name) for f in ordered(type(value)) if whole or not _left_out(value, f)}
        return {name: plain(one, whole) for name, one in said.items()}
    return list(value) if isinstance(value, tuple) else value


def _left_out(value: Any, f: Field[Any]) -> bool:
    return bool(f.metadata.get("added")) and getattr(value, f.name) == f.default


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted key."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found


def dump(value: Any, whole: bool = False) -> str:
    """YAML text that `read_config` reads back to an equal configuration. whole: as `plain` has it."""
    return yaml.safe_dump(plain(value, whole), sort_keys=False, allow_unicode=True, width=120)
