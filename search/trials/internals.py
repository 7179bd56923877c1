"""Every name of Ray and Ray Tune that is private, experimental or for Ray's own developers. Read in Ray 2.60.0.

Nothing else here touches one, and each function says why there is no public way. tests/search/trials/test_internals.py
has a test for each, which names it when a newer Ray breaks it. The classes that Ray Tune documents for whoever writes
a searcher or a scheduler (Searcher, TrialScheduler, Trial) are used where they are extended: hooks.py, failures.py.

Imports Ray's core alone, and Ray Tune's types by name: a laptop and the light files of driver/ use it as well.
"""

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import ray
import yaml
from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.state import actors
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.experimental import get_object_locations
from ray.job_config import JobConfig

from haan.errors import InputError

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

UNREACHABLE = ActorUnavailableError  # what a call raises whose actor doesn't answer; Ray calls it for developers alone
NOISE = ("ray.tune.execution.experiment_state", "ray.tune.analysis.experiment_analysis")
"""Loggers that warn of what nothing here reads: Ray Tune's snapshots, every few seconds, and its table of results."""

EVERY_RAY: Mapping[str, str] = {"RAY_USAGE_STATS_ENABLED": "0", "GRPC_ENABLE_FORK_SUPPORT": "0"}
"""In the environment of each that a search starts. Ray forks to start a program; gRPC's fork handlers, were they on,
would crash it there now and then, before it runs (2.60: a segfault of `event_engine`, and a Ray client is refused)."""

_HEAD = "node:__internal_head__"  # a resource that Ray gives the head; no public list of nodes says which it is
_SYSTEM: Mapping[str, Any] = {"object_spilling_threshold": 1.0, "enable_metrics_collection": False}
_NO_FIGURES = {"AUTOSCALER_METRIC_PORT": "-1", "DASHBOARD_METRIC_PORT": "-1"}  # the servers then don't start
_MODE, _TOKEN, _TOKEN_FILE = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_IMPORT_S = 120  # a process that imports Ray, on a machine where everybody is at work
_START_S = 600  # so long may the process of a trial take to start, its copy of the features included
_READY, _ANSWERS = "ready", "answers"
_LOOK = f"""
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
print({_READY!r}, flush=True)
try:
    nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=float(sys.argv[2]))
except AuthenticationError:
    print("refused")
else:
    print({_ANSWERS!r}, *(one.node_id.hex() for one in nodes.values() if not one.state))
"""


def nodes_up() -> list[dict[str, Any]]:
    """The nodes that are up, as Ray's head has them: NodeID, NodeManagerHostname, Resources, Labels.

    `ray.nodes` is for developers; `ray.util.state.list_nodes`, which isn't, asks the dashboard: a local Ray has none.
    """
    return [node for node in ray.nodes() if node["Alive"]]


def is_head(node: Mapping[str, Any]) -> bool:
    """Whether one of `nodes_up` is the cluster's head."""
    return _HEAD in node["Resources"]


def node_of_actor(actor_id: str) -> str | None:
    """The id of the node that an actor ran on, from the head's table of actors; None where it isn't known.

    The exception that its death raises doesn't say, and the public `ray.util.state.get_actor` asks the dashboard.
    """
    return actors(actor_id).get("Address", {}).get("NodeID")


def nodes_with(objects: "Sequence[ray.ObjectRef[Any]]", timeout_ms: int) -> "dict[ray.ObjectRef[Any], Sequence[str]]":
    """The ids of the nodes that have a copy of each object. Experimental; nothing public says it.

    For the process that put them. Raises GetTimeoutError.
    """
    there = get_object_locations(list(objects), timeout_ms)
    return {one: there.get(one, {}).get("node_ids", ()) for one in objects}


def autoscaler_config() -> Mapping[str, Any] | None:
    """The configuration of this cluster's autoscaler, which runs on the head; None elsewhere, or where there is none.

    Taken from the file that the autoscaler's process was given, as /proc has its words: the same in both of Ray's
    autoscalers and on every provider, and nothing public says it. `~/ray_bootstrap_config.yaml`, which `ray up`
    writes, doesn't do: neither `ray down` nor `ray stop` removes it from a machine of one's own, and a Ray that is
    started there by hand has the same address. Raises InputError where it can't be read.
    """
    port = ray.get_runtime_context().gcs_address.rpartition(":")[2]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            file = autoscaler_file(path.read_bytes().decode(errors="replace").split("\0"), port)
            if file is not None:
                return yaml.safe_load(file.read_text(encoding="utf-8"))
        except ProcessLookupError:  # it has just ended
            continue
        except FileNotFoundError:
            continue
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"the autoscaler's configuration: must be readable, got: {error}") from None
    return None


def autoscaler_file(words: Sequence[str], port: str) -> Path | None:
    """Which file an autoscaler was given, from the words of a process; None where it isn't that of this cluster."""
    if not any(word.endswith("monitor.py") for word in words):
        return None
    options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    file = options.get("--autoscaling-config")
    return Path(file).expanduser() if file and options.get("--gcs-address", "").endswith(f":{port}") else None


@dataclass(frozen=True)
class Raylet:
    """A process of Ray's on this machine, one a node, as the process list has it.

    address: of its cluster. session: the folder of its files. socket: where a driver joins it. resources: their names.
    same: whether it is in this process's namespaces, not in a container; None where that can't be told.
    """

    pid: int
    uid: int
    address: str
    node_id: str
    session: Path
    socket: Path
    resources: frozenset[str]
    same: bool | None

    @property
    def joinable(self) -> bool:
        """Whether this user may do with its files what a driver does; else Ray's C++ aborts the process."""
        needed = (self.socket, self.session / "logs", self.session / "logs" / "events")
        return all(os.access(one, os.W_OK) for one in needed)


def raylets(proc: Path = Path("/proc")) -> list[Raylet]:
    """All that this process can see, whoever owns them. Ray's own search for `auto` takes any of them for the user's.

    proc: another than /proc, for tests.
    """
    found = []
    for folder in proc.glob("[0-9]*"):
        try:
            options = raylet_options((folder / "cmdline").read_bytes().decode(errors="replace").split("\0"))
            if options is not None:
                found.append(_raylet(folder, proc, options))
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has just ended, or is hidden
            continue
    return found


def raylet_options(words: Sequence[str]) -> dict[str, str] | None:
    """The options of a raylet from the words of its process; None where it is another."""
    if Path(words[0]).name != "raylet":
        return None
    options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    needed = ("--gcs-address", "--node_id", "--session_dir", "--raylet_socket_name", "--static_resource_list")
    return options if all(options.get(key) for key in needed) else None


def _raylet(folder: Path, proc: Path, options: Mapping[str, str]) -> Raylet:
    resources = frozenset(options["--static_resource_list"].split(",")[::2])
    session, socket = Path(options["--session_dir"]), Path(options["--raylet_socket_name"])
    return Raylet(
        int(folder.name),
        folder.stat().st_uid,
        options["--gcs-address"],
        options["--node_id"],
        session,
        socket,
        resources,
        _same_namespaces(folder, proc / "self"),
    )


def _same_namespaces(one: Path, other: Path) -> bool | None:
    try:
        return all((one / "ns" / kind).readlink() == (other / "ns" / kind).readlink() for kind in ("pid", "mnt", "net"))
    except OSError:
        return None


@dataclass(frozen=True)
class Answer:
    """What a Ray said that was asked. nodes: the ids of those that are up. refused: it wants another token."""

    nodes: tuple[str, ...]
    refused: bool = False


def look(address: str, seconds: float, env: Mapping[str, str]) -> Answer | None:
    """Whether a Ray answers there within so long, and to whom with this environment; None: it doesn't.

    A process of its own asks: Ray's client tries for a minute where something else answers, and ends its process then.
    The time that it takes to import Ray does not count.
    """
    words = [sys.executable, "-P", "-c", _LOOK, address, str(seconds)]
    null, pipe = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(words, env=env, stdin=null, stdout=pipe, stderr=null, bufsize=0) as asking:
        assert asking.stdout is not None
        try:
            ready = _line(asking.stdout, _IMPORT_S) == _READY
            verdict, *nodes = (_line(asking.stdout, seconds) if ready else "").split() or [""]
        finally:
            asking.kill()
    if verdict not in (_ANSWERS, "refused"):
        return None
    return Answer(tuple(nodes), verdict == "refused")


def _line(pipe: IO[bytes], seconds: float) -> str:
    """The next line of a pipe that nothing buffers, without its end; "" where none came in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        return pipe.readline().decode().strip() if selector.select(seconds) else ""


def with_token(env: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Ray shows this user's token, as it does itself where it finds a Ray; where there is one.

    A mode that is set stays.
    """
    there = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    return {_MODE: "token", **env} if there else dict(env)


def show_token() -> None:
    """`with_token` for this process: `ray.init` does so for `auto`, but not for an address."""
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextmanager
def token(secret: str) -> Iterator[None]:
    """This process and what it starts show that token, and a Ray that is started here lets in nobody else.

    Ray reads the environment once; what it has read is forgotten here, before and after.
    """
    try:
        with environment({_MODE: "token", _TOKEN: secret, _TOKEN_FILE: None}):
            _read_anew()
            yield
    finally:
        _read_anew()


def _read_anew() -> None:
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")


def start_own(**options: Any) -> None:
    """Starts a local Ray that nobody outside this machine can reach, and joins it. options: of `ray.init`.

    It listens on 127.0.0.1 alone, as Ray does on a Mac, and on no port for figures, which answers whoever asks; and
    objects go to disk once the store is full, not from 80 % on. No public option says any of it: `_node_ip_address`
    takes 127.0.0.1 for the machine's address in the network.
    """
    open_to_all = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with environment(_NO_FIGURES):
            ray.init(address="local", include_dashboard=False, _system_config=dict(_SYSTEM), **options)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = open_to_all


def code_of(folder: Path) -> JobConfig:
    """Has processes on a Ray that is joined import modules from a folder first, wherever they have it.

    Else they import the project as the Ray was started, which may be another checkout, or an older one. A public
    runtime environment needs Ray's dashboard packages on every node.
    """
    return JobConfig(_py_driver_sys_path=[str(folder)])


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """This process's environment with these values, None for none, and as it was afterwards."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@dataclass(frozen=True)
class NodeUp:
    """A node that is up, to a process that is no part of its cluster."""

    id: str
    is_head: bool
    labels: Mapping[str, str]


def nodes_at(address: str, timeout_s: float) -> list[NodeUp]:
    """The nodes of a cluster that are up, for a process that does not join it.

    The head's table, asked for directly: a process that joins takes seconds, and takes part. Raises OSError where none
    answers, or another token is wanted.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
    from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]  # made when it is imported

    try:
        there = GcsClient(address=address).get_all_node_info(timeout=timeout_s)
    except (RayError, ValueError, RuntimeError) as error:
        raise OSError(f"{address}: {str(error).strip().partition(chr(10))[0]}") from None
    up = [node for node in there.values() if node.state == GcsNodeInfo.ALIVE]
    return [NodeUp(node.node_id.hex(), node.is_head_node, dict(node.labels)) for node in up]


def drain(address: str, node_id: str, reason: str, seconds: float) -> None:
    """Has a cluster give a node nothing more to do, for it will be gone in so many seconds.

    `ray drain-node` says the same, hidden and for developers, and takes seconds. Raises OSError where it is refused.
    """
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

    until_ms = int((time.time() + seconds) * 1000)
    kind = DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    try:
        taken, why = GcsClient(address=address).drain_node(node_id, kind, reason, until_ms)
    except (RayError, ValueError, RuntimeError) as error:
        raise OSError(f"{address}: {str(error).strip().partition(chr(10))[0]}") from None
    if not taken:
        raise OSError(f"{address}: the node must be drained, got: {why}")


def launched_head(file: Path) -> str:
    """The address of the head of a `ray up` file's cluster, as its cloud says; on a laptop. Raises what Ray does."""
    from ray.autoscaler.sdk import get_head_node_ip  # as is `launched_with`: for developers, and needed there alone

    return get_head_node_ip(str(file))


def launched_with(config: dict[str, Any]) -> dict[str, Any]:
    """A `ray up` file as Ray fills it in: a key pair that it made itself is named there alone."""
    from ray.autoscaler.sdk import bootstrap_config

    return bootstrap_config(config)


def become(trial: "Trial", kind: "type[Trial]") -> None:
    """Makes a trial of Ray Tune one of a subclass: Ray Tune makes its trials itself, and takes no class to make."""
    trial.__class__ = kind


def failures(trial: "Trial") -> int:
    """How many failures Ray Tune has counted of a trial."""
    return trial.run_metadata.num_failures


def set_failures(trial: "Trial", count: int) -> None:
    """Changes that count: only preemptions that a cloud announced are left out of it, and no option says more."""
    trial.run_metadata.num_failures = count


def is_without_process(trial: "Trial") -> bool:
    """Whether Ray Tune has no actor for a trial at this moment."""
    return trial.temporary_state.ray_actor is None


def forget_handover(controller: Any, trial: "Trial") -> None:
    """Has Ray Tune forget that a process is being handed to a trial, for it dropped the news that the process died."""
    controller._resetting_trials.discard(trial)


class IdleProcesses:
    """How many processes Ray Tune keeps that have no trial at the moment: of its own it keeps a single one.

    What it keeps takes up room on its node, so `release` is for when trials wait.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, Any, int] | None = None

    def keep(self, controller: Any, like: "Trial", count: int) -> None:
        """Keeps so many that ran trials with the resources of this one, and no others."""
        self.release()
        bare = vars(controller).get("_tune_controller", controller)  # as a scheduler gets it, it warns of each look
        cache, resources = bare._actor_cache, like.placement_group_factory
        cache.increase_max(resources, count)
        self._kept = cache, resources, count

    def release(self) -> None:
        """Keeps none, but what Ray Tune keeps of its own."""
        if self._kept is not None:
            cache, resources, count = self._kept
            cache.decrease_max(resources, count)
            self._kept = None


def take_kills_for_deaths() -> None:
    """Has Ray Tune take whatever Ray says of a process that it killed for that process's death.

    Of one that Ray ends for the machine's lack of memory it says OutOfMemoryError, which Ray Tune does not expect: it
    raises a RuntimeError out of its loop, and all trials end with it. No option says otherwise.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager

    plain = RayActorManager._actor_task_failed
    if getattr(plain, "takes_kills", False):
        return

    def failed(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = Killed(exception)
        plain(self, tracked_actor_task, exception)

    failed.takes_kills = True  # type: ignore[attr-defined]
    RayActorManager._actor_task_failed = failed


def leave_starting_processes() -> None:
    """Has Ray Tune hand a process that has become free to a trial that has none, not to one whose own starts just then.

    It would end the one that starts: where trials end more often than a process takes to start, a node that comes late
    never gets to work. No option says otherwise. One that doesn't get to start is given up after a while.
    """
    from ray.tune.execution.tune_controller import TuneController

    since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
    plain = TuneController._maybe_reuse_cached_actor
    if getattr(plain, "leaves_starting", False):
        return

    def starts(self: Any, trial: "Trial") -> bool:
        own = self._trial_to_actor.get(trial)
        if own is None or own in self._started_actors or trial in self._resetting_trials:
            return False
        is_placed = self._actor_manager.is_actor_started(own)  # has a node, and its process was asked for
        return is_placed and time.monotonic() - since.setdefault(own, time.monotonic()) < _START_S

    def reuse(self: Any, trial: "Trial") -> bool:
        if not starts(self, trial):
            return plain(self, trial)
        alike = self._resources_to_pending_trials[trial.placement_group_factory] & self._staged_trials
        waiting = [one for one in alike - self._resetting_trials if not starts(self, one)]
        if waiting:
            plain(self, waiting[0])
        return False

    reuse.leaves_starting = True  # type: ignore[attr-defined]
    TuneController._maybe_reuse_cached_actor = reuse


class Killed(RayActorError):
    """A process that Ray ended itself; the first line of what it says of it, for pages follow."""

    def __init__(self, why: Exception):
        super().__init__(error_msg=f"{type(why).__name__}: {str(why).strip().partition(chr(10))[0]}")


def error_text(trial: "Trial") -> str:
    """All that Ray Tune wrote of a trial's failures, its tracebacks; "" for nothing.

    The file that is being written on this machine, for `trial.get_error` reads its copy in storage.
    """
    path = Path(trial.error_file) if trial.error_file else None
    return path.read_text(encoding="utf-8", errors="replace").strip() if path and path.exists() else ""
