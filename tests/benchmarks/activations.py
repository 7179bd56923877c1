"""Seeded class activation sequences with their ground truth, at the sizes of the data sets.

What a half-trained network gives: every class of a video has its own level, most of them below 0, so that some tens of
classes are kept; noise that is smooth in time lies over it, and true segments, not all of them, stand above it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haan.detectors.runs import RunsDetect
from haan.metrics import Segments

ALPHAS = tuple(round(-1 + 0.05 * i, 2) for i in range(41))


@dataclass(frozen=True)
class VideoSet:
    """videos, classes; fewest and most clips a video; segments a video; mean seconds a clip; detection; tIoUs.

    level: mean and spread of the classes' levels. smooth: share of the last clip's noise in the next one's.
    """

    videos: int
    classes: int
    clips: tuple[int, int]
    segments: int
    clip_s: tuple[float, float]
    level: tuple[float, float]
    smooth: float
    detect: RunsDetect
    tiou: tuple[float, ...]


_LOW_TIOU = tuple(round(0.1 + 0.05 * i, 2) for i in range(9))
_HIGH_TIOU = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
VIDEO_SETS = {
    # Of 700 videos the 200 that validate.
    "small": VideoSet(
        200, 12, (20, 120), 5, (0.7, 0.7), (-1.0, 0.9), 0.5, RunsDetect(alpha=0.1, top_clips=0.5), _LOW_TIOU
    ),
    # As many detections, 212,000 at one alpha, as the authors' code took 48 s for.
    "finegym": VideoSet(
        200, 99, (20, 309), 7, (0.67, 0.67), (-0.77, 0.9), 0.3, RunsDetect(alpha=0.1, top_clips=0.5), _LOW_TIOU
    ),
    # The whole validation set; every video has 100 clips, however long it is.
    "fineaction": VideoSet(4174, 106, (100, 100), 6, (0.1, 3.0), (-1.6, 0.9), 0.6, RunsDetect(alpha=-0.8), _HIGH_TIOU),
}


@dataclass(frozen=True)
class Activations:
    """cas: [clips, classes] logits. offsets: [videos + 1] first clip of each video. clips_per_s: [videos]."""

    video_set: VideoSet
    cas: NDArray[np.float32]
    offsets: NDArray[np.int64]
    clips_per_s: NDArray[np.float64]
    truth: Segments


def activations(name: str, seed: int = 0) -> Activations:
    """The problem of one of `VIDEO_SETS`."""
    video_set, rng = VIDEO_SETS[name], np.random.default_rng(seed)
    num_clips = rng.integers(video_set.clips[0], video_set.clips[1] + 1, video_set.videos)
    offsets = np.concatenate([[0], np.cumsum(num_clips)])
    cas = rng.standard_normal((offsets[-1], video_set.classes), dtype=np.float32)
    cas[1:] += np.float32(video_set.smooth) * cas[:-1]
    cas *= np.float32(0.5)
    level = rng.normal(*video_set.level, (video_set.videos, video_set.classes)).astype(np.float32)
    for video, (first, last) in enumerate(zip(offsets[:-1], offsets[1:], strict=True)):
        cas[first:last] += level[video]
    clips_per_s = 1 / rng.uniform(*video_set.clip_s, video_set.videos)
    # Three classes a video, each of its segments one of them, between a clip and a third of the video long.
    video = np.repeat(np.arange(video_set.videos), video_set.segments)
    present = rng.permuted(np.tile(np.arange(video_set.classes), (video_set.videos, 1)), axis=1)[:, :3]
    label = present[video, rng.integers(0, 3, len(video))]
    length = np.maximum(1, rng.exponential(num_clips[video] / 15).clip(max=num_clips[video] / 3))
    first = rng.uniform(0, num_clips[video] - length)
    raised = rng.normal(1.2, 0.6, len(video)).astype(np.float32)
    for v, c, low, high, by in zip(video, label, first, first + length, raised, strict=True):
        cas[offsets[v] + round(low) : offsets[v] + max(round(low) + 1, round(high)), c] += by
    truth = Segments(video, label, first / clips_per_s[video], (first + length) / clips_per_s[video])
    return Activations(video_set, cas, offsets, clips_per_s, truth)
