"""What BMN says of segments -> detections.

A segment's score is that of the map, its overlap with an action times how much it is one, times a power of its ends'
probabilities. The best `most_proposals` of a video suppress each other, whatever their class; each of what is
left is a detection of its most probable classes, by the softmax of its mean logits, and its score times their
probability. What suppression leaves is the same for all `top_classes`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from haan.data.table import IntArray
from haan.detectors import proposals
from haan.detectors.proposals import Left, Proposals
from haan.detectors.shared import Shared
from haan.methods.bmn.config import BmnDetect
from haan.methods.bmn.matching import cells
from haan.metrics import Detections

_AT_ONCE = 1 << 12  # segments whose classes are told at once
_VIDEOS = 64  # whose best segments are found at once


@dataclass(frozen=True)
class Scored:
    """Segments that may be detections. found: of no class yet. first, last: points, the last one exclusive."""

    found: Detections
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    points: int

    def above(self, settings: Proposals) -> NDArray[np.float64]:
        """See haan.detectors.nms.soften."""
        assert isinstance(settings, BmnDetect)
        return settings.nms_above + settings.nms_above_width * (self.last - self.first) / self.points


def makers(
    numbers: NDArray[np.float32], offsets: IntArray, clips_per_s: NDArray[np.float64], settings: Sequence[BmnDetect]
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """See haan.methods.base.Detector. numbers: as BMN.of_videos has them."""
    said = numbers.reshape(len(clips_per_s), -1, numbers.shape[1])
    seconds = np.diff(offsets) / clips_per_s
    by_power: dict[float, dict[BmnDetect, list[int]]] = {}
    for place, one in enumerate(settings):
        alike = by_power.setdefault(one.edge_power, {})
        alike.setdefault(replace(one, top_classes=1), []).append(place)
    for power, alike in by_power.items():
        segments = best(said, seconds, power, max(one.most_proposals for one in alike))
        groups = list(alike.values())
        for number, make in proposals.survivors(segments.found, list(alike), segments.above, by_class=False):
            places = groups[number]
            most = max(settings[place].top_classes for place in places)
            told = Shared(partial(_told, said, segments, make, most), len(places))
            for place in places:
                yield place, partial(_detections, segments.found, told, settings[place].top_classes)


def best(said: NDArray[np.float32], seconds: NDArray[np.float64], power: float, most: int) -> Scored:
    """The best so many segments of each video. said: [videos, points, numbers]. seconds: [videos] how long each is."""
    points = said.shape[1]
    i, j = cells(points)
    most, found = min(most, len(i)), []
    for first in range(0, len(said), _VIDEOS):
        some = said[first : first + _VIDEOS]
        scores = some[:, i, j] * (some[:, i, points] * some[:, j, points + 1]) ** power
        cell = np.argpartition(-scores, most - 1, axis=1)[:, :most]
        cell.sort(axis=1)
        found.append((np.take_along_axis(scores, cell, axis=1), cell))
    kept, cell = (np.concatenate(column) for column in zip(*found, strict=True))
    video = np.repeat(np.arange(len(said)), most)
    begin, end = i[cell.ravel()], j[cell.ravel()] + 1
    per_point = seconds[video] / points
    start_s, end_s = begin * per_point, end * per_point
    return Scored(
        Detections(video, np.zeros_like(video), start_s, end_s, kept.ravel().astype(np.float64)), begin, end, points
    )


@dataclass(frozen=True)
class _Told:
    """Of what is left: its place among all segments, its score, and the best classes [left, most], with probability."""

    place: NDArray[np.int64]
    score: NDArray[np.float64]
    label: NDArray[np.int64]
    probability: NDArray[np.float64]


def _told(said: NDArray[np.float32], segments: Scored, make: Callable[[], Left], most: int) -> _Told:
    left = make()
    video, first, last = (of[left.place] for of in (segments.found.video, segments.first, segments.last))
    parts = [
        classes(said, video[some], first[some], last[some], most)
        for some in (slice(at, at + _AT_ONCE) for at in range(0, max(1, len(video)), _AT_ONCE))
    ]
    label, probability = (np.concatenate(column) for column in zip(*parts, strict=True))
    return _Told(left.place, left.score, label, probability)


def classes(
    said: NDArray[np.float32], video: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The most probable classes of some segments, the best first, and their probabilities: [segments, most]."""
    videos, at = np.unique(video, return_inverse=True)
    logits = said[videos, :, said.shape[1] + 2 :]
    sums = np.zeros((len(videos), logits.shape[1] + 1, logits.shape[2]))
    np.cumsum(logits, axis=1, dtype=np.float64, out=sums[:, 1:])
    mean = (sums[at, last] - sums[at, first]) / (last - first)[:, None]
    p = np.exp(mean - mean.max(axis=1, keepdims=True)) if len(mean) else mean
    p /= p.sum(axis=1, keepdims=True)
    label = np.argsort(-p, axis=1, kind="stable")[:, :most]
    return label, np.take_along_axis(p, label, axis=1)


def _detections(found: Detections, told: Shared[_Told], top_classes: int) -> Detections:
    one = told.take()
    label, probability = one.label[:, :top_classes], one.probability[:, :top_classes]
    place = np.repeat(one.place, label.shape[1])
    score = np.repeat(one.score, label.shape[1]) * probability.ravel()
    return Detections(found.video[place], label.ravel(), found.start_s[place], found.end_s[place], score)
