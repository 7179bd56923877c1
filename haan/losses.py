"""Losses that weakly supervised methods share (Eq. 1, 2, 9), as pure functions over a ragged batch.

Each is a sum over videos, in nats.

Conventions: clips of all videos stand one after the other; `video` [clips] names the video of each clip, `num_clips`
[videos] counts them.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def pool(
    cas: Float[Tensor, "clips fine"], video: Int[Tensor, " clips"], num_clips: Float[Tensor, "videos 1"]
) -> Float[Tensor, "videos fine"]:
    """Mean of the scores that reach their own mean, per video and class (Eq. 1).

    Rounding can lift the mean of equal scores above all of them; the pooled score is then that mean.
    """
    zeros = cas.new_zeros(len(num_clips), cas.shape[1])
    mean = zeros.index_add(0, video, cas) / num_clips
    above = (cas >= mean[video]).to(cas.dtype)
    count = zeros.index_add(0, video, above.detach())
    total = zeros.index_add(0, video, cas * above)
    return torch.where(count > 0, total / count.clamp_min(1), mean)


def balanced_weights(labels: Bool[Tensor, "videos classes"]) -> Float[Tensor, "2 classes"]:
    """BCE weights of the released code: C / (number of training videos without, and with, the class)."""
    with_class = labels.sum(dim=0).clamp_min(1)
    without = (~labels).sum(dim=0).clamp_min(1)
    return labels.shape[1] / torch.stack([without, with_class]).float()


def bce(
    logits: Float[Tensor, "videos classes"],
    labels: Bool[Tensor, "videos classes"],
    weights: Float[Tensor, "2 classes"] | None,
) -> Float[Tensor, ""]:
    """Binary cross entropy with logits, mean over classes (Eq. 2 and 9); `weights` holds those of label 0 and 1."""
    weight = None if weights is None else torch.where(labels, weights[1], weights[0])
    total = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), weight=weight, reduction="sum")
    return total / logits.shape[1]
