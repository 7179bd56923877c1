"""Optimal transport of entries to groups of given shares, as balanced targets."""

from jaxtyping import Float
from torch import Tensor

_SHARPNESS = 2.0  # of logits that reach from -10 to 10
_ROUNDS = 3
_TINY = 1e-30


def transport(
    logits: Float[Tensor, "n groups"], shares: Float[Tensor, " groups"], counts: Float[Tensor, " n"]
) -> Float[Tensor, "n groups"]:
    """Soft targets near the logits' softmax in which the groups have about these shares; rows sum to 1. No gradient.

    counts: 1, or 0 for an entry that counts for nothing. A few rounds of Sinkhorn and Knopp's scaling.
    """
    logits = logits.detach()
    plan = (_SHARPNESS * (logits - logits.amax())).exp() * counts[:, None]
    number = counts.sum().clamp_min(1)
    for _ in range(_ROUNDS):
        plan = plan * (shares / plan.sum(dim=0).clamp_min(_TINY))
        plan = plan / (plan.sum(dim=1, keepdim=True).clamp_min(_TINY) * number)
    return plan * number
