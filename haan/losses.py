"""Losses that weakly supervised methods share (Eq. 1, 2, 9), as pure functions over a ragged batch.

Each is a sum over videos, in nats.

Conventions: clips of all videos stand one after the other; `member` [clips, videos] is 1 where a clip is of a video,
else 0, `num_clips` [videos] counts them. A batch may be filled up to a fixed shape: a clip may be of no video, and a
video of no clip counts 1 and weighs 0. Sums over a video's clips are products with that matrix, which give the same sum
at each call, on a GPU as well. There a step is a hundred kernels of a microsecond, so gradients are written out, and
numbers are written where they are wanted, where PyTorch would take more kernels for it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd import Function


def members(video: Int[Tensor, " clips"], num_videos: int) -> Float[Tensor, "clips videos"]:
    """1 where a clip is of a video, else 0."""
    return (video[:, None] == torch.arange(num_videos, device=video.device, dtype=video.dtype)).float()


def pool(
    cas: Float[Tensor, "clips fine"], member: Float[Tensor, "clips videos"], num_clips: Float[Tensor, "videos 1"]
) -> Float[Tensor, "videos fine"]:
    """Mean of the scores that reach their own mean, per video and class (Eq. 1).

    Rounding can lift the mean of equal scores above all of them; the pooled score is then that mean.
    """
    return _Pool.apply(cas, member, num_clips)[0]


class _Pool(Function):
    @staticmethod
    def forward(cas: Tensor, member: Tensor, num_clips: Tensor) -> tuple[Tensor, ...]:
        mean = (member.T @ cas).div_(num_clips)
        both = cas.new_empty(len(cas), 2, cas.shape[1])
        above, reaching = both.unbind(1)
        torch.ge(cas, member @ mean, out=above)  # 1 or 0
        torch.mul(cas, above, out=reaching)
        count, total = (member.T @ both.flatten(1)).unflatten(1, (2, -1)).unbind(1)
        none = count == 0
        share = count.reciprocal().masked_fill_(none, 0.0)  # of each score that reaches the mean in the pooled one
        return torch.where(none, mean, total * share), above, share, none / num_clips

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(inputs[1], *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        grad = grad_outputs[0]
        member, above, share, of_all = ctx.saved_tensors
        both = grad.new_empty(len(grad), 2, grad.shape[1])
        reaching, rest = both.unbind(1)
        torch.mul(grad, share, out=reaching)
        torch.mul(grad, of_all, out=rest)
        reaching, rest = (member @ both.flatten(1)).unflatten(1, (2, -1)).unbind(1)
        return torch.addcmul(rest, above, reaching), None, None


def balanced_weights(labels: Bool[Tensor, "videos classes"]) -> Float[Tensor, "2 classes"]:
    """BCE weights of the released code: C / (number of training videos without, and with, the class)."""
    with_class = labels.sum(dim=0).clamp_min(1)
    without = (~labels).sum(dim=0).clamp_min(1)
    return labels.shape[1] / torch.stack([without, with_class]).float()


def label_weights(
    labels: Bool[Tensor, "videos classes"], weights: Float[Tensor, "2 classes"] | None
) -> Float[Tensor, "videos classes"]:
    """What each label weighs in `bce`: `weights` of label 0 and 1, or equal ones, over the number of classes."""
    each = (
        torch.ones_like(labels, dtype=torch.float32) if weights is None else torch.where(labels, weights[1], weights[0])
    )
    return each / labels.shape[1]


def bce(
    logits: Float[Tensor, "videos classes"],
    labels: Float[Tensor, "videos classes"],
    weights: Float[Tensor, "videos classes"],
) -> Float[Tensor, ""]:
    """Binary cross entropy with logits, weighed by `label_weights`: a mean over classes (Eq. 2 and 9)."""
    return _Bce.apply(logits, labels, weights)[0]


class _Bce(Function):
    @staticmethod
    def forward(logits: Tensor, labels: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        each = F.softplus(logits).addcmul_(labels, logits, value=-1)
        return (each * weights).sum(), (torch.sigmoid(logits) - labels) * weights

    setup_context = staticmethod(lambda ctx, inputs, output: keep_gradient(ctx, output[1]))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        grad = grad_outputs[0]
        return ctx.saved_tensors[0] * grad, None, None


def keep_gradient(ctx: Any, gradient: Tensor) -> None:
    """Of a function whose forward pass made it beside the value already; nobody differentiates it once more."""
    ctx.save_for_backward(gradient)
    ctx.mark_non_differentiable(gradient)
    ctx.set_materialize_grads(False)
