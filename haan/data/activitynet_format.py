"""ActivityNet's layout, as FineAction publishes it: ground truth, hierarchy, and a folder of one `NAME.npy` a video.

The ground truth (`data.annotations`) is a JSON object with `database`: for each video `subset` (training, validation or
testing), `duration` in seconds, and `annotations`, a list of `{"label": fine class, "segment": [start_s, end_s]}`.
Testing videos need no annotations; theirs are not read. A video's clips cover its duration evenly, unless it has the
key `clips_per_s`. Whatever other keys there are is left alone.

The hierarchy (`data.hierarchy`) is a JSON object of fine class to coarse class, by name: `{"wash hands": "hygiene"}`.
Its order numbers the fine classes, and the coarse ones by their first appearance.

Videos of a subset are taken in the order of their names, for the members of a JSON object have none.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haan.activitynet import SUBSETS, TESTING, TRAINING, VALIDATION, as_time, member, number, read_actions, read_part
from haan.config import Data
from haan.data import cache
from haan.data.assemble import Places, assemble
from haan.data.features import find_files, open_features
from haan.data.layout import Classes
from haan.data.skip import not_skipped
from haan.data.table import Annotations, IntArray
from haan.errors import InputError
from haan.files import read_json


@dataclass(frozen=True)
class Entry:
    """One video of a ground truth.

    duration_s: None where the file says clips_per_s instead. segments: [segments, 2] in seconds, as they are given;
    labels: the fine class of each, by index. Both are empty for testing videos.
    """

    name: str
    duration_s: float | None
    clips_per_s: float | None
    segments: NDArray[np.float64]
    labels: IntArray


def open_activitynet(data: Data) -> tuple[cache.OnDisk, Annotations, tuple[str, ...]]:
    """Features of training and validation videos still on disk, annotations, and warnings.

    Raises InputError, MissingDataError.
    """
    return _open(data, (TRAINING, VALIDATION))


def open_testing(data: Data) -> tuple[cache.OnDisk, Annotations, tuple[str, ...]]:
    """The same of testing videos, of which none trains and none has a label. Raises InputError, MissingDataError."""
    return _open(data, (TESTING,))


def _open(data: Data, subsets: Sequence[str]) -> tuple[cache.OnDisk, Annotations, tuple[str, ...]]:
    assert data.annotations is not None and data.hierarchy is not None  # Data itself sees to it
    root = find_files(data, (data.annotations, data.hierarchy, data.features))
    path = root / data.annotations
    if not (root / data.features).is_dir():
        raise InputError(f"data.features: must be a folder of one NAME.npy a video, got the file {data.features!r}")
    classes = read_hierarchy(root / data.hierarchy)
    entries = read_entries(path, root / data.hierarchy, classes)
    for subset in subsets[:1]:  # which videos validate is for the split to check
        if not entries[subset]:
            raise InputError(f"{path}: database: must have a video of subset {subset}, got none")
    chosen = [entry for subset in subsets for entry in entries[subset]]
    num_train = len(entries[TRAINING]) if TRAINING in subsets else 0
    known = frozenset(entry.name for subset in SUBSETS for entry in entries[subset])
    stays, notes = not_skipped(data, [entry.name for entry in chosen], num_train, known)
    chosen = [entry for entry, stay in zip(chosen, stays.tolist(), strict=True) if stay]
    names = tuple(entry.name for entry in chosen)
    source = open_features(data, names, f"{path}: database")
    annotations, warnings = assemble(
        names,
        np.array([_clips_per_s(entry, n) for entry, n in zip(chosen, source.num_clips.tolist(), strict=True)]),
        source.num_clips,
        int(stays[:num_train].sum()),
        [entry.segments for entry in chosen],
        [entry.labels for entry in chosen],
        classes,
        Places(f"{path}: database", f"{path}: database", "the videos of subset training"),
    )
    return source, annotations, notes + warnings


def _clips_per_s(entry: Entry, num_clips: int) -> float:
    if entry.clips_per_s is not None:
        return entry.clips_per_s
    assert entry.duration_s is not None
    return num_clips / entry.duration_s


def read_hierarchy(path: Path) -> Classes:
    """The classes of a hierarchy file. Raises InputError."""
    content = read_json(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: must be an object of fine class to coarse class, got {content!r:.80}")
    for fine, coarse in content.items():
        if not isinstance(coarse, str) or not coarse or not fine:
            raise InputError(f"{path}: {fine!r}: must map the name of a class to that of another, got {coarse!r:.80}")
    coarse_names = tuple(dict.fromkeys(content.values()))
    index = {name: u for u, name in enumerate(coarse_names)}
    coarse_of_fine = tuple(index[coarse] for coarse in content.values())
    return Classes(coarse_of_fine, tuple(content), coarse_names)


def read_entries(path: Path, hierarchy: Path, classes: Classes) -> dict[str, list[Entry]]:
    """The videos of a ground truth by subset, each in the order of their names. Raises InputError."""
    index = {name: j for j, name in enumerate(classes.fine_names)}
    found: dict[str, list[Entry]] = {subset: [] for subset in SUBSETS}
    for name, about in sorted(read_part(path, "database", dict).items()):
        where = f"database.{name}"
        subset = member(about, "subset", str, path, where)
        if subset not in SUBSETS:
            raise InputError(f"{path}: {where}.subset: must be one of {', '.join(SUBSETS)}, got {subset!r}")
        ratio = _positive(about, "clips_per_s", path, where) if "clips_per_s" in about else None
        timed = about | {"duration": as_time(about.get("duration"))}
        duration = _positive(timed, "duration", path, where) if ratio is None else None
        actions = [] if subset == TESTING else read_actions(about, path, where)
        for i, (label, _) in enumerate(actions):
            _check_label(label, f"{where}.annotations[{i}]", path, hierarchy, index)
        times = np.array([pair for _, pair in actions], dtype=np.float64).reshape(-1, 2)
        labels = np.array([index[label] for label, _ in actions], dtype=np.int64)
        found[subset].append(Entry(name, duration, ratio, times, labels))
    return found


def _positive(about: Any, key: str, path: Path, where: str) -> float:
    value = number(about, key, path, where)
    if value <= 0:
        raise InputError(f"{path}: {where}.{key}: must be > 0, got {about[key]}")
    return value


def _check_label(label: str, where: str, path: Path, hierarchy: Path, index: dict[str, int]) -> None:
    if label not in index:
        near = difflib.get_close_matches(label, index, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(f"{path}: {where}.label: must be a fine class of {hierarchy.name}, got {label!r}{hint}")
