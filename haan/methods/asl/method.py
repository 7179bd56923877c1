"""ASL, weakly supervised action selection learning (Ma et al., CVPR 2021), between its network and the training loop.

The clips of most evidence for a class are selected, by what they show of the class and by how much they look like an
action at all; their mean logits classify the video, and that they were selected for one of its labels is what
actionness learns, by a loss that bears wrong targets.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from haan.errors import InputError
from haan.feed import BLOCK_CLIPS, Feed
from haan.methods.asl.config import Asl, AslConfig
from haan.methods.asl.detector import Said, detector_of, select
from haan.methods.asl.network import ASL
from haan.methods.base import Labelled, Method, Network, Numbers
from haan.methods.ragged import Ragged, cross_entropy, generalised_cross_entropy, selected_mean
from haan.methods.resampling import stratified
from haan.schedule import Column, Schedule, Shape

KEPT = 6  # numbers a clip for each that the network makes of it: product, relu, softmax, and gradients


def video_losses(
    heads: Sequence[Float[Tensor, "clips fine"]],
    actionness: Float[Tensor, "clips streams"],
    labels: Float[Tensor, "videos fine"],
    batch: Ragged,
    setting: Asl,
) -> tuple[Float[Tensor, "2 videos"], Bool[Tensor, "videos longest"]]:
    """Of each video's classes and of the actionness of all streams, 0 for a video without labels; what that learns.

    heads: logits of the classes, of each classifier. actionness: probabilities.
    """
    classes = torch.stack([logits.softmax(dim=1) for logits in heads]).mean(dim=0)
    said = Said(heads[0], classes, actionness.mean(dim=1))
    chosen = select(said.evidence(setting.class_share), batch, setting.pool_share)
    positive = (chosen & labels.bool()[:, None]).any(dim=2)
    of_heads = [cross_entropy(selected_mean(logits, batch, chosen), labels) for logits in heads]
    of_streams = [generalised_cross_entropy(p, positive, batch, setting.q) for p in actionness.unbind(dim=1)]
    losses = torch.stack([torch.stack(of_heads).mean(dim=0), torch.stack(of_streams).sum(dim=0)])
    return losses * labels.any(dim=1), positive


def read(numbers: Float[Tensor, "clips numbers"]) -> Said:
    """What the network's numbers say."""
    return Said(numbers[:, :-1], numbers[:, :-1].softmax(dim=1), numbers[:, -1])


class Selecting(Method):
    """What ASL and its relatives share. section: of their configuration, that says how clips are selected."""

    section: ClassVar[str]

    def __init__(self, config: Any, known: Labelled, feed: Feed, device: torch.device):
        """Raises InputError when clips can't be parted into the streams."""
        super().__init__(config, known, feed, device)
        self.check(config, known)
        self.setting: Asl = getattr(config, self.section)
        self._network = self.build(config, known.dim, known.fine.shape[1]).to(device)
        self._labels = torch.from_numpy(known.fine.astype(np.float32)).to(device)

    @classmethod
    def check(cls, config: Any, known: Labelled) -> None:
        if known.dim % config.model.streams:
            rule = "model.streams: must divide the size of a clip"
            raise InputError(f"{rule}, got {config.model.streams} streams and clips of {known.dim} numbers")

    @classmethod
    def numbers(cls, config: Any, known: Labelled, largest: Shape) -> Numbers:
        fine, clips = known.fine.shape[1], getattr(config, cls.section).clips
        of_clip, laid_out = cls.numbers_of_clip(config, fine)
        places = config.optim.batch_videos * (clips or largest.longest)
        return Numbers(
            step=largest.clips * KEPT * of_clip + places * laid_out,
            rows=len(known.videos) * (fine + 1 + (clips or 0)),
            block=BLOCK_CLIPS * 2 * of_clip,
        )

    @classmethod
    @abstractmethod
    def numbers_of_clip(cls, config: Any, fine: int) -> tuple[int, int]:
        """Numbers that the network makes of a clip, and that the losses make of one laid out video by video."""

    @property
    def network(self) -> Network:
        return self._network

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """Labels and the number of clips of each video; the places of those that it is resampled to."""
        columns = {
            "labels": Column(self._labels[schedule.index], of_clips=False),
            "num_clips": Column(schedule.on_device(schedule.num_clips.astype(np.int32)), of_clips=False),
        }
        if self.setting.clips is not None:
            rng = np.random.default_rng(int(torch.randint(2**31, ())))  # which the loop has seeded for the epoch
            drawn = stratified(schedule.num_clips, self.setting.clips, rng).astype(np.int32)
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
        total = losses.sum()
        return torch.cat([losses, total[None]]).detach(), total / labelled

    @abstractmethod
    def sums(
        self, clips: Float[Tensor, "clips d"], labels: Float[Tensor, "videos fine"], batch: Ragged, labelled: Tensor
    ) -> Float[Tensor, " losses"]:
        """The losses before the total, summed over videos. labelled: how many of them count."""


class AslMethod(Selecting):
    """ASL on some videos."""

    section = "asl"
    losses = ("video", "actionness", "total")
    detector = staticmethod(detector_of(read))

    @classmethod
    def build(cls, config: AslConfig, dim: int, num_fine: int) -> ASL:
        return ASL(config.model, dim, num_fine, config.precision)

    @classmethod
    def numbers_of_clip(cls, config: AslConfig, fine: int) -> tuple[int, int]:
        return (1 + config.model.streams) * config.model.width + fine, KEPT * (fine + 1)

    def sums(
        self, clips: Float[Tensor, "clips d"], labels: Float[Tensor, "videos fine"], batch: Ragged, labelled: Tensor
    ) -> Float[Tensor, "2"]:
        logits, actionness = self.network(clips)
        return video_losses([logits], actionness.sigmoid(), labels, batch, self.setting)[0].sum(dim=1)
