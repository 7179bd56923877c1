"""haan.activitynet: what is read and written, and errors that name file, key path, rule and value."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.activitynet import Benchmark, read_benchmark, write_json, write_predictions
from haan.errors import InputError
from haan.metrics import Detections, Evaluator
from tests.haan.commands import haan


def action(start_s: float, end_s: float, label: str = "run") -> dict:
    return {"segment": [start_s, end_s], "label": label}


def detection(start_s: float, end_s: float, score: float, label: str = "run") -> dict:
    return action(start_s, end_s, label) | {"score": score}


def truth_of(*annotations: Any, subset: str = "validation") -> dict:
    """Ground truth of one video, v1."""
    return {"database": {"v1": {"subset": subset, "annotations": list(annotations)}}}


def results_of(*entries: Any) -> dict:
    return {"results": {"v1": list(entries)}}


TRUTH, RESULTS = truth_of(action(0, 10)), results_of(detection(0, 10, 0.5))


def read(folder: Path, truth: Any, results: Any, subset: str | None = None) -> Benchmark:
    for name, content in (("truth.json", truth), ("results.json", results)):
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_benchmark(folder / "truth.json", folder / "results.json", subset)


def test_both_files_are_read_on_common_indices(tmp_path: Path) -> None:
    truth = {
        "database": {
            "v1": {"annotations": [action(0, 10, "walk"), action(2.5, 4, "run")]},
            "v2": {"annotations": [action(1, 2, "walk")]},
        }
    }
    results = {"results": {"v2": [detection(1, 2, 0.5, "walk")], "v1": [detection(3, 4, -1, "run")]}}
    got = read(tmp_path, truth, results)
    assert got.classes == ("run", "walk")  # sorted
    assert got.truth.video.tolist() == [0, 0, 1] and got.truth.label.tolist() == [1, 0, 1]
    assert got.truth.start_s.tolist() == [0, 2.5, 1] and got.truth.end_s.tolist() == [10, 4, 2]
    assert got.detections.video.tolist() == [1, 0] and got.detections.label.tolist() == [1, 0]
    assert got.detections.start_s.tolist() == [1, 3] and got.detections.end_s.tolist() == [2, 4]
    assert got.detections.score.tolist() == [0.5, -1]
    assert (got.strangers, got.unknown) == (0, 0)


def test_predictions_outside_the_truth_are_counted_and_false(tmp_path: Path) -> None:
    # In v2, outside the truth, a better score: rank 1 is false, rank 2 true: AP 1/2.
    results = {"results": {"v1": [detection(0, 10, 0.5)], "v2": [detection(0, 10, 0.9), detection(0, 10, 0.1)]}}
    got = read(tmp_path, TRUTH, results)
    assert got.strangers == 2 and len(got.detections) == 3
    assert Evaluator(got.truth, 1, (0.5,)).score(got.detections).avg_map == 50


def test_predictions_of_a_class_without_truth_take_no_part(tmp_path: Path) -> None:
    got = read(tmp_path, TRUTH, results_of(detection(0, 10, 0.9, "fly"), detection(0, 10, 0.5)))
    assert got.unknown == 1 and got.classes == ("run",)
    assert got.detections.score.tolist() == [0.5]


def test_chosen_subset_alone_is_truth(tmp_path: Path) -> None:
    truth = {
        "database": {
            "v1": {"subset": "training", "annotations": [action(0, 10, "run")]},
            "v2": {"subset": "validation", "annotations": [action(0, 10, "walk")]},
        }
    }
    results = {"results": {"v1": [detection(0, 10, 0.9, "walk")], "v2": [detection(0, 10, 0.5, "walk")]}}
    chosen = read(tmp_path, truth, results, "validation")
    assert chosen.classes == ("walk",) and len(chosen.truth) == 1 and chosen.strangers == 1
    everything = read(tmp_path, truth, results)
    assert everything.classes == ("run", "walk") and len(everything.truth) == 2 and everything.strangers == 0


def test_other_subsets_are_not_looked_into(tmp_path: Path) -> None:
    truth = {"database": {**TRUTH["database"], "v2": {"subset": "testing"}}}  # no annotations there
    assert len(read(tmp_path, truth, RESULTS, "validation").truth) == 1


def test_truth_without_a_subset_key_is_read_when_none_is_asked_for(tmp_path: Path) -> None:
    assert len(read(tmp_path, {"database": {"v1": {"annotations": [action(0, 1)]}}}, RESULTS).truth) == 1


@pytest.mark.parametrize("times", [[0, 0], [81.66, 81.081]])
def test_segments_that_end_before_they_start_count_as_missed(tmp_path: Path, times: list[float]) -> None:
    # Of two segments one is found, first: AP 1/2. A detection of the other's own times is false: after it, no change.
    results = results_of(detection(0, 10, 0.9), detection(*sorted(times), 0.5))
    got = read(tmp_path, truth_of(action(0, 10), action(*times)), results)
    assert (got.unsound, len(got.truth)) == (1, 2)
    assert Evaluator(got.truth, 1, (0.5,)).score(got.detections).avg_map == 50


def test_times_of_a_ground_truth_may_be_text(tmp_path: Path) -> None:
    got = read(tmp_path, truth_of({"segment": ["18.6", "2.5e1"], "label": "run"}), RESULTS)
    assert (got.truth.start_s.tolist(), got.truth.end_s.tolist()) == ([18.6], [25])


@pytest.mark.parametrize("text", ["1_0", "0x1", "0,5", "nan", "inf", "१"])
def test_a_time_in_text_is_a_number_in_digits(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"segment: must be \[start_s, end_s\], finite numbers, got \[0.0, "):
        read(tmp_path, truth_of({"segment": ["0", text], "label": "run"}), RESULTS)


@pytest.mark.parametrize(
    ("times", "duration", "outside"),
    [([-5, -1], None, 1), ([-5, 0], 9, 1), ([20, 25], 20, 1), ([20, 25], "20", 1), ([19, 25], 20, 0), ([-1, 1], 9, 0)],
)
def test_segments_outside_their_video_are_counted(
    tmp_path: Path, times: list[float], duration: Any, outside: int
) -> None:
    truth = truth_of(action(0, 10), action(*times))
    truth["database"]["v1"]["duration"] = duration
    assert read(tmp_path, truth, RESULTS).outside == outside


@pytest.mark.parametrize(
    ("entry", "video", "said"),
    [
        (detection(0, 10, 0.5, "Run"), "v1", "'Run'; 1 of them are there in other case, as 'run'"),
        (detection(0, 10, 0.5, " run"), "v1", "' run'; 1 of them are there with other blanks, as 'run'"),
        (detection(0, 10, 0.5, "fly"), "v1", "1 predictions name a class without ground truth and are left out: 'fly'"),
        (detection(0, 10, 0.5), "v_v1", "'v_v1'; 1 of them are there without 'v_' before the name, as 'v1'"),
        (detection(10_000, 20_000, 0.5), "v1", "predictions end by 20000 s, the ground truth's segments by 10 s"),
    ],
)  # fmt: skip
def test_what_matches_nothing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: dict, video: str, said: str
) -> None:
    """Each was an avg.mAP of 0 with a count, or with no word."""
    read(tmp_path, TRUTH, {"results": {video: [entry]}})
    haan("evaluate", tmp_path / "truth.json", tmp_path / "results.json")
    assert any(line.endswith(said) for line in capsys.readouterr().err.splitlines())


def test_testing_videos_need_no_annotations(tmp_path: Path) -> None:
    truth = {"database": {**TRUTH["database"], "v2": {"subset": "testing"}}}
    assert read(tmp_path, truth, RESULTS).subsets == {"validation": (1, 0)}


def test_videos_without_a_prediction_are_counted_by_subset(tmp_path: Path) -> None:
    about = {"training": ["a", "b"], "validation": ["c", "d"]}
    truth = {name: {"subset": part, "annotations": [action(0, 1)]} for part, names in about.items() for name in names}
    truth |= {"e": {"annotations": [action(0, 1)]}, "f": {"subset": "validation", "annotations": []}}
    results = {"results": {"c": [detection(0, 1, 1)], "d": [], "e": [detection(0, 1, 1)], "x": [detection(0, 1, 1)]}}
    got = read(tmp_path, {"database": truth}, results)
    assert got.subsets == {"training": (2, 2), "validation": (2, 1), None: (1, 0)}
    assert (got.videos, got.predicted, got.unpredicted) == (5, 3, 3)


def test_no_prediction_scores_zero(tmp_path: Path) -> None:
    got = read(tmp_path, TRUTH, {"results": {}})
    assert Evaluator(got.truth, len(got.classes), (0.5, 0.7)).score(got.detections).avg_map == 0


def test_prediction_may_have_zero_length(tmp_path: Path) -> None:
    assert read(tmp_path, TRUTH, results_of(detection(3, 3, 0.5))).detections.end_s.tolist() == [3]


AT = "database.v1.annotations[0]"
SEGMENT = "must be [start_s, end_s], finite numbers"

BAD_TRUTH = [
    ([], "database: is required and missing"),
    ({"results": {}}, "database: is required and missing"),
    ({"database": [1]}, "database: must be an object, got [1]"),
    ({"database": {"v1": 3}}, "database.v1: must be an object, got 3"),
    ({"database": {}}, "database: must have an annotation, got none"),
    ({"database": {"v1": {}}}, "database.v1.annotations: is required and missing"),
    ({"database": {"v1": {"annotations": {"a": 1}}}}, "database.v1.annotations: must be a list, got {'a': 1}"),
    (truth_of("run"), f"{AT}: must be an object, got 'run'"),
    (truth_of({"segment": [0, 1]}), f"{AT}.label: is required and missing"),
    (truth_of({"segment": [0, 1], "label": 7}), f"{AT}.label: must be text, got 7"),
    (truth_of({"label": "run"}), f"{AT}.segment: is required and missing"),
    (truth_of({"label": "run", "segment": "0-1"}), f"{AT}.segment: must be a list, got '0-1'"),
    (truth_of({"label": "run", "segment": [1]}), f"{AT}.segment: {SEGMENT}, got [1]"),
    (truth_of({"label": "run", "segment": [1, 2, 3]}), f"{AT}.segment: {SEGMENT}, got [1, 2, 3]"),
    (truth_of({"label": "run", "segment": [0, "1 s"]}), f"{AT}.segment: {SEGMENT}, got [0, '1 s']"),
    (truth_of({"label": "run", "segment": [0, "inf"]}), f"{AT}.segment: {SEGMENT}, got [0, 'inf']"),
    (truth_of({"label": "run", "segment": [0, True]}), f"{AT}.segment: {SEGMENT}, got [0, True]"),
    (truth_of(action(0, float("nan"))), f"{AT}.segment: {SEGMENT}, got [0, nan]"),
    (truth_of(action(0, float("inf"))), f"{AT}.segment: {SEGMENT}, got [0, inf]"),
    (truth_of(action(0, 1), {"label": "run"}), "database.v1.annotations[1].segment: is required and missing"),
]

BAD_RESULTS = [
    ({}, "results: is required and missing"),
    ({"results": []}, "results: must be an object, got []"),
    ({"results": {"v1": "none"}}, "results.v1: must be a list, got 'none'"),
    (results_of(None), "results.v1[0]: must be an object, got None"),
    (results_of(action(0, 1)), "results.v1[0].score: must be a finite number, got None"),
    (results_of(detection(0, 1, float("nan"))), "results.v1[0].score: must be a finite number, got nan"),
    (results_of(action(0, 1) | {"score": "0.5"}), "results.v1[0].score: must be a finite number, got '0.5'"),
    (results_of(action(0, 1) | {"score": False}), "results.v1[0].score: must be a finite number, got False"),
    (results_of({"segment": [0, 1], "score": 1}), "results.v1[0].label: is required and missing"),
    (results_of(detection(0, 1, 1), detection(2, 1, 1)), "results.v1[1].segment: must have end >= start, got [2, 1]"),
]


def assert_refused(folder: Path, truth: Any, results: Any, subset: str | None, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(folder, truth, results, subset)
    assert caught.value.messages == [f"{folder}/{expected}"]


@pytest.mark.parametrize(("truth", "expected"), BAD_TRUTH)
def test_bad_truth_is_refused_by_file_key_rule_and_value(tmp_path: Path, truth: Any, expected: str) -> None:
    assert_refused(tmp_path, truth, RESULTS, None, f"truth.json: {expected}")


@pytest.mark.parametrize(("results", "expected"), BAD_RESULTS)
def test_bad_predictions_are_refused_by_file_key_rule_and_value(tmp_path: Path, results: Any, expected: str) -> None:
    assert_refused(tmp_path, TRUTH, results, None, f"results.json: {expected}")


def test_unknown_subset_is_refused_with_those_there_are(tmp_path: Path) -> None:
    truth = {"database": {**TRUTH["database"], "v2": {"subset": "training", "annotations": []}}}
    expected = "truth.json: subset: must be one of ['training', 'validation'] and have annotations, got 'test'"
    assert_refused(tmp_path, truth, RESULTS, "test", expected)


def test_subset_without_annotations_is_refused(tmp_path: Path) -> None:
    expected = "truth.json: subset: must be one of ['training'] and have annotations, got 'training'"
    assert_refused(tmp_path, truth_of(subset="training"), RESULTS, "training", expected)


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ({"annotations": []}, "database.v1.subset: is required and missing"),
        ({"subset": 1, "annotations": []}, "database.v1.subset: must be text, got 1"),
        (["validation"], "database.v1: must be an object, got ['validation']"),
    ],
)
def test_every_video_needs_a_subset_when_one_is_chosen(tmp_path: Path, about: Any, expected: str) -> None:
    assert_refused(tmp_path, {"database": {"v1": about}}, RESULTS, "validation", f"truth.json: {expected}")


def test_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_benchmark(tmp_path / "truth.json", tmp_path / "absent.json", None)
    assert str(caught.value) == f"{tmp_path}/absent.json: no such file"
    with pytest.raises(InputError, match="absent.json: no such file"):
        read_benchmark(tmp_path / "absent.json", tmp_path / "truth.json", None)


@pytest.mark.parametrize("content", ["", "{", "{'database': {}}", "[" * 100_000])
def test_what_is_not_json_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, content, RESULTS)
    assert str(caught.value).startswith(f"{tmp_path}/truth.json: must be JSON, got ")


def test_bytes_that_are_no_text_and_folders_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path):
        with pytest.raises(InputError) as caught:
            read_benchmark(path, path, None)
        assert str(caught.value).startswith(f"{path}: must be ")


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    marked = read(tmp_path, "\ufeff" + json.dumps(TRUTH), "\ufeff" + json.dumps(RESULTS))
    assert (len(marked.truth), len(marked.detections), marked.strangers) == (1, 1, 0)


def test_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, {"database": "x" * 10_000}, RESULTS)
    assert len(str(caught.value)) < len(str(tmp_path)) + 150


NAMES, CLASSES = ["v2", "v1", "ünlü"], ["run", "walk"]


def detections_of(rows: list) -> Detections:
    cells = list(zip(*rows, strict=True)) if rows else [()] * 5
    return Detections(*(np.array(cell, dtype=np.int64 if i < 2 else np.float64) for i, cell in enumerate(cells)))


def test_predictions_are_written_best_first_in_every_video(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    rows = [(1, 0, 0.0, 1.0, 0.2), (0, 1, 0.5, 2.0, 0.9), (1, 1, 3.0, 4.0, 0.7), (1, 0, 5.0, 6.0, 0.7)]
    write_predictions(path, NAMES, CLASSES, detections_of(rows), "haan 1")
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "version": "haan 1",
        "external_data": {},
        "results": {
            "v2": [detection(0.5, 2.0, 0.9, "walk")],
            # 0.7 twice: they keep their order.
            "v1": [detection(3.0, 4.0, 0.7, "walk"), detection(5.0, 6.0, 0.7), detection(0.0, 1.0, 0.2)],
            "ünlü": [],
        },
    }
    assert "ünlü" in path.read_text(encoding="utf-8")  # as text, not as \u escapes
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


span = st.tuples(st.floats(0, 1e6), st.floats(0, 1e3)).map(lambda pair: (pair[0], pair[0] + pair[1]))
rows_strategy = st.lists(
    st.builds(
        lambda video, label, times, score: (video, label, *times, score),
        st.integers(0, 2),
        st.integers(0, 1),
        span,
        st.integers(0, 2).map(float) | st.floats(-1e9, 1e9),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows_strategy)
def test_written_predictions_are_read_back_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory, rows: list
) -> None:
    folder = tmp_path_factory.getbasetemp()
    write_predictions(folder / "results.json", NAMES, CLASSES, detections_of(rows), "haan")
    truth = {name: {"annotations": [action(0, 1, label) for label in CLASSES]} for name in NAMES}
    (folder / "truth.json").write_text(json.dumps({"database": truth}), encoding="utf-8")
    got = read_benchmark(folder / "truth.json", folder / "results.json", None)
    found = got.detections
    columns = (found.video, found.label, found.start_s, found.end_s, found.score)
    # By video, then by falling score, ties in input order.
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == sorted(rows, key=lambda row: (row[0], -row[4]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_failed_write_leaves_the_old_file_alone(tmp_path: Path, value: float) -> None:
    path = tmp_path / "out.json"
    write_json(path, {"kept": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"lost": value})
    assert json.loads(path.read_text(encoding="utf-8")) == {"kept": 1}


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(truth_of(action(0, 1))))
    (tmp_path / "results.json").write_text('{"results": {"v": [], "v": []}}')
    with pytest.raises(InputError, match=r"results.json: must be JSON, got key 'v' twice in one object"):
        read_benchmark(tmp_path / "truth.json", tmp_path / "results.json", None)


def test_a_number_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"score: must be a finite number, got 1000"):
        read(tmp_path, truth_of(action(0, 1)), results_of({**detection(0, 1, 0.5), "score": 10**400}))
