"""What runs in the jobs of a search on Slurm: the driver's Ray and search, and a worker's Ray.

`search.remote.slurmscripts` makes the scripts that start it. It calls none of Slurm's commands, for it may run in a
container: what Slurm tells a job comes in a file, an order, and the job's script acts on the exit code.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from haan.cli import run, say
from haan.errors import InputError
from haan.files import whole
from haan.words import hours
from search.driver.batchqueue import FOLDER, LABEL, BatchQueue, lasting
from search.driver.localray import ray_folder
from search.driver.request import AGAIN as LAST_WORDS
from search.remote import slurmscripts
from search.remote.jobplan import Head, Plan, unlike, versions
from search.remote.raynode import (
    RayNode,
    end_with_parent,
    environment,
    free_port,
    listens,
    nodes_at,
    own_address,
)
from search.results.folder import RunFolder
from search.results.jobfolder import JobFolder
from search.space.read import STORAGE
from search.trials import internals, leaving

_ROOT = Path(__file__).resolve().parents[2]
_DUE, _LEAVE, _END = "due", "leave", "end"  # orders: a time limit is near; end in order, for good; it is cancelled
_ALONE = "alone"  # the same of a search without workers
_LOOK_S, _ASK_S, _SAY_S = 0.5, 2.0, 20.0
_START_S, _TRIES = 120, 3  # for Ray
_GONE_AFTER = 3  # looks in vain, one after the other, at a head whose node says that nobody listens
_SILENT_S = 60.0  # of a head whose node says nothing
_NO_DRIVER_S = 600  # a worker without one keeps its node for so long
_NO_WORKER_S = 60  # until a search ends that has none and gets none
_QUIET_S = 3.0  # once no trial of a node that is to leave has worked for so long, all have saved
_BEFORE_S = 10  # that a node is given up before its time
_CANCELLED_S = 10  # after which a search that was not told with its job is told
_KILLED_S = 15  # after which a cancelled one is ended: it may wait for Ray, which is gone; Slurm's KillWait is 30
_REPORT_S = 10  # for the report of one that could not write it
_IN_ORDER = (0, 2, 3, 130)  # exit codes of a search that has said all


class Ordered(Exception):
    """An order came while something was waited for."""


class Orders:
    """What Slurm told this job, which its script puts into a file."""

    def __init__(self, folder: JobFolder):
        self._file, self._cancelled = folder.orders / job_id(), False
        signal.signal(signal.SIGTERM, self._cancel)

    def _cancel(self, number: int, frame: FrameType | None) -> None:
        self._cancelled = True

    def given(self) -> str | None:
        """The last one; None before any."""
        if self._cancelled:
            return _END
        try:
            return self._file.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def obey(self) -> None:
        """Raises Ordered where one was given."""
        order = self.given()
        if order is not None:
            raise Ordered(order)


def job_id() -> str:
    """This job's, as squeue has it."""
    return os.environ.get("HAAN_JOB", "job")


# The driver


def drive(folder: JobFolder) -> int:
    """The driver's job; its exit code: the search's, or slurmscripts.AGAIN. Raises InputError."""
    plan, orders = Plan.read(folder), Orders(folder)
    os.environ.setdefault(STORAGE, plan.out)  # which all nodes share
    try:
        store = _store(plan, folder)
        with ray_folder() as tmp, _head(plan, folder, tmp, store, orders) as (node, address):
            there, queue = Head(address, socket.gethostname(), versions(), store), BatchQueue(folder)
            with _announced(folder, there):
                if not plan.together:
                    _await_worker(address, queue, orders, node)
                return _search(plan, folder, environment(folder, tmp), there, orders, node, queue)
    except Ordered as ordered:
        return _last_words(plan, str(ordered))


def _store(plan: Plan, folder: JobFolder) -> int:
    """Bytes of each node's object store. Input that nobody could check yet is checked before workers are waited for.

    Raises InputError.
    """
    if plan.feature_bytes is not None:
        return plan.store(plan.feature_bytes)
    known = subprocess.run(
        [sys.executable, "-m", "search.remote.slurmnode", "check", str(folder.root)], stdout=subprocess.PIPE, text=True
    )  # in a process of its own, which takes PyTorch with it when it ends
    if known.returncode:
        raise InputError([])  # its messages stand there already
    return plan.store(int(known.stdout))


@contextmanager
def _head(plan: Plan, folder: JobFolder, tmp: Path, store: int, orders: Orders) -> Iterator[tuple[RayNode, str]]:
    """The cluster's head on this node, and its address, as soon as others may join. Raises InputError, Ordered."""
    own = _size(plan) if plan.together else ["--num-cpus=0", "--num-gpus=0"]
    for left in reversed(range(_TRIES)):
        address = f"{own_address()}:{free_port()}"
        words = ["--head", f"--port={address.rpartition(':')[2]}", f"--ray-client-server-port={free_port()}"]
        words += ["--include-dashboard=false", "--no-monitor", f"--object-store-memory={store}", *_where(), *own]
        node = RayNode(words, environment(folder, tmp), tmp)
        try:
            if _is_up(node, address, orders):
                yield node, address
                return
            if not left:  # another process may have taken a port in between
                raise InputError(f"node {socket.gethostname()}: Ray must start here, got: {node.why()}")
        finally:
            node.stop()


def _is_up(node: RayNode, address: str, orders: Orders) -> bool:
    """Waits until a head answers; whether it does. Raises Ordered."""
    until = time.monotonic() + _START_S
    while node.runs and time.monotonic() < until:
        orders.obey()
        if nodes_at(address):
            return True
        time.sleep(_LOOK_S)
    return False


def _where() -> list[str]:
    address = own_address()
    return [] if address.startswith("127.") else [f"--node-ip-address={address}"]


def _size(plan: Plan) -> list[str]:
    """What a node that trains tells of itself."""
    cpus, gpus = (f"{plan.resources[name]:g}" for name in ("CPU", "GPU"))
    return [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--labels={LABEL}={job_id()}"]


@contextmanager
def _announced(folder: JobFolder, there: Head) -> Iterator[None]:
    """Workers may join while this lasts."""
    with whole(folder.address) as partial:
        partial.write_text(json.dumps(asdict(there)), encoding="utf-8")
    try:
        yield
    finally:
        folder.address.unlink(missing_ok=True)


def _workers(address: str) -> int:
    return sum(not node.is_head for node in nodes_at(address))


def _await_worker(address: str, queue: BatchQueue, orders: Orders, node: RayNode) -> None:
    """Waits for the first worker: before it nobody knows what it has. Raises InputError where none comes, Ordered."""
    said, words = -_SAY_S, ""
    while not _workers(address):
        for line in queue.news():
            say(line)
        if queue.alive() == []:
            raise InputError(f"{queue.folder.root}: must get a worker, got none: all of their jobs have ended")
        now = queue.words(0)
        if queue.jobs() is not None and lasting(now) != words and time.monotonic() - said > _SAY_S:
            say(f"Waiting for the first worker: {now}")
            said, words = time.monotonic(), lasting(now)
        if not node.runs:
            raise InputError(f"node {socket.gethostname()}: Ray must stay up, got: {node.why()}")
        _pause(_ASK_S, orders.obey)


def _pause(seconds: float, look: Callable[[], object]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        look()
        time.sleep(_LOOK_S)


def _search(
    plan: Plan,
    folder: JobFolder,
    env: dict[str, str],
    there: Head,
    orders: Orders,
    node: RayNode,
    queue: BatchQueue,
) -> int:
    """Runs the search until it ends or is to end; the job's exit code."""
    began = time.monotonic()
    command = [sys.executable, str(_ROOT / "search" / "run.py"), *plan.words, *_budget(plan, folder)]
    command += ["--address", there.address]
    env = {**env, FOLDER: str(folder.root), LAST_WORDS: plan.again}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=env, preexec_fn=end_with_parent)
    order = _until_over(process, orders, node, _Loneliness(plan, queue, there.address))
    _note_spent(folder, time.monotonic() - began)
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    if order == _END and code not in _IN_ORDER:
        _report(Path(plan.out, plan.name))
    return code if order is None or code in (0, 2, 3) else _last_words(plan, order)


def _until_over(process: "subprocess.Popen[bytes]", orders: Orders, node: RayNode, alone: "_Loneliness") -> str | None:
    """Waits for the search, and tells it to end in order where an order comes; which came.

    Of a job that is cancelled Slurm ends all in less than a minute, and what is said of it has to be said before.
    """
    order, told = None, False
    since = 0.0
    while process.poll() is None:
        time.sleep(_LOOK_S)
        if order is None:
            order = orders.given() or (_END if not node.runs else None) or alone.order()
            since = time.monotonic()
        # Slurm cancels all processes of a job at once, and a second word would cut what the first one began.
        if order is not None and not told and time.monotonic() - since >= (_CANCELLED_S if order == _END else 0):
            process.terminate()
            told = True
        if order == _END and time.monotonic() - since >= _KILLED_S:
            process.kill()
    return order


def _report(run: Path) -> None:
    """The report of a cancelled search that Ray ended, for Ray was cancelled with it, before it was written."""
    command = [sys.executable, str(_ROOT / "search" / "report.py"), str(run)]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_REPORT_S)


class _Loneliness:
    """Whether a search has had no worker for a while, and gets none any more."""

    def __init__(self, plan: Plan, queue: BatchQueue, address: str):
        self._plan, self._queue, self._address = plan, queue, address
        self._asked, self._since = time.monotonic(), float("inf")

    def order(self) -> str | None:
        """The order to end, then."""
        now = time.monotonic()
        if self._plan.together or now - self._asked < 10 * _ASK_S:
            return None
        self._asked = now
        is_alone = self._queue.alive() == [] and not _workers(self._address)
        self._since = min(self._since, now) if is_alone else float("inf")
        if now - self._since < _NO_WORKER_S:
            return None
        say("All jobs of workers have ended, so the search ends, too")
        return _ALONE


def _last_words(plan: Plan, order: str) -> int:
    """What is said of a driver that ends before the search has; its exit code."""
    if order != _DUE:
        say(f"The driver has ended before the search; to go on: {plan.again}")
        return 130
    what = "the next one of the chain goes on" if plan.chained else "it goes back into the queue, and goes on later"
    say(f"The driver's time limit is near: {what}")
    return slurmscripts.AGAIN


def _budget(plan: Plan, folder: JobFolder) -> list[str]:
    """What drivers before this one left of the time budget."""
    return [] if plan.budget_s is None else ["--time-budget", f"{max(plan.budget_s - _spent(folder), 1):.0f}s"]


def _spent(folder: JobFolder) -> float:
    return float(folder.spent.read_text(encoding="ascii")) if folder.spent.exists() else 0.0


def _note_spent(folder: JobFolder, seconds: float) -> None:
    total = _spent(folder) + seconds
    with whole(folder.spent) as partial:
        partial.write_text(f"{total:.1f}", encoding="ascii")


# A worker


def work(folder: JobFolder) -> int:
    """A worker's job; its exit code: 0 when it is not needed any more, or slurmscripts.AGAIN. Raises InputError."""
    plan, orders = Plan.read(folder), Orders(folder)
    try:
        with ray_folder() as tmp:
            while (there := _await_head(folder, orders)) is not None:
                _check_alike(there)
                _serve(plan, folder, there, orders, tmp)
    except Ordered as ordered:
        return slurmscripts.AGAIN if str(ordered) == _DUE else 0
    return slurmscripts.AGAIN


def _await_head(folder: JobFolder, orders: Orders) -> Head | None:
    """Waits for a driver whose Ray answers; None where none came in time, or the search has ended. Raises Ordered."""
    until = time.monotonic() + _NO_DRIVER_S
    while time.monotonic() < until:
        names = {one.name for one in folder.root.iterdir()}  # to read a shared folder is to ask its server anew
        if folder.ended.name in names:
            return None
        there = _announced_head(folder) if folder.address.name in names else None
        if there is not None and listens(there.address):
            return there
        _pause(1.0, orders.obey)
    say(f"No driver for {hours(_NO_DRIVER_S)}")
    return None


def _announced_head(folder: JobFolder) -> Head | None:
    try:
        return Head(**json.loads(folder.address.read_text(encoding="utf-8")))
    except FileNotFoundError:  # it has just gone
        return None


def _check_alike(there: Head) -> None:
    """Raises InputError where Python or a package that objects travel between is another than the driver's."""
    others = unlike(versions(), there.versions)
    if others:
        rule = f"Python and packages must be those of the driver's node {there.host}"
        raise InputError(f"node {socket.gethostname()}: {rule}, got {', '.join(others)}")


def _serve(plan: Plan, folder: JobFolder, there: Head, orders: Orders, tmp: Path) -> None:
    """A node of the driver's Ray until the driver is gone. Raises InputError, and Ordered once its trials have gone."""
    said = ""
    for _ in range(_TRIES):
        words = [f"--address={there.address}", f"--object-store-memory={there.store}", *_size(plan), *_where()]
        node = RayNode(words, environment(folder, tmp), tmp)
        try:
            if _stay(node, there, orders) or listens(there.address) is False:
                return
            said = node.why()
        except Ordered as ordered:
            if str(ordered) != _END:
                _drain(there, tmp, plan.notice - _BEFORE_S)
            raise
        finally:
            node.stop()
    raise InputError(f"node {socket.gethostname()}: Ray must stay up, got: {said}")


def _stay(node: RayNode, there: Head, orders: Orders) -> bool:
    """Until the head is gone (True), or Ray has ended here (False). Raises Ordered."""
    vain, heard = 0, time.monotonic()
    while node.runs:
        _pause(_ASK_S, orders.obey)
        answer = listens(there.address)
        vain = vain + 1 if answer is False else 0
        heard = heard if answer is None else time.monotonic()
        if vain >= _GONE_AFTER or time.monotonic() - heard > _SILENT_S:
            return True
    return False


def _drain(there: Head, tmp: Path, seconds: float) -> None:
    """Has the trials of this node save and go on elsewhere, for so long at most."""
    until = time.monotonic() + max(seconds, 1.0)
    leaving.give_notice(tmp)
    mine = [node.id for node in nodes_at(there.address) if node.labels.get(LABEL) == job_id()]
    for node in mine:
        try:
            internals.drain(there.address, node, "its job ends", until - time.monotonic())
        except OSError as error:
            say(str(error))
    worked = time.monotonic()
    while mine and time.monotonic() < until and time.monotonic() - worked < _QUIET_S:
        worked = time.monotonic() if leaving.num_at_work(tmp) else worked
        time.sleep(_LOOK_S)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)
Folder = Annotated[Path, typer.Argument(help="The job folder, runs/NAME/slurm.")]


@app.command()
def driver(folder: Folder) -> None:
    """Ray's head, which trains nothing, and the search."""
    raise typer.Exit(drive(JobFolder(folder)))


@app.command()
def together(folder: Folder) -> None:
    """The same on a node that trains as well."""
    raise typer.Exit(drive(JobFolder(folder)))


@app.command()
def worker(folder: Folder) -> None:
    """A node that trains."""
    jobs = JobFolder(folder)
    try:
        code = work(jobs)
    except InputError as error:
        with whole(jobs.notes / job_id()) as partial:
            partial.write_text("; ".join(error.messages), encoding="utf-8")
        raise
    raise typer.Exit(code)


@app.command()
def check(folder: Folder) -> None:
    """Checks the input; prints how many bytes the features take."""
    from search.driver.job import preview  # with PyTorch

    asked = Plan.read(JobFolder(folder)).asked
    with tempfile.TemporaryDirectory() as scratch:
        say(str(preview(asked, RunFolder(Path(scratch, "run"))).feature_bytes))


if __name__ == "__main__":
    run(app)
