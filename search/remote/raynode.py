"""Ray on one node of a run: reached with the run's token alone, on ports and in a folder that nobody else has."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from search.results.jobfolder import JobFolder
from search.trials import internals, leaving

_STOP_S = 2
_ASK_S = 5
_NOT_KEPT = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_BACKEND_LOG_LEVEL")  # the last is of the process here alone
_PARENT_ENDS = 1  # PR_SET_PDEATHSIG of Linux's prctl
_LIBC = ctypes.CDLL(None)
_GIVEN = ("--dashboard-agent-listen-port=0", "--include-log-monitor=false", "--disable-usage-stats", "--block")


def environment(folder: JobFolder, tmp: Path) -> dict[str, str]:
    """Of Ray on this node, and of all that runs in it."""
    kept = {key: value for key, value in os.environ.items() if key not in _NOT_KEPT}
    return {
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder.token),
        "RAY_TMPDIR": str(tmp),
        **internals.EVERY_RAY,
        "RAY_health_check_failure_threshold": "2",  # a node counts as lost after half a minute of silence
        "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
        # Figures that Ray serves to everybody, token or not: none are gathered, and a port that can't be isn't opened.
        "RAY_enable_metrics_collection": "0",
        "DASHBOARD_METRIC_PORT": "-1",
        leaving.FOLDER: str(tmp),
    }


def own_address() -> str:
    """This node's, by the name that Slurm has for it; a loopback where no name leads to another."""
    found = "127.0.0.1"
    for name in (os.environ.get("SLURMD_NODENAME"), socket.gethostname()):
        try:
            found = socket.gethostbyname(name) if name else found
        except OSError:
            continue
        if not found.startswith("127."):
            return found
    return found


def free_port() -> int:
    """One that nothing listens on at this moment."""
    with socket.socket() as one:
        one.bind(("", 0))
        return one.getsockname()[1]


def listens(address: str) -> bool | None:
    """Whether a port takes connections; None where its host says nothing."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ASK_S).close()
    except TimeoutError:
        return None
    except OSError:
        return False
    return True


def nodes_at(address: str) -> list[internals.NodeUp]:
    """The nodes that are up; none where no head answers."""
    if listens(address) is not True:  # Ray itself would try for long
        return []
    try:
        return internals.nodes_at(address, timeout_s=_ASK_S)
    except OSError:
        return []


def end_with_parent() -> None:
    """Before a process begins (`preexec_fn`): it is told to end when the one that starts it ends, killed or not.

    Where Slurm follows a job by its processes and not by a cgroup, it misses those of a session of their own.
    """
    _LIBC.prctl(_PARENT_ENDS, signal.SIGTERM)


class RayNode:
    """Ray on this node, as `ray start --block` runs it. words: of that command."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], tmp: Path):
        self._said = tmp / f"ray-{time.monotonic_ns()}.out"
        with self._said.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *_GIVEN],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=dict(env),
                start_new_session=True,
                preexec_fn=end_with_parent,
            )

    @property
    def runs(self) -> bool:
        """Whether it is up, or starts."""
        return self._process.poll() is None

    def why(self) -> str:
        """The last of what it said."""
        lines = self._said.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")

    def stop(self) -> None:
        """Ends it, in order if it lets itself: `ray start` ends what it started."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
