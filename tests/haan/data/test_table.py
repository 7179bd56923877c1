"""The packed table, its fingerprint, and the splits."""

import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from haan.config import Data, Holdout
from haan.data.haan_format import open_haan
from haan.data.table import (
    Annotations,
    ClipTable,
    Packed,
    fingerprint,
    pack,
    packed_fingerprint,
    read_checked,
    runs,
    split,
)
from haan.errors import InputError
from tests.haan.data.tiny import LABELS, NAMES, RATIOS, SEGMENTS, changed, features, objects, tiny

DATA = Data(root="none", features="none", train_videos=1)


@dataclass(frozen=True)
class Source:
    """Features in memory."""

    matrices: list[NDArray[Any]]
    path: Path = Path("memory")

    @property
    def num_clips(self) -> NDArray[np.int64]:
        return np.array([len(matrix) for matrix in self.matrices], dtype=np.int64)

    @property
    def dim(self) -> int:
        return self.matrices[0].shape[1]

    def read(self, first: int, last: int) -> NDArray[Any]:
        return np.concatenate(self.matrices[first:last])

    def release(self, first: int, last: int) -> None:
        """Nothing is kept."""


def annotations(fine_labels: NDArray[np.bool_], num_train: int) -> Annotations:
    videos, classes = fine_labels.shape
    return Annotations(
        names=tuple(f"v{i}" for i in range(videos)),
        clips_per_s=np.ones(videos),
        num_train=num_train,
        segment_offsets=np.zeros(videos + 1, dtype=np.int64),
        segments=np.zeros((0, 2)),
        segment_fine=np.zeros(0, dtype=np.int64),
        fine_labels=fine_labels,
        coarse_of_fine=np.zeros(classes, dtype=np.int64),
        fine_names=tuple(map(str, range(classes))),
        coarse_names=("0",),
    )


def of(videos: int) -> Annotations:
    return annotations(np.ones((videos, 1), dtype=bool), videos)


@pytest.mark.parametrize("slice_clips", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_packing_puts_the_clips_of_all_videos_one_after_the_other(slice_clips: int, dtype: str) -> None:
    matrices = [np.array([[1.0, 2]]), np.array([[3.0, 4], [5, 6], [7, 8]]), np.array([[9.0, 10], [11, 12]])]
    table = pack(Source(matrices), of(3), dtype, slice_clips)
    (chunk,) = table.chunks
    assert chunk.dtype == np.dtype(dtype)
    assert chunk.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]]
    assert table.offsets.tolist() == [0, 1, 4, 6] and table.offsets.dtype == np.int64
    assert table.num_clips.tolist() == [1, 3, 2] and table.dim == 2
    batch = table.gather(np.array([2, 0]), torch.empty(4, 2))
    assert batch.tolist() == [[9, 10], [11, 12], [1, 2]] and batch.dtype == torch.float32
    assert table.places(np.array([2, 0])).tolist() == [4, 5, 0]
    assert table.sample(np.array([0, 2, 5]), torch.empty(4, 2)).tolist() == [[1, 2], [5, 6], [11, 12]]


@pytest.mark.parametrize("form", ["array", "objects", "folder"])
@pytest.mark.parametrize(
    ("value", "dtype", "shown"),
    [
        (np.nan, "float16", "nan"), (np.inf, "float32", "inf"), (-np.inf, "float16", "-inf"),
        (70000.0, "float16", "70000.0; data.dtype: float32 can hold it"),
        (-70000.0, "float16", "-70000.0; data.dtype: float32 can hold it"), (np.nan, "float32", "nan"),
    ],
)  # fmt: skip
def test_what_is_not_finite_is_named_with_video_and_clip(
    tmp_path: Path, form: str, value: float, dtype: str, shown: str
) -> None:
    array = features()
    array[3, 2, 5] = value
    content = {"array": array, "objects": objects(list(array)), "folder": dict(zip(NAMES, array, strict=True))}[form]
    source, found, _ = open_haan(tiny(tmp_path, features=content))
    expected = f"{source.path}: data.features: video 3 ('v3'), clip 2: must be finite in {dtype}, got {shown}"
    for slice_clips in (1, 7, 15, 100):
        for use in (pack, fingerprint):
            with pytest.raises(InputError) as error:
                use(source, found, dtype, slice_clips)
            assert error.value.messages == [expected]


def test_an_overflow_names_the_value_that_was_received() -> None:
    with pytest.raises(InputError, match=r"must be finite in float16, got 70000"):
        pack(Source([np.array([[70000.0]])]), of(1), "float16")


def test_a_value_that_is_not_finite_is_named_with_its_file(tmp_path: Path) -> None:
    array = features()
    array[3, 2, 5] = np.nan
    source, found, _ = open_haan(tiny(tmp_path, features=array))
    with pytest.raises(InputError, match=r"features\.npy: "):
        pack(source, found, "float16")


def test_features_that_float16_has_no_digits_for_are_refused() -> None:
    """All of them became 0, and a training went on."""
    small, zeros = np.full((2, 4), 1e-6, dtype=np.float32), np.zeros((2, 4), dtype=np.float32)
    rule = r"clip 0 and on: must have a value of at least 6e-05 in float16, got at most 1e-06; data.dtype: float32 can"
    for use in (pack, fingerprint):
        with pytest.raises(InputError, match=rule):
            use(Source([small, small]), of(2), "float16")
    for first, dtype in ((small, "float32"), (zeros, "float16"), (small.astype(np.float16), "float16")):
        assert pack(Source([first, first]), of(2), dtype).chunks[0].tolist() == [*first.tolist(), *first.tolist()]
    assert pack(Source([zeros + 1, small]), of(2), "float16").chunks[0][:2].tolist() == (zeros + 1).tolist()


def test_large_finite_values_pass_though_their_sum_overflows() -> None:
    matrix = np.full((2, 4), 3e38, dtype=np.float32)
    assert pack(Source([matrix]), of(1), "float32").chunks[0].tolist() == matrix.tolist()
    matrix = np.full((2, 4), 65504, dtype=np.float16)
    assert pack(Source([matrix]), of(1), "float16").chunks[0].tolist() == matrix.tolist()


def test_infinities_that_cancel_are_found() -> None:
    with pytest.raises(InputError, match="clip 0: must be finite in float32, got inf"):
        pack(Source([np.array([[np.inf, -np.inf]])]), of(1), "float32")


def test_rounding_is_numpys_own_at_every_float16_and_between() -> None:
    """All finite float16, each midpoint of two, and its neighbours in float32: ties go to even, tiny ones are kept."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[:-1] + halves[1:]) / 2
    around = [np.nextafter(middles, np.float32(end)) for end in (0, np.inf)]
    values = np.concatenate([halves, middles, *around, np.linspace(0, 1e-7, 999, dtype=np.float32)])
    values = np.concatenate([values, -values, np.zeros(-2 * len(values) % 7, dtype=np.float32)]).reshape(-1, 7)
    found = read_checked(Source([values]), 0, 1, "float16", of(1))
    np.testing.assert_array_equal(found.view(np.uint16), values.astype(np.float16).view(np.uint16))


@pytest.mark.parametrize(("dtype", "bits"), [("float16", np.uint16), ("float32", np.uint32)])
@settings(deadline=None)
@given(data=st.data())
def test_a_bad_value_is_found_wherever_it_stands(dtype: str, bits: Any, data: st.DataObject) -> None:
    """Any NaN or infinity by its bits, in a slice of several blocks; beside the largest finite values it stands out."""
    rows, dim = 300, 2048
    limits = np.finfo(dtype)
    values = np.full((rows, dim), limits.max, dtype=dtype)
    values[::2] = limits.min
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, dim - 1))
    exponent = int(np.array(np.inf, dtype=dtype).view(bits))
    bad = exponent | data.draw(st.integers(0, exponent & -exponent) | st.just(0)) % (exponent & -exponent)
    sign = data.draw(st.sampled_from([0, 1 << (8 * values.itemsize - 1)]))
    read_checked(Source([values]), 0, 1, dtype, of(1))
    values.view(bits)[row, column] = bad | sign
    with pytest.raises(InputError, match=rf"clip {row}: must be finite in {dtype}, got (-?inf|nan)"):
        read_checked(Source([values]), 0, 1, dtype, of(1))


def test_what_is_packed_is_taken_as_it_is() -> None:
    matrices = [np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((1, 2), dtype=np.float32)]
    table = pack(Source(matrices), of(2), "float16")
    packed = Packed(Path("memory"), table.chunks[0], table.num_clips)
    assert pack(packed, of(2), "float16").chunks[0] is packed.values
    assert packed.read(0, 2).base is packed.values.base or packed.read(0, 2).base is packed.values
    assert packed.read(1, 2).tolist() == [[1.0, 1.0]] and packed.dim == 2
    assert fingerprint(packed, of(2), "float16") == fingerprint(Source(matrices), of(2), "float16")
    assert pack(packed, of(2), "float32").chunks[0].dtype == np.float32


def test_packing_a_mapped_array_takes_one_table_and_a_slice(tmp_path: Path) -> None:
    """Of 64 MiB on disk; tracemalloc counts NumPy's allocations and not what is mapped."""
    videos, clips, dim, slice_clips = 64, 256, 1024, 1024
    names = [f"v{i}" for i in range(videos)]
    data = tiny(
        tmp_path, train_videos=1, names=names, labels=[[[0, 0]]] * videos, segments=[[[0, 1]]] * videos,
        ratios=np.ones(videos), mapping={"0": 0}, classes=None, features=None,
    )  # fmt: skip
    mapped = np.lib.format.open_memmap(
        tmp_path / "features.npy", mode="w+", dtype=np.float32, shape=(videos, clips, dim)
    )
    mapped.flush()
    source, found, _ = open_haan(data)
    table_bytes, slice_bytes = videos * clips * dim * 2, slice_clips * dim * 2
    tracemalloc.start()
    try:
        table = pack(source, found, "float16", slice_clips)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.chunks[0].nbytes == table_bytes
    assert table_bytes <= peak < table_bytes + 1.5 * slice_bytes  # one more slice would be 2


@st.composite
def tables(draw: st.DrawFn) -> tuple[ClipTable, ClipTable]:
    """The same clips in one chunk and in several."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=12))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    values = np.arange(offsets[-1] * 2, dtype=np.float16).reshape(-1, 2)
    cuts = sorted(draw(st.sets(st.sampled_from(range(1, len(sizes))))) if len(sizes) > 1 else [])
    chunks = tuple(np.split(values, offsets[cuts]))
    return ClipTable((values,), offsets, of(len(sizes))), ClipTable(chunks, offsets, of(len(sizes)))


@given(pair=tables(), data=st.data())
def test_several_chunks_give_what_one_gives(pair: tuple[ClipTable, ClipTable], data: st.DataObject) -> None:
    one, several = pair
    videos = len(one.num_clips)
    assert (one.dim, one.num_clips.tolist()) == (several.dim, several.num_clips.tolist())
    chosen = np.array(data.draw(st.lists(st.integers(0, videos - 1), max_size=10)), dtype=np.int64)
    num_clips = int(one.num_clips[chosen].sum())
    values = one.chunks[0]
    expected = np.concatenate([np.zeros((0, 2)), *(values[one.offsets[v] : one.offsets[v + 1]] for v in chosen)])
    single = np.array(sorted(data.draw(st.sets(st.integers(0, len(values) - 1)))), dtype=np.int64)
    for table in pair:
        for dtype in (torch.float32, torch.float16):  # a CPU's and a GPU's buffer
            batch = table.gather(chosen, torch.empty(num_clips + 3, 2, dtype=dtype))
            assert batch.dtype == dtype
            np.testing.assert_array_equal(batch.numpy(), expected)
            picked = table.sample(single, torch.empty(len(single) + 3, 2, dtype=dtype))
            np.testing.assert_array_equal(picked.numpy(), values[single])
        np.testing.assert_array_equal(values[table.places(chosen)], expected)


def test_a_video_outside_the_table_is_no_empty_view() -> None:
    table = pack(Source([np.ones((2, 2))]), of(1), "float16")
    with pytest.raises(IndexError):
        table.gather(np.array([1]), torch.empty(9, 2))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_memory_that_must_not_be_written_is_read_in_place(dtype: str) -> None:
    # As Ray's object store gives it. PyTorch would warn, and warnings are errors here.
    table = pack(Source([np.ones((2, 2))]), of(1), dtype)
    (chunk,) = table.chunks
    chunk.flags.writeable = False
    (tensor,) = table._tensors
    assert tensor.data_ptr() == chunk.ctypes.data and str(table.dtype) == f"torch.{dtype}"


@given(sizes=st.lists(st.integers(0, 9), max_size=20), most=st.integers(1, 15))
def test_runs_are_consecutive_full_and_no_larger_than_they_may_be(sizes: list[int], most: int) -> None:
    found = list(runs(np.array(sizes, dtype=np.int64), most))
    assert [i for first, last in found for i in range(first, last)] == list(range(len(sizes)))
    for first, last in found:
        assert first < last
        assert sum(sizes[first:last]) <= most or last == first + 1
        if last < len(sizes):
            assert sum(sizes[first : last + 1]) > most, "a run ends only where the next would be too much"


def mark(folder: Path, dtype: str = "float16", slice_clips: int = 65536, **contents: Any) -> str:
    source, found, _ = open_haan(tiny(folder, **contents))
    return fingerprint(source, found, dtype, slice_clips)


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    array = features()
    own = mark(tmp_path / "a")
    assert len(own) == 64
    assert own == mark(tmp_path / "b")
    assert own == mark(tmp_path / "c", features=objects(list(array)))
    assert own == mark(tmp_path / "d", features=dict(zip(NAMES, array, strict=True)))
    assert own == mark(tmp_path / "e", slice_clips=1) == mark(tmp_path / "f", slice_clips=7)
    assert own == mark(tmp_path / "g", features=array.astype(np.float64)), "as kept in memory"


CHANGES: dict[str, dict[str, Any]] = {
    "a feature": {"features": np.where(np.arange(features().size).reshape(features().shape) == 77, 1e3, features())},
    "two videos' features swapped": {"features": features()[[1, 0, 2, 3, 4, 5]]},
    "a label": {"labels": changed(LABELS, 4, [[0, 1]])},
    "a segment": {"segments": changed(SEGMENTS, 4, [[0.0, 4.9]])},
    "a label without its segment": {"labels": changed(LABELS, 4, []), "segments": changed(SEGMENTS, 4, [])},
    "a video's name": {"names": changed(NAMES, 4, "v9")},
    "a class's name": {"classes": {"fine": ["run", "jump", "read", "draw"], "coarse": ["sport", "office"]}},
    "a coarse class's name": {"classes": {"fine": ["run", "jump", "read", "write"], "coarse": ["sport", "home"]}},
    "clips per second": {"ratios": np.array([*RATIOS[:5], 0.25])},
    "training videos": {"train_videos": 5},
    "clips": {"features": objects([features()[0][:4], *features()[1:]])},
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_fingerprint_changes_with(tmp_path: Path, name: str) -> None:
    assert mark(tmp_path / "a") != mark(tmp_path / "b", **CHANGES[name])


def test_the_fingerprint_changes_with_the_dtype_and_the_hierarchy(tmp_path: Path) -> None:
    source, found, _ = open_haan(tiny(tmp_path))
    own = fingerprint(source, found, "float16")
    assert own != fingerprint(source, found, "float32")
    assert own != fingerprint(source, replace(found, coarse_of_fine=np.array([0, 1, 0, 1])), "float16")


def test_the_fingerprint_of_a_packed_table_is_that_of_its_source(tmp_path: Path) -> None:
    for dtype in ("float16", "float32"):
        source, found, _ = open_haan(tiny(tmp_path / dtype))
        assert packed_fingerprint(pack(source, found, dtype)) == fingerprint(source, found, dtype)


def test_the_fingerprint_tells_where_a_video_ends() -> None:
    rows = np.arange(12.0).reshape(6, 2)
    marks = {
        fingerprint(Source([rows[:cut], rows[cut:]]), of(2), "float16") for cut in (1, 2, 3)
    } | {fingerprint(Source([rows[:1].reshape(-1, 1), rows[1:].reshape(-1, 1)]), of(2), "float16")}  # fmt: skip
    assert len(marks) == 4


def test_reading_checked_keeps_the_dtype_asked_for() -> None:
    assert read_checked(Source([np.ones((2, 2))]), 0, 1, "float16", of(1)).dtype == np.float16


@st.composite
def labelled(draw: st.DrawFn) -> Annotations:
    """Videos with labels; every class stands in a training video."""
    classes, train, rest = draw(st.integers(1, 5)), draw(st.integers(1, 15)), draw(st.integers(0, 4))
    row = st.lists(st.booleans(), min_size=classes, max_size=classes)
    labels = np.array([draw(row) for _ in range(train + rest)], dtype=bool)
    for j in range(classes):
        labels[draw(st.integers(0, train - 1)), j] = True
    return annotations(labels, train)


@given(
    found=labelled(),
    holdout=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
    classes=st.sampled_from(["train", "both"]),
)
def test_a_holdout_keeps_every_class_in_training(
    found: Annotations, holdout: float, seed: int, classes: Literal["train", "both"]
) -> None:
    data = replace(DATA, validation=Holdout(holdout=holdout, seed=seed, classes=classes))
    wanted = round(holdout * found.num_train)
    left = found.fine_labels[: found.num_train].sum(axis=0)
    spare = [v for v in range(found.num_train) if (left[found.fine_labels[v]] > 1).all()]
    try:
        parts = split(found, data)
    except InputError as error:
        assert wanted == 0 or not spare
        rule = "data.validation.holdout: must hold out at least one video and keep every class in training"
        assert error.messages == [f"{rule}, got {holdout} of {found.num_train} videos"]
        return
    both = np.concatenate([parts.train, parts.validation])
    assert sorted(both) == list(range(found.num_train)), "official validation videos stay out"
    assert (np.diff(parts.train) > 0).all() and (np.diff(parts.validation) > 0).all()
    assert found.fine_labels[parts.train].any(axis=0).all()
    assert 1 <= len(parts.validation) <= wanted
    if len(parts.validation) < wanted:  # only where no other video can be spared
        left = found.fine_labels[parts.train].sum(axis=0)
        assert not any((left[found.fine_labels[v]] > 1).all() for v in parts.train)
    again = split(found, data)
    np.testing.assert_array_equal(again.train, parts.train)
    np.testing.assert_array_equal(again.validation, parts.validation)


def test_a_holdout_is_random_by_its_seed_and_takes_the_share_asked_for() -> None:
    found = of(100)
    parts = [split(found, replace(DATA, validation=Holdout(holdout=0.2, seed=seed))) for seed in range(5)]
    assert all((len(p.train), len(p.validation)) == (80, 20) for p in parts)
    assert len({tuple(p.validation) for p in parts}) == 5


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=6), room=st.integers(0, 5), seed=st.integers(0, 99))
def test_a_holdout_shows_every_class_of_two_videos_where_it_is_asked_to(
    counts: list[int], room: int, seed: int
) -> None:
    """Videos of one class each, so that which can be shown is plain."""
    labels = np.repeat(np.eye(len(counts), dtype=bool), counts, axis=0)
    found, least = annotations(labels, len(labels)), sum(count > 1 for count in counts)
    wanted = min(least + room, len(labels) - 1)
    if not least:
        return
    held = split(found, replace(DATA, validation=Holdout(holdout=wanted / len(labels), seed=seed, classes="both")))
    shown = labels[held.validation].sum(axis=0)
    assert [bool(one) for one in shown] == [count > 1 for count in counts]
    assert len(held.validation) == min(wanted, len(labels) - len(counts))
    if least > 1:  # fewer than there are such classes: no class twice, the rarest first
        few = split(found, replace(DATA, validation=Holdout(holdout=1 / len(labels), seed=seed, classes="both")))
        (only,) = np.flatnonzero(labels[few.validation].sum(axis=0))
        assert counts[only] == min(count for count in counts if count > 1)


def test_the_official_split_is_that_of_the_files() -> None:
    parts = split(annotations(np.ones((6, 1), dtype=bool), 4), replace(DATA, validation="official"))
    assert parts.train.tolist() == [0, 1, 2, 3] and parts.validation.tolist() == [4, 5]


def test_an_official_split_without_validation_videos_is_refused() -> None:
    with pytest.raises(InputError) as error:
        split(of(6), replace(DATA, validation="official"))
    rule = "data.train_videos: must leave a video for validation: official"
    assert error.value.messages == [f"{rule}, got 6 of 6 videos"]


def test_a_holdout_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match=r"must hold out at least one video .*, got 0\.1 of 4 videos"):
        split(of(4), replace(DATA, validation=Holdout(holdout=0.1)))


def test_coarse_labels_are_those_of_the_fine_ones(tmp_path: Path) -> None:
    found = open_haan(tiny(tmp_path))[1]
    for video in range(len(found.names)):
        expected = {int(found.coarse_of_fine[j]) for j in np.flatnonzero(found.fine_labels[video])}
        assert set(np.flatnonzero(found.coarse_labels[video])) == expected
