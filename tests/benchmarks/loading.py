"""Features from a file into a table, and into Ray's object store."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import ray
from numpy.typing import NDArray

from haan.data.table import Annotations, pack
from search.features import share
from tests.benchmarks import own_ray
from tests.benchmarks.measure import Rival, Row, compare
from tests.benchmarks.sizes import SIZES, make_table

SHAPE = (328, 100, 4096)  # FineAction's videos, 512 MiB of float32
SIZE = "512 MiB, 4096-d"


@dataclass(frozen=True)
class Features:
    """Videos of equally many clips: [videos, clips, d]."""

    path: Path
    array: NDArray[np.floating]

    @property
    def num_clips(self) -> NDArray[np.int64]:
        """[videos] clips of each."""
        return np.full(len(self.array), self.array.shape[1])

    @property
    def dim(self) -> int:
        """Feature size d."""
        return self.array.shape[2]

    def read(self, first: int, last: int) -> NDArray[np.floating]:
        """[clips, d] of some videos."""
        return self.array[first:last].reshape(-1, self.dim)


@contextmanager
def features_file() -> Iterator[Path]:
    """A float32 file of random features, which the page cache holds; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="haan-benchmarks-") as folder:
        path = Path(folder) / "features.npy"
        np.save(path, np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32))
        yield path


def loading(repeats: int) -> Iterator[Row]:
    """Packed as float16 slice by slice and checked for NaN, against the whole file read and cast."""
    annotations = make_table(SIZES["small"])[0].annotations  # read where a clip is not finite, and none is
    with features_file() as path:
        plain = Rival("np.load and astype", lambda i: np.load(path).astype(np.float16))
        source = Features(path, np.load(path, mmap_mode="r"))
        yield from compare("loading", SIZE, lambda i: pack(source, annotations, "float16"), [plain], repeats, "wall")


def put(repeats: int) -> Iterator[Row]:
    """Into shared memory, from the float32 file and from float16 in memory, against one put of the ready array."""
    annotations = make_table(SIZES["small"])[0].annotations
    with features_file() as path, own_ray.started(store_bytes=2**30):
        mapped = Features(path, np.load(path, mmap_mode="r"))
        ready = Features(path, np.load(path).astype(np.float16))
        flat = ready.read(0, len(ready.array))
        bare = Rival("ray.put of the ready float16", lambda i: ray.put(flat))
        for name, source in (("put, from the file", mapped), ("put, from float16 in memory", ready)):
            yield from compare(
                name, SIZE, lambda i, s=source: share(s, annotations, "float16"), [bare], repeats, "wall"
            )


def _share(source: Features, annotations: Annotations, i: int) -> None:
    share(source, annotations, "float16")
