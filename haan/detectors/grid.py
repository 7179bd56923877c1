"""Sequences of a video's classes -> detections in seconds, by a grid of thresholds and non-maximum suppression.

A class is kept in a video where its probability reaches `class_threshold`; where none does, the most probable is. Its
sequence is interpolated linearly, `upsampling` positions a clip, and runs of positions that reach a threshold, each of
`thresholds` in turn, are proposals. Their score is the outer-inner contrast, the mean inside less the mean of so many
positions around it, plus `class_score_weight` times the class's probability. haan.detectors.nms does the rest.

No position but those at edges is ever computed: within a clip the sequence only rises or only falls, and sums over
positions are those over whole clips and two parts. Contrasts don't depend on `class_threshold`, `class_score_weight`,
`min_positions` and suppression, and the probability lifts all proposals of a video's class alike, so settings that
differ in these alone share a pass, and hard and half-soft suppression are computed once for all weights and class
thresholds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from haan.checked import AT_LEAST_ONE, PART_OR_ALL, POSITIVE, Rule, setting
from haan.config import CODE
from haan.detectors import nms
from haan.detectors.curves import Curves
from haan.detectors.shared import KeyT, Shared, alike
from haan.methods.resampling import uniform
from haan.metrics import Detections

SettingT = TypeVar("SettingT", bound="Grid")

_BLOCK = 1 << 17  # clips of pairs worked on at once
_THRESHOLDS = Rule("must hold thresholds >= 0", lambda v: len(v) > 0 and all(t >= 0 for t in v))


@dataclass(frozen=True, kw_only=True)
class Grid(nms.Nms):
    """The settings of this detector."""

    class_threshold: float = setting(0.25, PART_OR_ALL, what="a class is kept from this probability", source=CODE)
    class_score_weight: float = setting(0.2, what="weight of its probability in a score", source=CODE)
    thresholds: tuple[float, ...] = setting(
        tuple(round(0.1 * i, 10) for i in range(1, 10)), _THRESHOLDS, what="of runs, one after another", source=CODE
    )
    upsampling: int = setting(24, AT_LEAST_ONE, what="positions a clip", source=CODE)
    min_positions: int = setting(1, AT_LEAST_ONE, what="of a run", source=CODE)
    context: float = setting(0.25, POSITIVE, what="length of what is around a run, in runs", source=CODE)


@dataclass(frozen=True, kw_only=True)
class ActionnessGrid(Grid):
    """The same with two kinds of proposals of a class.

    Runs of its own sequence are scored as if it were 0 wherever it is below their threshold; and runs of actionness,
    which is the same for all classes, by the class's whole sequence.
    """

    actionness_thresholds: tuple[float, ...] = setting(
        tuple(round(0.4 + 0.025 * i, 10) for i in range(9)), _THRESHOLDS, what="of runs of actionness", source=CODE
    )


@dataclass(frozen=True, kw_only=True)
class SidedGrid(Grid):
    """The same with both sides of a run alike, and without what is far behind the best of a video's class.

    A side has `context` times the run's positions, rounded down, but at least one, as far as there are any. What is
    around a run is the mean of the sides' means.
    """

    least_share: float = setting(0.1, PART_OR_ALL, what="of a class's best score: what is below goes", source=CODE)


@dataclass(frozen=True)
class Sequences:
    """What a method says of some videos.

    scores: [clips, classes] of the clips of all videos, one after the other. probability: [videos, classes].
    actionness: [clips], for an `ActionnessGrid`. clips: each video is to be resampled to so many.
    """

    scores: NDArray[np.float32]
    probability: NDArray[np.float64]
    actionness: NDArray[np.float32] | None = None
    clips: int | None = None


@dataclass(frozen=True)
class _Proposals:
    """Proposals of some pairs of a video and a class, by pair and falling contrast.

    video, label, probability, is_top (whether the class is the video's most probable): [pairs].
    pair, start_s, end_s, contrast, length (in positions): [proposals].
    """

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    probability: NDArray[np.float64]
    is_top: NDArray[np.bool_]
    pair: NDArray[np.int64]
    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    contrast: NDArray[np.float64]
    length: NDArray[np.int64]

    def of_length(self, least: int) -> "_Proposals":
        """Those that are long enough."""
        kept = self.length >= least
        if kept.all():
            return self
        columns = {name: getattr(self, name)[kept] for name in ("pair", "start_s", "end_s", "contrast", "length")}
        return replace(self, **columns)


def makers(
    found: Sequences, offsets: NDArray[np.int64], clips_per_s: NDArray[np.float64], settings: Sequence[Grid]
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """What makes the detections at each of several settings, with its place among them; several threads may do so.

    offsets: [videos + 1] first clip of each video. clips_per_s: [videos]. Detections stand by video, class and, but for
    `nms: soft`, falling contrast; their `video` counts from 0 in the order given.
    """
    everywhere = _alike(
        settings, range(len(settings)), class_threshold=0.0, class_score_weight=0.0, min_positions=1, **_NO_NMS
    )
    for passes in everywhere:
        lowest, fewest = (min(getattr(settings[place], key) for place in passes) for key in _LEAST)
        shared = replace(settings[passes[0]], class_threshold=lowest, min_positions=fewest)
        every = [_proposals(found, clips_per_s, shared, *block) for block in _blocks(found, offsets, lowest)]
        for places in _alike(settings, passes, class_threshold=0.0, class_score_weight=0.0, nms_sigma=1.0):
            blocks = [block.of_length(settings[places[0]].min_positions) for block in every]
            overlaps = Shared(partial(_overlaps, blocks, settings[places[0]]), len(places))
            for place in places:
                yield place, partial(_detections, blocks, overlaps, settings[place])


_LEAST = ("class_threshold", "min_positions")
_NO_NMS = {"nms": "hard", "nms_tiou": 1.0, "nms_sigma": 1.0, "nms_tiou_of": "seconds"}


def _alike(settings: Sequence[Grid], places: Sequence[int], **indifferent: float | str) -> list[list[int]]:
    """Places of settings that are equal but for some, which are given a value."""
    groups: dict[Grid, list[int]] = {}
    for place in places:
        groups.setdefault(replace(settings[place], **indifferent), []).append(place)
    return list(groups.values())


def grouped(
    settings: Sequence[SettingT],
    shared: Callable[[SettingT], KeyT],
    sequences: Callable[[KeyT], Sequences],
    offsets: NDArray[np.int64],
    clips_per_s: NDArray[np.float64],
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """`makers` of settings of which some need sequences of their own. shared: what these depend on."""
    for key, places in alike(settings, shared).items():
        for number, make in makers(sequences(key), offsets, clips_per_s, [settings[place] for place in places]):
            yield places[number], make


def detect_many(
    found: Sequences, offsets: NDArray[np.int64], clips_per_s: NDArray[np.float64], settings: Sequence[Grid]
) -> Iterator[tuple[int, Detections]]:
    """The detections that `makers` would make, one setting at a time."""
    for place, make in makers(found, offsets, clips_per_s, settings):
        yield place, make()


def _detections(
    blocks: Sequence[_Proposals], overlaps: Shared[list[NDArray[np.float64]]], settings: Grid
) -> Detections:
    """What is left of the proposals of all blocks at one setting."""
    parts = [_left(block, overlap, settings) for block, overlap in zip(blocks, overlaps.take(), strict=True)]
    return Detections(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _left(block: _Proposals, overlap: NDArray[np.float64], settings: Grid) -> tuple[NDArray, ...]:
    """Video, class, start, end and score of what is left of a block."""
    kept = (block.is_top | (block.probability >= settings.class_threshold))[block.pair]
    if settings.nms == "hard":
        kept &= overlap == 0
    pair, start_s, end_s = block.pair[kept], block.start_s[kept], block.end_s[kept]
    score = block.contrast[kept] + settings.class_score_weight * block.probability[pair]
    if settings.nms == "half_soft":
        score *= nms.decay(overlap[kept], settings)
    elif settings.nms == "soft":
        score = nms.soften(pair, start_s, end_s, score, settings)
    if isinstance(settings, SidedGrid):
        near = nms.near_best(pair, score, settings.least_share)
        pair, start_s, end_s, score = pair[near], start_s[near], end_s[near], score[near]
    return block.video[pair], block.label[pair], start_s, end_s, score


def _overlaps(blocks: Sequence[_Proposals], settings: Grid) -> list[NDArray[np.float64]]:
    """Those of hard and half-soft suppression; soft suppression reads none."""
    if settings.nms == "soft":
        return [np.zeros(0) for _ in blocks]
    return [nms.overlaps(block.pair, block.start_s, block.end_s, settings) for block in blocks]


def _kept(found: Sequences, class_threshold: float) -> NDArray[np.bool_]:
    """Of each video which classes: [videos, classes]."""
    kept = found.probability >= class_threshold
    kept[np.arange(len(kept)), found.probability.argmax(axis=1)] = True
    return kept


def curves(found: Sequences, settings: Grid, what: str) -> Curves:
    """What `makers` reads of clips at one setting. what: the scores in words."""
    thresholds = np.array(settings.thresholds)
    more = f", plus {settings.class_score_weight:g} x its class's probability in the video"
    return Curves(
        scores=found.scores,
        thresholds=np.broadcast_to(thresholds, (*found.probability.shape, len(thresholds))),
        positive=None,
        kept=_kept(found, settings.class_threshold),
        score="how far the curve's mean inside it lies above that around it"
        + (more if settings.class_score_weight else "")
        + ("" if settings.nms == "hard" else ", less where it overlaps a better one"),
        curve=f"The curve is {what}, the thin lines are its thresholds; runs above each of them"
        + (", and runs of actionness," if isinstance(settings, ActionnessGrid) else "")
        + " are detections"
        + (", unless they overlap a better one." if settings.nms == "hard" else "."),
    )


def _blocks(
    found: Sequences, offsets: NDArray[np.int64], class_threshold: float
) -> Iterator[tuple[NDArray, NDArray, NDArray, NDArray]]:
    """Video, class, first clip and number of clips of kept pairs, in that order, a bounded block of them at a time."""
    video, label = np.nonzero(_kept(found, class_threshold))
    first, size = offsets[video], np.diff(offsets)[video]
    block = np.cumsum(size if found.clips is None else np.full_like(size, found.clips)) // _BLOCK
    for part in np.split(np.arange(len(video)), np.flatnonzero(np.diff(block)) + 1):
        yield video[part], label[part], first[part], size[part]


def _proposals(
    found: Sequences,
    clips_per_s: NDArray[np.float64],
    settings: Grid,
    video: NDArray[np.int64],
    label: NDArray[np.int64],
    first: NDArray[np.int64],
    size: NDArray[np.int64],
) -> _Proposals:
    """The proposals of one block of pairs."""
    parts, per_s = [], clips_per_s[video]
    if found.clips is not None:
        per_s = per_s * found.clips / size
    by_size = np.argsort(size, kind="stable")
    # Rows as long as their longest: pairs of about one length at a time.
    for rows in np.split(by_size, np.flatnonzero(np.diff(np.frexp(size[by_size] - 0.5)[1])) + 1):
        if found.clips is None:
            clip, length = np.minimum(np.arange(size[rows].max()), size[rows, None] - 1), size[rows]
        else:
            clip, length = uniform(size[rows], found.clips), np.full(len(rows), found.clips)
        place = first[rows, None] + clip
        sequence = found.scores[place, label[rows, None]].astype(np.float64)
        actionness = None if found.actionness is None else found.actionness[place].astype(np.float64)
        row, begin, end, contrast = _runs(sequence, actionness, length, settings)
        start_s, end_s = _times(begin, end, length[row], per_s[rows[row]], settings)
        parts.append((rows[row], start_s, end_s, contrast, end - begin))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    places = nms.order(columns[0], columns[3])
    probability = found.probability[video, label]
    is_top = label == found.probability.argmax(axis=1)[video]
    return _Proposals(video, label, probability, is_top, *(column[places] for column in columns))


def _times(
    begin: NDArray[np.int64],
    end: NDArray[np.int64],
    num_clips: NDArray[np.int64],
    per_s: NDArray[np.float64],
    settings: Grid,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of runs of positions, `end` exclusive."""
    return begin / settings.upsampling / per_s, np.minimum(end / settings.upsampling, num_clips) / per_s


_Runs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # row, first position, that behind the last


def _runs(
    sequence: NDArray[np.float64], actionness: NDArray[np.float64] | None, size: NDArray[np.int64], settings: Grid
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Runs at every threshold, by threshold, row and time, each with its contrast.

    sequence, actionness: [rows, longest], any values behind the last clip of a row. size: [rows].
    """
    lines = _Lines(sequence, size, settings.upsampling)
    masked = isinstance(settings, ActionnessGrid)
    parts = [_scored(lines, lines.runs(threshold), masked, settings) for threshold in settings.thresholds]
    if masked and actionness is not None:
        others = _Lines(actionness, size, settings.upsampling)
        parts += [_scored(lines, others.runs(t), False, settings) for t in settings.actionness_thresholds]
    row, begin, end, contrast = (np.concatenate(part) for part in zip(*parts, strict=True))
    return row, begin, end, contrast


def _scored(lines: "_Lines", runs: _Runs, masked: bool, settings: Grid) -> tuple[NDArray, ...]:
    """Runs that are long enough with their contrasts. masked: only what lies in some of the runs counts around one."""
    long = runs[2] - runs[1] >= settings.min_positions
    row, begin, end = (part[long] for part in runs)
    inside, length = lines.total(row, begin, end), end - begin
    before, behind = _around(begin, end, lines.size[row] * settings.upsampling, settings)
    total = lines.total_within(runs) if masked else lines.total
    outside = np.stack([total(row, before, begin), total(row, end, behind)])
    count = np.stack([begin - before, behind - end])
    if isinstance(settings, SidedGrid):
        outside, count = _mean(outside, count), np.minimum(count, 1)
    return row, begin, end, inside / length - _mean(outside.sum(axis=0), count.sum(axis=0))


def _around(
    begin: NDArray[np.int64], end: NDArray[np.int64], last: NDArray[np.int64], settings: Grid
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first position around a run, and the one behind the last. last: behind the last one of its sequence."""
    wide = settings.context * (end - begin)
    if isinstance(settings, SidedGrid):
        positions = np.maximum(1, np.floor(wide).astype(np.int64))
        return np.maximum(0, begin - positions), np.minimum(last, end + positions)
    before = np.maximum(0, np.trunc(begin - wide).astype(np.int64))
    return before, np.minimum(last, np.trunc(end - 1 + wide).astype(np.int64) + 1)


def _mean(total: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """0 of nothing."""
    return np.divide(total, count, out=np.zeros(total.shape), where=count > 0)


class _Lines:
    """Interpolated sequences. Position r of clip t has the value sequence[t] + r * step[t], r from 0 to below `up`."""

    def __init__(self, sequence: NDArray[np.float64], size: NDArray[np.int64], up: int):
        rows, self._longest = sequence.shape
        self.size = size
        self._up, self._start = up, sequence
        self._step = np.zeros_like(sequence)
        self._step[:, :-1] = np.diff(sequence, axis=1) / up
        number, last = np.arange(rows), size - 1
        self._step[number, last] = np.where(size > 1, self._step[number, last - 1], 0.0)  # beyond the last clip
        self._end = sequence + (up - 1) * self._step
        self._there = np.arange(self._longest) < size[:, None]
        whole = up * sequence + self._step * (up * (up - 1) // 2)
        self._before = np.concatenate([np.zeros((rows, 1)), np.cumsum(whole, axis=1)], axis=1)

    def runs(self, threshold: float) -> _Runs:
        """Row, first position and the one behind the last of runs that reach a threshold and exceed 0."""
        least = max(threshold, np.nextafter(0.0, 1.0))
        rows, width = len(self._start), 2 * self._longest + 1
        # Whether each clip's first and last position reach it; behind each row and before the first one none does.
        reach = np.zeros(rows * width + 1, dtype=bool)
        table = reach[1:].reshape(rows, width)[:, :-1].reshape(rows, self._longest, 2)
        np.logical_and(self._start >= least, self._there, out=table[..., 0])
        np.logical_and(self._end >= least, self._there, out=table[..., 1])
        edge = np.flatnonzero(reach[1:] != reach[:-1])
        row, place = np.divmod(edge, width)
        clip, within = np.divmod(place, 2)
        position = clip * self._up
        crossed = np.flatnonzero(within)
        rises = reach[edge[crossed] + 1]
        position[crossed] += self._crossing(row[crossed], clip[crossed], rises, least)
        return row[::2], position[::2], position[1::2]

    def _crossing(
        self, row: NDArray[np.int64], clip: NDArray[np.int64], rises: NDArray[np.bool_], least: float
    ) -> NDArray[np.int64]:
        """The first position of a clip that is as its last one: reaches, or does no more. By bisection."""
        start, step = self._start[row, clip], self._step[row, clip]
        below, first = np.zeros(len(row), dtype=np.int64), np.full(len(row), self._up - 1)
        for _ in range((self._up - 1).bit_length()):
            middle = (below + first) // 2
            as_last = (start + middle * step >= least) == rises
            first = np.where(as_last, middle, first)
            below = np.where(as_last, below, middle)
        return first

    def total(self, row: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum over positions from `begin` to before `end`."""
        return self._until(row, end) - self._until(row, begin)

    def total_within(self, runs: _Runs) -> Callable[[NDArray, NDArray, NDArray], NDArray[np.float64]]:
        """What `total` is where the sequence is 0 outside of some runs, which stand by row and time."""
        row, begin, end = runs
        count = np.bincount(row, minlength=len(self._start))
        first = np.cumsum(count) - count
        before = np.zeros((len(count), count.max(initial=0) + 1))  # each row's by itself, as alone
        before[row, np.arange(len(row)) - first[row] + 1] = self.total(row, begin, end)
        np.cumsum(before, axis=1, out=before)
        length = self._longest * self._up + 1
        behind = row * length + end

        def until(at: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.float64]:
            over = np.searchsorted(behind, at * length + position, side="right")
            whole = before[at, over - first[at]]
            under = np.flatnonzero(over < first[at] + count[at])
            under = under[begin[over[under]] < position[under]]
            whole[under] += self.total(at[under], begin[over[under]], position[under])
            return whole

        return lambda at, low, high: until(at, high) - until(at, low)

    def _until(self, row: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.float64]:
        clip = np.minimum(position // self._up, self._longest - 1)
        r = position - clip * self._up
        return self._before[row, clip] + r * self._start[row, clip] + self._step[row, clip] * (r * (r - 1) / 2)
