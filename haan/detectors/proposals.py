"""Scored proposals of a method -> detections, by non-maximum suppression.

Those of a score above `least_score` count, at most `most_proposals` a video, its best ones; the best
`most_detections` of what suppression leaves are detections. A stricter setting counts the best of a looser one's, and
what these suppress is the same: so hard and half-soft suppression are computed once for all, and soft suppression once
for all `most_detections`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from haan.checked import AT_LEAST_ONE, setting
from haan.config import CODE
from haan.detectors import nms
from haan.detectors.shared import Shared, alike
from haan.metrics import Detections


@dataclass(frozen=True, kw_only=True)
class Proposals(nms.Nms):
    """The settings of this detector."""

    least_score: float = setting(0.0, what="a proposal counts above this score", source=CODE)
    most_proposals: int = setting(2000, AT_LEAST_ONE, what="proposals a video, its best ones", source=CODE)
    most_detections: int = setting(2000, AT_LEAST_ONE, what="detections a video, its best ones", source=CODE)


@dataclass(frozen=True)
class Left:
    """Proposals that are detections: their places among all, and their scores; by video, class and score of before."""

    place: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class _Ordered:
    """Proposals that may count, by pair and by falling score.

    pair: what they suppress each other in. rank: among their video's best, from 0. place: among all.
    """

    found: Detections
    pair: NDArray[np.int64]
    rank: NDArray[np.int64]
    place: NDArray[np.int64]


# Of a setting: the tIoU above which each proposal, when it is the best, softens others.
Above = Callable[[Proposals], NDArray[np.float64]]


def makers(
    found: Detections, settings: Sequence[Proposals], above: Above | None = None
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """What makes the detections at each of several settings, with its place among them; several threads may do so.

    found: proposals in any order; of equal scores the earlier is better. above: see `nms.soften`. Detections stand by
    video, class and, before suppression, falling score.
    """
    for place, make in survivors(found, settings, above):
        yield place, partial(_made, found, make)


def survivors(
    found: Detections, settings: Sequence[Proposals], above: Above | None = None, by_class: bool = True
) -> Iterator[tuple[int, Callable[[], Left]]]:
    """What says which proposals are left at each setting; see `makers`. by_class: else all of a video suppress."""
    ordered = _ordered(found, settings, by_class)
    for places in alike(settings, _suppression).values():
        most = max(settings[place].most_detections for place in places)
        one = replace(settings[places[0]], most_detections=most)
        suppressed = Shared(partial(_suppressed, ordered, one, above and above(one)), len(places))
        for place in places:
            yield place, partial(_left, ordered, suppressed, settings[place])


def _made(found: Detections, make: Callable[[], Left]) -> Detections:
    left = make()
    return replace(found.at(left.place), score=left.score)


def _suppression(settings: Proposals) -> Proposals:
    """One setting for all whose suppression is the same."""
    if settings.nms == "soft":
        return replace(settings, nms_tiou=1.0, most_detections=1)
    return replace(settings, nms="hard", nms_sigma=1.0, least_score=0.0, most_proposals=1, most_detections=1)


def _ordered(found: Detections, settings: Sequence[Proposals], by_class: bool) -> _Ordered:
    rank = _ranks(found.video, found.score)
    least, most = min(one.least_score for one in settings), max(one.most_proposals for one in settings)
    place = np.flatnonzero((found.score > least) & (rank < most))
    pair = found.video[place]
    if by_class:
        pair = pair * (int(found.label.max(initial=0)) + 1) + found.label[place]
    order = nms.order(pair, found.score[place])
    place, pair = place[order], pair[order]
    return _Ordered(found.at(place), pair, rank[place], place)


def _ranks(video: NDArray[np.int64], score: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each entry among its video's by falling score, from 0."""
    order = nms.order(video, score)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = nms.ranks(video[order])
    return rank


def _counts(ordered: _Ordered, settings: Proposals) -> NDArray[np.bool_]:
    return (ordered.found.score > settings.least_score) & (ordered.rank < settings.most_proposals)


def _suppressed(ordered: _Ordered, settings: Proposals, above: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """`nms.overlaps` of all proposals, whether they count or not; of `soft` their scores, of what doesn't -infinity."""
    found = ordered.found
    if settings.nms != "soft":
        return nms.overlaps(ordered.pair, found.start_s, found.end_s, settings)
    counts = _counts(ordered, settings)
    some, above = found.at(counts), None if above is None else above[ordered.place[counts]]
    score = np.full(len(counts), -np.inf)
    score[counts] = nms.soften(
        ordered.pair[counts], some.start_s, some.end_s, some.score, settings, above, settings.most_detections
    )
    return score


def _left(ordered: _Ordered, suppressed: Shared[NDArray[np.float64]], settings: Proposals) -> Left:
    found = suppressed.take()
    if settings.nms == "soft":
        score, kept = found, found > -np.inf
    elif settings.nms == "hard":
        score, kept = ordered.found.score, _counts(ordered, settings) & (found == 0)
    else:
        score, kept = ordered.found.score * nms.decay(found, settings), _counts(ordered, settings)
    place, score = ordered.place[kept], score[kept]
    best = _ranks(ordered.found.video[kept], score) < settings.most_detections
    return Left(place[best], score[best])
