"""Features from a file into a table, and into Ray's object store."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import ray

from haan.config import Data
from haan.data import cache
from haan.data.readers import open_data
from haan.data.table import Annotations, FeatureSource, Packed, pack
from search.trials.features import share
from tests.benchmarks import own_ray
from tests.benchmarks.measure import Problem, Rival, Row, compare

VIDEOS, CLIPS, DIM = 328, 100, 4096  # FineAction's shape, as many videos as make 512 MiB of float32
PROBLEM = Problem("512 MiB", f"{VIDEOS} videos x {CLIPS} clips x {DIM} as one float32 file, in the page cache")


@contextmanager
def data_set() -> Iterator[Data]:
    """Random float32 features in one file, which the page cache holds, with one class; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="haan-benchmarks-") as folder:
        arrays = {
            "features": np.random.default_rng(0).standard_normal((VIDEOS, CLIPS, DIM), dtype=np.float32),
            "video_names": np.array([f"video{i}" for i in range(VIDEOS)]),
            "labels": np.zeros((VIDEOS, 1, 2), dtype=np.int64),
            "segments": np.tile(np.array([1.0, 2.0]), (VIDEOS, 1, 1)),
            "sec2clip_ratios": np.ones(VIDEOS),
        }
        for name, array in arrays.items():
            np.save(Path(folder, name), array)
        Path(folder, "fine_to_coarse_mappings.json").write_text(json.dumps({"0": 0}), encoding="utf-8")
        with patch.dict(os.environ, {cache.VARIABLE: "off"}):  # the user's own is left alone
            yield Data(root=folder, features="features.npy", train_videos=VIDEOS - 1)


def loading(repeats: int) -> Iterator[Row]:
    """Opened, rounded to float16, checked for NaN; against the file read whole and cast."""
    with data_set() as data:
        path = Path(data.root, data.features)

        def ours(i: int) -> None:
            source, annotations, _ = open_data(data)
            pack(source, annotations, data.dtype)

        plain = Rival("np.load and astype", lambda i: np.load(path).astype(data.dtype))
        yield from compare("loading", PROBLEM, ours, [plain], repeats, "wall")


def start(repeats: int) -> Iterator[Row]:
    """All that a search does with features before it shares them, without a cache, writing one, and finding one."""
    with data_set() as data:
        time.sleep(cache.SETTLE_S + 1)  # no cache is made of a file that changed just now
        folder = Path(data.root, "cache")
        without = Rival("no cache", lambda i: _start(data, "off"))

        def first(i: int) -> None:
            shutil.rmtree(folder, ignore_errors=True)
            if not _start(data, str(folder)):
                raise AssertionError("a first start must write the cache")

        yield from compare("start, first", PROBLEM, first, [without], repeats, "wall")
        yield from compare("start, later", PROBLEM, lambda i: _start(data, str(folder)), [without], repeats, "wall")


def _start(data: Data, place: str) -> bool:
    """Whether it ends with a cache."""
    with patch.dict(os.environ, {cache.VARIABLE: place}):
        opened, annotations, _ = open_data(data)
        source, _ = cache.keep(data, opened, annotations)
        cache.fingerprint(source, annotations, data.dtype)
    return isinstance(source, cache.Cached)


def put(repeats: int) -> Iterator[Row]:
    """Into shared memory from the float32 file, and of what is packed already, against one put of the whole array."""
    with data_set() as data, own_ray.started(store_bytes=2**30):
        path = Path(data.root, data.features)
        source, annotations, _ = open_data(data)
        (values,) = pack(source, annotations, data.dtype).chunks
        packed = Packed(path, values, source.num_clips)
        ready = Rival("ray.put of the ready float16", lambda i: ray.put(values))
        whole = Rival("np.load, astype, ray.put", lambda i: ray.put(np.load(path).astype(data.dtype)))
        ours = partial(_share, source, annotations, data.dtype)
        yield from compare("put, from the file", PROBLEM, ours, [ready, whole], repeats, "wall")
        ours = partial(_share, packed, annotations, data.dtype)
        yield from compare("put, packed before", PROBLEM, ours, [ready], repeats, "wall")


def _share(source: FeatureSource, annotations: Annotations, dtype: str, i: int) -> None:
    share(source, annotations, dtype)
