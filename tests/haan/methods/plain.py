"""What haan.methods.ragged computes, by loops over single videos."""

from torch import Tensor


def plain_top(scores: Tensor, k: int) -> list[list[int]]:
    """For each class of one video the k clips of highest score, of equal ones the earlier."""
    clips, classes = scores.shape
    return [sorted(range(clips), key=lambda t: (-float(scores[t, c]), t))[:k] for c in range(classes)]


def plain_gce(p: list[float], g: list[int], q: float) -> float:
    """Over one video, clip by clip."""
    total = 0.0
    for positive in (1, 0):
        of = [x if positive else 1 - x for x, label in zip(p, g, strict=True) if label == positive]
        total += sum((1 - (x + 1e-7) ** q) / q for x in of) / (len(of) + 1e-7)
    return total
