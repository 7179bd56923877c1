"""The packed table: every clip of every video in a few arrays, with the annotations beside it.

Nothing here knows a file format; readers give a `FeatureSource` and `Annotations`.
"""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from haan.config import Data, Holdout
from haan.errors import InputError
from haan.memory import drop_pages
from haan.metrics import Segments

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]

_SLICE_CLIPS = 8192  # read at a time: 64 MiB of 4096-d float16
_BLOCK_BYTES = 2**20  # rounded and checked at a time, so that the check finds them in the processor's cache
_ALONE = 2**15  # values that PyTorch copies without other threads, which on a busy machine keep it waiting
_EXPONENTS = {2: np.uint16(0x7C00), 4: np.uint32(0x7F80_0000)}  # by bytes: all ones in NaN and infinity alone


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """Everything about the videos but their features; packed like the clips, one segment after the other.

    names: one a video. clips_per_s: [videos]. num_train: the first so many videos train.
    segment_offsets: [videos + 1] first ground-truth segment of each video.
    segments: [segments, 2] start and end in seconds. segment_fine: [segments] fine class of each.
    fine_labels: [videos, fine] bool, the video-level labels. They come from every published label, also from one whose
        segment was dropped because its times make no sense: weak supervision needs the label alone.
    coarse_of_fine: [fine] the class hierarchy. fine_names, coarse_names: one a class.
    """

    names: tuple[str, ...]
    clips_per_s: NDArray[np.float64]
    num_train: int
    segment_offsets: IntArray
    segments: NDArray[np.float64]
    segment_fine: IntArray
    fine_labels: NDArray[np.bool_]
    coarse_of_fine: IntArray
    fine_names: tuple[str, ...]
    coarse_names: tuple[str, ...]

    @property
    def coarse_labels(self) -> NDArray[np.bool_]:
        """[videos, coarse] bool, the video-level coarse labels: those of the fine ones."""
        member = np.zeros((len(self.coarse_of_fine), len(self.coarse_names)), dtype=bool)
        member[np.arange(len(self.coarse_of_fine)), self.coarse_of_fine] = True
        return (self.fine_labels.astype(np.int64) @ member.astype(np.int64)) > 0


class FeatureSource(Protocol):
    """Features on disk, read a slice of videos at a time."""

    @property
    def path(self) -> Path:
        """The file or folder, for messages."""
        ...

    @property
    def num_clips(self) -> IntArray:
        """[videos] number of clips of each video."""
        ...

    @property
    def dim(self) -> int:
        """Feature size d."""
        ...

    def read(self, first: int, last: int) -> FloatArray:
        """Clips of videos `first` to `last - 1`, one after the other: [clips, dim]. Raises InputError."""
        ...

    def release(self, first: int, last: int) -> None:
        """Hears that these videos were copied: whatever memory they take may go, though they can be read again."""
        ...


@dataclass(frozen=True)
class Packed:
    """Features that a table holds already: rounded, found finite, all in one array `values` [clips, d]."""

    path: Path
    values: FloatArray
    num_clips: IntArray

    @property
    def dim(self) -> int:
        """Feature size d."""
        return self.values.shape[1]

    @cached_property
    def offsets(self) -> IntArray:
        """[videos + 1] first clip of each video."""
        return offsets_of(self.num_clips)

    def read(self, first: int, last: int) -> FloatArray:
        """A view of the clips of videos `first` to `last - 1`."""
        return self.values[self.offsets[first] : self.offsets[last]]

    def release(self, first: int, last: int) -> None:
        """Lets the pages go where the clips are mapped from disk."""
        drop_pages(self.values)


def offsets_of(num_clips: IntArray) -> IntArray:
    """[videos + 1] first clip of each video."""
    return np.concatenate([[0], np.cumsum(num_clips)]).astype(np.int64)


@dataclass(frozen=True)
class ClipTable:
    """All clips, packed.

    chunks: arrays [clips, d], float16 or float32, which together hold the clips of all videos in order; a video never
        straddles two chunks. One chunk in a single process; several where shared memory is filled piece by piece.
    offsets: [videos + 1] first clip of each video.
    """

    chunks: tuple[FloatArray, ...]
    offsets: IntArray
    annotations: Annotations

    @property
    def dim(self) -> int:
        """Feature size d."""
        return self.chunks[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Of all clips."""
        return sum(chunk.nbytes for chunk in self.chunks)

    @property
    def dtype(self) -> torch.dtype:
        """torch.float16 or torch.float32."""
        return self._tensors[0].dtype

    @property
    def num_clips(self) -> IntArray:
        """[videos] number of clips of each video."""
        return np.diff(self.offsets)

    @cached_property
    def _starts(self) -> IntArray:
        """[chunks + 1] first clip of each chunk."""
        return np.concatenate([[0], np.cumsum([len(chunk) for chunk in self.chunks])])

    @cached_property
    def _tensors(self) -> tuple[Tensor, ...]:
        """The chunks as tensors over the same memory: PyTorch converts float16 ten times as fast as NumPy."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # shared memory; never written
            return tuple(torch.from_numpy(chunk) for chunk in self.chunks)

    def _clips(self, first: int, last: int) -> Float[Tensor, "clips d"]:
        """View of the clips of one video or of a part of it, from the first clip to before the last."""
        chunk = int(np.searchsorted(self._starts, first, side="right")) - 1
        start = int(self._starts[chunk])
        return self._tensors[chunk][first - start : last - start]

    def gather(self, videos: IntArray, out: Float[Tensor, "most d"]) -> Float[Tensor, "clips d"]:
        """Writes the clips of some videos, one after the other, to the head of `out` and returns that part of it.

        They become of its dtype on the way: nothing is copied twice.
        """
        done = 0
        for first, last in zip(self.offsets[videos].tolist(), self.offsets[videos + 1].tolist(), strict=True):
            out[done : done + last - first].copy_(self._clips(first, last))
            done += last - first
        return out[:done]

    def sample(self, clips: IntArray, out: Float[Tensor, "most d"]) -> Float[Tensor, "clips d"]:
        """`gather` of single clips, given by their places in the table, ascending."""
        bounds = np.searchsorted(clips, self._starts).tolist()
        for tensor, start, first, last in zip(self._tensors, self._starts.tolist(), bounds, bounds[1:], strict=False):
            if first < last:
                out[first:last].copy_(tensor[torch.from_numpy(clips[first:last] - start)])
        return out[: len(clips)]

    def on(self, device: torch.device) -> Float[Tensor, "clips d"]:
        """All clips in a device's memory, where they stay: copied there at the first call of this process."""
        if device not in self._held:
            held = torch.empty(int(self._starts[-1]), self.dim, dtype=self.dtype, device=device)
            for first, chunk in zip(self._starts.tolist(), self._tensors, strict=False):
                held[first : first + len(chunk)].copy_(chunk)
            self._held[device] = held
        return self._held[device]

    def is_on(self, device: torch.device) -> bool:
        """Whether `on` was called for a device."""
        return device in self._held

    @cached_property
    def _held(self) -> dict[torch.device, Tensor]:
        return {}

    def places(self, videos: IntArray) -> IntArray:
        """Places in the table of all clips of some videos, one after the other."""
        size = self.num_clips[videos]
        return np.arange(size.sum()) + np.repeat(self.offsets[videos] - np.cumsum(size) + size, size)


def runs(sizes: IntArray, most: int) -> Iterator[tuple[int, int]]:
    """Consecutive ranges [first, last) whose sizes add up to at most `most`; a larger one stands alone."""
    first, total = 0, 0
    for i, size in enumerate(sizes):
        if i > first and total + size > most:
            yield first, i
            first, total = i, 0
        total += int(size)
    if first < len(sizes):
        yield first, len(sizes)


def pack(source: FeatureSource, annotations: Annotations, dtype: str, slice_clips: int = _SLICE_CLIPS) -> ClipTable:
    """The table of a source, in one array: the peak is one packed table and what a slice takes to read.

    What is packed already, as a cache is, is not copied. Raises InputError on what `read_checked` refuses.
    """
    offsets = offsets_of(source.num_clips)
    if isinstance(source, Packed) and source.values.dtype == dtype:
        return ClipTable((source.values,), offsets, annotations)
    values = np.empty((int(offsets[-1]), source.dim), dtype=dtype)
    for first, last in runs(source.num_clips, slice_clips):
        read_checked(source, first, last, dtype, annotations, values[offsets[first] : offsets[last]])
        source.release(first, last)
    return ClipTable((values,), offsets, annotations)


def slices(
    source: FeatureSource, annotations: Annotations, dtype: str, slice_clips: int = _SLICE_CLIPS
) -> Iterator[tuple[int, int, FloatArray]]:
    """`read_checked` over all videos, in runs of at most so many clips (or one video): first, last, clips.

    Every run is written into the same memory, unless it lies packed already: be done with one before asking for the
    next.
    """
    spans = list(runs(source.num_clips, slice_clips))
    most = max(int(source.num_clips[first:last].sum()) for first, last in spans)
    packed = isinstance(source, Packed) and source.values.dtype == dtype
    out = None if packed else np.empty((most, source.dim), dtype=dtype)
    for first, last in spans:
        yield first, last, read_checked(source, first, last, dtype, annotations, out)


def read_checked(
    source: FeatureSource, first: int, last: int, dtype: str, annotations: Annotations, out: FloatArray | None = None
) -> FloatArray:
    """Clips of videos `first` to `last - 1` in `dtype`. Raises InputError on NaN, infinity or float16 overflow.

    out: [at least as many clips, d] of `dtype` to write into. What is packed already was checked then, and is returned
    as it lies.
    """
    raw = source.read(first, last)
    if isinstance(source, Packed) and raw.dtype == dtype:
        return raw
    values = np.empty(raw.shape, dtype=dtype) if out is None else out[: len(raw)]
    rows = max(1, _BLOCK_BYTES // (source.dim * values.itemsize))
    for start in range(0, len(raw), rows):
        block = values[start : start + rows]
        _round(raw[start : start + rows], block)
        largest, beyond = _exponents(block)
        if largest == beyond:
            bad = start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
            raise _not_finite(source, annotations, first, bad, raw[bad], values[bad])
        if largest == 0 and first == start == 0 and raw.itemsize > block.itemsize and raw[:rows].any():
            raise _too_small(source, annotations, raw[:rows], block.dtype)
    return values


def _round(raw: FloatArray, out: FloatArray) -> None:
    if (raw.dtype, out.dtype) == (np.float32, np.float16):
        # Both round to the nearest, ties to even, but PyTorch takes a fifth of NumPy's time. It wants memory that can
        # be written, which a mapping can't.
        rows = max(1, _ALONE // raw.shape[1])
        for start in range(0, len(raw), rows):
            part = torch.from_numpy(np.array(raw[start : start + rows]))
            torch.from_numpy(out[start : start + rows]).copy_(part)
        return
    with np.errstate(over="ignore", invalid="ignore"):
        out[...] = raw


def _exponents(values: FloatArray) -> tuple[int, int]:
    """The largest exponent's bits: 0 where no value is a normal number; and those of NaN and infinity.

    By their bits, for NumPy's own `isfinite` takes ten times as long of float16.
    """
    ones = _EXPONENTS[values.itemsize]
    return int((values.view(ones.dtype) & ones).max()), int(ones)


def _not_finite(
    source: FeatureSource, annotations: Annotations, first: int, clip: int, raw: FloatArray, rounded: FloatArray
) -> InputError:
    value, dtype = raw[~np.isfinite(rounded)][0], rounded.dtype
    hint = "; data.dtype: float32 can hold it" if dtype == np.float16 and np.isfinite(np.float32(value)) else ""
    return InputError(f"{_clip(source, annotations, first, clip)}: must be finite in {dtype}, got {value}{hint}")


def _too_small(source: FeatureSource, annotations: Annotations, raw: FloatArray, dtype: np.dtype[Any]) -> InputError:
    """Where the first clips all lose their digits, or become 0: features of another scale."""
    hint = "; data.dtype: float32 can hold it" if dtype == np.float16 else ""
    rule = f"must have a value of at least {np.finfo(dtype).tiny:.1g} in {dtype}"
    return InputError(f"{_clip(source, annotations, 0, 0)} and on: {rule}, got at most {np.abs(raw).max():.3g}{hint}")


def _clip(source: FeatureSource, annotations: Annotations, first: int, clip: int) -> str:
    """The clip that is so many clips after the first one of video `first`."""
    starts = offsets_of(source.num_clips[first:])
    video = int(np.searchsorted(starts, clip, side="right")) - 1
    name = annotations.names[first + video]
    return f"{source.path}: data.features: video {first + video} ({name!r}), clip {clip - starts[video]}"


def packed_fingerprint(table: ClipTable) -> str:
    """`fingerprint` of what a table was packed from, without reading it again."""
    digest = described(table, table.annotations, table.chunks[0].dtype.name)
    for chunk in table.chunks:
        digest.update(chunk.data)
    return digest.hexdigest()


def described(source: FeatureSource | ClipTable, annotations: Annotations, dtype: str) -> "hashlib._Hash":
    """SHA-256 over all that `fingerprint` covers but the clips themselves."""
    digest = hashlib.sha256()
    header = (dtype, source.dim, annotations.num_train, annotations.names)
    digest.update(repr((*header, annotations.fine_names, annotations.coarse_names)).encode())
    for array in (
        source.num_clips, annotations.clips_per_s, annotations.segment_offsets, annotations.segments,
        annotations.segment_fine, annotations.fine_labels, annotations.coarse_of_fine,
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest


def fingerprint(source: FeatureSource, annotations: Annotations, dtype: str, slice_clips: int = _SLICE_CLIPS) -> str:
    """SHA-256 over annotations and features as kept in memory; reads every clip once, as `read_checked` does."""
    digest = described(source, annotations, dtype)
    for _, _, values in slices(source, annotations, dtype, slice_clips):
        digest.update(values.data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Split:
    """Which videos train and which score: indices into the table."""

    train: IntArray
    validation: IntArray


def has_truth(annotations: Annotations, videos: IntArray) -> bool:
    """Whether anything could be scored on some videos."""
    return bool(np.diff(annotations.segment_offsets)[videos].any())


def truth(annotations: Annotations, videos: IntArray) -> Segments:
    """Ground-truth segments of some videos; `video` counts from 0 in the order given."""
    counts = np.diff(annotations.segment_offsets)[videos]
    first = annotations.segment_offsets[videos]
    index = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    times = annotations.segments[index]
    return Segments(
        np.repeat(np.arange(len(videos)), counts), annotations.segment_fine[index], times[:, 0], times[:, 1]
    )


def check_truth(annotations: Annotations, videos: IntArray) -> None:
    """Raises InputError where nothing could be scored on some videos."""
    if not has_truth(annotations, videos):
        rule = "must choose videos with a ground-truth segment"
        raise InputError(f"data.validation: {rule}, got {len(videos)} videos without any")


def split(annotations: Annotations, data: Data) -> Split:
    """The official split, or one that holds out a part of the training videos.

    Raises InputError when nothing can be held out.
    """
    training = np.arange(annotations.num_train)
    if not isinstance(data.validation, Holdout):
        if annotations.num_train == len(annotations.names):
            key = "train_videos" if data.format == "haan" else "annotations"
            raise InputError(
                f"data.{key}: must leave a video for validation: official, got {annotations.num_train} of "
                f"{len(annotations.names)} videos"
            )
        return Split(training, np.arange(annotations.num_train, len(annotations.names)))
    held = _held_out(annotations, data.validation)
    if not held:
        raise InputError(
            f"data.validation.holdout: must hold out at least one video and keep every class in training, got "
            f"{data.validation.holdout} of {annotations.num_train} videos"
        )
    validation = np.array(sorted(held))
    return Split(np.setdiff1d(training, validation), validation)


def _held_out(annotations: Annotations, holdout: Holdout) -> list[int]:
    """round(f x training videos) at random, fewer where a class would lose its last training video.

    Where `classes` is `both`, the first of them show every class that has two training videos, the rarest first, as far
    as so many videos can.
    """
    labels = annotations.fine_labels[: annotations.num_train]
    order = np.random.default_rng(holdout.seed).permutation(annotations.num_train).tolist()
    wanted, left = round(holdout.holdout * annotations.num_train), labels.sum(axis=0)
    held: list[int] = []

    def hold_first(videos: Iterable[int], most: int) -> None:
        for video in videos:
            if len(held) == min(wanted, most):
                break
            if video not in held and (left[labels[video]] > 1).all():
                left[labels[video]] -= 1
                held.append(video)

    if holdout.classes == "both":
        for fine in np.argsort(left, kind="stable"):
            if not labels[held, fine].any():
                hold_first(np.array(order)[labels[order, fine]].tolist(), len(held) + 1)
    hold_first(order, wanted)
    return held
