"""BMN's network: whether points of a video are starts or ends, and how much of an action each segment is."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from haan.config import Precision
from haan.data.table import IntArray
from haan.methods.base import Network
from haan.methods.bmn.config import Bmn, Model
from haan.methods.bmn.matching import cells, sampling, to_points
from haan.methods.parts import hidden_layer, unrounded
from haan.methods.ragged import Ragged, num_top, top_mean

_GROUPS = 4
AT_ONCE = 16  # videos whose maps are made at once for detection


class Said(NamedTuple):
    """What the network says of videos: probabilities, and logits of the classes at each point."""

    edges: Float[Tensor, "2 videos points"]  # starts, ends
    overlap: Float[Tensor, "videos cells"]  # tIoU with an action
    action: Float[Tensor, "videos cells"]
    logits: Float[Tensor, "videos points fine"]


class BMN(Network):
    """Convolutions over time, then over the map of all segments; and a classifier of points."""

    sampling: Float[Tensor, "samples_points cells"]
    cell: Int[Tensor, " cells"]

    def __init__(self, config: Model, bmn: Bmn, dim: int, num_fine: int, precision: Precision = "float32"):
        """precision: bfloat16 rounds the matrix products; what comes out of them is float32 again."""
        super().__init__()
        width, map_width = config.width, config.width // 2
        self._rounded, self.points, self._pool = precision == "bfloat16", bmn.points, None
        if bmn.classes == "video":
            self._pool = bmn.pool_share
        self.base = nn.Sequential(_over_time(dim, width), nn.ReLU(), _over_time(width, width), nn.ReLU())
        self.edges = nn.ModuleList(
            nn.Sequential(_over_time(width, width), nn.ReLU(), nn.Conv1d(width, 1, 1)) for _ in range(2)
        )
        self.proposal = nn.Sequential(nn.Conv1d(width, width, 3, padding=1), nn.ReLU())
        self.segment = nn.Conv3d(width, 2 * width, (bmn.samples, 1, 1))
        self.narrow = nn.Conv1d(2 * width, map_width, 1)
        self.map = nn.Sequential(
            nn.Conv2d(map_width, map_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(map_width, map_width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(map_width, 2, 1),
        )
        self.classifier = nn.Sequential(hidden_layer(dim, width, config.dropout), nn.Linear(width, num_fine))
        i, j = cells(bmn.points)
        self.register_buffer("cell", torch.from_numpy(i * bmn.points + j), persistent=False)
        self.register_buffer("sampling", sampling(bmn.points, bmn.samples), persistent=False)

    def forward(self, points: Float[Tensor, "videos points d"]) -> Said:
        """Of videos that are resampled."""
        with torch.autocast(points.device.type, torch.bfloat16, enabled=self._rounded):
            base = self.base(points.transpose(1, 2))
            edges = torch.stack([head(base)[:, 0] for head in self.edges])
            maps = self._maps(self._segments(self.proposal(base)))
            logits = self.classifier(points)
        edges, maps, logits = map(unrounded, (edges, maps, logits))
        overlap, action = maps.sigmoid().unbind(dim=1)
        return Said(edges.sigmoid(), overlap, action, logits)

    def _segments(self, base: Float[Tensor, "videos width points"]) -> Float[Tensor, "videos wide cells"]:
        """The convolution over each segment's samples.

        Samples are sums over points, so its weights meet the points first: no sample is ever made.
        """
        at_points = torch.einsum("ocn,vct->vont", self.segment.weight[..., 0, 0], base)
        assert self.segment.bias is not None
        return (at_points.flatten(2) @ self.sampling + self.segment.bias[:, None]).relu()

    def _maps(self, segments: Float[Tensor, "videos wide cells"]) -> Float[Tensor, "videos 2 cells"]:
        """Convolutions over neighbours; those of cells beyond the map are of segments whose samples are all 0."""
        assert self.segment.bias is not None
        narrow = self.narrow(segments).relu()
        rest = self.narrow(self.segment.bias.relu()[:, None]).relu()
        whole = rest.to(narrow.dtype).expand(len(narrow), -1, self.points**2).index_copy(2, self.cell, narrow)
        found = self.map(whole.unflatten(2, (self.points, self.points)))
        return found.flatten(2).index_select(2, self.cell)

    def class_logits(self, said: Said) -> Float[Tensor, "videos points fine"]:
        """Those whose mean over a segment is the segment's: with `bmn.classes: video` the same at all points."""
        if self._pool is None:
            return said.logits
        return self.pooled(said.logits)[:, None].expand_as(said.logits)

    def pooled(self, logits: Float[Tensor, "videos points fine"]) -> Float[Tensor, "videos fine"]:
        """Mean of each class's highest logits."""
        assert self._pool is not None
        sizes = torch.full((len(logits),), self.points, device=logits.device)
        batch = Ragged.of(sizes, self.points)
        return top_mean(logits.flatten(0, 1), batch, num_top(sizes, self._pool))

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "clips numbers"]:
        """Of one video; see `of_videos`."""
        return self.of_videos(clips, np.array([len(clips)]))

    def of_videos(self, clips: Float[Tensor, "clips d"], num_clips: IntArray) -> Float[Tensor, "rows numbers"]:
        """A row a point: the score of the segments from it to behind each point, by the map alone; whether it is a
        start, and what is behind it an end; and logits of the classes.
        """
        rows, first = [], 0
        for sizes in np.split(num_clips, range(AT_ONCE, len(num_clips), AT_ONCE)):
            last = first + int(sizes.sum())
            rows.append(self._rows(clips[first:last], torch.from_numpy(sizes).to(clips.device)))
            first = last
        return torch.cat(rows)

    def _rows(self, clips: Float[Tensor, "clips d"], sizes: Int[Tensor, " videos"]) -> Float[Tensor, "rows numbers"]:
        longest = int(sizes.max())
        batch = Ragged.of(sizes, longest)
        said = self(to_points(sizes, self.points, longest) @ batch.pad(clips))
        whole = clips.new_zeros(len(sizes), self.points**2).index_copy(1, self.cell, said.overlap * said.action)
        parts = whole.unflatten(1, (self.points, -1)), said.edges.permute(1, 2, 0), self.class_logits(said)
        return torch.cat(parts, dim=2).flatten(0, 1)

    def rows(self, num_clips: IntArray) -> IntArray:
        return np.full_like(num_clips, self.points)


def _over_time(width_in: int, width: int) -> nn.Conv1d:
    return nn.Conv1d(width_in, width, 3, padding=1, groups=math.gcd(_GROUPS, width_in, width))
