"""A lab of hosts on one machine: namespaces with a network, processes, disk and sshd of their own.

Host 0 is `op`, the operator's laptop, at NET.1; hosts 1, 2, ... are h1, h2, ... at NET.11, NET.12, ... None has a route
to anywhere else. Every host sees the machine's root file system below a disk of its own, and the virtual environment
that runs the tests read-only. Only `op` sees the checkout: what runs elsewhere was brought there.

Needs root, and kernel namespaces. Nothing is installed: sshd and rsync are unpacked beside the lab.
By hand: `python -m tests.cluster.lab up 3`, `... on 1 COMMAND`, `... down`.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlparse

CHECKOUT = Path(__file__).resolve().parents[2]
OP = 0
_BOOT = Path(__file__).with_name("boot.sh")
_PACKAGES = ("openssh-server", "openssh-sftp-server", "libwrap0", "rsync", "libpopt0")
_TOOLS = ("ip", "unshare", "nsenter", "setpriv", "dpkg", "apt-get", "setsid", "ssh", "ssh-keygen")
_BOOT_S = 60
_END_S = 60
_NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--mount", "--uts", "--ipc")
_TRIAL = """
mount -t tmpfs trial /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay trial -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
ip link add br0 type bridge
ip link add v1 type veth peer name eth0
"""  # what a host needs of the kernel


class LabError(Exception):
    """A host didn't start, or a command on one failed."""


@dataclass(frozen=True)
class User:
    """A Unix user of a lab's hosts, with a group of the same name and number. home: his folder, as the hosts see it."""

    name: str
    uid: int
    home: Path


ROOT = User("root", 0, Path("/root"))


@dataclass(frozen=True)
class Lab:
    """One lab on this machine; another prefix is another lab, which may be up beside it.

    disk_gib, shm_gib: room for what all hosts write, and for /dev/shm of each. more_packages: Debian's, which the hosts
    see as installed, as they do sshd and rsync.
    """

    prefix: str = "haan"
    net: str = "10.77.0"
    disk_gib: int = 6
    shm_gib: float = 2.0
    more_packages: tuple[str, ...] = ()

    @staticmethod
    def from_environment() -> "Lab":
        """With LAB_PREFIX and LAB_NET where they are set."""
        return Lab(os.environ.get("LAB_PREFIX", "haan"), os.environ.get("LAB_NET", "10.77.0"))

    def beside(self) -> "Lab":
        """A second lab, with nothing of this one's."""
        return replace(self, prefix=f"{self.prefix}-beside")

    @property
    def root(self) -> Path:
        """All that the lab keeps on the machine."""
        return Path(f"/tmp/{self.prefix}-lab")

    @property
    def key(self) -> Path:
        """The SSH key of all hosts; on a host it lies at ~/.ssh/lab_key."""
        return self.root / "key"

    @property
    def nfs(self) -> Path:
        """A folder that every host sees, and this machine too."""
        return self.root / "nfs"

    @property
    def _run(self) -> Path:
        return self.root / "run"

    def address(self, host: int) -> str:
        return f"{self.net}.{1 if host == OP else 10 + host}"

    def name(self, host: int) -> str:
        return "op" if host == OP else f"h{host}"

    def home(self, host: int) -> Path:
        """A host's home folder as this machine sees it."""
        return self._run / self.name(host) / "home"

    def up(self, hosts: int) -> None:
        """Starts `op` and so many hosts, after whatever an earlier run left. Raises LabError."""
        self.down()
        self.nfs.mkdir(parents=True, exist_ok=True)
        packages = self._unpacked()
        self._run.mkdir()
        _sh("mount", "-t", "tmpfs", "-o", f"size={self.disk_gib}g", f"{self.prefix}-disk", self._run)
        shutil.copytree(packages, self._run / "packages", symlinks=True)  # a lower folder of the hosts' overlays
        if not self.key.exists():
            _sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", self.key)
        known = [f"{self.address(host)} {self.name(host)}" for host in range(hosts + 1)]
        (self._run / "hosts").write_text("\n".join(["127.0.0.1 localhost", *known, ""]))
        _sh("ip", "netns", "add", self._netns(OP))
        self._ip(OP, "link", "add", "br0", "type", "bridge")
        self._ip(OP, "addr", "add", f"{self.address(OP)}/24", "dev", "br0")
        self._ip(OP, "link", "set", "br0", "up")
        for host in range(hosts + 1):
            self.start(host)

    def down(self) -> None:
        """Ends every host, and removes all but the unpacked packages and the key; also what a killed run left."""
        names = [line.split()[0] for line in _sh("ip", "netns", "list").splitlines()]
        for name in names:
            if re.fullmatch(rf"{re.escape(self.prefix)}-(op|h\d+)", name):
                self._end(name)
                _sh("ip", "netns", "del", name)
        limit = time.monotonic() + _END_S
        while self._run.is_mount():
            if subprocess.run(["umount", str(self._run)], capture_output=True).returncode and time.monotonic() > limit:
                raise LabError(f"{self._run} can't be unmounted")
            time.sleep(0.05)
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.rmtree(self.nfs, ignore_errors=True)

    def start(self, host: int) -> None:
        """Starts a host, with the disk that it had. Raises LabError when its sshd doesn't come up."""
        disk = self._run / self.name(host)
        disk.mkdir(exist_ok=True)
        if host != OP:
            _sh("ip", "netns", "add", self._netns(host))
            self._ip(OP, "link", "add", f"v{host}", "type", "veth", "peer", "name", "eth0", "netns", self._netns(host))
            self._ip(OP, "link", "set", f"v{host}", "master", "br0", "up")
            self._ip(host, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            self._ip(host, "link", "set", "eth0", "up")
        log = disk / "boot.log"
        own = [word for word in _NAMESPACES if word != "--net"]
        words = ["nsenter", f"--net=/run/netns/{self._netns(host)}", *own, "--kill-child=KILL", "bash", str(_BOOT)]
        with log.open("w") as out:
            environment = {"PATH": os.environ["PATH"], **self._boot_environment(host, disk)}
            subprocess.run(  # the host outlives this process, as a lab that is used by hand must
                ["setsid", "--fork", *words],
                env=environment,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                check=True,
            )
        limit = time.monotonic() + _BOOT_S
        while "Server listening" not in log.read_text():
            if time.monotonic() > limit:
                raise LabError(f"{self.name(host)} did not start: {log.read_text()}")
            time.sleep(0.05)

    def kill(self, host: int) -> None:
        """Ends a host at once; its kernel still closes its connections."""
        self._end(self._netns(host))
        self._unplug(host)

    def cut(self, host: int) -> None:
        """Power loss: the host is gone, and its connections fall silent without a word."""
        self.net_cut(host)
        self.kill(host)

    def net_cut(self, host: int) -> None:
        """Pulls a host's network cable; its processes live on."""
        self._ip(OP, "link", "set", f"v{host}", "nomaster")

    def net_back(self, host: int) -> None:
        """Puts the cable back."""
        self._ip(OP, "link", "set", f"v{host}", "master", "br0")

    def is_up(self, host: int) -> bool:
        return self._init(host) is not None

    def add_user(self, host: int, user: User) -> None:
        """Makes a user known to a host, where he isn't; his home is there from then on."""
        lines = {
            "group": f"{user.name}:x:{user.uid}:",
            "passwd": f"{user.name}:x:{user.uid}:{user.uid}::{user.home}:/bin/bash",
        }
        known = [f"grep -q ^{user.name}: /etc/{file} || echo '{line}' >> /etc/{file}" for file, line in lines.items()]
        self.on(host, "; ".join([*known, f"install -d -m 755 -o {user.uid} -g {user.uid} {user.home}"]))

    def popen(
        self,
        host: int,
        command: str | Sequence[object],
        env: Mapping[str, str] | None = None,
        out: IO[str] | None = None,
        user: User = ROOT,
    ) -> "subprocess.Popen[str]":
        """Starts a command as a user in his home on a host; a text is run by its bash.

        It sees nothing of this process's environment but PATH with the virtual environment in front. Its output goes to
        `out`, else to a pipe, standard error with it. Raises LabError when the host is not up.
        """
        init = self._init(host)
        if init is None:
            raise LabError(f"{self.name(host)} is not up")
        known = {
            "HOME": str(user.home),
            "USER": user.name,
            "SHELL": "/bin/bash",
            "TERM": "xterm",
            "LC_ALL": "C.UTF-8",
            "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/usr/sbin:/bin",
            "RAY_USAGE_STATS_ENABLED": "0",
            **(env or {}),
        }
        enter = ["nsenter", "-t", str(init), "--net", "--pid", "--mount", "--uts", "--ipc", "--root"]
        become = ["setpriv", f"--reuid={user.uid}", f"--regid={user.uid}", "--clear-groups"]
        words = ["bash", "-c", command] if isinstance(command, str) else [str(word) for word in command]
        settings = [f"{key}={value}" for key, value in known.items()]
        return subprocess.Popen(
            [*enter, *become, "env", "-i", "-C", str(user.home), *settings, *words],
            stdin=subprocess.DEVNULL,
            stdout=out or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def on(
        self,
        host: int,
        command: str | Sequence[object],
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 600,
        user: User = ROOT,
    ) -> str:
        """What a command on a host says. Raises LabError when it fails (unless told not to check) or takes too long."""
        process = self.popen(host, command, env, user=user)
        try:
            said, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            raise LabError(f"{self.name(host)}: {command} took more than {timeout:g} s:\n{said}") from None
        if check and process.returncode:
            raise LabError(f"{self.name(host)}: {command} ended with {process.returncode}:\n{said}")
        return said

    def op(
        self,
        command: str | Sequence[object],
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 600,
        user: User = ROOT,
    ) -> str:
        """`on` the operator's laptop."""
        return self.on(OP, command, env, check, timeout, user)

    def _boot_environment(self, host: int, disk: Path) -> dict[str, str]:
        seen = [sys.prefix, sys.base_prefix]
        return {
            "NAME": self.name(host),
            "ADDRESS": self.address(host),
            "DISK": str(disk),
            "PACKAGES": str(self._run / "packages"),
            "HIDDEN": "\n".join(["/var/tmp", *map(str, checkouts())]),
            "READ_ONLY": "\n".join(([str(CHECKOUT)] if host == OP else []) + seen),
            "SHARED": str(self.nfs),
            "SHM_SIZE": f"{int(self.shm_gib * 1024)}m",
            "KEY": str(self.key),
            "HOSTS": str(self._run / "hosts"),
        }

    def _unpacked(self) -> Path:
        """Debian's packages, unpacked; the machine's own stay as they are. Raises LabError."""
        packages = self.root / "packages"
        if packages.exists():
            return packages
        debs, partial = self.root / "debs", self.root / "packages.partial"
        shutil.rmtree(partial, ignore_errors=True)
        debs.mkdir(exist_ok=True)
        _sh("apt-get", "download", "-qq", *_PACKAGES, *self.more_packages, cwd=debs)
        for deb in sorted(debs.glob("*.deb")):
            _sh("dpkg", "-x", deb, partial)
        for name in ("bin", "sbin", "lib"):  # links into /usr on a machine, whatever the packages say
            if (partial / name).is_dir():
                shutil.copytree(partial / name, partial / "usr" / name, symlinks=True, dirs_exist_ok=True)
                shutil.rmtree(partial / name)
        partial.rename(packages)
        return packages

    def _netns(self, host: int) -> str:
        return f"{self.prefix}-{self.name(host)}"

    def _ip(self, host: int, *words: str) -> str:
        return _sh("ip", "-n", self._netns(host), *words)

    def _init(self, host: int) -> int | None:
        """The first process of a host that is up."""
        found = subprocess.run(["ip", "netns", "pids", self._netns(host)], capture_output=True, text=True)
        return next((pid for pid in map(int, found.stdout.split()) if _is_init(pid)), None)

    def _end(self, netns: str) -> None:
        """Ends whatever runs in a network namespace of the lab, and waits for it."""
        limit = time.monotonic() + _END_S
        while pids := [int(pid) for pid in _sh("ip", "netns", "pids", netns).split()]:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.monotonic() > limit:
                raise LabError(f"{netns}: processes {pids} don't end")
            time.sleep(0.02)

    def _unplug(self, host: int) -> None:
        self._ip(OP, "link", "del", f"v{host}")  # at once: unacknowledged ends would keep it for a minute
        _sh("ip", "netns", "del", self._netns(host))


def patient(start_commands: list[str]) -> list[str]:
    """A cluster file's `ray start` for hosts that share a machine's cores: where it took more than 30 s, tried again.

    Those 30 s for the raylet stand in Ray's code, not in its settings, and its autoscaler never comes back to a machine
    of a fixed list whose start failed once (`StandardAutoscaler.can_update`).
    """
    *before, start = start_commands
    return [*before, f"{start} || (ray stop; {start}) || (ray stop; {start})"]


def checkouts() -> list[Path]:
    """Where the project's source lies on this machine: the tests' own, and that of an editable installation."""
    found = {CHECKOUT}
    try:
        text = metadata.distribution("haan-search").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        text = None
    url = urlparse(json.loads(text)["url"]) if text else None
    if url is not None and url.scheme == "file":
        found.add(Path(unquote(url.path)))
    return sorted(found)


def obstacle(lab: Lab) -> str | None:
    """Why a lab can't run here; None where it can. Tries what a host needs."""
    if os.geteuid():
        return "needs root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    tried = subprocess.run([*_NAMESPACES, "sh", "-ec", _TRIAL], capture_output=True, text=True)
    if tried.returncode:
        return f"the kernel refuses namespaces, virtual networks or overlays: {tried.stderr.strip()}"
    try:
        lab.root.mkdir(exist_ok=True)
        lab._unpacked()
    except LabError as error:
        return f"Debian's packages can't be had: {error}"
    return None


def _is_init(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    ids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return len(ids) > 1 and ids[-1] == "1"


def _sh(*words: object, cwd: Path | None = None) -> str:
    """What a command on this machine says. Raises LabError when it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise LabError(f"{' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def by_hand(lab: Lab, words: Sequence[str]) -> int:
    """A lab by words such as `on 1 COMMAND`; the exit code of a command on a host."""
    verb, *rest = words
    if verb == "up":
        lab.up(int(rest[0]))
    elif verb == "down":
        lab.down()
    elif verb in ("op", "on"):
        host, command = (OP, rest) if verb == "op" else (int(rest[0]), rest[1:])
        return lab.popen(host, command, out=sys.stdout).wait()
    else:
        {"kill": lab.kill, "cut": lab.cut, "net_cut": lab.net_cut, "net_back": lab.net_back, "start": lab.start}[verb](
            int(rest[0])
        )
    return 0


if __name__ == "__main__":
    sys.exit(by_hand(Lab.from_environment(), sys.argv[1:]))
