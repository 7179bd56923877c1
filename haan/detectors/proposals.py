"""Scored proposals of a method -> detections, by non-maximum suppression.

Those of a score above `least_score` count, at most `most` a video, its best ones. So a stricter setting keeps the best
of a looser one's, and what these suppress is the same: hard and half-soft suppression are computed once for all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from haan.checked import AT_LEAST_ONE, setting
from haan.config import CODE
from haan.detectors import nms
from haan.metrics import Detections


@dataclass(frozen=True, kw_only=True)
class Proposals(nms.Nms):
    """The settings of this detector."""

    least_score: float = setting(0.0, what="a proposal counts above this score", source=CODE)
    most: int = setting(2000, AT_LEAST_ONE, what="proposals a video, its best ones", source=CODE)


@dataclass(frozen=True)
class _Ordered:
    """Proposals by pair of a video and a class and by falling score. place: among their video's best, from 0."""

    found: Detections
    pair: NDArray[np.int64]
    place: NDArray[np.int64]


def makers(found: Detections, settings: Sequence[Proposals]) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """What makes the detections at each of several settings, with its place among them; several threads may do so.

    found: proposals in any order. Detections stand by video, class and, before suppression, falling score; of equal
    scores the earlier proposal is better.
    """
    ordered = _ordered(found)
    overlaps: dict[nms.Nms, NDArray[np.float64]] = {}
    for place, one in enumerate(settings):
        if one.nms == "soft":
            yield place, partial(_softened, ordered, one)
            continue
        same = replace(one, least_score=0.0, most=1, nms="hard", nms_sigma=1.0)
        if same not in overlaps:
            overlaps[same] = nms.overlaps(ordered.pair, ordered.found.start_s, ordered.found.end_s, one)
        yield place, partial(_suppressed, ordered, overlaps[same], one)


def detect_many(found: Detections, settings: Sequence[Proposals]) -> Iterator[tuple[int, Detections]]:
    """The detections that `makers` would make, one setting at a time."""
    for place, make in makers(found, settings):
        yield place, make()


def _ordered(found: Detections) -> _Ordered:
    classes = int(found.label.max(initial=0)) + 1
    order = nms.order(found.video * classes + found.label, found.score)
    pair = (found.video * classes + found.label)[order]
    by_score = nms.order(found.video, found.score)
    video = found.video[by_score]
    place = np.empty(len(video), dtype=np.int64)
    place[by_score] = np.arange(len(video)) - np.searchsorted(video, video)
    return _Ordered(_taken(found, order), pair, place[order])


def _taken(found: Detections, which: NDArray) -> Detections:
    return Detections(*(getattr(found, name)[which] for name in ("video", "label", "start_s", "end_s", "score")))


def _counts(ordered: _Ordered, settings: Proposals) -> NDArray[np.bool_]:
    return (ordered.found.score > settings.least_score) & (ordered.place < settings.most)


def _suppressed(ordered: _Ordered, overlap: NDArray[np.float64], settings: Proposals) -> Detections:
    """overlap: by suppression of all proposals, whether they count or not."""
    counts = _counts(ordered, settings)
    if settings.nms == "hard":
        return _taken(ordered.found, counts & (overlap == 0))
    left = _taken(ordered.found, counts)
    return replace(left, score=left.score * nms.decay(overlap[counts], settings))


def _softened(ordered: _Ordered, settings: Proposals) -> Detections:
    counts = _counts(ordered, settings)
    left = _taken(ordered.found, counts)
    score = nms.soften(ordered.pair[counts], left.start_s, left.end_s, left.score, settings)
    return replace(left, score=score)
