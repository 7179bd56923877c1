"""A run folder's study.journal: one driver at a time, and whole again after a kill or a full disk."""

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from haan.errors import InputError
from search.study.internals import append_lock

_OPTUNA_LOCK_S = 2  # Optuna holds its own lock for one append; one that is older belongs to a process that was killed

_HOLDER = re.compile(r"process (\d+) on (\S+), since")  # what a driver writes into its lock


@contextmanager
def only_driver(path: Path) -> Iterator[None]:
    """Holds the lock of a run folder; the system frees it whatever ends the process. Raises InputError when it is held.

    Where the file system has no locks (some NFS mounts) it raises OSError.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            rule = "must have one driver at a time, got a second"
            raise InputError(f"{path.parent}: {rule}; {holder} drives it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        file.flush()
        yield


def is_driven(path: Path) -> bool:
    """Whether the driver that a lock names is alive, as far as that is known here: of another machine's it isn't.

    The lock itself is not tried, for a search that starts in that moment would be refused. A driver has it open, which
    tells it from another process that bears its number later.
    """
    held = _HOLDER.match(path.read_text(encoding="utf-8")) if path.exists() else None
    if held is None or held[2] != socket.gethostname():
        return False
    opened = Path("/proc", held[1], "fd")
    try:
        os.kill(int(held[1]), 0)
        return not opened.is_dir() or any(_is_same(one, path) for one in opened.iterdir())
    except (ProcessLookupError, FileNotFoundError):
        return False
    except PermissionError:  # somebody else's
        return True


def _is_same(link: Path, path: Path) -> bool:
    try:
        return link.samefile(path)
    except FileNotFoundError:  # closed meanwhile
        return False


class _WholeAppends(JournalFileBackend):
    """A journal file in which an append that fails, as on a full disk, leaves nothing for the next one to land on.

    held: records that wait to be appended together; each append waits for the disk.
    """

    held: list[dict[str, Any]] | None = None

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self.held is not None:
            self.held += logs
            return
        size = self.path.stat().st_size
        try:
            super().append_logs(logs)
        except BaseException:
            os.truncate(self.path, size)
            raise


class Journal(JournalStorage):
    """Optuna's storage over a journal file, by its absolute path (see internals.append_lock)."""

    def __init__(self, journal: Path):
        self._file = _WholeAppends(journal.resolve())
        super().__init__(self._file)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Writes what is said meanwhile in one append: attributes, which nobody reads back before the end."""
        self._file.held = held = []
        try:
            yield
        finally:
            self._file.held = None
        if held:
            self._file.append_logs(held)


def load(journal: Path) -> optuna.Study | None:
    """The one study of a journal; None where there is no file, or none in it. Raises InputError where it is damaged."""
    if not journal.exists():
        return None
    try:
        store = Journal(journal)
    except ValueError as error:
        raise InputError(f"{journal}: must be one JSON record a line, got {error}") from None
    names = optuna.get_all_study_names(store)
    return optuna.load_study(study_name=names[0], storage=store) if names else None


def repair(journal: Path) -> str | None:
    """Makes a journal loadable that was cut in mid-line; what was done, or None.

    Only the driver may call it, under its lock. A copy is kept of whatever is trimmed. Raises InputError when a line
    before the last is damaged, which no kill explains.
    """
    _drop_stale_lock(journal)
    if not journal.exists():
        return None
    content = journal.read_bytes()
    lines = content.splitlines(keepends=True)
    bad = next((i for i, line in enumerate(lines) if not _is_record(line)), None)
    if bad is not None and bad < len(lines) - 1:
        shown = lines[bad][:60].decode(errors="replace")
        raise InputError(f"{journal}:{bad + 1}: must be one JSON record a line, got {shown!r}")
    if bad is None:
        if not content or content.endswith(b"\n"):
            return None
        with journal.open("ab") as file:
            file.write(b"\n")
        return f"{journal}: its last line lacked its end"
    copy = _free_name(journal)
    copy.write_bytes(content)
    with journal.open("rb+") as file:
        file.truncate(len(content) - len(lines[-1]))
        os.fsync(file.fileno())
    return f"{journal}: its last line was incomplete and is trimmed; the file as it was: {copy.name}"


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _free_name(journal: Path) -> Path:
    count = 1
    while (copy := journal.with_name(f"{journal.name}.torn-{count}")).exists():
        count += 1
    return copy


def _drop_stale_lock(journal: Path) -> None:
    """Removes Optuna's own lock where a killed process left it: its users would wait for half a minute."""
    lock = append_lock(journal)
    for _ in range(10 * _OPTUNA_LOCK_S):
        try:
            age = time.time() - lock.lstat().st_mtime
        except FileNotFoundError:
            return
        if age >= _OPTUNA_LOCK_S:
            break
        time.sleep(0.1)
    lock.unlink(missing_ok=True)
