"""What a trial gets of the nodes, where trials may run, and what is said of both."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from haan.config import Config
from haan.errors import InputError
from haan.words import byte_size, per_cent
from search.driver.gpus import Gpu
from search.driver.nodes import Cluster, Node, alive, amounts
from search.space.model import Space

_NAMED = 8  # nodes in one message
_SPILLS_FROM = 0.8  # of a store: from there on Ray also writes what lies in it to disk, unless told otherwise
_NODE_ID = "ray.io/node-id"
_STIR_BYTES, _STIR_S = 2**20, 1.0
_MOST_A_GPU = 16  # as many as were measured; each takes a process and CUDA's own memory
_GPU_LEFT = 0.05  # of what is free there, for what an estimate can't know


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


@dataclass(frozen=True)
class Crowd:
    """How many trials share a GPU where the user leaves it open: what its memory and the cores beside it hold.

    None: no GPU is up whose memory could be asked.
    """

    by_memory: int | None
    by_cores: int

    @property
    def size(self) -> int:
        """At least one: what does not fit is said where all of a trial's memory is counted."""
        return max(1, min(self.by_memory, self.by_cores, _MOST_A_GPU)) if self.by_memory is not None else 1

    @property
    def share(self) -> float:
        """Of a GPU, for each, as Ray counts them: in ten-thousandths."""
        return 10_000 // self.size / 10_000

    def __str__(self) -> str:
        if self.by_memory is None:
            return "gpu: auto is a whole GPU, for none is up whose memory could be asked"
        most = f", and {_MOST_A_GPU} are the most" if min(self.by_memory, self.by_cores) > _MOST_A_GPU else ""
        return (
            f"gpu: auto is {self.size} trial(s) a GPU: its memory holds {self.by_memory}, "
            f"the cores beside it {self.by_cores}{most}"
        )


def crowd(space: Space, cluster: Cluster, gpus: Sequence[Gpu], need: int) -> Crowd:
    """What `gpu: auto` means on a cluster with GPUs. gpus: those that are known. need: of one, a trial's bytes."""
    with_some = [one.resources for one in (*cluster.nodes, *cluster.startable) if one.resources.get("GPU", 0)]
    cores = max(int(one.get("CPU", 0) / one["GPU"]) // space.plan.resources.cpu for one in with_some)
    free = min((gpu.free for gpu in gpus), default=None)
    return Crowd(None if free is None else int(free * (1 - _GPU_LEFT)) // need, cores)


def fit(space: Space, cluster: Cluster, feature_bytes: int, crowd: Crowd | None = None) -> Share:
    """How many trials run at once, and what each takes. Raises InputError when none fits.

    crowd: how many are to share a GPU where the space leaves it open; None: each has one to itself.
    """
    plan = space.plan
    auto = (crowd.share if crowd else 1.0) if cluster.has_gpu and space.base.device != "cpu" else 0.0
    gpu = auto if plan.resources.gpu == "auto" else float(plan.resources.gpu)
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
    there = [f"{node.host}: {amounts(node.resources)}" for node in used[:_NAMED]]
    there += [f"and {len(used) - _NAMED} more node(s)"] * (len(used) > _NAMED)
    there += [str(one) for one in cluster.startable]
    if cluster.spared:
        there.append(f"none on the head {cluster.spared.host}, which has no GPU")
    return "; ".join(there) or "no node with room for the features"


def warnings(cluster: Cluster, share: Share, feature_bytes: int) -> list[str]:
    """What the user should know of nodes before the run."""
    found = [
        f"node {node.host} gets no trial: its object store holds {byte_size(node.store)}, and the features take "
        f"{byte_size(feature_bytes)}; start Ray there with a larger --object-store-memory"
        for node in cluster.without_room(feature_bytes)
        if node.id != share.spared
    ]
    spill = spill_warning(cluster, feature_bytes)
    return [*found, spill] if spill else found


def spill_warning(cluster: Cluster, feature_bytes: int) -> str | None:
    """Where a cluster that others started would copy the features to a node's disk as well."""
    store = min((node.store for node in cluster.nodes if feature_bytes <= node.store), default=0)
    if cluster.local or not store or feature_bytes <= _SPILLS_FROM * store:
        return None
    return (
        f"the features take {per_cent(feature_bytes / store)} of a node's object store, and above "
        f"{per_cent(_SPILLS_FROM)} Ray also writes them to its disk; a larger --object-store-memory avoids it"
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
