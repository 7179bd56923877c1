"""The annotation files of the authors' layout, as they are published: nothing is repaired here.

`video_names.npy`, `labels.npy` (for each video a list of [coarse, fine]), `segments.npy` (for each video a list of
[start_s, end_s]), `sec2clip_ratios.npy` (clips per second), `fine_to_coarse_mappings.json`, and, where there is one,
`classes.json` with the names of the classes. Training videos come first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haan.data.features import check_count, which
from haan.data.layout import CLASSES, LABELS, MAPPING, NAMES, RATIOS, SEGMENTS, Classes
from haan.data.npy import read_array, read_objects
from haan.data.table import IntArray
from haan.errors import InputError
from haan.files import read_json


@dataclass(frozen=True)
class Published:
    """Annotations of some videos.

    fine: for each video [segments] fine classes. times: for each video [segments, 2], start and end in seconds.
    """

    names: tuple[str, ...]
    clips_per_s: NDArray[np.float64]
    fine: list[IntArray]
    times: list[NDArray[np.float64]]
    classes: Classes


def read_annotations(root: Path, names: tuple[str, ...], unnamed: str = "{1}") -> Published:
    """The annotations in a folder of the videos of `read_names`.

    unnamed: what a class without a name is called, of its level and number. Raises InputError.
    """
    coarse_of_fine = _mapping(root / MAPPING)
    ratios = _ratios(root, names)
    fine = _pairs(root, names, coarse_of_fine)
    times = _times(root, names, fine)
    classes = Classes(coarse_of_fine, *_class_names(root / CLASSES, coarse_of_fine, unnamed))
    return Published(names, ratios, fine, times, classes)


def read_names(root: Path) -> tuple[str, ...]:
    """The names of a folder's videos. Raises InputError."""
    path = root / NAMES
    names = read_objects(path, "video_names")
    if not names:
        raise InputError(f"{path}: video_names: must hold a video, got none")
    seen: dict[str, int] = {}
    for video, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: video_names: video {video}: must be text, got {_shown(name)}")
        if name in seen:
            raise InputError(f"{path}: video_names: must differ, got {name!r} for videos {seen[name]} and {video}")
        seen[name] = video
    return tuple(map(str, names))


def _mapping(path: Path) -> tuple[int, ...]:
    mapping = read_json(path)
    fine = [str(j) for j in range(len(mapping))] if isinstance(mapping, dict) else []
    if not isinstance(mapping, dict) or not fine or set(mapping) != set(fine):
        raise InputError(f"{path}: must map the fine classes '0', '1', ... to coarse ones, got {str(mapping)[:80]}")
    coarse = [mapping[j] for j in fine]
    if not all(type(u) is int for u in coarse) or sorted(set(coarse)) != list(range(len(set(coarse)))):
        raise InputError(
            f"{path}: must map to coarse classes 0, 1, ..., each used, got {sorted(set(map(str, coarse)))}"
        )
    return tuple(coarse)


def _class_names(path: Path, coarse_of_fine: Sequence[int], unnamed: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    counts = {"fine": len(coarse_of_fine), "coarse": max(coarse_of_fine) + 1}
    if not path.exists():
        fine, coarse = (tuple(unnamed.format(level, k) for k in range(count)) for level, count in counts.items())
        return fine, coarse
    content = read_json(path)
    for level, count in counts.items():
        names = content.get(level) if isinstance(content, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != count:
            got = f"{len(names)} entries" if isinstance(names, list) else repr(names)
            raise InputError(f"{path}: {level}: must be a list of {count} names, got {got}")
        if len(set(names)) != count:
            raise InputError(f"{path}: {level}: must be names that differ, got {len(set(names))} different of {count}")
    return tuple(content["fine"]), tuple(content["coarse"])


def _ratios(root: Path, names: Sequence[str]) -> NDArray[np.float64]:
    path = root / RATIOS
    ratios = read_array(path, "sec2clip_ratios")
    if ratios.ndim != 1 or ratios.dtype.kind not in "fiu":
        raise InputError(f"{path}: sec2clip_ratios: must be one number a video, got {ratios.shape} of {ratios.dtype}")
    check_count(path, "sec2clip_ratios", len(ratios), names)
    bad = np.flatnonzero(~(np.isfinite(ratios) & (ratios > 0)))
    if len(bad):
        raise InputError(
            f"{path}: sec2clip_ratios: {which(bad[0], names)}: must be finite and > 0, got {ratios[bad[0]]}"
        )
    return ratios.astype(np.float64)


def _rows(root: Path, file: str, key: str, names: Sequence[str]) -> list[NDArray[np.float64]]:
    """[pairs, 2] numbers of every video of a ragged file."""
    path = root / file
    entries = read_objects(path, key)
    check_count(path, key, len(entries), names)
    rows = []
    for video, entry in enumerate(entries):
        row = _row(entry)
        if row is None:
            rule = "must be pairs of finite numbers"
            raise InputError(f"{path}: {key}: {which(video, names)}: {rule}, got {_shown(entry)}")
        rows.append(row)
    return rows


def _row(entry: Any) -> NDArray[np.float64] | None:
    """[pairs, 2] finite numbers, or None when the entry is something else."""
    try:
        if len(entry) == 0:
            return np.zeros((0, 2))
        raw = np.array(entry)
        # astype would read "1.5" as a number
        numbers = raw.dtype.kind in "iuf" or all(isinstance(v, int | float | np.number) for v in raw.flat)
        row = raw.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return row if numbers and row.ndim == 2 and row.shape[1] == 2 and np.isfinite(row).all() else None


def _shown(value: Any) -> str:
    """The beginning of a value for a message; its type where Python can't write it (too deep, too long a number)."""
    try:
        return f"{value!r:.80}"
    except (RecursionError, ValueError):
        return type(value).__name__


def _pairs(root: Path, names: Sequence[str], coarse_of_fine: Sequence[int]) -> list[IntArray]:
    """The fine class of every segment, video by video."""
    path, known, fine_classes = root / LABELS, len(coarse_of_fine), []
    for video, row in enumerate(_rows(root, LABELS, "labels", names)):
        where = f"{path}: labels: {which(video, names)}"
        if not (row == np.floor(row)).all() or (np.abs(row) >= 2**31).any():
            raise InputError(f"{where}: must be whole numbers, got {_shown(row.tolist())}")
        pairs = row.astype(np.int64)
        for coarse, fine in pairs:
            if not 0 <= fine < known:
                raise InputError(f"{where}: must name a fine class of {MAPPING} (0 to {known - 1}), got {fine}")
            if coarse != coarse_of_fine[fine]:
                rule = f"must have coarse class {coarse_of_fine[fine]} for fine class {fine}, as {MAPPING} says"
                raise InputError(f"{where}: {rule}, got {coarse}")
        fine_classes.append(pairs[:, 1])
    return fine_classes


def _times(root: Path, names: Sequence[str], pairs: list[IntArray]) -> list[NDArray[np.float64]]:
    times = _rows(root, SEGMENTS, "segments", names)
    for video, (row, fine) in enumerate(zip(times, pairs, strict=True)):
        if len(row) != len(fine):
            rule = f"must hold one segment a label ({len(fine)} in {LABELS})"
            raise InputError(f"{root / SEGMENTS}: segments: {which(video, names)}: {rule}, got {len(row)}")
    return times
