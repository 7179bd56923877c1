"""Non-maximum suppression within the (video, class) pairs of many detections at once, in rounds.

In a round the best detection that is left of each pair is settled, and what overlaps it. Of equal scores the earlier
one is better.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from haan.checked import POSITIVE, SHARE, setting
from haan.config import CODE, Detect
from haan.metrics import tiou

_AT_ONCE = 1 << 15  # detections whose scores fall together: few enough for the processor's cache


@dataclass(frozen=True, kw_only=True)
class Nms(Detect):
    """The settings of suppression.

    `hard` drops what overlaps a better one, `half_soft` keeps it with a score that is lowered once, `soft` lowers the
    scores of all that overlap a better one, as often as there are such.
    """

    nms: Literal["hard", "half_soft", "soft"] = setting("hard", what="what becomes of overlapping ones", source=CODE)
    nms_tiou: float = setting(0.5, SHARE, what="overlap from this tIoU on; not of `soft`", source=CODE)
    nms_sigma: float = setting(0.5, POSITIVE, what="scores fall by exp(-tIoU^2 / sigma)", source=CODE)
    nms_tiou_of: Literal["seconds", "released"] = setting(
        "seconds", what="`released` adds 1 s to lengths", source="ours; code: released"
    )


def order(pair: NDArray[np.integer], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """By pair, then falling score, then place: as `overlaps` wants them."""
    return np.lexsort((-score, pair))


def ranks(group: NDArray[np.integer]) -> NDArray[np.int64]:
    """Of each entry its place among its group's, from 0; each group's entries stand together."""
    if not len(group):
        return np.zeros(0, dtype=np.int64)
    first, size = _bounds(group)
    return np.arange(len(group)) - np.repeat(first, size)


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
    above: NDArray[np.float64] | None = None,
    most: int | None = None,
) -> NDArray[np.float64]:
    """Scores after soft suppression; each pair's detections stand together.

    The best that is left of a pair keeps its score, and those of all others that are left fall; with `above`, of each
    detection, only those that overlap it by more when it is the best. After `most` of a pair the rest get -infinity.
    """
    end_s = _ends(end_s, settings)
    result = np.full(len(pair), -np.inf)
    for place, there in _laid_out(pair):
        start, end, row = start_s[place], end_s[place], np.arange(len(place))
        left = np.where(there, score[place], -np.inf)
        settled = np.full_like(left, -np.inf)
        for _ in range(place.shape[1] if most is None else min(most, place.shape[1])):
            best = left.argmax(axis=1)
            settled[row, best] = np.maximum(settled[row, best], left[row, best])
            left[row, best] = -np.inf
            overlap = tiou(start, end, start[row, best, None], end[row, best, None])
            falls = left > -np.inf
            if above is not None:
                falls &= overlap > above[place[row, best], None]
            np.multiply(left, decay(overlap, settings), out=left, where=falls)
        result[place[there]] = settled[there]
    return result


def _laid_out(pair: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Places of pairs' entries, a row a pair, and which are its own; of pairs of about one size, some at a time."""
    if not len(pair):
        return
    first, size = _bounds(pair)
    by_size = np.argsort(size, kind="stable")
    part = np.frexp(size[by_size] - 0.5)[1] * len(pair) + np.cumsum(size[by_size]) // _AT_ONCE
    for pairs in np.split(by_size, np.flatnonzero(np.diff(part)) + 1):
        time = np.arange(size[pairs].max())
        there = time < size[pairs, None]
        yield np.where(there, first[pairs, None] + time, first[pairs, None]), there


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
