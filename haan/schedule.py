"""One epoch's batches, known before its first step: which videos, in which order, and where their clips stand.

All of it is made at once and put on the device at once, so that a step reads its batch by number and never waits for
the host. What a method needs beside it, it makes in the same order (`Method.begin`).
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from haan.data.table import IntArray, offsets_of


class Schedule:
    """Videos of an epoch in the order of training, batch by batch; clips stand one after the other in that order.

    order: [videos] by their positions among the training videos. offsets: [videos + 1] first clip of each.
    video: [clips] the place within its batch of each clip's video. num_clips: [videos, 1] float. These two lie on the
    device, and so does `index`, the order once more.
    """

    def __init__(self, order: IntArray, num_clips: IntArray, batch_videos: int, device: torch.device):
        """num_clips: [training videos] of each training video."""
        self.order, self.batch_videos, self.device = order, batch_videos, device
        counts = num_clips[order]
        self.offsets = offsets_of(counts)
        self.index: Int[Tensor, " videos"] = self.on_device(order)
        self.video: Int[Tensor, " clips"] = self.on_device(np.repeat(np.arange(len(order)) % batch_videos, counts))
        self.num_clips: Float[Tensor, "videos 1"] = self.on_device(counts.astype(np.float32)[:, None])

    def __len__(self) -> int:
        """How many steps."""
        return -(-len(self.order) // self.batch_videos)

    def videos(self, step: int) -> slice:
        """The places of a batch's videos in `order`; step counts from 0."""
        first = step * self.batch_videos
        return slice(first, min(first + self.batch_videos, len(self.order)))

    def clips(self, step: int) -> slice:
        """The places of a batch's clips in the epoch's."""
        videos = self.videos(step)
        return slice(int(self.offsets[videos.start]), int(self.offsets[videos.stop]))

    def on_device(self, values: np.ndarray) -> Tensor:
        """An array of the epoch's, where its steps read it."""
        return torch.from_numpy(values).to(self.device, non_blocking=True)
