"""Probabilities of classes and attention -> detections in seconds, by a mask of two thresholds.

Of each video the `top_classes` that it shows most of are looked at. A clip is in a class's mask where the class's
probability exceeds `class_threshold` and attention `attention_threshold`; and so are `dilation` clips each side of it.
Runs of the mask are detections, scored by the mean probability and the mean attention inside, and by how much of the
class the whole video shows; in time they are `padding` clips longer each side. Nothing is suppressed.

The sequences of a video's first classes are taken out once, for all settings; each then looks at every clip once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from haan.checked import AT_LEAST_ONE, NON_NEGATIVE, PART_OR_ALL, setting
from haan.config import CODE, Detect
from haan.detectors.curves import Curves
from haan.metrics import Detections

_Runs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]  # pair, first clip, that behind the last


@dataclass(frozen=True, kw_only=True)
class MaskDetect(Detect):
    """The settings of this detector."""

    class_threshold: float = setting(0.35, PART_OR_ALL, what="a clip's probability, exceeded", source=CODE)
    attention_threshold: float = setting(0.5, PART_OR_ALL, what="a clip's attention, exceeded", source=CODE)
    top_classes: int = setting(2, AT_LEAST_ONE, what="classes of a video, its most probable ones", source=CODE)
    dilation: int = setting(1, NON_NEGATIVE, what="clips a mask grows by each side", source=CODE)
    padding: int = setting(2, NON_NEGATIVE, what="clips a run is longer by each side", source=CODE)


@dataclass(frozen=True)
class Sequences:
    """What a method says of some videos.

    scores: [clips, classes] probabilities, of the clips of all videos, one after the other. attention: [clips], 0 to 1.
    level: [videos, classes] how much of a class a whole video shows.
    """

    scores: NDArray[np.float32]
    attention: NDArray[np.float32]
    level: NDArray[np.float64]


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a video and one of its first classes, by video and class, and their sequences, one after the other.

    video, label, level, size (clips), rank (of the class in its video, from 0): [pairs]. scores, attention: [clips of
    all pairs]. start: [pairs + 1] first of each.
    """

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    level: NDArray[np.float64]
    size: NDArray[np.int64]
    rank: NDArray[np.int64]
    scores: NDArray[np.float32]
    attention: NDArray[np.float32]
    start: NDArray[np.int64]

    @classmethod
    def of(cls, found: Sequences, offsets: NDArray[np.int64], top_classes: int) -> "_Pairs":
        rank = _ranks(found)
        video, label = np.nonzero(rank < top_classes)
        size = np.diff(offsets)[video]
        start = np.append(0, np.cumsum(size))
        clip = np.arange(start[-1]) + np.repeat(offsets[video] - start[:-1], size)
        scores = found.scores[clip, np.repeat(label, size)]
        level = found.level[video, label]
        return cls(video, label, level, size, rank[video, label], scores, found.attention[clip], start)

    def runs(self, settings: MaskDetect) -> _Runs:
        """Runs of the masks, grown, by pair and time."""
        mask = (self.scores > settings.class_threshold) & (self.attention > settings.attention_threshold)
        mask &= np.repeat(self.rank < settings.top_classes, self.size)
        # Cells, one a clip and one behind each pair, which no run reaches; one more before the first.
        first = self.start[:-1] + np.arange(len(self.size))
        cells = np.zeros(len(mask) + len(self.size) + 1, dtype=bool)
        cells[1 + np.arange(len(mask)) + np.repeat(np.arange(len(self.size)), self.size)] = mask
        edge = np.flatnonzero(cells[1:] != cells[:-1])
        pair = np.searchsorted(first, edge[::2], side="right") - 1
        begin, end = edge[::2] - first[pair], edge[1::2] - first[pair]
        begin, end = self._wider(pair, begin, end, settings.dilation)
        joined = (pair[1:] == pair[:-1]) & (begin[1:] <= end[:-1])
        opens, closes = np.ones(len(pair), dtype=bool), np.ones(len(pair), dtype=bool)
        opens[1:] = closes[:-1] = ~joined
        return pair[opens], begin[opens], end[closes]

    def padded(self, runs: _Runs, settings: MaskDetect) -> _Runs:
        """Runs with what they are longer by."""
        return runs[0], *self._wider(*runs, settings.padding)

    def _wider(
        self, pair: NDArray[np.int64], begin: NDArray[np.int64], end: NDArray[np.int64], clips: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.maximum(begin - clips, 0), np.minimum(end + clips, self.size[pair])

    def mean(self, runs: _Runs) -> NDArray[np.float64]:
        """Mean of a class's probabilities inside each run, and that of attention, added."""
        pair, begin, end = runs
        both = np.append(self.scores.astype(np.float64) + self.attention, 0.0)
        edges = (self.start[pair] + np.stack([begin, end])).T.ravel()
        total = np.add.reduceat(both, edges)[::2] if len(edges) else np.zeros(0)
        return total / (end - begin)


def makers(
    found: Sequences, offsets: NDArray[np.int64], clips_per_s: NDArray[np.float64], settings: Sequence[MaskDetect]
) -> Iterator[tuple[int, Callable[[], Detections]]]:
    """What makes the detections at each of several settings, with its place among them; several threads may do so.

    offsets: [videos + 1] first clip of each video. clips_per_s: [videos]. Detections stand by video, class and time;
    their `video` counts from 0 in the order given.
    """
    pairs = _Pairs.of(found, offsets, max(one.top_classes for one in settings))
    for place, one in enumerate(settings):
        yield place, partial(_detections, pairs, clips_per_s, one)


def _detections(pairs: _Pairs, clips_per_s: NDArray[np.float64], settings: MaskDetect) -> Detections:
    runs = pairs.runs(settings)
    pair, begin, end = pairs.padded(runs, settings)
    video = pairs.video[pair]
    per_s = clips_per_s[video]
    return Detections(video, pairs.label[pair], begin / per_s, end / per_s, pairs.mean(runs) + pairs.level[pair])


def _ranks(found: Sequences) -> NDArray[np.int64]:
    """Of each video the place of each class among all, from 0, that which it shows most of first; of equal the first.

    [videos, classes].
    """
    order = np.argsort(-found.level, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None], axis=1)
    return rank


def curves(found: Sequences, settings: MaskDetect) -> Curves:
    """What `makers` reads of clips at one setting."""
    positive = (found.scores > settings.class_threshold) & (found.attention > settings.attention_threshold)[:, None]
    longer = settings.dilation + settings.padding
    return Curves(
        scores=found.scores,
        thresholds=np.full((*found.level.shape, 1), settings.class_threshold),
        positive=positive,
        kept=_ranks(found) < settings.top_classes,
        score="the mean of its class's probability and that of attention inside it, and how much of the class the "
        "whole video shows",
        curve="The curve is the class's probability, the dashed line its threshold. Clips above it are filled where "
        f"attention exceeds {settings.attention_threshold:g}, too; runs of these are detections"
        + (f", {longer} clips longer each side." if longer else "."),
    )


def covered(found: Sequences, offsets: NDArray[np.int64], settings: MaskDetect) -> NDArray[np.bool_]:
    """Which clips lie in a detection of any class, what it is longer by included."""
    pairs = _Pairs.of(found, offsets, settings.top_classes)
    pair, begin, end = pairs.padded(pairs.runs(settings), settings)
    first, clips = offsets[pairs.video[pair]], int(offsets[-1])
    opened, closed = (np.bincount(first + edge, minlength=clips + 1) for edge in (begin, end))
    return np.cumsum(opened - closed)[:-1] > 0
