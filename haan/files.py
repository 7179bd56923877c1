"""Files that are whole or absent, never half."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of `path` once all of it is written; nothing does after an error."""
    partial = path.with_name(path.name + ".partial")
    yield partial
    partial.replace(path)
