"""The guard ends a node that nobody needs, spares one that is used, and ends searches before it ends their head."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from haan.errors import InputError
from search import guard
from search.guard import Rules
from tests.paths import ROOT

GUARD = (
    "import sys; from search import guard; guard.sessions = lambda: 0; sys.exit(guard.main())"  # whoever is logged in
)
RULES = Rules(cap=1000.0, idle=100.0, ending=30.0, lost=50.0, poll=10.0)
DRIVE = """
import signal, sys, time
from pathlib import Path
from search.study.journal import only_driver

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, interrupt)
with only_driver(Path(sys.argv[1], "driver.lock")):
    try:
        print("drives", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        Path(sys.argv[1], "ended").touch()
"""


class Time:
    """A clock that sleeping moves, and what happens at its times."""

    def __init__(self) -> None:
        self.now = 5.0
        self.events: list[tuple[float, Callable[[], object]]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at, event in [e for e in self.events if e[0] <= self.now]:
            event()
            self.events.remove((at, event))


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the head is used for, as a test sets it."""
    state: dict[str, Any] = {"drivers": set(), "sessions": 0}
    monkeypatch.setattr(guard, "drivers", lambda runs: set(state["drivers"]))
    monkeypatch.setattr(guard, "sessions", lambda: state["sessions"])
    return state


def head(time: Time) -> str:
    return guard.watch_head(RULES, Path("runs"), time.clock, time.sleep)


def test_a_head_goes_after_the_idle_time(used):
    time = Time()
    assert head(time) == "no search and no SSH session for 1.66667 min"
    assert time.now == 5 + RULES.idle


@pytest.mark.parametrize("use", [{"drivers": {7}}, {"sessions": 1}])
def test_the_idle_time_counts_from_the_last_use(used, use):
    time = Time()
    used.update(use)
    time.events.append((305.0, lambda: used.update(drivers=set(), sessions=0)))
    head(time)
    assert time.now == 295 + RULES.idle  # at 295 it was seen in use for the last time


def test_at_the_cap_searches_are_told_once_and_waited_for(used, monkeypatch):
    time, told = Time(), []
    used["drivers"] = {7, 8}

    def end(pid: int) -> None:
        told.append((pid, time.now))
        time.events.append((time.now + 4, lambda: used.update(drivers=set(used["drivers"]) - {pid})))

    monkeypatch.setattr(guard, "_end", end)
    assert head(time) == "16.6667 min are over"
    assert sorted(told) == [(7, 1005.0), (8, 1005.0)]
    assert time.now == 1005 + 4


def test_at_the_cap_whoever_fetches_a_run_has_time_to(used):
    used["sessions"] = 1
    time = Time()
    time.events.append((5 + RULES.cap + 8, lambda: used.update(sessions=0)))
    assert "are over" in head(time)
    assert 5 + RULES.cap + 8 <= time.now < 5 + RULES.cap + RULES.ending


def test_a_search_that_does_not_end_keeps_the_head_for_the_time_given_alone(used, monkeypatch):
    time = Time()
    used["drivers"] = {7}
    monkeypatch.setattr(guard, "_end", lambda pid: None)
    head(time)
    assert time.now == 5 + RULES.cap + RULES.ending


def test_a_worker_outlives_a_head_that_is_silent_for_less_than_the_time_given():
    time = Time()
    silent = lambda: not 200 < time.now < 240  # noqa: E731
    assert guard.watch_worker(RULES, silent, time.clock, time.sleep).endswith("are over")
    assert time.now == 5 + RULES.cap + RULES.ending + RULES.lost


def test_a_worker_goes_when_the_head_stays_silent():
    time = Time()
    assert "has not answered" in guard.watch_worker(RULES, lambda: time.now < 200, time.clock, time.sleep)
    assert time.now == 195 + RULES.lost


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    return tmp_path / "runs"


@pytest.fixture
def driver(runs: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds a run's lock, and ends in order when it is asked to."""
    with subprocess.Popen(
        [sys.executable, "-c", DRIVE, str(runs / "one")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "drives\n"
        yield process
        process.kill()


def start(tmp_path: Path, *words: str) -> "subprocess.Popen[str]":
    own = ["--poll", "0.1s", "--runs", str(tmp_path / "runs"), "--lock", str(tmp_path / "lock")]
    command = [sys.executable, "-c", GUARD, *own, "--command", f"touch {tmp_path / 'off'}", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def test_drivers_are_those_that_hold_their_lock_wherever_their_run_lies(runs, driver):
    assert guard.drivers(runs) == guard.drivers(runs.parent) == {driver.pid}
    assert driver.pid in guard.drivers(Path("/"))
    assert guard.drivers(runs / "other") == set()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert guard.drivers(runs) == set(), "the name stays in the file, the lock does not"


def test_an_idle_head_runs_the_command(tmp_path, runs):
    code, said = ended(start(tmp_path, "--idle", "0.5s"))
    assert code == 0 and (tmp_path / "off").exists(), said
    assert "no search and no SSH session for 0.5 s" in said


def test_at_the_cap_a_search_ends_in_order_before_its_head(tmp_path, runs, driver):
    process = start(tmp_path, "--hours", str(1 / 3600), "--idle", "0.2s")  # idle is over long before
    code, said = ended(process)
    assert code == 0 and (tmp_path / "off").exists(), said
    assert (runs / "one" / "ended").exists() and f"the search of process {driver.pid}" in said
    assert (tmp_path / "off").stat().st_mtime_ns >= (runs / "one" / "ended").stat().st_mtime_ns


def test_a_worker_goes_after_its_head(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        process = start(tmp_path, "--head", address, "--lost", "0.5s")
        time.sleep(2)
        assert process.poll() is None, "the head answered"
    code, said = ended(process)
    assert code == 0 and (tmp_path / "off").exists(), said
    assert "has not answered for 0.5 s" in said


def test_a_later_guard_takes_the_place_of_the_first(tmp_path):
    first = start(tmp_path)
    assert first.stdout is not None and "guarding the head" in first.stdout.readline()
    second = start(tmp_path)
    try:
        assert first.wait(60) == -signal.SIGTERM
        assert second.stdout is not None and "guarding the head" in second.stdout.readline()
        assert (tmp_path / "lock").read_text() == f"process {second.pid}\n"
        assert not (tmp_path / "off").exists()
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--idle", "60"], "--idle: must be a number > 0 and a unit s, m, h or d, as in 90m, got '60'"),
        (["--hours", "-1"], "--hours: must be > 0, got -1"),
        (["--head", "h1"], "--head: must be HOST:PORT, got 'h1'"),
    ],
)
def test_a_wrong_option_is_said_and_nothing_powers_off(tmp_path, words, message):
    code, said = ended(start(tmp_path, *words))
    assert (code, said) == (2, f"{message}\n")
    assert not (tmp_path / "off").exists()


def test_only_sessions_that_have_logged_in_count(tmp_path, monkeypatch):
    titles = ["sshd: /usr/sbin/sshd -D [listener]", "sshd: unknown [priv]", "sshd: ubuntu@pts/0", "ssh me@there"]
    titles.append("sshd-session: ubuntu@notty")
    for number, title in enumerate(titles):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "cmdline").write_bytes(title.encode() + b"\0")
    (tmp_path / "99").mkdir()  # has ended meanwhile
    (tmp_path / "self").mkdir()
    real = Path
    monkeypatch.setattr(guard, "Path", lambda *words: tmp_path if words == ("/proc",) else real(*words))
    assert guard.sessions() == 2


def test_a_guard_needs_neither_ray_nor_torch():
    code = "import search.guard, sys; print(sorted({'ray', 'torch', 'numpy'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_a_duration_without_a_unit_is_refused():
    assert guard.seconds("1.5h", "--idle") == 5400
    with pytest.raises(InputError, match="--idle"):
        guard.seconds("infs", "--idle")
