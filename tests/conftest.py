"""Tests run in two processes, one a core (addopts of pyproject.toml): which of them goes where, with how many threads.

`python -m pytest -n 0 ...` runs them in one, which -s and --pdb need.
"""

import os
import signal
from collections import Counter

import pytest

os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")  # Ray's own 30 s are few on a busy machine


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
    wait for a Ray more than they compute, so two of them run beside each other, the file with most of them first.
    """
    slow = Counter(item.path for item in items if "slow" in item.keywords)

    def is_quick(item: pytest.Item) -> bool:
        return "ray" in item.keywords and "slow" not in item.keywords

    items.sort(key=lambda item: (not is_quick(item), -slow[item.path]))
    for item in (item for item in items if "cluster" not in item.keywords):  # those have an order of their own
        item.add_marker(pytest.mark.xdist_group("ray" if is_quick(item) else item.path.stem))
