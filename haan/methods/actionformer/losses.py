"""What ActionFormer's points learn, and their losses: pure functions over videos that are laid out."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from haan.methods.actionformer.config import Actionformer
from haan.methods.actionformer.network import Points

_TIED = 1e-3  # clips by which segments may differ in length and both be the shortest
_LEAST = 1e-8


@dataclass(frozen=True)
class Targets:
    """What each point of some videos learns.

    labels: 1 for each class of its segment. counts: 1 where a class is learnt at all. weight: of a point with a
    segment, 0 for all others. ends: how far the segment's ends are, in strides, before and behind the point.
    """

    labels: Float[Tensor, "videos points fine"]
    counts: Float[Tensor, "videos points fine"]
    weight: Float[Tensor, "videos points"]
    ends: Float[Tensor, "videos points 2"]


def targets(
    points: Points,
    there: Bool[Tensor, "videos points"],
    segments: Float[Tensor, "videos most 4"],
    num_fine: int,
    setting: Actionformer,
) -> Targets:
    """segments: start, end, class and weight; what only fills up has no length.

    A point is of a segment that it lies inside of, near its centre, where the farther end is in the range of its level:
    at the first from 0 to `first_range` clips, at each further one up to twice as far, at the last one any; of the
    shortest one where there are several. Segments of weight 0 are unsure: their class isn't learnt where they are.
    """
    start, end, _, weight = (segments[:, None, :, part] for part in range(4))
    before, behind = points.time[:, None] - start, end - points.time[:, None]
    inside = (before > 0) & (behind > 0) & there[..., None]
    near = (before - behind).abs() / 2 < setting.radius * points.stride[:, None]
    far = torch.maximum(before, behind)
    low = torch.where(points.level > 0, setting.first_range * points.stride / 2, 0.0)
    high = torch.where(points.level < points.level[-1], setting.first_range * points.stride, torch.inf)
    own = inside & near & (far >= low[:, None]) & (far < high[:, None]) & (weight > 0)
    length = torch.where(own, end - start, torch.inf)
    shortest, which = length.min(dim=2)
    tied = own & (length <= shortest[..., None] + _TIED)
    classes = F.one_hot(segments[..., 2].long(), num_fine).to(segments.dtype)
    labels = (tied.to(classes.dtype) @ classes).clamp_max(1)
    unsure = ((inside & (weight == 0)).to(classes.dtype) @ classes) > 0
    chosen = which[..., None]
    reach = torch.cat([before.gather(2, chosen), behind.gather(2, chosen)], dim=2) / points.stride[:, None]
    has = own.any(dim=2)
    return Targets(
        labels,
        (there[..., None] & ~(unsure & (labels == 0))).to(labels.dtype),
        weight.expand_as(own).gather(2, chosen)[..., 0] * has,
        torch.where(has[..., None], reach, 0.5),  # any length, where it weighs nothing
    )


def class_loss(
    logits: Float[Tensor, "videos points fine"], target: Targets, setting: Actionformer
) -> Float[Tensor, ""]:
    """Sigmoid focal loss (Lin et al., ICCV 2017), summed over points and classes; those of a segment by its weight."""
    labels = target.labels
    entropy = F.softplus(logits) - labels * logits
    wrong = torch.sigmoid(logits * (1 - 2 * labels))
    share = setting.focal_alpha * labels + (1 - setting.focal_alpha) * (1 - labels)
    weight = torch.where(labels > 0, target.weight[..., None], target.counts)
    return (weight * share * wrong**setting.focal_gamma * entropy).sum()


def segment_loss(ends: Float[Tensor, "videos points 2"], target: Targets) -> Float[Tensor, ""]:
    """DIoU (Zheng et al., AAAI 2020) of segments around the same point, summed over points by their weights.

    1 - tIoU + (distance of the centres / length of what holds both)^2.
    """
    inside = torch.minimum(ends, target.ends).sum(dim=2)
    whole = (ends.sum(dim=2) + target.ends.sum(dim=2) - inside).clamp_min(_LEAST)
    around = torch.maximum(ends, target.ends).sum(dim=2).clamp_min(_LEAST)
    apart = _centre(ends) - _centre(target.ends)
    return (target.weight * (1 - inside / whole + (apart / around) ** 2)).sum()


def _centre(ends: Float[Tensor, "videos points 2"]) -> Float[Tensor, "videos points"]:
    """How far the centre of a segment is behind its point."""
    return (ends[..., 1] - ends[..., 0]) / 2
