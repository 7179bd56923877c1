"""Whether a GPU trains what a CPU trains, and twice the same."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from haan.data.table import ClipTable, IntArray, Split
from haan.methods.haan import clustering, lloyd
from haan.methods.haan.config import HaanConfig
from haan.train import Trainer
from tests.benchmarks.sizes import SIZES, Size, make_table
from tests.gpu.rows import Row
from tests.planted import tiny_config, tiny_table

STEPS = 50


def rows(device: str, tiny: bool) -> Iterator[Row]:
    """device: held against a CPU. tiny: at a size that a CPU takes a second for."""
    yield from _steps(device, SIZES["small" if tiny else "middle"], 6 if tiny else STEPS)
    with tempfile.TemporaryDirectory() as folder:
        config = replace(tiny_config(Path(folder, "data")), precision="float32")
        config = replace(config, optim=replace(config.optim, epochs=3 if tiny else 30))
        yield from _trained(device, config, *tiny_table(config))
    yield _kmeans(device, 2_000 if tiny else 20_000)


def trainer_of(size: Size, device: str, alone: bool = True, **changes: object) -> Trainer:
    """On random features, clustered; with float32 products and without dropout unless told otherwise.

    alone: clips may stay on the GPU, else they are read from the host's memory, as beside other trials.
    """
    table, parts = make_table(size)
    config = replace(size.config(), device=device, precision="float32")
    plain = replace(config, model=replace(config.model, dropout=0.0))
    return Trainer(replace(plain, **changes), table, parts, alone=alone)  # type: ignore[arg-type]


def steps_of(trainer: Trainer, count: int) -> Tensor:
    """The losses of so many steps in fixed shapes; as graphs where the trainer makes some."""
    order = _videos(trainer, count)
    trainer.begin(order)
    steps = trainer._fixed or trainer.fixed_steps(graphs=False)
    return steps.epoch(trainer._schedule, trainer._columns, trainer.split.train[order]).clone()


def _videos(trainer: Trainer, count: int) -> IntArray:
    """Those of so many batches."""
    rng, train = np.random.default_rng(0), len(trainer.split.train)
    batch = trainer.config.optim.batch_videos
    return np.concatenate([rng.choice(train, batch, replace=False) for _ in range(count)])


def _steps(device: str, size: Size, count: int) -> Iterator[Row]:
    """The losses of each step, from the same weights and clusters, against those of the loop that a CPU takes."""
    ours, theirs = trainer_of(size, device), trainer_of(size, "cpu")
    theirs.method.renew(1)
    ours.model.load_state_dict(theirs.model.state_dict())
    ours.method.restore(theirs.method.state())
    found = steps_of(ours, count).cpu()
    expected = torch.stack([theirs.train_step(step) for step in range(theirs.begin(_videos(theirs, count)))])
    apart = float(((found - expected) / expected).abs().max())
    yield Row(part="parity", work=f"losses of {count} steps, {size.name}", value=apart, unit="relative", goal=1e-4)
    graphs = ours._fixed is not None and ours._fixed._graphs is not None
    yield Row(part="parity", work="steps are graphs", value=float(graphs), unit="", goal=1.0, most=False)


def _trained(device: str, config: HaanConfig, table: ClipTable, parts: Split) -> Iterator[Row]:
    # Without dropout, which a CPU draws otherwise.
    plain = replace(config, model=replace(config.model, dropout=0.0))
    pair = (Trainer(replace(plain, device=name), table, parts, alone=True) for name in (device, "cpu"))
    ours, theirs = (list(one.epochs())[-1].avg_map[0] for one in pair)
    epochs = config.optim.epochs
    yield Row(part="parity", work=f"avg.mAP after {epochs} epochs", value=abs(ours - theirs), unit="points", goal=0.3)
    on_device = replace(config, device=device)
    found, twice = (list(Trainer(on_device, table, parts, alone=True).epochs()) for _ in range(2))
    same = max(abs(a.losses["total"] - b.losses["total"]) for a, b in zip(found, twice, strict=True))
    yield Row(part="parity", work="two runs of one seed: losses", value=same, unit="apart", goal=0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.safetensors")
        broken, resumed = (Trainer(on_device, table, parts, alone=True) for _ in range(2))
        broken.train_epoch()
        broken.save(path)
        resumed.load(path)
        rest = list(resumed.epochs())
    same = max(abs(a.losses["total"] - b.losses["total"]) for a, b in zip(rest, found[1:], strict=True))
    yield Row(part="parity", work="a resumed run and an unbroken one: losses", value=same, unit="apart", goal=0.0)


def _kmeans(device: str, num_clips: int) -> Row:
    """Sums of squared distances, device against faiss on the CPU."""
    clips = torch.randn(num_clips, 256, generator=torch.Generator().manual_seed(0))
    ours = lloyd.fit(clips.to(device), 100, 0).cpu()
    theirs = torch.from_numpy(clustering.fit_kmeans(clips.numpy(), 100, 0))
    costs = [float(torch.cdist(clips, centroids).amin(dim=1).square().sum()) for centroids in (ours, theirs)]
    return Row(
        part="parity", work="k-means' cost against faiss'", value=costs[0] / costs[1] - 1, unit="more", goal=1e-3
    )
