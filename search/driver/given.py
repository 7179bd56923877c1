"""What this process was given of its machine: cores, memory and limits, each with who says so.

Ray counts the machine: of cores it knows no affinity, and of cgroups those of a container alone. Pure but for `look`:
its parts take the folder that stands for / and the environment, so that tests can make them up.
"""

import math
import os
import re
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from haan.errors import InputError
from haan.words import byte_size

_SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
_FILES = 1024  # the most of a process, Ray's raylet, is 60 and some for each worker
_THREADS, _THREADS_A_CORE = 256, 32  # counted on 2 cores: Ray has 170, and each worker 22 before it trains


@dataclass(frozen=True)
class Limit:
    """An amount, and who sets it: in words."""

    amount: float
    source: str


@dataclass(frozen=True)
class Given:
    """What there is for a local Ray. memory: bytes. files, processes: as `ulimit -Hn` and `-u` say; None: no limit.

    threads: how many this user has by now, which count as processes. machine_cores: those of the machine.
    """

    cores_by: Limit
    machine_cores: int
    memory: Limit
    files: int | None = None
    processes: int | None = None
    threads: int = 0

    @property
    def cores(self) -> int:
        """How many CPUs trials may take: whole ones, and one at least."""
        return max(1, math.floor(self.cores_by.amount))

    def __str__(self) -> str:
        cores = f"{self.cores} of the machine's {self.machine_cores} CPUs ({self.cores_by.source})"
        memory = f"{byte_size(int(self.memory.amount))} of memory ({self.memory.source})"
        files = "any number of" if self.files is None else f"{self.files:,}"
        threads = "any number of" if self.processes is None else f"{self.processes:,}"
        return f"{cores}, {memory}, {files} open files (ulimit -Hn), {threads} processes (ulimit -u)"


def look(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Given:
    """What this process was given. root: stands for / where tests make up a machine."""
    machine = os.cpu_count() or 1
    files, processes = _most(resource.getrlimit(resource.RLIMIT_NOFILE)[1]), None
    if os.geteuid():  # the system counts no processes of root
        processes = _most(resource.getrlimit(resource.RLIMIT_NPROC)[0])
    return Given(
        cores(root, environ, len(os.sched_getaffinity(0)), machine),
        machine,
        memory(root),
        files,
        processes,
        0 if processes is None else threads_of(os.getuid(), root / "proc"),
    )


def _most(limit: int) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit


def cores(root: Path, environ: Mapping[str, str], bound: int, machine: int) -> Limit:
    """The least of what the machine, the affinity (`bound`), cgroups and Slurm leave."""
    named = next((name for name in _SLURM if environ.get(name, "").isdigit()), None)
    slurm = [Limit(int(environ[named]), named)] if named else []
    affinity = [Limit(bound, "affinity, as taskset sets it")] if bound < machine else []
    return min([Limit(machine, "all"), *affinity, *_quotas(root), *slurm], key=lambda one: one.amount)


def memory(root: Path) -> Limit:
    """The least of the machine's and of the limits of this process's cgroups, in bytes."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.MULTILINE)
    machine = Limit(int(found[1]) * 1024 if found else math.inf, "the machine's")
    return min([machine, *_memory_limits(root)], key=lambda one: one.amount)


def _quotas(root: Path) -> Iterator[Limit]:
    for folder, name in groups(root, "cpu"):
        if (words := _words(folder / "cpu.max")) and words[0] != "max":
            yield Limit(int(words[0]) / int(words[1]), f"cgroup {name}: cpu.max")
        if (quota := _words(folder / "cpu.cfs_quota_us")) and int(quota[0]) > 0:
            yield Limit(
                int(quota[0]) / int(_words(folder / "cpu.cfs_period_us")[0]), f"cgroup {name}: cpu.cfs_quota_us"
            )


def _memory_limits(root: Path) -> Iterator[Limit]:
    for folder, name in groups(root, "memory"):
        for file in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            words = _words(folder / file)
            if words and words[0] != "max":
                yield Limit(int(words[0]), f"cgroup {name}: {file}")


def groups(root: Path, controller: str) -> Iterator[tuple[Path, str]]:
    """The folders of this process's cgroups that may limit it, and their names, up to the topmost.

    Version 2 has one tree, version 1 one a controller. In a container the names are the host's, and what limits it lies
    in the topmost folder.
    """
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        top = root / "sys/fs/cgroup"
        if controllers:
            if controller not in controllers.split(","):
                continue
            top = next((one for one in (top / controllers, top / controller) if one.is_dir()), top)
        inner = PurePosixPath(path)
        for name in (inner, *inner.parents):
            yield top / str(name).lstrip("/"), str(name)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # no cgroups, or none for this process to see
        return []


def _words(path: Path) -> Sequence[str]:
    return " ".join(_lines(path)).split()


def threads_of(uid: int, proc: Path) -> int:
    """How many threads a user has on this machine."""
    count = 0
    for folder in proc.glob("[0-9]*"):
        try:
            count += len(list((folder / "task").iterdir())) if folder.stat().st_uid == uid else 0
        except OSError:  # it has just ended
            continue
    return count


def check(has: Given) -> None:
    """Raises InputError where Ray could not start or go on."""
    if has.files is not None and has.files < _FILES:
        raise InputError(f"ulimit -n: must let a search open {_FILES:,} files, got {has.files:,}; `ulimit -n {_FILES}`")
    needed = has.threads + _THREADS + _THREADS_A_CORE * has.cores
    if has.processes is not None and has.processes < needed:
        rule = f"must let this user have {needed:,} processes and threads ({has.threads:,} by now)"
        raise InputError(f"ulimit -u: {rule}, got {has.processes:,}; `ulimit -u {needed}`, or ask who set it")
