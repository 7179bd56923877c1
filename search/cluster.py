"""Where a search runs: finds or starts Ray, and checks that the features and a trial fit.

Of a cluster it knows the nodes that are up and the node types that its autoscaler may start. Not every node runs
trials: where the workers have GPUs and the head has none, the head runs none, and neither does a node whose object
store can't hold the features.
"""

import logging
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import yaml
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from haan.config import Config
from haan.errors import InputError
from search.space import Space

_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
_CONNECT_S = 10
_NAMED = 8  # nodes in one message
_STORE_SLACK = 1.2  # the object store also holds what Ray itself passes around
_STORE_LEAST = 128 * 2**20
_SPILLS_FROM = 0.8  # of a store: from there on Ray also writes what lies in it to disk, unless told otherwise
_HEAD, _NODE_TYPE = "node:__internal_head__", "ray.io/node-group"  # a resource and a label that Ray sets
_NODE_ID = "ray.io/node-id"
_STIR_BYTES, _STIR_S = 2**20, 1.0
_PRIVATE = "search_private"  # a resource that marks a Ray as that of one search, which ends with it


@dataclass(frozen=True)
class Node:
    """A node that is up. head: whether it is the cluster's; here: whether this process runs on it."""

    id: str
    host: str
    resources: Mapping[str, float]
    head: bool = False
    here: bool = False
    kind: str | None = None

    @property
    def store(self) -> float:
        """Bytes of its object store."""
        return self.resources.get("object_store_memory", 0)


@dataclass(frozen=True)
class NodeType:
    """What the autoscaler may start: up to `more` nodes of this type beside those that are up."""

    name: str
    resources: Mapping[str, float]
    more: int

    def __str__(self) -> str:
        return f"{self.more} more of {self.name} ({_amounts(self.resources)} each)"


@dataclass(frozen=True)
class Cluster:
    """Where the search runs. nodes: those that are up. startable: of all types together at most `most_more` nodes."""

    nodes: tuple[Node, ...]
    local: bool
    startable: tuple[NodeType, ...] = ()
    most_more: int = 0

    def total(self, resource: str) -> float:
        """A resource summed over the nodes that are up: CPU, GPU, object_store_memory (bytes)."""
        return sum(node.resources.get(resource, 0) for node in self.nodes)

    @property
    def has_gpu(self) -> bool:
        """Whether there is a GPU, or may be one."""
        return any(one.resources.get("GPU", 0) for one in (*self.nodes, *self.startable))

    @property
    def several(self) -> bool:
        """Whether there is more than one node, or may be."""
        return len(self.nodes) + self.most_more > 1

    @property
    def spared(self) -> Node | None:
        """The head, where it has no GPU and workers have or may have some: it runs no trials then."""
        head = next((node for node in self.nodes if node.head), None)
        return head if head is not None and not head.resources.get("GPU", 0) and self.has_gpu else None

    def without_room(self, feature_bytes: int) -> tuple[Node, ...]:
        """The nodes whose object store can't hold the features."""
        return tuple(node for node in self.nodes if feature_bytes > node.store)

    def __str__(self) -> str:
        where = "a local Ray started for this run" if self.local else "the Ray cluster found"
        store = f"{self.total('object_store_memory') / 2**30:.1f} GiB of shared memory"
        there = f"{where}: {len(self.nodes)} node(s), {self.total('CPU'):g} CPUs, {self.total('GPU'):g} GPUs, {store}"
        return f"{there}; may start {self.more}" if self.startable else there

    @property
    def more(self) -> str:
        """What the autoscaler may start, in words."""
        return " or ".join(map(str, self.startable))


def _amounts(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"


@dataclass(frozen=True)
class Share:
    """What one trial gets, and how many run at once. spared: the id of a node that runs none."""

    concurrent: int
    cpu: int
    gpu: float
    spared: str | None = None

    @property
    def unit(self) -> str:
        """What a search is paid for."""
        return "GPU" if self.gpu else "CPU"

    def pinned(self, config: Config) -> Config:
        """A configuration as a trial trains it here: its device, and the CPU threads that rounding depends on."""
        device = "cuda" if self.gpu and config.device != "cpu" else "cpu"
        return replace(config, threads=config.threads or self.cpu, device=device)

    @property
    def units(self) -> float:
        """How many of them a trial takes."""
        return self.gpu or self.cpu


def start_ray(address: str | None, feature_bytes: int, log: Path) -> Cluster:
    """Joins the cluster asked for or found on this machine, else starts a local Ray that can hold the features.

    Raises InputError where the user named a cluster and none answers, or shared memory is too small.
    """
    named = address or os.environ.get("RAY_ADDRESS")
    option = "--address" if address else "RAY_ADDRESS"
    with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        local = named == "local" or not _joined(named or "auto", option if named else None)
        if local:
            store = _store_bytes(feature_bytes)
            own: dict[str, Any] = {"object_store_memory": store, "resources": {_PRIVATE: 1}, "include_dashboard": False}
            ray.init(address="local", _system_config={"object_spilling_threshold": 1.0}, **own, **_QUIET)
    nodes = alive()
    return Cluster(nodes, local) if local else Cluster(nodes, local, *startable(_autoscaler_config(), nodes))


def alive() -> tuple[Node, ...]:
    """The nodes that are up at this moment, the head first."""
    here = ray.get_runtime_context().get_node_id()
    found = [
        Node(
            node["NodeID"],
            node["NodeManagerHostname"],
            node["Resources"],
            _HEAD in node["Resources"],
            node["NodeID"] == here,
            node.get("Labels", {}).get(_NODE_TYPE),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return tuple(sorted(found, key=lambda node: (not node.head, node.host, node.id)))


def _autoscaler_config() -> Mapping[str, Any] | None:
    """The configuration of this cluster's autoscaler, which runs on the head; None elsewhere, or where there is none.

    Taken from the file that the autoscaler's process was given, for that is the same in both of Ray's autoscalers and
    on every provider. Raises InputError where it can't be read.
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


def startable(config: Mapping[str, Any] | None, nodes: Sequence[Node]) -> tuple[tuple[NodeType, ...], int]:
    """Which node types an autoscaler of this configuration may still start, and how many nodes in all.

    A type that states no resources (own machines) is taken to have those of a node that is up: a worker's, if there is
    one.
    """
    if config is None:
        return (), 0
    workers, head_type = [node for node in nodes if not node.head], config.get("head_node_type")
    most = int(config.get("max_workers", 0))
    left, known = max(most - len(workers), 0), []
    for name, kind in config.get("available_node_types", {}).items():
        resources = kind.get("resources") or _resources_seen(name, workers, nodes)
        up = sum(_is_of(node, name, resources) for node in workers)
        own = int(kind.get("max_workers", 0 if name == head_type else most))
        if min(own - up, left) > 0:
            known.append(NodeType(name, resources, min(own - up, left)))
    return tuple(known), min(left, sum(one.more for one in known))


def _resources_seen(name: str, workers: Sequence[Node], nodes: Sequence[Node]) -> Mapping[str, float]:
    like = [*(node for node in workers if node.kind == name), *workers, *nodes]
    return like[0].resources if like else {}


def _is_of(node: Node, name: str, resources: Mapping[str, float]) -> bool:
    """Whether a node is of a type: by its label, which autoscaler v1 doesn't set, else by its CPUs and GPUs."""
    if node.kind is not None:
        return node.kind == name
    return all(node.resources.get(key, 0) == resources.get(key, 0) for key in ("CPU", "GPU"))


def _joined(known: str, option: str | None) -> bool:
    """Whether a running cluster answered. Raises InputError where an option named one and none does."""
    host, _, port = known.rpartition("://")[2].rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address=known, **_QUIET)
    except (OSError, ValueError, RuntimeError) as error:
        if option is None:
            return False
        fix = "; on a cluster's head, `ray up FILE` starts it" if known == "auto" else ""
        raise InputError(f"{option}: must be a Ray cluster that answers, got {known!r}: {error}{fix}") from None
    if known == "auto" and _PRIVATE in ray.cluster_resources():
        ray.shutdown()
        if option is not None:
            raise InputError(f"{option}: must be a Ray cluster, got {known!r}, and only another search's own runs here")
        return False
    return True


def _store_bytes(size: int) -> int:
    """How large a local object store has to be. Raises InputError when shared memory can't hold it."""
    needed = int(size * _STORE_SLACK) + _STORE_LEAST
    shm = Path("/dev/shm")
    free = shutil.disk_usage(shm).free if shm.exists() else needed
    if size * _STORE_SLACK > free:  # below its own least size Ray takes a slower folder, which a small set can bear
        raise InputError(
            f"data.features: must fit into shared memory ({shm} has {free / 2**30:.1f} GiB free), got "
            f"{size * _STORE_SLACK / 2**30:.1f} GiB needed; mount a larger {shm}, or use data.dtype: float16"
        )
    return needed


def fit(space: Space, cluster: Cluster, feature_bytes: int) -> Share:
    """How many trials run at once, and what each takes. Raises InputError when none fits."""
    plan = space.plan
    wanted = cluster.has_gpu and space.base.device != "cpu"
    gpu = float(wanted) if plan.resources.gpu == "auto" else float(plan.resources.gpu)
    if space.base.device == "cuda" and not gpu:
        raise InputError("base.device: must be auto or cpu where a trial gets no GPU, got 'cuda'")
    if cluster.several and plan.storage is None:
        rule = "must be a place that all nodes reach (s3://..., an NFS folder)"
        more = f"; {cluster.most_more} more may start" if cluster.most_more else ""
        raise InputError(f"search.storage: {rule} on a cluster of {len(cluster.nodes)} node(s){more}, got null")
    _check_room(cluster, feature_bytes)
    spared = cluster.spared
    trained = _trained_on(cluster, spared.id if spared else None, feature_bytes)
    concurrent = sum(places(node.resources, plan.resources.cpu, gpu) for node in trained)
    concurrent += _places_to_come(cluster, plan.resources.cpu, gpu)
    if concurrent < 1:
        raise InputError(
            f"search.resources: must fit the cluster ({_offer(cluster, trained)}), "
            f"got {plan.resources.cpu} CPU(s) and {gpu:g} GPU a trial"
        )
    held = concurrent if plan.concurrent == "auto" else min(concurrent, plan.concurrent)
    return Share(held, plan.resources.cpu, gpu, spared.id if spared else None)


def _trained_on(cluster: Cluster, spared: str | None, feature_bytes: int) -> list[Node]:
    return [node for node in cluster.nodes if node.id != spared and feature_bytes <= node.store]


def used(cluster: Cluster, share: Share, feature_bytes: int) -> list[Node]:
    """The nodes that are up and run trials."""
    found = _trained_on(cluster, share.spared, feature_bytes)
    return [node for node in found if places(node.resources, share.cpu, share.gpu)]


def _check_room(cluster: Cluster, feature_bytes: int) -> None:
    """Raises InputError where the features can't be shared from here, or no node can hold them."""
    small = cluster.without_room(feature_bytes)
    here = [node for node in small if node.here]
    if here or (len(small) == len(cluster.nodes) and not cluster.startable):
        node = here[0] if here else max(small, key=lambda one: one.store)
        raise InputError(
            f"data.features: must fit a node's object store ({node.store / 2**30:.1f} GiB on {node.host}), got "
            f"{feature_bytes / 2**30:.1f} GiB; start Ray with a larger --object-store-memory"
        )


def _places_to_come(cluster: Cluster, cpu: int, gpu: float) -> int:
    """How many trials the nodes hold that may still start, the roomiest started first."""
    left, found = cluster.most_more, 0
    for held, more in sorted(((places(one.resources, cpu, gpu), one.more) for one in cluster.startable), reverse=True):
        found += held * min(left, more)
        left -= min(left, more)
    return found


def _offer(cluster: Cluster, used: Sequence[Node]) -> str:
    """What each node that runs trials has, and each that may start."""
    there = [f"{node.host}: {_amounts(node.resources)}" for node in used[:_NAMED]]
    there += [f"and {len(used) - _NAMED} more node(s)"] * (len(used) > _NAMED)
    there += [str(one) for one in cluster.startable]
    if cluster.spared:
        there.append(f"none on the head {cluster.spared.host}, which has no GPU")
    return "; ".join(there) or "no node with room for the features"


def warnings(cluster: Cluster, share: Share, feature_bytes: int) -> list[str]:
    """What the user should know of nodes before the run."""
    found = [
        f"node {node.host} gets no trial: its object store holds {_gib(node.store)}, and the features take "
        f"{_gib(feature_bytes)}; start Ray there with a larger --object-store-memory"
        for node in cluster.without_room(feature_bytes)
        if node.id != share.spared
    ]
    spill = spill_warning(cluster, feature_bytes)
    return [*found, spill] if spill else found


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"


def spill_warning(cluster: Cluster, feature_bytes: int) -> str | None:
    """Where a cluster that others started would copy the features to a node's disk as well."""
    store = min((node.store for node in cluster.nodes if feature_bytes <= node.store), default=0)
    if cluster.local or not store or feature_bytes <= _SPILLS_FROM * store:
        return None
    return (
        f"the features take {feature_bytes / store:.0%} of a node's object store, and above {_SPILLS_FROM:.0%} Ray "
        "also writes them to its disk; a larger --object-store-memory avoids it"
    )


def places(node: Mapping[str, float], cpu: int, gpu: float) -> int:
    """How many trials one node holds."""
    by_cpu = int(node.get("CPU", 0) // cpu)
    return min(by_cpu, int(node.get("GPU", 0)) * int(1 / gpu + 1e-9)) if gpu else by_cpu


def avoided(share: Share, feature_bytes: int) -> dict[str, str]:
    """Ray's label selector that keeps trials off nodes that run none, as they are at this moment; {} for none.

    A node that doesn't exist yet has no id, so the autoscaler takes its type to be allowed.
    """
    nodes = alive()
    ids = sorted(node.id for node in nodes if node.id == share.spared or feature_bytes > node.store)
    return {_NODE_ID: f"!in({','.join(ids)})"} if ids else {}


def with_room(share: Share, feature_bytes: int, running: Mapping[str, int]) -> list[Node]:
    """The nodes that are up and could hold more trials than run there, by how many run on each host."""
    nodes = alive()
    here = Counter(node.host for node in nodes)
    found = _trained_on(Cluster(nodes, False), share.spared, feature_bytes)
    # Two nodes of one name can't be told apart, so none of them is taken to be full.
    return [
        node
        for node in found
        if places(node.resources, share.cpu, share.gpu) > (running.get(node.host, 0) if here[node.host] == 1 else 0)
    ]


def stir(nodes: Sequence[Node]) -> "list[ray.ObjectRef[None]]":
    """Has nodes tell the head anew what they have free, by a task that takes a little memory there for a moment.

    The head of Ray 2.60 counts on what a placement group was to take, after it was removed while it was being made
    (ray#64693), as long as the node's own figures stay as they are: then trials wait beside a node that is free.
    """
    takes = ray.remote(num_cpus=0, memory=_STIR_BYTES, max_retries=0)(_hold)
    there = [NodeAffinitySchedulingStrategy(node.id, soft=False) for node in nodes]
    return [takes.options(scheduling_strategy=one).remote(_STIR_S) for one in there]


def _hold(seconds: float) -> None:
    time.sleep(seconds)


def request(share: Share, feature_bytes: int) -> Callable[[dict[str, Any]], tune.PlacementGroupFactory]:
    """What Ray Tune asks for a trial, looking at the nodes anew for each."""

    def of(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        selector = avoided(share, feature_bytes)
        bundle = {"CPU": share.cpu, "GPU": share.gpu}
        return tune.PlacementGroupFactory([bundle], bundle_label_selector=[selector] if selector else None)

    return of


def now() -> str:
    """The nodes as they are at this moment, in words."""
    nodes = alive()
    types, _ = startable(_autoscaler_config(), nodes)
    more = f"; may start {' or '.join(map(str, types))}: `ray status` there says what keeps them" if types else ""
    return f"{len(nodes)} node(s) up{more}"
