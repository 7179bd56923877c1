"""Drivers as their user starts them, killed and started again; what must hold of the trials that they leave."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from optuna.trial import FrozenTrial

from haan.data.table import ClipTable
from search.results.folder import RunFolder
from search.space.read import read_space
from search.trials import features
from search.trials.trial import TrialRunner
from tests.paths import ROOT
from tests.planted import tiny_table
from tests.search.head import Head
from tests.search.spaces import OWN_RAY, tiny_space

NAME, MARK = "a", "SEARCH_FAULT_TEST"
RUN = ROOT / "search" / "run.py"
LIMIT_S = 400  # for one driver, on a machine that others use as well


@dataclass
class Runs:
    """Drivers of one run, and whatever they start.

    All of it bears a mark in its environment, and is ended by its process id. head: the Ray that they join; each starts
    one of its own where there is none. out: a driver's standard output.
    """

    home: Path
    space: Path
    tmp: Path
    head: Head | None = None
    mark: str = field(default_factory=lambda: f"{os.getpid()}-{time.monotonic_ns()}")
    count: int = 0

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.home / "runs" / NAME)

    def start(self, *arguments: object, resume: bool | None = None) -> "subprocess.Popen[str]":
        """A driver; with --resume where the run exists, unless told."""
        resume = self.folder.root.exists() if resume is None else resume
        words = ["--name", NAME, *(["--resume"] if resume else []), *map(str, arguments)]
        return self.command([sys.executable, str(ROOT / "search" / "run.py"), str(self.space), *words])

    def command(self, words: list[str]) -> "subprocess.Popen[str]":
        self.count += 1
        joins = self.head.env if self.head else OWN_RAY | {"RAY_TMPDIR": str(self.tmp)}
        environment = {**os.environ, **joins, MARK: self.mark}
        with self.out.open("w") as out:
            return subprocess.Popen(
                words,
                cwd=self.home,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    @property
    def out(self) -> Path:
        return self.home / f"driver-{self.count}.txt"

    def ended(self, driver: "subprocess.Popen[str]") -> tuple[int, str]:
        """Its exit code and all that it said."""
        code = driver.wait(LIMIT_S)
        return code, self.out.read_text()

    def run(self, *arguments: object, resume: bool | None = None) -> tuple[int, str]:
        return self.ended(self.start(*arguments, resume=resume))

    def alive(self) -> list[psutil.Process]:
        """What runs with this mark."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self.mark:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        found = []
        for process in psutil.Process(self.head.pid).children(recursive=True) if self.head else self.alive():
            try:
                if any("TrialRunner" in word or "ResourceTrainable" in word for word in process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def sweep(self) -> None:
        for process in self.alive():
            try:
                process.kill()
            except psutil.Error:
                continue


@contextmanager
def driven(home: Path, head: Head | None) -> Iterator[Runs]:
    tmp = Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))  # short, for the paths of Ray's sockets
    found = Runs(home, tiny_space(home), tmp, head)
    try:
        yield found
    finally:
        found.sweep()
        shutil.rmtree(tmp, ignore_errors=True)


def until(condition: Callable[[], bool], driver: "subprocess.Popen[str]") -> None:
    """Waits for a condition, or for the driver's end; what it looks at may be a journal or all processes."""
    limit = time.monotonic() + LIMIT_S
    while driver.poll() is None and not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def kill(driver: "subprocess.Popen[str]") -> bool:
    """SIGKILL; whether it was still running."""
    driver.send_signal(signal.SIGKILL)
    return driver.wait() == -signal.SIGKILL


@dataclass(frozen=True)
class Opened:
    """What a trial gets of Ray's object store."""

    table: ClipTable

    def arrive(self) -> tuple[ClipTable, features.Opened]:
        return self.table, features.Opened("node", "host", moved=0, began=0.0, seconds=0.0)


def trained(folder: RunFolder, params: dict[str, Any], epochs: int) -> list[float]:
    """The avg.mAP of a configuration's first epochs, trained without a break and without Ray."""
    space = read_space(folder.space_yaml)
    data = replace(space.base.data, root=str(folder.root.parents[1] / "data"))
    base = replace(space.base, data=data, threads=1, device="cpu")
    table, split = tiny_table(base)
    runner = TrialRunner.__new__(TrialRunner)
    shared: Any = Opened(table)
    config = {"params": params, "sweep": True, "restore": []}
    runner.setup(config, base=base, detects=space.detects, splits={base.data.validation: split}, shared=shared)
    curve: list[float] = []
    while len(curve) < epochs:
        curve += [epoch["avg_map"] for epoch in runner.step()["epochs"]]
    return curve[:epochs]


def assert_as_unbroken(folder: RunFolder, trials: Iterable[FrozenTrial]) -> None:
    """Each reported value is, to the last digit, that of the same configuration trained without a break."""
    for trial in trials:
        curve = trial.intermediate_values
        assert list(curve) == list(range(1, len(curve) + 1))
        assert list(curve.values()) == trained(folder, trial.params, len(curve))
