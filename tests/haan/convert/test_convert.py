"""`haan convert`: published layouts into ours, and ground truth out; on made files and, where they are, real ones."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from haan.__main__ import app
from haan.config import Data
from haan.convert import openpack
from haan.data.readers import open_data
from haan.errors import InputError
from haan.methods.haan.config import HaanConfig
from haan.yamlconfig import dump
from tests.haan.data.tiny import CLASS_OF, database, tiny
from tests.paths import SHARED
from tests.planted import tiny_config, tiny_table

FILES = ("video_names.npy", "labels.npy", "segments.npy", "sec2clip_ratios.npy")


def haan(*arguments: object) -> None:
    """Runs the command line in this process; InputError comes out."""
    app([str(argument) for argument in arguments], standalone_mode=False)


def refusal(*arguments: object) -> str:
    with pytest.raises(InputError) as error:
        haan("convert", *arguments)
    return str(error.value)


def column(folder: Path, file: str) -> list[Any]:
    return np.load(folder / file, allow_pickle=True).tolist()  # written by this test


def opened(folder: Path, features: str, train_videos: int) -> Any:
    return open_data(Data(root=str(folder), features=features, train_videos=train_videos))


CATEGORIES = """\
Clabel:   0; set: 21; Glabel:  67; (FX) switch leap with 0.5 turn
Clabel:   1; set: 21; Glabel:  68; (FX) switch leap with 1 turn
Clabel:   2; set:  1; Glabel:   1; (VT) round-off
Clabel:   3; set: 31; Glabel: 336; (BB) round-off
Clabel:   4; set: 31; Glabel: 337; round-off
"""
EVENT, VAULT = "E_000010_000020", "E_000030_000036"
INFO = {
    "AAAAAAAAAAA": {
        EVENT: {
            "event": 2,
            "timestamps": [[10.0, 20.0]],
            "segments": {
                "A_0004_0005": {"stages": 1, "timestamps": [[4.5, 5.5]]},
                "A_0001_0002": {"stages": 1, "timestamps": [[1.25, 2.0]]},
                "A_0007_0008": {"stages": 1, "timestamps": [[7.0, 8.0]]},  # in neither list
            },
        },
        VAULT: {
            "event": 1,
            "timestamps": [[30, 36]],
            "segments": {"A_0000_0006": {"stages": 3, "timestamps": [[0.1, 1], [1, 4], [4, 5.9]]}},
        },
    },
    "B-_AAAAAAAA": {EVENT: {"event": 3, "timestamps": [[1, 9]], "segments": {"A_0000_0001": {"timestamps": [[0, 1]]}}}},
    "CCCCCCCCCCC": {EVENT: {"event": 3, "timestamps": [[1, 9]], "segments": None}},
}
TRAIN = f"AAAAAAAAAAA_{EVENT}_A_0004_0005 0\nAAAAAAAAAAA_{EVENT}_A_0001_0002 1\nAAAAAAAAAAA_{VAULT}_A_0000_0006 2\n"
VAL = f"B-_AAAAAAAA_{EVENT}_A_0000_0001 3\n"


def gym(folder: Path, info: Any = INFO, categories: str = CATEGORIES, train: str = TRAIN, val: str = VAL) -> list[Any]:
    """Writes FineGym's files; the arguments that convert them."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in (("info.json", json.dumps(info)), ("c.txt", categories), ("train.txt", train), ("val.txt", val)):
        (folder / file).write_text(text)
    files = ("finegym", folder / "info.json", folder / "c.txt", "--train", folder / "train.txt")
    return [*files, "--val", folder / "val.txt", "--out", folder / "out"]


def test_events_become_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    haan("convert", *gym(tmp_path))
    names, labels, segments, ratios = (column(tmp_path / "out", file) for file in FILES)
    assert names == [f"AAAAAAAAAAA_{EVENT}", f"AAAAAAAAAAA_{VAULT}", f"B-_AAAAAAAA_{EVENT}"]
    # Sets 1, 21, 31 are coarse classes 0, 1, 2; actions in the order of time; a vault from its first stage to its last.
    assert labels == [[[1, 1], [1, 0]], [[0, 2]], [[2, 3]]]
    assert segments == [[[1.25, 2.0], [4.5, 5.5]], [[0.1, 5.9]], [[0.0, 1.0]]]
    assert ratios == [1.5] * 3
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    assert classes["coarse"] == ["VT set 1", "FX set 21", "set 31"]
    assert classes["fine"][2:] == ["(VT) round-off", "(BB) round-off", "round-off"]
    mapping = json.loads((tmp_path / "out" / "fine_to_coarse_mappings.json").read_text())
    assert mapping == {"0": 1, "1": 1, "2": 0, "3": 2, "4": 2}
    assert "2 + 1 videos, 3 + 1 segments, 5 classes in 3; written to" in capsys.readouterr().out


def test_clips_per_second_can_be_set(tmp_path: Path) -> None:
    haan("convert", *gym(tmp_path), "--fps", 25, "--frames", 8)
    assert column(tmp_path / "out", "sec2clip_ratios.npy") == [3.125] * 3


def test_what_is_converted_can_be_opened(tmp_path: Path) -> None:
    val = f"{VAL}AAAAAAAAAAA_{EVENT}_A_0001_0002 1\n"
    train = "\n".join(line for line in TRAIN.splitlines() if "0001_0002" not in line)
    assert "must hold no event of train.txt" in refusal(*gym(tmp_path / "x", train=train, val=val))
    categories = "\n".join(CATEGORIES.splitlines()[:3])
    arguments = gym(tmp_path, categories=categories, val=VAL.replace(" 3", " 2"))
    (tmp_path / "out" / "i3d").mkdir(parents=True)
    for name in (f"AAAAAAAAAAA_{EVENT}", f"AAAAAAAAAAA_{VAULT}", f"B-_AAAAAAAA_{EVENT}"):
        np.save(tmp_path / "out" / "i3d" / f"{name}.npy", np.ones((9, 4), dtype=np.float32))
    haan("convert", *arguments)  # into the folder where the features lie already
    source, found, warnings = opened(tmp_path / "out", "i3d", 2)
    assert warnings == () and found.num_train == 2 and len(found.segments) == 4 and source.dim == 4


def without(key: str, *path: str) -> dict[str, Any]:
    info = json.loads(json.dumps(INFO))
    inner = info
    for step in path:
        inner = inner[step]
    del inner[key]
    return info


A = "AAAAAAAAAAA"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train": "x 1\n"}, "train.txt:1: must be VIDEO_E_START_END_A_START_END CLASS, got 'x 1'"),
        ({"train": ""}, "train.txt: must hold a sample, got none"),
        ({"train": TRAIN + TRAIN[:40]}, "train.txt:4: must be VIDEO_E_START_END_A_START_END CLASS, got "),
        ({"train": TRAIN + TRAIN.splitlines()[0]}, "train.txt:4: must be another sample than line 1, got "),
        ({"train": TRAIN.replace(" 2", " 5")}, "train.txt: must name a class below 5, as the categories do, got "),
        ({"categories": "Clabel: 1; set: 2; Glabel: 3; x"}, "c.txt:1: Clabel: must be 0, for they count from 0, got "),
        ({"categories": "0 leap"}, "c.txt:1: must be `Clabel: N; set: N; ...; name`, got '0 leap'"),
        ({"categories": "\n"}, "c.txt: must hold a category, got none"),
        ({"info": []}, "info.json: the file: must be an object, got []"),
        ({"info": without(A)}, f"info.json: {A}.{EVENT}: is required and missing"),
        ({"info": without(VAULT, A)}, f"info.json: {A}.{VAULT}: is required and missing"),
        (
            {"info": without("A_0004_0005", A, EVENT, "segments")},
            f"info.json: {A}.{EVENT}.segments.A_0004_0005: is required and missing",
        ),
        (
            {"info": without("timestamps", A, VAULT, "segments", "A_0000_0006")},
            f"info.json: {A}.{VAULT}.segments.A_0000_0006.timestamps: is required and missing",
        ),
        (
            {"val": f"CCCCCCCCCCC_{EVENT}_A_0000_0001 3"},
            f"info.json: CCCCCCCCCCC.{EVENT}.segments: must be an object, got None",
        ),
    ],
)
def test_bad_finegym_files_are_named(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    assert refusal(*gym(tmp_path, **changes)).startswith(f"{tmp_path}/{expected}")
    assert not (tmp_path / "out").exists()


def test_stages_must_be_times(tmp_path: Path) -> None:
    info = json.loads(json.dumps(INFO))
    info[A][VAULT]["segments"]["A_0000_0006"]["timestamps"] = [[0, 1], [2, None]]
    expected = f"{A}.{VAULT}.segments.A_0000_0006.timestamps: must be pairs of finite numbers, got [[0, 1], [2, None]]"
    assert refusal(*gym(tmp_path, info=info)) == f"{tmp_path}/info.json: {expected}"


def test_nothing_is_written_over(tmp_path: Path) -> None:
    arguments = gym(tmp_path)
    haan("convert", *arguments)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert "--out must be a folder without video_names.npy, labels.npy" in refusal(*arguments)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.skipif(not (SHARED / "finegym").is_dir(), reason="needs shared/data/finegym")
def test_the_authors_arrays_come_from_the_authors_split(tmp_path: Path) -> None:
    # FineGym's own JSON can't be had here, so one is made of the arrays, an action named after its whole seconds as
    # FineGym names them. The element lists are real.
    real = SHARED / "finegym"
    names = column(real, "video_names.npy")
    mapping = json.loads((real / "fine_to_coarse_mappings.json").read_text())
    categories = "\n".join(f"Clabel: {j}; set: {mapping[str(j)]}; Glabel: 1; name {j}" for j in range(99))
    labels, segments = (np.load(real / file, allow_pickle=True) for file in ("labels.npy", "segments.npy"))
    info: dict[str, Any] = {}
    for name, times in zip(names, segments, strict=True):
        video, _, event = name.partition("_E_")
        actions = {
            f"A_{math.floor(a):04d}_{math.floor(b):04d}": {"stages": 1, "timestamps": [[a, b]]} for a, b in times
        }
        info.setdefault(video, {})[f"E_{event}"] = {"event": 1, "timestamps": [], "segments": actions}
    parts = [(real / f"gym99_{part}_element_new.txt").read_text() for part in ("train", "val")]
    haan("convert", *gym(tmp_path, info=info, categories=categories, train=parts[0], val=parts[1]))
    got = {file: column(tmp_path / "out", file) for file in FILES}
    assert got["video_names.npy"] == names and got["sec2clip_ratios.npy"] == [1.5] * 4968
    assert got["labels.npy"] == [[list(map(int, pair)) for pair in video] for video in labels]
    assert got["segments.npy"] == [[list(map(float, pair)) for pair in video] for video in segments]


def action_files(folder: Path, truth: Any, hierarchy: Any) -> list[Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gt.json").write_text(json.dumps({"database": truth}))
    file = folder / ("h.csv" if isinstance(hierarchy, str) else "h.json")
    file.write_text(hierarchy if isinstance(hierarchy, str) else json.dumps(hierarchy))
    return ["fineaction", folder / "gt.json", file, "--out", folder / "out"]


TABLE = "high,coarse,fine\nx,sport,run\nx,sport,jump\ny,office,read\ny,office,write\n"


@pytest.mark.parametrize("hierarchy", [CLASS_OF, TABLE], ids=["json", "csv"])
def test_a_ground_truth_becomes_our_layout(tmp_path: Path, hierarchy: Any) -> None:
    haan("convert", *action_files(tmp_path, database(), hierarchy), "--clips", 5)
    theirs = tiny(tmp_path / "theirs")
    for file in FILES:
        assert column(tmp_path / "out", file) == column(Path(theirs.root), file), file
    for file in ("classes.json", "fine_to_coarse_mappings.json"):
        assert json.loads((tmp_path / "out" / file).read_text()) == json.loads((Path(theirs.root) / file).read_text())
    written = json.loads((tmp_path / "out" / "hierarchy.json").read_text())
    assert list(written.items()) == list(CLASS_OF.items()), "as format activitynet reads it"


@pytest.mark.parametrize(
    ("hierarchy", "expected"),
    [
        ("fine\nrun\n", "h.csv: must have the columns coarse and fine, filled in every row, got [{'fine': 'run'}]"),
        (TABLE + "y,,read\n", "h.csv: must have the columns coarse and fine, filled in every row, got "),
        (TABLE + "y,sport,read\n", "h.csv: fine: must differ, got 4 different of 5"),
        ({}, "h.json: must be an object of fine class to coarse class, got {}"),
        (
            {"run": "sport"},
            "gt.json: database.v0.annotations[1].label: must be a fine class of h.json, got 'jump'",
        ),
    ],
)
def test_bad_fineaction_files_are_named(tmp_path: Path, hierarchy: Any, expected: str) -> None:
    assert refusal(*action_files(tmp_path, database(), hierarchy)).startswith(f"{tmp_path}/{expected}")


@pytest.mark.skipif(not (SHARED / "fineaction").is_dir(), reason="needs shared/data/fineaction")
def test_the_authors_arrays_come_from_a_ground_truth_like_fineaction_s(tmp_path: Path) -> None:
    # FineAction's own JSON can't be had here: one is made of the arrays, in its form, the videos in no order.
    real = SHARED / "fineaction"
    every = {file: column(real, file) for file in FILES}
    assert every["video_names.npy"] == sorted(every["video_names.npy"][:8440]) + sorted(every["video_names.npy"][8440:])
    names, labels, segments, ratios = (every[file][::10] for file in FILES)
    mapping = json.loads((real / "fine_to_coarse_mappings.json").read_text())
    truth = {
        names[i]: {
            "subset": "training" if i < 844 else "validation",
            "duration": 100 / ratios[i],
            "annotations": [
                {"label": f"class {fine}", "segment": times}
                for (_, fine), times in zip(labels[i], segments[i], strict=True)
            ],
        }
        for i in np.random.default_rng(0).permutation(len(names)).tolist()
    }
    haan("convert", *action_files(tmp_path, truth, {f"class {j}": f"coarse {u}" for j, u in mapping.items()}))
    assert column(tmp_path / "out", "video_names.npy") == names
    assert column(tmp_path / "out", "labels.npy") == labels
    assert column(tmp_path / "out", "segments.npy") == segments
    np.testing.assert_allclose(column(tmp_path / "out", "sec2clip_ratios.npy"), ratios, rtol=1e-15)


START_MS, STEP_MS = 1_648_531_521_000, 30  # of the IMUs: 33.3 samples a second, as in the real sample
OPERATIONS = {
    101: ("Picking", "Pick Up Sheet"),
    102: ("Picking", "Walk"),
    201: ("Pack", "Walk"),
    8103: ("Null", "Ignore"),
}


def stamp(ms: int) -> str:
    """A time as OpenPack writes it; whole seconds have no fraction."""
    text = str(np.datetime64(START_MS + ms + 9 * 3600 * 1000, "ms")).replace("T", " ")
    return (text.removesuffix(".000") if ms % 1000 == 0 else f"{text}000") + "+09:00"


def packed(folder: Path, boxes: Sequence[Sequence[int]], samples: int = 4000) -> list[Any]:
    """Writes a made session: an action a second, each 0.7 s long, from 2.013 s on; boxes list their actions' ids."""
    user = folder / "v" / "U1"
    (user / "annotation" / "openpack-actions").mkdir(parents=True)
    lines = ["uuid,user,session,box,id,operation,action,start,end,box_size"]
    ms = 2013
    for box, ids in enumerate(boxes, start=1):
        for number in ids:
            row = ("a", "U1", "S1", box, number, *OPERATIONS[number], stamp(ms), stamp(ms + 700), "")
            lines.append(",".join(map(str, row)))
            ms += 1000
    (user / "annotation" / "openpack-actions" / "S1.csv").write_text("\n".join(lines) + "\n")
    for device in openpack.DEVICES:
        (user / "atr" / device).mkdir(parents=True)
        times = START_MS + STEP_MS * np.arange(samples)
        values = imu(device, samples)
        rows = [",".join(map(str, (t, *row))) for t, row in zip(times.tolist(), values.tolist(), strict=True)]
        header = ",".join(("unixtime", *openpack.CHANNELS))
        (user / "atr" / device / "S1.csv").write_text("\n".join([header, *rows]) + "\n")
    return ["openpack", folder / "v", "--out", folder / "out"]


def imu(device: str, samples: int) -> np.ndarray:
    """[samples, 10]"""
    return np.random.default_rng(openpack.DEVICES.index(device)).normal(size=(samples, 10)).round(4)


def plain_clips(first: int, clips: int) -> np.ndarray:
    """The clips of a recording that begins at a sample, by loops."""
    data = np.concatenate([imu(device, 4000) for device in openpack.DEVICES], axis=1)
    rows = []
    for clip in range(clips):
        window = data[first + 10 * clip : first + 10 * clip + 10]
        means = [float(np.mean(window[:, c])) for c in range(40)]
        deviations = [math.sqrt(sum((v - m) ** 2 for v in window[:, c]) / 10) for c, m in enumerate(means)]
        rows.append([*means, *deviations, *(window[9, c] - window[0, c] for c in range(40))])
    return np.array(rows)


BOXES = [
    [101, 102, 8103, 201] + [101] * 8,  # 11 actions without Null: one recording of 9, the remainder of 2 is left out
    [101] * 9 + [201] * 5,  # a remainder of 5 stays
    [102] * 4,  # too few for a recording
    [101, 102, 101, 201, 101],  # the fourth box validates
]


def test_a_session_becomes_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    haan("convert", *packed(tmp_path, BOXES))
    said = capsys.readouterr()
    names, labels, segments, ratios = (column(tmp_path / "out", file) for file in FILES)
    assert names == [f"U1_S1_box{name}" for name in ("01_0", "02_0", "02_1", "04_0")] and ratios == [3.0] * 4
    assert labels[0] == [[0, 0], [0, 1], [1, 2]] + [[0, 0]] * 6
    assert labels[3] == [[0, 0], [0, 1], [0, 0], [1, 2], [0, 0]]
    # The first action starts at 2.013 s. A second before, at 1.013 s, the next sample is number 34, at 1.02 s.
    assert segments[0][:3] == [[0.993, 1.693], [1.993, 2.693], [3.993, 4.693]], "Null has left its second empty"
    classes = json.loads((tmp_path / "out" / "classes.json").read_text())
    fine = ["Picking/Pick Up Sheet (101)", "Picking/Walk (102)", "Pack/Walk (201)"]
    assert classes == {"fine": fine, "coarse": ["Picking", "Pack"]}
    # The ninth action starts 9 s after the first and takes 0.7 s: samples from 1.02 to 12.713 s, 11.693 / 0.03 = 389.
    features = column(tmp_path / "out", "features.npy")
    assert len(features[0]) == 39  # 390 samples
    training = [plain_clips(34, 39)]
    for first_action, count in ((12, 9), (21, 5)):  # after the 12 rows of box 1
        first = math.ceil((2013 + 1000 * first_action - 1000) / 30)
        last = (2013 + 1000 * (first_action + count - 1) + 700 + 1000) // 30
        training.append(plain_clips(first, (last - first + 1) // 10))
    together = np.concatenate(training)
    expected = [(clips - together.mean(0)) / (together.std(0) + 1e-6) for clips in training]
    for ours, theirs in zip(features, expected, strict=False):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert "by their times there are 33.33 samples a second; clips are timed by --hz 30, so that late" in said.err
    assert "3 + 1 videos, 23 + 5 segments, 3 classes in 2" in said.out
    assert len(opened(tmp_path / "out", "features.npy", 3)[1].names) == 4


def test_clips_can_be_timed_by_what_the_files_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    haan("convert", *packed(tmp_path, BOXES), "--hz", 1000 / 30)
    assert column(tmp_path / "out", "sec2clip_ratios.npy") == [pytest.approx(10 / 3)] * 4
    assert capsys.readouterr().err == ""


def test_a_class_that_no_training_recording_shows_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    haan("convert", *packed(tmp_path, [[101] * 5, [], [], [101, 102, 101, 101, 201]]))
    assert "2 validation actions of classes that no training recording shows are left out" in capsys.readouterr().err
    assert column(tmp_path / "out", "labels.npy") == [[[0, 0]] * 5, [[0, 0]] * 3]


def test_times_that_only_some_imus_have_are_left_out(tmp_path: Path) -> None:
    arguments = packed(tmp_path, [[101] * 5, [], [], [101] * 5])
    path = tmp_path / "v" / "U1" / "atr" / "atr03" / "S1.csv"
    lines = path.read_text().splitlines()
    del lines[1 + 34]  # the first sample of the first recording: it starts with the next, at 1.05 s
    path.write_text("\n".join(lines))
    haan("convert", *arguments)
    assert column(tmp_path / "out", "segments.npy")[0][0] == [0.963, 1.663]


ACTIONS, IMU, FIRST = "annotation/openpack-actions/S1.csv", "atr/atr02/S1.csv", "2022-03-29 14:25:23.013000+09:00"


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (ACTIONS, "uuid,user,session,box,id", "a,b,c,d,e", "must have the column(s) box, id, got a, b"),
        (ACTIONS, "S1,1,101", "S1,one,101", "box: must be whole numbers, got"),
        (ACTIONS, FIRST, "noon", "start: must be times, got"),
        (ACTIONS, FIRST, "", "start: must be times, got none in row 1"),
        (IMU, "quat_z", "quat_q", "must have the column(s) quat_z, got unixtime, acc_x"),
        (IMU, "1648531521030,", "1648531521030,x", "acc_x: must be finite numbers, got"),
        (IMU, "1648531521030,", "1648531520030,", "unixtime: must rise from row to row"),
        (IMU, "", None, "no such file"),
    ],
)
def test_bad_openpack_files_are_named(tmp_path: Path, file: str, old: str, new: str | None, expected: str) -> None:
    arguments = packed(tmp_path, BOXES, samples=1500)
    path = tmp_path / "v" / "U1" / file
    text = path.read_text()
    assert old in text
    if new is None:
        path.unlink()
    else:
        path.write_text(text.replace(old, new, 1))
    assert refusal(*arguments).startswith(f"{path}: {expected}")


def test_a_folder_without_sessions_is_named(tmp_path: Path) -> None:
    expected = f"{tmp_path}: must hold USER/annotation/openpack-actions/SESSION.csv, got none"
    assert refusal("openpack", tmp_path, "--out", tmp_path / "out") == expected


def test_both_sides_need_a_recording(tmp_path: Path) -> None:
    rule = "must hold a box of at least 5 actions for training and one for validation, got 1 and 0"
    assert refusal(*packed(tmp_path, [[101] * 9])) == f"{tmp_path / 'v'}: {rule}"


def test_actions_outside_the_recording_are_named(tmp_path: Path) -> None:
    arguments = packed(tmp_path, [[101] * 9, [101] * 9, [], [101] * 9], samples=300)
    table = tmp_path / "v" / "U1" / "annotation" / "openpack-actions" / "S1.csv"
    assert refusal(*arguments) == f"{table}: box 2: must have IMU samples during its actions, got 0"


HANDED_OVER: dict[str, Callable[[Path], list[Any]]] = {
    "finegym": gym,
    "fineaction": lambda folder: action_files(folder, database(), CLASS_OF),
    "fineaction, csv": lambda folder: action_files(folder, database(), TABLE),
    "openpack": lambda folder: packed(folder, BOXES, samples=1500),
}


@pytest.mark.parametrize("name", HANDED_OVER)
def test_byte_order_marks_change_nothing_and_other_text_is_refused(tmp_path: Path, name: str) -> None:
    for folder, encoding in (("plain", "utf-8"), ("marked", "utf-8-sig")):
        arguments = HANDED_OVER[name](tmp_path / folder)
        files = [path for path in (tmp_path / folder).rglob("*") if path.is_file()]
        for path in files:
            path.write_text(path.read_text(), encoding=encoding)
        haan("convert", *arguments)
    written = [path.name for path in (tmp_path / "plain" / "out").iterdir()]
    assert all((tmp_path / one / "out" / "labels.npy").exists() for one in ("plain", "marked"))
    for file in written:
        assert (tmp_path / "marked" / "out" / file).read_bytes() == (tmp_path / "plain" / "out" / file).read_bytes()
    shutil.rmtree(tmp_path / "marked" / "out")  # else it is refused before anything is read
    for path in files:
        text = path.read_text(encoding="utf-8-sig")
        path.write_text(text, encoding="utf-16")
        assert refusal(*arguments) == f"{path}: must be UTF-8 text, got UTF-16"
        path.write_text(text)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> HaanConfig:
    config = tiny_config(tmp_path_factory.mktemp("planted") / "data", epochs=2)
    tiny_table(config)
    return config


def test_evaluate_gives_the_figure_of_training(
    config: HaanConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(dump(config))
    haan("train", tmp_path / "c.yaml", "--out", tmp_path / "out")
    best = float(capsys.readouterr().out.rpartition("avg.mAP ")[2].partition(";")[0])
    haan("detect", tmp_path / "out", "--out", tmp_path / "p.json")
    haan("convert", "truth", tmp_path / "out" / "best.yaml", "--out", tmp_path / "t.json")
    assert "18 training and 6 validation videos; written to" in capsys.readouterr().out
    tiou = ("--tiou", "0.1:0.5:0.05", "--subset", "validation", "--json")
    haan("evaluate", tmp_path / "t.json", tmp_path / "p.json", *tiou)
    assert json.loads(capsys.readouterr().out)["avg_map"] == best > 0


def test_ground_truth_says_which_videos_validate(config: HaanConfig, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(dump(config))
    haan("convert", "truth", tmp_path / "c.yaml", "--out", tmp_path / "held.json")
    haan("convert", "truth", tmp_path / "c.yaml", "--out", tmp_path / "o.json", "--set", "data.validation=official")
    held, official = (json.loads((tmp_path / f"{name}.json").read_text())["database"] for name in ("held", "o"))
    assert len(held) == 24 and len(official) == 36, "with a holdout the official validation videos have no part"
    assert sum(about["subset"] == "validation" for about in official.values()) == 12
    _, found, _ = open_data(config.data)
    about = official[found.names[0]]
    assert [entry["segment"] for entry in about["annotations"]] == found.segments[: found.segment_offsets[1]].tolist()
    assert [entry["label"] for entry in about["annotations"]] == [
        found.fine_names[j] for j in found.segment_fine[: found.segment_offsets[1]]
    ]
    assert about["duration"] == open_data(config.data)[0].num_clips[0] / found.clips_per_s[0]
