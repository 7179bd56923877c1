"""The lab and one cluster in it for all tests, and the table of phases and seconds that a run of them ends with."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.cluster.lab import Lab, obstacle
from tests.cluster.own import OwnMachines

_PHASES: list[tuple[str, str, float]] = []

Phase = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A lab with nothing up; whatever is up at the end is ended. Skips where none can run."""
    found = Lab.from_environment()
    reason = obstacle(found)
    if reason:
        pytest.skip(f"no lab here: {reason}")
    found.down()  # what a killed run left
    try:
        yield found
    finally:
        found.down()


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Iterator[OwnMachines]:
    """Three hosts, up from nothing, for every test that takes them as it finds them; test_shutdown.py is the last."""
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
        _PHASES.append((module, name, time.monotonic() - began))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _PHASES:
        return
    terminalreporter.section("phases of the cluster tests, seconds")
    for module, name, seconds in _PHASES:
        terminalreporter.line(f"{seconds:7.1f}  {module}: {name}")
