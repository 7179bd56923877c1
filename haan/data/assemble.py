"""What every format's reader does once it has read its files: repairs segments, checks classes, packs annotations.

Segments that make no sense are repaired, for published files hold some: one that ends more than a clip after its
video (a last, partial clip has no features, so up to one is normal) is cut there, one that starts before it is cut at
0, and one that starts at or after the end of its video, or has end <= start, is dropped. Its label stays a label of
the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haan.data.layout import Classes
from haan.data.table import Annotations, IntArray
from haan.errors import InputError


@dataclass(frozen=True)
class Places:
    """What messages call things: the file and key of labels and of segments, and which videos train."""

    labels: str
    segments: str
    training: str


def assemble(
    names: tuple[str, ...],
    clips_per_s: NDArray[np.float64],
    num_clips: IntArray,
    num_train: int,
    times: Sequence[NDArray[np.float64]],
    fine: Sequence[IntArray],
    classes: Classes,
    places: Places,
) -> tuple[Annotations, tuple[str, ...]]:
    """The annotations of some videos, training videos first, and at most one warning.

    times: for each video [segments, 2], start and end in seconds; fine: for each video [segments] fine classes.
    num_train 0: the videos are there to be detected in alone. Raises InputError when no training video shows a class.
    """
    fine_labels = np.zeros((len(names), len(classes.fine_names)), dtype=bool)
    for video, found in enumerate(fine):
        fine_labels[video, found] = True
    if num_train:
        _check_training(fine_labels[:num_train], classes.fine_names, places)
    repaired = [_repair(t, n / ratio, 1 / ratio) for t, n, ratio in zip(times, num_clips, clips_per_s, strict=True)]
    kept = [one.kept for one in repaired]
    annotations = Annotations(
        names=names,
        clips_per_s=clips_per_s,
        num_train=num_train,
        segment_offsets=np.concatenate([[0], np.cumsum([int(k.sum()) for k in kept])]).astype(np.int64),
        segments=np.concatenate([one.times[k] for one, k in zip(repaired, kept, strict=True)]),
        segment_fine=np.concatenate([found[k] for found, k in zip(fine, kept, strict=True)]),
        fine_labels=fine_labels,
        coarse_of_fine=np.array(classes.coarse_of_fine, dtype=np.int64),
        fine_names=classes.fine_names,
        coarse_names=classes.coarse_names,
    )
    return annotations, _warning(places.segments, repaired)


def _check_training(fine_labels: NDArray[np.bool_], fine_names: Sequence[str], places: Places) -> None:
    absent = np.flatnonzero(~fine_labels.any(axis=0))
    if len(absent):
        shown = ", ".join(repr(fine_names[j]) for j in absent[:5]) + (", ..." if len(absent) > 5 else "")
        rule = f"must show every fine class in {places.training}"
        raise InputError(f"{places.labels}: {rule}, got none of {shown}")


@dataclass(frozen=True)
class _Repaired:
    """Segments of one video after repair: times [segments, 2], which are kept, and how many were cut."""

    times: NDArray[np.float64]
    kept: NDArray[np.bool_]
    cut: int


def _repair(times: NDArray[np.float64], duration_s: float, clip_s: float) -> _Repaired:
    late = times[:, 1] > duration_s + clip_s * (1 + 1e-9)
    early = times[:, 0] < 0
    fixed = times.copy()
    fixed[late, 1] = duration_s
    fixed[early, 0] = 0
    kept = (times[:, 1] > times[:, 0]) & (fixed[:, 1] > fixed[:, 0]) & (times[:, 0] < duration_s)
    return _Repaired(fixed, kept, int(((late | early) & kept).sum()))


def _warning(place: str, repaired: Sequence[_Repaired]) -> tuple[str, ...]:
    total = sum(len(one.kept) for one in repaired)
    dropped, cut = total - sum(int(one.kept.sum()) for one in repaired), sum(one.cut for one in repaired)
    if not dropped and not cut:
        return ()
    return (
        f"{place}: of {total} segments {cut} were cut to their video (they start before it or end more than "
        f"a clip after it) and {dropped} dropped (end <= start, or outside the video); their labels stay",
    )
