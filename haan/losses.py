"""The four losses of HAAN (Eq. 1-3, 7, 9) as pure functions over a ragged batch; each is a sum over videos, in nats.

Conventions: clips of all videos stand one after the other; `video` [clips] names the video of each clip, `num_clips`
[videos] counts them. Eq. 10 weighs and adds the four in haan.train.
"""

from typing import Literal

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


def pseudo_loss(
    cluster_logits: Float[Tensor, "clips clusters"],
    labels: Int[Tensor, " clips"],
    video: Int[Tensor, " clips"],
    num_clips: Float[Tensor, "videos 1"],
    frequency: Float[Tensor, " clusters"] | None,
    per_clip: bool,
) -> Float[Tensor, ""]:
    """Cross entropy of the pseudo labels, a weighted mean over each video's clips (Eq. 3).

    frequency: weight of each cluster, the share of training clips in it (released code), or None for equal weights.
    per_clip: divide each video's mean by its number of clips once more (released code).
    """
    entropy = F.cross_entropy(cluster_logits, labels, reduction="none")
    weight = torch.ones_like(entropy) if frequency is None else frequency[labels]
    zeros = entropy.new_zeros(len(num_clips))
    mean = zeros.index_add(0, video, entropy * weight) / zeros.index_add(0, video, weight)
    return (mean / num_clips.squeeze(1)).sum() if per_clip else mean.sum()


def concept_loss(
    fine: Float[Tensor, "videos fine width"],
    prototypes: Float[Tensor, "fine width"],
    labels: Bool[Tensor, "videos fine"],
    distance: Literal["cosine", "euclidean"],
    reduction: Literal["mean", "sum"],
) -> Float[Tensor, ""]:
    """Distance of e^j to its class prototype w^j over the classes of each video (Eq. 7).

    reduction: mean (released code) or sum (paper) over the video's classes. The cosine to a zero vector counts as 0.
    """
    apart = 1 - _cosine(fine, prototypes) if distance == "cosine" else _length(fine - prototypes)
    total = (apart * labels).sum(dim=1)
    if reduction == "mean":
        total = total / labels.sum(dim=1).clamp_min(1)
    return total.sum()


def _length(vectors: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows"]:
    """Euclidean length, with gradient 0 at the zero vector."""
    square = vectors.square().sum(dim=-1)
    nonzero = square > 0
    return torch.where(nonzero, torch.where(nonzero, square, 1.0).sqrt(), 0.0)


def _cosine(
    fine: Float[Tensor, "videos fine width"], prototypes: Float[Tensor, "fine width"]
) -> Float[Tensor, "videos fine"]:
    lengths = _length(fine) * _length(prototypes)
    nonzero = lengths > 0
    dot = (fine * prototypes).sum(dim=-1)
    return torch.where(nonzero, dot / torch.where(nonzero, lengths, 1.0), 0.0)
