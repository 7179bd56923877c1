"""What a process was given of its machine: made-up trees of /proc and /sys/fs/cgroup."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from haan.errors import InputError
from search.driver import given
from search.driver.given import Given, Limit

GIB = 2**30


def machine(root: Path, cgroup: str = "", **files: str) -> Path:
    """A machine of 64 GiB. cgroup: of this process. files: below /sys/fs/cgroup, `_1_` for a slash, `_0_` for a dot."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal:       {64 * 2**20} kB\nMemFree:        1 kB\n")
    if cgroup:
        (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("_1_", "/").replace("_0_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


V2 = "0::/jobs/job_7/step_0\n"
V1 = "11:cpuset:/\n4:cpu,cpuacct:/jobs/job_7\n3:memory:/jobs/job_7\n1:name=systemd:/user.slice\n0::/user.slice\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "environ", "bound", "expected"),
    [
        ("", {}, {}, 32, (32, "all")),
        ("", {}, {}, 1, (1, "affinity, as taskset sets it")),
        (V2, {"jobs_1_job_7_1_cpu_0_max": "max 100000"}, {}, 32, (32, "all")),
        (V2, {"jobs_1_job_7_1_cpu_0_max": "250000 100000"}, {}, 32, (2.5, "cgroup /jobs/job_7: cpu.max")),
        (V2, {"jobs_1_cpu_0_max": "4 1", "jobs_1_job_7_1_cpu_0_max": "9 1"}, {}, 32, (4, "cgroup /jobs: cpu.max")),
        # In a container: the names are the host's, or /, and the file lies in the topmost folder.
        (V2, {"cpu_0_max": "300 100"}, {}, 32, (3, "cgroup /: cpu.max")),
        (
            V1,
            {
                "cpu,cpuacct_1_jobs_1_job_7_1_cpu_0_cfs_quota_us": "600000",
                "cpu,cpuacct_1_jobs_1_job_7_1_cpu_0_cfs_period_us": "100000",
            },
            {},
            32,
            (6, "cgroup /jobs/job_7: cpu.cfs_quota_us"),
        ),
        (V1, {"cpu_1_cpu_0_cfs_quota_us": "-1", "cpu_1_cpu_0_cfs_period_us": "100000"}, {}, 32, (32, "all")),
        (V1, {"cpu_1_cpu_0_cfs_quota_us": "5", "cpu_1_cpu_0_cfs_period_us": "1"}, {}, 4, (4, "affinity")),
        ("", {}, {"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "16"}, 32, (8, "SLURM_CPUS_PER_TASK")),
        ("", {}, {"SLURM_CPUS_ON_NODE": "16"}, 32, (16, "SLURM_CPUS_ON_NODE")),
        ("", {}, {"SLURM_CPUS_ON_NODE": "16(x2)"}, 32, (32, "all")),
        ("", {}, {"SLURM_CPUS_ON_NODE": "16"}, 2, (2, "affinity")),
    ],
)
def test_cores_are_the_least_that_anybody_leaves(
    tmp_path: Path, cgroup: str, files: dict[str, str], environ: dict[str, str], bound: int, expected: tuple[float, str]
) -> None:
    found = given.cores(machine(tmp_path, cgroup, **files), environ, bound, machine=32)
    assert found.amount == expected[0] and found.source.startswith(expected[1])


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, (64 * GIB, "the machine's")),
        (V2, {"jobs_1_memory_0_max": "max", "jobs_1_job_7_1_memory_0_max": str(8 * GIB)}, (8 * GIB, "cgroup /jobs/j")),
        (V2, {"jobs_1_memory_0_high": str(4 * GIB)}, (4 * GIB, "cgroup /jobs: memory.high")),
        (V1, {"memory_1_memory_0_limit_in_bytes": str(2**63 - 4096)}, (64 * GIB, "the machine's")),
        (
            V1,
            {"memory_1_jobs_1_job_7_1_memory_0_limit_in_bytes": str(6 * GIB)},
            (6 * GIB, "cgroup /jobs/job_7: memory.limit_in_bytes"),
        ),
    ],
)
def test_memory_is_the_least_that_anybody_leaves(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: tuple[float, str]
) -> None:
    found = given.memory(machine(tmp_path, cgroup, **files))
    assert found.amount == expected[0] and found.source.startswith(expected[1])


HAS = Given(Limit(2.5, "cgroup /: cpu.max"), 64, Limit(8 * GIB, "the machine's"), 4096, 5000, 100)


@pytest.mark.parametrize(("amount", "cores"), [(0.5, 1), (1, 1), (2.5, 2), (64, 64)])
def test_trials_take_whole_cores_and_one_at_least(amount: float, cores: int) -> None:
    assert replace(HAS, cores_by=Limit(amount, "all")).cores == cores


def test_what_was_given_is_said_with_who_gave_it() -> None:
    assert str(HAS) == (
        "2 of the machine's 64 CPUs (cgroup /: cpu.max), 8.0 GiB of memory (the machine's), "
        "4,096 open files (ulimit -Hn), 5,000 processes (ulimit -u)"
    )
    assert "any number of processes" in str(replace(HAS, processes=None))


def test_this_machine_s_own_can_be_told() -> None:
    here = given.look()
    assert 1 <= here.cores <= min(here.machine_cores, len(os.sched_getaffinity(0))) and here.memory.amount > GIB
    given.check(replace(here, processes=None))


def test_affinity_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert given.look(environ={}).cores == 1


def test_threads_of_a_user_are_counted() -> None:
    before = given.threads_of(os.getuid(), Path("/proc"))
    ended = threading.Event()
    for _ in range(200):
        threading.Thread(target=ended.wait, daemon=True).start()
    try:
        assert given.threads_of(os.getuid(), Path("/proc")) > before + 100  # others come and go meanwhile
    finally:
        ended.set()


@pytest.mark.parametrize(
    ("about", "rule"),
    [
        ({"files": 256}, "ulimit -n: must let a search open 1,024 files, got 256; `ulimit -n 1024`"),
        ({"processes": 400}, r"ulimit -u: must let this user have 420 processes and threads \(100 by now\), got 400; "),
    ],
)
def test_limits_that_ray_can_not_start_under_are_refused(about: dict[str, int], rule: str) -> None:
    given.check(HAS)  # 100 + 256 + 2 * 32 = 420
    with pytest.raises(InputError, match=rule):
        given.check(replace(HAS, **about))  # type: ignore[arg-type]
