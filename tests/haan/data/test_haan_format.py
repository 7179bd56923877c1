"""The authors' layout: every check names file and array, every repair keeps what it says, all feature forms agree."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haan.config import Data
from haan.data.haan_format import open_haan
from haan.data.table import fingerprint, pack
from haan.errors import InputError, MissingDataError
from tests.haan.data.tiny import (
    CLIPS,
    DIM,
    FILES,
    LABELS,
    MAPPING,
    NAMES,
    RATIOS,
    SEGMENTS,
    changed,
    features,
    objects,
    tiny,
)
from tests.paths import SHARED
from tests.planted import load


def message(data: Data) -> str:
    with pytest.raises(InputError) as error:
        load(data)
    (text,) = error.value.messages
    return text.replace(data.root + "/", "")


def test_a_sound_data_set_opens_as_it_was_written(tmp_path: Path) -> None:
    table, warnings = load(tiny(tmp_path))
    found = table.annotations
    assert warnings == ()
    assert found.names == tuple(NAMES) and found.num_train == 4
    assert found.clips_per_s.tolist() == RATIOS
    assert found.segment_offsets.tolist() == [0, 2, 3, 5, 8, 9, 10]
    assert found.segments.tolist() == [pair for video in SEGMENTS for pair in video]
    assert found.segment_fine.tolist() == [fine for video in LABELS for _, fine in video]
    assert found.fine_labels.astype(int).tolist() == [
        [1, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1],
    ]  # fmt: skip
    assert found.coarse_labels.astype(int).tolist() == [[1, 0], [0, 1], [1, 1], [1, 1], [1, 0], [0, 1]]
    assert found.coarse_of_fine.tolist() == [0, 0, 1, 1]
    assert (found.fine_names, found.coarse_names) == (("run", "jump", "read", "write"), ("sport", "office"))
    np.testing.assert_array_equal(table.chunks[0], features().reshape(-1, DIM))


def test_without_classes_json_classes_are_named_by_their_index(tmp_path: Path) -> None:
    found = open_haan(tiny(tmp_path, classes=None))[1]
    assert found.fine_names == ("0", "1", "2", "3") and found.coarse_names == ("0", "1")


@pytest.mark.parametrize("names", [objects(NAMES), NAMES, np.array(NAMES, dtype="<U40")])
def test_names_may_be_an_object_array_or_one_of_text(tmp_path: Path, names: Any) -> None:
    assert open_haan(tiny(tmp_path, names=names))[1].names == tuple(NAMES)


def test_a_regular_array_of_pairs_reads_like_an_object_array(tmp_path: Path) -> None:
    labels = [[[0, 0], [0, 1]], [[1, 2], [1, 3]], [[0, 0], [0, 1]], [[1, 2], [1, 3]], [[0, 0]] * 2, [[0, 1]] * 2]
    segments = [[[0.0, 1.0], [1.0, 2.0]]] * 6
    plain = open_haan(tiny(tmp_path / "a", labels=np.array(labels), segments=np.array(segments)))[1]
    ragged = open_haan(tiny(tmp_path / "b", labels=labels, segments=segments))[1]
    np.testing.assert_array_equal(plain.segments, ragged.segments)
    np.testing.assert_array_equal(plain.segment_fine, ragged.segment_fine)


def test_a_video_may_have_no_segment(tmp_path: Path) -> None:
    found = open_haan(tiny(tmp_path, labels=changed(LABELS, 4, []), segments=changed(SEGMENTS, 4, [])))[1]
    assert found.segment_offsets.tolist() == [0, 2, 3, 5, 8, 8, 9]
    assert not found.fine_labels[4].any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_the_three_feature_forms_give_identical_tables(tmp_path: Path, dtype: str) -> None:
    array = features().astype(dtype)
    forms = {"array": array, "objects": objects(list(array)), "folder": dict(zip(NAMES, array, strict=True))}
    opened = {name: load(tiny(tmp_path / name, features=form))[0] for name, form in forms.items()}
    for table in opened.values():
        np.testing.assert_array_equal(table.chunks[0], features().reshape(-1, DIM))
        assert table.chunks[0].dtype == np.float16
        assert table.offsets.tolist() == [0, 5, 10, 15, 20, 25, 30]
    marks = set()
    for name in forms:
        source, annotations, _ = open_haan(Data(root=str(tmp_path / name), features=FILES["features"], train_videos=4))
        marks.add(fingerprint(source, annotations, "float16"))
    assert len(marks) == 1


def test_a_regular_array_stays_on_disk_until_it_is_read(tmp_path: Path) -> None:
    source, _, _ = open_haan(tiny(tmp_path))
    part = source.read(1, 3)
    owner: Any = part
    while not isinstance(owner, np.memmap):
        owner = owner.base
        assert owner is not None, "a copy was made"
    np.testing.assert_array_equal(part, features()[1:3].reshape(-1, DIM))


@pytest.mark.parametrize("form", ["objects", "folder"])
def test_videos_may_differ_in_length(tmp_path: Path, form: str) -> None:
    matrices = [features()[i, : 1 + i % CLIPS] for i in range(6)]
    content = objects(matrices) if form == "objects" else dict(zip(NAMES, matrices, strict=True))
    table, _ = load(tiny(tmp_path, features=content))
    assert table.num_clips.tolist() == [1, 2, 3, 4, 5, 1]
    for video, matrix in enumerate(matrices):
        np.testing.assert_array_equal(table.chunks[0][table.places(np.array([video]))], matrix)


@pytest.mark.parametrize("form", ["array", "objects", "folder"])
def test_what_was_packed_leaves_the_memory_and_can_be_read_again(tmp_path: Path, form: str) -> None:
    array = features()
    content = {"array": array, "objects": objects(list(array)), "folder": dict(zip(NAMES, array, strict=True))}[form]
    source, annotations, _ = open_haan(tiny(tmp_path, features=content))
    once = pack(source, annotations, "float16", slice_clips=10).chunks[0]
    assert form != "objects" or getattr(source, "matrices") == [None] * 6  # noqa: B009  # only this form has them
    np.testing.assert_array_equal(source.read(4, 6), array[4:].reshape(-1, DIM))
    np.testing.assert_array_equal(pack(source, annotations, "float16").chunks[0], once)


def test_matrices_that_changed_before_they_are_read_again_are_refused(tmp_path: Path) -> None:
    source, annotations, _ = open_haan(tiny(tmp_path, features=objects(list(features()))))
    pack(source, annotations, "float16")
    np.save(tmp_path / FILES["features"], objects([features()[0][:4], *features()[1:]]), allow_pickle=True)
    with pytest.raises(InputError, match=r"features\.npy: data.features: must stay as it is while it is used"):
        source.read(0, 1)


WARNING = (
    "segments.npy: of 10 segments {cut} were cut to their video (they start before it or end more than a clip after "
    "it) and {dropped} dropped (end <= start, or outside the video); their labels stay"
)


@pytest.mark.parametrize(
    ("segment", "kept", "cut", "dropped"),
    [
        # Video 4 lasts 5 s, a clip 1 s.
        ([1.0, 5.5], [1.0, 5.5], 0, 0),  # into the last, partial clip: as it is
        ([1.0, 6.0], [1.0, 6.0], 0, 0),  # exactly a clip late: as it is
        ([1.0, 6.1], [1.0, 5.0], 1, 0),
        ([-0.5, 2.0], [0.0, 2.0], 1, 0),
        ([-3.0, 99.0], [0.0, 5.0], 1, 0),
        ([2.0, 2.0], None, 0, 1),
        ([3.0, 2.0], None, 0, 1),
        ([7.0, 9.0], None, 0, 1),  # behind the video: cut, it would end before it starts
        ([5.0, 9.0], None, 0, 1),
        ([5.0, 5.5], None, 0, 1),  # in the partial clip alone, which has no features
        ([-3.0, -1.0], None, 0, 1),
        ([-3.0, 0.0], None, 0, 1),
        ([9.0, -1.0], None, 0, 1),
    ],
)
def test_segments_that_make_no_sense_are_repaired(
    tmp_path: Path, segment: list[float], kept: list[float] | None, cut: int, dropped: int
) -> None:
    data = tiny(tmp_path, segments=changed(SEGMENTS, 4, [segment]))
    _, found, warnings = open_haan(data)
    expected = changed(SEGMENTS, 4, [kept] if kept else [])
    assert found.segments.tolist() == [pair for video in expected for pair in video]
    assert found.segment_offsets[5] - found.segment_offsets[4] == (kept is not None)
    assert found.fine_labels[4].tolist() == [True, False, False, False], "the label stays a label of the video"
    assert len(found.segment_fine) == len(found.segments)
    note = WARNING.format(cut=cut, dropped=dropped)
    assert warnings == ((f"{tmp_path}/{note}",) if cut or dropped else ())


def test_a_dropped_segment_keeps_its_class_in_training(tmp_path: Path) -> None:
    labels = [[[0, 0], [0, 1]], [[1, 2]], [[1, 3]], [[1, 2]], [], []]
    segments = [[[0, 1], [4, 3]], [[0, 1]], [[0, 1]], [[0, 1]], [], []]
    _, found, warnings = open_haan(tiny(tmp_path, labels=labels, segments=segments))
    assert found.fine_labels[0].tolist() == [True, True, False, False] and len(warnings) == 1
    assert found.segment_fine.tolist() == [0, 2, 3, 2]


F = features()


def with_value(at: tuple[int, ...], value: float) -> np.ndarray:
    array = F.copy()
    array[at] = value
    return array


def matrices(**replaced: Any) -> np.ndarray:
    return objects([replaced.get(name, matrix) for name, matrix in zip(NAMES, F, strict=True)])


def folder(**replaced: Any) -> dict[str, Any]:
    return dict(zip(NAMES, F, strict=True)) | replaced


BAD: dict[str, tuple[dict[str, Any], str | None]] = {
    "no video": ({"names": np.array([], dtype="<U2")}, "video_names.npy: video_names: must hold a video, got none"),
    "repeated name": (
        {"names": ["v0", "v1", "v2", "v1", "v4", "v5"]},
        "video_names.npy: video_names: must differ, got 'v1' for videos 1 and 3",
    ),
    "mapping is a list": (
        {"mapping": [0, 0, 1, 1]},
        "fine_to_coarse_mappings.json: must map the fine classes '0', '1', ... to coarse ones, got [0, 0, 1, 1]",
    ),
    "mapping with a gap": (
        {"mapping": {"0": 0, "2": 1}},
        "fine_to_coarse_mappings.json: must map the fine classes '0', '1', ... to coarse ones, got {'0': 0, '2': 1}",
    ),
    "empty mapping": (
        {"mapping": {}},
        "fine_to_coarse_mappings.json: must map the fine classes '0', '1', ... to coarse ones, got {}",
    ),
    "coarse class without a fine one": (
        {"mapping": {"0": 0, "1": 0, "2": 2, "3": 2}},
        "fine_to_coarse_mappings.json: must map to coarse classes 0, 1, ..., each used, got ['0', '2']",
    ),
    "coarse class below 0": (
        {"mapping": {"0": 0, "1": 0, "2": -1, "3": 1}},
        "fine_to_coarse_mappings.json: must map to coarse classes 0, 1, ..., each used, got ['-1', '0', '1']",
    ),
    "coarse class true": (
        {"mapping": {"0": 0, "1": True}},
        "fine_to_coarse_mappings.json: must map to coarse classes 0, 1, ..., each used, got ['0', 'True']",
    ),
    "too few class names": (
        {"classes": {"fine": ["a", "b"], "coarse": ["c", "d"]}},
        "classes.json: fine: must be a list of 4 names, got 2 entries",
    ),
    "class names missing": (
        {"classes": {"fine": list("abcd")}},
        "classes.json: coarse: must be a list of 2 names, got None",
    ),
    "class names equal": (
        {"classes": {"fine": list("abca"), "coarse": ["c", "d"]}},
        "classes.json: fine: must be names that differ, got 3 different of 4",
    ),
    "class names a list": ({"classes": ["a"]}, "classes.json: fine: must be a list of 4 names, got None"),
    "too few ratios": (
        {"ratios": np.ones(5)},
        "sec2clip_ratios.npy: sec2clip_ratios: must hold one entry a video (6 in video_names.npy), got 5",
    ),
    "ratio 0": (
        {"ratios": np.array([1, 1, 0, 1, 1, 1.0])},
        "sec2clip_ratios.npy: sec2clip_ratios: video 2 ('v2'): must be finite and > 0, got 0.0",
    ),
    "ratio NaN": (
        {"ratios": np.array([1, 1, 1, 1, 1, np.nan])},
        "sec2clip_ratios.npy: sec2clip_ratios: video 5 ('v5'): must be finite and > 0, got nan",
    ),
    "ratios in a table": (
        {"ratios": np.ones((6, 1))},
        "sec2clip_ratios.npy: sec2clip_ratios: must be one number a video, got (6, 1) of float64",
    ),
    "ratios as text": (
        {"ratios": np.array(list("123456"))},
        "sec2clip_ratios.npy: sec2clip_ratios: must be one number a video, got (6,) of <U1",
    ),
    "too few labels": (
        {"labels": LABELS[:5]},
        "labels.npy: labels: must hold one entry a video (6 in video_names.npy), got 5",
    ),
    "labels as triples": (
        {"labels": changed(LABELS, 1, [[1, 2, 3]])},
        "labels.npy: labels: video 1 ('v1'): must be pairs of finite numbers, got [[1, 2, 3]]",
    ),
    "labels as triples whose count fits pairs": (
        {"labels": changed(LABELS, 1, [[1, 2, 1], [1, 3, 1]])},
        "labels.npy: labels: video 1 ('v1'): must be pairs of finite numbers, got [[1, 2, 1], [1, 3, 1]]",
    ),
    "labels as one pair": (
        {"labels": changed(LABELS, 1, [1, 2])},
        "labels.npy: labels: video 1 ('v1'): must be pairs of finite numbers, got [1, 2]",
    ),
    "labels as words": (
        {"labels": changed(LABELS, 1, [["office", "read"]])},
        "labels.npy: labels: video 1 ('v1'): must be pairs of finite numbers, got [['office', 'read']]",
    ),
    "labels None": (
        {"labels": changed(LABELS, 1, None)},
        "labels.npy: labels: video 1 ('v1'): must be pairs of finite numbers, got None",
    ),
    "label not whole": (
        {"labels": changed(LABELS, 1, [[1, 2.5]])},
        "labels.npy: labels: video 1 ('v1'): must be whole numbers, got [[1.0, 2.5]]",
    ),
    "fine class unknown": (
        {"labels": changed(LABELS, 1, [[1, 4]])},
        "labels.npy: labels: video 1 ('v1'): must name a fine class of fine_to_coarse_mappings.json (0 to 3), got 4",
    ),
    "fine class below 0": (
        {"labels": changed(LABELS, 1, [[1, -1]])},
        "labels.npy: labels: video 1 ('v1'): must name a fine class of fine_to_coarse_mappings.json (0 to 3), got -1",
    ),
    "coarse class of another": (
        {"labels": changed(LABELS, 1, [[0, 2]])},
        "labels.npy: labels: video 1 ('v1'): must have coarse class 1 for fine class 2, as "
        "fine_to_coarse_mappings.json says, got 0",
    ),
    "too few segments in all": (
        {"segments": SEGMENTS[:5]},
        "segments.npy: segments: must hold one entry a video (6 in video_names.npy), got 5",
    ),
    "too few segments in a video": (
        {"segments": changed(SEGMENTS, 0, [[0.0, 1.0]])},
        "segments.npy: segments: video 0 ('v0'): must hold one segment a label (2 in labels.npy), got 1",
    ),
    "segment NaN": (
        {"segments": changed(SEGMENTS, 1, [[0.0, float("nan")]])},
        "segments.npy: segments: video 1 ('v1'): must be pairs of finite numbers, got [[0.0, nan]]",
    ),
    "segment infinite": (
        {"segments": changed(SEGMENTS, 1, [[0.0, float("inf")]])},
        "segments.npy: segments: video 1 ('v1'): must be pairs of finite numbers, got [[0.0, inf]]",
    ),
    "class without training video": (
        {"labels": changed(LABELS, 1, [[1, 3]]), "mapping": MAPPING | {"4": 0, "5": 1}, "classes": None},
        "labels.npy: labels: must show every fine class in the first 4 videos (data.train_videos), got none of '4', "
        "'5'",
    ),
    "features of other videos": (
        {"features": F[:5]},
        "features.npy: data.features: must hold one entry a video (6 in video_names.npy), got 5",
    ),
    "features as a matrix": (
        {"features": F[0]},
        "features.npy: data.features: must be [videos, clips, d] or one matrix a video, got shape (5, 8)",
    ),
    "features of integers": (
        {"features": F.astype(int)},
        "features.npy: data.features: video 0 ('v0'): must be a matrix [clips, d] of floats, got shape (5, 8) of int64",
    ),
    "features without clips": (
        {"features": matrices(v2=F[0][:0])},
        "features.npy: data.features: video 2 ('v2'): must have a clip, got none",
    ),
    "features of another size": (
        {"features": matrices(v3=F[0][:, :6])},
        "features.npy: data.features: video 3 ('v3'): must have the feature size of the first video (8), got 6",
    ),
    "features as lists": (
        {"features": matrices(v1=[[1.0]])},
        "features.npy: data.features: video 1 ('v1'): must be a matrix, got list",
    ),
    "features of objects": (
        {"features": matrices(v1=F[0].astype(object))},
        "features.npy: data.features: video 1 ('v1'): must be a matrix [clips, d] of floats, got shape (5, 8) of "
        "object",
    ),
    "first video's features a vector": (
        {"features": matrices(v0=F[0][0])},
        "features.npy: data.features: video 0 ('v0'): must be a matrix [clips, d] of floats, got shape (8,) of float32",
    ),
    "folder without a file": (
        {"features": dict.fromkeys(NAMES[:5], F[0])},
        "features.npy: data.features: must hold a file a video, got none for 1 of 6: 'v5'",
    ),
    "folder with another size": (
        {"features": folder(v3=F[0][:, :6])},
        "features.npy: data.features: video 3 ('v3'): must have the feature size of the first video (8), got 6",
    ),
    "NaN": (
        {"features": with_value((2, 3, 1), np.nan)},
        "features.npy: data.features: video 2 ('v2'), clip 3: must be finite in float16, got nan",
    ),
    "damaged JSON": ({"mapping": b"{"}, None),  # the parser's own words
    "JSON not UTF-8": ({"mapping": b"\xff\xfe{"}, None),
}  # fmt: skip
STARTS = {
    "damaged JSON": "fine_to_coarse_mappings.json: must be JSON, got Expecting property name",
    "JSON not UTF-8": "fine_to_coarse_mappings.json: must be UTF-8 text, got UTF-16",
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_with_file_array_video_rule_and_value(tmp_path: Path, name: str) -> None:
    contents, expected = BAD[name]
    found = message(tiny(tmp_path, **contents))
    if expected is None:
        assert found.startswith(STARTS[name])
    else:
        assert found == expected


@pytest.mark.parametrize("value", [0, 7, 100])
def test_training_videos_must_be_there(tmp_path: Path, value: int) -> None:
    data = tiny(tmp_path)
    if value:
        data = Data(root=data.root, features=data.features, train_videos=value)
        expected = f"data.train_videos: must be >= 1 and <= the 6 videos, got {value}"
        assert message(data) == expected
    else:
        with pytest.raises(ValueError, match="train_videos: must be >= 1, got 0"):
            Data(root=data.root, features=data.features, train_videos=value)


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    data = tiny(tmp_path, labels=None, ratios=None, features=None)
    with pytest.raises(MissingDataError) as error:
        load(data)
    files = "labels.npy, sec2clip_ratios.npy, features.npy"
    assert error.value.messages == [f"data.root: {tmp_path} must hold {files}, which it does not"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as error:
        load(Data(root=str(tmp_path / "none"), features="f.npy", train_videos=1))
    expected = f"data.root: must be a folder with the data set, got '{tmp_path / 'none'}', which does not exist"
    assert error.value.messages == [expected]


@pytest.mark.parametrize("name", ["../v1", "/etc/passwd", "a/b", ".", "..", "a\\b", "a\0b"])
def test_names_that_would_leave_the_features_folder_are_refused(tmp_path: Path, name: str) -> None:
    data = tiny(tmp_path / "d", names=changed(NAMES, 1, name), features=folder())
    np.save(tmp_path / "d" / "v1.npy", F[1])  # where "../v1" would lead
    assert message(data) == f"video_names.npy: video_names: must be plain file names, got {name!r}"


@pytest.mark.parametrize("name", ["../v1", "a/b"])
def test_such_names_harm_nothing_where_features_are_one_file(tmp_path: Path, name: str) -> None:
    assert open_haan(tiny(tmp_path, names=changed(NAMES, 1, name)))[1].names[1] == name


@pytest.mark.parametrize("value", [b"v1", 1, ""])
def test_a_name_that_is_no_text_is_shown(tmp_path: Path, value: Any) -> None:
    found = message(tiny(tmp_path, names=changed(NAMES, 1, value)))
    assert found == f"video_names.npy: video_names: video 1: must be text, got {value!r}"


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_a_number_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    assert message(tiny(tmp_path, segments=changed(SEGMENTS, 1, [[0, 10**400]]))).startswith(
        "segments.npy: segments: video 1 ('v1'): must be pairs of finite numbers, got [[0, 1000"
    )


def test_a_label_too_large_for_an_integer_is_refused(tmp_path: Path) -> None:
    found = message(tiny(tmp_path, labels=changed(LABELS, 1, [[1, 1e300]])))
    assert found == "labels.npy: labels: video 1 ('v1'): must be whole numbers, got [[1.0, 1e+300]]"


def test_deeply_nested_labels_are_refused(tmp_path: Path) -> None:
    # Opcodes, for pickle.dumps itself can't write so deep a list: an empty list in a list, and so on.
    depth = 5000
    data = tiny(tmp_path)
    whole = (tmp_path / "labels.npy").read_bytes()
    marker = b"K\x01K\x02e"  # the pair [1, 2] of video 1
    assert whole.count(marker) >= 1
    deep = b"K\x01" + b"]" * depth + b"a" * (depth - 1) + b"e"
    (tmp_path / "labels.npy").write_bytes(_without_frame(whole).replace(marker, deep, 1))
    assert message(data).startswith("labels.npy: labels: video 1 ('v1'): must be pairs of finite numbers, got ")


def _without_frame(whole: bytes) -> bytes:
    start = whole.index(b"\n") + 3
    return whole[:start] + whole[start + 9 :] if whole[start : start + 1] == b"\x95" else whole


@pytest.mark.skipif(not (SHARED / "openpack").is_dir(), reason="needs shared/data/openpack")
def test_openpack_loads_whole() -> None:
    root = SHARED / "openpack"
    table, warnings = load(Data(root=str(root), features="features.npy", train_videos=44))
    found = table.annotations
    assert warnings == ()
    assert len(found.names) == 59 and len(found.segments) == 502 and table.dim == 120
    assert len(found.fine_names) == 32 and len(found.coarse_names) == 10
    names = json.loads((root / "classes.json").read_text())
    assert (list(found.fine_names), list(found.coarse_names)) == (names["fine"], names["coarse"])
    assert len(table.chunks[0]) == table.offsets[-1]


@pytest.mark.skipif(not (SHARED / "fineaction").is_dir(), reason="needs shared/data/fineaction")
def test_fineaction_s_annotations_load_with_the_repairs_that_they_need(tmp_path: Path) -> None:
    for path in (SHARED / "fineaction").iterdir():
        (tmp_path / path.name).symlink_to(path)
    made = np.lib.format.open_memmap(tmp_path / "zeros.npy", mode="w+", dtype=np.float32, shape=(12614, 100, 2))
    made.flush()
    table, (warning,) = load(Data(root=str(tmp_path), features="zeros.npy", train_videos=8440))
    found = table.annotations
    assert "of 81988 segments 66 were cut" in warning and "and 66 dropped" in warning
    assert len(found.segments) == 81922 == found.segment_offsets[-1] == len(found.segment_fine)
    assert len(found.fine_names) == 106 and len(found.coarse_names) == 14
    assert (found.segments[:, 1] > found.segments[:, 0]).all() and (found.segments >= 0).all()
    assert table.num_clips.tolist() == [100] * 12614


UMLAUT = "v\u00fc"  # composed; as macOS writes file names, it is a u and a diaeresis


@pytest.mark.parametrize(
    ("names", "file", "hint"),
    [
        (NAMES, "clip_{}.npy", "6 of them are there with 'clip_' before the name, as 'clip_v0.npy'"),
        (
            [f"clip_{name}" for name in NAMES],
            "{}.npy",
            "6 of them are there without 'clip_' before the name, as 'v0.npy'",
        ),
        (NAMES, "{}.NPY", "6 of them are there in other case, as 'v0.NPY'"),
        (NAMES, "{}.npz", "6 of them are there with another extension, as 'v0.npz'"),
        (
            [f"{UMLAUT}{i}" for i in range(6)],
            "vu\u0308{}.npy",
            "6 of them are there in another Unicode normal form, as ",
        ),
        (NAMES, "other{}", ""),
    ],
)
def test_missing_files_are_counted_and_looked_for_under_other_names(
    tmp_path: Path, names: list[str], file: str, hint: str
) -> None:
    data = tiny(tmp_path, names=np.array(names), features={})
    for i, name in enumerate(NAMES):
        (tmp_path / "features.npy" / file.format(i if "\u0308" in file else name)).touch()
    shown = ", ".join(map(repr, names[:5]))
    found = message(data)
    assert found.startswith(f"features.npy: data.features: must hold a file a video, got none for 6 of 6: {shown}, ...")
    assert hint in found and (hint or ";" not in found)


@pytest.mark.parametrize("wrong", [np.zeros(8, np.float32), b"no array"])
def test_wrong_files_are_counted_and_the_first_five_named(tmp_path: Path, wrong: Any) -> None:
    data = tiny(tmp_path, features=dict(zip(NAMES, F, strict=True)))
    folder = tmp_path / "features.npy"
    for name in NAMES:
        folder.joinpath(f"{name}.npy").write_bytes(wrong) if isinstance(wrong, bytes) else np.save(folder / name, wrong)
    with pytest.raises(InputError) as error:
        load(data)
    *each, last = error.value.messages
    assert len(each) == 5 and all(f"v{i}" in one for i, one in enumerate(each))
    assert last == f"{folder}: data.features: must be sound for every video, got 6 of 6 that are not"
