"""What methods are told of the videos they learn from."""

from pathlib import Path

import numpy as np

from haan.methods.base import Segmented, told
from tests.planted import tiny_config, tiny_table


def test_full_supervision_alone_is_told_of_segments(tmp_path: Path) -> None:
    table, _ = tiny_table(tiny_config(tmp_path / "data"))
    annotations, videos = table.annotations, np.array([5, 2])
    weak = told("weak", annotations, videos, table.num_clips, table.dim)
    full = told("full", annotations, videos, table.num_clips, table.dim)
    assert not hasattr(weak, "segments") and isinstance(full, Segmented)
    assert (weak.fine == full.fine).all() and weak.dim == full.dim == table.dim
    first, last = annotations.segment_offsets[5:7]
    here = full.segments.video == 0
    assert full.segments.start_s[here].tolist() == annotations.segments[first:last, 0].tolist()
    assert (full.segments.video == 1).sum() == np.diff(annotations.segment_offsets)[2]
    assert full.clips_per_s.tolist() == annotations.clips_per_s[[5, 2]].tolist()
