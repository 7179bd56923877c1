"""The `haan` layout as files: their names, and how they are written (haan.data.haan_format reads them)."""

import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from haan.errors import InputError
from haan.files import check_folder, make_folder

NAMES, LABELS, SEGMENTS = "video_names.npy", "labels.npy", "segments.npy"
RATIOS, MAPPING, CLASSES = "sec2clip_ratios.npy", "fine_to_coarse_mappings.json", "classes.json"
FILES = (NAMES, LABELS, SEGMENTS, RATIOS, MAPPING, CLASSES)


@dataclass(frozen=True)
class Classes:
    """The class hierarchy. coarse_of_fine: one a fine class. The names are indexed by class."""

    coarse_of_fine: tuple[int, ...]
    fine_names: tuple[str, ...]
    coarse_names: tuple[str, ...]


@dataclass(frozen=True)
class Video:
    """One video without its features. segments: [start_s, end_s] pairs; labels: [coarse, fine], one a segment."""

    name: str
    clips_per_s: float
    segments: list[list[float]]
    labels: list[list[int]]


def check_free(out: Path, files: Sequence[str]) -> None:
    """Refuses a folder that `filling` would, before what takes long. Raises InputError."""
    check_folder(out)
    there = [file for file in files if (out / file).exists()]
    if there:
        raise InputError(f"{out}: --out must be a folder without {', '.join(files)}, got {', '.join(there)}")


@contextmanager
def filling(out: Path, files: Sequence[str]) -> Iterator[Path]:
    """Where to write some files that come to lie in `out` once all are written, and not at all after an error.

    `out` may be there, with features in it, say. Raises InputError where it holds one of the files already.
    """
    check_free(out, files)
    unfinished = out / f".{uuid.uuid4().hex}"
    made = not out.exists()
    make_folder(unfinished)
    try:
        yield unfinished
        for file in files:
            (unfinished / file).rename(out / file)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if made and not any(out.iterdir()):
            out.rmdir()


def write_annotations(folder: Path, videos: Sequence[Video], classes: Classes) -> None:
    """The six files of annotations, in a folder that is there. Training videos must come first."""
    np.save(folder / NAMES, np.array([video.name for video in videos]))
    write_objects(folder / LABELS, [video.labels for video in videos])
    write_objects(folder / SEGMENTS, [video.segments for video in videos])
    np.save(folder / RATIOS, np.array([video.clips_per_s for video in videos], dtype=np.float64))
    write_json(folder / MAPPING, {str(k): u for k, u in enumerate(classes.coarse_of_fine)})
    write_json(folder / CLASSES, {"fine": classes.fine_names, "coarse": classes.coarse_names})


def write_objects(path: Path, values: Sequence[Any]) -> None:
    """An object array as the published files have it, a pickle of lists or arrays: one entry a video."""
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):  # an assignment of all at once would make a matrix of equally long ones
        array[i] = value
    np.save(path, array, allow_pickle=True)


def write_json(path: Path, value: object) -> None:
    """A JSON file that people can read."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
