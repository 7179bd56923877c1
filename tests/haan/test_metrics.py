"""haan.metrics: numbers worked by hand, agreement with the plain oracle, and laws."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from haan.metrics import Detections, Evaluator, Score, Segments, tiou
from tests import metrics_oracle
from tests.benchmarks import numpy_scorer
from tests.metrics_oracle import Detection, Truth

VIDEOS, CLASSES = 4, 4
THRESHOLDS = (0.1, 0.25, 0.3, 0.5, 0.75, 0.95, 1.0)
SEARCH = settings(max_examples=150, deadline=None, derandomize=True)
LAWS = settings(max_examples=60, deadline=None, derandomize=True)


def columns(rows: list, width: int) -> list[np.ndarray]:
    """Video, class and then numbers, as the arrays that haan.metrics takes."""
    cells = list(zip(*rows, strict=True)) if rows else [()] * width
    return [np.array(cell, dtype=np.int64 if i < 2 else np.float64) for i, cell in enumerate(cells)]


def score(
    truth: list[Truth], found: list[Detection], thresholds: tuple[float, ...] = THRESHOLDS, num_classes: int = CLASSES
) -> Score:
    evaluator = Evaluator(Segments(*columns(truth, 4)), num_classes, thresholds)
    return evaluator.score(Detections(*columns(found, 5)))


def one_class(truth: list[tuple[float, float]], found: list[tuple[float, float, float]], *thresholds: float) -> list:
    """Average precision at each threshold of one class in one video, of segments (start, end) and a score."""
    rows = [(0, 0, *segment) for segment in found]
    return score([(0, 0, *segment) for segment in truth], rows, thresholds, 1).ap[:, 0].tolist()


@pytest.mark.parametrize(
    ("segment", "other", "expected"),
    [
        ((0, 10), (5, 15), 5 / 15),
        ((0, 10), (2, 6), 4 / 10),
        ((0, 10), (10, 20), 0),  # they touch
        ((0, 10), (12, 20), 0),
        ((3, 3), (0, 10), 0),  # zero length
        ((3, 3), (3, 3), 0),  # the union is empty
        ((3, 7), (3, 7), 1),
    ],
)
def test_tiou_is_overlap_over_union(segment: tuple, other: tuple, expected: float) -> None:
    arrays = [np.array([value], dtype=float) for value in (*segment, *other)]
    assert tiou(*arrays).tolist() == [expected]
    assert tiou(*arrays[2:], *arrays[:2]).tolist() == [expected]
    assert metrics_oracle.tiou(*segment, *other) == expected


def test_precision_is_interpolated_over_recall() -> None:
    # Two truths; ranks: true, false, true. Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: 1/2 x 1 + 1/2 x 2/3 = 5/6.
    found = [(0, 10, 0.9), (50, 60, 0.8), (20, 30, 0.7)]
    assert one_class([(0, 10), (20, 30)], found, 0.5) == [pytest.approx(5 / 6, abs=1e-12)]


def test_a_better_precision_at_higher_recall_counts_for_the_lower_one() -> None:
    # Ranks: false, true, true. Precision 0, 1/2, 2/3: the first hit takes the later 2/3 too: 1/2 x 2/3 x 2 = 2/3.
    found = [(50, 60, 0.9), (0, 10, 0.8), (20, 30, 0.7)]
    assert one_class([(0, 10), (20, 30)], found, 0.5) == [pytest.approx(2 / 3, abs=1e-12)]


def test_truth_that_is_never_found_adds_nothing() -> None:
    # One of four truths found at rank 1: recall stops at 1/4.
    assert one_class([(0, 1), (2, 3), (4, 5), (6, 7)], [(0, 1, 0.5)], 0.5) == [0.25]


def test_tiou_equal_to_the_threshold_is_enough() -> None:
    # [0, 10] and [0, 5]: 5 / 10 = 0.5 exactly.
    assert one_class([(0, 10)], [(0, 5, 1.0)], 0.5, math.nextafter(0.5, 1)) == [1.0, 0.0]


def test_truth_is_taken_once_and_the_second_detection_takes_the_next_one() -> None:
    # Truths A [0, 10], B [0, 8]; both detections are [0, 10]: tIoU 1 with A, 0.8 with B.
    # At 0.8: the first takes A, the second B: AP 1. At 0.9 the second finds only A, taken: precision 1 at recall 1/2.
    assert one_class([(0, 10), (0, 8)], [(0, 10, 2.0), (0, 10, 1.0)], 0.8, 0.9) == [1.0, 0.5]


def test_detection_takes_the_free_truth_of_largest_tiou() -> None:
    # A [0, 10], B [0, 8]. D1 [0, 9]: A 0.9, B 8/9, takes A. D2 [0, 10]: A is taken, B 0.8. D3 [0, 8]: A 0.8, B 1.
    # At 0.8 D2 takes B: AP 1. At 0.85 D2 is false and D3 takes B: 1/2 x 1 + 1/2 x 2/3 = 5/6 (1, had D1 taken B).
    found = [(0, 9, 3.0), (0, 10, 2.0), (0, 8, 1.0)]
    assert one_class([(0, 10), (0, 8)], found, 0.8, 0.85) == [1.0, pytest.approx(5 / 6, abs=1e-12)]


def test_equal_scores_are_ranked_by_input_order() -> None:
    # The miss first: precision 1/2 at the hit; the hit first: 1.
    assert one_class([(0, 10)], [(50, 60, 1.0), (0, 10, 1.0)], 0.5) == [0.5]
    assert one_class([(0, 10)], [(0, 10, 1.0), (50, 60, 1.0)], 0.5) == [1.0]


def test_equal_tious_take_the_truth_that_stands_first() -> None:
    # D1 [2, 8] has 4/8 with A [4, 10] and with B [0, 6]. It takes the first; D2 is A itself.
    # A first: D1 -> A, D2: A taken, B has 2/10 -> false: AP 1/2. B first: D1 -> B, D2 -> A: AP 1.
    found = [(2, 8, 2.0), (4, 10, 1.0)]
    assert one_class([(4, 10), (0, 6)], found, 0.5) == [0.5]
    assert one_class([(0, 6), (4, 10)], found, 0.5) == [1.0]


def test_detection_in_a_video_without_that_truth_is_false() -> None:
    # Rank 1 lies in video 1, where class 0 has no truth; rank 2 is true: precision 1/2 at recall 1.
    result = score([(0, 0, 0, 10), (1, 1, 0, 10)], [(1, 0, 0, 10, 0.9), (0, 0, 0, 10, 0.8)], (0.5,), 2)
    assert result.ap.tolist() == [[0.5, 0.0]]


def test_classes_without_truth_are_left_out_of_the_mean() -> None:
    # Class 0: AP 1. Class 1: truth, nothing found: 0. Class 2: no truth, one detection: NaN. Mean of the first two: 50.
    result = score([(0, 0, 0, 10), (0, 1, 0, 10)], [(0, 0, 0, 10, 0.9), (0, 2, 0, 10, 0.8)], (0.5, 0.9), 3)
    np.testing.assert_array_equal(result.ap, [[1.0, 0.0, np.nan]] * 2)
    assert result.map.tolist() == [50.0, 50.0] and result.avg_map == 50.0


def test_a_class_has_the_mean_of_its_average_precision_over_the_thresholds() -> None:
    # Class 0: [0, 10] against [0, 8] has tIoU 0.8, so AP 1 at 0.5 and 0 at 0.9: 50. Class 1: nothing found: 0. Class 2
    # has no truth. The mean of the first two is avg.mAP: 25.
    result = score([(0, 0, 0, 10), (0, 1, 0, 10)], [(0, 0, 0, 8, 0.9)], (0.5, 0.9), 3)
    np.testing.assert_array_equal(result.by_class, [50.0, 0.0, np.nan])
    assert np.nanmean(result.by_class) == result.avg_map == 25.0


def test_precision_of_one_class_does_not_lift_another() -> None:
    # Class 0: nine misses, then the hit: AP 1/10. Class 1, behind it in the table: AP 1.
    misses = [(0, 0, 50.0, 60.0, 2.0)] * 9
    found = [*misses, (0, 0, 0, 10, 1.0), (0, 1, 0, 10, 1.0)]
    assert score([(0, 0, 0, 10), (0, 1, 0, 10)], found, (0.5,), 2).ap.tolist() == [[pytest.approx(0.1, abs=1e-12), 1.0]]


def test_avg_map_is_the_mean_over_thresholds() -> None:
    # tIoU 0.5: true at 0.25 and 0.5, false at 0.75 and 1: (100 + 100 + 0 + 0) / 4.
    result = score([(0, 0, 0, 10)], [(0, 0, 0, 5, 1.0)], (0.25, 0.5, 0.75, 1.0), 1)
    assert result.map.tolist() == [100.0, 100.0, 0.0, 0.0] and result.avg_map == 50.0


@pytest.mark.parametrize("num_classes", [0, 3])
def test_nothing_at_all_scores_zero(num_classes: int) -> None:
    result = score([], [], (0.5, 0.75), num_classes)
    assert result.ap.shape == (2, num_classes) and np.isnan(result.ap).all()
    assert result.map.tolist() == [0.0, 0.0] and result.avg_map == 0.0


# Whole seconds in a short video: many equal segments, equal tIoUs, tIoUs on a threshold, zero lengths.
whole = st.tuples(st.integers(0, 8), st.integers(0, 6)).map(lambda pair: (float(pair[0]), float(pair[0] + pair[1])))
anywhere = st.tuples(st.floats(0, 100), st.floats(0, 50)).map(lambda pair: (pair[0], pair[0] + pair[1]))
scores = st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6)


def truths(videos: int = VIDEOS - 1, labels: int = CLASSES - 1) -> st.SearchStrategy[list[Truth]]:
    """Ground truth that leaves the last video and the last class empty."""
    place = st.tuples(st.integers(0, videos - 1), st.integers(0, labels - 1))
    return st.lists(st.builds(lambda at, segment: (*at, *segment), place, whole | anywhere), max_size=14)


def found_rows(max_size: int = 40) -> st.SearchStrategy[list[Detection]]:
    place = st.tuples(st.integers(0, VIDEOS - 1), st.integers(0, CLASSES - 1))
    return st.lists(
        st.builds(lambda at, segment, value: (*at, *segment, value), place, whole | anywhere, scores), max_size=max_size
    )


# All in one video and class: the longest chains of taken truths.
crowded_truth = st.lists(whole.map(lambda segment: (0, 0, *segment)), max_size=10)
crowded_found = st.lists(
    st.builds(lambda segment, value: (0, 0, *segment, float(value)), whole, st.integers(0, 2)), max_size=30
)


def assert_agrees(truth: list[Truth], found: list[Detection]) -> None:
    expected = metrics_oracle.evaluate(truth, found, CLASSES, THRESHOLDS)
    result = score(truth, found)
    ap = [[math.nan if value is None else value for value in row] for row in expected.ap]
    np.testing.assert_allclose(result.ap, ap, rtol=0, atol=1e-9)  # NaN only where NaN is expected
    np.testing.assert_allclose(result.map, expected.map, rtol=0, atol=1e-9)
    assert result.avg_map == pytest.approx(expected.avg_map, abs=1e-9)


@SEARCH
@example([], [])
@example([], [(0, 0, 0.0, 1.0, 0.5)])
@example([(0, 0, 0.0, 1.0)], [])
@example([(0, 0, 1.0, 1.0)], [(0, 0, 1.0, 1.0, 0.5)])
@example([(0, 0, 0.0, 1.0)] * 3, [(0, 0, 0.0, 1.0, 0.5)] * 5)
@given(truths(), found_rows())
def test_every_ap_agrees_with_the_oracle(truth: list[Truth], found: list[Detection]) -> None:
    assert_agrees(truth, found)


@SEARCH
@given(crowded_truth, crowded_found)
def test_every_ap_agrees_with_the_oracle_in_a_crowded_video(truth: list[Truth], found: list[Detection]) -> None:
    assert_agrees(truth, found)


# Equal, and apart by less than the order of whole numbers by class and score can tell.
close = [0.0, -0.0, 5e-324, 1.0, math.nextafter(1, 2), math.nextafter(1, 0), 1e300, -1.0, math.nextafter(-1, 0), -1e300]


@SEARCH
@given(
    truths(),
    st.lists(
        st.builds(
            lambda at, segment, value: (*at, *segment, value),
            st.tuples(st.integers(0, 1), st.integers(0, 1)),
            whole,
            st.sampled_from(close),
        ),
        max_size=40,
    ),
)
def test_scores_that_hardly_differ_are_ranked_as_by_the_oracle(truth: list[Truth], found: list[Detection]) -> None:
    assert_agrees(truth, found)


@LAWS
@given(truths(), found_rows())
def test_the_rival_that_speed_is_measured_against_agrees(truth: list[Truth], found: list[Detection]) -> None:
    columns_of = Segments(*columns(truth, 4)), Detections(*columns(found, 5))
    plain = numpy_scorer.average_precision(*columns_of, CLASSES, THRESHOLDS)
    np.testing.assert_allclose(plain, score(truth, found).ap, rtol=0, atol=1e-9)


@LAWS
@given(truths(), found_rows())
def test_thresholds_in_one_pass_do_not_touch_one_another(truth: list[Truth], found: list[Detection]) -> None:
    together = score(truth, found).ap
    apart = [score(truth, found, (threshold,)).ap[0] for threshold in THRESHOLDS]
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(score(truth, found, THRESHOLDS[::-1]).ap, together[::-1])


@LAWS
@given(truths(), found_rows(), found_rows())
def test_evaluator_keeps_nothing_between_two_calls(
    truth: list[Truth], first: list[Detection], second: list[Detection]
) -> None:
    evaluator = Evaluator(Segments(*columns(truth, 4)), CLASSES, THRESHOLDS)
    evaluator.score(Detections(*columns(second, 5)))
    again = evaluator.score(Detections(*columns(first, 5)))
    np.testing.assert_array_equal(again.ap, score(truth, first).ap)


@LAWS
@given(truths().filter(lambda rows: any(end > start for _, _, start, end in rows)), st.data())
def test_perfect_detections_score_100(truth: list[Truth], data: st.DataObject) -> None:
    truth = [row for row in truth if row[3] > row[2]]  # a segment of zero length overlaps nothing, not even itself
    values = data.draw(st.lists(scores, min_size=len(truth), max_size=len(truth)))
    found = [(*row, value) for row, value in zip(truth, values, strict=True)]
    result = score(truth, data.draw(st.permutations(found)))
    np.testing.assert_allclose(result.map, 100, rtol=0, atol=1e-9)


@LAWS
@given(truths(), found_rows(), st.permutations(range(VIDEOS)))
def test_numbering_of_videos_moves_nothing(truth: list[Truth], found: list[Detection], names: list[int]) -> None:
    moved = score([(names[v], *rest) for v, *rest in truth], [(names[v], *rest) for v, *rest in found])
    np.testing.assert_array_equal(moved.ap, score(truth, found).ap)


@LAWS
@given(truths(), found_rows(), st.permutations(range(VIDEOS)))
def test_order_of_videos_moves_nothing_where_no_score_ties(
    truth: list[Truth], found: list[Detection], order: list[int]
) -> None:
    # Ties between videos are broken by input order, so they are taken out: the scores become 0, 1, 2, ...
    found = [(*row[:4], float(i)) for i, row in enumerate(found)]
    moved = score(sorted(truth, key=lambda row: order[row[0]]), sorted(found, key=lambda row: order[row[0]]))
    np.testing.assert_allclose(moved.map, score(truth, found).map, rtol=0, atol=1e-9)


@LAWS
@given(truths(), found_rows(), found_rows(max_size=5))
def test_false_detection_below_all_others_changes_nothing(
    truth: list[Truth], found: list[Detection], more: list[Detection]
) -> None:
    # Behind the last true detection recall no longer moves. Far outside every segment, so false at every threshold.
    low = min((row[4] for row in found), default=0.0)
    false = [
        (video, label, 1e4 + start, 1e4 + end, low - 1 - i) for i, (video, label, start, end, _) in enumerate(more)
    ]
    np.testing.assert_array_equal(score(truth, found + false).ap, score(truth, found).ap)


@LAWS
@given(truths(), found_rows(), found_rows(max_size=5))
def test_false_detection_anywhere_never_raises_a_score(
    truth: list[Truth], found: list[Detection], more: list[Detection]
) -> None:
    false = [(video, label, 1e4 + start, 1e4 + end, value) for video, label, start, end, value in more]
    assert (score(truth, found + false).map <= score(truth, found).map + 1e-9).all()


@LAWS
@given(truths(), found_rows())
def test_only_the_order_of_scores_counts(truth: list[Truth], found: list[Detection]) -> None:
    # Their ranks cubed: strictly rising, so ties stay ties.
    rank = {value: i for i, value in enumerate(sorted({row[4] for row in found}))}
    moved = [(*row[:4], float(rank[row[4]] ** 3 - 7)) for row in found]
    np.testing.assert_array_equal(score(truth, moved).ap, score(truth, found).ap)


@LAWS
@given(truths() | crowded_truth, found_rows() | crowded_found)
def test_score_never_rises_with_the_threshold(truth: list[Truth], found: list[Detection]) -> None:
    # Holds for greedy matching: at every rank, the truths taken at the higher threshold are among those taken at the
    # lower one (who takes a truth that is free at both takes the same one), so the n-th hit never comes earlier.
    assert (np.diff(score(truth, found).map) <= 1e-9).all()
