"""BMN, the boundary-matching network (Lin et al., ICCV 2019), between its network and the training loop.

It learns of segments where actions start and end, and of every segment between two points of a video how much of an
action it is; not which. A classifier of points, trained beside it, says that.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from haan.errors import InputError
from haan.feed import BLOCK_CLIPS, Feed
from haan.methods.base import Labelled, Method, Numbers, Segmented, laid_out
from haan.methods.bmn.config import BmnConfig
from haan.methods.bmn.detector import makers
from haan.methods.bmn.matching import (
    balanced_cross_entropy,
    chosen,
    class_loss,
    edges,
    overlaps,
    regression_loss,
    shares,
    to_points,
)
from haan.methods.bmn.network import AT_ONCE, BMN, Said
from haan.methods.parts import exact_products
from haan.methods.ragged import Ragged, cross_entropy
from haan.schedule import Column, Schedule, Shape

_EDGE = 0.5  # above which a point counts as a start, or an end
_KEPT = 4  # of each layer: product, relu, and gradients of both


class BmnMethod(Method):
    """BMN on some videos."""

    losses = ("edges", "action", "overlap", "class", "total")
    detector = staticmethod(makers)

    def __init__(self, config: BmnConfig, known: Labelled, feed: Feed, device: torch.device):
        super().__init__(config, known, feed, device)
        self.check(config, known)
        self._network = self.build(config, known.dim, known.fine.shape[1]).to(device)
        segments, label = packed(known, config.bmn.points)
        self._segments, self._label = segments.to(device), label.to(device)
        self._labels = torch.from_numpy(known.fine.astype(np.float32)).to(device)

    @classmethod
    def check(cls, config: BmnConfig, known: Labelled) -> None:
        """Raises InputError when no training video has a segment."""
        assert isinstance(known, Segmented)  # it is of full supervision
        if not len(known.segments):
            raise InputError("data: training videos must have segments, got none")

    @classmethod
    def build(cls, config: BmnConfig, dim: int, num_fine: int) -> BMN:
        return BMN(config.model, config.bmn, dim, num_fine, config.precision)

    @classmethod
    def numbers(cls, config: BmnConfig, known: Labelled, largest: Shape) -> Numbers:
        """Of a video: its points, each layer over time, samples of all points, and the map's layers."""
        assert isinstance(known, Segmented)
        bmn, width, fine, most = config.bmn, config.model.width, known.fine.shape[1], _most(known)
        points, map_cells = bmn.points, bmn.points * (bmn.points + 1) // 2
        resampled = points * (4 * largest.longest + known.dim) + largest.longest * known.dim
        over_time = points * width * (5 + 2 * bmn.samples) + points * (width + fine)
        maps = map_cells * (2 * width + width // 2) + points**2 * (3 * width // 2 + 2)
        targets = (map_cells + points) * (3 * most + 8)
        constant = bmn.samples * points * map_cells
        return Numbers(
            step=config.optim.batch_videos * (resampled + _KEPT * (over_time + maps) + targets) + constant,
            rows=len(known.videos) * (fine + 1 + 3 * most),
            block=AT_ONCE * (resampled + over_time + maps) + BLOCK_CLIPS * points * (points + 2 + fine),
        )

    @property
    def network(self) -> BMN:
        return self._network

    def columns(self, schedule: Schedule) -> dict[str, Column]:
        """Labels, segments, their classes, and the number of clips of each video."""
        return {
            "labels": Column(self._labels[schedule.index], of_clips=False),
            "segments": Column(self._segments[schedule.index], of_clips=False),
            "label": Column(self._label[schedule.index], of_clips=False),
            "num_clips": Column(schedule.on_device(schedule.num_clips.astype(np.int32)), of_clips=False),
        }

    def batch_losses(
        self, clips: Float[Tensor, "clips d"], rows: Mapping[str, Tensor], shape: Shape | None
    ) -> tuple[Float[Tensor, "5"], Float[Tensor, ""]]:
        num_clips = rows["num_clips"]
        longest = int(num_clips.max()) if shape is None else shape.longest
        batch, there = Ragged.of(num_clips, longest), num_clips > 0
        said = self.network(to_points(num_clips, self.network.points, longest) @ batch.pad(clips))
        with exact_products():
            losses = self._of_segments(said, rows["segments"], there)
            losses.append(self._of_classes(said, rows))
        total = self.weighed(losses)
        return torch.stack([*losses, total]).detach() * there.sum(), total

    def _of_segments(
        self, said: Said, segments: Float[Tensor, "videos most 2"], there: Tensor
    ) -> list[Float[Tensor, ""]]:
        """Those of starts and ends, and of the map."""
        points, cell, setting = self.network.points, self.network.cell, self.config.bmn
        overlap = overlaps(segments, cell, points)
        # Drawn for a whole batch: the last one's, which may have fewer videos, is the same in any shape.
        draw = torch.rand(self.config.optim.batch_videos, len(cell), device=cell.device)[: len(there)]
        of_edges = [
            balanced_cross_entropy(p, edge > _EDGE, there)
            for p, edge in zip(said.edges, edges(segments, points), strict=True)
        ]
        return [
            torch.stack(of_edges).sum(),
            balanced_cross_entropy(said.action, overlap > setting.positive, there),
            regression_loss(said.overlap, overlap, chosen(overlap, there, draw)),
        ]

    def _of_classes(self, said: Said, rows: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        if self.config.bmn.classes == "video":
            labels = rows["labels"]
            losses = cross_entropy(self.network.pooled(said.logits), labels)
            return losses.sum() / labels.any(dim=1).sum().clamp_min(1)
        segments = rows["segments"]
        logits = shares(segments, self.network.points) @ said.logits
        return class_loss(logits, rows["label"], segments[..., 1] > segments[..., 0])

    def weights(self) -> list[float]:
        return [1.0, 1.0, self.config.bmn.regression, 1.0]


def _most(known: Segmented) -> int:
    """Segments of the video that has most."""
    return int(np.bincount(known.segments.video).max())


def packed(known: Labelled, points: int) -> tuple[Float[Tensor, "videos most 2"], Tensor]:
    """Start and end in points, and class, of each video's segments; empty ones behind its last."""
    assert isinstance(known, Segmented)
    found = known.segments
    per_s = (known.clips_per_s * points / known.num_clips)[found.video, None]
    ends = (np.stack([found.start_s, found.end_s], axis=1) * per_s).clip(0, points)
    rows = torch.from_numpy(laid_out(found.video, np.column_stack([ends, found.label]), len(known.videos)))
    return rows[..., :2].contiguous(), rows[..., 2].int()
