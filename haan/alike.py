"""Names that are missing, and under which others they may be there: for messages."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from unicodedata import normalize

SHOWN = 5  # of the names that a message is about
_ALIKE: dict[str, Callable[[str], str]] = {  # what else a name may be, and what is the same in both
    "in another Unicode normal form": lambda name: normalize("NFC", name),
    "in other case": lambda name: normalize("NFC", name).casefold(),
    "with other blanks": lambda name: "".join(normalize("NFC", name).casefold().replace("_", " ").split()),
}
_OF_FILES = {"with another extension": lambda name: Path(name).stem}


def first_of(names: Sequence[str]) -> str:
    """The first names, in a sentence."""
    return ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")


def hint(missing: Sequence[str], there: Iterable[str], files: bool = False) -> str:
    """Under which other names they are there: what accounts for most of them. Empty where nothing does."""
    names, ways = sorted(there), list[tuple[str, list[str]]]()
    for how, key in (_ALIKE | (_OF_FILES if files else {})).items():
        by_key = {key(name): name for name in names}
        ways.append((how, [by_key[key(name)] for name in missing if key(name) in by_key]))
    known = set(names)
    for name in names:
        if name.endswith(missing[0]):
            prefix = name.removesuffix(missing[0])
            ways.append((f"with {prefix!r} before the name", [prefix + w for w in missing if prefix + w in known]))
        elif missing[0].endswith(name) and not name.startswith("."):
            prefix = missing[0].removesuffix(name)
            bare = [w.removeprefix(prefix) for w in missing if w.startswith(prefix)]
            ways.append((f"without {prefix!r} before the name", [w for w in bare if w in known]))
    how, found = max(ways, key=lambda way: len(way[1]))
    return f"; {len(found)} of them are there {how}, as {found[0]!r}" if found else ""
