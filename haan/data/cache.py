"""The packed table on disk: the first start writes it, later ones map it instead of reading the features again.

A cache is a folder below `$HAAN_CACHE`, or else below `.haan-cache` in data.root, named after the data's fingerprint
and the state of their files. It holds `clips.npy` [clips, d], the clips of all videos as they are kept in memory, and
`about.json`. It gets its name once it is whole, and nothing in it changes from then on.

Two things must agree before it is used. The features' files must have the sizes, times and inodes that they had when
they were read, which takes no reading. And the annotations, which are read at every start, must be those that the
stored fingerprint covers; with others the clips are still used, and hashed anew. Whatever else looks odd is no cache.
"""

import fcntl
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.lib import format as npy_format

from haan.checked import AT_LEAST_ONE, Checked, Rule, required
from haan.config import Data
from haan.data import table
from haan.data.npy import map_array
from haan.data.table import Annotations, FeatureSource, FloatArray, Packed, described, slices
from haan.errors import InputError
from haan.files import at_home

VARIABLE, FOLDER = "HAAN_CACHE", ".haan-cache"
CLIPS, ABOUT = "clips.npy", "about.json"
RECIPE = 1  # raise it with every change that gives clips.npy other bytes
WORTH_BYTES = 64 * 2**20  # a smaller table is packed in a fraction of a second
SETTLE_S = 2.0  # the coarsest clock of a file system: a file that changed less long ago could change unseen

_LOCK, _DRAFT = "haan-cache.lock", "haan-cache.partial"
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")
_MOST_ABOUT_BYTES = 2**26


@dataclass(frozen=True)
class Files:
    """The file or folder of some features, and its files when they were opened.

    state: SHA-256 that changes with their names, order, sizes, times and inodes. changed_s: when one last changed, in
    Unix seconds.
    """

    path: Path
    paths: tuple[Path, ...]
    state: str
    changed_s: float


class OnDisk(FeatureSource, Protocol):
    """A source that knows its files."""

    @property
    def files(self) -> Files:
        """As they were when it was opened."""
        ...


@dataclass(frozen=True)
class Cached(Packed):
    """Features of which a cache was found, mapped. fingerprints: of the data, by SHA-256 over all but the clips."""

    files: Files
    folder: Path
    fingerprints: Mapping[str, str]

    def known(self, annotations: Annotations) -> str | None:
        """The fingerprint of the data with these annotations."""
        return self.fingerprints.get(described(self, annotations, self.values.dtype.name).hexdigest())


_DIGEST = Rule("must be a SHA-256", lambda v: re.fullmatch("[0-9a-f]{64}", v) is not None)
_COUNTS = Rule("must be a count a video", lambda v: len(v) > 0 and min(v) > 0)


@dataclass(frozen=True, kw_only=True)
class _About(Checked):
    """What about.json says. source: the features, seen from the folder of all caches; it alone says whose place a new
    cache takes. rest: SHA-256 over all of the data but the clips. clips_mtime_ns: of clips.npy."""

    recipe: int = required(Rule(f"must be {RECIPE}", lambda v: v == RECIPE))
    format: str
    source: str
    state: str = required(_DIGEST)
    dtype: Literal["float16", "float32"]
    dim: int = required(AT_LEAST_ONE)
    num_clips: tuple[int, ...] = required(_COUNTS)
    rest: str = required(_DIGEST)
    fingerprint: str = required(_DIGEST)
    clips_mtime_ns: int

    @property
    def shape(self) -> tuple[int, int]:
        return sum(self.num_clips), self.dim


def look(path: Path, paths: tuple[Path, ...]) -> Files:
    """The files of some features as they are now; none is opened. Raises InputError."""
    try:
        found = [one.stat() for one in paths]
    except OSError as error:
        raise InputError(f"{path}: data.features: must be readable, got {error}") from None
    rows = [
        (one.name, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
        for one, info in zip(paths, found, strict=True)
    ]
    return Files(path, paths, sha256(repr(rows).encode()).hexdigest(), max(info.st_ctime for info in found))


def find(data: Data, files: Files) -> Cached | None:
    """A sound cache of these files; they are not opened."""
    root, found, fingerprints = _root(data), None, {}
    for folder, about in [] if root is None else _caches(root):
        if (about.state, about.format, about.dtype) != (files.state, data.format, data.dtype):
            continue
        values = _mapped(folder, about)
        if values is not None:
            fingerprints[about.rest] = about.fingerprint
            found = Cached(files.path, values, np.array(about.num_clips, dtype=np.int64), files, folder, fingerprints)
    return found


def fingerprint(source: FeatureSource, annotations: Annotations, dtype: str) -> str:
    """`table.fingerprint`, without reading a clip where the cache knows it. Raises InputError."""
    known = source.known(annotations) if isinstance(source, Cached) else None
    return known or table.fingerprint(source, annotations, dtype)


def packed_fingerprint(source: OnDisk, packed: table.ClipTable) -> str:
    """`fingerprint` of a source that was packed, without reading it again."""
    known = source.known(packed.annotations) if isinstance(source, Cached) else None
    return known or table.packed_fingerprint(packed)


def keep(data: Data, source: OnDisk, annotations: Annotations) -> tuple[OnDisk, str | None]:
    """Writes the cache where there is none; the source to go on with, mapped if that went well, and a note to show.

    Where nothing can be written the note says why. Raises InputError on clips that aren't finite.
    """
    root, num_bytes = _root(data), int(source.num_clips.sum()) * source.dim * np.dtype(data.dtype).itemsize
    if root is None or num_bytes < WORTH_BYTES or (isinstance(source, Cached) and source.known(annotations)):
        return source, None
    elsewhere = f"{VARIABLE}=FOLDER keeps them elsewhere, {VARIABLE}=off nowhere"
    try:
        with _sole_writer(root):
            found = find(data, source.files)
            if found is None or not found.known(annotations):
                _write(root, data, found or source, annotations)
                found = find(data, source.files)
        if found is None:
            raise OSError(f"what was written into {root} can't be read back")
    except OSError as error:
        return source, f"the packed features are not kept for later starts ({error}); {elsewhere}"
    if isinstance(source, Cached):
        return found, None
    return found, f"the packed features ({num_bytes / 2**30:.1f} GiB) are kept in {found.folder}; {elsewhere}"


def _root(data: Data) -> Path | None:
    """The folder of all caches; None where the user wants none."""
    place = os.environ.get(VARIABLE)
    if place == "off":
        return None
    return Path(at_home(place)) if place else Path(data.root, FOLDER)


def _caches(root: Path) -> Iterator[tuple[Path, _About]]:
    """Whatever is recognisably ours, sound clips or not."""
    folders: list[Path] = []
    with suppress(OSError):  # where nothing can be listed there is none
        folders = sorted(root.iterdir())
    for folder in folders:
        about = _read(folder) if _NAME.fullmatch(folder.name) else None
        if about is not None:
            yield folder, about


def _read(folder: Path) -> _About | None:
    path = folder / ABOUT
    try:
        info = path.lstat()
        plain = stat.S_ISDIR(folder.lstat().st_mode) and stat.S_ISREG(info.st_mode)
        if not plain or info.st_size > _MOST_ABOUT_BYTES:
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        return _About(**{**content, "num_clips": tuple(content["num_clips"])})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # whatever garbage makes of it
        return None


def _mapped(folder: Path, about: _About) -> FloatArray | None:
    """The clips, if they are as they were left; they are not read."""
    path = folder / CLIPS
    try:
        info = path.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_mtime_ns != about.clips_mtime_ns:
            return None
        found = map_array(path, "cache")
    except (OSError, InputError):
        return None
    assert isinstance(found, np.memmap)
    sound = (found.shape, found.dtype) == (about.shape, np.dtype(about.dtype)) and found.flags.c_contiguous
    return np.asarray(found) if sound and info.st_size == found.offset + found.nbytes else None


@contextmanager
def _sole_writer(root: Path) -> Iterator[None]:
    """Holds the lock of a folder of caches; the system frees it whatever ends the process. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / _LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another process is writing into {root}") from None
        yield


def _write(root: Path, data: Data, source: OnDisk, annotations: Annotations) -> None:
    """Writes a whole cache or none. The caller is the only writer. Raises OSError, InputError."""
    files, draft = source.files, root / _DRAFT
    where = os.path.relpath(files.path.resolve(), root.resolve())
    _remove(draft)  # a killed writer's
    for folder, about in list(_caches(root)):
        if about.source == where and about.state != files.state:
            _remove(folder)
    draft.mkdir()
    try:
        if isinstance(source, Cached):
            mark = _link(draft, source, annotations)
        else:
            mark = _fill(draft, data, source, annotations)
        if look(files.path, files.paths).state != files.state:
            raise OSError(f"{files.path} changed while it was read")
        about = _About(
            recipe=RECIPE,
            format=data.format,
            source=where,
            state=files.state,
            dtype=data.dtype,
            dim=source.dim,
            num_clips=tuple(source.num_clips.tolist()),
            rest=described(source, annotations, data.dtype).hexdigest(),
            fingerprint=mark,
            clips_mtime_ns=(draft / CLIPS).stat().st_mtime_ns,
        )
        with (draft / ABOUT).open("w", encoding="utf-8") as file:
            json.dump(asdict(about), file)
            file.flush()
            os.fsync(file.fileno())
        target = root / f"{mark[:16]}-{files.state[:8]}"
        _remove(target)  # was not sound, or it would be in use
        draft.rename(target)
    finally:
        _remove(draft)


def _fill(draft: Path, data: Data, source: OnDisk, annotations: Annotations) -> str:
    """Reads, checks, hashes and writes every clip, in one pass; the fingerprint. Raises OSError, InputError."""
    shape = int(source.num_clips.sum()), source.dim
    needed, free = shape[0] * shape[1] * np.dtype(data.dtype).itemsize, shutil.disk_usage(draft).free
    if needed > free / 2:  # a search needs room too
        gib = 2**30
        raise OSError(f"{needed / gib:.1f} GiB are more than half of the {free / gib:.1f} GiB free in {draft.parent}")
    time.sleep(min(max(source.files.changed_s + SETTLE_S - time.time(), 0), SETTLE_S))
    digest = described(source, annotations, data.dtype)
    header = {"descr": np.dtype(data.dtype).str, "fortran_order": False, "shape": shape}
    with (draft / CLIPS).open("wb") as file:
        npy_format.write_array_header_1_0(file, header)
        for first, last, values in slices(source, annotations, data.dtype):
            digest.update(values.data)
            file.write(values.data)
            source.release(first, last)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _link(draft: Path, source: Cached, annotations: Annotations) -> str:
    """The same clips for other annotations, without a second copy; the fingerprint. Raises OSError."""
    os.link(source.folder / CLIPS, draft / CLIPS)
    return table.fingerprint(source, annotations, source.values.dtype.name)


def _remove(folder: Path) -> None:
    """Removes a cache, and only what a cache consists of. Raises OSError where something else lies there."""
    if folder.is_dir() and not folder.is_symlink():
        for name in (ABOUT, CLIPS):  # without the first it is none any more
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
