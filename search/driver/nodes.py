"""Where a search runs: finds or starts Ray, and checks that the features and a trial fit.

Of a cluster it knows the nodes that are up and the node types that its autoscaler may start. Not every node runs
trials: where the workers have GPUs and the head has none, the head runs none, and neither does a node whose object
store can't hold the features.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from haan.errors import InputError
from search.driver import batchqueue, gpus, joining, localray, outcry
from search.driver.batchqueue import BatchQueue
from search.driver.given import Given
from search.driver.gpus import Gpu
from search.trials import internals

_NODE_TYPE = "ray.io/node-group"  # a label that Ray sets
_ANSWER_S = 120  # of a node that is asked
_LOST_S = 5.0  # until Ray's head has taken a node for dead whose connection broke


@dataclass(frozen=True)
class Room:
    """Free bytes on a node: of its shared memory (None without /dev/shm) and of its temporary folder.

    gpus: its GPUs, as NVIDIA's own command lists them; none where there is no such command.
    """

    shared_free: int | None
    tmp: str
    tmp_free: int
    gpus: tuple[Gpu, ...] = ()


@dataclass(frozen=True)
class Node:
    """A node that is up. head: whether it is the cluster's; here: whether this process runs on it.

    room: what `probe` finds; None before. job: of Slurm's, that it is; None: it is none.
    """

    id: str
    host: str
    resources: Mapping[str, float]
    head: bool = False
    here: bool = False
    kind: str | None = None
    room: Room | None = None
    job: str | None = None

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
        return f"{self.more} more of {self.name} ({amounts(self.resources)} each)"


@dataclass(frozen=True)
class Cluster:
    """Where the search runs. nodes: those that are up. startable: of all types together at most `most_more` nodes.

    given: what a local Ray was given of this machine. aside: what else runs there and was left alone, in words.
    """

    nodes: tuple[Node, ...]
    local: bool
    startable: tuple[NodeType, ...] = ()
    most_more: int = 0
    given: Given | None = None
    aside: tuple[str, ...] = ()

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
        where = "a local Ray of its own" if self.local else "the Ray cluster found"
        store = f"{self.total('object_store_memory') / 2**30:.1f} GiB shared memory"
        there = f"{where}: {len(self.nodes)} node(s), {self.total('CPU'):g} CPUs, {self.total('GPU'):g} GPUs, {store}"
        return f"{there}; may start {self.more}" if self.startable else there

    @property
    def more(self) -> str:
        """What the autoscaler may start, in words."""
        return " or ".join(map(str, self.startable))


def amounts(resources: Mapping[str, float]) -> str:
    return f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"


def aim(address: str | None) -> str:
    """What `start_ray` of the same address is about to do."""
    named = _named(address)
    if named is None:
        return "Starting Ray, unless one runs here already ..."
    if named == "local":
        return "Starting Ray ..."
    return "Joining the Ray that runs here ..." if named == "auto" else f"Joining the Ray at {named} ..."


def _named(address: str | None) -> str | None:
    return address or os.environ.get("RAY_ADDRESS") or None


def start_ray(
    address: str | None,
    feature_bytes: int,
    log: Path,
    held: ExitStack,
    before_local: Callable[[], int | None] = lambda: None,
) -> Cluster:
    """Joins the cluster asked for or this user's on this machine, else starts a local Ray that can hold the features.

    held: takes up what must end after Ray. before_local: prepares the environment that a local Ray, and so every trial,
    is to have; how many GPUs it has, where Ray can't count them. Raises InputError where the user named a cluster and
    none answers, or a local Ray would lack what it needs.
    """
    named = _named(address)
    option = ("--address" if address else "RAY_ADDRESS") if named else None
    with log.open("a", encoding="utf-8") as file, _quietly(file):  # of a dry run nothing else keeps it
        joined, aside = _joined(named, option)
        given = None if joined else localray.start(feature_bytes, held, before_local)
    nodes = alive()
    if given is not None:
        return Cluster(nodes, True, given=given, aside=aside)
    return Cluster(nodes, False, *startable(_what_may_come(), nodes))


def _joined(named: str | None, option: str | None) -> tuple[bool, tuple[str, ...]]:
    """Whether a cluster was joined, and what is to be said of those that were not. Raises InputError."""
    if named == "local":
        return False, ()
    if named is None or option is None or named == "auto":
        return joining.join_mine(option)
    joining.join(named, option)
    return True, ()


@contextmanager
def _quietly(file: TextIO) -> Iterator[None]:
    """Ray's words go into a file, those of its C++ as well."""
    with outcry.libraries_into(file), redirect_stdout(file), redirect_stderr(file):
        yield


def alive() -> tuple[Node, ...]:
    """The nodes that are up at this moment, the head first."""
    here = ray.get_runtime_context().get_node_id()
    found = [
        Node(
            node["NodeID"],
            node["NodeManagerHostname"],
            node["Resources"],
            internals.is_head(node),
            node["NodeID"] == here,
            node.get("Labels", {}).get(_NODE_TYPE),
            job=node.get("Labels", {}).get(batchqueue.LABEL),
        )
        for node in internals.nodes_up()
    ]
    return tuple(sorted(found, key=lambda node: (not node.head, node.host, node.id)))


def _what_may_come() -> Mapping[str, Any] | None:
    """Nodes that may start, as the configuration of an autoscaler: that of the cluster's, or Slurm's queue."""
    queue = BatchQueue.here()
    return queue.as_autoscaler() if queue is not None else internals.autoscaler_config()


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


def waiting(for_s: str) -> str:
    """Why no trial has run for so long, in words: one machine is slow to start processes, a cluster lacks nodes."""
    nodes, queue = alive(), BatchQueue.here()
    if queue is not None:
        up = sum(node.job is not None for node in nodes)
        what = "waiting for workers" if up < queue.most else "still starting trials"
        return f"{what}: no trial has run for {for_s}; {queue.words(up)}"
    config = internals.autoscaler_config()
    if len(nodes) == 1 and config is None:
        return f"still starting workers: no trial has run for {for_s}, this machine is busy"
    types, _ = startable(config, nodes)
    more = f"; may start {' or '.join(map(str, types))}: `ray status` there says what keeps them" if types else ""
    return f"waiting for nodes: no trial has run for {for_s}; {len(nodes)} node(s) up{more}"


class Unanswered(InputError):
    """A node that was asked and did not answer, and why."""

    def __init__(self, node: Node, reason: str):
        rule = "must answer and have this project installed (pip install -e .)"
        super().__init__(f"node {node.host}: {rule}, got {reason}")
        self.node, self.reason = node, reason


class Left(Exception):
    """A node that was up, and has left the cluster since or is about to: Slurm or a cloud takes it back."""

    def __init__(self, node: Node):
        super().__init__(f"node {node.host} has left since, or is about to")
        self.node = node


def without(cluster: Cluster, left: Node) -> Cluster:
    """A cluster that others started, without a node that leaves; another like it may start."""
    stay = tuple(node for node in cluster.nodes if node.id != left.id)
    types, most = startable(_what_may_come(), stay)
    return replace(cluster, nodes=stay, startable=types, most_more=most)


def probe(nodes: Sequence[Node], tasks: Mapping[str, Callable[[], None]] = MappingProxyType({})) -> tuple[Node, ...]:
    """The nodes with the room that they have: each is asked once, and all at the same time.

    tasks: by a node's id, what it is to do before it answers. Raises Unanswered, of a task that fails as well, and
    Left.
    """
    asked = [(node, _ask(node, tasks.get(node.id))) for node in nodes]
    return tuple(replace(node, room=_await(node, answer)) for node, answer in asked)


def _ask(node: Node, task: Callable[[], None] | None) -> "ray.ObjectRef[Room]":
    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(_look).options(scheduling_strategy=there).remote(task)


def _await(node: Node, answer: "ray.ObjectRef[Room]") -> Room:
    try:
        return ray.get(answer, timeout=_ANSWER_S)
    except TaskUnschedulableError:  # asks for nothing, so any node has room for it that is to stay
        raise Left(node) from None
    except RayError as error:
        if not isinstance(error, RayTaskError | GetTimeoutError) and _leaves(node):
            raise Left(node) from None
        raise Unanswered(node, str(error).strip().splitlines()[-1]) from None


def _leaves(node: Node) -> bool:
    """Whether a node is taken for dead, or is so within moments."""
    until = time.monotonic() + _LOST_S
    while any(one.id == node.id for one in alive()):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _look(task: Callable[[], None] | None) -> Room:
    """On a node."""
    if task is not None:
        task()
    shared, tmp = Path("/dev/shm"), tempfile.gettempdir()
    free = shutil.disk_usage(shared).free if shared.exists() else None
    return Room(free, tmp, shutil.disk_usage(tmp).free, gpus.here())
