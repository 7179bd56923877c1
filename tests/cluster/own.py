"""`search/clusters/own-machines.yaml` over the hosts of a lab, as its user has it: from `op`, by Ray's commands."""

import json
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from optuna.trial import FrozenTrial, TrialState

from search.results.folder import RunFolder
from search.study.journal import load
from tests.cluster.lab import CHECKOUT, OP, Lab, LabError, patient
from tests.search.spaces import tiny_space

HEAD = 1
PROJECT = "~/haan-search"
_FILE = CHECKOUT / "search" / "clusters" / "own-machines.yaml"
# How long the server that the head starts for a `ray://` client may take, and how long it waits for its client. Ray's
# own 30 s for each are too few now and then where hosts share a machine's cores.
_RAY_WAITS = {"RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "180", "TIMEOUT_FOR_SPECIFIC_SERVER_S": "180"}
_ALIVE = """
import json, ray, sys, time
wanted, limit = json.loads(sys.argv[1]), time.monotonic() + 60
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
while True:
    alive = sorted(node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"])
    if wanted in (None, alive) or time.monotonic() > limit:
        break
    time.sleep(0.5)
print("ALIVE", json.dumps(alive))
"""  # it looks again by itself, for each start of it takes the hosts seconds of work


@dataclass(frozen=True)
class OwnMachines:
    """A cluster over all hosts of a lab; h1 is its head. store_bytes: the object store of each host."""

    lab: Lab
    hosts: int
    store_bytes: int = 1_500_000_000

    def boot(self) -> None:
        """Starts the hosts, and lays the user's own files on the laptop: key, token and edited configuration."""
        self.lab.up(self.hosts)
        home = self.lab.home(OP)
        (home / ".ray").mkdir()
        token = home / ".ray" / "auth_token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        (home / "own.yaml").write_text(for_hosts_of_a_lab(edited(_FILE.read_text(), self)))

    @property
    def checkpoints(self) -> Path:
        """Where the hosts' HAAN_STORAGE points to."""
        return self.lab.nfs / "checkpoints"

    @property
    def token(self) -> str:
        return (self.lab.home(OP) / ".ray" / "auth_token").read_text()

    def up(self) -> str:
        """`ray up`, from the project's folder; what it said."""
        return self.lab.op(f"cd {CHECKOUT} && ray up -y ~/own.yaml")

    def down(self) -> str:
        return self.lab.op("ray down -y ~/own.yaml")

    def execute(self, command: str, check: bool = True, timeout: float = 600) -> str:
        """A command on the head, by `ray exec` from the laptop."""
        return self.lab.op(["ray", "exec", "/root/own.yaml", command], check=check, timeout=timeout)

    def send(self, path: Path, name: str) -> None:
        """Brings a file of this machine into the project on the head, over the laptop."""
        shutil.copy(path, self.lab.home(OP) / name)
        self.lab.op(["ray", "rsync-up", "/root/own.yaml", f"/root/{name}", f"{PROJECT}/{name}"])

    def fetch(self, run: str) -> Path:
        """Brings a run folder from the head to the laptop; where this machine sees it."""
        self.lab.op(["ray", "rsync-down", "/root/own.yaml", f"{PROJECT}/runs/{run}/", f"/root/{run}"])
        return self.lab.home(OP) / run

    def run_folder(self, run: str) -> RunFolder:
        """A run's folder on the head, as this machine sees it."""
        return RunFolder(self.lab.home(HEAD) / "haan-search" / "runs" / run)

    def alive(self, wanted: list[str] | None = None) -> list[str]:
        """The names of the hosts that Ray holds for alive, as soon as they are those wanted, or after a minute."""
        said = self.on_head(f"python -c {shlex.quote(_ALIVE)} {shlex.quote(json.dumps(wanted))}", check=False)
        found = [line for line in said.splitlines() if line.startswith("ALIVE ")]
        return json.loads(found[0].removeprefix("ALIVE ")) if found else []

    def on_head(self, command: str, check: bool = True) -> str:
        """A command on the head in the cluster's own environment, without a way over the laptop."""
        return self.lab.on(HEAD, f". ~/.haan-search.sh; cd {PROJECT}; {command}", check=check)

    def await_hosts(self, names: list[str], limit_s: float = 600) -> None:
        """Waits until just these hosts are alive. Raises LabError with what the autoscaler says of it."""
        try:
            await_(lambda: self.alive(names) == names, f"hosts {names} alive", limit_s)
        except LabError as error:
            logs = "/tmp/ray/session_latest/logs"
            said = self.on_head(
                f"ray status; tail -n 60 {logs}/monitor.out {logs}/monitor.log {logs}/monitor.err", False
            )
            raise LabError(f"{error}; alive: {self.alive()}\n{said}") from None


def await_(condition: Callable[[], bool], what: str, limit_s: float = 600) -> None:
    """Waits for a condition. Raises LabError when it doesn't come true in time."""
    limit = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > limit:
            raise LabError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.5)


def edited(text: str, cluster: OwnMachines) -> str:
    """The file with its lines marked EDIT set for a lab. Raises LabError where they are not just these."""
    lab = cluster.lab
    workers = ", ".join(lab.address(host) for host in range(2, cluster.hosts + 1))
    store, storage = "- echo 'export HAAN_STORE_BYTES", "- echo 'export HAAN_STORAGE"
    values = {
        "head_ip": f"head_ip: {lab.address(HEAD)}",
        "worker_ips": f"worker_ips: [{workers}]",
        "ssh_user": "ssh_user: root",
        "ssh_private_key": "ssh_private_key: ~/.ssh/lab_key",
        store: f"{store}={cluster.store_bytes}' > ~/.haan-search.sh",
        storage: f"{storage}={cluster.checkpoints}' >> ~/.haan-search.sh",
    }
    lines, left = text.splitlines(), dict(values)
    for index, line in enumerate(lines):
        if "# EDIT" in line:
            key = line.strip().split(":")[0].split("=")[0]
            lines[index] = line[: len(line) - len(line.lstrip())] + left.pop(key)
    if left:
        raise LabError(f"{_FILE}: no line of {sorted(left)} is marked EDIT")
    return "\n".join([*lines, ""])


def for_hosts_of_a_lab(text: str) -> str:
    """The same without a network, its packages the tests' own, and for hosts that share a machine's cores."""
    document = yaml.safe_load(text)
    installing = [command for command in document["setup_commands"] if "-m venv" in command or "pip install" in command]
    if len(installing) != 2:
        raise LabError(f"{_FILE}: must install with two commands, got {installing}")
    others = [command for command in document["setup_commands"] if command not in installing]
    exports = " ".join(f"{key}={value}" for key, value in {"PYTHONPATH": "$HOME/haan-search", **_RAY_WAITS}.items())
    packages = f"ln -sfn {sys.prefix} ~/haan-venv; echo 'export {exports}' >> ~/.haan-search.sh"
    document["setup_commands"] = [*others, packages]
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        document[key] = patient(document[key])
    return yaml.safe_dump(document, sort_keys=False)


def space(folder: Path, epochs: int = 4, **search: object) -> Path:
    """The tiny planted space, its checkpoints where the nodes' HAAN_STORAGE says."""
    path = tiny_space(folder, **search)
    document = yaml.safe_load(path.read_text())
    document["base"]["optim"]["epochs"] = epochs
    path.write_text(yaml.safe_dump(document))
    return path


def long_space(folder: Path, epochs: int, **search: object) -> Path:
    """A space whose trials take seconds on a quick machine, else half a minute, for there must be something to lose.

    No failure is allowed. Nothing is held out, so nothing is trained once more at its end.
    """
    path = space(folder, epochs, max_failures=0, pruner={"name": "none"}, **search)
    document = yaml.safe_load(path.read_text())
    base = document["base"]
    base["data"]["root"] = "data-long"
    base["data"]["plant"] |= {"train_videos": 120, "validation_videos": 40, "dim": 64}
    base["data"] |= {"train_videos": 120, "validation": "official"}
    base["model"]["width"] = 128
    base["concepts"]["refresh_epochs"] = 5
    path.write_text(yaml.safe_dump(document))
    return path


def trials(folder: RunFolder, scratch: Path) -> list[FrozenTrial]:
    """The trials of a search that may be under way; its journal is read from a copy."""
    if not folder.journal.exists():
        return []
    content = folder.journal.read_bytes()
    copy = scratch / "study.journal"
    copy.write_bytes(content[: content.rfind(b"\n") + 1])
    study = load(copy)
    return [] if study is None else study.get_trials()


def under_way(known: Iterable[FrozenTrial], node: str, since: float, before: int) -> set[int]:
    """Which trials went to work on a node after `since` (Unix seconds) and have not reported epoch `before` yet."""
    return {trial.number for trial in known if _is_under_way(trial, node, since, before)}


def _is_under_way(trial: FrozenTrial, node: str, since: float, before: int) -> bool:
    if trial.state != TrialState.RUNNING or not trial.user_attrs.get("runs"):
        return False
    began, ended, where = trial.user_attrs["runs"][-1]
    return where == node and began > since and ended is None and (trial.last_step or 0) < before
