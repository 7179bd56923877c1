"""What proposals are of, which of them are learnt, and their losses."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from haan.data.table import IntArray, offsets_of
from haan.methods.ssn.watershed import Proposed
from haan.metrics import tiou

FOREGROUND, INCOMPLETE, BACKGROUND, NEITHER = range(4)
EACH = (1, 6, 1)  # of these kinds, in a draw
_FOREGROUND_TIOU, _INCOMPLETE_TIOU, _BACKGROUND_TIOU = 0.7, 0.3, 0.01
_BACKGROUND_SHARE = 0.02  # of a video, that background is longer than


@dataclass(frozen=True)
class Candidates:
    """What is learnt of: true segments, then proposals.

    segment: [candidates, 2]. own: [candidates, 2] the true one that it overlaps most. All in clips. label: that one's.
    kind: as above. proposed: whether it is a proposal.
    """

    video: NDArray[np.int64]
    segment: NDArray[np.float64]
    own: NDArray[np.float64]
    label: NDArray[np.int64]
    kind: NDArray[np.int64]
    proposed: NDArray[np.bool_]


@dataclass(frozen=True)
class Actions:
    """True segments of training videos, by video. segment: [segments, 2] in clips."""

    video: NDArray[np.int64]
    segment: NDArray[np.float64]
    label: NDArray[np.int64]


def candidates(
    true: Actions, found: Proposed, num_clips: IntArray, incomplete_overlap: float, rng: np.random.Generator
) -> Candidates:
    """rng: of several segments that a proposal overlaps alike, says whose class it has."""
    segment = np.stack([found.start, found.end], axis=1).astype(np.float64)
    best, overlap, inside = matched(true, found.video, segment, len(num_clips), rng)
    long = (segment[:, 1] - segment[:, 0]) > _BACKGROUND_SHARE * num_clips[found.video]
    kind = np.full(len(segment), NEITHER)
    kind[(overlap < _BACKGROUND_TIOU) & long] = BACKGROUND
    kind[(overlap < _INCOMPLETE_TIOU) & (inside > incomplete_overlap)] = INCOMPLETE
    kind[overlap > _FOREGROUND_TIOU] = FOREGROUND
    return Candidates(
        np.concatenate([true.video, found.video]),
        np.concatenate([true.segment, segment]),
        np.concatenate([true.segment, true.segment[best]]),
        np.concatenate([true.label, true.label[best]]),
        np.concatenate([np.full(len(true.video), FOREGROUND), kind]),
        np.arange(len(true.video) + len(segment)) >= len(true.video),
    )


def matched(
    true: Actions, video: NDArray[np.int64], segment: NDArray[np.float64], videos: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Of each segment the true one that it overlaps most; its tIoU; and what part of the segment lies in that.

    Of a video without a true one: any, 0 and 0.
    """
    counts = np.bincount(true.video, minlength=videos)
    first, many = offsets_of(counts)[:-1][video], counts[video]
    which = np.repeat(np.arange(len(video)), many)
    other = np.arange(len(which)) - np.repeat(np.cumsum(many) - many - first, many)
    start, end = segment[which].T
    low, high = true.segment[other].T
    overlap = tiou(start, end, low, high)
    order = np.lexsort((rng.random(len(which)), -overlap, which))
    chosen = order[(np.cumsum(many) - many)[many > 0]]
    best, most, inside = np.zeros(len(video), dtype=np.int64), np.zeros(len(video)), np.zeros(len(video))
    common = np.maximum(np.minimum(end, high) - np.maximum(start, low), 0)[chosen]
    best[many > 0], most[many > 0] = other[chosen], overlap[chosen]
    inside[many > 0] = common / (end - start)[chosen]
    return best, most, inside


def drawn(found: Candidates, videos: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Candidates of each video by chance, [videos, slots], first all of a kind; they repeat where there are too few.

    -1 where a video has none of a kind.
    """
    parts = []
    for kind, each in zip((FOREGROUND, INCOMPLETE, BACKGROUND), EACH, strict=True):
        place = np.flatnonzero(found.kind == kind)
        place = place[np.lexsort((rng.random(len(place)), found.video[place]))]
        counts = np.bincount(found.video[place], minlength=videos)[:, None]
        slot = offsets_of(counts[:, 0])[:-1, None] + np.arange(draws * each) % np.maximum(counts, 1)
        padded = np.append(place, 0)
        parts.append(np.where(counts > 0, padded[np.minimum(slot, len(place))], -1))
    return np.concatenate(parts, axis=1)


def offsets_to(segment: Float[Tensor, "*shape 2"], own: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape 2"]:
    """How far another segment's centre is, in lengths of this one, and the logarithm of their lengths' ratio."""
    length, other = segment[..., 1] - segment[..., 0], own[..., 1] - own[..., 0]
    centre = (own.sum(dim=-1) - segment.sum(dim=-1)) / 2
    return torch.stack([centre / length, (other / length).log()], dim=-1)


def moved(
    segment: Float[Tensor, "*shape 2"], centre: Float[Tensor, "*shape"], length: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape 2"]:
    """The segment at such an offset."""
    half = (segment[..., 1] - segment[..., 0]) / 2
    middle = segment.mean(dim=-1) + 2 * half * centre
    return torch.stack([middle - half * length.exp(), middle + half * length.exp()], dim=-1)


def activity_loss(
    logits: Float[Tensor, "videos slots classes"],
    label: Int[Tensor, "videos slots"],
    there: Bool[Tensor, "videos slots"],
) -> Float[Tensor, ""]:
    """Mean cross entropy over actions and background."""
    own = logits.log_softmax(dim=2).gather(2, label[..., None])[..., 0]
    return -(own * there).sum() / there.sum().clamp_min(1)


def completeness_loss(
    complete: Float[Tensor, "videos slots"],
    complete_there: Bool[Tensor, "videos slots"],
    incomplete: Float[Tensor, "videos draws each"],
    incomplete_there: Bool[Tensor, "videos draws each"],
) -> Float[Tensor, ""]:
    """Hinge loss: scores of actions are to be above 1, the highest one of each draw's incomplete ones below -1."""
    hardest = incomplete.masked_fill(~incomplete_there, -torch.inf).amax(dim=2)
    some = incomplete_there.any(dim=2)
    losses = ((1 - complete).relu() * complete_there).sum() + torch.where(some, 1 + hardest, 0).relu().sum()
    return losses / (complete_there.sum() + some.sum()).clamp_min(1)


def regression_loss(
    said: Float[Tensor, "videos slots 2"], target: Float[Tensor, "videos slots 2"], there: Bool[Tensor, "videos slots"]
) -> Float[Tensor, ""]:
    """Smooth L1, both offsets added, as a mean over actions."""
    each = F.smooth_l1_loss(said, target, reduction="none").sum(dim=2)
    return (each * there).sum() / there.sum().clamp_min(1)
