"""haan.detectors.grid: a video worked by hand, agreement with plain loops over positions, and laws."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haan.detectors import grid
from haan.detectors.grid import ActionnessGrid, Grid, Sequences, SidedGrid
from haan.metrics import Detections
from tests.haan.detectors.plain import Found, plain_grid

SEARCH = settings(max_examples=200, deadline=None, derandomize=True)
LAWS = settings(max_examples=40, deadline=None, derandomize=True)
Video = list[list[float]]  # [clip][class]
Problem = tuple[list[Video], list[list[float]], list[float]]
MANY = st.sampled_from([None, 1, 6, 13])


def run(problem: Problem, *wanted: Grid, many: int | None = None) -> list[list[Found]]:
    """The detections at each setting. many: clips that each video is resampled to."""
    videos, probabilities, ratios = problem
    scores = np.concatenate([np.array(video, dtype=np.float32) for video in videos])
    offsets = np.cumsum([0] + [len(video) for video in videos])
    found = Sequences(scores, np.array(probabilities), clips=many)
    by_place = dict(grid.detect_many(found, offsets, np.array(ratios), wanted))
    return [rows_of(by_place[place]) for place in range(len(wanted))]


def rows_of(found: Detections) -> list[Found]:
    columns = (found.video, found.label, found.start_s, found.end_s, found.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def assert_same(got: list[Found], expected: list[Found]) -> None:
    """The same detections; of those of one place, scores may stand in another order."""
    got, expected = sorted(got), sorted(expected)
    assert [row[:4] for row in got] == [row[:4] for row in expected]
    assert [row[4] for row in got] == pytest.approx([row[4] for row in expected], abs=1e-9)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Videos of 1 to 9 clips whose scores are quarters, some beyond 0 and 1."""
    classes = draw(st.integers(1, 3))
    clip = st.lists(st.integers(-1, 5).map(lambda n: n / 4), min_size=classes, max_size=classes)
    videos = draw(st.lists(st.lists(clip, min_size=1, max_size=9), min_size=1, max_size=4))
    probability = st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=classes, max_size=classes)
    ratios = st.sampled_from([0.5, 1.0, 1.5625])
    size = len(videos)
    return videos, *(draw(st.lists(one, min_size=size, max_size=size)) for one in (probability, ratios))


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Thresholds among the scores themselves, so that positions tie with them."""
    thresholds = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.75]), min_size=1, max_size=4, unique=True)
    shares = draw(st.sampled_from([{}, {"least_share": 0.0}, {"least_share": 0.37}]))
    return (SidedGrid if shares else Grid)(
        **shares,
        class_threshold=draw(st.sampled_from([0.0, 0.25, 0.6, 1.0])),
        class_score_weight=draw(st.sampled_from([0.0, 0.2, 1.0])),
        thresholds=tuple(draw(thresholds)),
        upsampling=draw(st.sampled_from([1, 2, 3, 24])),
        context=draw(st.sampled_from([0.25, 0.3, 2.0])),
        min_positions=draw(st.sampled_from([1, 2, 5])),
        nms=draw(st.sampled_from(["hard", "half_soft", "soft"])),
        nms_tiou=draw(st.sampled_from([0.2, 0.4, 1.0])),
        nms_sigma=draw(st.sampled_from([0.35, 0.5])),
        nms_tiou_of=draw(st.sampled_from(["seconds", "released"])),
    )


def separate(problem: Problem, setting: Grid, many: int | None) -> bool:
    """Whether the proposals of each video's class differ in score, unless they are the same: no rounding decides."""
    apart = replace(setting, nms="hard", nms_tiou=1.0, nms_tiou_of="seconds")
    rows = sorted((row[0], row[1], row[4]) for row in plain_grid(*problem, apart, many=many))
    return all(a[:2] != b[:2] or b[2] - a[2] > 1e-9 for a, b in zip(rows, rows[1:], strict=False))


def test_a_video_worked_by_hand() -> None:
    # Clips 0 1 1 0 at 2 a second, 2 positions a clip: 0 1/2 1 1 1 1/2 0 -1/2 (as before, beyond the last clip).
    # At 0.6: positions 2 to 4, [2/2, 5/2] clips, [0.5, 1.25] s. Around them trunc(2 - 1.5) = 0 to 1 and 5 to
    # trunc(4 + 1.5) = 5: 0, 1/2, 1/2, mean 1/3. Score 1 - 1/3 + 0.2 x 0.7.
    # At 0.5: positions 1 to 5, [0.25, 1.5] s: 4/5 - mean of 0 and 0 (trunc(1 - 2.5) is before the first one, which is
    # taken; trunc(5 + 2.5) = 7: 0, -1/2): 4/5 + 1/6.
    setting = Grid(thresholds=(0.6, 0.5), upsampling=2, context=0.5, nms_tiou=1.0)
    (got,) = run(([[[0.0], [1.0], [1.0], [0.0]]], [[0.7]], [2.0]), setting)
    assert got == [
        (0, 0, 0.25, 1.5, pytest.approx(0.8 + 1 / 6 + 0.14)),
        (0, 0, 0.5, 1.25, pytest.approx(1 - 1 / 3 + 0.14)),
    ]


def test_the_most_probable_class_is_kept_where_none_is_probable_enough() -> None:
    clips = [[0.9, 0.9, 0.9]] * 3
    for least, kept in ((0.5, [1]), (0.3, [1]), (0.2, [0, 1])):
        setting = Grid(class_threshold=least, thresholds=(0.5,))
        (got,) = run(([clips], [[0.2, 0.4, 0.1]], [1.0]), setting)
        assert [row[1] for row in got] == kept


def test_times_by_the_starts_of_clips() -> None:
    # 0 0 1 0 0 at 4 positions a clip reach 0.5 from position 6 to 10 (2 - 2/4, 2 + 2/4): clips [1.5, 2.75], for a
    # clip's value stands at its start.
    middle, start = ([[0.0], [0.0], [1.0], [0.0], [0.0]], [[1.0], [0.0], [0.0]])
    (got,) = run(([middle, start], [[1.0], [1.0]], [1.0, 1.0]), Grid(thresholds=(0.5,), upsampling=4))
    assert [row[2:4] for row in got] == [(1.5, 2.75), (0.0, 0.75)]


def test_a_sequence_that_only_crosses_within_a_clip() -> None:
    # From 0.1 to 0.9 in 24 positions: 0.1 + r x 0.8 / 24 reaches 0.49 at r = 12, and 0.29 at r = 6.
    setting = Grid(thresholds=(0.49, 0.29), nms_tiou=1.0, context=10.0)
    (got,) = run(([[[0.1], [0.9]]], [[1.0]], [1.0]), setting)
    assert sorted(row[2] for row in got) == [6 / 24, 12 / 24]


def test_both_sides_of_a_run_count_alike_worked_by_hand() -> None:
    # Runs above 0.5 of 0.1 0.3 0.9 0.7 0.8 0.9 0.2 0.4 0.6: positions 2 to 5, a quarter of which is 1 a side: 0.3 and
    # 0.2, 0.825 - 0.25; and 8 alone: one side, 0.4, of at least one position: 0.2. With half its length a side has 2:
    # (0.1 + 0.3) / 2 and (0.2 + 0.4) / 2. A share of 0.4 of 0.575 is 0.23.
    clips = [[value] for value in (0.1, 0.3, 0.9, 0.7, 0.8, 0.9, 0.2, 0.4, 0.6)]
    setting = SidedGrid(thresholds=(0.5,), upsampling=1, class_score_weight=0.0)
    others = replace(setting, context=0.5), replace(setting, least_share=0.4)
    got = [[row[2:] for row in rows] for rows in run(([clips], [[1.0]], [1.0]), setting, *others)]
    first, last = (2.0, 6.0, pytest.approx(0.575)), (8.0, 9.0, pytest.approx(0.2))
    assert got == [[first, last], [(2.0, 6.0, pytest.approx(0.575)), last], [first]]


def test_nothing_reaches_any_threshold() -> None:
    assert run(([[[0.0]], [[0.05], [0.0]]], [[1.0], [1.0]], [1.0, 1.0]), Grid()) == [[]]


@SEARCH
@given(problems(), grids(), MANY)
def test_detections_are_those_of_plain_loops(problem: Problem, setting: Grid, many: int | None) -> None:
    if not separate(problem, setting, many):
        setting = replace(setting, nms="hard", nms_tiou=1.0, nms_tiou_of="seconds")  # equal ones alone are suppressed
    assert_same(run(problem, setting, many=many)[0], plain_grid(*problem, setting, many=many))


@SEARCH
@given(problems(), grids(), MANY, st.data())
def test_runs_of_actionness_are_those_of_plain_loops(
    problem: Problem, setting: Grid, many: int | None, data: st.DataObject
) -> None:
    videos, probabilities, ratios = problem
    quarter = st.integers(-1, 5).map(lambda n: n / 4)
    actionness = [data.draw(st.lists(quarter, min_size=len(one), max_size=len(one))) for one in videos]
    shared = {key: value for key, value in vars(setting).items() if key != "least_share"}
    with_actionness = ActionnessGrid(
        **{**shared, "nms": "hard", "nms_tiou": 1.0, "nms_tiou_of": "seconds"}, actionness_thresholds=(0.3, 0.5)
    )
    scores = np.concatenate([np.array(video, dtype=np.float32) for video in videos])
    offsets = np.cumsum([0] + [len(video) for video in videos])
    found = Sequences(scores, np.array(probabilities), np.concatenate(actionness).astype(np.float32), many)
    ((_, got),) = grid.detect_many(found, offsets, np.array(ratios), [with_actionness])
    expected = plain_grid(videos, probabilities, ratios, with_actionness, actionness, many)
    assert_same(rows_of(got), expected)


@LAWS
@given(problems(), st.lists(grids(), min_size=1, max_size=3), st.data())
def test_each_setting_of_a_sweep_is_as_alone(problem: Problem, some: Sequence[Grid], data: st.DataObject) -> None:
    wanted = [
        replace(one, class_threshold=threshold, class_score_weight=weight, nms_tiou=tiou, min_positions=least)
        for one in some
        for least in (1, 3)
        for threshold in (0.0, 0.5)
        for weight in (0.0, 0.7)
        for tiou in (0.3, 0.6)
    ]
    wanted = data.draw(st.permutations(wanted))
    assert run(problem, *wanted) == [run(problem, one)[0] for one in wanted]


@LAWS
@given(problems(), grids(), MANY)
def test_other_videos_change_nothing(problem: Problem, setting: Grid, many: int | None) -> None:
    videos, probabilities, ratios = problem
    alone = [
        (number, *row[1:])
        for number, one in enumerate(zip(videos, probabilities, ratios, strict=True))
        for row in run(tuple([part] for part in one), setting, many=many)[0]
    ]
    assert run(problem, setting, many=many) == [alone]


@LAWS
@given(problems(), grids(), MANY)
def test_small_blocks_change_nothing(problem: Problem, setting: Grid, many: int | None) -> None:
    whole = run(problem, setting, many=many)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "_BLOCK", 3)
        assert run(problem, setting, many=many) == whole


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("thresholds", (-0.1,), "must hold thresholds >= 0"),
        ("thresholds", (), "must hold thresholds >= 0"),
        ("class_threshold", 1.5, "must be >= 0 and <= 1"),
        ("upsampling", 0, "must be >= 1"),
        ("nms", "harder", "must be 'hard' or 'half_soft' or 'soft'"),
        ("nms_tiou", 0.0, "must be > 0 and <= 1"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_rule(key: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as error:
        Grid(**{key: value})
    assert str(error.value).startswith(f"{key}: ")
