"""Features on disk: one array, an object array of matrices, or a folder of one file a video.

A regular array is [videos, clips, d]. The other two hold a matrix [clips, d] a video, in the order of the videos'
names; in a folder, video NAME has the file `NAME.npy`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haan.alike import SHOWN, first_of, hint
from haan.config import Data
from haan.data import cache
from haan.data.layout import NAMES
from haan.data.npy import map_array, read_array, read_header, read_objects
from haan.data.table import FloatArray, IntArray
from haan.errors import InputError, MissingDataError
from haan.memory import drop_pages, trim


def find_files(data: Data, needed: Sequence[str]) -> Path:
    """data.root, once it is known to hold some files. Raises MissingDataError."""
    root = Path(data.root)
    if not root.is_dir():
        raise MissingDataError(
            f"data.root: must be a folder with the data set, got {data.root!r}, which does not exist"
        )
    missing = [file for file in needed if not (root / file).exists()]
    if missing:
        raise MissingDataError(f"data.root: {root} must hold {', '.join(missing)}, which it does not")
    return root


def open_features(data: Data, names: Sequence[str], source_of_names: str) -> cache.OnDisk:
    """The features of some videos: a cache of them where there is one, else as they lie on disk.

    source_of_names: the file and key that the names come from, for messages. Raises InputError, MissingDataError.
    """
    files = _files(Path(data.root, data.features), names, source_of_names)
    source = cache.find(data, files) or _features(files, names)
    check_count(source.path, "data.features", len(source.num_clips), names)
    return source


def check_count(path: Path, key: str, count: int, names: Sequence[str]) -> None:
    """Raises InputError unless there is an entry a video."""
    if count != len(names):
        raise InputError(f"{path}: {key}: must hold one entry a video ({len(names)} in {NAMES}), got {count}")


def which(video: int, names: Sequence[str]) -> str:
    """A video in the words of an error message."""
    return f"video {video} ({names[video]!r})"


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


def _files(path: Path, names: Sequence[str], source_of_names: str) -> cache.Files:
    if not path.is_dir():
        return cache.look(path, (path,))
    for name in names:
        if Path(name).name != name or name in (".", "..") or "\0" in name or "\\" in name:
            raise InputError(f"{source_of_names}: must be plain file names, got {name!r}")
    paths = tuple(path / f"{name}.npy" for name in names)
    missing = [name for name, one in zip(names, paths, strict=True) if not is_there(one)]
    if missing:
        got = f"none for {len(missing)} of {len(names)}: {first_of(missing)}"
        found = hint([f"{name}.npy" for name in missing], (one.name for one in path.iterdir()), files=True)
        raise MissingDataError(f"{path}: data.features: must hold a file a video, got {got}{found}")
    return cache.look(path, paths)


def _features(files: cache.Files, names: Sequence[str]) -> cache.OnDisk:
    path = files.path
    if path.is_dir():
        return _Folder(files, *_sizes(path, _headers(files), names))
    shape, dtype = read_header(path, "data.features")
    if dtype.hasobject:
        matrices = read_objects(path, "data.features")
        check_count(path, "data.features", len(matrices), names)
        for video, matrix in enumerate(matrices):
            if not isinstance(matrix, np.ndarray):
                got = type(matrix).__name__
                raise InputError(f"{path}: data.features: {which(video, names)}: must be a matrix, got {got}")
        return _Matrices(files, *_sizes(path, [(m.shape, m.dtype) for m in matrices], names), matrices)
    if len(shape) != 3:
        raise InputError(f"{path}: data.features: must be [videos, clips, d] or one matrix a video, got shape {shape}")
    check_count(path, "data.features", shape[0], names)
    num_clips, dim = _sizes(path, [(shape[1:], dtype)], names)
    return _Regular(files, num_clips.repeat(len(names)), dim, map_array(path, "data.features"))


def _headers(files: cache.Files) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    found, wrong = [], []
    for path in files.paths:
        try:
            found.append(read_header(path, "data.features"))
        except InputError as error:
            wrong.append(str(error))
    _refuse(files.path, wrong, len(files.paths))
    return found


def _refuse(path: Path, wrong: Sequence[str], videos: int) -> None:
    """Raises InputError where something is wrong: a message a video, of many videos the first ones and how many."""
    more = [f"{path}: data.features: must be sound for every video, got {len(wrong)} of {videos} that are not"]
    if wrong:
        raise InputError([*wrong[:SHOWN], *(more if len(wrong) > SHOWN else [])])


def is_there(path: Path) -> bool:
    """Whether a feature file exists."""
    try:
        return path.exists()
    except OSError:  # a name too long for the file system
        return False


def _sizes(
    path: Path, shapes: Sequence[tuple[tuple[int, ...], np.dtype[Any]]], names: Sequence[str]
) -> tuple[IntArray, int]:
    """[videos] number of clips and the feature size d, once every matrix has been found sound."""
    dim, wrong = next((shape[1] for shape, _ in shapes if len(shape) == 2), 0), []
    for video, (shape, dtype) in enumerate(shapes):
        where = f"{path}: data.features: {which(video, names)}"
        if len(shape) != 2 or dtype.kind != "f" or dtype.itemsize > 8:
            wrong.append(f"{where}: must be a matrix [clips, d] of floats, got shape {shape} of {dtype}")
        elif shape[0] < 1:
            wrong.append(f"{where}: must have a clip, got none")
        elif shape[1] != dim or shape[1] < 1:
            wrong.append(f"{where}: must have the feature size of the first video ({dim}), got {shape[1]}")
    _refuse(path, wrong, len(shapes))
    return np.array([shape[0] for shape, _ in shapes], dtype=np.int64), int(dim)
