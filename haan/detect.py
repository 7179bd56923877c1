"""Class activation sequences -> detections in seconds (Sec. 3.4), every alpha in one pass.

A class is kept in a video where the mean of its top clips exceeds `class_threshold`. Clips whose score is greater than
mean + alpha (max - min) (Eq. 11) are positive, runs of positive clips are detections, scored by their largest clip
score plus `class_score_weight` times the video-level mean.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from haan.config import Detect
from haan.metrics import Detections

_BLOCK = 4_000_000  # scores of kept (video, class) sequences held at once, per array


class _Found:
    """Detections of one alpha, gathered block by block."""

    def __init__(self) -> None:
        no_index, no_number = np.zeros(0, dtype=np.int64), np.zeros(0)
        self.parts: list[tuple[NDArray, ...]] = [(no_index, no_index, no_number, no_number, no_number)]

    def detections(self) -> Detections:
        columns = [np.concatenate(column) for column in zip(*self.parts, strict=True)]
        return Detections(*columns)


def detect(
    cas: NDArray[np.float32],
    offsets: NDArray[np.int64],
    clips_per_s: NDArray[np.float64],
    settings: Detect,
    alphas: Sequence[float],
) -> list[Detections]:
    """Detections at each alpha; `settings.alpha` is not read.

    cas: [clips, classes] logits. offsets: [videos + 1] first clip of each video. clips_per_s: [videos].
    Detections stand by video, class and time; their `video` counts from 0 in the order given.
    """
    found = [_Found() for _ in alphas]
    for video, label, scores, start, level in _kept_sequences(cas, offsets, settings):
        size = np.diff(start)
        low, high = np.minimum.reduceat(scores, start[:-1]), np.maximum.reduceat(scores, start[:-1])
        mean = np.add.reduceat(scores, start[:-1]) / size
        for one, alpha in zip(found, alphas, strict=True):
            threshold = np.repeat(mean + alpha * (high - low), size)
            pair, first, last, top = _runs(scores, threshold, start)
            ratio = clips_per_s[video[pair]]
            score = top + settings.class_score_weight * level[pair]
            one.parts.append((video[pair], label[pair], first / ratio, (last + 1) / ratio, score))
    return [one.detections() for one in found]


def _kept_sequences(
    cas: NDArray[np.float32], offsets: NDArray[np.int64], settings: Detect
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]]:
    """The score sequences of kept (video, class) pairs, a bounded block at a time.

    Yields video [pairs], label [pairs], scores [clips of all pairs], start [pairs + 1] and video-level mean [pairs].
    """
    videos: list[int] = []
    labels: list[NDArray[np.int64]] = []
    sequences: list[NDArray[np.float64]] = []
    levels: list[NDArray[np.float64]] = []
    held = 0
    for video in range(len(offsets) - 1):
        scores = cas[offsets[video] : offsets[video + 1]]  # [T, classes]
        level = top_mean(scores, settings.top_clips)
        kept = np.flatnonzero(level > settings.class_threshold)
        videos.append(video)
        labels.append(kept)
        sequences.append(scores[:, kept].T.astype(np.float64).ravel())
        levels.append(level[kept])
        held += len(sequences[-1])
        if held >= _BLOCK or video == len(offsets) - 2:
            counts = np.array([len(part) for part in labels])
            if counts.sum():
                clips = np.diff(offsets)[videos]
                start = np.concatenate([[0], np.cumsum(np.repeat(clips, counts))])
                where = np.repeat(np.array(videos), counts)
                yield where, np.concatenate(labels), np.concatenate(sequences), start, np.concatenate(levels)
            videos, labels, sequences, levels, held = [], [], [], [], 0


def top_mean(scores: NDArray[np.float32], share: float) -> NDArray[np.float64]:
    """Mean of the ceil(share x clips) highest scores of each class: [classes] from [clips, classes]."""
    k = max(1, math.ceil(round(share * len(scores), 9)))  # 0.07 x 100 is 7.000000000000001, and must give 7
    return np.partition(scores, len(scores) - k, axis=0)[len(scores) - k :].mean(axis=0, dtype=np.float64)


def _runs(
    scores: NDArray[np.float64], threshold: NDArray[np.float64], start: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Maximal runs of scores above the threshold: pair, first and last clip within the pair, largest score."""
    positive = scores > threshold
    opens, closes = positive.copy(), positive.copy()
    inner = start[1:-1]  # a run never crosses from one pair into the next
    opens[1:] &= ~positive[:-1]
    closes[:-1] &= ~positive[1:]
    opens[inner] = positive[inner]
    closes[inner - 1] = positive[inner - 1]
    first, last = np.flatnonzero(opens), np.flatnonzero(closes)
    pair = np.searchsorted(start, first, side="right") - 1
    if not len(first):
        return pair, first, last, np.zeros(0)
    # reduceat over [first, last + 1) alternating with the gaps; the gaps' maxima are skipped. The end of the array is
    # no valid index, and a run that ends there needs none.
    edges = np.stack([first, last + 1], axis=1).ravel()
    top = np.maximum.reduceat(scores, edges[edges < len(scores)])[::2]
    return pair, first - start[pair], last - start[pair], top


def detect_many(
    cas: NDArray[np.float32],
    offsets: NDArray[np.int64],
    clips_per_s: NDArray[np.float64],
    settings: Sequence[Detect],
) -> list[Detections]:
    """Detections at each of several settings, in their order; those that differ in alpha alone share one pass."""
    groups: dict[Detect, list[int]] = {}
    for i, one in enumerate(settings):
        groups.setdefault(replace(one, alpha=0.0), []).append(i)
    results: dict[int, Detections] = {}
    for shared, members in groups.items():
        found = detect(cas, offsets, clips_per_s, shared, [settings[i].alpha for i in members])
        results.update(zip(members, found, strict=True))
    return [results[i] for i in range(len(settings))]
