"""The Ray that a search starts for itself: with a token, a folder and ports of its own, and of what it was given."""

import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from haan.errors import InputError
from haan.words import byte_size
from search.driver import given
from search.trials import internals

QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
PRIVATE = "search_private"  # a resource that marks a Ray as that of one search, which ends with it
_STORE_SLACK = 1.2  # the object store also holds what Ray itself passes around
_STORE_LEAST = 128 * 2**20
_BELOW, _SOCKET_BYTES = "/session_2026-12-31_23-59-59_999999_9999999/sockets/plasma_store", 107  # as Linux has it
_SAMPLE = "haan-12345678"
_MOST_WORDS = 400  # of what Ray says
_TMPDIR = "RAY_TMPDIR"
_REMOVALS = 10


def start(feature_bytes: int, held: ExitStack, before: Callable[[], int | None]) -> given.Given:
    """Starts a Ray whose store can hold the features, and joins it; what it was given of this machine.

    held: takes up what must end after it. before: prepares the environment that it and every trial is to have; how many
    GPUs it has, where Ray can't count them. Raises InputError.
    """
    has = given.look()
    given.check(has)
    store = _store_bytes(feature_bytes, has)
    num_gpus = before()
    try:
        held.enter_context(_folder())
        held.enter_context(internals.token(secrets.token_hex(32)))
        own: dict[str, Any] = {"num_cpus": has.cores, "object_store_memory": store, "resources": {PRIVATE: 1}}
        internals.start_own(**own, **({} if num_gpus is None else {"num_gpus": num_gpus}), **QUIET)
    except Exception as error:  # whatever it is, a search can't go on, and no traceback helps its user
        words = " ".join(str(error).split())[:_MOST_WORDS] or type(error).__name__
        rule = "a Ray of this search's own must start on this machine"
        busy = "timed out" in words
        fix = "try again once this machine has less to do" if busy else f"{_TMPDIR}=FOLDER moves its files"
        raise InputError(f"{rule}, got: {words}; {fix}") from None
    return has


@contextmanager
def _folder() -> Iterator[None]:
    """Has the Ray that starts meanwhile lay its files into a folder of its own."""
    with ray_folder() as folder, internals.environment({_TMPDIR: str(folder)}):
        yield


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder for Ray's files that nobody else can read or write, as they can its usual one; gone at the end.

    It lies in RAY_TMPDIR, TMPDIR or /tmp: the last where another is too long a path for Ray's sockets, or not ours to
    write in.
    """
    usual = os.environ.get(_TMPDIR) or os.environ.get("TMPDIR") or "/tmp"
    is_short = len(os.fsencode(Path(usual, _SAMPLE, "ray"))) + len(_BELOW) <= _SOCKET_BYTES
    fits = is_short and os.access(usual, os.W_OK | os.X_OK)
    folder = Path(tempfile.mkdtemp(prefix="haan-", dir=usual if fits else "/tmp"))
    try:
        yield folder
    finally:
        for _ in range(_REMOVALS):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.2)  # a process that dies may still write there


def _store_bytes(size: int, has: given.Given) -> int:
    """How large a local object store has to be. Raises InputError when shared memory can't hold it."""
    needed = int(size * _STORE_SLACK) + _STORE_LEAST
    shm = Path("/dev/shm")
    free = shutil.disk_usage(shm).free if shm.exists() else needed
    if size * _STORE_SLACK > free:  # below its own least size Ray takes a slower folder, which a small set can bear
        raise InputError(
            f"data.features: must fit into shared memory ({shm} has {byte_size(free)} free), got "
            f"{byte_size(size * _STORE_SLACK)} needed; mount a larger {shm}, or use data.dtype: float16"
        )
    if size * _STORE_SLACK > has.memory.amount:  # what lies in shared memory counts there as well
        raise InputError(
            f"data.features: must fit into the memory that this search was given ({byte_size(has.memory.amount)} "
            f"by {has.memory.source}), got {byte_size(size * _STORE_SLACK)} needed; ask for more, or use "
            "data.dtype: float16"
        )
    return needed
