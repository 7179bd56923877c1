"""Operations over the time of each video of a batch: selections, softmax, means, and losses that read them.

Clips of all videos stand one after the other. Here they are laid out video by video, filled up to the longest, which
takes fixed shapes and reads no value back; no result depends on what fills up, or on the batch's other videos.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_EPS = 1e-7  # of GCE, as its authors have it


@dataclass(frozen=True)
class Ragged:
    """Where the clips of a batch lie. A video may have none; clips behind the last video only fill the batch up.

    num_clips: [videos]. index: [videos, longest] the place of each clip in the batch; any where `there` is false.
    """

    num_clips: Int[Tensor, " videos"]
    index: Int[Tensor, "videos longest"]
    there: Bool[Tensor, "videos longest"]

    @classmethod
    def of(cls, num_clips: Int[Tensor, " videos"], longest: int) -> Self:
        """longest: no video has more."""
        num_clips = num_clips.long()
        time = torch.arange(longest, device=num_clips.device)
        there = time < num_clips[:, None]
        return cls(num_clips, torch.where(there, _first(num_clips) + time, 0), there)

    def resampled(self, clip: Int[Tensor, "videos many"]) -> Self:
        """As many clips of each video, by their places in it, which may repeat; of a video without clips none."""
        there = (self.num_clips > 0)[:, None].expand(clip.shape)
        num_clips = there.sum(dim=1)
        return type(self)(num_clips, torch.where(there, _first(self.num_clips) + clip, 0), there)

    def pad(self, values: Float[Tensor, "clips ..."], fill: float = 0.0) -> Float[Tensor, "videos longest ..."]:
        """Values of clips, video by video."""
        rest = [1] * (values.dim() - 1)
        return values[self.index].masked_fill(~self.there.view(*self.there.shape, *rest), fill)


def _first(num_clips: Int[Tensor, " videos"]) -> Int[Tensor, "videos 1"]:
    return (num_clips.cumsum(0) - num_clips)[:, None]


def num_top(num_clips: Int[Tensor, " videos"], share: float, up: bool = False) -> Int[Tensor, " videos"]:
    """How many clips a share of them is, at least 1; rounded down, or up. 0.07 x 100 is 7."""
    exact = (num_clips.double() * share * 1e9).round() / 1e9
    return (exact.ceil() if up else exact.floor()).long().clamp_min(1)


def select_top(
    scores: Float[Tensor, "clips classes"], batch: Ragged, k: Int[Tensor, " videos"]
) -> Bool[Tensor, "videos longest classes"]:
    """Which k clips of a video score highest for each class; of equal ones the earlier. No gradient."""
    return top_places(batch.pad(scores.detach()), batch.there, k)


def top_places(
    scores: Float[Tensor, "videos longest classes"], there: Bool[Tensor, "videos longest"], k: Int[Tensor, " videos"]
) -> Bool[Tensor, "videos longest classes"]:
    """The same of scores that are laid out. there: which of them are of a clip."""
    columns = scores.detach().masked_fill(~there[..., None], -math.inf).transpose(1, 2).contiguous()
    order = columns.argsort(dim=-1, descending=True, stable=True)
    rank = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(-1, order, rank < k[:, None, None])
    return chosen.transpose(1, 2) & there[..., None]


def selected_mean(
    values: Float[Tensor, "clips classes"], batch: Ragged, chosen: Bool[Tensor, "videos longest classes"]
) -> Float[Tensor, "videos classes"]:
    """Mean over the chosen clips of each class; 0 where none is."""
    total = batch.pad(values).masked_fill(~chosen, 0).sum(dim=1)
    return total / chosen.sum(dim=1).clamp_min(1)


def top_mean(
    scores: Float[Tensor, "clips classes"], batch: Ragged, k: Int[Tensor, " videos"]
) -> Float[Tensor, "videos classes"]:
    """Mean of the k highest scores of each class."""
    return selected_mean(scores, batch, select_top(scores, batch, k))


def video_mean(values: Float[Tensor, "clips d"], batch: Ragged) -> Float[Tensor, "videos d"]:
    """Mean over each video's clips; 0 where it has none."""
    return batch.pad(values).sum(dim=1) / batch.num_clips.clamp_min(1)[:, None]


def softmax_over_time(scores: Float[Tensor, "clips classes"], batch: Ragged) -> Float[Tensor, "videos longest classes"]:
    """Softmax of each class over the clips of each video; 0 behind them."""
    padded = batch.pad(scores, torch.finfo(scores.dtype).min)  # finite: of a video without clips nothing is NaN
    return padded.softmax(dim=1) * batch.there[..., None]


def cross_entropy(
    logits: Float[Tensor, "videos classes"], labels: Float[Tensor, "videos classes"]
) -> Float[Tensor, " videos"]:
    """Of softmax with labels that share the target equally; 0 for a video without labels. In nats."""
    target = labels / labels.sum(dim=1, keepdim=True).clamp_min(1)
    return -(target * logits.log_softmax(dim=1)).sum(dim=1)


def generalised_cross_entropy(
    p: Float[Tensor, " clips"], positive: Bool[Tensor, "videos longest"], batch: Ragged, q: float
) -> Float[Tensor, " videos"]:
    """GCE_q: (1 - p^q) / q, as a mean over the positive clips of a video, and the same of 1 - p over the others, added.

    p: probabilities. From balanced cross entropy (q -> 0) to balanced absolute error (q = 1).
    """
    weights = torch.stack([positive & batch.there, ~positive & batch.there], dim=2).to(p.dtype)
    each = (1 - (batch.pad(torch.stack([p, 1 - p], dim=1), 0.5) + _EPS) ** q) / q
    return ((weights * each).sum(dim=1) / (weights.sum(dim=1) + _EPS)).sum(dim=1)
