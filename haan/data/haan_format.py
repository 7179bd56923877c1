"""The authors' layout: annotation files (haan.data.annotation_files) and the features, in one folder.

Features are one regular array [videos, clips, d], an object array of [clips, d] matrices, or a folder of one `NAME.npy`
a video. Segments that make no sense are repaired (haan.data.assemble).
"""

import numpy as np

from haan.config import Data
from haan.data import cache
from haan.data.annotation_files import read_annotations, read_names
from haan.data.assemble import Places, assemble
from haan.data.features import find_files, open_features
from haan.data.layout import LABELS, MAPPING, NAMES, RATIOS, SEGMENTS
from haan.data.skip import not_skipped
from haan.data.table import Annotations
from haan.errors import InputError


def open_haan(data: Data) -> tuple[cache.OnDisk, Annotations, tuple[str, ...]]:
    """Features still on disk, annotations, and warnings. Raises InputError, MissingDataError."""
    num_train = data.train_videos
    assert num_train is not None  # Data itself sees to it
    root = find_files(data, (NAMES, LABELS, SEGMENTS, RATIOS, MAPPING, data.features))
    names = read_names(root)
    stays, notes = not_skipped(data, names, num_train, frozenset(names))
    kept = np.flatnonzero(stays).tolist()
    staying = tuple(names[video] for video in kept)
    source = open_features(data, staying, f"{root / NAMES}: video_names")
    found = read_annotations(root, names)
    if not 1 <= num_train <= len(names):
        raise InputError(f"data.train_videos: must be >= 1 and <= the {len(names)} videos, got {num_train}")
    training = f"the first {num_train} videos (data.train_videos)"
    places = Places(f"{root / LABELS}: labels", str(root / SEGMENTS), training)
    annotations, warnings = assemble(
        staying,
        found.clips_per_s[kept],
        source.num_clips,
        int(stays[:num_train].sum()),
        [found.times[video] for video in kept],
        [found.fine[video] for video in kept],
        found.classes,
        places,
    )
    return source, annotations, notes + warnings
