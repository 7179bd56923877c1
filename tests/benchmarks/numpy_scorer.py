"""A plain vectorised scorer, as one writes it with NumPy in an afternoon: what haan.metrics is timed against.

Class by class, detections are sorted by score; video by video, all of them meet all ground truths in one matrix of
tIoU; those that reach no threshold are passed over, the rest take ground truths greedily, at every threshold at once.
"""

import numpy as np
from numpy.typing import NDArray

from haan.metrics import Detections, Segments


def average_precision(
    truth: Segments, found: Detections, num_classes: int, thresholds: tuple[float, ...]
) -> NDArray[np.float64]:
    """[thresholds, classes] as a share, NaN for a class without ground truth, like `haan.metrics.Score.ap`."""
    ap = np.full((len(thresholds), num_classes), np.nan)
    for label in np.unique(truth.label):
        mine, theirs = np.flatnonzero(found.label == label), np.flatnonzero(truth.label == label)
        mine = mine[np.argsort(-found.score[mine], kind="stable")]
        hits = _hits(truth, theirs, found, mine, np.asarray(thresholds))
        true = np.cumsum(hits, axis=1)
        precision = true / np.arange(1, len(mine) + 1)
        interpolated = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        ap[:, label] = (interpolated * hits).sum(axis=1) / len(theirs)
    return ap


def _hits(
    truth: Segments,
    theirs: NDArray[np.int64],
    found: Detections,
    mine: NDArray[np.int64],
    thresholds: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """[thresholds, detections] whether each of one class's detections, best first, is true."""
    hits = np.zeros((len(thresholds), len(mine)), dtype=bool)
    video = found.video[mine]
    by_video = np.argsort(video, kind="stable")  # within a video still best first
    bounds = np.searchsorted(video[by_video], np.stack([truth.video[theirs], truth.video[theirs] + 1]))
    _, firsts = np.unique(truth.video[theirs], return_index=True)
    for i in firsts:
        at = by_video[bounds[0, i] : bounds[1, i]]
        segments = theirs[truth.video[theirs] == truth.video[theirs[i]]]
        overlap = _tiou(found.start_s[mine[at]], found.end_s[mine[at]], truth.start_s[segments], truth.end_s[segments])
        free = np.ones((len(thresholds), len(segments)), dtype=bool)
        for d in np.flatnonzero(overlap.max(axis=1) >= thresholds.min()):
            candidates = np.where(free & (overlap[d] >= thresholds[:, None]), overlap[d], -1.0)
            best = candidates.argmax(axis=1)
            hit = candidates[np.arange(len(thresholds)), best] >= 0
            free[hit, best[hit]] = False
            hits[hit, at[d]] = True
    return hits


def _tiou(
    start_s: NDArray[np.float64],
    end_s: NDArray[np.float64],
    other_start_s: NDArray[np.float64],
    other_end_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """[segments, others] intersection over union."""
    overlap = np.minimum(end_s[:, None], other_end_s) - np.maximum(start_s[:, None], other_start_s)
    overlap = np.maximum(overlap, 0)
    union = (end_s - start_s)[:, None] + (other_end_s - other_start_s) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
