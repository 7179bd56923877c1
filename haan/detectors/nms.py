"""Non-maximum suppression within the (video, class) pairs of many detections at once, in rounds.

In a round the best detection that is left of each pair is settled, and what overlaps it. Of equal scores the earlier
one is better.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from haan.checked import POSITIVE, SHARE, setting
from haan.config import CODE, Detect
from haan.metrics import tiou


@dataclass(frozen=True, kw_only=True)
class Nms(Detect):
    """The settings of suppression.

    `hard` drops what overlaps a better one, `half_soft` keeps it with a score that is lowered once, `soft` lowers the
    scores of all that overlap a better one, as often as there are such.
    """

    nms: Literal["hard", "half_soft", "soft"] = setting("hard", what="what becomes of overlapping ones", source=CODE)
    nms_tiou: float = setting(0.5, SHARE, what="tIoU from which they overlap; not of `soft`", source=CODE)
    nms_sigma: float = setting(0.5, POSITIVE, what="scores fall by exp(-tIoU^2 / sigma)", source=CODE)
    nms_tiou_of: Literal["seconds", "released"] = setting(
        "seconds", what="`released` adds 1 s to all lengths", source="ours; code: released"
    )


def order(pair: NDArray[np.integer], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """By pair, then falling score, then place: as `overlaps` wants them."""
    return np.lexsort((-score, pair))


def overlaps(
    pair: NDArray[np.integer], start_s: NDArray[np.float64], end_s: NDArray[np.float64], settings: Nms
) -> NDArray[np.float64]:
    """For each detection its tIoU with the better one that suppresses it, or 0 where none does.

    They stand by pair, each pair's by falling score. Suppressed is what reaches `settings.nms_tiou` with a better one
    of its pair that isn't suppressed itself, by the best of these.
    """
    end_s = _ends(end_s, settings)
    by = np.zeros(len(pair))
    left = np.arange(len(pair))
    while len(left):
        first, size = _bounds(pair[left])
        best = np.repeat(left[first], size)
        overlap = tiou(start_s[left], end_s[left], start_s[best], end_s[best])
        suppressed = (overlap >= settings.nms_tiou) & (left != best)
        by[left[suppressed]] = overlap[suppressed]
        left = left[~suppressed & (left != best)]
    return by


def decay(overlap: NDArray[np.float64], settings: Nms) -> NDArray[np.float64]:
    """What a score is multiplied by for such an overlap with a better detection."""
    return np.exp(-(overlap**2) / settings.nms_sigma)


def soften(
    pair: NDArray[np.integer],
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    score: NDArray[np.float64],
    settings: Nms,
) -> NDArray[np.float64]:
    """Scores after soft suppression; each pair's detections stand together.

    The best that is left of a pair keeps its score, and those of all others that are left fall.
    """
    end_s = _ends(end_s, settings)
    score = score.copy()
    left = np.arange(len(pair))
    while len(left):
        first, size = _bounds(pair[left])
        highest = np.repeat(np.maximum.reduceat(score[left], first), size)
        places = np.where(score[left] == highest, np.arange(len(left)), len(left))
        best = np.repeat(left[np.minimum.reduceat(places, first)], size)
        others = left != best
        left, best = left[others], best[others]
        score[left] *= decay(tiou(start_s[left], end_s[left], start_s[best], end_s[best]), settings)
    return score


def near_best(pair: NDArray[np.integer], score: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Which have at least a share of the best score of their pair; each pair's detections stand together."""
    if not len(pair):
        return np.zeros(0, dtype=bool)
    first, size = _bounds(pair)
    return score >= share * np.repeat(np.maximum.reduceat(score, first), size)


def _ends(end_s: NDArray[np.float64], settings: Nms) -> NDArray[np.float64]:
    """Ends that make lengths and overlaps a second longer, where they are to be."""
    return end_s + 1 if settings.nms_tiou_of == "released" else end_s


def _bounds(pair: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The place of each pair's first entry, and how many it has; of one or more entries."""
    first = np.flatnonzero(np.concatenate([[True], pair[1:] != pair[:-1]]))
    return first, np.diff(first, append=len(pair))
