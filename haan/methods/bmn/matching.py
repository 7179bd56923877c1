"""The map of segments: a cell (i, j), i <= j, is the segment from point i to behind point j of a video.

All is in points, of which a video has `points`; only such cells are ever computed, row by row.
"""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

_PLACES = 3  # of a part of a video, whose mean its point is
_SUPPORT = 3  # points that a sample is the mean of
_REACH = 1.5  # of what counts as a start or an end, to both sides
_AROUND = 0.5  # of a segment and a point, what is sampled before it and behind it


def to_points(num_clips: Int[Tensor, " videos"], points: int, longest: int) -> Float[Tensor, "videos points longest"]:
    """What each clip adds to each of so many points, equal parts of a video, that stand for it.

    The mean of three places of the part, interpolated linearly between the middles of clips; beyond these the nearest.
    A video of just so many clips is as it is.
    """
    size = num_clips[:, None, None]
    within = (torch.arange(_PLACES, device=size.device) + 0.5) / _PLACES
    part = torch.arange(points, device=size.device)[:, None] + torch.where(size == points, 0.5, within)
    place = (part * (size / points) - 0.5).clamp_min(0).minimum((size - 1).clamp_min(0))
    near = 1 - (place[..., None] - torch.arange(longest, device=size.device)).abs()
    return near.clamp_min(0).mean(dim=2)


def cells(points: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """i and j of all cells."""
    return np.triu_indices(points)


@lru_cache(maxsize=2)
def sampling(points: int, samples: int, support: int = _SUPPORT) -> Float[Tensor, "samples_points cells"]:
    """What each point adds to each sample of each cell, on the host: rows by sample, then point.

    Samples are spread evenly over the segment and half as much before and behind it, and interpolated linearly; what is
    beyond the video is 0, but within a point before it the first point counts, as released.
    """
    i, j = cells(points)
    around = _AROUND * (j + 2 - i)
    low, high = i - around, j + 1 + around
    share = np.linspace(0, 1, samples * support).reshape(samples, support, 1)
    weights = np.empty((samples, points, len(i)), dtype=np.float32)
    for sample in range(samples):
        position = low + share[sample] * (high - low)  # [support, cells]
        position = np.where((position > -1) & (position < 0), 0, position)
        near = 1 - np.abs(position[:, None] - np.arange(points)[:, None])
        weights[sample] = np.maximum(near, 0).mean(axis=0)
    return torch.from_numpy(weights.reshape(-1, len(i)))


def overlaps(
    segments: Float[Tensor, "videos most 2"], cell: Int[Tensor, " cells"], points: int
) -> Float[Tensor, "videos cells"]:
    """Largest tIoU of each cell with a segment of its video. An empty segment is none. cell: i x points + j of each."""
    i, j = cell // points, cell % points
    start, end = segments[..., :1], segments[..., 1:]
    common = (torch.minimum(end, j + 1) - torch.maximum(start, i)).clamp_min(0)
    return (common / ((end - start) + (j + 1 - i) - common)).amax(dim=1)


def edges(segments: Float[Tensor, "videos most 2"], points: int) -> Float[Tensor, "2 videos points"]:
    """How far each point is a start, and how far what is behind it is an end.

    That is the largest part of its surroundings, one point wide, within reach of a segment's start, or end.
    """
    point = torch.arange(points, device=segments.device)
    there = (segments[..., 1:] > segments[..., :1]).to(segments.dtype)
    found = []
    for place, at in enumerate((point, point + 1)):
        edge = segments[..., place : place + 1]
        common = torch.minimum(at + 0.5, edge + _REACH) - torch.maximum(at - 0.5, edge - _REACH)
        found.append((common.clamp_min(0) * there).amax(dim=1))
    return torch.stack(found)


def shares(segments: Float[Tensor, "videos most 2"], points: int) -> Float[Tensor, "videos most points"]:
    """What part of each segment each point covers; of an empty one 0."""
    point = torch.arange(points, device=segments.device)
    start, end = segments[..., :1], segments[..., 1:]
    common = (torch.minimum(end, point + 1) - torch.maximum(start, point)).clamp_min(0)
    return common / torch.where(end > start, end - start, 1)


def chosen(
    overlap: Float[Tensor, "videos cells"], there: Bool[Tensor, " videos"], draw: Float[Tensor, "videos cells"]
) -> Bool[Tensor, "videos cells"]:
    """Cells whose tIoU is learnt: all of a high one, and about as many of a middle and of a low one, but not 0.

    draw: uniform from 0 to 1.
    """
    bounds = (0.7, torch.inf), (0.3, 0.7), (0.0, 0.3)
    kinds = [(overlap > low) & (overlap <= high) & there[:, None] for low, high in bounds]
    number = kinds[0].sum()
    some = [kind & (draw < number / kind.sum().clamp_min(1)) for kind in kinds[1:]]
    return kinds[0] | some[0] | some[1]


def balanced_cross_entropy(
    p: Float[Tensor, "videos entries"], positive: Bool[Tensor, "videos entries"], there: Bool[Tensor, " videos"]
) -> Float[Tensor, ""]:
    """Mean over the entries of videos that are there, in which positive ones and the others weigh the same in all."""
    counts = there.to(p.dtype)[:, None].expand_as(p)
    entries = counts.sum()
    ratio = entries / (counts * positive).sum().clamp_min(1)
    weight = torch.where(positive, ratio / 2, ratio / (2 * (ratio - 1).clamp_min(_EPS)))
    loss = -torch.where(positive, p + _EPS, 1 - p + _EPS).log()
    return (counts * weight * loss).sum() / entries.clamp_min(1)


_EPS = 1e-6  # of logarithms, as released


def regression_loss(
    p: Float[Tensor, "videos cells"], overlap: Float[Tensor, "videos cells"], which: Bool[Tensor, "videos cells"]
) -> Float[Tensor, ""]:
    """Half the mean squared error over some cells."""
    return ((p - overlap) ** 2 * which).sum() / (2 * which.sum().clamp_min(1))


def class_loss(
    logits: Float[Tensor, "videos most fine"], label: Int[Tensor, "videos most"], there: Bool[Tensor, "videos most"]
) -> Float[Tensor, ""]:
    """Mean cross entropy over segments, of softmax."""
    own = logits.log_softmax(dim=2).gather(2, label.long()[..., None])[..., 0]
    return -(own * there).sum() / there.sum().clamp_min(1)
