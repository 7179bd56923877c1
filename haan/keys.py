"""Every key of a configuration, as haan.config has it, in words."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, dataclass, is_dataclass
from typing import Any, Literal, get_args, get_origin

from haan.checked import Rule, describe, field_types, ordered
from haan.methods.names import CONFIGS, HAAN
from haan.words import aligned
from haan.yamlconfig import METHOD, join, kinds_of, parse_range


@dataclass(frozen=True)
class Key:
    """A key in words. name: dotted. value: what it may be. what, source: what it means, and where that is from."""

    name: str
    value: str
    default: str
    what: str
    source: str


def keys_of(cls: type = CONFIGS[HAAN], above: str = "") -> Iterator[Key]:
    """The keys of a dataclass in the order of its fields, each before those below it; a section itself is none."""
    types = field_types(cls)
    for f in ordered(cls):
        name = join(above, f.name)
        kinds = kinds_of(types[f.name])
        nested = next((kind for kind in kinds if is_dataclass(kind)), None)
        if kinds != (nested,):
            # A column of a page can't hold all methods' names.
            value = "a method's name" if name == METHOD else _values(kinds, f.metadata["rule"])
            yield Key(name, value, _default(f), f.metadata["what"], f.metadata["source"])
        if nested is not None:
            yield from keys_of(nested, name)  # type: ignore[arg-type]  # a dataclass type


def _values(kinds: tuple[Any, ...], rule: Rule | None) -> str:
    return _either([_in_words(kind, rule) for kind in kinds])


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _in_words(kind: Any, rule: Rule | None) -> str:
    if get_origin(kind) is Literal or kind is bool:
        return _either([f"`{_yaml(choice)}`" for choice in get_args(kind) or (True, False)])
    if kind is type(None):
        return "`null`"
    words = describe(kind).removeprefix("a ").removeprefix("finite ")
    if rule is None:
        return words
    must = rule.text.removeprefix("must ")
    if must.startswith("hold "):  # which names what is in the list
        return must.removeprefix("hold ")
    return f"{words} {must.replace('be ', '', 1)}"


def _default(f: Field[Any]) -> str:
    return "required" if f.default is MISSING else f"`{_yaml(f.default)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        return _as_range(value) or json.dumps(value)
    return value if isinstance(value, str) else json.dumps(value)


def _as_range(values: tuple[float, ...]) -> str | None:
    """`low:high:step`, where that reads as these values."""
    if len(values) < 3:
        return None
    text = f"{values[0]:g}:{values[-1]:g}:{values[1] - values[0]:g}"
    return text if parse_range(text) == values else None


def own_keys(method: str) -> list[Key]:
    """Those of another method that HAAN has not, or has with another default."""
    known = {METHOD, *keys_of()}
    return [key for key in keys_of(CONFIGS[method]) if key not in known and key.name not in known]


def shown() -> Iterator[str]:
    """Lines of text: key, default, values, meaning and source in columns; below, what is otherwise in other methods."""
    blocks = {HAAN: list(keys_of())} | {method: own_keys(method) for method in CONFIGS if method != HAAN}
    for method, keys in blocks.items():
        if method != HAAN:
            yield from ("", f"With method: {method}")
        rows = [(key.name, key.default, key.value, f"{key.what} ({key.source})") for key in keys]
        yield from aligned([[cell.replace("`", "") for cell in row] for row in rows], texts=4)
