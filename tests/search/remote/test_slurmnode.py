"""What the jobs of a search on Slurm do by themselves, without Slurm and without Ray."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest

from haan.errors import InputError
from search.driver.batchqueue import BatchQueue
from search.remote import raynode, slurmnode, slurmscripts
from search.remote.jobplan import Head, Plan, unlike, versions
from search.remote.slurmnode import Ordered, Orders
from search.results.folder import RunFolder
from search.results.jobfolder import JobFolder
from tests.paths import ROOT

PLAN = Plan(
    space="/s/tiny.yaml",
    out="/s/runs",
    name="a",
    trials=None,
    seed=2,
    overrides=("data.root=/x",),
    quiet=True,
    again="the command",
    budget_s=3600.0,
    resources={"CPU": 4, "GPU": 1},
    most=2,
    memory={"workers": 2**33, "driver": 2**33},
    feature_bytes=2**30,
    together=False,
    chained=False,
    notice=60,
    official_seeds=1,
)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[JobFolder]:
    folder = RunFolder(tmp_path / "a").jobs
    folder.make()
    PLAN.write(folder)
    before = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def port() -> Iterator[str]:
    """Where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_plan_is_read_as_it_was_written(jobs: JobFolder) -> None:
    assert Plan.read(jobs) == PLAN
    given = ["--name", "a", "--out", "/s/runs", "--seed", "2", "--official-seeds", "1", "--set", "data.root=/x"]
    assert PLAN.words == ["/s/tiny.yaml", *given, "--quiet", "--resume"]
    assert PLAN.asked.resume and PLAN.asked.out == Path("/s/runs") and PLAN.asked.official_seeds == 1


def test_a_run_folder_with_nothing_but_its_jobs_can_be_begun(jobs: JobFolder) -> None:
    run = RunFolder(jobs.root.parent)
    assert run.is_run and not run.is_begun
    (run.root / "other").touch()
    assert not run.is_run
    run.lock.touch()
    assert run.is_run and run.is_begun


def test_versions_that_differ_are_named() -> None:
    own = versions()
    assert unlike(own, own) == [] and own["Python"].startswith("3.")
    assert unlike(own, {**own, "ray": "1.0"}) == [f"ray {own['ray']} in place of 1.0"]
    head = Head("h:1", "h1", {**own, "torch": "0"}, 1)
    with pytest.raises(
        InputError, match="Python and packages must be those of the driver's node h1, got torch .* of 0"
    ):
        slurmnode._check_alike(head)


def test_features_take_at_most_half_of_a_jobs_memory(jobs: JobFolder) -> None:
    assert slurmnode._store(PLAN, jobs) == int(1.25 * 2**30) + 2**28
    with pytest.raises(InputError, match=r"workers.memory, driver.memory: must each be twice .*5.2 GiB\), got 8.0 GiB"):
        slurmnode._store(replace(PLAN, feature_bytes=4 * 2**30), jobs)


def test_the_time_budget_is_that_of_all_drivers_together(jobs: JobFolder) -> None:
    assert slurmnode._budget(PLAN, jobs) == ["--time-budget", "3600s"]
    for seconds in (600.0, 1000.0):
        slurmnode._note_spent(jobs, seconds)
    assert slurmnode._budget(PLAN, jobs) == ["--time-budget", "2000s"]
    slurmnode._note_spent(jobs, 5000)
    assert slurmnode._budget(PLAN, jobs) == ["--time-budget", "1s"]  # it ends in order at once
    assert slurmnode._budget(replace(PLAN, budget_s=None), jobs) == []


def test_an_order_is_read_from_its_file_and_a_cancelled_job_knows_it(
    jobs: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HAAN_JOB", "7_1")
    orders = Orders(jobs)
    orders.obey()
    (jobs.orders / "7_1").write_text("due\n")
    with pytest.raises(Ordered, match="due"):
        orders.obey()
    signal.raise_signal(signal.SIGTERM)
    assert orders.given() == "end"


def announce(jobs: JobFolder, address: str) -> None:
    jobs.address.write_text(json.dumps(asdict(Head(address, "h1", versions(), 1))))


def test_a_worker_waits_for_a_driver_that_answers(jobs: JobFolder, port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurmnode, "_NO_DRIVER_S", 1.5)
    assert slurmnode._await_head(jobs, Orders(jobs)) is None
    announce(jobs, f"127.0.0.1:{raynode.free_port()}")  # left by a driver that was killed
    assert slurmnode._await_head(jobs, Orders(jobs)) is None
    announce(jobs, port)
    there = slurmnode._await_head(jobs, Orders(jobs))
    assert there is not None and there.address == port
    jobs.ended.write_text("0\n")
    assert slurmnode._await_head(jobs, Orders(jobs)) is None


class _Node:
    runs = True


def search(code: int) -> "subprocess.Popen[bytes]":
    """A search that ends in order when it is told to."""
    loop = f"import signal, sys, time; signal.signal(15, lambda *_: sys.exit({code})); print('up', flush=True)"
    process = subprocess.Popen([sys.executable, "-c", f"{loop}; time.sleep(60)"], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline()
    return process


class _Company:
    def order(self) -> None:
        """None, for there are workers."""


@pytest.mark.parametrize(
    ("order", "code", "said"),
    [
        ("due", slurmscripts.AGAIN, "The driver's time limit is near: it goes back into the queue, and goes on later"),
        ("leave", 130, "The driver has ended before the search; to go on: the command"),
    ],
)
def test_a_search_is_told_to_end_in_order(
    jobs: JobFolder, capsys: pytest.CaptureFixture[str], order: str, code: int, said: str
) -> None:
    orders = Orders(jobs)
    (jobs.orders / slurmnode.job_id()).write_text(order)
    node: Any = _Node()
    company: Any = _Company()
    with search(130) as process:
        assert slurmnode._until_over(process, orders, node, company) == order and process.returncode == 130
    assert slurmnode._last_words(PLAN, order) == code
    assert capsys.readouterr().out == f"{said}\n"


def test_a_cancelled_search_that_does_not_end_is_ended_before_slurm_ends_all(
    jobs: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurmnode, "_CANCELLED_S", 0.5)
    monkeypatch.setattr(slurmnode, "_KILLED_S", 1)
    (jobs.orders / slurmnode.job_id()).write_text("end")
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    node: Any = _Node()
    company: Any = _Company()
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert slurmnode._until_over(process, Orders(jobs), node, company) == "end"
    assert process.returncode == -signal.SIGKILL


def test_a_cancelled_search_that_ray_ends_leaves_a_report(
    jobs: JobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(shutil.copytree(ROOT / "tests" / "frozen" / "interrupted", tmp_path / "interrupted"))
    run.report.unlink(missing_ok=True)
    commands = tmp_path / "root" / "search"
    commands.mkdir(parents=True)
    (commands / "run.py").write_text("import os; os._exit(1)")  # as Ray does where its raylet is gone
    (commands / "report.py").symlink_to(ROOT / "search" / "report.py")
    monkeypatch.setattr(slurmnode, "_ROOT", tmp_path / "root")
    monkeypatch.setattr(slurmnode, "_REPORT_S", 120)
    (jobs.orders / slurmnode.job_id()).write_text("end")
    plan, node = replace(PLAN, out=str(tmp_path), name="interrupted"), cast(raynode.RayNode, _Node())
    head = Head("127.0.0.1:1", "h1", {}, 0)
    code = slurmnode._search(plan, jobs, dict(os.environ), head, Orders(jobs), node, BatchQueue(jobs))
    assert code == 130 and "to go on: the command" in capsys.readouterr().out
    assert run.report.read_text().rstrip().endswith("</html>")


def test_what_reaches_ray_is_the_runs_token_and_nobody_elses(jobs: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of another")
    found = raynode.environment(jobs, jobs.root)
    assert found["RAY_AUTH_MODE"] == "token" and found["RAY_AUTH_TOKEN_PATH"] == str(jobs.token)
    assert not {"RAY_ADDRESS", "RAY_AUTH_TOKEN"} & set(found)
    assert found["GRPC_ENABLE_FORK_SUPPORT"] == "0"


def test_a_closed_port_does_not_listen_and_an_open_one_does(port: str) -> None:
    assert raynode.listens(port) is True and raynode.listens(f"127.0.0.1:{raynode.free_port()}") is False
    assert raynode.nodes_at(f"127.0.0.1:{raynode.free_port()}") == []


def test_rays_folder_is_short_for_its_user_alone_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/scratch/of/a/job/with/a/long/path")
    with slurmnode.ray_folder() as folder:
        assert folder.parent == Path("/tmp") and folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


_PARENT = """
import subprocess, sys, time
from search.remote.raynode import end_with_parent
child = subprocess.Popen(["sleep", "60"], start_new_session=True, preexec_fn=end_with_parent)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_what_a_job_starts_ends_with_it_however_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip(), "stat")
        assert child.read_text().split()[2] != "Z"
        parent.kill()
    until = time.monotonic() + 30
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < until
        time.sleep(0.05)
