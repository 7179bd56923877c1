"""Ground truth out: the annotations that a configuration trains and scores on, as ActivityNet JSON."""

from typing import Any

import numpy as np

from haan.data.activitynet_format import TRAINING, VALIDATION
from haan.data.table import Annotations, IntArray, Split


def truth(annotations: Annotations, num_clips: IntArray, parts: Split) -> dict[str, Any]:
    """`database` of the videos of a split, subset training or validation as they are in it.

    Segments are those that training scores against: repaired, and without the dropped ones. So `evaluate` with
    `--subset validation` gives a run's own figure. Durations are what the clips cover.
    """
    subsets = {int(video): TRAINING for video in parts.train} | {int(video): VALIDATION for video in parts.validation}
    durations = num_clips / annotations.clips_per_s
    database: dict[str, Any] = {}
    for video, subset in sorted(subsets.items()):
        rows = np.arange(annotations.segment_offsets[video], annotations.segment_offsets[video + 1])
        database[annotations.names[video]] = {
            "subset": subset,
            "duration": float(durations[video]),
            "annotations": [
                {
                    "label": annotations.fine_names[annotations.segment_fine[row]],
                    "segment": annotations.segments[row].tolist(),
                }
                for row in rows
            ],
        }
    return {"version": "haan", "database": database}
