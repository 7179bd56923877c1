"""Labs and what runs in which and when, and the table of phases and seconds of a run.

AWS, the cluster of own machines, Slurm and the shared server each have a lab of their own. `.ci/run` runs one after the
other: two at once, a process each, took as long on two cores (25 min), at a load of 15.
"""

import fcntl
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.lab import Lab, obstacle
from tests.cluster.own import OwnMachines
from tests.cluster.slurm_lab import SlurmLab
from tests.cluster.slurm_lab import from_environment as slurm_from_environment

# Modules that share the one cluster of own machines, in the order in which they find it: whole, then with every machine
# lost and back, then ended.
SHARING = ["test_security.py", "test_features.py", "test_own_machines.py", "test_lost_nodes.py", "test_shutdown.py"]

Phase = Callable[[str], AbstractContextManager[None]]
_Timed = tuple[str, str, float]  # module, name, seconds
_since_last_report: list[_Timed] = []
_reported: list[_Timed] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that share a cluster come in their order; its end takes a minute, in which those of AWS run."""
    here = Path(__file__).parent
    own = [item for item in items if item.path.parent == here and item.path.name in SHARING]
    own.sort(key=lambda item: SHARING.index(item.path.name))
    others = [item for item in items if item not in own]
    items[:] = [*own[:-1], *others, *own[-1:]]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """A lab's tests stay in one process. xdist 3.8 overlooks the mark `xdist_group` under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByLab(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            return "own machines" if Path(module).name in SHARING else module

    return ByLab(config, log)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab of own machines."""
    yield from _lab(Lab.from_environment())


@pytest.fixture(scope="session")
def aws_lab() -> Iterator[Lab]:
    """The lab of AWS."""
    yield from _lab(Lab.from_environment().beside())


@pytest.fixture(scope="session")
def slurm_lab() -> Iterator[SlurmLab]:
    """The lab of Slurm."""
    slurm = slurm_from_environment()
    for _ in _lab(slurm.lab):
        yield slurm


def _lab(lab: Lab) -> Iterator[Lab]:
    """A lab with nothing up; whatever is up at the end is ended. Skips where none can run; fails where it is taken."""
    reason = obstacle(lab)
    if reason:
        pytest.skip(f"no lab here: {reason}")
    with (lab.root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pytest.fail(f"another run has the lab {lab.prefix}; LAB_PREFIX=... names one of your own")
        lab.down()  # what a killed run left
        try:
            yield lab
        finally:
            lab.down()


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Iterator[OwnMachines]:
    """Three hosts, up from nothing, for every test that takes them as it finds them."""
    found = OwnMachines(lab, hosts=3)
    with _timed("own machines", "three hosts and the laptop started"):
        found.boot()
    with _timed("own machines", "ray up"):
        found.up()
    with _timed("own machines", "all three alive"):
        found.await_hosts(["h1", "h2", "h3"])
    yield found


@pytest.fixture(scope="module")
def phase(request: pytest.FixtureRequest) -> Phase:
    """`with phase("ray up"):` times a part of a test for the table."""
    module = request.node.name.rpartition("/")[2].removesuffix(".py")
    return lambda name: _timed(module, name)


@contextmanager
def _timed(module: str, name: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        _since_last_report.append((module, name, time.monotonic() - began))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test's report takes its phases along, for the process that prints the table may be another."""
    report = yield
    report.user_properties += [("phase", timed) for timed in _since_last_report]
    _since_last_report.clear()
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _reported.extend(timed for name, timed in report.user_properties if name == "phase")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _reported:
        return
    terminalreporter.section("phases of the cluster tests, seconds")
    for module, name, seconds in _reported:
        terminalreporter.line(f"{seconds:7.1f}  {module}: {name}")
