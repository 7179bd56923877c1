"""FineAction's ground truth (`annotations_gt.json`) and class hierarchy -> the `haan` layout.

The features that HAAN's authors publish hold the same number of clips (100) for every video, whatever its length, one
row a video: training videos first, then validation videos, each in the order of their names.
"""

import csv
from pathlib import Path

from haan.data.activitynet_format import TRAINING, VALIDATION, Entry, read_entries, read_hierarchy
from haan.data.layout import Classes, Video
from haan.errors import InputError
from haan.files import read_text


def convert(annotations: Path, hierarchy: Path, clips: int) -> tuple[list[Video], Classes, int]:
    """Training and validation videos with their actions, classes, and how many train. Raises InputError."""
    classes = read_classes(hierarchy)
    entries = read_entries(annotations, hierarchy, classes)
    if not entries[TRAINING]:
        raise InputError(f"{annotations}: database: must have a video of subset {TRAINING}, got none")
    videos = [_video(entry, classes, clips) for subset in (TRAINING, VALIDATION) for entry in entries[subset]]
    return videos, classes, len(entries[TRAINING])


def read_classes(path: Path) -> Classes:
    """A hierarchy file as `format: activitynet` reads it, or the authors' table (a .csv with columns coarse and fine).

    Raises InputError.
    """
    if path.suffix != ".csv":
        return read_hierarchy(path)
    rows = list(csv.DictReader(read_text(path).splitlines()))
    pairs = [(row.get("fine"), row.get("coarse")) for row in rows]
    if not pairs or not all(fine and coarse for fine, coarse in pairs):
        raise InputError(f"{path}: must have the columns coarse and fine, filled in every row, got {rows[:1]!r:.80}")
    fine_names = tuple(str(fine) for fine, _ in pairs)
    if len(set(fine_names)) < len(fine_names):
        raise InputError(f"{path}: fine: must differ, got {len(set(fine_names))} different of {len(fine_names)}")
    coarse_names = tuple(dict.fromkeys(str(coarse) for _, coarse in pairs))
    coarse_of_fine = tuple(coarse_names.index(str(coarse)) for _, coarse in pairs)
    return Classes(coarse_of_fine, fine_names, coarse_names)


def _video(entry: Entry, classes: Classes, clips: int) -> Video:
    ratio = entry.clips_per_s
    if ratio is None:
        assert entry.duration_s is not None  # one of them is there
        ratio = clips / entry.duration_s
    labels = [[classes.coarse_of_fine[fine], fine] for fine in entry.labels.tolist()]
    return Video(entry.name, ratio, entry.segments.tolist(), labels)
