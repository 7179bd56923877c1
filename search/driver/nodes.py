"""Where a search runs: finds or starts Ray, and checks that the features and a trial fit.

Of a cluster it knows the nodes that are up and the node types that its autoscaler may start. Not every node runs
trials: where the workers have GPUs and the head has none, the head runs none, and neither does a node whose object
store can't hold the features.
"""

import logging
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from haan.errors import InputError
from search.driver import gpus
from search.driver.gpus import Gpu
from search.trials import internals

_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
_CONNECT_S = 10
_STORE_SLACK = 1.2  # the object store also holds what Ray itself passes around
_STORE_LEAST = 128 * 2**20
_BELOW, _SOCKET_BYTES = "/session_2026-12-31_23-59-59_999999_9999999/sockets/plasma_store", 107  # as Linux has it
_STDERR = 2
_MOST_WORDS = 400  # of what Ray says
_NODE_TYPE = "ray.io/node-group"  # a label that Ray sets
_PRIVATE = "search_private"  # a resource that marks a Ray as that of one search, which ends with it
_ANSWER_S = 120  # of a node that is asked


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

    room: what `probe` finds; None before.
    """

    id: str
    host: str
    resources: Mapping[str, float]
    head: bool = False
    here: bool = False
    kind: str | None = None
    room: Room | None = None

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


def start_ray(
    address: str | None, feature_bytes: int, log: Path, before_local: Callable[[], None] = lambda: None
) -> Cluster:
    """Joins the cluster asked for or found on this machine, else starts a local Ray that can hold the features.

    before_local: prepares the environment that a local Ray, and so every trial, is to have. Raises InputError where the
    user named a cluster and none answers, or shared memory is too small.
    """
    named = address or os.environ.get("RAY_ADDRESS")
    option = "--address" if address else "RAY_ADDRESS"
    with log.open("a", encoding="utf-8") as file, _quietly(file):
        local = named == "local" or not _joined(named or "auto", option if named else None)
        if local:
            before_local()
            store = _store_bytes(feature_bytes)
            own: dict[str, Any] = {"object_store_memory": store, "resources": {_PRIVATE: 1}, "include_dashboard": False}
            _make_room_for_sockets()
            try:
                ray.init(address="local", **internals.NO_SPILLING, **own, **_QUIET)
            except Exception as error:  # whatever it is, a search can't go on, and no traceback helps its user
                words = " ".join(str(error).split())[:_MOST_WORDS] or type(error).__name__
                rule = "a Ray of this search's own must start on this machine"
                raise InputError(f"{rule}, got: {words}; RAY_TMPDIR=FOLDER moves its files") from None
    nodes = alive()
    return Cluster(nodes, local) if local else Cluster(nodes, local, *startable(internals.autoscaler_config(), nodes))


@contextmanager
def _quietly(file: TextIO) -> Iterator[None]:
    """Ray's words go into a file, those of its C++ as well, which knows nothing of Python's streams."""
    sys.stderr.flush()
    terminal = os.dup(_STDERR)
    os.dup2(file.fileno(), _STDERR)
    try:
        with redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        file.flush()
        os.dup2(terminal, _STDERR)
        os.close(terminal)


def _make_room_for_sockets() -> None:
    """Moves Ray's files where their usual place is too long a path for its sockets, or not ours to write in."""
    usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    root = Path(usual, "ray")
    is_short = len(os.fsencode(root)) + len(_BELOW) <= _SOCKET_BYTES
    if not (is_short and os.access(root if root.exists() else usual, os.W_OK | os.X_OK)):
        os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="haan-", dir="/tmp")


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
        )
        for node in internals.nodes_up()
    ]
    return tuple(sorted(found, key=lambda node: (not node.head, node.host, node.id)))


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
    if known == "auto" and any(_PRIVATE in node["Resources"] for node in internals.nodes_up()):
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


def waiting(for_s: str) -> str:
    """Why no trial has run for so long, in words: one machine is slow to start processes, a cluster lacks nodes."""
    nodes, config = alive(), internals.autoscaler_config()
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


def probe(nodes: Sequence[Node], tasks: Mapping[str, Callable[[], None]] = MappingProxyType({})) -> tuple[Node, ...]:
    """The nodes with the room that they have: each is asked once, and all at the same time.

    tasks: by a node's id, what it is to do before it answers. Raises Unanswered, of a task that fails as well.
    """
    asked = [(node, _ask(node, tasks.get(node.id))) for node in nodes]
    return tuple(replace(node, room=_await(node, answer)) for node, answer in asked)


def _ask(node: Node, task: Callable[[], None] | None) -> "ray.ObjectRef[Room]":
    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0)(_look).options(scheduling_strategy=there).remote(task)


def _await(node: Node, answer: "ray.ObjectRef[Room]") -> Room:
    try:
        return ray.get(answer, timeout=_ANSWER_S)
    except RayError as error:
        raise Unanswered(node, str(error).strip().splitlines()[-1]) from None


def _look(task: Callable[[], None] | None) -> Room:
    """On a node."""
    if task is not None:
        task()
    shared, tmp = Path("/dev/shm"), tempfile.gettempdir()
    free = shutil.disk_usage(shared).free if shared.exists() else None
    return Room(free, tmp, shutil.disk_usage(tmp).free, gpus.here())
