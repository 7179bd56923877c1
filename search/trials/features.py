"""The packed table in Ray's object store: put once, read by every trial of a node without a copy."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, ObjectStoreFullError, RaySystemError

from haan.data.table import Annotations, ClipTable, FeatureSource, IntArray, offsets_of, slices
from haan.words import byte_size
from search.trials import internals

_CHUNK_BYTES = 256 * 2**20
_LONG_S = 5  # what takes longer is shown as it goes on
_TRIES, _PAUSE_S = 3, 5.0  # of fetching the features on a node
_LOOK_MS = 2000  # at most, for where they are
NO_ROOM = "its object store holds"  # what every message of a node that is too small says


class FeaturesError(Exception):
    """The features could not come to this node. Its name is what the driver knows it by, so keep it in the text."""


@dataclass(frozen=True)
class Opened:
    """How the features came to a process. moved: bytes that its node didn't have yet. began: in Unix seconds."""

    node: str
    host: str
    moved: int
    began: float
    seconds: float


@dataclass(frozen=True)
class SharedTable:
    """A table whose clips lie in the object store. Small itself: it travels to every trial."""

    chunks: tuple["ray.ObjectRef[Any]", ...]
    offsets: IntArray
    annotations: Annotations
    sizes: tuple[int, ...]  # bytes of each chunk

    def open(self) -> ClipTable:
        """The table as seen from a trial: read-only views of this node's one copy."""
        return ClipTable(tuple(ray.get(list(self.chunks))), self.offsets, self.annotations)

    def arrive(self) -> tuple[ClipTable, Opened]:
        """The table, and how it came to this node. Raises FeaturesError where it can't, by no fault of the trial."""
        here, began = _this_node(), time.time()
        _check_store(here, sum(self.sizes))
        there = set(ray.wait(list(self.chunks), num_returns=len(self.chunks), timeout=0)[0])
        moved = sum(size for chunk, size in zip(self.chunks, self.sizes, strict=True) if chunk not in there)
        table = self._fetch(here)
        return table, Opened(here["NodeID"], here["NodeManagerHostname"], moved, began, time.time() - began)

    def on_their_way(self) -> dict[str, int]:
        """Bytes that have come to each node that has some of the features, but not all yet; by the node's id.

        For the driver, which put them.
        """
        held: dict[str, int] = {}
        try:
            there = internals.nodes_with(self.chunks, _LOOK_MS)
        except GetTimeoutError:
            return {}
        for chunk, size in zip(self.chunks, self.sizes, strict=True):
            for node in there[chunk]:
                held[node] = held.get(node, 0) + size
        return {node: come for node, come in held.items() if come < sum(self.sizes)}

    def _fetch(self, here: dict[str, Any], tries: int = _TRIES) -> ClipTable:
        try:
            return self.open()
        except (ObjectLostError, ObjectStoreFullError, GetTimeoutError, RaySystemError) as error:
            if tries == 1:
                raise FeaturesError(_reason(here, error)) from None
        time.sleep(_PAUSE_S)
        return self._fetch(here, tries - 1)


def _this_node() -> dict[str, Any]:
    here = ray.get_runtime_context().get_node_id()
    return next(node for node in internals.nodes_up() if node["NodeID"] == here)


def _check_store(node: dict[str, Any], size: int) -> None:
    store = node["Resources"].get("object_store_memory", 0)
    if size > store:
        raise FeaturesError(
            f"FeaturesError: node {node['NodeManagerHostname']}: {NO_ROOM} {byte_size(store)}, and "
            f"the features take {byte_size(size)}; start Ray there with a larger --object-store-memory"
        )


def _reason(node: dict[str, Any], error: Exception) -> str:
    words = str(error).strip().splitlines()[0]
    return f"FeaturesError: node {node['NodeManagerHostname']}: the features did not arrive: {words}"


class Copies:
    """How the features were copied to nodes other than the driver's, from what trials report."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # by node
        self._hosts: dict[str, str] = {}
        self.copies: dict[str, int] = {}
        self.moved = 0

    def note(self, opened: Opened) -> str | None:
        """Takes in a report; a line where it is of a new copy.

        Trials that start together on a node all wait for the same copy, which is counted once.
        """
        if not opened.moved or opened.began <= self._until.get(opened.node, 0.0):
            return None
        self._until[opened.node] = opened.began + opened.seconds
        self._hosts[opened.node] = opened.host
        self.copies[opened.node] = self.copies.get(opened.node, 0) + 1
        self.moved += opened.moved
        return f"features: {byte_size(opened.moved)} to {opened.host} in {opened.seconds:.0f} s"

    def summary(self) -> str | None:
        """One line on all of them; None where nothing was copied."""
        if not self.copies:
            return None
        most = max(self.copies.values())
        each = "one copy" if most == 1 else f"up to {most} copies"
        return f"features: {each} on each of {len(self.copies)} node(s), {byte_size(self.moved)} moved"

    def attribute(self) -> dict[str, Any]:
        """The same for the study: bytes moved, and copies of each node."""
        by_node = [{"node": node, "host": self._hosts[node], "copies": count} for node, count in self.copies.items()]
        return {"moved": self.moved, "nodes": by_node}


def num_bytes(source: FeatureSource, dtype: str) -> int:
    """What the packed clips take."""
    return int(source.num_clips.sum()) * source.dim * np.dtype(dtype).itemsize


def share(
    source: FeatureSource,
    annotations: Annotations,
    dtype: str,
    chunk_bytes: int = _CHUNK_BYTES,
    say: Callable[[str], None] = lambda line: None,
) -> SharedTable:
    """Puts a source into the object store chunk by chunk; the driver holds one chunk at a time, and none of a cache's.

    A chunk holds whole videos. say: is told how far it is, where it takes long. Raises InputError on NaN or infinity.
    """
    most = max(1, chunk_bytes // (source.dim * np.dtype(dtype).itemsize))
    chunks, sizes, whole, said = [], [], num_bytes(source, dtype), time.monotonic()
    for first, last, values in slices(source, annotations, dtype, most):
        chunks.append(ray.put(values))
        sizes.append(values.nbytes)
        source.release(first, last)
        if time.monotonic() - said > _LONG_S:
            say(f"features: {byte_size(sum(sizes))} of {byte_size(whole)} in shared memory")
            said = time.monotonic()
    return SharedTable(tuple(chunks), offsets_of(source.num_clips), annotations, tuple(sizes))
