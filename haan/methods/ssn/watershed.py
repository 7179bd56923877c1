"""Proposals: segments of a video that may be actions, in clips, of whatever class.

Temporal actionness grouping: runs of clips above a threshold are basins, and a proposal is some of them, one after the
other, as long as not too much between them is dry. There are many thresholds and many measures of too much.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from haan.data.table import IntArray, offsets_of
from haan.detectors import nms
from haan.methods.ssn.config import Ssn

THRESHOLDS = (0.01, 0.05, 0.1, 0.15, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TOLERANCES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
_SAME = nms.Nms(nms_tiou=0.9)  # of two proposals, the worse one goes
_LENGTHS = tuple(2**power for power in range(8))  # of windows
_STRIDE = 0.3  # of a window's length
_EPS = 1e-9  # 0.3 x 10 clips are 3


@dataclass(frozen=True)
class Proposed:
    """Segments of some videos, by video. start, end: in clips."""

    video: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def most(num_clips: IntArray, setting: Ssn) -> IntArray:
    """How many proposals a video of so many clips has at most."""
    found = np.zeros_like(num_clips)
    if setting.proposals != "windows":
        found = np.minimum(setting.most_proposals, num_clips * (num_clips + 1) // 2)
    if setting.proposals != "watershed":
        sizes, which = np.unique(num_clips, return_inverse=True)
        found = found + np.array([len(windows(size)) for size in sizes.tolist()])[which]
    return found


def proposed(logit: NDArray[np.float64], num_clips: IntArray, setting: Ssn) -> Proposed:
    """Of videos whose clips stand one after the other. logit: [clips] of actionness."""
    parts = []
    if setting.proposals != "windows":
        found = grouped(smoothed((1 + np.tanh(logit / 2)) / 2, num_clips, setting.smoothing), num_clips)
        parts.append(best(found, logit, num_clips, setting.most_proposals))
    if setting.proposals != "watershed":
        of_video = [windows(size) for size in num_clips.tolist()]
        video = np.repeat(np.arange(len(num_clips)), [len(rows) for rows in of_video])
        parts.append(Proposed(video, *np.concatenate(of_video).T))
    video, start, end = (np.concatenate([getattr(part, name) for part in parts]) for name in ("video", "start", "end"))
    order = np.argsort(video, kind="stable")
    return Proposed(video[order], start[order], end[order])


@lru_cache(maxsize=1024)
def windows(num_clips: int) -> NDArray[np.int64]:
    """Segments [windows, 2] of lengths that double, at most 128 clips, which overlap by 0.7."""
    rows = [
        (start, start + length)
        for length in _LENGTHS
        for start in range(0, num_clips - length + 1, int(np.ceil(_STRIDE * length - _EPS)))
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def smoothed(p: NDArray[np.float64], num_clips: IntArray, sigma: float) -> NDArray[np.float64]:
    """Each video's by a Gaussian; its first and its last clip go on beyond its ends."""
    if sigma == 0:
        return p
    from scipy.ndimage import gaussian_filter1d  # slow to import

    offsets = offsets_of(num_clips)[1:-1]
    return np.concatenate([gaussian_filter1d(of_video, sigma, mode="nearest") for of_video in np.split(p, offsets)])


def grouped(p: NDArray[np.float64], num_clips: IntArray) -> Proposed:
    """All proposals at all thresholds and tolerances, each once. p: [clips]."""
    videos = len(num_clips)
    row = np.arange(len(p)) + np.repeat(np.arange(videos), num_clips) + 1  # something dry before each video
    above = np.zeros((len(THRESHOLDS), len(p) + videos + 1), dtype=bool)
    above[:, row] = p > np.array(THRESHOLDS)[:, None]
    change = np.diff(above.astype(np.int8), axis=1)
    (threshold, start), (_, end) = np.nonzero(change == 1), np.nonzero(change == -1)
    video = np.searchsorted(offsets_of(num_clips + 1), start, side="right") - 1
    group = threshold * videos + video
    last = reach(start, end, group)
    first = len(start) - 1 - reach(-end[::-1], -start[::-1], group[::-1])[::-1]
    many = len(TOLERANCES)
    of_video = np.repeat(video, many)
    begin = np.concatenate([np.repeat(start, many), start[first.ravel()]])
    stop = np.concatenate([end[last.ravel()], np.repeat(end, many)])
    found = np.unique(np.stack([np.tile(of_video, 2), begin, stop]), axis=1)
    before = offsets_of(num_clips + 1)[found[0]]
    return Proposed(found[0], found[1] - before, found[2] - before)


def reach(start: NDArray[np.int64], end: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last basin of a proposal that begins with each, [basins, tolerances].

    Basins stand by group, and in order. The next one of the group is taken while what is dry, from the first one's
    start to the next one's end, is at most the tolerated share of it.
    """
    many, tolerance = len(start), np.tile(TOLERANCES, len(start))
    wet = np.cumsum(end - start)
    basin = np.repeat(np.arange(many), len(TOLERANCES))
    last, left = basin.copy(), np.arange(len(basin))
    while len(left):
        first, next_one = basin[left], np.minimum(last[left] + 1, many - 1)
        length = end[next_one] - start[first]
        dry = length - (wet[next_one] - wet[first] + (end - start)[first])
        goes = (last[left] + 1 < many) & (group[next_one] == group[first])
        left = left[goes & (dry <= tolerance[left] * length + _EPS)]
        last[left] += 1
    return last.reshape(many, len(TOLERANCES))


def best(found: Proposed, logit: NDArray[np.float64], num_clips: IntArray, number: int) -> Proposed:
    """The best so many of a video by the sum of their logits, but none that is nearly a better one."""
    total = np.concatenate([[0], np.cumsum(logit)])
    first = offsets_of(num_clips)[found.video]
    score = total[first + found.end] - total[first + found.start]
    order = nms.order(found.video, score)
    video, start, end = found.video[order], found.start[order], found.end[order]
    kept = nms.overlaps(video, start.astype(np.float64), end.astype(np.float64), _SAME) == 0
    video, start, end = video[kept], start[kept], end[kept]
    few = nms.ranks(video) < number
    return Proposed(video[few], start[few], end[few])
