"""What a HAAN that nobody trained sees in videos that nobody took."""

from typing import Any

import numpy as np

from haan.data.table import Annotations
from haan.detectors import runs
from haan.detectors.runs import RunsDetect
from haan.figures.observe import ObservedConcepts
from haan.metrics import Detections

EVIL = "<script>alert(1)</script> & $x^2$ ]]>"


def observed(
    near: Any = ((0,),),
    pairs: Any = ((0, 0),),
    concept: Any = (0,),
    distance: Any = None,
    clips: Any = None,
    segments: Any = None,
    found: Any = (),
    cas: Any = None,
    detect: RunsDetect = RunsDetect(),  # noqa: B008  # it is frozen
    clusters: int = 6,
) -> ObservedConcepts:
    """Videos of one clip a second and four fine classes in two coarse ones.

    near: concepts near to each of the (video, class) pairs. clips: of each video. segments: (video, fine, start, end).
    found: (video, fine, start, end, score).
    """
    clips = clips or [len(concept)]
    num_videos = len(clips)
    segments = sorted(segments or [(video, fine, 0.0, 1.0) for video, fine in pairs])
    labels = np.zeros((num_videos, 4), dtype=bool)
    for video, fine in pairs:
        labels[video, fine] = True
    counts = np.bincount([row[0] for row in segments], minlength=num_videos)
    annotations = Annotations(
        names=tuple(f"v{i}" for i in range(num_videos)),
        clips_per_s=np.ones(num_videos),
        num_train=0,
        segment_offsets=np.concatenate([[0], np.cumsum(counts)]),
        segments=np.array([row[2:] for row in segments], dtype=float).reshape(-1, 2),
        segment_fine=np.array([row[1] for row in segments], dtype=np.int64),
        fine_labels=labels,
        coarse_of_fine=np.array([0, 0, 0, 1]),
        fine_names=("Box/Tape (1)", "Box/Flap (2)", "Box/Lift (3)", EVIL),
        coarse_names=("Box", f"Walk {EVIL}"),
    )
    member = np.zeros((len(pairs), clusters), dtype=bool)
    for row, concepts in zip(member, near, strict=True):
        row[list(concepts)] = True
    video, label, start, end, score = (np.array(column) for column in zip(*found, strict=True)) if found else [[]] * 5
    cas = np.zeros((sum(clips), 4), dtype=np.float32) if cas is None else np.asarray(cas, dtype=np.float32)
    offsets = np.concatenate([[0], np.cumsum(clips)])
    return ObservedConcepts(
        annotations=annotations,
        videos=np.arange(num_videos),
        offsets=offsets,
        curves=runs.curves(cas, offsets, detect),
        concept=np.array(concept),
        distance=np.zeros(len(concept), np.float32) if distance is None else np.asarray(distance, np.float32),
        pair_video=np.array([video for video, _ in pairs]),
        pair_fine=np.array([fine for _, fine in pairs]),
        near=member,
        found=Detections(
            *(np.array(column, dtype=np.int64) for column in (video, label)),
            *(np.array(column, dtype=float) for column in (start, end, score)),
        ),
    )
