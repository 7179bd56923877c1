"""A real Slurm on the hosts of a lab: slurmctld on `op`, its login node, slurmd on each of the others; and two users.

Users and their numbers are alike on all hosts, and their homes lie on the folder that all hosts share, as at a
computing centre. Each node has two "GPUs": devices that only Slurm takes for some. No cgroup confines what a job takes.
Debian's Slurm is unpacked beside the lab, never installed. Of commands of the users PATH has the virtual environment.

By hand: `python -m tests.cluster.slurm_lab up 3`, `... ada squeue`, `... on 1 COMMAND`, `... down`. It is up in 5 s.
The lab has a prefix of its own: the others' with `-slurm` behind it.
"""

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO

from tests.cluster.lab import CHECKOUT, OP, Lab, LabError, User, by_hand
from tests.cluster.own import await_

PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "munge",
    "libmunge2",
    "libhwloc15",
)
_PROJECT = ("haan", "search", "spaces", "pyproject.toml")
_FILES = ".slurm"  # in the home of a host's root: its configuration and key
# In the place of conda's own hook, in its folder: an environment is a folder with a `python`.
_CONDA = """
conda() {
    [ "$#-$1" = 2-activate ] && [ -d "$conda_home/envs/$2" ] && export PATH="$conda_home/envs/$2/bin:$PATH"
}
conda_home=$(dirname "$(dirname "$(dirname "${BASH_SOURCE[0]}")")")
"""
# In the place of apptainer: an image is a folder, whose PATH takes the place of the host's, so that nothing of Slurm's
# is there. Mounts are the host's, as those of apptainer are in part.
_APPTAINER = """#!/bin/bash
[ "$1" = exec ] || exit 255
shift
while true; do
    case $1 in --nv) shift ;; --bind) shift 2 ;; *) break ;; esac
done
[ -d "$1" ] || { echo "FATAL:   could not open image $1: no such file or directory" >&2; exit 255; }
PATH=$1/bin
shift
exec "$@"
"""
_OF_SLURM = (
    "sacct",
    "salloc",
    "sattach",
    "sbatch",
    "sbcast",
    "scancel",
    "scontrol",
    "sinfo",
    "squeue",
    "srun",
    "sstat",
)
_SET_UP = f"""
mkdir -p /etc/slurm /etc/munge /run/munge /var/spool/slurmctld /var/spool/slurmd /var/log/munge /var/lib/munge
cp ~/{_FILES}/*.conf /etc/slurm
install -m 400 ~/{_FILES}/munge.key /etc/munge
chmod 755 /run/munge
for name in slurmctld slurmd slurmstepd; do ln -sf $name-wlm /usr/sbin/$name; done
for gpu in 0 1; do [ -e /run/gpu$gpu ] || mknod /run/gpu$gpu c 1 3; done
ldconfig
munged --force
"""
# Waits that would make tests long are short: a lost node is down after 20 s instead of 300, a requeued job may start
# after 10 instead of 120 (so long a credential lives, AuthInfo), and jobs are looked at every 2 s instead of every 60.
# Of jobs that ended it knows an hour long when.
_CONF = """
ClusterName=lab
SlurmctldHost=op({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
ReturnToService=2
SlurmdTimeout=20
KillWait=30
JobRequeue=1
MinJobAge=3600
MpiDefault=none
NodeName={nodes} CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={nodes} Default=YES LLN=YES DefaultTime=60 MaxTime=120 State=UP
"""
_CGROUP = "CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\n"  # none is mounted here


@dataclass(frozen=True)
class Job:
    """One line of `squeue`. node: empty until it has one. reason: why it waits, in Slurm's words."""

    number: str
    name: str
    user: str
    state: str
    node: str
    reason: str


@dataclass(frozen=True)
class SlurmLab:
    """Slurm over all hosts of a lab. cpus, memory: of each node, in cores and MiB, as Slurm counts them."""

    lab: Lab
    hosts: int = 3
    cpus: int = 5
    memory: int = 6000
    users: tuple[User, ...] = field(init=False)

    def __post_init__(self) -> None:
        homes = self.lab.nfs / "home"
        users = tuple(User(name, uid, homes / name) for name, uid in (("ada", 7001), ("ben", 7002)))
        object.__setattr__(self, "users", users)

    def up(self) -> None:
        """Starts the hosts and their Slurm, with every node idle. Raises LabError."""
        self.lab.up(self.hosts)
        key = secrets.token_hex(32)
        for host in range(self.hosts + 1):
            self._lay_files(host, key)
            self._set_up(host)
        self.lab.op("slurmctld -L /var/log/slurmctld.log")
        for host in self.nodes:
            self._serve(host)
        self.await_idle()

    @property
    def nodes(self) -> range:
        """The hosts that are nodes."""
        return range(1, self.hosts + 1)

    def start(self, host: int) -> None:
        """Starts a node again that was killed or cut."""
        self.lab.start(host)
        self._set_up(host)
        self._serve(host)

    def check_out(self, user: User) -> Path:
        """A checkout of the user's own in his home, as from `git clone`."""
        project = user.home / "haan-search"
        project.mkdir()
        for name in _PROJECT:
            if (CHECKOUT / name).is_dir():
                shutil.copytree(CHECKOUT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(CHECKOUT / name, project)
        self.give(user, project)
        return project

    def conda(self, user: User, project: Path) -> dict[str, object]:
        """What his cluster file says of an environment of conda's, of which there is a stand-in alone."""
        conda = user.home / "miniconda3"
        hook = conda / "etc" / "profile.d" / "conda.sh"
        hook.parent.mkdir(parents=True)
        hook.write_text(_CONDA)
        _lay_python(conda / "envs" / "haan" / "bin", project)
        self.give(user, conda)
        return {"setup": [". ~/miniconda3/etc/profile.d/conda.sh", "conda activate haan"]}

    def apptainer(self, user: User, project: Path) -> dict[str, object]:
        """The same of an image of apptainer's."""
        image, command = user.home / "haan.sif", user.home / "bin" / "apptainer"
        command.parent.mkdir()
        command.write_text(_APPTAINER)
        command.chmod(0o755)
        _lay_python(image / "bin", project)
        for program in Path("/usr/bin").iterdir():
            if program.name not in (*_OF_SLURM, "python"):
                (image / "bin" / program.name).symlink_to(program)
        self.give(user, image)
        return {"prefix": f"{command} exec --nv --bind {self.lab.nfs} {image}"}

    def give(self, user: User, path: Path) -> None:
        """Makes a user the owner of a file or folder on the shared folder."""
        subprocess.run(["chown", "-hR", f"{user.uid}:{user.uid}", str(path)], check=True)

    def popen(
        self, user: User, command: str, env: Mapping[str, str] | None = None, out: IO[str] | None = None
    ) -> "subprocess.Popen[str]":
        """Starts a command of a user on the login node, in his home."""
        return self.lab.popen(OP, command, env, out, user)

    def run(self, user: User, command: str, env: Mapping[str, str] | None = None, check: bool = True) -> str:
        """What a command of a user on the login node says."""
        return self.lab.op(command, env, check, user=user)

    def jobs(self, user: User | None = None, over: bool = False) -> list[Job]:
        """What `squeue` knows: jobs that wait, run or end, an array's elements a line each; of one user, or all.

        over: those that have ended, too.
        """
        whose = [] if user is None else ["-u", user.name]
        said = self.lab.op(["squeue", "-h", "-r", *["-t", "all"] * over, *whose, "-o", "%i|%j|%u|%T|%N|%r"])
        return [Job(*line.split("|")) for line in said.splitlines()]

    def states(self) -> dict[str, str]:
        """The state of each node, as `sinfo` says it."""
        said = self.lab.op(["sinfo", "-h", "-N", "-o", "%N %T"])
        return dict(line.split() for line in said.splitlines())

    def await_idle(self, limit_s: float = 60) -> None:
        """Waits until no node has a job. Raises LabError with what Slurm says when it takes longer."""
        try:
            await_(lambda: set(self.states().values()) == {"idle"}, "every node idle", limit_s)
        except LabError as error:
            raise LabError(f"{error}\n{self.lab.op('sinfo -N -l; squeue')}") from None

    def restarts(self, number: str) -> int:
        """How often a job has gone back into the queue."""
        said = re.search(r"Restarts=(\d+)", self.lab.op(["scontrol", "show", "job", number]))
        return int(said[1]) if said else 0

    def last_end_s(self, user: User) -> float:
        """When the last of a user's jobs ended, in Unix seconds; all must have."""
        said = self.lab.op(["squeue", "-h", "-r", "-t", "all", "-u", user.name, "-o", "%e"], {"TZ": "UTC"})
        return max(datetime.fromisoformat(f"{line}+00:00").timestamp() for line in said.split())

    def run_out_of_time(self, number: str) -> None:
        """Shortens a running job's time limit, so that it ends in one to two minutes.

        Slurm counts whole minutes, and looks every 30 s; it gives a job notice up to 30 s early. So a notice of 90 s is
        given within 30 s, and half a minute at least is left then.
        """
        used = self.lab.op(["squeue", "-h", "-j", number, "-o", "%M"]).strip()
        used_s = sum(int(part) * 60**power for power, part in enumerate(reversed(used.split(":"))))
        self.lab.op(["scontrol", "update", f"jobid={number}", f"timelimit={used_s // 60 + 2}"])

    def close(self, host: int) -> None:
        """Keeps new jobs from a node; those that run there stay."""
        self.lab.op(["scontrol", "update", f"nodename={self.lab.name(host)}", "state=drain", "reason=closed"])

    def open(self, host: int) -> None:
        """Lets jobs onto a node again."""
        self.lab.op(["scontrol", "update", f"nodename={self.lab.name(host)}", "state=resume"])

    def _lay_files(self, host: int, key: str) -> None:
        names = f"h[1-{self.hosts}]"
        conf = _CONF.format(address=self.lab.address(OP), nodes=names, cpus=self.cpus, memory=self.memory)
        files = self.lab.home(host) / _FILES
        files.mkdir(mode=0o700)
        (files / "slurm.conf").write_text(conf)
        (files / "gres.conf").write_text(f"NodeName={names} Name=gpu File=/run/gpu[0-1]\n")
        (files / "cgroup.conf").write_text(_CGROUP)
        (files / "munge.key").write_text(key)

    def _set_up(self, host: int) -> None:
        self.lab.on(host, _SET_UP)
        for user in self.users:
            self.lab.add_user(host, user)

    def _serve(self, host: int) -> None:
        self.lab.on(host, f"slurmd -N {self.lab.name(host)} -L /var/log/slurmd.log")


def _lay_python(folder: Path, project: Path) -> None:
    """A Python with the packages and the project, as an environment or an image has one."""
    folder.mkdir(parents=True)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={project} exec {sys.executable} "$@"\n')
    python.chmod(0o755)


def from_environment(count: int = 3) -> SlurmLab:
    """Over a lab of its own, beside those that LAB_PREFIX and LAB_NET name."""
    prefix, net = os.environ.get("LAB_PREFIX", "haan"), os.environ.get("LAB_NET", "10.77.0")
    return SlurmLab(Lab(f"{prefix}-slurm", net, more_packages=PACKAGES), count)


def main(words: Sequence[str]) -> int:
    """The lab by hand; the exit code of a command on a host."""
    verb, *rest = words
    slurm = from_environment(int(rest[0]) if verb == "up" else 3)
    users = {user.name: user for user in slurm.users}
    if verb == "up":
        slurm.up()
        return 0
    if verb in users:
        return slurm.lab.popen(OP, rest, out=sys.stdout, user=users[verb]).wait()
    if verb == "start":
        slurm.start(int(rest[0]))
        return 0
    return by_hand(slurm.lab, words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
