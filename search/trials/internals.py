"""Every name of Ray and Ray Tune that is private, experimental or for Ray's own developers. Read in Ray 2.60.0.

Nothing else here touches one, and each function says why there is no public way. tests/search/trials/test_internals.py
has a test for each, which names it when a newer Ray breaks it. The classes that Ray Tune documents for whoever writes
a searcher or a scheduler (Searcher, TrialScheduler, Trial) are used where they are extended: hooks.py, failures.py.

Imports Ray's core alone, and Ray Tune's types by name: a laptop and the light files of driver/ use it as well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import yaml
from ray._private.state import actors
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError
from ray.experimental import get_object_locations

from haan.errors import InputError

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

UNREACHABLE = ActorUnavailableError  # what a call raises whose actor doesn't answer; Ray calls it for developers alone
NO_SPILLING: Mapping[str, Any] = {"_system_config": {"object_spilling_threshold": 1.0}}
"""For `ray.init`: objects go to disk once the store is full, not from 80 % on, as Ray's public options have it."""

NOISE = ("ray.tune.execution.experiment_state", "ray.tune.analysis.experiment_analysis")
"""Loggers that warn of what nothing here reads: Ray Tune's snapshots, every few seconds, and its table of results."""

_HEAD = "node:__internal_head__"  # a resource that Ray gives the head; no public list of nodes says which it is


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
