"""A node that is about to leave: its trials save and go on elsewhere.

Whoever ends a node in order (a batch system's time limit) names a folder in the environment of its Ray, and puts a file
there once the node is to leave. Processes say there while they are at work, so that it is known when all have saved.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = "HAAN_LEAVING"  # in the environment of a node's processes
_NOTICE, _BUSY = "leaving", "busy-"


class NodeLeavesError(Exception):
    """The trial's node is about to leave, and the trial has saved. The driver knows it by its name as well."""


def is_leaving() -> bool:
    """Whether this node is to leave; asked on a node."""
    folder = os.environ.get(FOLDER)
    return folder is not None and Path(folder, _NOTICE).exists()


@contextmanager
def at_work() -> Iterator[None]:
    """Lets it be known that this process trains or saves."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        yield
        return
    mark = Path(folder, f"{_BUSY}{os.getpid()}")
    mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def give_notice(folder: Path) -> None:
    """Tells the processes of a node that it is to leave."""
    (folder / _NOTICE).touch()


def num_at_work(folder: Path) -> int:
    """How many processes of a node train or save; one that was killed does not."""
    pids = [int(one.name.removeprefix(_BUSY)) for one in folder.glob(f"{_BUSY}*")]
    return sum(Path("/proc", str(pid)).exists() for pid in pids)
