"""A search that was broken off anywhere goes on, and ends as one that was not: real processes, real Ray."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from haan.cli import python
from haan.yamlconfig import read_config
from search.results import checkpoints
from search.results.folder import RunFolder, open_study
from search.space.confirmkeys import official_seeds
from search.space.read import read_space
from search.study import journal, record
from search.study.algorithms import make_pruner, make_sampler
from search.study.study import FINISHED, Study
from tests.search.drivers import NAME, RUN, Runs, assert_as_unbroken, driven, kill, until
from tests.search.head import Head
from tests.search.journals import assert_whole, endings, lines, records, under_way
from tests.search.spaces import tiny_space

pytestmark = pytest.mark.ray


@pytest.fixture
def runs(tmp_path: Path, head: Head) -> Iterator[Runs]:
    """Drivers that join a Ray."""
    with driven(tmp_path, head) as found:
        yield found


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Runs]:
    """Drivers that start a Ray of their own each."""
    with driven(tmp_path, None) as found:
        yield found


# Seconds after the start or the last trial's end; records of the search or of the confirmation after the start.
MOMENTS = (("start", 4.0), ("work", 45), ("confirm", 40), ("end", 0.5))


def wait_for(runs: Runs, driver: "subprocess.Popen[str]", kind: str, amount: float) -> None:
    folder, began = runs.folder, time.time()
    if kind == "start":
        until(lambda: time.time() >= began + amount, driver)
    elif kind == "end":
        until(lambda: session_ended(folder.journal, began), driver)
        time.sleep(amount)
    else:
        path = folder.confirm_journal if kind == "confirm" else folder.journal
        before = lines(path)
        until(lambda: lines(path) >= before + amount, driver)


def session_ended(path: Path, since: float) -> bool:
    """Whether a driver that started after `since` says that it is through with its trials."""
    found = records(path)[-1:]
    last = found[0].get("user_attr", {}).get(record.SESSIONS, [{}])[-1] if found else {}
    return last.get("started", 0) > since and last["ended"] is not None


def _was_left(trial: FrozenTrial) -> bool:
    """Whether its driver ended before it did."""
    return any(reason.startswith("its driver ended") for reason in trial.user_attrs["retries"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_driver_killed_in_each_of_its_phases_loses_nothing_and_repeats_nothing(alone: Runs, head: Head) -> None:
    """tests/search/test_kills.py does the same without Ray at forty moments.

    Killed as it starts and at work, it leaves a Ray of its own behind; the others join one, which is there sooner.
    """
    budget = 8
    pruner = {"name": "median", "n_startup_trials": 4, "n_warmup_steps": 4}
    alone.space = tiny_space(alone.home, epochs=10, trials=budget, pruner=pruner, confirm={"top": 2, "seeds": 2})
    folder, known = alone.folder, [[], []]
    for kind, amount in MOMENTS:
        alone.head = None if kind in ("start", "work") else head
        assert kill_at(alone, kind, amount), kind
        told = [endings(records(journal)) for journal in (folder.journal, folder.confirm_journal)]
        for before, now in zip(known, told, strict=True):
            assert now[: len(before)] == before  # nothing that had ended has changed
        known = told
    code, said = alone.run()
    assert code == 0 and "Traceback" not in said, said

    space = read_space(folder.space_yaml)
    trials = assert_whole(folder, budget)
    assert_as_unbroken(folder, trials)
    assert {trial.state.name for trial in trials} == {"COMPLETE", "PRUNED"}
    again = journal.load(folder.confirm_journal)
    assert again is not None
    assert all(run.state == TrialState.COMPLETE for run in again.trials)
    assert len({repr(sorted(run.params.items())) for run in again.trials}) == len(again.trials)
    sessions = open_study(folder).user_attrs[record.SESSIONS]
    assert len(sessions) >= len(MOMENTS) and all(session["ended"] for session in sessions)
    assert any(_was_left(trial) for trial in trials)
    table = pd.read_csv(folder.trials_csv)
    assert table["number"].tolist() == list(range(budget))
    best = read_config(folder.best_yaml)
    assert folder.report.stat().st_size > 0 and folder.predictions.exists()
    assert best.seed == official_seeds(space.base, space.plan.confirm)[0]
    kept = checkpoints.of_run(checkpoints.place(folder, space), checkpoints.TRIAL)
    assert [len(kept.of(trial.number)) for trial in trials] == [trial.state.name == "COMPLETE" for trial in trials]
    assert not [process.name() for process in alone.alive() if process.name().startswith(("raylet", "gcs_server"))]


def kill_at(runs: Runs, kind: str, amount: float) -> bool:
    """Starts a driver and kills it at a moment; whether it was still running then."""
    driver = runs.start()
    wait_for(runs, driver, kind, amount)
    killed = kill(driver)
    assert killed or driver.returncode == 0, runs.out.read_text()
    return killed


@pytest.mark.slow
def test_three_kills_of_trials_processes_cost_no_trial(runs: Runs) -> None:
    budget, kills, rng = 4, 3, random.Random(2)
    runs.space = tiny_space(runs.home, epochs=40, trials=budget, max_failures=kills)
    driver = runs.start()
    for _ in range(kills):
        amount = rng.randint(5, 25)
        wait_for(runs, driver, "work", amount)
        until(lambda: kill_worker(runs, rng), driver)
        assert driver.poll() is None, runs.out.read_text()  # all of them are to be during the search
    code, said = runs.ended(driver)
    assert code == 0 and "Traceback" not in said, said
    trials = assert_whole(runs.folder, budget)
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert_as_unbroken(runs.folder, trials)
    retries = [reason for trial in trials for reason in trial.user_attrs["retries"]]
    assert kills - 2 <= len(retries) <= kills  # a process may die between two trials
    assert all(reason.startswith("its process died: ") for reason in retries)


def kill_worker(runs: Runs, rng: random.Random) -> bool:
    """Kills one of the processes that train; whether there was one."""
    found = runs.workers()
    if found:
        rng.choice(found).kill()
    return bool(found)


@pytest.mark.slow
def test_a_trial_whose_process_dies_more_often_than_it_may_fails_and_says_why(runs: Runs) -> None:
    runs.space = tiny_space(runs.home, epochs=40, trials=3, max_failures=0, concurrent=1, pruner={"name": "none"})
    driver = runs.start()
    wait_for(runs, driver, "work", 10)
    until(lambda: kill_worker(runs, random.Random(0)), driver)
    code, said = runs.ended(driver)
    assert code == 0 and "Traceback" not in said, said
    trials = open_study(runs.folder).get_trials()
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE", "COMPLETE"]
    assert trials[0].user_attrs["failure"].startswith("its process died: ")
    assert "Trials: 2 complete, 0 pruned, 1 failed" in said
    assert f"  failed: {trials[0].user_attrs['failure']} (trial 0)" in said


@dataclass(frozen=True)
class Broken:
    """A search that SIGTERM broke off with trials under way, and what it said."""

    home: Path
    space: Path
    code: int
    said: str

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.home / "runs" / NAME)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, head: Head) -> Iterator[Broken]:
    with driven(tmp_path_factory.mktemp("broken"), head) as runs:
        runs.space = tiny_space(runs.home, epochs=40, trials=40)
        driver = runs.start()
        until(lambda: len(endings(records(runs.folder.journal))) >= 2 and bool(under_way(runs.folder)), driver)
        driver.send_signal(signal.SIGTERM)
        code, said = runs.ended(driver)
        yield Broken(runs.home, runs.space, code, said)


@pytest.mark.slow
def test_an_end_by_the_batch_system_keeps_what_is_finished_and_says_how_to_go_on(broken: Broken) -> None:
    assert broken.code == 130 and "Traceback" not in broken.said, broken.said
    last = broken.said.splitlines()[-1]
    assert last == (
        f"Interrupted; what is finished is kept in runs/{NAME}; to go on: "
        f"{python(RUN, f'runs/{NAME}/space.yaml', '--name', NAME, '--resume')}"
    )
    assert "under way" in broken.said
    trials = open_study(broken.folder).get_trials()
    states = [trial.state for trial in trials]
    assert TrialState.RUNNING in states and TrialState.COMPLETE in states and TrialState.FAIL not in states
    assert broken.folder.best_yaml.exists() and broken.folder.report.exists()


def resumable(broken: Broken, runs: Runs) -> None:
    """Puts a copy of a broken-off run in place."""
    runs.space = shutil.copy(broken.space, runs.home / "tiny.yaml")
    shutil.copytree(broken.folder.root, runs.folder.root)


@pytest.mark.slow
def test_an_interrupted_search_goes_on_with_the_command_that_it_names_and_may_be_extended(
    broken: Broken, runs: Runs
) -> None:
    resumable(broken, runs)
    known, rest = endings(records(runs.folder.journal)), under_way(runs.folder)
    budget = len(open_study(runs.folder).trials) + 2
    words = shlex.split(broken.said.splitlines()[-1].partition("to go on: ")[2])
    assert words[1] == str(RUN)
    code, said = runs.ended(runs.command([sys.executable, *words[1:], "--trials", str(budget)]))
    assert code == 0, said
    assert endings(records(runs.folder.journal))[: len(known)] == known
    trials = assert_whole(runs.folder, budget)
    assert_as_unbroken(runs.folder, [trials[number] for number in rest])
    assert {trial.number for trial in trials if _was_left(trial)} >= set(rest)
    assert yaml.safe_load(runs.folder.space_yaml.read_text())["search"]["trials"] == budget


@pytest.mark.slow
def test_a_journal_cut_anywhere_in_a_last_record_opens_as_the_study_it_was(broken: Broken, tmp_path: Path) -> None:
    """The last record of every kind, one after the other, cut at every byte."""
    space, content = read_space(broken.folder.space_yaml), broken.folder.journal.read_bytes()
    lines = content.splitlines(keepends=True)
    last = {json.loads(line)["op_code"]: i for i, line in enumerate(lines)}
    assert {2, 5, 6, 7, 8} <= set(last)
    path, cuts = tmp_path / "study.journal", 0
    for i in last.values():
        head = b"".join(lines[:i])
        if not head:
            continue
        told = {number: values for number, _, values in endings([json.loads(line) for line in lines[:i]])}
        for cut in range(1, len(lines[i]) - 1):
            path.write_bytes(head + lines[i][:cut])
            journal.repair(path)
            assert path.read_bytes() == head
            cuts += 1
        path.write_bytes(head + lines[i][: len(lines[i]) // 2])
        journal.repair(path)
        study = Study.create(
            name=space.name,
            journal=path,
            sampler=make_sampler(space.sampler, space.base.seed, space.parameters),
            pruner=make_pruner(space.pruner, space.base.optim.epochs),
            parameters=space.parameters,
            epochs=space.base.optim.epochs,
        )
        assert {trial.number: trial.values for trial in study.trials(*FINISHED)} == told
        study.ask()
    assert cuts > 400


@pytest.mark.slow
def test_a_search_goes_on_from_a_journal_cut_in_its_last_record(broken: Broken, runs: Runs) -> None:
    content = broken.folder.journal.read_bytes()
    start = content.rstrip(b"\n").rfind(b"\n") + 1
    known = endings(records(broken.folder.journal))
    resumable(broken, runs)
    runs.folder.journal.write_bytes(content[: (start + len(content)) // 2])
    budget = len(open_study(broken.folder).trials)
    code, said = runs.run("--trials", budget)
    assert code == 0 and "Traceback" not in said, said
    assert endings(records(runs.folder.journal))[: len(known)] == known
    assert_whole(runs.folder, budget)
    assert "study.journal: its last line " in runs.folder.log.read_text()


@pytest.mark.slow
def test_an_interrupt_at_the_terminal_ends_a_search_in_order(alone: Runs) -> None:
    alone.space = tiny_space(alone.home, epochs=40, trials=40)
    driver = alone.start()
    until(lambda: bool(under_way(alone.folder)), driver)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to all that it has started
    code, said = alone.ended(driver)
    assert code == 130 and "Traceback" not in said, said
    assert said.splitlines()[-1].startswith("Interrupted; what is finished is kept in ")
    states = {trial.state for trial in open_study(alone.folder).get_trials()}
    assert TrialState.RUNNING in states and TrialState.FAIL not in states


@pytest.mark.slow
def test_a_search_whose_time_is_spent_ends_in_order(runs: Runs) -> None:
    runs.space = tiny_space(runs.home, epochs=40, trials=1000)
    code, said = runs.run("--time-budget", "8s")
    states = [trial.state.name for trial in open_study(runs.folder).get_trials()]
    assert code == (0 if "COMPLETE" in states else 3), said
    assert "Traceback" not in said and "FAIL" not in states
    assert "Ended early: the time budget is spent; to go on: " in said and f" {RUN} " in said


@pytest.mark.slow
def test_a_search_whose_first_trials_fail_for_one_reason_stops_early_with_that_reason(runs: Runs) -> None:
    code, said = runs.run("--set", "optim.lr=1e30", "--set", "search.trials=30")
    assert code == 3, said
    study = open_study(runs.folder)
    assert 3 <= len(study.trials) < 8 and {trial.state for trial in study.trials} <= {
        TrialState.FAIL,
        TrialState.RUNNING,
    }
    assert not any(trial.user_attrs.get("retries") for trial in study.trials), "it would come again"
    assert "Ended early: the first 3 trials all failed for one reason: loss " in said
    assert "  failed: loss " in said and "Traceback" not in said
