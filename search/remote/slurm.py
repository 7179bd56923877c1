"""A search on Slurm, from a login node: hands its jobs in, shows it while this terminal is open, ends it.

The run folder lies on a file system that all nodes share, so there is nothing to send and nothing to fetch. What the
jobs do is in `search.remote.slurmnode`.
"""

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from haan.cli import python, run, say
from haan.errors import InputError
from haan.files import check_folder, whole
from haan.words import amount, clean, duration
from haan.words import seconds as seconds_of
from search.driver.batchqueue import lasting, waiting_words
from search.driver.request import Request, named, taken
from search.remote import slurmcommands, slurmfile, watched
from search.remote.head import LOST
from search.remote.jobplan import Plan
from search.remote.slurmfile import SlurmFile
from search.remote.slurmscripts import Scripts
from search.results.folder import RunFolder
from search.results.jobfolder import JobFolder
from search.space.model import Space, most_epochs

_LOOK_S, _ASK_S = 1.0, 15.0
_GONE_S = 60.0  # so long may a job take to end: Slurm's KillWait, and some more
_LATE_S = 30.0  # a shared file system may show a file so much later


@dataclass(frozen=True)
class Handed:
    """A search to hand in, or to watch. cluster: the file. show: tells what is not the driver's word."""

    asked: Request
    cluster: Path
    file: SlurmFile
    space: Space
    name: str
    budget_s: float | None
    options: tuple[str, ...]
    show: Callable[[str], None]

    @property
    def folder(self) -> RunFolder:
        """The run folder, as every node sees it."""
        return RunFolder(self.asked.out.absolute() / self.name)

    @property
    def jobs(self) -> JobFolder:
        """What its jobs share."""
        return self.folder.jobs

    @property
    def again(self) -> str:
        """The command that watches it again, or goes on with it."""
        return watched.again(self.asked, self.cluster, self.options)

    @property
    def stop(self) -> str:
        """The command that ends it."""
        return python("-m", "search.remote.slurm", "stop", self.asked.out / self.name)

    def plan(self, feature_bytes: int | None) -> Plan:
        """What the jobs are told."""
        workers, memory = self.file.workers, {"workers": slurmfile.num_bytes(self.file.workers.memory)}
        if not self.file.together:
            memory["driver"] = slurmfile.num_bytes(self.file.driver.memory)
        return Plan(
            space=str(self.jobs.space / self.asked.path.name),
            out=str(self.folder.root.parent),
            name=self.name,
            trials=self.asked.trials,
            seed=self.asked.seed,
            overrides=self.asked.overrides,
            quiet="--quiet" in self.options,
            again=self.again,
            budget_s=self.budget_s,
            resources={"CPU": workers.cpus, "GPU": workers.gpus},
            most=workers.most,
            memory=memory,
            feature_bytes=feature_bytes,
            together=self.file.together,
            chained=self.file.chain > 1,
            notice=self.file.notice,
            official_seeds=self.asked.official_seeds,
        )


def submit(asked: Request, cluster: Path, time_budget: str | None, quiet: bool, dry_run: bool) -> int:
    """Runs a search on Slurm; the exit code of the search. Raises InputError."""
    file = slurmfile.read(cluster)
    space, name, _ = named(asked)
    slurmcommands.check_here()
    budget_s = None if time_budget is None else seconds_of(time_budget, "--time-budget")
    show = (lambda line: None) if quiet and not dry_run else say
    options = asked.options(name, time_budget, quiet)
    work = Handed(asked, cluster, file, space, name, budget_s, options, show)
    if _is_to_begin(work, dry_run):
        plan = _checked_plan(work)
        scripts = _write(work, plan)
        if dry_run:
            for line in _dry(work, scripts):
                say(line)
            return 0
        _hand_in(work, scripts)
    return finish(work)


def _is_to_begin(work: Handed, dry_run: bool) -> bool:
    """Whether its jobs are to be handed in: not where they are in the queue. Raises InputError."""
    folder, resume = work.folder, work.asked.resume
    check_folder(folder.root)
    if folder.jobs.ended.exists():
        _await_gone(folder.jobs)
    in_queue = slurmcommands.jobs(folder.jobs.ids("driver"))
    if in_queue is None:
        raise InputError("--cluster: Slurm must answer, got no word of the jobs that are in the queue")
    if in_queue and not resume:
        rule = "must be of a run that does not exist yet, unless --resume watches it"
        raise InputError(f"--name: {rule}, got one whose jobs are in the queue: {work.name!r}")
    if in_queue and dry_run:
        raise InputError(f"--dry-run: must be of a run whose jobs are not in the queue, got {work.name!r}")
    if in_queue:
        work.show(f"{work.name} is in the queue or running (job {in_queue[0].id}): watching it")
        return False
    if folder.is_begun and not resume:
        raise taken(folder)
    if folder.root.exists() and not folder.is_run:
        raise taken(folder)
    if resume and not folder.is_run:
        raise InputError(f"{work.asked.out / work.name}: --resume must be of a run that exists, got one that does not")
    left = slurmcommands.jobs(folder.jobs.ids("workers"))
    if left:  # of a driver that was killed
        slurmcommands.cancel(folder.jobs.ids("workers"))
    return True


def _await_gone(jobs: JobFolder) -> None:
    """Waits a while for the drivers of a search that has ended to leave the queue, for they do nothing more."""
    until = time.monotonic() + _GONE_S
    while slurmcommands.jobs(jobs.ids("driver")) and time.monotonic() < until:
        time.sleep(_LOOK_S)


def _checked_plan(work: Handed) -> Plan:
    """Finds wrong input now and not in a job; the plan with what is known of the features. Raises InputError."""
    size = _feature_bytes(work)
    plan = work.plan(size)
    if size is not None:
        plan.store(size)
    return plan


def _feature_bytes(work: Handed) -> int | None:
    """What the features take, once all input is checked; None where this node lacks what that takes: the driver looks.

    Raises InputError.
    """
    if find_spec("torch") is None:  # as in a container's host
        return None
    from search.driver.job import preview

    with tempfile.TemporaryDirectory() as scratch:
        # A run that a dry run left scripts of has not begun, and is there nevertheless.
        asked = replace(work.asked, name=work.name, resume=work.folder.root.exists())
        return preview(asked, RunFolder(Path(scratch, "run"))).feature_bytes


def _write(work: Handed, plan: Plan) -> dict[str, Path]:
    """Makes the job folder anew: the scripts by role."""
    jobs = work.jobs
    if jobs.root.exists():
        shutil.rmtree(jobs.root)
    jobs.make()
    shutil.copyfile(work.asked.path, jobs.space / work.asked.path.name)
    plan.write(jobs)
    jobs.token.touch(0o600)
    jobs.token.write_text(secrets.token_hex(32), encoding="ascii")
    texts = Scripts(work.file, jobs, work.name, work.again.removesuffix(" --resume"), Path.cwd()).texts()
    for role, text in texts.items():
        with whole(jobs.script(role)) as partial:
            partial.write_text(text, encoding="utf-8")
    return {role: jobs.script(role) for role in texts}


def _hand_in(work: Handed, scripts: dict[str, Path]) -> None:
    """Drivers first, each after the one before it, and workers that follow the first. Raises InputError."""
    places, given = slurmfile.key_places(work.cluster), list[str]()
    role = next(iter(scripts))
    part = "workers" if role == "together" else "driver"
    try:
        for _ in range(work.file.chain):
            after = [f"--dependency=afterany:{given[-1]}"] if given else []
            given.append(slurmcommands.hand_in(scripts[role], part, places, work.cluster, *after))
            work.jobs.note_job("driver", given[-1])
        if "workers" in scripts:
            after = f"--dependency=after:{given[0]}"
            workers = slurmcommands.hand_in(scripts["workers"], "workers", places, work.cluster, after)
            work.jobs.note_job("workers", workers)
            given.append(workers)
    except InputError:
        if given:
            slurmcommands.cancel(given)
        raise
    work.show(f"{work.name} is handed in as job(s) {', '.join(given)} and runs by itself: this terminal may close")


def _dry(work: Handed, scripts: dict[str, Path]) -> Iterator[str]:
    """The scripts, what sbatch says of them, and what they may take. Raises InputError."""
    places = slurmfile.key_places(work.cluster)
    for path in scripts.values():
        yield f"--- {path}"
        yield path.read_text(encoding="utf-8").rstrip("\n")
    yield "---"
    refused = list[str]()
    for role, path in scripts.items():
        part = "driver" if role == "driver" else "workers"
        try:
            yield f"sbatch --test-only {path}: {slurmcommands.tried(path, part, places, work.cluster)}"
        except InputError as error:
            refused += error.messages
    if refused:
        raise InputError(list(dict.fromkeys(refused)))
    space, workers = work.space, work.file.workers
    epochs = most_epochs(space)
    yield f"Plan: {space.plan.trials} trials of up to {epochs} epochs = {space.plan.trials * epochs:,} trial-epochs"
    limit_s = slurmfile.seconds(workers.time)
    cards = f", {amount(workers.most * workers.gpus * limit_s, 'GPU')}" if workers.gpus else ""
    yield (
        f"Up to {workers.most} worker(s) for {duration(limit_s)} each: {amount(workers.most * limit_s, 'node')}"
        f"{cards}, and as much again each time that they go back into the queue; those not needed end early"
    )
    yield "To time an epoch: the same command without --cluster and with --dry-run, in a job with a worker's resources"
    yield f"Dry run: nothing was handed in; the scripts are in {work.jobs.root}, and sbatch takes them as they are"


def finish(work: Handed) -> int:
    """Shows the search until it ends; its exit code."""
    try:
        code = _shown(work)
    except KeyboardInterrupt:
        return watched.let_go(work.again, work.stop)
    if watched.is_lost(code):
        watched.say_lost("its node")
    return watched.over(code, work.again)


def _shown(work: Handed) -> int:
    """Shows what the drivers say, and what they wait for, until none is in the queue; the exit code of the search."""
    jobs, skip, asked, words = work.jobs, 0, 0.0, ""
    while True:
        skip = _show_from(jobs.out, skip)
        if jobs.ended.exists():
            _show_from(jobs.out, skip)
            return int(jobs.ended.read_text())
        if time.monotonic() - asked > _ASK_S:
            asked = time.monotonic()
            drivers = slurmcommands.jobs(jobs.ids("driver"))
            if drivers == []:
                return _last(work, skip)
            waiting = waiting_words(drivers or []) if drivers and all(job.waits for job in drivers) else ""
            if waiting and lasting(waiting) != words:
                work.show(f"Waiting for the driver's job {drivers[0].id if drivers else ''}: {waiting}")
            words = lasting(waiting)
        time.sleep(_LOOK_S)


def _show_from(out: Path, skip: int) -> int:
    """Shows the whole lines of a file from there on; up to where they were shown."""
    if not out.exists():
        return skip
    with out.open("rb") as file:
        file.seek(skip)
        content = file.read()
    lines = content[: content.rfind(b"\n") + 1]
    for line in lines.splitlines():
        say(clean(line.decode(errors="replace")))
    return skip + len(lines)


def _last(work: Handed, skip: int) -> int:
    """The exit code that the driver left, which may come late; LOST where there is none. Raises InputError."""
    jobs, until = work.jobs, time.monotonic() + _LATE_S
    while not jobs.ended.exists() and time.monotonic() < until:
        os.listdir(jobs.root)  # noqa: PTH208  # to read a shared folder is to ask its server anew
        time.sleep(_LOOK_S)
        skip = _show_from(jobs.out, skip)
    _show_from(jobs.out, skip)
    if jobs.ended.exists():
        return int(jobs.ended.read_text())
    ended = [job for job in slurmcommands.jobs(jobs.ids("driver"), whole=True) or [] if job.node]
    if not jobs.out.exists() and ended:
        rule = "must be a folder that all nodes share"
        raise InputError(f"{jobs.root}: {rule}, got one that node {ended[-1].node} does not see ({ended[-1].state})")
    return LOST


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)


@app.callback()
def _main() -> None:
    """Commands for a search that was handed in."""


@app.command()
def stop(folder: Annotated[Path, typer.Argument(help="The run folder, runs/NAME.")]) -> None:
    """Ends a search in order and for good; `--resume` goes on with it."""
    slurmcommands.check_here()
    jobs = RunFolder(folder).jobs
    drivers = slurmcommands.jobs(jobs.ids("driver"))
    if not drivers:
        got = "one of which Slurm says nothing now" if drivers is None else "one that has none"
        raise InputError(f"{folder}: must be of a run with jobs in the queue, got {got}")
    running = [job.id for job in drivers if not job.waits]
    if running:
        slurmcommands.cancel(running, "--batch", "--signal=USR2")
        say(f"{folder.name} was asked to end in order")
        return
    with whole(jobs.ended) as partial:
        partial.write_text("130\n", encoding="ascii")
    slurmcommands.cancel([*jobs.ids("driver"), *jobs.ids("workers")])
    say(f"{folder.name} had no driver yet; its jobs are out of the queue")


if __name__ == "__main__":
    run(app)
