"""haan.detectors.runs: a video worked by hand, agreement with plain loops over Eq. 11, and laws."""

import math
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from haan.detectors import runs as module
from haan.detectors.runs import RunsDetect, detect_many, top_mean
from haan.metrics import Detections
from tests.benchmarks.activations import ALPHAS as ALPHAS_41
from tests.benchmarks.activations import Activations, activations

SEARCH = settings(max_examples=120, deadline=None, derandomize=True)
LAWS = settings(max_examples=50, deadline=None, derandomize=True)
ALPHAS = [-1.0, -0.8, -0.2, 0.0, 0.1, 0.5, 1.0]

Row = tuple[int, int, float, float, float]  # video, class, start_s, end_s, score


def plain_detect(videos: list[list[list[float]]], ratios: list[float], setting: RunsDetect) -> list[Row]:
    """Sec. 3.4 with Eq. 11 by loops over videos, classes and clips, in that order; videos: [video][clip][class]."""
    rows: list[Row] = []
    for video, clips in enumerate(videos):
        for label in range(len(clips[0])):
            scores = [clip[label] for clip in clips]
            k = math.ceil(Fraction(str(setting.top_clips)) * len(scores))  # the decimal as written: 0.1 x 30 = 3
            level = sum(sorted(scores, reverse=True)[:k]) / k
            if not level > setting.class_threshold:
                continue
            base = sum(scores) / len(scores) if setting.threshold_from == "mean" else min(scores)
            threshold = base + setting.alpha * (max(scores) - min(scores))
            first = None
            for i in range(len(scores) + 1):
                positive = i < len(scores) and scores[i] > threshold
                if positive and first is None:
                    first = i
                if not positive and first is not None and i - first < setting.min_clips:
                    first = None
                if not positive and first is not None:
                    score = max(scores[first:i]) + setting.class_score_weight * level
                    rows.append((video, label, first / ratios[video], i / ratios[video], score))
                    first = None
    return rows


def rows_of(found: Detections) -> list[Row]:
    columns = (found.video, found.label, found.start_s, found.end_s, found.score)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def packed(videos: list[list[list[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """cas [clips, classes] and offsets [videos + 1]."""
    cas = np.concatenate([np.array(video, dtype=np.float32) for video in videos])
    return cas, np.cumsum([0] + [len(video) for video in videos])


def detect(
    cas: np.ndarray, offsets: np.ndarray, ratios: np.ndarray, setting: RunsDetect, alphas: Sequence[float]
) -> Iterator[Detections]:
    """Detections at one alpha after the other."""
    return (found for _, found in detect_many(cas, offsets, ratios, [replace(setting, alpha=a) for a in alphas]))


def run(
    videos: list[list[list[float]]], ratios: list[float], setting: RunsDetect, alphas: list[float]
) -> list[list[Row]]:
    return [rows_of(found) for found in detect(*packed(videos), np.array(ratios), setting, alphas)]


def column(*scores: float) -> list[list[float]]:
    """One video of one class."""
    return [[score] for score in scores]


def test_a_video_worked_by_hand() -> None:
    # Scores 0 4 4 0 0 8 at 2 clips a second: mean 16/6 = 2.67, range 8.
    # Level: top ceil(6 x 0.5) = 3 clips, (8 + 4 + 4) / 3 = 16/3 > 0, kept.
    # alpha 0: above 2.67 are clips 1-2 and 5: [1/2, 3/2] s of score 4 + 8/3, [5/2, 6/2] s of score 8 + 8/3.
    # alpha 0.5: threshold 6.67, clip 5 alone. alpha -0.8: threshold -3.73, the whole video: [0, 6/2] s.
    setting = RunsDetect(top_clips=0.5)
    got = run([column(0, 4, 4, 0, 0, 8)], [2.0], setting, [0.0, 0.5, -0.8])
    late = (0, 0, 2.5, 3.0, pytest.approx(8 + 8 / 3))
    assert got == [
        [(0, 0, 0.5, 1.5, pytest.approx(4 + 8 / 3)), late],
        [late],
        [(0, 0, 0.0, 3.0, pytest.approx(8 + 8 / 3))],
    ]


def test_detections_stand_by_video_then_class_then_time() -> None:
    # Each column has mean 1 and range 2 (alpha 0: positive where 2). Level: the largest clip, 2. Score 2 + 0.5 x 2 = 3.
    first = [[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]]
    second = [[0.0, 2.0], [2.0, 0.0]]
    (got,) = run([first, second], [1.0, 4.0], RunsDetect(), [0.0])
    assert got == [
        (0, 0, 0.0, 1.0, 3.0),
        (0, 0, 2.0, 3.0, 3.0),
        (0, 1, 1.0, 2.0, 3.0),
        (0, 1, 3.0, 4.0, 3.0),
        (1, 0, 0.25, 0.5, 3.0),
        (1, 1, 0.0, 0.25, 3.0),
    ]


def test_score_equal_to_the_threshold_is_not_positive() -> None:
    # 0, 1, 2: mean 1, so at alpha 0 clip 1 is not above it. alpha 0.5: threshold 1 + 0.5 x 2 = 2, no clip is.
    got = run([column(0, 1, 2)], [1.0], RunsDetect(top_clips=1.0), [0.0, 0.5])
    assert got == [[(0, 0, 2.0, 3.0, 2.5)], []]


def test_a_threshold_from_the_least_score_and_runs_of_two_clips_worked_by_hand() -> None:
    # 0 4 0 4 4 8 0: from the least score, alpha 0.25 is a threshold of 0 + 0.25 x 8 = 2; clip 1 alone is too short, and
    # clips 3-5 are a run of largest score 8. Level: ceil(7 x 0.25) = 2 clips, (8 + 4) / 2 = 6; 8 + 0.7 x 6 = 12.2.
    setting = RunsDetect(threshold_from="min", min_clips=2, class_score_weight=0.7)
    got = run([column(0, 4, 0, 4, 4, 8, 0)], [1.0], setting, [0.25, 0.5])
    # At 0.5 the threshold is 4, which only clip 5 exceeds.
    assert got == [[(0, 0, 3.0, 6.0, pytest.approx(12.2))], []]


@pytest.mark.parametrize(
    ("scores", "threshold", "kept"),
    [((1, -1), 0.0, False), ((3, -1), 0.0, True), ((3, -1), 1.0, False), ((-3, -4), -4.0, True)],
)
def test_class_is_kept_where_its_level_exceeds_the_threshold(scores: tuple, threshold: float, kept: bool) -> None:
    # Levels over both clips: 0, 1, 1, -3.5.
    setting = RunsDetect(top_clips=1.0, class_threshold=threshold)
    (got,) = run([column(*scores)], [1.0], setting, [0.0])
    assert [row[:4] for row in got] == ([(0, 0, 0.0, 1.0)] if kept else [])


def test_weight_of_the_level_may_be_any_number() -> None:
    # 0, 4: level 2 over both clips, one detection of largest score 4: 4 + w x 2.
    for weight, expected in ((0.0, 4.0), (0.25, 4.5), (-1.0, 2.0)):
        (got,) = run([column(0, 4)], [1.0], RunsDetect(top_clips=1.0, class_score_weight=weight), [0.0])
        assert got == [(0, 0, 1.0, 2.0, expected)]


def test_top_clips_are_rounded_up_from_the_share_as_written() -> None:
    # 0.07 x 100 is 7.000000000000001 in floating point, and a share one rounding above 0.1 gives 30 a little over 3.
    scores = np.arange(30, dtype=np.float32)[:, None]
    assert top_mean(scores, 0.1).tolist() == [28.0]  # (29 + 28 + 27) / 3
    assert top_mean(scores, 0.1 + 0.2 - 0.2).tolist() == [28.0]
    assert top_mean(scores, 0.11).tolist() == [27.5]  # ceil(3.3) = 4: (29 + 28 + 27 + 26) / 4
    assert top_mean(np.arange(100, dtype=np.float32)[:, None], 0.07).tolist() == [96.0]  # 99 .. 93


@pytest.mark.parametrize("percent", range(1, 101))
def test_number_of_top_clips_is_exact_for_every_percentage(percent: int) -> None:
    for num_clips in range(1, 201):
        k = -(-percent * num_clips // 100)
        # Only the clip of rank k is below 0: the mean is -1 / k when exactly k clips are taken.
        scores = np.zeros((num_clips, 1), dtype=np.float32)
        scores[k - 1 :] = -1
        assert top_mean(scores, percent / 100).tolist() == [-1 / k]


# Multiples of 1/4 tie often, multiples of 2**-16 seldom; sums of either are exact, so that both sides round alike and
# every comparison with a threshold can be asked for exactly.
coarse_scores = st.integers(-8, 12).map(lambda n: n / 4)
fine_scores = st.integers(-(2**19), 2**19).map(lambda n: n / 2**16)


@st.composite
def ragged(draw: st.DrawFn) -> tuple[list[list[list[float]]], list[float]]:
    """Videos of 1 to 9 clips, some columns constant, and their clips a second."""
    classes = draw(st.integers(1, 4))
    scores = draw(st.sampled_from([coarse_scores, fine_scores]))
    videos = []
    for num_clips in draw(st.lists(st.integers(1, 9), min_size=1, max_size=6)):
        of_class = st.lists(scores, min_size=num_clips, max_size=num_clips) | scores.map(lambda s, n=num_clips: [s] * n)
        columns = draw(st.lists(of_class, min_size=classes, max_size=classes))
        videos.append([list(clip) for clip in zip(*columns, strict=True)])
    ratios = draw(st.lists(st.sampled_from([1.0, 1.5, 24 / 16, 0.3, 7.0]), min_size=len(videos), max_size=len(videos)))
    return videos, ratios


detect_settings = st.builds(
    RunsDetect,
    alpha=st.sampled_from(ALPHAS) | st.floats(-2, 2),
    top_clips=st.sampled_from([0.01, 0.1, 0.25, 0.3, 0.5, 0.7, 1.0]),
    class_threshold=st.sampled_from([-100.0, -1.0, 0.0, 0.5, 100.0]),
    class_score_weight=st.sampled_from([0.0, 0.5, 1.0, -0.5]),
    threshold_from=st.sampled_from(["mean", "min"]),
    min_clips=st.integers(1, 3),
)


@SEARCH
@example(([[[1.0]]], [1.0]), RunsDetect())  # one clip
@example(([[[1.0]], [[2.0]], [[0.0], [4.0]]], [1.0, 1.0, 2.0]), RunsDetect())
@given(ragged(), detect_settings)
def test_detections_are_those_of_the_oracle(batch: tuple, setting: RunsDetect) -> None:
    videos, ratios = batch
    got = run(videos, ratios, setting, ALPHAS)
    for alpha, rows in zip(ALPHAS, got, strict=True):
        assert rows == plain_detect(videos, ratios, replace(setting, alpha=alpha))


@SEARCH
@given(ragged(), st.lists(detect_settings, max_size=6).flatmap(lambda some: st.permutations(some + some[:2])))
def test_detect_many_answers_each_setting_in_its_place(batch: tuple, many: list[RunsDetect]) -> None:
    videos, ratios = batch
    got = {place: rows_of(found) for place, found in detect_many(*packed(videos), np.array(ratios), many)}
    assert got == {place: plain_detect(videos, ratios, setting) for place, setting in enumerate(many)}


@st.composite
def batch_and_alphas(draw: st.DrawFn) -> tuple[tuple[list[list[list[float]]], list[float]], list[float]]:
    """Videos, and alphas in any order, some twice, some with a threshold that is one of the scores."""
    videos, ratios = draw(ragged())
    alphas = draw(st.lists(st.sampled_from(ALPHAS) | st.floats(-3, 3), max_size=6))
    for _ in range(draw(st.integers(0, 3))):
        clips = draw(st.sampled_from(videos))
        scores = [clip[0] for clip in clips]
        if max(scores) > min(scores):
            alphas.append((draw(st.sampled_from(scores)) - sum(scores) / len(scores)) / (max(scores) - min(scores)))
    return (videos, ratios), draw(st.permutations(alphas + alphas[:2]))


@SEARCH
@example((([[[1.0]]], [1.0]), []), RunsDetect())
@given(batch_and_alphas(), detect_settings)
def test_each_of_any_alphas_gives_the_detections_of_the_oracle(case: tuple, setting: RunsDetect) -> None:
    (videos, ratios), alphas = case
    found = list(
        detect(*packed(videos), np.array(ratios), setting, alphas)
    )  # later ones leave earlier ones as they are
    assert [rows_of(one) for one in found] == [
        plain_detect(videos, ratios, replace(setting, alpha=alpha)) for alpha in alphas
    ]


def test_long_videos_and_more_alphas_than_a_byte_counts_are_those_of_the_oracle() -> None:
    # Waves of a few lengths give runs of many peaks. Multiples of 1/64: every sum is exact.
    rng = np.random.default_rng(0)
    alphas = np.linspace(-1.2, 1.2, 300).tolist()
    videos, ratios = [], [1.5, 0.7, 3.0]
    for num_clips in (300, 57, 300):
        wave = 3 * np.sin(np.arange(num_clips)[:, None] / [2.0, 9.0, 40.0]) + rng.normal(0, 0.5, (num_clips, 3))
        videos.append((np.round(64 * wave) / 64).tolist())
    setting = RunsDetect(class_threshold=-1e3)
    for alpha, rows in zip(alphas, run(videos, ratios, setting, alphas), strict=True):
        assert rows == plain_detect(videos, ratios, replace(setting, alpha=alpha))


def test_threshold_is_not_rounded_to_the_precision_of_the_scores() -> None:
    # 0, 1: mean 1/2, range 1. At alpha 1/2 the threshold is 1, not exceeded. A 1e-15 lower it is below 1, though the
    # nearest float32 is 1; at alpha -1/2 it is 0, and a 1e-15 lower it is below 0.
    got = run([column(0, 1)], [1.0], RunsDetect(), [0.5, 0.5 - 1e-15, -0.5, -0.5 - 1e-15])
    assert [[row[2:4] for row in rows] for rows in got] == [[], [(1.0, 2.0)], [(1.0, 2.0)], [(0.0, 2.0)]]


def test_threshold_beyond_float32_is_above_or_below_every_score() -> None:
    # Mean 0, range 6e38, thresholds -1.2e39, 0, 1.2e39.
    got = run([column(-3e38, 3e38)], [1.0], RunsDetect(), [-2.0, 0.0, 2.0])
    assert [[row[2:4] for row in rows] for rows in got] == [[(0.0, 2.0)], [(1.0, 2.0)], []]


def test_memory_does_not_grow_with_the_number_of_alphas() -> None:
    # A pass holds its edges and one alpha's detections: 48 MB against 32 MB for one alpha. All of them would be 92 MB.
    problem = activations("finegym")
    one, all_of_them = (peak_bytes(problem, alphas) for alphas in ([0.0], ALPHAS_41))
    assert all_of_them <= 2 * one


def peak_bytes(problem: Activations, alphas: Sequence[float]) -> int:
    """The most that detection holds beyond its input while its results are let go one by one."""
    tracemalloc.start()
    try:
        for _ in detect(problem.cas, problem.offsets, problem.clips_per_s, problem.video_set.detect, alphas):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("block", [1, 2, 7, 20])
@given(batch=ragged(), setting=detect_settings)
@LAWS
def test_size_of_a_block_changes_nothing(block: int, batch: tuple, setting: RunsDetect) -> None:
    whole = run(*batch, setting, ALPHAS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        assert run(*batch, setting, ALPHAS) == whole


@LAWS
@given(ragged(), st.floats(-2, 2))
def test_constant_column_gives_no_detection_at_any_alpha(batch: tuple, alpha: float) -> None:
    # Its range is 0, so the threshold is the mean, the score itself, and no clip is greater. A single clip is constant.
    videos, ratios = batch
    flat = [[video[0]] * len(video) for video in videos]
    assert run(flat, ratios, RunsDetect(class_threshold=-1e3), [alpha]) == [[]]


@pytest.mark.parametrize("num_clips", [1, 3, 56, 1001])
def test_rounding_never_makes_a_collapsed_column_positive(num_clips: int) -> None:
    # The float32 mean of 56 such scores differs from each of them; here the mean must be taken in float64.
    cas = np.full((num_clips, 1), 0.30184281, dtype=np.float32)
    for sign in (1, -1):
        (found,) = detect(sign * cas, np.array([0, num_clips]), np.ones(1), RunsDetect(class_threshold=-1.0), [0.0])
        assert len(found) == 0


@LAWS
@given(ragged())
def test_alpha_of_minus_one_takes_every_column_that_varies_whole(batch: tuple) -> None:
    # mean - (max - min) < min whenever mean < max.
    videos, ratios = batch
    (got,) = run(videos, ratios, RunsDetect(class_threshold=-1e3), [-1.0])
    expected = [
        (video, label, 0.0, len(clips) / ratios[video])
        for video, clips in enumerate(videos)
        for label in range(len(clips[0]))
        if len({clip[label] for clip in clips}) > 1
    ]
    assert [row[:4] for row in got] == expected


@LAWS
@given(ragged(), detect_settings)
def test_alpha_of_the_settings_is_not_read(batch: tuple, setting: RunsDetect) -> None:
    other = replace(setting, alpha=setting.alpha + 1)
    assert run(*batch, setting, ALPHAS) == run(*batch, other, ALPHAS)


@LAWS
@given(ragged(), detect_settings)
def test_a_video_is_detected_alike_alone_and_among_others(batch: tuple, setting: RunsDetect) -> None:
    videos, ratios = batch
    together = run(videos, ratios, setting, [0.1])[0]
    alone = [
        (i, *row[1:])
        for i, (video, ratio) in enumerate(zip(videos, ratios, strict=True))
        for row in run([video], [ratio], setting, [0.1])[0]
    ]
    assert together == alone


def test_no_kept_class_gives_empty_columns_of_the_right_types() -> None:
    (found,) = detect(*packed([column(-1, -2)]), np.ones(1), RunsDetect(), [0.0])
    assert len(found) == 0
    assert found.video.dtype == found.label.dtype == np.int64
    assert found.start_s.dtype == found.end_s.dtype == found.score.dtype == np.float64


def test_detect_many_of_no_settings_is_empty() -> None:
    assert list(detect_many(*packed([column(1, 2)]), np.ones(1), [])) == []


def test_the_smallest_share_of_top_clips_is_one_clip() -> None:
    assert top_mean(np.array([[1.0], [3.0], [2.0]], dtype=np.float32), 1e-10).tolist() == [3.0]
