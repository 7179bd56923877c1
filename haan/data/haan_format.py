"""The authors' layout: five annotation files and the features, in one folder.

`video_names.npy`, `labels.npy` (for each video a list of [coarse, fine]), `segments.npy` (for each video a list of
[start_s, end_s]), `sec2clip_ratios.npy` (clips per second), `fine_to_coarse_mappings.json`, and, where there is one,
`classes.json` with the names of the classes. Training videos come first. Features are one regular array
[videos, clips, d], an object array of [clips, d] matrices, or a folder of one `NAME.npy` a video.

Segments that make no sense are repaired, for the published files hold some: one that ends more than a clip after its
video (a last, partial clip has no features, so up to one is normal) is cut there, one that starts before it is cut at
0, and one that starts at or after the end of its video, or has end <= start, is dropped. Its label stays a label of
the video.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haan.config import Data
from haan.data import cache
from haan.data.npy import map_array, read_array, read_header, read_objects
from haan.data.table import Annotations, FloatArray, IntArray
from haan.errors import InputError, MissingDataError
from haan.memory import drop_pages, trim

NAMES, LABELS, SEGMENTS = "video_names.npy", "labels.npy", "segments.npy"
RATIOS, MAPPING, CLASSES = "sec2clip_ratios.npy", "fine_to_coarse_mappings.json", "classes.json"


def open_haan(data: Data) -> tuple[cache.OnDisk, Annotations, tuple[str, ...]]:
    """Features still on disk, annotations, and at most one warning. Raises InputError, MissingDataError."""
    root = Path(data.root)
    if not root.is_dir():
        raise MissingDataError(
            f"data.root: must be a folder with the data set, got {data.root!r}, which does not exist"
        )
    needed = (NAMES, LABELS, SEGMENTS, RATIOS, MAPPING, data.features)
    missing = [file for file in needed if not (root / file).exists()]
    if missing:
        raise MissingDataError(f"data.root: {root} must hold {', '.join(missing)}, which it does not")
    names = _names(root)
    coarse_of_fine = _mapping(root / MAPPING)
    files = _files(root / data.features, names)
    source = cache.find(data, files) or _features(files, names)
    _check_count(source.path, "data.features", len(source.num_clips), names)
    ratios = _ratios(root, names)
    pairs = _pairs(root, names, coarse_of_fine)
    times = _times(root, names, pairs)
    if not 1 <= data.train_videos <= len(names):
        raise InputError(f"data.train_videos: must be >= 1 and <= the {len(names)} videos, got {data.train_videos}")
    fine_names, coarse_names = _class_names(root / CLASSES, coarse_of_fine)
    fine_labels = np.zeros((len(names), len(coarse_of_fine)), dtype=bool)
    for video, fine in enumerate(pairs):
        fine_labels[video, fine] = True
    _check_training(root, fine_labels, data.train_videos, fine_names)
    repaired = [_repair(t, n / ratio, 1 / ratio) for t, n, ratio in zip(times, source.num_clips, ratios, strict=True)]
    kept = [one.kept for one in repaired]
    annotations = Annotations(
        names=names,
        clips_per_s=ratios,
        num_train=data.train_videos,
        segment_offsets=np.concatenate([[0], np.cumsum([int(k.sum()) for k in kept])]).astype(np.int64),
        segments=np.concatenate([one.times[k] for one, k in zip(repaired, kept, strict=True)]),
        segment_fine=np.concatenate([fine[k] for fine, k in zip(pairs, kept, strict=True)]),
        fine_labels=fine_labels,
        coarse_of_fine=coarse_of_fine,
        fine_names=fine_names,
        coarse_names=coarse_names,
    )
    return source, annotations, _warning(root, repaired)


def _names(root: Path) -> tuple[str, ...]:
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


def _mapping(path: Path) -> IntArray:
    mapping = _json(path)
    fine = [str(j) for j in range(len(mapping))] if isinstance(mapping, dict) else []
    if not isinstance(mapping, dict) or not fine or set(mapping) != set(fine):
        raise InputError(f"{path}: must map the fine classes '0', '1', ... to coarse ones, got {str(mapping)[:80]}")
    coarse = [mapping[j] for j in fine]
    if not all(type(u) is int for u in coarse) or sorted(set(coarse)) != list(range(len(set(coarse)))):
        raise InputError(
            f"{path}: must map to coarse classes 0, 1, ..., each used, got {sorted(set(map(str, coarse)))}"
        )
    return np.array(coarse, dtype=np.int64)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: must be JSON, got {error}") from None


def _class_names(path: Path, coarse_of_fine: IntArray) -> tuple[tuple[str, ...], tuple[str, ...]]:
    counts = {"fine": len(coarse_of_fine), "coarse": int(coarse_of_fine.max()) + 1}
    if not path.exists():
        return tuple(map(str, range(counts["fine"]))), tuple(map(str, range(counts["coarse"])))
    content = _json(path)
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
    _check_count(path, "sec2clip_ratios", len(ratios), names)
    bad = np.flatnonzero(~(np.isfinite(ratios) & (ratios > 0)))
    if len(bad):
        raise InputError(
            f"{path}: sec2clip_ratios: {_which(bad[0], names)}: must be finite and > 0, got {ratios[bad[0]]}"
        )
    return ratios.astype(np.float64)


def _check_count(path: Path, key: str, count: int, names: Sequence[str]) -> None:
    if count != len(names):
        raise InputError(f"{path}: {key}: must hold one entry a video ({len(names)} in {NAMES}), got {count}")


def _which(video: int, names: Sequence[str]) -> str:
    return f"video {video} ({names[video]!r})"


def _rows(root: Path, file: str, key: str, names: Sequence[str]) -> list[NDArray[np.float64]]:
    """[pairs, 2] numbers of every video of a ragged file."""
    path = root / file
    entries = read_objects(path, key)
    _check_count(path, key, len(entries), names)
    rows = []
    for video, entry in enumerate(entries):
        row = _row(entry)
        if row is None:
            rule = "must be pairs of finite numbers"
            raise InputError(f"{path}: {key}: {_which(video, names)}: {rule}, got {_shown(entry)}")
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


def _pairs(root: Path, names: Sequence[str], coarse_of_fine: IntArray) -> list[IntArray]:
    """The fine class of every segment, video by video."""
    path, known, fine_classes = root / LABELS, len(coarse_of_fine), []
    for video, row in enumerate(_rows(root, LABELS, "labels", names)):
        where = f"{path}: labels: {_which(video, names)}"
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
            raise InputError(f"{root / SEGMENTS}: segments: {_which(video, names)}: {rule}, got {len(row)}")
    return times


def _check_training(root: Path, fine_labels: NDArray[np.bool_], num_train: int, fine_names: Sequence[str]) -> None:
    absent = np.flatnonzero(~fine_labels[:num_train].any(axis=0))
    if len(absent):
        shown = ", ".join(repr(fine_names[j]) for j in absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise InputError(
            f"{root / LABELS}: labels: must show every fine class in the first {num_train} videos (data.train_videos), "
            f"got none of {shown}"
        )


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


def _warning(root: Path, repaired: Sequence[_Repaired]) -> tuple[str, ...]:
    total = sum(len(one.kept) for one in repaired)
    dropped, cut = total - sum(int(one.kept.sum()) for one in repaired), sum(one.cut for one in repaired)
    if not dropped and not cut:
        return ()
    return (
        f"{root / SEGMENTS}: of {total} segments {cut} were cut to their video (they start before it or end more than "
        f"a clip after it) and {dropped} dropped (end <= start, or outside the video); their labels stay",
    )


@dataclass(frozen=True)
class _OnDisk:
    """What every form of the features knows."""

    files: cache.Files
    num_clips: IntArray
    dim: int

    @property
    def path(self) -> Path:
        return self.files.path


@dataclass(frozen=True)
class _Regular(_OnDisk):
    """Features as one array [videos, clips, d], mapped from disk."""

    array: NDArray[Any]

    def read(self, first: int, last: int) -> FloatArray:
        return self.array[first:last].reshape(-1, self.dim)

    def release(self, first: int, last: int) -> None:
        drop_pages(self.array)


@dataclass(frozen=True)
class _Matrices(_OnDisk):
    """Features as a list of [clips, d] matrices in memory; one that was released is None until it is read again."""

    matrices: list[NDArray[Any] | None]

    def read(self, first: int, last: int) -> FloatArray:
        part = [matrix for matrix in self.matrices[first:last] if matrix is not None]
        if len(part) < last - first:
            part = self._again()[first:last]
        return np.concatenate(part)

    def _again(self) -> list[NDArray[Any]]:
        self.matrices[:] = []
        found = read_objects(self.path, "data.features")
        if [getattr(matrix, "shape", None) for matrix in found] != [(n, self.dim) for n in self.num_clips]:
            raise InputError(f"{self.path}: data.features: must stay as it is while it is used, got other sizes")
        self.matrices[:] = found
        return found

    def release(self, first: int, last: int) -> None:
        self.matrices[first:last] = [None] * (last - first)
        trim()


@dataclass(frozen=True)
class _Folder(_OnDisk):
    """Features as a folder of one file a video; a file is opened when it is read."""

    def read(self, first: int, last: int) -> FloatArray:
        return np.concatenate([read_array(path, "data.features") for path in self.files.paths[first:last]])

    def release(self, first: int, last: int) -> None:
        """There is nothing to let go: no file stays in memory."""


def _files(path: Path, names: Sequence[str]) -> cache.Files:
    if not path.is_dir():
        return cache.look(path, (path,))
    paths = tuple(path / f"{name}.npy" for name in names)
    for video, name in enumerate(names):
        if Path(name).name != name or name in (".", "..") or "\0" in name or "\\" in name:
            raise InputError(f"{path.parent / NAMES}: video_names: must be plain file names, got {name!r}")
        if not _exists(paths[video]):
            raise MissingDataError(f"{path}: data.features: must hold a file a video, got none for {name!r}")
    return cache.look(path, paths)


def _features(files: cache.Files, names: Sequence[str]) -> cache.OnDisk:
    path = files.path
    if path.is_dir():
        shapes = [read_header(one, "data.features") for one in files.paths]
        return _Folder(files, *_sizes(path, shapes, names))
    shape, dtype = read_header(path, "data.features")
    if dtype.hasobject:
        matrices = read_objects(path, "data.features")
        _check_count(path, "data.features", len(matrices), names)
        for video, matrix in enumerate(matrices):
            if not isinstance(matrix, np.ndarray):
                got = type(matrix).__name__
                raise InputError(f"{path}: data.features: {_which(video, names)}: must be a matrix, got {got}")
        return _Matrices(files, *_sizes(path, [(m.shape, m.dtype) for m in matrices], names), matrices)
    if len(shape) != 3:
        raise InputError(f"{path}: data.features: must be [videos, clips, d] or one matrix a video, got shape {shape}")
    _check_count(path, "data.features", shape[0], names)
    sizes = _sizes(path, [(shape[1:], dtype)] * shape[0], names)
    return _Regular(files, *sizes, map_array(path, "data.features"))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name too long for the file system
        return False


def _sizes(
    path: Path, shapes: Sequence[tuple[tuple[int, ...], np.dtype[Any]]], names: Sequence[str]
) -> tuple[IntArray, int]:
    """[videos] number of clips and the feature size d, once every matrix has been found sound."""
    dim = shapes[0][0][1] if len(shapes[0][0]) == 2 else math.nan
    for video, (shape, dtype) in enumerate(shapes):
        where = f"{path}: data.features: {_which(video, names)}"
        if len(shape) != 2 or dtype.kind != "f" or dtype.itemsize > 8:
            raise InputError(f"{where}: must be a matrix [clips, d] of floats, got shape {shape} of {dtype}")
        if shape[0] < 1:
            raise InputError(f"{where}: must have a clip, got none")
        if shape[1] != dim or shape[1] < 1:
            raise InputError(f"{where}: must have the feature size of the first video ({dim}), got {shape[1]}")
    return np.array([shape[0] for shape, _ in shapes], dtype=np.int64), int(dim)
