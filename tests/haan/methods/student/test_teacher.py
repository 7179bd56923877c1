"""What a student takes of its teacher's detections: by hand, by plain loops, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.checked import RuleError
from haan.data.table import Split
from haan.detectors.nms import Nms
from haan.errors import InputError
from haan.methods.base import Labelled
from haan.methods.names import method_of
from haan.methods.student.config import Student
from haan.methods.student.teacher import pseudo_segments, read_teacher
from haan.metrics import Detections
from haan.train import Trainer
from haan.yamlconfig import dump
from tests.haan.commands import haan
from tests.haan.detectors.plain import plain_nms
from tests.methods import teacher_of, tiny_of, write_teacher
from tests.planted import tiny_table

SEARCH = settings(max_examples=60, deadline=None, derandomize=True)


def detections(rows: list[tuple[int, int, float, float, float]]) -> Detections:
    columns = list(zip(*rows, strict=True)) if rows else [()] * 5
    kinds = (np.int64, np.int64, float, float, float)
    return Detections(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def rows_of(found: Detections) -> list[tuple]:
    return list(
        zip(*(getattr(found, name).tolist() for name in ("video", "label", "start_s", "end_s", "score")), strict=True)
    )


def test_what_is_taken_worked_by_hand() -> None:
    # Class 0: video 0 has 9, 8, 6 and 5, of which 8 overlaps 9; video 1 has 7 and 1. Left are 9, 7, 6, 5, 1: shares 0,
    # .2, .4, .6, .8 lie before them. Up to .4 they are sure, and 7, video 1's best; up to .8 unsure; 1 is none.
    rows = [(0, 0, 0, 2, 9), (0, 0, 0, 1.9, 8), (0, 0, 4, 5, 6), (0, 0, 6, 7, 5), (1, 0, 0, 1, 7), (1, 0, 3, 4, 1)]
    rows += [(1, 1, 0, 9, -3.0)]  # the only one of its class, whatever its score
    got = rows_of(pseudo_segments(detections(rows), Student(sure=0.4, unsure=0.8)))
    assert [(video, label, start) for video, label, start, *_ in got] == [
        (0, 0, 0), (0, 0, 4), (0, 0, 6), (1, 0, 0), (1, 1, 0)
    ]  # fmt: skip
    assert [row[4] for row in got] == pytest.approx([1.0, 0.0, 0.0, 0.8, 1.0])
    got = rows_of(pseudo_segments(detections(rows), Student(sure=0.5, unsure=1.0, most=2, weighted=False)))
    assert [row[4] for row in got] == [1, 0, 1, 0, 1], "of 9, 7, 6 and 1 the best half"


def plain_pseudo(rows: list[tuple], setting: Student) -> list[tuple]:
    found, by_class = [], dict[int, list[tuple]]()
    for pair in sorted({row[:2] for row in rows}):
        left = plain_nms([row[1:] for row in rows if row[:2] == pair], Nms(nms="hard", nms_tiou=setting.nms_tiou))
        best = sorted(left, key=lambda row: -row[3])[: setting.most]
        by_class.setdefault(pair[1], []).extend((pair[0], *row, rank) for rank, row in enumerate(best))
    for own in by_class.values():
        for place, (*row, _, rank) in enumerate(sorted(own, key=lambda one: -one[4])):
            share = place / len(own)
            weight = (1 - share if setting.weighted else 1.0) if share < setting.sure or rank == 0 else 0.0
            if weight or share < setting.unsure:
                found.append((*row, weight))
    return sorted(found)


@SEARCH
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 8), st.integers(1, 6)), max_size=14),
    st.integers(0, 10**6),
    st.sampled_from([(0.0, 0.0), (0.3, 0.8), (0.5, 1.0), (1.0, 1.0)]),
    st.integers(1, 3),
    st.booleans(),
)
def test_what_is_taken_is_as_plain_loops_have_it(
    where: list[tuple[int, int, int, int]], seed: int, shares: tuple[float, float], most: int, weighted: bool
) -> None:
    scores = np.random.default_rng(seed).permutation(len(where)).tolist()  # no two alike
    rows = [
        (video, label, float(start), float(start + length), float(score))
        for (video, label, start, length), score in zip(where, scores, strict=True)
    ]
    setting = Student(sure=shares[0], unsure=shares[1], most=most, weighted=weighted)
    got = rows_of(pseudo_segments(detections(rows), setting))
    assert sorted(got) == [pytest.approx(row) for row in plain_pseudo(rows, setting)]


KNOWN = Labelled(
    videos=np.arange(2), names=("v", "w"), num_clips=np.array([4, 4]), clips_per_s=np.ones(2), dim=4,
    fine=np.array([[True, False], [False, False]]), coarse=np.ones((2, 1), dtype=bool), fine_names=("run", "hop"),
    coarse_of_fine=np.zeros(2, dtype=np.int64),
)  # fmt: skip
SOUND: dict[str, Any] = {"version": "haan 1", "results": {"v": [], "w": []}}


def entry(label: str, start: float, end: float) -> dict[str, Any]:
    return {"label": label, "score": 1.0, "segment": [start, end]}


def read(folder: Path, content: dict[str, Any]) -> Detections:
    (folder / "t.json").write_text(json.dumps(content))
    return read_teacher(folder / "t.json", KNOWN)


def test_a_class_that_a_video_does_not_show_is_passed_over_and_other_videos_too(tmp_path: Path) -> None:
    found = [entry("run", 0, 1), entry("hop", 1, 2), entry("run", 3, 3)]
    got = read(tmp_path, SOUND | {"results": {"v": found, "w": found, "held out": found}})
    assert rows_of(got) == [(0, 0, 0, 1, 1)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "haan 1, method bmn, full supervision"}, "student.teacher: must be what `haan detect --train` "
         "wrote by a weakly supervised method, got .*t.json of 'haan 1, method bmn, full supervision'"),
        ({"version": "VERSION 1.3"}, "student.teacher: must be what .*, got .* of 'VERSION 1.3'"),
        ({"version": 1}, "t.json: version: must be text, got 1"),
        ({"results": {"v": []}}, "student.teacher: must have a list for each training video, .* for 1 of them: 'w'"),
        ({"results": {"v": [entry("fly", 0, 1)], "w": []}}, r"results.v\[0\].label: must be a class .*, got 'fly'"),
        ({"results": {"v": [{"label": "run"}], "w": []}}, r"results.v\[0\].segment: is required and missing"),
    ],
)  # fmt: skip
def test_what_no_weak_teacher_wrote_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert len(read(tmp_path, SOUND | {"version": "haan 1, method asl, weak supervision"})) == 0
    with pytest.raises(InputError, match=message):
        read(tmp_path, SOUND | change)


def test_a_student_without_a_teacher_or_with_shares_that_cross_is_refused(tmp_path: Path) -> None:
    config = tiny_of("student", tmp_path / "data")
    method = method_of(config)
    alone = replace(config, student=Student())  # type: ignore[call-arg]  # a student's
    with pytest.raises(InputError, match="student.teacher: must be a file that .* wrote, got null"):
        method.check(alone, KNOWN)
    for none in (teacher_of(tmp_path / "data"), tmp_path):
        nowhere = replace(config, student=Student(teacher=str(none)))  # type: ignore[call-arg]  # a student's
        with pytest.raises(InputError, match=f"student.teacher: must be a file .* got '{none}', which is none"):
            method.check(nowhere, KNOWN)
    (teacher_of(tmp_path / "data")).write_text(json.dumps(SOUND))
    with pytest.raises(InputError, match="student.teacher: must have a detection of a class .*, got none in"):
        method.check(config, KNOWN)
    with pytest.raises(RuleError, match=r"unsure: must be >= student.sure \(0.5\), got 0.4"):
        Student(sure=0.5, unsure=0.4)


@pytest.fixture
def problem(tmp_path: Path) -> tuple[Any, Any, Split]:
    root = tmp_path / "data"
    write_teacher(root, root)
    config = tiny_of("student", root)
    return config, *tiny_table(config)  # type: ignore[arg-type]  # of any method


def test_a_training_does_not_go_on_with_another_teacher(problem: tuple[Any, Any, Split], tmp_path: Path) -> None:
    Trainer(*problem).save(tmp_path / "state")
    path = teacher_of(tmp_path / "data")
    content = json.loads(path.read_text())
    content["results"] = {name: found[:1] for name, found in content["results"].items()}
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="student.teacher: must hold the detections that the checkpoint was taught by"):
        Trainer(*problem).load(tmp_path / "state")


def test_the_detections_of_a_training_teach_a_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("asl", "student", "actionformer"):
        config = tiny_of(name, Path("data"))
        config = replace(config, optim=replace(config.optim, epochs=1))
        Path(f"{name}.yaml").write_text(dump(config))
        if name != "student":
            haan("train", f"{name}.yaml", "--out", name)
    haan("detect", "asl", "--train", "--out", "teacher.json")
    written = json.loads(Path("teacher.json").read_text())
    assert len(written["results"]) == 24, "the held-out ones too"
    assert written["version"].endswith(", method asl, weak supervision")
    haan("train", "student.yaml", "--out", "student")
    haan("detect", "actionformer", "--train", "--out", "teacher.json")
    with pytest.raises(InputError, match="student.yaml:.*: student.teacher: must be what .* weakly supervised"):
        haan("train", "student.yaml", "--out", "other")
