"""What methods share that learn from the labels of whole videos, resampled or as they are."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from haan.errors import InputError
from haan.feed import BLOCK_CLIPS, Feed
from haan.methods.base import Labelled, Method, Network, Numbers
from haan.methods.ragged import Ragged
from haan.methods.resampling import stratified
from haan.schedule import Column, Schedule, Shape

KEPT = 6  # numbers a clip for each that the network makes of it: product, relu, softmax, and gradients


def drawing() -> np.random.Generator:
    """Of an epoch's own draws: from PyTorch's generator, which the loop has seeded for the epoch."""
    return np.random.default_rng(int(torch.randint(2**31, ())))


def check_streams(config: Any, known: Labelled) -> None:
    """Raises InputError when clips can't be parted into the streams."""
    if known.dim % config.model.streams:
        rule = "model.streams: must divide the size of a clip"
        raise InputError(f"{rule}, got {config.model.streams} streams and clips of {known.dim} numbers")


class LabelMethod(Method):
    """A method that learns from the labels of whole videos. section: of its configuration, its own settings."""

    section: ClassVar[str]

    def __init__(self, config: Any, known: Labelled, feed: Feed, device: torch.device):
        super().__init__(config, known, feed, device)
        self.check(config, known)
        self.setting = getattr(config, self.section)
        self._network = self.build(config, known.dim, known.fine.shape[1]).to(device)
        self._labels = torch.from_numpy(known.fine.astype(np.float32)).to(device)

    @classmethod
    def check(cls, config: Any, known: Labelled) -> None:
        """Raises InputError when no training video has a label."""
        if not known.fine.any():
            raise InputError("data: training videos must have labels, got none")

    @property
    def network(self) -> Network:
        return self._network

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """Labels and the number of clips of each video."""
        return {
            "labels": Column(self._labels[schedule.index], of_clips=False),
            "num_clips": Column(schedule.on_device(schedule.num_clips.astype(np.int32)), of_clips=False),
        }


class VideoMethod(LabelMethod):
    """One whose losses are of a video each, or of a batch, and read what its labels and its clips say.

    Its section's `clips` is how many each video is resampled to, or null.
    """

    @classmethod
    def numbers(cls, config: Any, known: Labelled, largest: Shape) -> Numbers:
        fine, clips = known.fine.shape[1], getattr(config, cls.section).clips
        of_clip, laid_out = cls.numbers_of_clip(config, known)
        places = config.optim.batch_videos * (clips or largest.longest)
        return Numbers(
            step=largest.clips * KEPT * of_clip + places * laid_out,
            rows=len(known.videos) * (fine + 1 + (clips or 0)),
            block=BLOCK_CLIPS * 2 * of_clip,
        )

    @classmethod
    @abstractmethod
    def numbers_of_clip(cls, config: Any, known: Labelled) -> tuple[int, int]:
        """Numbers that the network makes of a clip, and that the losses make of one laid out video by video."""

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """Also the places of the clips that a video is resampled to."""
        columns = super().columns(schedule)
        if self.setting.clips is not None:
            drawn = stratified(schedule.num_clips, self.setting.clips, drawing()).astype(np.int32)
            columns["clip"] = Column(schedule.on_device(drawn), of_clips=False)
        return columns

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, " losses"], Float[Tensor, ""]]:
        num_clips, labels = rows["num_clips"], rows["labels"]
        batch = Ragged.of(num_clips, int(num_clips.max()) if shape is None else shape.longest)
        if "clip" in rows:
            batch = batch.resampled(rows["clip"])
        labelled = labels.any(dim=1).sum().clamp_min(1)
        losses = self.sums(clips, labels, batch, labelled)
        total = self.weighed(losses)
        return torch.stack([*losses, total]).detach(), total / labelled

    @abstractmethod
    def sums(
        self, clips: Float[Tensor, "clips d"], labels: Float[Tensor, "videos fine"], batch: Ragged, labelled: Tensor
    ) -> list[Float[Tensor, ""]]:
        """The losses before the total, unweighted and summed over videos. labelled: how many of them count."""
