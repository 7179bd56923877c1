"""Class activation sequences -> detections in seconds (Sec. 3.4), every alpha in one pass.

A class is kept in a video where the mean of its top clips exceeds `class_threshold`. Clips whose score is greater than
mean + alpha (max - min) (Eq. 11) are positive, or with `threshold_from: min` than min + alpha (max - min). Runs of at
least `min_clips` positive clips are detections, scored by their largest clip score plus `class_score_weight` times the
video-level mean.

The threshold rises with alpha, so a clip is positive at the lowest alphas, so many of them: its rung. A run starts or
ends between two clips at exactly the alphas between their rungs. Those edges are found once, for all alphas.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from haan.checked import AT_LEAST_ONE, SHARE, added, setting
from haan.config import CODE, OURS, Detect
from haan.detectors.curves import Curves
from haan.metrics import Detections

_BLOCK = 1 << 18  # scores worked on at once: few enough for the processor's cache


@dataclass(frozen=True, kw_only=True)
class RunsDetect(Detect):
    """Class activation sequences to detections (Sec. 3.4)."""

    alpha: float = setting(-0.8, what="places the threshold of clips", source="Eq. 11")
    top_clips: float = setting(0.25, SHARE, what="share of clips that make a class's score", source=CODE)
    class_threshold: float = setting(0.0, what="a class is kept above this score", source=CODE)
    class_score_weight: float = setting(0.5, what="weight of its score in a detection's", source=CODE)
    threshold_from: Literal["mean", "min"] = added("mean", what="score that `alpha` counts from", source="Eq. 11")
    min_clips: int = added(1, AT_LEAST_ONE, what="clips of a detection, at least", source=OURS)


@dataclass(frozen=True)
class _Kept:
    """Kept (video, class) pairs in that order, and their scores, one pair after the other.

    video, label and level (the video-level mean): [pairs]. scores: [clips of all pairs]. start: [pairs + 1].
    """

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    level: NDArray[np.float64]
    scores: NDArray[np.float32]
    start: NDArray[np.int64]


class _Peaks:
    """Scores of peaks. A peak is a clip that no neighbour exceeds, of equal ones the first: a run's largest is one."""

    def __init__(self, scores: NDArray[np.float32], most: int):
        self._power = np.frexp(np.arange(most + 1))[1] - 1  # of 2: the largest not above each number of peaks
        self._table = np.empty((max(1, self._power[-1] + 1), len(scores)), dtype=np.float32)
        self._table[0] = scores
        for power, (below, row) in enumerate(pairwise(self._table)):  # row: largest of 2, 4, 8, ... neighbours
            half = 1 << power
            np.maximum(below[:-half], below[half:], out=row[:-half])

    def largest(self, first: NDArray[np.int32], last: NDArray[np.int32]) -> NDArray[np.float32]:
        """Largest score from `first` to before `last`, at least one; mostly of one or two, so more are a case apart."""
        scores, flat = self._table[0], self._table.reshape(-1)
        best = np.maximum(scores.take(first), scores.take(last - 1))
        more = np.flatnonzero(last - first > 2)
        first, last = first.take(more), last.take(more)
        power = self._power.take(last - first)
        row = power * len(scores)
        best[more] = np.maximum(flat.take(row + first), flat.take(row + last - (1 << power)))
        return best


@dataclass(frozen=True)
class _Runs:
    """Runs of the pairs of one block at every alpha, as their edges by pair and time.

    An edge is one at the alphas from number `low` to `low + width - 1`. clip: the one behind the edge, within its pair;
    behind the last clip their number. peak: how many of `peaks` lie before the edge; each run has one or more.
    bonus [pairs]: what the pair's level adds to the score. count [alphas]: runs.
    """

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    per_s: NDArray[np.float64]
    bonus: NDArray[np.float64]
    low: NDArray[np.unsignedinteger]
    width: NDArray[np.unsignedinteger]
    pair: NDArray[np.unsignedinteger]
    clip: NDArray[np.unsignedinteger]
    peak: NDArray[np.int32]
    peaks: _Peaks
    count: NDArray[np.int64]

    def edges(self, alpha: int, min_clips: int) -> NDArray[np.intp]:
        """Those of the runs of one alpha that are long enough, start and end in turn."""
        edge = np.flatnonzero(self.low.dtype.type(alpha) - self.low < self.width)  # below `low` it wraps round
        if min_clips == 1:
            return edge
        return edge.reshape(-1, 2)[self.clip.take(edge[1::2]) - self.clip.take(edge[::2]) >= min_clips].ravel()

    def num_runs(self, alpha: int, min_clips: int) -> int:
        """How many runs of one alpha are long enough."""
        return int(self.count[alpha]) if min_clips == 1 else len(self.edges(alpha, min_clips)) // 2

    def write(self, alpha: int, min_clips: int, out: Detections, first: int) -> None:
        """Writes those runs into `out` from entry `first` on."""
        edge = self.edges(alpha, min_clips)
        pair = self.pair.take(edge[::2]).astype(np.intp)
        clip, peak = self.clip.take(edge), self.peak.take(edge)
        per_s = self.per_s.take(pair)
        here = slice(first, first + len(pair))
        self.video.take(pair, out=out.video[here], mode="clip")
        self.label.take(pair, out=out.label[here], mode="clip")
        np.divide(clip[::2], per_s, out=out.start_s[here])
        np.divide(clip[1::2], per_s, out=out.end_s[here])
        np.add(self.peaks.largest(peak[::2], peak[1::2]), self.bonus.take(pair), out=out.score[here])


def _makers(
    cas: NDArray[np.float32],
    offsets: NDArray[np.int64],
    clips_per_s: NDArray[np.float64],
    settings: Sequence[RunsDetect],
) -> Iterator[Callable[[], Detections]]:
    """What makes the detections at settings that differ in `alpha` and `min_clips` alone. Else as `detect_many`."""
    shared, alphas = settings[0], np.array([one.alpha for one in settings], dtype=np.float64)
    ascending, numbers = np.unique(alphas, return_inverse=True)
    blocks = [_runs(kept, ascending, clips_per_s[kept.video], shared) for kept in _kept_sequences(cas, offsets, shared)]
    for number, one in zip(numbers.tolist(), settings, strict=True):
        yield partial(_detections, blocks, number, one.min_clips)


def _detections(blocks: Sequence[_Runs], number: int, min_clips: int) -> Detections:
    """The runs of all blocks at one alpha, by its number."""
    counts = [block.num_runs(number, min_clips) for block in blocks]
    index, value = np.empty((2, sum(counts)), dtype=np.int64), np.empty((3, sum(counts)))
    found = Detections(index[0], index[1], value[0], value[1], value[2])
    for block, count, end in zip(blocks, counts, accumulate(counts), strict=True):
        if count:
            block.write(number, min_clips, found, end - count)
    return found


def _kept_sequences(cas: NDArray[np.float32], offsets: NDArray[np.int64], settings: RunsDetect) -> Iterator[_Kept]:
    """Kept pairs, a bounded block of them at a time; the last block may be empty."""
    parts, held = [], 0
    for first, last in _of_one_length(offsets, _BLOCK // cas.shape[1]):
        scores = cas[offsets[first] : offsets[last]].reshape(last - first, -1, cas.shape[1])
        level = top_mean(scores, settings.top_clips)
        video, label = np.nonzero(level > settings.class_threshold)
        parts.append((first + video, label, level[video, label], scores[video, :, label].ravel()))
        held += len(parts[-1][-1])
        if held >= _BLOCK or last == len(offsets) - 1:
            video, label, level, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
            start = np.concatenate([[0], np.cumsum(np.diff(offsets)[video])])
            yield _Kept(video, label, level, scores, start)
            parts, held = [], 0


def _of_one_length(offsets: NDArray[np.int64], most_clips: int) -> Iterator[tuple[int, int]]:
    """Neighbouring videos of one length, from the first to before the last, of `most_clips` together or one video."""
    num_clips = np.diff(offsets).tolist()
    first = 0
    for video in range(1, len(num_clips) + 1):
        clips = (video - first + 1) * num_clips[first]
        if video == len(num_clips) or num_clips[video] != num_clips[first] or clips > most_clips:
            yield first, video
            first = video


def top_mean(scores: NDArray[np.float32], share: float) -> NDArray[np.float64]:
    """Mean of the ceil(share x clips) highest scores of each class: [..., classes] from [..., clips, classes]."""
    num_clips = scores.shape[-2]
    k = max(1, math.ceil(round(share * num_clips, 9)))  # 0.07 x 100 is 7.000000000000001, and must give 7
    top = np.partition(scores, num_clips - k, axis=-2)[..., num_clips - k :, :]
    return np.add.reduce(top, axis=-2, dtype=np.float64) / k


def _runs(kept: _Kept, alphas: NDArray[np.float64], per_s: NDArray[np.float64], settings: RunsDetect) -> _Runs:
    """Runs of kept pairs at ascending alphas."""
    start, size = kept.start, np.diff(kept.start)
    rung, is_peak = _rungs(kept, alphas, settings.threshold_from), _is_peak(kept)
    edge = np.flatnonzero(rung[1:] != rung[:-1])
    before, after = rung.take(edge), rung.take(edge + 1)
    low = np.minimum(before, after)
    width = np.maximum(before, after) - low
    pair = np.repeat(np.arange(len(size), dtype=np.min_scalar_type(len(size))), size + 1).take(edge)
    longest = int(size.max(initial=0))
    clip = edge - (start + np.arange(len(start))).take(pair)
    peaks_before = np.zeros(len(is_peak) + 1, dtype=np.int32)
    np.cumsum(is_peak, out=peaks_before[1:])
    edges = np.bincount(low, minlength=len(alphas) + 1) - np.bincount(low + width, minlength=len(alphas) + 1)
    return _Runs(
        video=kept.video,
        label=kept.label,
        per_s=per_s,
        bonus=settings.class_score_weight * kept.level,
        low=low,
        width=width,
        pair=pair,
        clip=clip.astype(np.min_scalar_type(longest)),
        peak=peaks_before.take(edge - pair),
        peaks=_Peaks(kept.scores.take(np.flatnonzero(is_peak)), (longest + 1) // 2),  # no two are neighbours
        count=np.cumsum(edges)[: len(alphas)] // 2,
    )


def _rungs(kept: _Kept, alphas: NDArray[np.float64], threshold_from: str) -> NDArray[np.unsignedinteger]:
    """Rungs of all clips, with a 0 before the first pair and behind each: no run goes on into the next pair."""
    scores, start, size = kept.scores, kept.start, np.diff(kept.start)
    rung = np.zeros(len(scores) + len(start), dtype=np.min_scalar_type(len(alphas)))
    behind = start + np.arange(1, len(start) + 1)
    threshold = _thresholds(kept, alphas, threshold_from)
    changes = np.flatnonzero(np.diff(size, prepend=-1)).tolist()
    for first, last in pairwise([*changes, len(size)]):  # neighbouring pairs of one length
        at_once = max(1, _BLOCK // max(1, int(size[first]) * len(alphas)))
        for one, end in pairwise([*range(first, last, at_once), last]):
            rows = scores[start[one] : start[end]].reshape(end - one, -1)
            into = rung[behind[one] : behind[end]].reshape(end - one, -1)[:, :-1]
            positive = rows > threshold[:, one:end, None]
            np.add.reduce(positive.view(np.uint8), axis=0, dtype=rung.dtype, out=into)
    return rung


def _thresholds(kept: _Kept, alphas: NDArray[np.float64], threshold_from: str) -> NDArray[np.float32]:
    """Those of each pair: [alphas, pairs], the largest float32 not above each, which the same scores exceed."""
    scores, first = kept.scores, kept.start[:-1]
    low, high = np.minimum.reduceat(scores, first), np.maximum.reduceat(scores, first)
    if threshold_from == "mean":
        base = np.add.reduceat(scores.astype(np.float64), first) / np.diff(kept.start)
    else:
        base = low.astype(np.float64)
    exact = base + alphas[:, None] * (high.astype(np.float64) - low.astype(np.float64))
    with np.errstate(over="ignore"):  # beyond float32 it is infinite, and then the next below
        near = exact.astype(np.float32)
    return np.nextafter(near, np.float32(-np.inf), out=near, where=near > exact)


def _is_peak(kept: _Kept) -> NDArray[np.bool_]:
    """For each clip whether it is greater than the one before it and no less than the one behind it, in its pair."""
    rises, holds = np.ones(len(kept.scores), dtype=bool), np.ones(len(kept.scores), dtype=bool)
    np.greater(kept.scores[1:], kept.scores[:-1], out=rises[1:])
    np.greater_equal(kept.scores[:-1], kept.scores[1:], out=holds[:-1])
    rises[kept.start[:-1]] = holds[kept.start[1:] - 1] = True
    return rises & holds


def detect_many(
    cas: NDArray[np.float32],
    offsets: NDArray[np.int64],
    clips_per_s: NDArray[np.float64],
    settings: Sequence[RunsDetect],
) -> Iterator[tuple[int, Detections]]:
    """Detections at each of several settings, with its place among them, one setting at a time.

    cas: [clips, classes] logits. offsets: [videos + 1] first clip of each video. clips_per_s: [videos].
    Settings that differ in `alpha` and `min_clips` alone share one pass, and come one after the other. Detections stand
    by video, class and time; their `video` counts from 0 in the order given.
    """
    for place, make in makers(cas, offsets, clips_per_s, settings):
        yield place, make()


def makers(
    cas: NDArray[np.float32],
    offsets: NDArray[np.int64],
    clips_per_s: NDArray[np.float64],
    settings: Sequence[RunsDetect],
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """What makes `detect_many`'s detections; several threads may do so at once, each holds its own alone."""
    passes: dict[RunsDetect, list[int]] = {}
    for place, one in enumerate(settings):
        passes.setdefault(replace(one, alpha=0.0, min_clips=1), []).append(place)
    for places in passes.values():
        yield from zip(places, _makers(cas, offsets, clips_per_s, [settings[i] for i in places]), strict=True)


def curves(cas: NDArray[np.float32], offsets: NDArray[np.int64], settings: RunsDetect) -> Curves:
    """What `detect_many` reads of clips at one setting."""
    threshold = np.empty((len(offsets) - 1, cas.shape[1]))
    kept, positive = np.empty(threshold.shape, dtype=bool), np.empty(cas.shape, dtype=bool)
    for video, (first, last) in enumerate(pairwise(offsets.tolist())):
        scores = cas[first:last]
        kept[video] = top_mean(scores, settings.top_clips) > settings.class_threshold
        exact = np.ascontiguousarray(scores.T, dtype=np.float64)
        base = exact.mean(axis=1) if settings.threshold_from == "mean" else exact.min(axis=1)
        threshold[video] = base + settings.alpha * np.ptp(exact, axis=1)
        positive[first:last] = scores > threshold[video]
    return Curves(
        scores=cas,
        thresholds=threshold[..., None],
        positive=positive,
        kept=kept,
        score=f"the highest of its clips' class scores and {settings.class_score_weight:g} x the video's own of that "
        "class",
        curve=f"The curve is the class activation sequence, the dashed line {_line(settings)}; runs of "
        f"{'clips' if settings.min_clips == 1 else f'{settings.min_clips} clips or more'} above it are detections.",
    )


def _line(settings: RunsDetect) -> str:
    if settings.threshold_from == "mean":
        return "the threshold of Eq. 11"
    return f"its threshold, {settings.alpha:g} of the way from the least score to the highest"
