"""Tests run in two processes, one a core (addopts of pyproject.toml): which of them goes where, with how many threads.

`python -m pytest -n 0 ...` runs them in one, which -s and --pdb need.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.paths import ROOT
from tests.search.head import Head

os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")  # Ray's own 30 s are few on a busy machine

LONGEST = ("test_pages", "test_faults")  # of the slow files, whatever they have of tests
SCRIPT = """
import sys, ray
ray.init(address="local", num_cpus=2, object_store_memory=300 * 2**20, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CHDIR_TO_TRIAL_DIR": "0", "PYTHONPATH": str(ROOT)}


def pytest_configure() -> None:
    """One thread where there are several processes; as many as ever in what a test starts.

    Ctrl-C is heard by what tests start, even where a shell began them in the background, which has it ignored.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" in os.environ:
        import faiss
        import torch

        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By file, for its fixtures; but all quick ones that start a Ray go to one process.

    Those come first: they are half of the time, and the other process is through with the rest meanwhile. Slow ones
    wait for a Ray more than they compute, so two or three of them run beside each other, the longest files first.
    """
    slow = Counter(item.path for item in items if "slow" in item.keywords)

    def is_quick(item: pytest.Item) -> bool:
        return "ray" in item.keywords and "slow" not in item.keywords

    items.sort(key=lambda item: (not is_quick(item), item.path.stem not in LONGEST, -slow[item.path]))
    for item in (item for item in items if "cluster" not in item.keywords):  # those have an order of their own
        item.add_marker(pytest.mark.xdist_group("ray" if is_quick(item) else item.path.stem))


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
