"""ActionFormer, fully supervised localisation by a transformer without anchors (Zhang, Wu, Li, ECCV 2022).

Every point in time, on several scales, says which classes are there and how far its segment reaches.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from haan.data.table import IntArray, offsets_of, runs
from haan.detectors import nms, proposals
from haan.errors import InputError
from haan.feed import BLOCK_CLIPS, Feed
from haan.methods.actionformer.config import ActionformerConfig, ActionformerDetect
from haan.methods.actionformer.losses import class_loss, segment_loss, targets
from haan.methods.actionformer.network import AT_ONCE, ActionFormer, Points
from haan.methods.base import Labelled, Method, Numbers, Segmented, laid_out
from haan.methods.parts import exact_products
from haan.metrics import Detections, Segments
from haan.schedule import Column, Schedule, Shape

Taught = Float[NDArray, "videos most 4"]  # segments of each video: start and end in clips, class, weight

_MOMENTUM = 0.9  # of the mean number of points with a segment
_AT_ONCE = 1 << 22  # numbers of which candidates are picked at once
# Of a point and unit of width, with gradients: two norms, three convolutions with theirs, query, key, value, what
# they attend to, the layers of four times the width, what these are scaled and dropped by. Of a tower: three points'
# numbers, their product, norm and relu, twice.
_OF_BLOCK, _OF_TOWER = 60, 24
_OF_LAYERS = 20  # without gradients, of the one block or tower that is at work


def packed(found: Segments, weight: Float[NDArray, " segments"], known: Labelled) -> Taught:
    """Segments that stand video by video, as `Taught`; what fills up has no length."""
    per_s = known.clips_per_s[found.video]
    columns = np.column_stack([found.start_s * per_s, found.end_s * per_s, found.label, weight])
    return laid_out(found.video, columns, len(known.videos))


class ActionformerMethod(Method):
    """ActionFormer on some videos."""

    losses = ("classes", "segments", "total")

    def __init__(self, config: ActionformerConfig, known: Labelled, feed: Feed, device: torch.device):
        super().__init__(config, known, feed, device)
        self.setting = config.actionformer
        self._network = self.build(config, known.dim, known.fine.shape[1]).to(device)
        self._taught = torch.from_numpy(self.taught(config, known)).to(device)

    @classmethod
    def taught(cls, config: ActionformerConfig, known: Labelled) -> Taught:
        """The segments that are learnt. Raises InputError where there are none."""
        assert isinstance(known, Segmented)
        found = known.segments
        if not len(found):
            raise InputError("data: training videos must have a ground-truth segment, got none")
        return packed(found, np.ones(len(found)), known)

    @classmethod
    def check(cls, config: ActionformerConfig, known: Labelled) -> None:
        """Raises InputError when there is no segment to learn."""
        cls.taught(config, known)

    @classmethod
    def build(cls, config: ActionformerConfig, dim: int, num_fine: int) -> ActionFormer:
        return ActionFormer(config.model, dim, num_fine, config.precision)

    @classmethod
    def numbers(cls, config: ActionformerConfig, known: Labelled, largest: Shape) -> Numbers:
        model, fine, most = config.model, known.fine.shape[1], cls.taught(config, known).shape[1]
        longest = model.points or largest.longest

        def of(videos: int) -> int:
            """Of a batch of so many: a first level, those behind it, as long as it together, and the heads of all."""
            blocks = (model.blocks + 1) * (_OF_BLOCK * model.width + 6 * model.heads * longest)
            heads = 2 * (2 * _OF_TOWER * model.width + 8 * fine)
            return videos * longest * (8 * known.dim + _OF_TOWER * model.width + blocks + heads)

        # A block of clips is laid out in parts; what is said of its videos is there twice, once joined.
        at_once = max(longest, min(AT_ONCE, 2 * BLOCK_CLIPS))
        rescaled = max(1, BLOCK_CLIPS // int(known.num_clips.min())) * longest if model.points else 0
        layers = 8 * known.dim + _OF_LAYERS * model.width + 3 * model.heads * longest
        return Numbers(
            step=of(config.optim.batch_videos) + config.optim.batch_videos * longest * 2 * (16 * most + 8 * fine),
            rows=len(known.videos) * (4 * most + 1),
            block=at_once * layers + 2 * 2 * (fine + 3) * max(at_once, rescaled),
        )

    @property
    def network(self) -> ActionFormer:
        return self._network

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """The segments of each video, and how many clips it has."""
        return {
            "segments": Column(self._taught[schedule.index], of_clips=False),
            "num_clips": Column(schedule.on_device(schedule.num_clips.astype(np.int32)), of_clips=False),
        }

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, "3"], Float[Tensor, ""]]:
        """All are sums over points, over the mean number of those that had a segment in the last steps."""
        num_clips, segments, network = rows["num_clips"], rows["segments"], self.network
        longest = int(num_clips.max()) if shape is None else shape.longest
        x, there = network.laid_out(clips, num_clips, longest)
        logits, ends, there = network(x, there)
        points = Points.of(x.shape[1], network.levels, x.device)
        if self.config.model.points is not None:
            scale = self.config.model.points / num_clips.clamp_min(1)
            segments = torch.cat([segments[..., :2] * scale[:, None, None], segments[..., 2:]], dim=2)
        with exact_products():
            target = targets(points, there, segments, logits.shape[2], self.setting)
            found = class_loss(logits, target, self.setting), segment_loss(ends, target)
        positives = target.weight.sum().clamp_min(1)
        network.positives.lerp_(positives.to(network.positives.dtype), 1 - _MOMENTUM)
        measure = network.positives.clone()
        losses = [loss / measure for loss in found]
        total = self.weighed(losses)
        return torch.stack([*losses, total]).detach() * (num_clips > 0).sum(), total

    def weights(self) -> list[float]:
        return [1.0, self.setting.segment_weight]

    @staticmethod
    def detector(
        numbers: NDArray[np.float32],
        offsets: IntArray,
        clips_per_s: NDArray[np.float64],
        settings: Sequence[ActionformerDetect],
    ) -> Iterator[tuple[int, Callable[[], Detections]]]:
        """See haan.methods.base.Detector."""
        least, most = min(one.least_score for one in settings), max(one.most_proposals for one in settings)
        return proposals.makers(candidates(numbers, clips_per_s, least, most), settings)


def candidates(numbers: NDArray[np.float32], clips_per_s: NDArray[np.float64], least: float, most: int) -> Detections:
    """Segments of points, with each class whose probability exceeds `least`; the best so many of a video.

    numbers: as the network says them of all videos, one after the other.
    """
    parts = []
    sizes = numbers[numbers[:, 0] > 0, 0].astype(np.int64)
    offsets = offsets_of(sizes)
    bar = math.log(least / (1 - least)) if 0 < least < 1 else math.inf if least > 0 else -math.inf
    for first, last in runs(sizes, max(1, _AT_ONCE // numbers.shape[1])):
        rows = numbers[offsets[first] : offsets[last]]
        start, end, logits = rows[:, 1].astype(np.float64), rows[:, 2].astype(np.float64), rows[:, 3:]
        point, label = np.nonzero((logits > bar) & (end > start)[:, None])
        video = np.repeat(np.arange(first, last), sizes[first:last])[point]
        value = logits[point, label].astype(np.float64)
        order = nms.order(video, value)
        kept = np.sort(order[nms.ranks(video[order]) < most])
        video, point, label, score = video[kept], point[kept], label[kept], 1 / (1 + np.exp(-value[kept]))
        parts.append((video, label, start[point] / clips_per_s[video], end[point] / clips_per_s[video], score))
    return Detections(*(np.concatenate(column) for column in zip(*parts, strict=True)))
