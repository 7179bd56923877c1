"""Guards the bill: powers a node of a cluster off when nobody needs it any more, and at a cap of hours.

On the head: when for --idle no search has run and nobody was logged in by SSH, as `ray up` and `ray exec` are. At the
cap it first ends the searches in order, as Ctrl-C does: `--resume` goes on with them. On a worker (--head): when
the head doesn't answer for --lost, or some time after the cap. One guard runs a node: a later one takes the place of
the first, and its hours count anew. It needs nothing but Python.
"""

import argparse
import fcntl
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from haan.cli import run, say
from haan.errors import InputError
from haan.words import seconds

_RUNS, _DRIVER = Path("/"), "driver.lock"
_LOCK = Path("~/.haan-guard.lock")
_ANSWER_S = 5
_TAKE_OVER_S = 30


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a node goes, in seconds.

    cap: after so long in any case. idle: the head, after so long without use. ending: what searches get at the cap to
    end. lost: a worker, after so long without its head.
    """

    cap: float
    idle: float
    ending: float
    lost: float
    poll: float

    @property
    def worker_cap(self) -> float:
        """By then the head has ended its searches, and its going is what ends a worker; this is for when it hangs."""
        return self.cap + self.ending + self.lost


Clock = Callable[[], float]
Sleep = Callable[[float], None]


def watch_head(rules: Rules, runs: Path, clock: Clock = time.monotonic, sleep: Sleep = time.sleep) -> str:
    """Waits until the head has to go; the reason. At the cap, searches have ended, or had their time to."""
    began = used = clock()
    while (now := clock()) - began < rules.cap:
        if drivers(runs) or sessions():
            used = now
        elif now - used >= rules.idle:
            return f"no search and no SSH session for {_span(rules.idle)}"
        sleep(rules.poll)
    asked = clock()
    told: set[int] = set()
    # A session that is open then may be the laptop's, which fetches the run.
    while ((left := drivers(runs)) or sessions()) and clock() - asked < rules.ending:
        for pid in left - told:
            _log(f"{_span(rules.cap)} are over: asking the search of process {pid} to end")
            _end(pid)
        told |= left
        sleep(min(rules.poll, 1.0))
    return f"{_span(rules.cap)} are over"


def watch_worker(
    rules: Rules, answers: Callable[[], bool], clock: Clock = time.monotonic, sleep: Sleep = time.sleep
) -> str:
    """Waits until a worker has to go; the reason. answers: whether the head does."""
    began = heard = clock()
    while (now := clock()) - began < rules.worker_cap:
        if answers():
            heard = now
        elif now - heard >= rules.lost:
            return f"the head has not answered for {_span(rules.lost)}"
        sleep(rules.poll)
    return f"{_span(rules.worker_cap)} are over"


def drivers(runs: Path) -> set[int]:
    """The processes that drive a search now, of a run anywhere below a folder.

    Looking takes no lock, so a search that starts just then isn't refused.
    """
    within = f"{runs.resolve()}/".replace("//", "/")
    return {
        pid
        for pid in _lockers()
        if any(path.startswith(within) and path.endswith(f"/{_DRIVER}") for path in _open_files(pid))
    }


def _holder(lock: Path) -> int | None:
    """The process that holds a lock."""
    return next((pid for pid in _lockers() if str(lock.resolve()) in _open_files(pid)), None)


def _lockers() -> set[int]:
    """The processes that hold a lock of a whole file, whichever it is."""
    lines = map(str.split, Path("/proc/locks").read_text().splitlines())
    return {int(words[4]) for words in lines if words[1] == "FLOCK"}  # `1: FLOCK ADVISORY WRITE 3832 fe:00:5425 0 EOF`


def _open_files(pid: int) -> set[str]:
    """Of another user's process, or of one that has ended, none."""
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            found.add(str(entry.readlink()))
    except OSError:
        return found
    return found


def sessions() -> int:
    """How many SSH sessions have logged in; whoever only knocks at the port doesn't count.

    A session's process bears a title, as in `sshd: ubuntu@pts/0` or `sshd-session: ubuntu@notty`.
    """
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes().split(b"\0")[0]
            except OSError:  # it has ended
                continue
            name, _, rest = title.partition(b": ")
            count += name in (b"sshd", b"sshd-session") and b"@" in rest
    return count


def answers(address: str) -> bool:
    """Whether something accepts connections at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError:
        return False
    return True


def alone(path: Path, wait_s: float = _TAKE_OVER_S) -> IO[str]:
    """The lock of this node's guard, held while the file is open; an older guard is ended. Raises InputError."""
    file = path.open("a+", encoding="utf-8")
    limit = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            older = _holder(path)
            if older is not None:
                _end(older)
        if time.monotonic() > limit:
            raise InputError(f"{path}: must be one guard's, got another that doesn't end")
        time.sleep(0.1)
    file.truncate(0)
    file.write(f"process {os.getpid()}\n")
    file.flush()
    return file


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        _log(f"process {pid} has ended by itself")


def _span(value: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if value >= length:
            return f"{value / length:g} {unit}"
    return f"{value:g} s"


def _log(text: str) -> None:
    say(f"{datetime.now():%Y-%m-%d %H:%M:%S} {text}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m search.guard",
        description="Powers a node of a cluster off when it is idle, and at a cap of hours.",
        epilog="Example: python -m search.guard --hours 48 --idle 60m",
    )
    parser.add_argument("--hours", type=float, default=48.0, help="the cap; 48")
    parser.add_argument("--idle", default="60m", help="the head goes after so long without use; 60m")
    parser.add_argument("--ending", default="10m", help="what searches get to end in order at the cap; 10m")
    parser.add_argument("--head", help="HOST:PORT of the head's Ray: this node is a worker")
    parser.add_argument("--lost", default="15m", help="a worker goes after so long without its head; 15m")
    parser.add_argument("--poll", default="15s", help="how often to look; 15s")
    parser.add_argument("--runs", type=Path, default=_RUNS, help=f"searches of runs below it count; {_RUNS}")
    parser.add_argument("--lock", type=Path, default=_LOCK, help=f"held by this node's guard; {_LOCK}")
    parser.add_argument("--command", default="sudo shutdown -h now", help="what powers off; sudo shutdown -h now")
    return parser


def _rules(asked: argparse.Namespace) -> Rules:
    if not 0 < asked.hours < float("inf"):
        raise InputError(f"--hours: must be > 0, got {asked.hours:g}")
    names = ("idle", "ending", "lost", "poll")
    return Rules(cap=asked.hours * 3600, **{name: seconds(getattr(asked, name), f"--{name}") for name in names})


def main() -> None:
    """The command line; its exit code is that of the command that powers off."""
    run(lambda: sys.exit(_guard()))


def _guard() -> int:
    asked = _parser().parse_args()
    rules = _rules(asked)
    if asked.head is not None and not asked.head.rpartition(":")[2].isdigit():
        raise InputError(f"--head: must be HOST:PORT, got {asked.head!r}")
    with alone(asked.lock.expanduser()):
        if asked.head is None:
            _log(f"guarding the head: idle for {_span(rules.idle)}, or {_span(rules.cap)} in all")
            reason = watch_head(rules, asked.runs.expanduser())
        else:
            _log(f"guarding a worker: {asked.head} silent for {_span(rules.lost)}, or {_span(rules.worker_cap)} in all")
            reason = watch_worker(rules, lambda: answers(asked.head))
        _log(f"{reason}: {asked.command}")
        return subprocess.run(shlex.split(asked.command)).returncode


if __name__ == "__main__":
    main()
