"""ActionFormer's network: a pyramid of transformer blocks over a video's clips, and two heads that all levels share.

Each point of each level says which classes are there, and how far the ends of their segment are. All is laid out as
[videos, points, numbers], 0 behind each video's last point before anything looks at neighbours, so what is said of a
video doesn't depend on the others.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from haan.config import Precision
from haan.data.table import IntArray, offsets_of, runs
from haan.methods.actionformer.config import Model
from haan.methods.base import Network
from haan.methods.parts import Dropout, unrounded
from haan.methods.ragged import Ragged

AT_ONCE = 1 << 12  # clips laid out at once in inference, or one video
_RARE = 0.01  # probability of a class before any training
_SCALE = 0.1  # of a branch then

There = Bool[Tensor, "videos points"]
Values = Float[Tensor, "videos points numbers"]


@dataclass(frozen=True)
class Points:
    """The points of all levels, one level after the other. time: of each, in clips. stride: clips to the next one.

    level: of each, from 0.
    """

    time: Float[Tensor, " points"]
    stride: Float[Tensor, " points"]
    level: Float[Tensor, " points"]

    @classmethod
    def of(cls, longest: int, levels: int, device: torch.device) -> Self:
        """Those of a video of so many clips; a shorter one has the first of each level."""
        counts = [num_points(longest, level) for level in range(levels)]
        numbers = torch.cat([torch.arange(count, device=device) for count in counts])
        # Filled, not copied there: a graph of a GPU may be made of it.
        level = torch.cat([torch.full((count,), float(one), device=device) for one, count in enumerate(counts)])
        stride = torch.exp2(level)
        return cls(numbers * stride + 0.5, stride, level)


def num_points(num_clips: int, level: int) -> int:
    """Of a level, the first of which is 0 and has one a clip."""
    return -(-num_clips // 2**level)


def every_point(num_clips: IntArray, levels: int) -> IntArray:
    """How many each video has on all levels."""
    return sum((-(-num_clips // 2**level) for level in range(levels)), np.zeros_like(num_clips))


def neighbours(x: Values, stride: int = 1, fill: float = 0.0) -> tuple[Values, Values, Values]:
    """The point before each, itself, and the one behind it; of every second one where the stride is 2."""
    padded = F.pad(x, (0, 0, 1, 1), value=fill)
    points = x.shape[1]
    return padded[:, 0:points:stride], padded[:, 1 : points + 1 : stride], padded[:, 2 : points + 2 : stride]


class Convolution(nn.Module):
    """Over a point and its two neighbours."""

    def __init__(self, width_in: int, width: int, bias: bool = True):
        super().__init__()
        self.linear = nn.Linear(3 * width_in, width, bias)

    def forward(self, x: Values) -> Values:
        return self.linear(torch.cat(neighbours(x), dim=2))


class _Tower(nn.Module):
    """Two convolutions, each with its norm."""

    def __init__(self, width_in: int, width: int):
        super().__init__()
        self.first, self.second = Convolution(width_in, width, bias=False), Convolution(width, width, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: Values, there: Float[Tensor, "videos points 1"]) -> Values:
        for convolution, norm in zip((self.first, self.second), self.norms, strict=True):
            x = norm(convolution(x)).relu() * there
        return x


class _Depthwise(nn.Module):
    """A convolution of each number by itself, and a norm."""

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(3, width).uniform_(-1, 1) / math.sqrt(3))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Values) -> Values:
        near = neighbours(x, self.stride)
        return self.norm(sum(part * weight for part, weight in zip(near, self.weight, strict=True)))


class _Attention(nn.Module):
    """Of a point to those of its own video near it."""

    def __init__(self, width: int, heads: int, stride: int):
        super().__init__()
        self._heads, inner = heads, heads * -(-width // heads)
        self.before = nn.ModuleList([_Depthwise(width, stride) for _ in range(3)])
        self.inward = nn.ModuleList([nn.Linear(width, inner) for _ in range(3)])
        self.outward = nn.Linear(inner, width)

    def forward(self, x: Values, seen: Bool[Tensor, "videos 1 points points"]) -> Values:
        parts = [linear(before(x)) for linear, before in zip(self.inward, self.before, strict=True)]
        query, key, value = (part.unflatten(2, (self._heads, -1)).transpose(1, 2) for part in parts)
        likeness = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        attention = likeness.masked_fill(~seen, -math.inf).softmax(dim=3)
        return self.outward((attention.to(value.dtype) @ value).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """A transformer block; with a stride of 2 it halves the points."""

    def __init__(self, config: Model, stride: int):
        super().__init__()
        width = config.width
        self._stride = stride
        self.attention = _Attention(width, config.heads, stride)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scales = nn.Parameter(torch.full((2, width), _SCALE))
        self.dropped = Dropout(config.drop_path)

    def forward(self, x: Values, before: There, there: There, seen: Bool[Tensor, "videos 1 points points"]) -> Values:
        """before, there: which points are of a video, before and behind the block."""
        y = self.attention(self.norms[0](x) * before[..., None], seen)
        if self._stride == 2:
            first, second, third = neighbours(x.masked_fill(~before[..., None], -math.inf), 2, -math.inf)
            x = torch.maximum(torch.maximum(first, second), third).masked_fill(~there[..., None], 0)
        x = x + self._kept(x) * self.scales[0] * y
        x = x + self._kept(x) * self.scales[1] * self.layers(self.norms[1](x))
        return x * there[..., None]

    def _kept(self, x: Values) -> Float[Tensor, "videos 1 1"]:
        return self.dropped(x.new_ones(len(x), 1, 1))


def seen_by(there: There, window: int | None) -> Bool[Tensor, "videos 1 points points"]:
    """Which points each may attend to: those of its video that are near it. One behind the last attends to itself."""
    place = torch.arange(there.shape[1], device=there.device)
    apart = (place[:, None] - place).abs()
    near = apart >= 0 if window is None else apart <= window // 2
    return ((near & there[:, None]) | (apart == 0))[:, None]


class ActionFormer(Network):
    """What the pyramid's points say of videos.

    positives: the mean number of points that had a segment in a step, over the last ones; the losses' measure.
    """

    def __init__(self, config: Model, dim: int, num_fine: int, precision: Precision = "float32"):
        """precision: bfloat16 rounds the matrix products."""
        super().__init__()
        self._config, self._rounded = config, precision == "bfloat16"
        width = config.width
        self.dropout = Dropout(config.dropout)
        self.stem = _Tower(dim, width)
        strides = [1] * config.blocks + [2] * (config.levels - 1)
        self.blocks = nn.ModuleList([_Block(config, stride) for stride in strides])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(config.levels)])
        self.class_tower, self.segment_tower = _Tower(width, width), _Tower(width, width)
        self.classes, self.ends = Convolution(width, num_fine), Convolution(width, 2)
        nn.init.constant_(self.classes.linear.bias, math.log(_RARE / (1 - _RARE)))
        self.scales = nn.Parameter(torch.ones(config.levels))
        self.positives: Tensor
        self.register_buffer("positives", torch.full((), 100.0))

    @property
    def levels(self) -> int:
        """Of the pyramid."""
        return self._config.levels

    def laid_out(
        self, clips: Float[Tensor, "clips d"], num_clips: Int[Tensor, " videos"], longest: int
    ) -> tuple[Values, There]:
        """Clips video by video, rescaled where they are to be, and which are of a video."""
        batch = Ragged.of(num_clips, longest)
        x, points = batch.pad(clips), self._config.points
        if points is None:
            return x, batch.there
        size = num_clips.to(x.dtype)[:, None]
        place = (torch.arange(points, device=x.device) + 0.5) * size / points - 0.5
        place = torch.minimum(place.clamp_min(0), (size - 1).clamp_min(0))
        low = place.floor().long()
        high = torch.minimum(low + 1, (num_clips.long()[:, None] - 1).clamp_min(0))
        first, second = (x.gather(1, one[..., None].expand(-1, -1, x.shape[2])) for one in (low, high))
        there = (num_clips > 0)[:, None].expand(-1, points)
        return torch.lerp(first, second, (place - low)[..., None]), there

    def forward(self, x: Values, there: There) -> tuple[Values, Values, There]:
        """Of points of all levels, one level after the other: class logits, how far the ends are, and which are there.

        The ends, before and behind the point, in strides of its level.
        """
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._rounded):
            x = x * self.dropout(x.new_ones(len(x), 1, x.shape[2]))
            x = self.stem(x, there[..., None].to(x.dtype))
            logits, ends, all_there = [], [], []
            for number, block in enumerate(self.blocks):
                level = max(0, number - self._config.blocks + 1)
                before = there
                if number >= self._config.blocks:
                    there = there[:, ::2]
                x = block(x, before, there, seen_by(there, self._config.window))
                if number >= self._config.blocks - 1:
                    of_level = there[..., None].to(x.dtype)
                    y = self.norms[level](x) * of_level
                    logits.append(self.classes(self.class_tower(y, of_level)))
                    ends.append((self.scales[level] * self.ends(self.segment_tower(y, of_level))).relu())
                    all_there.append(there)
        return unrounded(torch.cat(logits, 1)), unrounded(torch.cat(ends, 1)), torch.cat(all_there, 1)

    def rows(self, num_clips: IntArray) -> IntArray:
        """One a point."""
        points = self._config.points
        return every_point(num_clips if points is None else np.full_like(num_clips, points), self.levels)

    def activations(self, clips: Float[Tensor, "clips d"]) -> Float[Tensor, "points numbers"]:
        """Of one video, a row a point: where its segment begins and ends, in clips, and the logits of the classes.

        The number before these is how many points the video has, in the row of its first, and 0 in all others.
        """
        return self.of_videos(clips, np.array([len(clips)]))

    def of_videos(self, clips: Float[Tensor, "clips d"], num_clips: IntArray) -> Float[Tensor, "points numbers"]:
        offsets, parts = offsets_of(num_clips), dict[int, Tensor]()
        for videos in self._together(num_clips):
            own = torch.cat([clips[offsets[video] : offsets[video + 1]] for video in videos])
            sizes = num_clips[videos]
            said = self._decoded(own, torch.from_numpy(sizes).to(clips.device), int(sizes.max()))
            parts |= dict(zip(videos.tolist(), said.split(self.rows(sizes).tolist()), strict=True))
        return torch.cat([parts[video] for video in range(len(num_clips))])

    def _together(self, num_clips: IntArray) -> Iterator[IntArray]:
        """Videos of about one length, which are filled up to their longest, a bounded number at a time."""
        by_size = np.argsort(num_clips, kind="stable")
        doubled = np.frexp(num_clips[by_size] - 0.5)[1]
        for videos in np.split(by_size, np.flatnonzero(np.diff(doubled)) + 1):
            longest = max(int(num_clips[videos].max(initial=1)), self._config.points or 1)
            for first, last in runs(np.full(len(videos), longest), AT_ONCE):
                yield videos[first:last]

    def _decoded(
        self, clips: Float[Tensor, "clips d"], num_clips: Int[Tensor, " videos"], longest: int
    ) -> Float[Tensor, "points numbers"]:
        x, there = self.laid_out(clips, num_clips, longest)
        logits, ends, there = self(x, there)
        points = Points.of(x.shape[1], self.levels, x.device)
        size = num_clips.to(x.dtype)[:, None, None]
        unit = 1.0 if self._config.points is None else size / self._config.points
        reach = ends * points.stride[:, None] * ends.new_tensor([-1.0, 1.0])
        segments = torch.minimum(((points.time[:, None] + reach) * unit).clamp_min(0), size)
        first = F.pad(there.sum(dim=1, keepdim=True).to(x.dtype), (0, there.shape[1] - 1))[..., None]
        return torch.cat([first, segments, logits], dim=2)[there]
