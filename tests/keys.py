"""The tables of all keys in haan/README.md and haan/methods/README.md: `python -m tests.keys` renews them.

They are made here because both rooms are in them: haan knows what a key is, search.space how it may be searched.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from haan.keys import Key, keys_of, own_keys
from haan.methods.names import CONFIGS, HAAN
from search.space.parameters import forms_of
from tests.paths import ROOT

PAGE, METHODS = ROOT / "haan" / "README.md", ROOT / "haan" / "methods" / "README.md"
HEAD = "key | value | default | search | what |"
HEADS = {PAGE: f"| {HEAD} source |", METHODS: f"| method | {HEAD}"}


def _row(key: Key, method: str) -> str:
    cls = CONFIGS[method]
    first, *_ = *forms_of(key.name, cls=cls), "grid" if forms_of(key.name, grid=True, cls=cls) else "no"
    return f"| `{key.name}` | {key.value} | {key.default} | {first} | {key.what} |"


def _rows(page: Path) -> Iterator[str]:
    yield HEADS[page]
    yield "| --- " * HEADS[page].count(" |") + "|"
    if page == PAGE:
        yield from (f"{_row(key, HAAN)} {key.source} |" for key in keys_of())
    else:
        yield from (
            f"| `{method}` {_row(key, method)}" for method in CONFIGS if method != HAAN for key in own_keys(method)
        )


def on_page(page: Path) -> str:
    """The table as it stands there."""
    found = re.search(rf"^{re.escape(HEADS[page])}\n(\|.*\n)+", page.read_text(encoding="utf-8"), re.M)
    assert found, f"{page} must hold a table that begins with {HEADS[page]}"
    return found[0]


def made(page: Path) -> str:
    return "".join(f"{line}\n" for line in _rows(page))


if __name__ == "__main__":
    for each in HEADS:
        each.write_text(each.read_text(encoding="utf-8").replace(on_page(each), made(each)), encoding="utf-8")
