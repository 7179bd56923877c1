"""HAAN's own losses (Eq. 3 and 7) as pure functions over a ragged batch; each is a sum over videos, in nats.

Conventions as in haan.losses, which holds those of Eq. 1, 2 and 9. Eq. 10 weighs and adds the four in
haan.methods.haan.method.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


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
