"""Paths as users write them; files that are whole or absent, never half; text and JSON, read with care."""

import codecs
import errno
import hashlib
import io
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from haan.errors import InputError

_NO_PLACE = (
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP,
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTEMPTY,
)  # fmt: skip  # what is wrong with a path, and not with the disk
_OTHERS = {  # by their byte-order mark; that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_MARK = "\ufeff"


def at_home(path: str) -> str:
    """A path with `~` and `~user` at its start replaced, as a shell does; `$HOME` stays as it is."""
    return os.path.expanduser(path)  # noqa: PTH111  # a Path would lose slashes, and refuse a user it does not know


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what takes the place of `path` once all of it is written; nothing does after an error.

    Raises InputError where no file can lie there, before anything is written.
    """
    check_file(path)
    partial = _partial(path)
    try:
        with writing(path):
            partial.touch()
        yield partial
        with writing(path):
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def remove(path: Path) -> None:
    """Takes a file away, if it is there. Raises InputError where it can't be."""
    with writing(path):
        path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder with those above it, unless it is there. Raises InputError."""
    with writing(path, "folder"):
        path.mkdir(parents=True, exist_ok=True)


def check_file(path: Path) -> None:
    """Refuses a file that can't be written, for what comes before may take long; makes nothing. Raises InputError."""
    with writing(path):
        _mode(_partial(path))
        mode = _mode(path)
        if mode == stat.S_IFDIR:
            raise _os_error(errno.EISDIR)
        if mode not in (None, stat.S_IFREG):
            raise OSError(errno.EEXIST, "Not a regular file")  # it would be replaced: /dev/null, say
        _check_above(path.parent)


def check_folder(path: Path) -> None:
    """The same of a folder that is to be made, or that files are to be put into. Raises InputError."""
    with writing(path, "folder"):
        _check_above(path)


@contextmanager
def writing(path: Path, kind: str = "file") -> Iterator[None]:
    """Makes an error of a path the user's; one of the disk, such as a full one, stays as it is. Raises InputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise InputError(f"{path}: must be a {kind} that can be written, got: {error.strerror}") from None


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _check_above(folder: Path) -> None:
    """Raises OSError where the folder, or the nearest one above that is there, takes no files."""
    while (mode := _mode(folder)) is None:
        folder = folder.parent
    if mode != stat.S_IFDIR:
        raise _os_error(errno.ENOTDIR)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _os_error(errno.EACCES)


def _mode(path: Path) -> int | None:
    """What kind of file lies there; None where none does. Raises OSError where none can."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return None


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises InputError where there is none, or two equal keys in one object."""
    try:
        return json.loads(read_text(path), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: must be JSON, got {error}") from None


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that hold something, stripped, each with its number from 1. Raises InputError.

    Lists that were put together may have a byte-order mark before any line.
    """
    lines = [line.removeprefix(_MARK).strip() for line in read_text(path).splitlines()]
    return [(number, line) for number, line in enumerate(lines, start=1) if line]


def read_text(path: str | Path) -> str:
    """A text file, without its byte-order mark, lines ended as Python ends them. Raises InputError unless it is UTF-8.

    Whatever people hand over is read here.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: must be a file that can be read, got: {error.strerror}") from None
    other = next((name for mark, name in _OTHERS.items() if content.startswith(mark)), None)
    if other is not None:
        raise InputError(f"{path}: must be UTF-8 text, got {other}")
    if b"\0" in content:
        raise InputError(f"{path}: must be UTF-8 text, got NUL bytes, as UTF-16 and data have them")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(_not_utf8(path, content, error.start)) from None
    return io.StringIO(text, newline=None).read()


def _not_utf8(path: str | Path, content: bytes, at: int) -> str:
    """What stands at a byte that is no UTF-8, for a message; Latin-1 shows most of such text as it was meant."""
    line = content.count(b"\n", 0, at) + 1
    near = content[max(0, at - 20) : at].rpartition(b"\n")[2] + content[at : at + 20].partition(b"\n")[0]
    return f"{path}:{line}: must be UTF-8 text, got byte {content[at]:#x} in {near.decode('latin-1')!r}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two equal keys the first would silently be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"key {repeated!r} twice in one object")
    return found
