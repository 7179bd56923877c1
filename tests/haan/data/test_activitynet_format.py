"""ActivityNet's layout: it gives what the same data give in the authors' layout; every check names file, key, value."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haan.checked import RuleError
from haan.config import Data, Holdout
from haan.data import cache
from haan.data.readers import open_data, open_unlabelled
from haan.data.table import Annotations, fingerprint, pack, split
from haan.errors import InputError, MissingDataError
from tests.haan.data.tiny import CLASS_OF, NAMES, database, features, tiny, tiny_activitynet
from tests.planted import load


def same(left: Annotations, right: Annotations) -> bool:
    pairs = [(getattr(left, f.name), getattr(right, f.name)) for f in fields(left)]
    return all(np.array_equal(a, b) for a, b in pairs)


def message(data: Data, read: Callable[[Data], Any] = open_data) -> str:
    with pytest.raises(InputError) as error:
        read(data)
    (text,) = error.value.messages
    return text.replace(data.root + "/", "")


def edited(video: str, **changes: Any) -> dict[str, Any]:
    """The ground truth with keys of one video replaced, or left out where the value is None."""
    about = database()[video] | changes
    kept = {key: value for key, value in about.items() if value is not None}
    return {"database": database() | {video: kept}}


def action(label: Any = "run", segment: Any = (0.0, 1.0)) -> list[dict[str, Any]]:
    return [{"label": label, "segment": segment}]


def test_it_is_the_same_data_set_as_in_the_authors_layout(tmp_path: Path) -> None:
    theirs, _ = load(tiny(tmp_path / "haan"))
    ours, warnings = load(tiny_activitynet(tmp_path / "anet"))
    assert warnings == ()
    assert same(ours.annotations, theirs.annotations)
    np.testing.assert_array_equal(ours.chunks[0], theirs.chunks[0])
    marks = []
    for data in (tiny(tmp_path / "haan2"), tiny_activitynet(tmp_path / "anet2")):
        source, annotations, _ = open_data(data)
        marks.append(fingerprint(source, annotations, data.dtype))
    assert marks[0] == marks[1]


def test_the_order_of_the_file_is_none(tmp_path: Path) -> None:
    turned = {"database": dict(reversed(database().items()))}
    one, other = load(tiny_activitynet(tmp_path / "a"))[0], load(tiny_activitynet(tmp_path / "b", truth=turned))[0]
    assert same(one.annotations, other.annotations)
    np.testing.assert_array_equal(one.chunks[0], other.chunks[0])


def test_classes_are_numbered_as_the_hierarchy_lists_them(tmp_path: Path) -> None:
    listed = {"write": "office", "run": "sport", "read": "office", "jump": "sport"}
    found = open_data(tiny_activitynet(tmp_path, hierarchy=listed))[1]
    assert found.fine_names == ("write", "run", "read", "jump") and found.coarse_names == ("office", "sport")
    assert found.coarse_of_fine.tolist() == [0, 1, 0, 1]
    assert found.fine_labels[0].tolist() == [False, True, False, True]  # v0: run, jump


def test_clips_per_second_are_clips_over_duration_unless_the_file_says_them(tmp_path: Path) -> None:
    found = open_data(tiny_activitynet(tmp_path / "a", truth=edited("v1", duration=10)))[1]
    assert found.clips_per_s.tolist() == [1.0, 0.5, 1.0, 2.0, 1.0, 0.5]
    found = open_data(tiny_activitynet(tmp_path / "b", truth=edited("v1", duration=None, clips_per_s=4)))[1]
    assert found.clips_per_s[1] == 4
    # 5 clips at 4 a second: 1.25 s, so the segment 0.5 to 2 s ends more than a clip late and is cut.
    assert found.segments[found.segment_offsets[1]].tolist() == [0.5, 1.25]


def test_times_may_be_text(tmp_path: Path) -> None:
    as_text = edited("v1", duration="2.5", annotations=action("read", ["0.5", "2.0"]))
    ours, theirs = load(tiny_activitynet(tmp_path / "a", truth=as_text))[0], load(tiny_activitynet(tmp_path / "b"))[0]
    assert same(ours.annotations, theirs.annotations)


def test_segments_are_repaired_as_in_the_authors_layout(tmp_path: Path) -> None:
    bad = action("run", [4.0, 3.0]) + action("read", [1.0, 99.0]) + action("read", [-2.0, 1.0])
    source, found, (warning,) = open_data(tiny_activitynet(tmp_path, truth=edited("v4", annotations=bad)))
    first = int(found.segment_offsets[4])
    assert found.segments[first : first + 2].tolist() == [[1.0, 5.0], [0.0, 1.0]]
    assert found.fine_labels[4].tolist() == [True, False, True, False], "a dropped segment's label stays"
    assert warning.startswith(f"{tmp_path}/annotations_gt.json: database: of 12 segments 2 were cut to their video")
    assert "and 1 dropped (end <= start, or outside the video); their labels stay" in warning
    assert len(source.num_clips) == 6


def test_holdout_and_official_split_it(tmp_path: Path) -> None:
    data = tiny_activitynet(tmp_path)
    found = open_data(data)[1]
    official = split(found, data)
    assert (official.train.tolist(), official.validation.tolist()) == ([0, 1, 2, 3], [4, 5])
    held = split(found, replace(data, validation=Holdout(holdout=0.25)))
    assert len(held.validation) == 1 and held.validation[0] < 4


def test_testing_videos_have_no_labels_and_no_part_in_training(tmp_path: Path) -> None:
    data = tiny_activitynet(tmp_path)
    assert open_data(data)[1].names == tuple(NAMES)
    source, found, warnings = open_unlabelled(data)
    assert (found.names, found.num_train, warnings) == (("t0", "t1"), 0, ())
    assert source.num_clips.tolist() == [5, 3] and found.clips_per_s.tolist() == [1.0, 0.6]
    assert len(found.segments) == 0 and not found.fine_labels.any()
    assert found.fine_names == tuple(CLASS_OF)
    np.testing.assert_array_equal(source.read(0, 1), features()[0] + 1)


def test_annotations_of_testing_videos_are_not_read(tmp_path: Path) -> None:
    for name, annotations in (("a", None), ("b", action("nonsense"))):
        data = tiny_activitynet(tmp_path / name, truth=edited("t0", annotations=annotations))
        assert len(open_unlabelled(data)[1].segments) == 0
        assert len(open_data(data)[1].names) == 6


def test_the_cache_serves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTH_BYTES", 1)
    monkeypatch.setattr(cache, "SETTLE_S", 0.02)
    monkeypatch.delenv("HAAN_CACHE", raising=False)
    data = tiny_activitynet(tmp_path)
    source, annotations, _ = open_data(data)
    expected = pack(source, annotations, data.dtype).chunks[0]
    kept, note = cache.keep(data, source, annotations)
    assert isinstance(kept, cache.Cached) and note is not None
    again, annotations, _ = open_data(data)
    assert isinstance(again, cache.Cached) and again.known(annotations)
    np.testing.assert_array_equal(pack(again, annotations, data.dtype).chunks[0], expected)
    assert not isinstance(open_unlabelled(data)[0], cache.Cached), "those are other files"


G = "annotations_gt.json: database"
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no JSON": ({"truth": b"{"}, "annotations_gt.json: must be JSON, got Expecting property name"),
    "no database": ({"truth": {"results": {}}}, "annotations_gt.json: database: is required and missing"),
    "a video twice": (
        {"truth": b'{"database": {"v0": {}, "v0": {}}}'},
        "annotations_gt.json: must be JSON, got key 'v0' twice in one object",
    ),
    "no training video": (
        {"truth": {"database": {n: a for n, a in database().items() if a["subset"] != "training"}}},
        f"{G}: must have a video of subset training, got none",
    ),
    "subset missing": ({"truth": edited("v1", subset=None)}, f"{G}.v1.subset: is required and missing"),
    "subset of no kind": (
        {"truth": edited("v1", subset="train")},
        f"{G}.v1.subset: must be one of training, validation, testing, got 'train'",
    ),
    "duration missing": ({"truth": edited("v1", duration=None)}, f"{G}.v1.duration: must be a finite number, got None"),
    "duration 0": ({"truth": edited("v1", duration=0)}, f"{G}.v1.duration: must be > 0, got 0"),
    "duration that is no number": (
        {"truth": edited("v1", duration="2.5 s")},
        f"{G}.v1.duration: must be a finite number, got '2.5 s'",
    ),
    "clips per second text": (
        {"truth": edited("v1", clips_per_s="3")},
        f"{G}.v1.clips_per_s: must be a finite number, got '3'",
    ),
    "annotations missing": ({"truth": edited("v1", annotations=None)}, f"{G}.v1.annotations: is required and missing"),
    "annotations null": (
        {"truth": {"database": database() | {"v1": database()["v1"] | {"annotations": None}}}},
        f"{G}.v1.annotations: must be a list, got None",
    ),
    "a label that is none": (
        {"truth": edited("v1", annotations=action("runn"))},
        f"{G}.v1.annotations[0].label: must be a fine class of hierarchy.json, got 'runn'; did you mean 'run'?",
    ),
    "a label that is a number": (
        {"truth": edited("v1", annotations=action(3))},
        f"{G}.v1.annotations[0].label: must be text, got 3",
    ),
    "an annotation that is a list": (
        {"truth": edited("v1", annotations=[["run", 0, 1]])},
        f"{G}.v1.annotations[0]: must be an object, got ['run', 0, 1]",
    ),
    "a segment of three": (
        {"truth": edited("v1", annotations=action("run", [0, 1, 2]))},
        f"{G}.v1.annotations[0].segment: must be [start_s, end_s], finite numbers, got [0, 1, 2]",
    ),
    "an infinite segment": (
        {"truth": edited("v1", annotations=action("run", [0, float("inf")]))},
        f"{G}.v1.annotations[0].segment: must be [start_s, end_s], finite numbers, got [0, inf]",
    ),
    "a class without a training video": (
        {"hierarchy": CLASS_OF | {"sleep": "home"}},
        f"{G}: must show every fine class in the videos of subset training, got none of 'sleep'",
    ),
    "a name that leaves the folder": (
        {"truth": {"database": database() | {"../v9": database()["v1"]}}},
        f"{G}: must be plain file names, got '../v9'",
    ),
    "a video without features": (
        {"truth": {"database": database() | {"v9": database()["v1"]}}},
        "i3d: data.features: must hold a file a video, got none for 1 of 7: 'v9'",
    ),
    "features of another size": (
        {"features": dict(zip(NAMES, features(), strict=True)) | {"v3": features()[3][:, :2]}},
        "i3d: data.features: video 3 ('v3'): must have the feature size of the first video (8), got 2",
    ),
    "hierarchy a list": (
        {"hierarchy": ["run"]},
        "hierarchy.json: must be an object of fine class to coarse class, got ['run']",
    ),
    "hierarchy empty": (
        {"hierarchy": {}},
        "hierarchy.json: must be an object of fine class to coarse class, got {}",
    ),
    "hierarchy of indices": (
        {"hierarchy": CLASS_OF | {"run": 0}},
        "hierarchy.json: 'run': must map the name of a class to that of another, got 0",
    ),
    "hierarchy names a class twice": (
        {"hierarchy": b'{"run": "sport", "run": "office"}'},
        "hierarchy.json: must be JSON, got key 'run' twice in one object",
    ),
}


@pytest.mark.parametrize(("contents", "expected"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_named(tmp_path: Path, contents: dict[str, Any], expected: str) -> None:
    assert message(tiny_activitynet(tmp_path, **contents)).startswith(expected)


def test_missing_files_are_named_at_once(tmp_path: Path) -> None:
    data = tiny_activitynet(tmp_path, truth=None, hierarchy=None)
    with pytest.raises(MissingDataError) as error:
        open_data(data)
    expected = f"data.root: {tmp_path} must hold annotations_gt.json, hierarchy.json, which it does not"
    assert error.value.messages == [expected]


def test_features_must_be_a_folder(tmp_path: Path) -> None:
    data = replace(tiny_activitynet(tmp_path), features="hierarchy.json")
    expected = "data.features: must be a folder of one NAME.npy a video, got the file 'hierarchy.json'"
    assert message(data) == expected


def test_without_validation_videos_there_is_no_official_split(tmp_path: Path) -> None:
    training = {name: about | {"subset": "training"} for name, about in database().items() if name[0] == "v"}
    data = tiny_activitynet(tmp_path, truth={"database": training})
    found = open_data(data)[1]
    with pytest.raises(InputError, match=r"data\.annotations: must leave a video for validation: official, got 6 of 6"):
        split(found, data)


def test_without_testing_videos_there_is_nothing_to_detect_in(tmp_path: Path) -> None:
    labelled = {name: about for name, about in database().items() if name[0] == "v"}
    data = tiny_activitynet(tmp_path / "a", truth={"database": labelled})
    assert message(data, open_unlabelled) == f"{G}: must have a video of subset testing, got none"
    expected = "data.format: must be activitynet to have videos of subset testing, got 'haan'"
    assert message(tiny(tmp_path / "b"), open_unlabelled) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "train_videos: is required with format haan, got None"),
        ({"train_videos": 4, "hierarchy": "h"}, "hierarchy: must not be given with format haan, got 'h'"),
        ({"train_videos": 4, "annotations": "a"}, "annotations: must not be given with format haan, got 'a'"),
        ({"format": "activitynet", "hierarchy": "h"}, "annotations: is required with format activitynet, got None"),
        ({"format": "activitynet", "annotations": "a"}, "hierarchy: is required with format activitynet, got None"),
        (
            {"format": "activitynet", "annotations": "a", "hierarchy": "h", "train_videos": 4},
            "train_videos: must not be given with format activitynet, got 4",
        ),
    ],
)
def test_each_format_has_its_own_keys(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(RuleError) as error:
        Data(root="r", features="f", **settings)
    assert str(error.value) == expected
