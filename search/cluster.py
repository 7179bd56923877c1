"""Where a search runs: finds or starts Ray, and checks that the features and a trial fit."""

import logging
import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from haan.config import Config
from haan.errors import InputError
from search.space import Space

_QUIET: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
_CONNECT_S = 10
_STORE_SLACK = 1.2  # the object store also holds what Ray itself passes around
_STORE_LEAST = 128 * 2**20
_SPILLS_FROM = 0.8  # of a store: from there on Ray also writes what lies in it to disk, unless told otherwise
_PRIVATE = "search_private"  # a resource that marks a Ray as that of one search, which ends with it


@dataclass(frozen=True)
class Cluster:
    """Where the search runs. nodes: the resources of each node that is alive."""

    nodes: tuple[Mapping[str, float], ...]
    local: bool

    def total(self, resource: str) -> float:
        """A resource summed over the nodes: CPU, GPU, object_store_memory (bytes)."""
        return sum(node.get(resource, 0) for node in self.nodes)

    def __str__(self) -> str:
        where = "a local Ray started for this run" if self.local else "the Ray cluster found"
        store = f"{self.total('object_store_memory') / 2**30:.1f} GiB of shared memory"
        return f"{where}: {len(self.nodes)} node(s), {self.total('CPU'):g} CPUs, {self.total('GPU'):g} GPUs, {store}"


@dataclass(frozen=True)
class Share:
    """What one trial gets, and how many run at once."""

    concurrent: int
    cpu: int
    gpu: float

    @property
    def unit(self) -> str:
        """What a search is paid for."""
        return "GPU" if self.gpu else "CPU"

    def pinned(self, config: Config) -> Config:
        """A configuration as a trial trains it here: its device, and the CPU threads that rounding depends on."""
        return replace(config, threads=config.threads or self.cpu, device="cuda" if self.gpu else "cpu")

    @property
    def units(self) -> float:
        """How many of them a trial takes."""
        return self.gpu or self.cpu


def start_ray(address: str | None, feature_bytes: int, log: Path) -> Cluster:
    """Joins the cluster asked for or found on this machine, else starts a local Ray that can hold the features.

    Raises InputError where the user named a cluster and none answers, or shared memory is too small.
    """
    known = address or os.environ.get("RAY_ADDRESS") or "auto"
    with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        local = known == "local" or not _joined(known, address)
        if local:
            store = _store_bytes(feature_bytes)
            own: dict[str, Any] = {"object_store_memory": store, "resources": {_PRIVATE: 1}, "include_dashboard": False}
            ray.init(address="local", _system_config={"object_spilling_threshold": 1.0}, **own, **_QUIET)
    return Cluster(tuple(node["Resources"] for node in ray.nodes() if node["Alive"]), local)


def _joined(known: str, address: str | None) -> bool:
    """Whether a running cluster answered. Raises InputError where the user named one and none does."""
    host, _, port = known.rpartition("://")[2].rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(address=known, **_QUIET)
    except (OSError, ValueError, RuntimeError) as error:
        if known != "auto":
            option = "--address" if address else "RAY_ADDRESS"
            raise InputError(f"{option}: must be a Ray cluster that answers, got {known!r}: {error}") from None
        return False
    if known == "auto" and _PRIVATE in ray.cluster_resources():
        ray.shutdown()
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
    gpu = (1.0 if cluster.total("GPU") else 0.0) if plan.resources.gpu == "auto" else float(plan.resources.gpu)
    if space.base.device == "cuda" and not gpu:
        raise InputError("base.device: must be auto or cpu where a trial gets no GPU, got 'cuda'")
    concurrent = sum(places(node, plan.resources.cpu, gpu) for node in cluster.nodes)
    if concurrent < 1:
        wanted = f"{plan.resources.cpu} CPU(s) and {gpu:g} GPU a trial"
        there = f"{cluster.total('CPU'):g} CPUs, {cluster.total('GPU'):g} GPUs"
        raise InputError(f"search.resources: must fit the cluster ({there}), got {wanted}")
    if len(cluster.nodes) > 1 and plan.storage is None:
        rule = "must be a place that all nodes reach (s3://..., an NFS folder)"
        raise InputError(f"search.storage: {rule} on a cluster of {len(cluster.nodes)} nodes, got null")
    store = min(node.get("object_store_memory", 0) for node in cluster.nodes)
    if feature_bytes > store:
        raise InputError(
            f"data.features: must fit a node's object store ({store / 2**30:.1f} GiB), got "
            f"{feature_bytes / 2**30:.1f} GiB; start Ray with a larger --object-store-memory"
        )
    return Share(concurrent if plan.concurrent == "auto" else min(concurrent, plan.concurrent), plan.resources.cpu, gpu)


def spill_warning(cluster: Cluster, feature_bytes: int) -> str | None:
    """Where a cluster that others started would copy the features to a node's disk as well."""
    store = min(node.get("object_store_memory", 0) for node in cluster.nodes)
    if cluster.local or feature_bytes <= _SPILLS_FROM * store:
        return None
    return (
        f"the features take {feature_bytes / store:.0%} of a node's object store, and above {_SPILLS_FROM:.0%} Ray "
        "also writes them to its disk; a larger --object-store-memory avoids it"
    )


def places(node: Mapping[str, float], cpu: int, gpu: float) -> int:
    """How many trials one node holds."""
    by_cpu = int(node.get("CPU", 0) // cpu)
    return min(by_cpu, int(node.get("GPU", 0)) * int(1 / gpu + 1e-9)) if gpu else by_cpu
