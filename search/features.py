"""The packed table in Ray's object store: put once, read by every trial of a node without a copy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from haan.data.table import Annotations, ClipTable, FeatureSource, IntArray, offsets_of, slices

_CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class SharedTable:
    """A table whose clips lie in the object store. Small itself: it travels to every trial."""

    chunks: tuple["ray.ObjectRef[Any]", ...]
    offsets: IntArray
    annotations: Annotations

    def open(self) -> ClipTable:
        """The table as seen from a trial: read-only views of this node's one copy."""
        return ClipTable(tuple(ray.get(list(self.chunks))), self.offsets, self.annotations)


def num_bytes(source: FeatureSource, dtype: str) -> int:
    """What the packed clips take."""
    return int(source.num_clips.sum()) * source.dim * np.dtype(dtype).itemsize


def share(source: FeatureSource, annotations: Annotations, dtype: str, chunk_bytes: int = _CHUNK_BYTES) -> SharedTable:
    """Puts a source into the object store chunk by chunk; the driver holds one chunk at a time, and none of a cache's.

    A chunk holds whole videos. Raises InputError on NaN or infinity.
    """
    most = max(1, chunk_bytes // (source.dim * np.dtype(dtype).itemsize))
    chunks = []
    for first, last, values in slices(source, annotations, dtype, most):
        chunks.append(ray.put(values))
        source.release(first, last)
    return SharedTable(tuple(chunks), offsets_of(source.num_clips), annotations)
