"""One search that loses every machine in turn, its network and its driver, and ends as if nothing had been lost."""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
from optuna.trial import TrialState

from search.results.folder import RunFolder
from tests.cluster.conftest import Phase
from tests.cluster.lab import CHECKOUT, OP
from tests.cluster.own import HEAD, OwnMachines, await_, long_space, trials, under_way
from tests.search.journals import assert_whole

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
EPOCHS = 40
PLENTY = 150  # trials, so that there is always one to be hit, however fast the machine is
FAR = 15  # epochs: a trial with so many ahead of it doesn't end within the moment between a look and a fault
HOSTS = ["h1", "h2", "h3"]


@dataclass
class Search:
    """The one search, sent from the laptop; what its driver on the head does is read from its journal."""

    cluster: OwnMachines
    scratch: Path
    hit: dict[str, set[int]] = field(default_factory=dict)  # fault -> trials that ran there
    watched: list[tuple["subprocess.Popen[str]", IO[str]]] = field(default_factory=list)

    @property
    def folder(self) -> RunFolder:
        return self.cluster.run_folder("losses")

    def drive(self, *options: str) -> None:
        """Has a driver started on the head, and watches it from the laptop."""
        out = (self.scratch / f"laptop-{len(self.watched)}.txt").open("w")
        command = f"exec python {CHECKOUT}/search/run.py losses.yaml --cluster own.yaml --name losses"
        laptop = self.cluster.lab.popen(OP, " ".join([command, *options]), {"PYTHONPATH": str(CHECKOUT)}, out)
        self.watched.append((laptop, out))

    def ended(self, limit_s: float = 1200) -> int:
        """Waits until the laptop has heard of the end and fetched the run; its exit code."""
        process, out = self.watched[-1]
        code = process.wait(limit_s)
        out.close()
        return code

    def said(self) -> str:
        """What the laptop has shown of this driver so far."""
        return (self.scratch / f"laptop-{len(self.watched) - 1}.txt").read_text()

    def under_way(self, node: str, since: float = 0) -> set[int]:
        """Trials that went to work on a node after `since` (Unix seconds), and have far to go."""
        return under_way(trials(self.folder, self.scratch), node, since, EPOCHS - FAR)

    def await_work(self, *nodes: str, since: float = 0) -> None:
        """Waits until a trial is under way on each of these nodes."""

        def working() -> bool:
            assert self.watched[-1][0].poll() is None, self.said()
            return all(self.under_way(node, since) for node in nodes)

        await_(working, f"trials under way on {nodes}", limit_s=900)

    def note(self, nodes: dict[str, str], since: float = 0) -> None:
        """Waits until faults (fault -> node) that come now will each hit a trial, and keeps which."""

        def found() -> bool:
            known = {fault: self.under_way(node, since) for fault, node in nodes.items()}
            self.hit |= known
            return all(known.values())

        await_(found, f"a trial to be hit by each of {nodes}", limit_s=900)


def test_a_search_that_loses_every_machine_in_turn_ends_with_each_trial_once(
    cluster: OwnMachines, phase: Phase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab, search = cluster.lab, Search(cluster, tmp_path)
    shutil.copy(long_space(tmp_path, EPOCHS, trials=PLENTY), lab.home(OP) / "losses.yaml")
    search.drive()
    with phase("trials under way on all hosts"):
        search.await_work(*HOSTS)

    search.note({"power cut": "h3", "network cut": "h2"})
    with phase("a worker without power and one without network: noticed"):
        lab.cut(3)
        lab.net_cut(2)
        cluster.await_hosts(["h1"])
    lab.net_back(2)
    lab.start(3)
    back = time.time()
    with phase("those workers back, and at work"):
        search.await_work("h2", "h3", since=back)

    search.note({"killed": "h2"}, since=back)
    with phase("a worker killed: noticed"):
        lab.kill(2)
        cluster.await_hosts(["h1", "h3"])
    lab.start(2)
    search.note({"driver killed": "h1"})
    resumed = time.time()
    with phase("driver killed, resumed, at work on a worker, too"):
        kill_driver(search)
        search.drive("--resume")
        search.await_work("h1", "h3", since=resumed)

    search.note({"head rebooted": "h1"}, since=resumed)
    with phase("head rebooted, ray up"):
        lab.kill(HEAD)
        lab.start(HEAD)
        assert_said_to_go_on(search)
        assert "The head does not answer; the search goes on there, trying again" in search.said()
        cluster.up()
        cluster.await_hosts(HOSTS)
    budget = len(trials(search.folder, tmp_path)) + 2  # those begun, and two more
    search.drive("--resume", "--trials", str(budget))
    with phase("resumed, to the end of the search"):
        assert search.ended() == 0, search.said()

    found = assert_whole(search.folder, budget)
    assert {trial.state for trial in found} == {TrialState.COMPLETE}, search.said()
    assert f"Trials: {budget} complete, 0 pruned, 0 failed" in search.said()
    for trial in found:
        assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
    with capsys.disabled():
        for fault, numbers in search.hit.items():
            for number in sorted(numbers):
                sys.stderr.write(f"\n{fault}, trial {number}: {found[number].user_attrs['retries']}")
    for fault, numbers in search.hit.items():
        for number in numbers:
            assert found[number].user_attrs["retries"], f"{fault}: the study doesn't say that trial {number} was hit"
    for fault in ("driver killed", "head rebooted"):
        for number in search.hit[fault]:
            said = found[number].user_attrs["retries"]
            assert any(one.startswith("its driver ended; ") for one in said), f"{fault}, trial {number}: {said}"


def kill_driver(search: Search) -> None:
    """SIGKILL for the driver alone."""
    holder = re.match(r"process (\d+) on h1", search.folder.lock.read_text())
    assert holder is not None
    search.cluster.lab.on(HEAD, f"kill -9 {holder[1]}")
    assert_said_to_go_on(search)


def assert_said_to_go_on(search: Search) -> None:
    """The laptop hears that the driver is gone, fetches what there is, and says how to go on."""
    assert search.ended() == 130, search.said()
    assert "Its driver ended without a word: it was killed, or the head went down" in search.said()
    assert "Fetched into runs/losses" in search.said()
    *_, last = search.said().splitlines()
    assert last.startswith("To go on: "), last
    assert "search/run.py losses.yaml --cluster own.yaml --name losses" in last, last
