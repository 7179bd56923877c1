"""The lab as a fixture, and the table of phases and seconds that a run of these tests ends with."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.cluster.lab import Lab, obstacle

_PHASES: list[tuple[str, str, float]] = []

Phase = Callable[[str], AbstractContextManager[None]]


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def phase(request: pytest.FixtureRequest) -> Phase:
    """`with phase("ray up"):` times a part of a test for the table."""
    module = request.node.name.rpartition("/")[2].removesuffix(".py")

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            _PHASES.append((module, name, time.monotonic() - began))

    return timed


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _PHASES:
        return
    terminalreporter.section("phases of the cluster tests, seconds")
    for module, name, seconds in _PHASES:
        terminalreporter.line(f"{seconds:7.1f}  {module}: {name}")
