"""Features in shared memory: the same table as a packed one, read by every trial of a node without a copy."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
from ray import cloudpickle, tune

from haan.config import Data, Optim
from haan.data.table import Split, pack
from haan.errors import InputError
from haan.methods.haan.config import Concepts, HaanConfig, Model
from search.trials.features import SharedTable, num_bytes, share
from search.trials.trial import TrialRunner
from tests.search.trials import drawn
from tests.search.trials.drawn import CLIPS, DIM, MIB, Drawn, annotate

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    for module in (sys.modules[__name__], drawn):
        cloudpickle.register_pickle_by_value(module)  # workers can't import the tests
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=1536 * MIB,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
    for module in (sys.modules[__name__], drawn):
        cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_shared_table_equals_the_packed_one(dtype: str) -> None:
    source = Drawn(np.array([3, 1, 7, 2, 5]), dim=8)
    annotations = annotate(5)
    chunk_bytes = 6 * 8 * np.dtype(dtype).itemsize  # six clips; the video of seven stands alone
    shared = share(source, annotations, dtype, chunk_bytes).open()
    packed = pack(source, annotations, dtype)
    assert [len(chunk) for chunk in shared.chunks] == [4, 7, 2, 5]
    assert {chunk.dtype for chunk in shared.chunks} == {np.dtype(dtype)}
    np.testing.assert_array_equal(np.concatenate(shared.chunks), packed.chunks[0])
    np.testing.assert_array_equal(shared.offsets, packed.offsets)
    assert shared.dim == packed.dim
    assert shared.annotations.names == annotations.names
    for videos in (np.array([4, 0, 2]), np.arange(5)):
        ours, theirs = (table.gather(videos, torch.empty(18, 8)) for table in (shared, packed))
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert num_bytes(source, dtype) == packed.chunks[0].nbytes


def test_a_clip_that_is_not_finite_is_refused_before_any_trial() -> None:
    with pytest.raises(InputError, match=r"video 2 \('video-2'\), clip 1: must be finite in float16, got nan"):
        share(Drawn(np.array([3, 3, 3, 3]), dim=8, broken=2), annotate(4), "float16", chunk_bytes=4 * 8 * 2)


@dataclass(frozen=True)
class Seen:
    """One chunk as a worker sees it. mapped: the file that its memory belongs to."""

    writeable: bool
    address: int
    address_again: int
    mapped: str


def look(shared: SharedTable) -> list[Seen]:
    """What this process sees of the chunks."""

    def file_at(address: int) -> str:
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, *_, name = line.split(maxsplit=5)
            first, last = (int(end, 16) for end in span.split("-"))
            if first <= address < last:
                return name
        return "nothing"

    pairs = zip(shared.open().chunks, shared.open().chunks, strict=True)
    return [
        Seen(
            a.flags.writeable,
            a.__array_interface__["data"][0],
            b.__array_interface__["data"][0],
            file_at(a.__array_interface__["data"][0]),
        )
        for a, b in pairs
    ]


def test_a_worker_reads_the_one_copy_in_shared_memory_and_can_t_write_it() -> None:
    source = Drawn(np.array([64] * 8), dim=1024)
    shared = share(source, annotate(8), "float16", chunk_bytes=2 * 64 * 1024 * 2)
    seen = ray.get(ray.remote(look).remote(shared))
    assert len(seen) == 4
    for chunk in seen:
        assert not chunk.writeable
        assert chunk.address == chunk.address_again
        assert "plasma" in chunk.mapped


class Measured(TrialRunner):
    """The real trial, which can also say what its process holds."""

    def private_mib(self) -> float:
        """USS in MiB."""
        return psutil.Process().memory_full_info().uss / MIB


def private_mib(videos: int) -> list[float]:
    """Of two trials on one node, what each holds after an epoch, both on the same features of `videos` MiB."""
    annotations = annotate(videos)
    source = Drawn(np.full(videos, CLIPS), DIM)
    assert num_bytes(source, "float16") == videos * MIB
    config = HaanConfig(
        data=Data(root="none", features="none", train_videos=videos),
        model=Model(width=16),
        concepts=Concepts(clusters=8, top_k=2),
        optim=Optim(epochs=1),
        device="cpu",
        threads=1,
    )
    trainable = tune.with_parameters(
        Measured,
        base=config,
        detects=(config.detect,),
        splits={"official": Split(np.arange(videos - 4), np.arange(videos - 4, videos))},
        shared=share(source, annotations, "float16"),
    )
    trial = ray.remote(num_cpus=1)(trainable)
    settings = [{"number": i, "params": {}, "sweep": True, "restore": []} for i in range(2)]
    trials = [trial.remote(config=one) for one in settings]
    results: list[dict[str, Any]] = ray.get([trial.train.remote() for trial in trials])
    assert [result["epochs"][0]["epoch"] for result in results] == [1, 1]
    return ray.get([trial.private_mib.remote() for trial in trials])


@pytest.mark.slow
def test_two_trials_on_one_node_read_one_copy(capsys: pytest.CaptureFixture[str]) -> None:
    small, large = 64, 1024
    private = {videos: private_mib(videos) for videos in (small, large)}
    with capsys.disabled():
        for videos, trials in private.items():
            numbers = " and ".join(f"{held:.1f}" for held in trials)
            sys.stderr.write(f"\n{videos} MiB of features: USS of two trials: {numbers} MiB\n")
    allowed = 0.01 * (large - small)
    for at_small, at_large in zip(private[small], private[large], strict=True):
        assert at_large - at_small < allowed
