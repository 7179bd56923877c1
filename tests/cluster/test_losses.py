"""One search that loses every machine in turn, its network and its driver, and ends as if nothing had been lost."""

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from search.runfolder import RunFolder
from tests.cluster.conftest import Phase
from tests.cluster.lab import Lab
from tests.cluster.own import HEAD, PROJECT, OwnMachines, await_, space, trials
from tests.search.test_faults import assert_whole

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
TRIALS, EPOCHS = 24, 120
FAR = 20  # epochs: a trial with so many ahead of it doesn't end within the moment between a look and a fault
CUT_S = 60
HOSTS = ["h1", "h2", "h3"]


@dataclass
class Search:
    """The one search, its driver on the head; what it does is read from its journal."""

    cluster: OwnMachines
    scratch: Path
    hit: dict[str, set[int]] = field(default_factory=dict)  # fault -> trials that ran there
    drivers: list[tuple["subprocess.Popen[str]", IO[str]]] = field(default_factory=list)

    @property
    def folder(self) -> RunFolder:
        return self.cluster.run_folder("a")

    def drive(self, *options: str) -> None:
        """Starts a driver on the head."""
        out = (self.scratch / f"driver-{len(self.drivers)}.txt").open("w")
        words = " ".join(["exec python search/run.py losses.yaml --name a", *options])
        command = f". ~/.haan-search.sh; cd {PROJECT}; {words}"
        self.drivers.append((self.cluster.lab.popen(HEAD, command, out=out), out))

    def ended(self, limit_s: float = 900) -> int:
        """Waits for the driver; its exit code."""
        process, out = self.drivers[-1]
        code = process.wait(limit_s)
        out.close()
        return code

    def said(self) -> str:
        """What the driver has said so far."""
        return (self.scratch / f"driver-{len(self.drivers) - 1}.txt").read_text()

    def under_way(self, node: str | None = None) -> set[int]:
        """Trials that run on a node (None: on any) and have far to go."""
        return {trial.number for trial in trials(self.folder, self.scratch) if _is_under_way(trial, node)}

    def await_work(self, node: str | None = None) -> None:
        """Waits until a trial is under way on a node (None: on all three)."""
        nodes = HOSTS if node is None else [node]

        def working() -> bool:
            assert self.drivers[-1][0].poll() is None, self.said()
            return all(self.under_way(one) for one in nodes)

        await_(working, f"trials under way on {nodes}")

    def note(self, fault: str, node: str | None = None) -> None:
        """Keeps which trials a fault that comes now will hit."""
        self.hit[fault] = self.under_way(node)
        assert self.hit[fault]


def _is_under_way(trial: FrozenTrial, node: str | None) -> bool:
    stretches = trial.user_attrs.get("runs", [])
    here = bool(stretches) and stretches[-1][1] is None and node in (None, stretches[-1][2])
    return trial.state == TrialState.RUNNING and here and (trial.last_step or 0) < EPOCHS - FAR


def losses(folder: Path, storage: Path) -> Path:
    """A space whose trials take half a minute and more, for there must be something to lose. No failure is allowed."""
    search = {"trials": TRIALS, "max_failures": 0, "pruner": {"name": "none"}}
    path = space(folder, storage, epochs=EPOCHS, **search)
    document = yaml.safe_load(path.read_text())
    base = document["base"]
    base["data"]["plant"] |= {"train_videos": 160, "validation_videos": 40, "dim": 64}
    base["data"]["train_videos"] = 160
    base["model"]["width"] = 128
    base["concepts"]["refresh_epochs"] = 5
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def cluster(lab: Lab, phase: Phase) -> Iterator[OwnMachines]:
    found = OwnMachines(lab, hosts=3)
    with phase("hosts, ray up, all alive"):
        found.boot()
        found.up()
        found.await_hosts(HOSTS)
    yield found


def test_a_search_that_loses_every_machine_in_turn_ends_with_each_trial_once(
    cluster: OwnMachines, phase: Phase, tmp_path: Path
) -> None:
    lab, search = cluster.lab, Search(cluster, tmp_path)
    cluster.send(losses(tmp_path, lab.nfs / "checkpoints"), "losses.yaml")
    search.drive()
    with phase("trials under way on all hosts"):
        search.await_work()

    search.note("power cut", "h3")
    with phase("a worker without power: noticed"):
        lab.cut(3)
        cluster.await_hosts(["h1", "h2"])
    lab.start(3)
    with phase("that worker back, and at work"):
        search.await_work("h3")

    search.await_work("h2")
    search.note("killed", "h2")
    with phase("a worker killed: noticed"):
        lab.kill(2)
        await_(lambda: "h2" not in cluster.alive(), "h2 noticed as lost")
    lab.start(2)
    with phase("that worker back, and at work"):
        search.await_work("h2")

    search.await_work("h3")
    search.note("network cut", "h3")
    with phase("a worker without network for a minute"):
        lab.net_cut(3)
        time.sleep(CUT_S)
        lab.net_back(3)
    with phase("that worker back, and at work"):
        search.await_work("h3")

    search.note("driver killed")
    with phase("driver killed, resumed, at work"):
        kill_driver(search)
        search.drive("--resume")
        search.await_work("h1")

    search.note("head rebooted")
    with phase("head rebooted, ray up"):
        lab.kill(HEAD)
        search.ended()
        lab.start(HEAD)
        cluster.up()
        cluster.await_hosts(HOSTS)
    search.drive("--resume")
    with phase("resumed, to the end of the search"):
        assert search.ended() == 0, search.said()

    found = assert_whole(search.folder, TRIALS)
    assert {trial.state for trial in found} == {TrialState.COMPLETE}, search.said()
    assert f"Trials: {TRIALS} complete, 0 pruned, 0 failed" in search.said()
    for trial in found:
        assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
    for fault, numbers in search.hit.items():
        for number in numbers:
            assert found[number].user_attrs["retries"], f"{fault}: the study doesn't say that trial {number} was hit"
    for fault in ("driver killed", "head rebooted"):
        assert all("its driver ended" in found[number].user_attrs["retries"] for number in search.hit[fault])


def kill_driver(search: Search) -> None:
    """SIGKILL for the driver alone."""
    holder = re.match(r"process (\d+) on h1", search.folder.lock.read_text())
    assert holder is not None
    search.cluster.lab.on(HEAD, f"kill -9 {holder[1]}")
    assert search.ended() == 137
