"""Workers that are jobs of Slurm's: which may still come, what Slurm says of those that wait, which are not needed.

The job that drives the search leaves what squeue says in a file, and takes what is to be released from another.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from haan.files import whole
from haan.words import clean
from search.results.jobfolder import JobFolder

FOLDER = "HAAN_JOBS"  # in a driver's environment: the folder of its jobs
LABEL = "haan-job"  # of a Ray node: the job that it is
SQUEUE_FORMAT = "%i|%T|%r|%S|%N"  # what `parsed` reads
_KIND = "slurm worker"
_OVER = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED")
_OVER += ("REVOKED", "TIMEOUT")
_BROKE = ("BOOT_FAIL", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
_WAITS = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED", "STOPPED")
FOR_EVER = {  # reasons that no waiting changes
    "PartitionTimeLimit": "time is above the partition's limit",
    "PartitionNodeLimit": "more nodes are asked for than the partition gives",
    "PartitionConfig": "the partition does not give what is asked for",
    "BadConstraints": "no node has what is asked for",
    "AccountNotAllowed": "the partition does not take this account",
    "QOSNotAllowed": "the partition does not take this qos",
    "InvalidAccount": "Slurm knows no such account",
    "InvalidQOS": "Slurm knows no such qos",
    "JobHeldUser": "`scontrol release` lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "DependencyNeverSatisfied": "the job that it follows can't begin any more",
    "launch_failed_requeued_held": "a node could not start it; `scontrol release` lets it go",
    **{f"QOSMax{what}PerJob": "a job asks for more than its qos gives" for what in ("CPU", "GRES", "Memory", "Node")},
    **{f"QOSMax{what}PerJobLimit": "a job asks for more than its qos gives" for what in ("Cpu", "GRES", "Node")},
    "QOSMaxWallDurationPerJobLimit": "time is above the limit of its qos",
    "AssocMaxWallDurationPerJobLimit": "time is above the limit of the account",
}
_EXPECTED = re.compile(r", expected (?:\d{4}-\d\d-\d\d )?\d\d:\d\d")
_NOT_TAKEN = re.compile(r"Job's (account|QOS|qos) not (?:permitted|known)")  # a sentence in the place of the word


@dataclass(frozen=True)
class QueuedJob:
    """A job as squeue has it. state, reason: in Slurm's words. start: when it began, or may; None: not known."""

    id: str
    state: str
    reason: str = ""
    start: datetime | None = None
    node: str = ""

    @property
    def waits(self) -> bool:
        """Whether it has no node."""
        return self.state in _WAITS

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good."""
        return self.state in _OVER


def parsed(text: str) -> tuple[QueuedJob, ...]:
    """The lines of squeue in that format; what is none of them is left out."""
    rows = [line.strip().split("|") for line in text.splitlines()]
    return tuple(QueuedJob(row[0], row[1], row[2], _moment(row[3]), row[4]) for row in rows if len(row) == 5)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # N/A
        return None


def waiting_words(jobs: Sequence[QueuedJob]) -> str:
    """Why jobs wait, in Slurm's words, as in `5 pending: Resources, expected 18:40`; "" where none does."""
    waiting = [job for job in jobs if job.waits and job.reason != "None"]  # which Slurm has not looked at yet
    if not waiting:
        return ""
    reasons = [reason for reason, _ in Counter(job.reason for job in waiting).most_common()]
    starts = sorted(job.start for job in waiting if job.start is not None)
    expected = f", expected {_clock(starts[0])}" if starts else ""
    never = next((f"; waiting won't change it: {why}" for why in map(_never, reasons) if why), "")
    return clean(f"{len(waiting)} pending: {', '.join(reasons)}{expected}{never}")


def lasting(words: str) -> str:
    """Such words without when a job is expected, which changes all the time."""
    return _EXPECTED.sub("", words)


def _never(reason: str) -> str:
    """Why no waiting changes a reason; "" where it may."""
    sentence = _NOT_TAKEN.match(reason)
    return f"the partition does not take this {sentence[1].lower()}" if sentence else FOR_EVER.get(reason, "")


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M}" if moment.date() == datetime.now().date() else f"{moment:%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class BatchQueue:
    """The workers' jobs of one run."""

    folder: JobFolder

    @classmethod
    def here(cls) -> "BatchQueue | None":
        """That of the driver in this process, where Slurm starts its workers."""
        return cls(JobFolder(Path(os.environ[FOLDER]))) if os.environ.get(FOLDER) else None

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """What was handed in."""
        return json.loads(self.folder.plan.read_text(encoding="utf-8"))

    @property
    def most(self) -> int:
        """How many workers there may be."""
        return int(self.plan["most"])

    @property
    def resources(self) -> Mapping[str, float]:
        """What each has."""
        return self.plan["resources"]

    def jobs(self) -> tuple[QueuedJob, ...] | None:
        """All that squeue listed last; None before it has listed any."""
        try:
            return parsed(self.folder.queue.read_text(encoding="utf-8", errors="replace")) or None
        except FileNotFoundError:
            return None

    def alive(self) -> list[QueuedJob] | None:
        """Those that run or may still run; None where that isn't known."""
        jobs = self.jobs()
        return None if jobs is None else [job for job in jobs if not job.is_over]

    def as_autoscaler(self) -> dict[str, Any]:
        """What may come, as the configuration of an autoscaler would say it."""
        alive = self.alive()
        beside = self.most - bool(self.plan["together"])  # the first node of a whole allocation is the head
        most = beside if alive is None else min(len(alive), beside)
        kinds = {_KIND: {"resources": dict(self.resources), "max_workers": most}}
        return {"max_workers": most, "available_node_types": kinds}

    def words(self, up: int, released: Collection[str] = ()) -> str:
        """How many workers there are and what is waited for, in a line. released: jobs that squeue may still list."""
        alive = [job for job in self.alive() or [] if job.id not in released]
        starting = len([job for job in alive if not job.waits]) - up
        parts = [f"{up} of {self.most} workers"]
        parts += [f"{starting} starting"] if starting > 0 else []
        parts += [waiting_words(alive)] if waiting_words(alive) else []
        return "; ".join(parts)

    def news(self, joined: Sequence[str] = ()) -> list[str]:
        """Why jobs did not do their work, each once, whichever driver asks. joined: those that did."""
        known = {**self._broken(), **self._notes()}
        told = set(self.folder.told.read_text(encoding="ascii").split()) if self.folder.told.exists() else set()
        new = [job for job in sorted(known) if job not in told and job not in joined]
        if new:
            with self.folder.told.open("a", encoding="ascii") as file:
                file.write("".join(f"{job}\n" for job in new))
        return [known[job] for job in new]

    def _notes(self) -> dict[str, str]:
        """By job, what its own script or Python said."""
        files = [one for one in self.folder.notes.iterdir() if one.suffix != ".partial"]
        return {one.name: clean(one.read_text(encoding="utf-8", errors="replace").strip()) for one in files}

    def _broken(self) -> dict[str, str]:
        """By job, what is to be said of one that ended without a word."""
        folder = self.folder.root
        return {
            job.id: f"worker {job.id} on {job.node or 'no node'} ended without a word: {job.state} ({job.reason}); if "
            f"{folder}/workers-{job.id}.out is not there, that node does not see the folder"
            for job in self.jobs() or ()
            if job.state in _BROKE
        }

    def release(self, pending: Sequence[str], up: Sequence[str]) -> None:
        """Gives jobs back to Slurm: those that have not begun are cancelled, workers that are up leave in order."""
        with whole(self.folder.release) as partial:
            lines = [*(f"cancel {job}\n" for job in pending), *(f"leave {job}\n" for job in up)]
            partial.write_text("".join(lines), encoding="utf-8")


@dataclass(frozen=True)
class Worker:
    """A worker that is up. running: trials there."""

    job: str
    running: int


def surplus(needed: int, each: int, up: Sequence[Worker], coming: Sequence[QueuedJob]) -> tuple[list[str], list[str]]:
    """The jobs that the rest of a search can't fill: of those that have not joined, and of idle workers that are up.

    needed: trials at once, at most, from now on. each: how many a worker holds. coming: jobs that have not joined;
    those that wait go first, the last of an array before the others.
    """
    keep = -(-needed // each)
    idle = [worker.job for worker in up if not worker.running]
    kept_idle = max(keep - (len(up) - len(idle)), 0)
    kept_coming = max(keep - len(up), 0)
    by_need = sorted(coming, key=lambda job: (job.waits, _index(job.id)))
    return [job.id for job in by_need[kept_coming:]], idle[kept_idle:]


def _index(job: str) -> int:
    number = job.rpartition("_")[2]
    return int(number) if number.isdigit() else 0
