"""Features drawn at random, and a data set around them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from haan.data.table import Annotations, IntArray

MIB = 2**20
DIM, CLIPS = 4096, 128  # 1 MiB a video in float16


@dataclass(frozen=True)
class Drawn:
    """Features drawn at random, the same for a clip however many are read at a time."""

    num_clips: IntArray
    dim: int
    broken: int | None = None  # video with a NaN
    path: Path = Path("drawn")

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        return np.concatenate([self._video(video) for video in range(first, last)])

    def release(self, first: int, last: int) -> None:
        """Nothing is kept."""

    def _video(self, video: int) -> NDArray[np.float32]:
        values = np.random.default_rng(video).random((int(self.num_clips[video]), self.dim), dtype=np.float32)
        if video == self.broken:
            values[1, 2] = np.nan
        return values


def annotate(videos: int, fine: int = 6, coarse: int = 3) -> Annotations:
    """One segment of one class in each video."""
    classes = np.arange(videos) % fine
    return Annotations(
        names=tuple(f"video-{i}" for i in range(videos)),
        clips_per_s=np.ones(videos),
        num_train=videos,
        segment_offsets=np.arange(videos + 1),
        segments=np.tile([0.0, 2.0], (videos, 1)),
        segment_fine=classes,
        fine_labels=np.eye(fine, dtype=bool)[classes],
        coarse_of_fine=np.arange(fine) % coarse,
        fine_names=tuple(f"fine-{i}" for i in range(fine)),
        coarse_names=tuple(f"coarse-{i}" for i in range(coarse)),
    )
