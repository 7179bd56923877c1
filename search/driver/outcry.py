"""What Ray's C++ says, and the one line of a driver that it ends: an abort runs nothing of Python's.

What a library writes goes into the log; what Python says stays on the terminal.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_STDERR = 2
# Waits for a word of a process that ends in order; $1: what is said of one that doesn't.
_WAITS = 'read -r _ || printf "%s\\n" "$1" >&2'


@contextmanager
def kept(log: Path, last_word: str) -> Iterator[None]:
    """Keeps what libraries write to standard error in a log; last_word: said where this process ends meanwhile."""
    with _watched(last_word), log.open("ab") as file, _python_on_terminal(), libraries_into(file):
        yield


@contextmanager
def libraries_into(file: IO[Any]) -> Iterator[None]:
    """What Ray's C++ says, which knows nothing of Python's streams, goes into a file."""
    sys.stderr.flush()
    terminal = os.dup(_STDERR)
    os.dup2(file.fileno(), _STDERR)
    try:
        yield
    finally:
        os.dup2(terminal, _STDERR)
        os.close(terminal)


@contextmanager
def _watched(last_word: str) -> Iterator[None]:
    """Ctrl-C on the terminal does not reach who waits: it ends with its standard input."""
    words = ["sh", "-c", _WAITS, "sh", last_word]
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=null, bufsize=0, start_new_session=True) as waiting:
        assert waiting.stdin is not None
        try:
            yield
        finally:
            with suppress(BrokenPipeError):  # somebody ended it
                waiting.stdin.write(b"\n")


@contextmanager
def _python_on_terminal() -> Iterator[None]:
    """Python's own standard error on a copy of what it is on, where it is the process's."""
    plain = sys.stderr
    try:
        own = plain.fileno() == _STDERR
    except OSError:  # a test's, or a notebook's
        own = False
    if not own:
        yield
        return
    with os.fdopen(os.dup(_STDERR), "w", buffering=1, encoding=plain.encoding, errors=plain.errors) as copy:
        sys.stderr = copy
        try:
            yield
        finally:
            sys.stderr = plain
