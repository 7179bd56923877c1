"""HAAN's own losses (Eq. 3 and 7) as pure functions over a ragged batch; each is a sum over videos, in nats.

Conventions as in haan.losses, which holds those of Eq. 1, 2 and 9. Eq. 10 weighs and adds the four in
haan.methods.haan.method.
"""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function

from haan.losses import keep_gradient


def clip_weights(
    labels: NDArray[np.int64], offsets: NDArray[np.int64], frequency: NDArray[np.float32] | None, per_clip: bool
) -> NDArray[np.float64]:
    """What each clip [clips] weighs in Eq. 3, a weighted mean over each video's clips.

    labels: [clips] their clusters. offsets: [videos + 1] first clip of each video. frequency: [clusters] weight of each
    cluster, the share of training clips in it (released code), or None for equal weights. per_clip: divide each video's
    mean by its number of clips once more (released code).
    """
    weight = np.ones(len(labels)) if frequency is None else frequency[labels].astype(np.float64)
    num_clips = np.diff(offsets)
    total = np.add.reduceat(weight, offsets[:-1])
    return weight / np.repeat(total * num_clips if per_clip else total, num_clips)


def pseudo_loss(
    cluster_logits: Float[Tensor, "clips clusters"], labels: Int[Tensor, " clips"], weights: Float[Tensor, " clips"]
) -> Float[Tensor, ""]:
    """Cross entropy of the pseudo labels, weighed by `clip_weights` (Eq. 3)."""
    return _Pseudo.apply(cluster_logits, labels[:, None].long(), weights[:, None])[0]


class _Pseudo(Function):
    @staticmethod
    def forward(logits: Tensor, label: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        log, minus = torch.log_softmax(logits, dim=1), -weight
        value = (log.gather(1, label) * minus).sum()
        return value, log.exp_().mul_(weight).scatter_add_(1, label, minus)

    setup_context = staticmethod(lambda ctx, inputs, output: keep_gradient(ctx, output[1]))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        grad = grad_outputs[0]
        return ctx.saved_tensors[0] * grad, None, None


def concept_loss(
    fine: Float[Tensor, "videos fine width"],
    prototypes: Float[Tensor, "fine width"],
    share: Float[Tensor, "videos fine"],
    distance: Literal["cosine", "euclidean"],
) -> Float[Tensor, ""]:
    """Distance of e^j to its class prototype w^j over the classes of each video (Eq. 7), weighed by `class_shares`.

    The cosine to a zero vector counts as 0.
    """
    if distance == "cosine":
        return _Cosine.apply(fine, prototypes, share)[0]
    return (_length(fine - prototypes) * share).sum()


def class_shares(
    labels: Float[Tensor, "videos fine"], reduction: Literal["mean", "sum"]
) -> Float[Tensor, "videos fine"]:
    """What each class of a video weighs in Eq. 7: a mean (released code) or a sum (paper) over them."""
    return labels / labels.sum(dim=1, keepdim=True).clamp_min(1) if reduction == "mean" else labels


def _length(vectors: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows"]:
    """Euclidean length, with gradient 0 at the zero vector."""
    square = vectors.square().sum(dim=-1)
    nonzero = square > 0
    return torch.where(nonzero, torch.where(nonzero, square, 1.0).sqrt(), 0.0)


class _Cosine(Function):
    """One less the cosine, weighed and summed. Not twice differentiable; the gradient at a zero vector is 0."""

    @staticmethod
    def forward(fine: Tensor, prototypes: Tensor, share: Tensor) -> tuple[Tensor, ...]:
        length, of_prototype = (
            torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) for vectors in (fine, prototypes)
        )
        for one in (length, of_prototype):
            one.masked_fill_(one == 0, torch.inf)  # what is divided by it is 0, gradients too
        towards, of_class = fine / length, prototypes / of_prototype
        cosine = (towards * of_class).sum(dim=-1)
        return ((1 - cosine) * share).sum(), towards, of_class, cosine, length, of_prototype

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(inputs[2], *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        """With unit vectors e and w: d cos / d (its e) = (w - cos e) / its length, and the same of w."""
        share, towards, of_class, cosine, length, of_prototype = ctx.saved_tensors
        grad = (grad_outputs[0] * share)[..., None]
        across, along = grad / length, grad * cosine[..., None]
        by_fine = torch.addcmul(towards * (along / length), of_class, across, value=-1)
        if not ctx.needs_input_grad[1]:
            return by_fine, None, None
        turned = (of_class * along.sum(dim=0)).sub_((towards * grad).sum(dim=0))
        return by_fine, turned.div_(of_prototype), None
