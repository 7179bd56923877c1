"""The sizes that the benchmarks run at, as tables of random features in memory.

A step costs the same however many videos there are, so the two data sets are represented by 150 videos of their shape.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from haan.config import Data, Eval, Optim, Precision
from haan.data.table import Annotations, ClipTable, Split, runs
from haan.detectors.runs import RunsDetect
from haan.methods.haan.config import Concepts, HaanConfig, Loss, Model
from haan.train import Trainer
from tests.benchmarks.activations import ALPHAS
from tests.benchmarks.measure import Problem

_LOW, _HIGH = tuple(round(0.1 + 0.05 * i, 2) for i in range(9)), tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
_CHUNK_BYTES = 16 * 2**20  # so that the clips lie in several chunks, as in shared memory
_CLASSES_A_VIDEO = 3


@dataclass(frozen=True, kw_only=True)
class Size:
    """One size.

    clips: fewest, about the mean, and most clips a video. sample_rate: share of the clips that k-means sees; larger
    than the data sets' own where so few videos would give it hardly a clip a cluster.
    """

    name: str
    dim: int
    width: int
    fine: int
    coarse: int
    clusters: int
    train: int
    validation: int
    clips: tuple[int, int, int]
    sample_rate: float
    dropout: float
    loss: Loss
    detect: RunsDetect
    tiou: tuple[float, ...]

    @property
    def problem(self) -> Problem:
        """The size in words."""
        num_clips = make_table(self)[0].num_clips
        fewest, most = num_clips.min(), num_clips.max()
        clips = str(most) if fewest == most else f"{fewest} to {most} (mean {num_clips.mean():.0f})"
        return Problem(
            self.name,
            f"{self.train} training and {self.validation} validation videos of {clips} clips, {self.dim}-d, width "
            f"{self.width}, N = {self.clusters}, {self.fine} fine and {self.coarse} coarse classes, 2 videos a batch, "
            f"k-means on {self.sample_rate:.0%} of the clips",
        )

    def config(self) -> HaanConfig:
        """Clustering is due in every epoch."""
        concepts = Concepts(clusters=self.clusters, top_k=5, refresh_epochs=1, sample_rate=self.sample_rate)
        return HaanConfig(
            data=Data(root="memory", features="random", train_videos=self.train),
            model=Model(width=self.width, dropout=self.dropout),
            concepts=concepts,
            loss=self.loss,
            optim=Optim(epochs=1_000_000),
            detect=self.detect,
            eval=Eval(tiou=self.tiou, report=self.tiou[:1]),
        )


_MEAN, _MAX = Loss(coarse=0.1, coarse_pooling="mean"), Loss(coarse_pooling="max")
_GYM, _ACTION = RunsDetect(alpha=0.1, top_clips=0.5), RunsDetect(alpha=-0.8)
SIZES = {
    size.name: size
    for size in (
        Size(name="small", dim=128, width=128, fine=12, coarse=3, clusters=100, train=500, validation=200,
             clips=(20, 60, 120), sample_rate=0.1, dropout=0.3, loss=_MEAN, detect=_GYM, tiou=_LOW),
        Size(name="middle", dim=512, width=512, fine=99, coarse=14, clusters=500, train=300, validation=100,
             clips=(100, 100, 100), sample_rate=0.1, dropout=0.3, loss=_MEAN, detect=_GYM, tiou=_LOW),
        Size(name="fineaction", dim=4096, width=1024, fine=106, coarse=14, clusters=500, train=120, validation=30,
             clips=(100, 100, 100), sample_rate=0.4, dropout=0.3, loss=_MAX, detect=_ACTION, tiou=_HIGH),
        Size(name="finegym", dim=2048, width=2048, fine=99, coarse=14, clusters=500, train=120, validation=30,
             clips=(5, 60, 309), sample_rate=0.4, dropout=0.5, loss=_MEAN, detect=_GYM, tiou=_LOW),
    )
}  # fmt: skip


@lru_cache(maxsize=1)
def make_table(size: Size) -> tuple[ClipTable, Split]:
    """Random clips in float16, random labels and segments."""
    rng = np.random.default_rng(0)
    num_clips = _num_clips(size, rng)
    chunks = tuple(
        rng.standard_normal((int(num_clips[first:last].sum()), size.dim), dtype=np.float32).astype(np.float16)
        for first, last in runs(num_clips, _CHUNK_BYTES // (2 * size.dim))
    )
    offsets = np.concatenate([[0], np.cumsum(num_clips)])
    videos = np.arange(len(num_clips))
    return ClipTable(chunks, offsets, annotations_of(size, num_clips, rng)), Split(
        videos[: size.train], videos[size.train :]
    )


def _num_clips(size: Size, rng: np.random.Generator) -> NDArray[np.int64]:
    fewest, mean, most = size.clips
    drawn = rng.exponential(mean, size.train + size.validation).clip(fewest, most).astype(np.int64)
    drawn[0] = most
    return drawn


def annotations_of(size: Size, num_clips: NDArray[np.int64], rng: np.random.Generator) -> Annotations:
    """One segment of each of a video's classes, a clip a second; every class occurs in training.

    num_clips: [videos], those of validation last.
    """
    count = len(num_clips)
    classes = rng.integers(size.fine, size=(count, _CLASSES_A_VIDEO))
    classes[:, 0] = np.arange(count) % size.fine
    labels = np.zeros((count, size.fine), dtype=bool)
    labels[np.arange(count)[:, None], classes] = True
    start_s = rng.uniform(0, 0.8, classes.size) * np.repeat(num_clips, _CLASSES_A_VIDEO)
    return Annotations(
        names=tuple(f"video{i}" for i in range(count)),
        clips_per_s=np.ones(count),
        num_train=size.train,
        segment_offsets=np.arange(count + 1) * _CLASSES_A_VIDEO,
        segments=np.stack([start_s, start_s + rng.uniform(1, 8, classes.size)], axis=1),
        segment_fine=classes.ravel(),
        fine_labels=labels,
        coarse_of_fine=np.arange(size.fine) % size.coarse,
        fine_names=tuple(f"fine{i}" for i in range(size.fine)),
        coarse_names=tuple(f"coarse{i}" for i in range(size.coarse)),
    )


def make_trainer(size: Size, precision: Precision = "float32", ema_epochs: float = 0.0) -> Trainer:
    """A trainer of this size that scores every epoch at 41 alphas, as a search does."""
    config = replace(size.config(), precision=precision)
    config = replace(config, optim=replace(config.optim, ema_epochs=ema_epochs))
    return Trainer(config, *make_table(size), detects=[replace(config.detect, alpha=alpha) for alpha in ALPHAS])
