"""The Ray that drivers of slow tests join."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.paths import ROOT

SCRIPT = """
import sys, ray
ray.init(address="local", num_cpus=2, object_store_memory=300 * 2**20, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Head:
    """A Ray on this machine. pid: of the process below which all of it runs."""

    address: str
    pid: int

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to join it; a Ray that a process starts for itself asks for this user's token."""
        return {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token"}


@pytest.fixture(scope="session")
def head() -> Iterator[Head]:
    """One for all that need none of their own: a driver that joins it is at work 5 s earlier."""
    tmp = tempfile.mkdtemp(prefix="h", dir="/tmp")  # short, for the paths of Ray's sockets
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        env=os.environ | SETTINGS | {"RAY_TMPDIR": tmp},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = next((line.strip() for line in process.stdout if line.strip().rpartition(":")[2].isdigit()), "")
        assert address, "no Ray started"
        yield Head(address, process.pid)
        process.communicate("", timeout=120)
    shutil.rmtree(tmp, ignore_errors=True)
