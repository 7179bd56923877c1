"""One epoch's batches, known before its first step: which videos, in which order, and where their clips stand.

All that steps need is made at once, as columns with a row a clip or a row a video, and put on the device at once. A
step takes its rows by its number and never waits for the host. On a CPU they are the batch's own; a CUDA graph wants
the same shapes every time, so there they are filled up to one of a few capacities (haan.fixed) by rows that weigh
nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from haan.data.table import IntArray, offsets_of


@dataclass(frozen=True)
class Column:
    """Something of each clip or video of an epoch, in the order of training.

    values: [clips or videos, ...] int32 or float32, on the device. of_clips: whether it has a row a clip. pad: what a
    row holds that only fills a batch up.
    """

    values: Tensor
    of_clips: bool
    pad: float = 0


@dataclass(frozen=True)
class Shape:
    """What a batch is filled up to: so many clips in all, and at most so many in one of its videos."""

    clips: int
    longest: int


class Schedule:
    """Videos of an epoch in the order of training, batch by batch; clips stand one after the other in that order.

    order: [videos] by their positions among the training videos. offsets: [videos + 1] first clip of each. video:
    [clips] the place within its batch of each clip's video. first_video: [steps + 1] of each batch. All NumPy. index:
    the order once more; clip: [clips] the place of each clip among those of all training videos. Both on the device.
    """

    def __init__(self, order: IntArray, num_clips: IntArray, batch_videos: int, device: torch.device):
        """num_clips: [training videos] of each training video."""
        self.order, self.batch_videos, self.device = order, batch_videos, device
        self.num_clips = num_clips[order]
        self.offsets = offsets_of(self.num_clips)
        self.first_video = np.append(np.arange(0, len(order), batch_videos), len(order))
        self.video = np.repeat(np.arange(len(order)) % batch_videos, self.num_clips)
        self.index: Int[Tensor, " videos"] = self.on_device(order)
        first = offsets_of(num_clips)[order] - self.offsets[:-1]
        self.clip: Int[Tensor, " clips"] = self.on_device(
            np.arange(self.offsets[-1]) + np.repeat(first, self.num_clips)
        )

    def __len__(self) -> int:
        """How many steps."""
        return len(self.first_video) - 1

    def videos(self, step: int) -> slice:
        """The places of a batch's videos in `order`; step counts from 0."""
        return slice(int(self.first_video[step]), int(self.first_video[step + 1]))

    def clips(self, step: int) -> slice:
        """The places of a batch's clips in the epoch's."""
        videos = self.videos(step)
        return slice(int(self.offsets[videos.start]), int(self.offsets[videos.stop]))

    def rows(self, columns: Mapping[str, Column], step: int) -> dict[str, Tensor]:
        """A batch's rows of each column."""
        videos, clips = self.videos(step), self.clips(step)
        return {name: column.values[clips if column.of_clips else videos] for name, column in columns.items()}

    def on_device(self, values: NDArray) -> Tensor:
        """An array of the epoch's, where its steps read it."""
        return torch.from_numpy(values).to(self.device, non_blocking=True)
