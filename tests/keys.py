"""The table of all keys in haan/README.md: `python -m tests.keys` renews it.

It stands here because both rooms are in it: haan knows what a key is, search.space how it may be searched.
"""

import re
from collections.abc import Iterator

from haan.keys import keys_of
from search.space.parameters import forms_of
from tests.paths import ROOT

PAGE = ROOT / "haan" / "README.md"
HEAD = "| key | value | default | search | what | source |"


def lines() -> Iterator[str]:
    yield HEAD
    yield "| --- " * 6 + "|"
    for key in keys_of():
        first, *_ = *forms_of(key.name), "grid" if forms_of(key.name, grid=True) else "no"
        yield f"| `{key.name}` | {key.value} | {key.default} | {first} | {key.what} | {key.source} |"


def on_page() -> str:
    """The table as it stands there."""
    found = re.search(rf"^{re.escape(HEAD)}\n(\|.*\n)+", PAGE.read_text(encoding="utf-8"), re.M)
    assert found, f"{PAGE} must hold a table that begins with {HEAD}"
    return found[0]


def made() -> str:
    return "".join(f"{line}\n" for line in lines())


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").replace(on_page(), made()), encoding="utf-8")
