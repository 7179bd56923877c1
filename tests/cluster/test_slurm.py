"""Two users' searches on one Slurm: jobs come late, are cancelled, run out of time and lose their node.

Ada's driver and workers are jobs of their own, in an environment of conda's. Ben takes whole allocations of two nodes
at once, one after the other, in a container.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pandas as pd
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from search.results.folder import RunFolder
from tests.cluster.conftest import Phase
from tests.cluster.lab import CHECKOUT, LabError, User
from tests.cluster.own import await_, long_space, trials, under_way
from tests.cluster.slurm_lab import SlurmLab
from tests.knock import is_refusal
from tests.search.journals import assert_whole, endings, records

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]
NODES = ("h1", "h2", "h3")
EPOCHS = 30
PLENTY = 100  # trials, so that there is always one to be hit, however fast the machine is
FAR = 8  # epochs: a trial with so many ahead of it doesn't end within the moment between a look and a fault
WAITS = r"2 of 3 workers; 1 pending: \w+"  # on the screen, the reason in Slurm's word
NOTICE_S = 90
IDLE_S = 10
WITHOUT, WITH_HIS, OWNER = "without a token", "with the token of his own search", "with its token"
STRANGERS = (WITHOUT, WITH_HIS)


@dataclass
class Search:
    """One user's search, handed in from the login node; his run folder lies on the shared folder."""

    slurm: SlurmLab
    user: User
    project: Path
    scratch: Path
    followers: list[tuple["subprocess.Popen[str]", IO[str]]] = field(default_factory=list)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.project / "runs" / "mine")

    @property
    def known(self) -> list[FrozenTrial]:
        return trials(self.folder, self.scratch)

    @property
    def token(self) -> str:
        return (self.folder.root / "slurm" / "token").read_text().strip()

    def write(self, path: Path, cluster: object) -> None:
        """Lays the user's space and his cluster file into his checkout."""
        (self.project / "tiny.yaml").write_text(path.read_text())
        (self.project / "slurm.yaml").write_text(yaml.safe_dump(cluster, sort_keys=False))
        self.slurm.give(self.user, self.project)

    def follow(self, *options: str) -> None:
        """The one command: hands the search in, or watches it again, in a terminal of its own."""
        out = (self.scratch / f"{self.user.name}-{len(self.followers)}.txt").open("w")
        command = "exec python search/run.py tiny.yaml --cluster slurm.yaml --name mine"
        words = f"cd {self.project} && {' '.join([command, *options])}"
        process = self.slurm.popen(self.user, words, {"PYTHONPATH": str(self.project)}, out)
        self.followers.append((process, out))

    def said(self) -> str:
        """What the latest terminal shows."""
        return (self.scratch / f"{self.user.name}-{len(self.followers) - 1}.txt").read_text()

    def interrupt(self) -> int:
        """Ctrl-C in the terminal; the exit code."""
        self.slurm.lab.op(["pkill", "-INT", "-u", self.user.name, "-f", "search/run.py"])
        return self.ended(60)

    def ended(self, limit_s: float = 600) -> int:
        """Waits until the terminal has shown the end; its exit code."""
        process, out = self.followers[-1]
        code = process.wait(limit_s)
        out.close()
        return code

    def close(self) -> None:
        """Closes every terminal that is still open."""
        for process, out in self.followers:
            process.kill()
            process.wait()
            out.close()

    def under_way(self, node: str, since: float = 0) -> set[int]:
        """Trials that went to work on a node after `since` (Unix seconds), and have far to go."""
        return under_way(self.known, node, since, EPOCHS - FAR)

    def await_(self, condition: Callable[[], bool], what: str, limit_s: float = 600) -> None:
        """Waits for a condition while the terminal shows the search. Raises LabError with what there is to know."""
        process, _ = self.followers[-1]

        def holds() -> bool:
            assert process.poll() is None, self.said()
            return condition()

        try:
            await_(holds, f"{self.user.name}: {what}", limit_s)
        except LabError as error:
            raise LabError(f"{error}\n{self.said()}\n{self.slurm.lab.op('squeue -r; sinfo -N')}") from None

    def await_work(self, *nodes: str, since: float = 0) -> None:
        """Waits until a trial is under way on each of these nodes."""
        self.await_(lambda: all(self.under_way(node, since) for node in nodes), f"trials under way on {nodes}")

    @property
    def end_s(self) -> float:
        """When the search ended, in Unix seconds."""
        return (self.folder.root / "slurm" / "ended").stat().st_mtime

    def run(self, command: str) -> str:
        """What a command in the checkout on the login node says."""
        return self.slurm.run(self.user, f"cd {self.project} && {command}", {"PYTHONPATH": str(self.project)})

    def worker_on(self, node: str) -> str:
        """The number of his worker's job there."""
        there = [job for job in self.slurm.jobs(self.user) if job.node == node and job.state == "RUNNING"]
        return next(job.number for job in there if "_" in job.number)

    def driver(self) -> str:
        """The number of his driver's job that runs."""
        running = [job for job in self.slurm.jobs(self.user) if job.state == "RUNNING"]
        return next(job.number for job in running if "_" not in job.number)


@dataclass
class Story:
    """What the two searches went through.

    hit: event -> Ada's trials that were under way there, and how often each had been taken up again before. budget: her
    trials in the end. brought: where her jobs' Python comes from. told: of each node what `knock` heard.
    cancelled, report: what Ada's terminal and her report said after her driver was cancelled.
    stopped: what Ben's command that ends his search says. given_back: Ada's last jobs that ended without a node.
    idle_s: seconds from the end of Ada's search until every node was idle, and of Ben's until his last job had ended.
    """

    ada: Search
    ben: Search
    hit: dict[str, dict[int, int]] = field(default_factory=dict)
    budget: int = 0
    brought: dict[str, object] = field(default_factory=dict)
    told: dict[str, dict[str, dict[str, set[str]]]] = field(default_factory=dict)
    cancelled: str = ""
    report: str = ""
    stopped: str = ""
    given_back: list[str] = field(default_factory=list)
    idle_s: dict[str, float] = field(default_factory=dict)

    def note(self, event: str, *nodes: str, since: float = 0) -> None:
        """Waits until an event that comes now to one of these nodes will hit a trial of Ada's, and keeps which."""

        def found() -> bool:
            numbers = {number for node in nodes for number in self.ada.under_way(node, since)}
            known = self.ada.known
            self.hit[event] = {number: len(retries(known[number])) for number in numbers}
            return bool(numbers)

        self.ada.await_(found, f"a trial to be hit by: {event}")

    def await_noticed(self, event: str) -> None:
        """Waits until the study says of each trial that was hit that it was taken up again."""

        def noticed() -> bool:
            known = self.ada.known
            return all(len(retries(known[number])) > before for number, before in self.hit[event].items())

        self.ada.await_(noticed, f"{event}: noticed by trials {self.hit[event]}")


def retries(trial: FrozenTrial) -> list[str]:
    return trial.user_attrs.get("retries", [])


def preempted(trial: FrozenTrial) -> bool:
    """Whether it was taken up again since its node was about to leave."""
    return any(again.startswith("preempted: its node is about to leave") for again in retries(trial))


def space(folder: Path, cpus: int) -> Path:
    """The long space with more trials than there is time for."""
    return long_space(folder, EPOCHS, trials=PLENTY, resources={"cpu": cpus, "gpu": 0})


def cluster_file(most: int, cpus: int, limit: str = "1:00:00", **more: object) -> dict[str, object]:
    """What a user writes: what a node gives, and where his environment is. No driver on h3, which will be lost."""
    return {
        "provider": {"type": "slurm"},
        "workers": {"most": most, "cpus": cpus, "gpus": 0, "memory": "1500M", "time": limit, "partition": "main"},
        "driver": {"cpus": 1, "memory": "1500M", "time": "1:00:00", "sbatch": {"exclude": "h3"}},
        "notice": NOTICE_S,
        **more,
    }


@pytest.fixture(scope="module")
def slurm(slurm_lab: SlurmLab, phase: Phase) -> SlurmLab:
    with phase("login node, three nodes and their Slurm"):
        slurm_lab.up()
    return slurm_lab


@pytest.fixture(scope="module")
def story(slurm: SlurmLab, phase: Phase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("slurm")
    ada, ben = (Search(slurm, user, slurm.check_out(user), folder) for user in slurm.users)
    with closing(ada), closing(ben):
        story = begin(ada, ben, folder, phase)
        disturb(story, phase)
        end(story, phase)
        yield story


def begin(ada: Search, ben: Search, folder: Path, phase: Phase) -> Story:
    """Both searches at work, one worker late, and a terminal closed in between."""
    slurm, story = ada.slurm, Story(ada, ben)
    # A node of 5 cores has room for one worker of hers, her driver and a core of his. One of hers that waits keeps none
    # of his from starting, for his would end before it could begin.
    story.brought = slurm.conda(ada.user, ada.project)
    ada.write(space(folder, cpus=3), cluster_file(most=3, cpus=3, **story.brought))
    whole = {"together": True, "chain": 2, "sbatch": {"exclude": "h3"}}
    image = slurm.apptainer(ben.user, ben.project)
    ben.write(space(folder, cpus=1), cluster_file(most=2, cpus=1, limit="0:20:00", **whole, **image))
    slurm.close(3)
    ada.follow()
    ada.await_(lambda: [job.state for job in slurm.jobs(ada.user)].count("RUNNING") == 3, "her driver and two workers")
    ben.follow()
    with phase("both at work on the first two nodes, and what is waited for said"):
        ada.await_work("h1", "h2")
        ben.await_work("h1", "h2")
    ada.await_(lambda: re.search(WAITS, ada.said()) is not None, "her screen says what it waits for")
    with phase("strangers knock at two of them"):
        story.told |= {"h1": knock(story, 1), "h2": knock(story, 2)}
    assert ada.interrupt() == 130, ada.said()
    slurm.open(3)
    ada.follow("--resume")
    with phase("a worker that comes late is at work"):
        ada.await_work("h3")
    with phase("strangers knock there"):
        story.told["h3"] = knock(story, 3)
    return story


def disturb(story: Story, phase: Phase) -> None:
    """All that may happen to the jobs of a search. What needs time is begun before something else is waited for."""
    ada, ben = story.ada, story.ben
    slurm = ada.slurm
    worker, first = ada.worker_on("h1"), ben.driver()
    slurm.run_out_of_time(worker)
    with phase("a worker cancelled: noticed"):
        story.note("worker cancelled", "h2")
        slurm.run(ada.user, f"scancel {ada.worker_on('h2')}")
        story.await_noticed("worker cancelled")
    with phase("a worker out of time: its trial preempted, its job requeued"):
        ada.await_(lambda: any(map(preempted, ada.known)), "a trial preempted")
        ada.await_(lambda: slurm.restarts(worker) == 1, "the worker's job requeued")
    driver = ada.driver()
    slurm.run_out_of_time(driver)
    slurm.run_out_of_time(first)
    with phase("the driver out of time: ended in order and requeued"):
        ada.await_(lambda: slurm.restarts(driver) == 1, "the driver's job requeued")
        slurm.lab.op(f"scontrol update jobid={driver} timelimit=60")
    resumed = time.time()
    with phase("started again, at work on h3"):
        ada.await_work("h3", since=resumed)
    with phase("Ben's second allocation at work"):
        ben.await_(
            lambda: any(job.number != first and job.state == "RUNNING" for job in slurm.jobs(ben.user)),
            "the next of the chain",
        )
        ben.await_(lambda: any(ben.under_way(node, since=resumed) for node in NODES), "a trial under way")
    with phase("a node cut: noticed; meanwhile Ben's search stopped"):
        story.note("node cut", "h3", since=resumed)
        slurm.lab.cut(3)
        story.stopped = ben.run("python -m search.remote.slurm stop runs/mine")
        code = ben.ended()
        assert code == 130, f"{code}: {ben.said()}"
        story.await_noticed("node cut")
    slurm.start(3)
    with phase("the driver cancelled"):
        story.note("driver cancelled", "h1", "h2", since=resumed)
        ada.folder.report.unlink(missing_ok=True)
        slurm.run(ada.user, f"scancel {ada.driver()}")
        code = ada.ended()
        assert code == 130, f"{code}: {ada.said()}"
    story.cancelled, story.report = ada.said(), ada.folder.report.read_text()


def end(story: Story, phase: Phase) -> None:
    """Ada's search to its end, with the trials that were begun, and a worker more than there is room for."""
    ada, ben = story.ada, story.ben
    slurm = ada.slurm
    story.budget = len(ada.known)
    ada.write(space(ada.scratch, cpus=3), cluster_file(most=4, cpus=3, **story.brought))
    ada.follow("--resume", "--trials", str(story.budget))
    with phase("Ada's search to its end"):
        assert ada.ended() == 0, ada.said()
        await_(lambda: set(slurm.states().values()) == {"idle"}, "every node idle", 120)
    ended = time.time()
    story.given_back = [
        job.number for job in slurm.jobs(ada.user, over=True) if job.state == "CANCELLED" and not job.node
    ]
    story.idle_s = {"Ada": ended - ada.end_s, "Ben": slurm.last_end_s(ben.user) - ben.end_s}


def test_a_search_whose_jobs_come_late_are_cancelled_and_lost_ends_with_each_trial_once(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    ada = story.ada
    found = assert_whole(ada.folder, story.budget)
    assert {trial.state for trial in found} == {TrialState.COMPLETE}, ada.said()
    for trial in found:
        assert list(trial.intermediate_values) == list(range(1, EPOCHS + 1))
    table = pd.read_csv(ada.folder.trials_csv)
    assert sorted(table["number"]) == list(range(story.budget)) and set(table["node"]) <= set(NODES)
    with capsys.disabled():
        for event, numbers in story.hit.items():
            for number in sorted(numbers):
                sys.stderr.write(f"\n{event}, trial {number}: {retries(found[number])}")
    for number in {*story.hit["worker cancelled"], *story.hit["node cut"]}:
        assert any("its node was lost" in said for said in retries(found[number])), found[number].user_attrs


def test_a_worker_out_of_time_costs_its_trial_no_failure(story: Story) -> None:
    trials = [trial for trial in story.ada.known if preempted(trial)]
    assert trials and {trial.state for trial in trials} == {TrialState.COMPLETE}  # none may fail: max_failures is 0


def test_a_cancelled_driver_leaves_a_whole_report_and_says_how_to_go_on(story: Story) -> None:
    assert story.report.rstrip().endswith("</html>")
    assert "To go on: " in story.cancelled.splitlines()[-1], story.cancelled


def test_workers_that_the_rest_of_a_search_can_not_fill_are_given_back(story: Story) -> None:
    assert re.search(r"\d worker\(s\) go: \d trial\(s\) are left for 1 on each", story.ada.said()), story.ada.said()
    assert story.given_back, "the one that there was no room for"


def test_another_users_search_on_the_same_nodes_goes_from_allocation_to_allocation_until_it_is_stopped(
    story: Story,
) -> None:
    ben, said = story.ben, story.ben.said()
    assert "2 at once, each with 1 CPU(s)" in said, said
    assert "The driver's time limit is near: the next one of the chain goes on" in said, said
    assert "mine was asked to end in order" in story.stopped and "To go on: " in said.splitlines()[-1], said
    told = [number for number, _, _ in endings(records(ben.folder.journal))]
    assert told and len(told) == len(set(told)), "every trial once"
    for trial in ben.known:
        assert trial.state in (TrialState.COMPLETE, TrialState.RUNNING), "those under way go on with --resume"
        assert all(again.startswith("its driver ended") for again in retries(trial)), "nothing of Ada's has hit it"
    assert any(map(retries, ben.known)), "what was under way went on in the next allocation"
    assert set(pd.read_csv(ben.folder.trials_csv)["node"].dropna()) == {"h1", "h2"}, "both nodes of an allocation train"
    assert ben.token != story.ada.token


def test_no_node_is_kept_after_the_end(story: Story) -> None:
    assert max(story.idle_s.values()) <= IDLE_S, story.idle_s


def test_the_winner_trains_to_the_same_weights_again(story: Story, phase: Phase) -> None:
    ada = story.ada
    with phase("best.yaml trained again on the login node"):
        again = ada.run("python -m haan train runs/mine/best.yaml --out trained")
    header = dict(line[2:].split(": ", 1) for line in ada.folder.best_yaml.read_text().splitlines() if line[0] == "#")
    assert f"avg.mAP {header['avg_map_at_seed']}; written to trained" in again
    trained = ada.project / "trained"
    assert (trained / "best.safetensors").read_bytes() == (ada.folder.root / "best.safetensors").read_bytes()


@pytest.mark.parametrize("who", STRANGERS)
def test_every_port_that_a_node_opens_refuses_a_stranger(story: Story, who: str) -> None:
    for node, told in story.told.items():
        assert len(told[OWNER]) > 3, f"{node}: {sorted(told[OWNER])}"
        for place, answers in told[who].items():
            assert is_refusal(answers) and answers != {"UNIMPLEMENTED"}, f"{node}, {place}: {answers}"
            assert not is_refusal(told[OWNER][place]), f"{node}, {place}: must be asked what it answers"


def test_the_secrets_of_a_search_are_its_users_alone(story: Story) -> None:
    ada, ben = story.ada, story.ben
    secret = ada.folder.root / "slurm"
    assert secret.stat().st_mode & 0o777 == 0o700 and (secret / "token").stat().st_mode & 0o777 == 0o600
    said = ben.slurm.run(ben.user, f"grep -rlaF -D skip {ada.token} {ada.project} {ada.user.home}", check=False)
    assert not [line for line in said.splitlines() if line.startswith("/")], said


def knock(story: Story, host: int) -> dict[str, dict[str, set[str]]]:
    """What Ada's ports on a node answer to each visitor: who -> ADDRESS:PORT -> answers, of ports that stay open."""
    slurm, ada, ben = story.ada.slurm, story.ada, story.ben
    visits = {WITHOUT: (None, False), WITH_HIS: (ben.token, False), OWNER: (ada.token, True)}
    before = opened(slurm, host, ada.user)
    program = ben.user.home / "knock.py"
    program.write_text((CHECKOUT / "tests" / "knock.py").read_text())
    said = slurm.lab.on(
        host, ["python", program, *sorted(before)], {"KNOCKS": json.dumps(list(visits.values()))}, user=ben.user
    )
    kept = before & opened(slurm, host, ada.user)
    told = [{place: set(one[place]) for place in kept} for one in json.loads(said.splitlines()[-1])]
    return dict(zip(visits, told, strict=True))


def opened(slurm: SlurmLab, host: int, user: User) -> set[str]:
    """Where a user's processes listen on a host, as ADDRESS:PORT. TCP: nothing of ours uses another protocol."""
    found = set()
    for line in slurm.lab.on(host, "ss -Hltunpe 2>/dev/null").splitlines():
        if f"uid:{user.uid} " in line:
            address, _, port = line.split()[4].rpartition(":")
            address = address.strip("[]").removeprefix("::ffff:")
            assert line.startswith("tcp"), line
            found.add(f"{'127.0.0.1' if address in ('*', '0.0.0.0', '::') else address}:{port}")
    return found
